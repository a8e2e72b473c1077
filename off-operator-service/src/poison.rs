//! Publishes messages that nobody can handle, while the failure switch for them is on.

use off_events::{
    faults::FaultKind,
    streams::{CONSUMERS, Consumer, DEAD_LETTERS},
};
use off_kit::{Bus, Kit};
use std::time::Duration;
use tracing::debug;

/// How often messages are published.
const INTERVAL: Duration = Duration::from_secs(1);

const BODY: &str = "a poison message of a failure switch";

/// Spawns the task that publishes them.
pub(crate) fn start(kit: &Kit, bus: &Bus) {
    let (bus, clock) = (bus.clone(), kit.clock);
    let mut every = kit.tasks.every(INTERVAL);
    // Unusable messages of devices are dropped, and are no dead letters.
    let consumers: Vec<&Consumer> = CONSUMERS.iter().filter(|consumer| !consumer.is_from_devices).collect();
    kit.tasks.spawn("poison", async move {
        let mut number: u64 = 0;
        while every.tick().await {
            let Some(fault) = bus.faults.find(FaultKind::Poison, clock.now()) else { continue };
            // Leaves space for dead letters that are real.
            if !is_half_empty(&bus).await {
                continue;
            }
            for _ in 0..fault.amount() {
                number += 1;
                let index = usize::try_from(number).unwrap_or_default() % consumers.len();
                if !fault.hits(&number.to_le_bytes()) {
                    continue;
                }
                // Without an acknowledgement: that it arrives is not important.
                if let Err(error) = bus.client.publish(consumers[index].subject, BODY.into()).await {
                    debug!("a poison message was not published: {error}");
                }
            }
        }
        Ok(())
    });
}

/// Whether the stream of dead letters uses at most half of its size.
async fn is_half_empty(bus: &Bus) -> bool {
    let Ok(stream) = bus.jetstream.get_stream(DEAD_LETTERS.name).await else { return false };
    let info = stream.cached_info();
    info.state.bytes * 2 <= info.config.max_bytes.max(0).unsigned_abs()
}
