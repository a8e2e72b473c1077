//! A broker whose disk was full.

#![expect(clippy::print_stderr, reason = "a test that cannot run says so")]

use off_kit::Bus;
use off_testkit::{TestNats, eventually_within};
use std::time::Duration;

async fn is_stored(bus: &Bus) -> bool {
    // Incompressible, and more than the last block of a file has left.
    let body = vec![b'x'; 256 * 1024].into();
    let Ok(acknowledged) = bus.jetstream.publish("users.registered", body).await else { return false };
    tokio::time::timeout(Duration::from_secs(1), acknowledged).await.is_ok_and(|answer| answer.is_ok())
}

#[tokio::test]
async fn a_private_server_that_goes_on_failing_when_its_disk_has_room_again_is_restarted() {
    let Some(mut nats) = TestNats::on_small_disk(64).await else {
        eprintln!("not run: this user may not mount a small disk");
        return;
    };
    let bus = nats.bus.clone();
    assert!(is_stored(&bus).await);
    nats.disk().fill().unwrap();
    eventually_within(Duration::from_secs(20), "the broker stores nothing", || async {
        (!is_stored(&bus).await).then_some(())
    })
    .await;
    nats.disk().free().unwrap();
    let process = nats.server.id().unwrap();
    let recovered =
        eventually_within(Duration::from_secs(40), "it stores again", || async { is_stored(&bus).await.then_some(()) });
    tokio::select! {
        ended = nats.server.watch() => panic!("it ended: {ended:?}"),
        () = recovered => {}
    }
    // Should a newer one recover by itself, the restart is not needed any more.
    assert_ne!(nats.server.id().unwrap(), process, "it was not restarted");
}
