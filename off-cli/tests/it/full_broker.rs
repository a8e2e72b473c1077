//! More messages are published than fit into the streams.

use crate::services::Services;
use off_events::streams;
use off_kit::bus;
use off_testkit::World;
use std::time::Duration;

const ORDERS: usize = 6000;

/// Maximum size of all streams, in MiB: half of what the messages of these orders take.
const ROOM: u32 = 8;

const ARRIVE_TIMEOUT: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_drops_its_oldest_messages_and_no_order_is_lost() {
    let world = World::new().await;
    bus::declare(&world.nats.bus, bus::StreamStorage { max_mib: ROOM, ..bus::StreamStorage::default() }).await.unwrap();
    let services = Services::start(world, Duration::ZERO).await;

    services.place(ORDERS).await;
    services.assert_shelf_holds(ORDERS, ARRIVE_TIMEOUT).await;

    let mut stream = services.world.nats.bus.jetstream.get_stream(streams::ORDERS.name).await.unwrap();
    let state = &stream.info().await.unwrap().state;
    assert!(state.bytes <= u64::from(ROOM) * 1024 * 1024, "it holds {} bytes", state.bytes);
    assert!(state.first_sequence > 1, "it has dropped nothing");
    services.end_with_dropped_messages().await;
}
