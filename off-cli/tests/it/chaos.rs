//! A short run of `off chaos`: every kind of fault, and then the books are balanced.

use crate::{Home, stderr, stdout};

#[tokio::test]
async fn whatever_is_done_to_it_no_order_is_lost() {
    let home = Home::new();
    let output = home.run(&["chaos", "--for", "20s", "--rate", "60", "--seed", "1", "--speed", "240"]).await;
    let said = stdout(&output);
    assert!(output.status.success(), "{said}{}", stderr(&output));
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
        assert!(said.contains(fault), "no {fault} in\n{said}");
    }
    assert!(said.ends_with("not a single order was lost\n"), "{said}");
}
