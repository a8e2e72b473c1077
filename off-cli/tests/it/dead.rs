//! `off dead replay --all`.

use crate::{Home, stderr, stdout};
use off_events::{
    Order,
    headers::{DEAD_CUT, DEAD_SUBJECT},
    streams,
};
use off_testkit::{Leftover, World};

#[tokio::test]
async fn replay_all_skips_dead_letters_that_cannot_be_replayed() {
    let (home, world) = (Home::new(), World::new().await);
    // A truncated body, and the subject of another consumer, on which a service could not publish itself.
    for (cut, subject) in [("body", Order::PAID), ("", Order::COMPLETED), ("", Order::PAID)] {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(DEAD_SUBJECT, subject);
        headers.insert(DEAD_CUT, cut);
        world.nats.publish_with_headers(streams::SUPPLIER.dead_subject(), headers, "{}").await;
    }
    for (arguments, expected) in [
        (&["--dry-run"][..], "dead letter 3 would be published on orders.paid"),
        (&[], "dead letter 3 was published on orders.paid"),
    ] {
        let mut replay = home.command(&[&["dead", "replay", "--all"], arguments].concat());
        replay.env("DATABASE_URL", &world.database.url).env("NATS_URL", &world.nats.url);
        let output = replay.output().await.unwrap();
        let text = stdout(&output) + &stderr(&output);
        assert!(
            output.status.success()
                && text.contains("dead letter 1 stays")
                && text.contains("dead letter 2 stays")
                && text.contains(expected),
            "{text}"
        );
    }
    assert_eq!(world.nats.wait_for_messages(streams::ORDERS.name, Order::PAID, 1).await.len(), 1);
    assert_eq!(world.nats.dead_letters().await.len(), 2);
    world.end_leaving(&[Leftover::DeadLetters]).await;
}
