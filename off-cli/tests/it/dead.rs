//! Dead letters, as an operator deals with them.

use crate::{Home, stderr, stdout};
use off_testkit::World;

#[tokio::test]
async fn a_letter_whose_body_was_cut_does_not_keep_the_others_from_being_replayed() {
    let (home, world) = (Home::new(), World::new().await);
    for cut in ["body", ""] {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Off-Dead-Subject", "orders.pending");
        headers.insert("Off-Dead-Cut", cut);
        let jetstream = &world.nats.bus.jetstream;
        jetstream.publish_with_headers("dead.ORDERS.supplier", headers, "{}".into()).await.unwrap().await.unwrap();
    }
    for (arguments, outcome) in
        [(&["--dry-run"][..], "dead letter 2 would be on orders.pending"), (&[], "dead letter 2 is on orders.pending")]
    {
        let mut replay = home.command(&[&["dead", "replay", "--all"], arguments].concat());
        replay.env("DATABASE_URL", &world.database.url).env("NATS_URL", &world.nats.url);
        let output = replay.output().await.unwrap();
        let said = stdout(&output) + &stderr(&output);
        assert!(output.status.success() && said.contains("dead letter 1 stays") && said.contains(outcome), "{said}");
    }
    assert_eq!(world.hear("ORDERS", "orders.pending", 1).await.len(), 1);
    assert_eq!(world.bury(1).await.len(), 1);
}
