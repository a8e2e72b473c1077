//! `off dead replay --all`.

use crate::{Home, stderr, stdout};
use off_testkit::World;

#[tokio::test]
async fn replay_all_skips_a_dead_letter_with_a_truncated_body() {
    let (home, world) = (Home::new(), World::new().await);
    for cut in ["body", ""] {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Off-Dead-Subject", "orders.pending");
        headers.insert("Off-Dead-Cut", cut);
        let jetstream = &world.nats.bus.jetstream;
        jetstream.publish_with_headers("dead.ORDERS.supplier", headers, "{}".into()).await.unwrap().await.unwrap();
    }
    for (arguments, expected) in [
        (&["--dry-run"][..], "dead letter 2 would be published on orders.pending"),
        (&[], "dead letter 2 was published on orders.pending"),
    ] {
        let mut replay = home.command(&[&["dead", "replay", "--all"], arguments].concat());
        replay.env("DATABASE_URL", &world.database.url).env("NATS_URL", &world.nats.url);
        let output = replay.output().await.unwrap();
        let text = stdout(&output) + &stderr(&output);
        assert!(output.status.success() && text.contains("dead letter 1 stays") && text.contains(expected), "{text}");
    }
    assert_eq!(world.wait_for_messages("ORDERS", "orders.pending", 1).await.len(), 1);
    assert_eq!(world.wait_for_dead_letters(1).await.len(), 1);
}
