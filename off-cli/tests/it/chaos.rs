//! A short run of `off chaos` with every kind of fault.

use crate::{Home, stderr, stdout};

#[tokio::test]
async fn no_order_is_lost_under_any_kind_of_fault() {
    let home = Home::new();
    let output = home.run(&["chaos", "--for", "20s", "--rate", "60", "--seed", "1", "--speed", "240"]).await;
    let text = stdout(&output);
    assert!(output.status.success(), "{text}{}", stderr(&output));
    for fault in [
        "kill -9 postgres",
        "kill -9 nats-server",
        "poison",
        "fill the broker's storage",
        "fill stream",
        "fill the disk of postgres",
        "purge all message schedules",
        "delete consumer",
        "delete stream",
        "roll the broker's store back",
        "junk",
        "freeze",
        "cut",
        "slow",
    ] {
        assert!(text.contains(fault), "no {fault} in\n{text}");
    }
    assert!(text.ends_with("not a single order was lost\n"), "{text}");
}
