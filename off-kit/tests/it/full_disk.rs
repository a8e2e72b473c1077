//! Recovery of a private NATS server after its disk was full.

#![expect(clippy::print_stderr, reason = "reports why the test is skipped")]

use off_kit::Bus;
use off_testkit::{TestNats, eventually_within};
use std::time::Duration;

async fn is_stored(bus: &Bus) -> bool {
    // Larger than the free space in the last block of a file.
    let body = vec![b'x'; 256 * 1024].into();
    let Ok(acknowledged) = bus.jetstream.publish("users.registered", body).await else { return false };
    tokio::time::timeout(Duration::from_secs(1), acknowledged).await.is_ok_and(|answer| answer.is_ok())
}

#[tokio::test]
async fn a_nats_server_that_still_fails_after_a_full_disk_is_restarted() {
    let Some(mut nats) = TestNats::on_small_disk(64).await else {
        eprintln!("skipped: this user may not mount a file system");
        return;
    };
    let bus = nats.bus.clone();
    assert!(is_stored(&bus).await);
    nats.disk().fill().unwrap();
    eventually_within(Duration::from_secs(20), "the broker stores no messages", || async {
        (!is_stored(&bus).await).then_some(())
    })
    .await;
    nats.disk().free().unwrap();
    let process = nats.server.id().unwrap();
    let recovered =
        eventually_within(Duration::from_secs(40), "it stores again", || async { is_stored(&bus).await.then_some(()) });
    tokio::select! {
        ended = nats.server.watch() => panic!("the server ended: {ended:?}"),
        () = recovered => {}
    }
    // If this fails with a newer nats-server that recovers by itself, the restart is no longer needed.
    assert_ne!(nats.server.id().unwrap(), process, "the server was not restarted");
}
