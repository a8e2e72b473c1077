//! `off audit` finds every kind of inconsistency that is injected into a consistent system.

use crate::{off, stderr, stdout};
use futures::StreamExt as _;
use off_events::{
    Order, OrderDue,
    headers::{NATS_MSG_ID, NATS_SCHEDULE, NATS_SCHEDULE_TARGET},
    streams,
};
use off_testkit::{Leftover, TEA, World};
use serde_json::{Value, json};
use std::process::Output;
use uuid::Uuid;

/// The id of a completed order.
const DELIVERED: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

/// The id of an order that waits for its payment and is not overdue.
const WAITING: &str = "01890a5d-ac97-774b-bcce-b302099a8058";

async fn audit(world: &World, arguments: &[&str]) -> Output {
    off(&[&["audit", "--patience", "1s"], arguments].concat())
        .env("DATABASE_URL", &world.database.url)
        .env("NATS_URL", &world.nats.url)
        .output()
        .await
        .unwrap()
}

async fn sql(world: &World, statement: &'static str) {
    sqlx::raw_sql(statement).execute(&world.database.pool).await.unwrap();
}

/// A world with two announced orders: one was completed, delivered and earned, and one of its units was consumed; the
/// other waits for its payment. A third one was refused, and a fourth one was paid, cancelled and refunded.
async fn consistent_world() -> World {
    let world = World::new().await;
    world.add_device().await;
    sql(
        &world,
        "INSERT INTO orders.product_orders
             (id, ssd_id, user_id, barcode, quantity, unit_price, status, placed_at, paid_at, shipped_at, completed_at,
              deadline)
         SELECT '01890a5d-ac96-774b-bcce-b302099a8057', 1, 1, '2000000000015', 5, 299, 'completed', at,
                at + interval '1 s', at + interval '2 s', at + interval '3 s', at + interval '13 s'
         FROM (SELECT timestamptz '2023-06-30 03:34:18.518Z' AS at) AS placed;
         INSERT INTO orders.product_orders (id, ssd_id, user_id, barcode, quantity, unit_price, placed_at, deadline)
         VALUES ('01890a5d-ac97-774b-bcce-b302099a8058', 1, 1, '2000000000015', 1, 299, '2023-06-30 03:34:18.519Z',
                 now() + interval '1 minute');
         INSERT INTO orders.product_orders
             (id, ssd_id, user_id, barcode, quantity, unit_price, status, placed_at, paid_at, ended_at, missing, deadline)
         VALUES ('01890a5d-ac98-774b-bcce-b302099a8059', 1, 1, '2000000000015', 3, 299, 'refused',
                 '2023-06-30 03:34:18.520Z', NULL, '2023-06-30 03:34:19Z', 392, '2023-06-30 03:34:29Z'),
                ('01890a5d-ac99-774b-bcce-b302099a805a', 1, 1, '2000000000015', 1, 299, 'cancelled',
                 '2023-06-30 03:34:18.521Z', '2023-06-30 03:34:19Z', '2023-06-30 03:34:20Z', NULL, '2023-06-30 03:34:30Z');
         INSERT INTO billing.accounts (user_id, balance) VALUES (1, 505);
         INSERT INTO billing.transfers (subject, kind, debit_account, credit_account, amount, at)
         VALUES ('01890a5d-ac95-874b-bcce-b302099a8056', 'deposit', 0, 1, 2000, now()),
                ('01890a5d-ac96-774b-bcce-b302099a8057', 'charge', 1, -1, 1495, now()),
                ('01890a5d-ac96-774b-bcce-b302099a8057', 'earning', -1, -2, 1495, now()),
                ('01890a5d-ac99-774b-bcce-b302099a805a', 'charge', 1, -1, 299, now()),
                ('01890a5d-ac99-774b-bcce-b302099a805a', 'refund', -1, 1, 299, now());
         INSERT INTO billing.refusals (order_id, user_id, reason, missing, at)
         VALUES ('01890a5d-ac98-774b-bcce-b302099a8059', 1, 'insufficient_funds', 392, now());
         INSERT INTO letters.letters (subject, kind, user_id, barcode, quantity, total, missing, written_at)
         VALUES ('01890a5d-ac96-774b-bcce-b302099a8057', 'paid', 1, '2000000000015', 5, 1495, NULL, now()),
                ('01890a5d-ac96-774b-bcce-b302099a8057', 'delivered', 1, '2000000000015', 5, 1495, NULL, now()),
                ('01890a5d-ac98-774b-bcce-b302099a8059', 'refused', 1, '2000000000015', 3, 897, 392, now()),
                ('01890a5d-ac99-774b-bcce-b302099a805a', 'paid', 1, '2000000000015', 1, 299, NULL, now()),
                ('01890a5d-ac99-774b-bcce-b302099a805a', 'cancelled', 1, '2000000000015', 1, 299, NULL, now());
         INSERT INTO users.deliveries (order_id, ssd_id, barcode, quantity, delivered_at)
         VALUES ('01890a5d-ac96-774b-bcce-b302099a8057', 1, '2000000000015', 5, now());
         INSERT INTO users.consumptions (ssd_id, id, barcode, quantity, taken, consumed_at)
         VALUES (1, 'breakfast', '2000000000015', 1, 1, now());
         INSERT INTO users.shelf_items (ssd_id, barcode, quantity, reorder_point) VALUES (1, '2000000000015', 4, 2);
         -- Its restocking is paused, so it is not low.
         INSERT INTO users.shelf_items (ssd_id, barcode, quantity, reorder_point, is_paused)
         VALUES (1, '2000000000039', 0, 2, true)",
    )
    .await;
    announce(&world, DELIVERED, 5, 1495).await;
    announce(&world, WAITING, 1, 299).await;
    world
}

/// Announces an order of units for 2.99 EUR as pending, as the orders service does.
async fn announce(world: &World, order: &str, quantity: u32, total: u32) {
    let cents = |amount: u32| json!({"amount": amount, "currency": "EUR"});
    let body = json!({"id": order, "ssd_id": 1, "user_id": 1, "barcode": TEA, "timestamp": "2023-06-29T23:59:04Z",
        "quantity": quantity, "unit_price": cents(299), "total": cents(total), "status": "pending"});
    publish_pending(world, order, &body).await;
}

async fn publish_pending(world: &World, order: &str, body: &Value) {
    let mut headers = async_nats::HeaderMap::new();
    // The broker drops a second message with the same deduplication id.
    headers.insert(NATS_MSG_ID, format!("{order}:pending:{}", Uuid::new_v4()).as_str());
    world.nats.publish_with_headers(Order::PENDING, headers, body.to_string()).await;
}

#[tokio::test]
async fn a_consistent_system_passes() {
    let world = consistent_world().await;
    let output = audit(&world, &[]).await;
    let text = stdout(&output);
    assert!(output.status.success() && text.contains("every order is accounted for"), "{text}{}", stderr(&output));
    assert!(
        text.contains(
            "read 4 orders (1 pending, 0 paid, 0 shipped, 1 completed, 1 refused, 1 cancelled), 1 account, 5 transfers, \
             1 refusal, 5 letters, 1 delivery, 1 consumption, 2 shelf items, 0 outbox messages and 2 messages of the broker in "
        ),
        "{text}"
    );
    assert!(text.contains("all accounts add up to 0 cents"), "{text}");
    world.end().await;
}

#[tokio::test]
async fn every_inconsistency_is_found() {
    let faults = [
        // A row is missing.
        (
            "DELETE FROM users.deliveries; DELETE FROM users.consumptions; DELETE FROM users.shelf_items",
            "is completed and was never delivered",
        ),
        ("DELETE FROM users.consumptions", "device 1 holds 4 of 2000000000015 and should hold 5"),
        ("DELETE FROM users.shelf_items", "device 1 holds 0 of 2000000000015 and should hold 4"),
        ("DELETE FROM orders.product_orders WHERE status = 'completed'", "was delivered but never placed"),
        ("DELETE FROM orders.product_orders WHERE status = 'pending'", "was published but is not in Postgres"),
        // The event or timer of the next step is lost.
        (
            "UPDATE orders.product_orders SET deadline = now() WHERE status = 'pending'",
            "is pending and was never paid or refused",
        ),
        (
            "UPDATE orders.product_orders SET status = 'paid', paid_at = placed_at, deadline = now()
             WHERE status = 'pending'",
            "is paid and was never shipped",
        ),
        (
            "UPDATE orders.product_orders SET status = 'shipped', shipped_at = placed_at, deadline = now()
             WHERE status = 'pending'",
            "is shipped and was never completed",
        ),
        (
            "INSERT INTO outbox.messages (source, subject, event_id, body, occurred_at)
             VALUES ('users', 'users.registered', 'registered:1', '{}', now() - interval '1 minute')",
            "users.registered of users is stalled in the outbox",
        ),
        (
            "UPDATE orders.product_orders SET deadline = now() + interval '400 days' WHERE status = 'pending'",
            "too far in the future",
        ),
        // There is a row too many.
        (
            "INSERT INTO users.deliveries VALUES (gen_random_uuid(), 1, '2000000000015', 1, now())",
            "was delivered but never placed",
        ),
        (
            "INSERT INTO users.consumptions VALUES (1, 'supper', '2000000000015', 1, 1, now())",
            "device 1 holds 4 of 2000000000015 and should hold 3",
        ),
        (
            "INSERT INTO orders.product_orders (id, ssd_id, user_id, barcode, quantity, unit_price, placed_at)
             VALUES (gen_random_uuid(), 1, 1, '2000000000015', 1, 299, now())",
            "was placed at a time that differs from the time in its id",
        ),
        (
            "INSERT INTO users.shelf_items (ssd_id, barcode, quantity, reorder_point) VALUES (1, '2000000000022', 9, 2)",
            "device 1 holds 9 of 2000000000022 and should hold 0",
        ),
        // A quantity, a time or a status is wrong.
        (
            "UPDATE users.deliveries SET quantity = 6; UPDATE users.shelf_items SET quantity = 5",
            "has a delivery that differs from it",
        ),
        (
            "UPDATE orders.product_orders SET quantity = 4 WHERE status = 'completed'",
            "has a delivery that differs from it",
        ),
        ("UPDATE users.shelf_items SET quantity = 3", "device 1 holds 3 of 2000000000015 and should hold 4"),
        ("UPDATE users.deliveries SET order_id = gen_random_uuid()", "was delivered but never placed"),
        (
            "UPDATE orders.product_orders SET status = 'shipped', completed_at = NULL",
            "is shipped and was never completed",
        ),
        (
            "INSERT INTO users.deliveries VALUES ('01890a5d-ac98-774b-bcce-b302099a8059', 1, '2000000000015', 3, now())",
            "was delivered but is refused",
        ),
        ("UPDATE users.shelf_items SET reorder_point = 4", "low, but `stock.low` was not published on time"),
        ("UPDATE users.shelf_items SET low_since = now(), remind_at = now()", "marked as low, but is not"),
        (
            "UPDATE users.shelf_items SET reorder_point = 4, low_since = now(), remind_at = now() - interval '1 h'",
            "low, but `stock.low` was not published on time",
        ),
        (
            "UPDATE users.shelf_items SET reorder_point = 4, low_since = now(), remind_at = now() + interval '400 days'",
            "low, but `stock.low` was not published on time",
        ),
    ];
    assert_found(&faults).await;
}

#[tokio::test]
async fn every_impossible_history_is_found() {
    let faults = [
        ("UPDATE orders.product_orders SET shipped_at = placed_at - interval '1 s'", "in an impossible order"),
        ("UPDATE orders.product_orders SET placed_at = placed_at - interval '1 h'", "differs from the time in its id"),
        ("UPDATE orders.product_orders SET placed_at = now() + interval '400 days'", "was placed in the future"),
        ("UPDATE orders.product_orders SET completed_at = NULL", "in an impossible order"),
        (
            "UPDATE orders.product_orders SET paid_at = shipped_at + interval '1 s' WHERE status = 'completed'",
            "in an impossible order",
        ),
        ("UPDATE orders.product_orders SET paid_at = placed_at WHERE status = 'pending'", "in an impossible order"),
        ("UPDATE orders.product_orders SET paid_at = placed_at WHERE status = 'refused'", "in an impossible order"),
        ("UPDATE orders.product_orders SET shipped_at = ended_at WHERE status = 'refused'", "in an impossible order"),
        ("UPDATE orders.product_orders SET shipped_at = paid_at WHERE status = 'cancelled'", "in an impossible order"),
        ("UPDATE orders.product_orders SET ended_at = NULL WHERE status = 'cancelled'", "in an impossible order"),
        (
            "UPDATE orders.product_orders SET ended_at = completed_at WHERE status = 'completed'",
            "in an impossible order",
        ),
        (
            "UPDATE orders.product_orders SET ended_at = now() + interval '1 h' WHERE status = 'refused'",
            "reached a status in the future",
        ),
        (
            "UPDATE orders.product_orders SET status = 'shipped', deadline = now() + interval '1 h' WHERE status = 'pending'",
            "in an impossible order",
        ),
        (
            "UPDATE orders.product_orders SET completed_at = now() + interval '1 h' WHERE status = 'completed'",
            "reached a status in the future",
        ),
    ];
    assert_found(&faults).await;
}

#[tokio::test]
async fn every_wrong_balance_charge_and_refund_is_found() {
    let faults = [
        ("UPDATE billing.accounts SET balance = 500", "the account of person 1 holds 500 cents and should hold 505"),
        ("DELETE FROM billing.accounts", "the account of person 1 holds 0 cents and should hold 505"),
        (
            "DELETE FROM billing.transfers WHERE kind = 'deposit'",
            "the account of person 1 holds 505 cents and should hold -1495",
        ),
        // What must follow by a deadline is missing.
        ("DELETE FROM billing.transfers WHERE kind = 'earning'", "is completed and was never earned"),
        ("DELETE FROM billing.transfers WHERE kind = 'refund'", "is cancelled and was never refunded"),
        ("DELETE FROM billing.refusals", "is refused, but not by the billing service"),
        // An order and its charge contradict each other.
        (
            "UPDATE orders.product_orders SET status = 'paid', paid_at = placed_at WHERE status = 'pending'",
            "is paid but was never charged",
        ),
        (
            "UPDATE orders.product_orders SET unit_price = 300 WHERE status = 'completed'",
            "was charged 1495 cents from person 1, instead of 1500 from person 1",
        ),
        (
            "UPDATE orders.product_orders SET user_id = 2 WHERE status = 'completed'",
            "was charged 1495 cents from person 1, instead of 1495 from person 2",
        ),
        (
            "UPDATE billing.transfers SET subject = gen_random_uuid() WHERE kind = 'charge'",
            "was charged but never placed",
        ),
        ("UPDATE billing.refusals SET order_id = gen_random_uuid()", "was refused but never placed"),
        (
            "INSERT INTO billing.transfers (subject, kind, debit_account, credit_account, amount, at)
             SELECT order_id, 'charge', user_id, -1, 897, now() FROM billing.refusals",
            "was charged and refused",
        ),
        (
            "INSERT INTO billing.transfers (subject, kind, debit_account, credit_account, amount, at)
             SELECT order_id, 'charge', user_id, -1, 897, now() FROM billing.refusals;
             DELETE FROM billing.refusals",
            "is refused but was charged",
        ),
        (
            "INSERT INTO billing.refusals
             SELECT id, user_id, 'cancelled', NULL, now() FROM orders.product_orders WHERE status = 'pending'",
            "is pending, but cancelled for the billing service",
        ),
        (
            "DELETE FROM billing.transfers
             WHERE subject IN (SELECT id FROM orders.product_orders WHERE status = 'cancelled');
             INSERT INTO billing.refusals
             SELECT id, user_id, 'cancelled', NULL, now() FROM orders.product_orders WHERE status = 'cancelled'",
            "was paid but never charged",
        ),
        ("UPDATE billing.refusals SET user_id = 2", "was refused to person 2, instead of person 1"),
        ("UPDATE billing.refusals SET missing = 1", "is refused in another way than the billing service decided"),
        // The end of a charge is wrong.
        ("DELETE FROM billing.transfers WHERE kind = 'charge'", "was earned or refunded but never charged"),
        (
            "UPDATE billing.transfers SET kind = 'refund', credit_account = 1 WHERE kind = 'earning'",
            "is completed but was refunded",
        ),
        (
            "UPDATE billing.transfers SET kind = 'earning', credit_account = -2 WHERE kind = 'refund'",
            "is cancelled but was earned",
        ),
        (
            "UPDATE billing.transfers SET amount = 1 WHERE kind = 'earning'",
            "was earned or refunded with another amount",
        ),
        (
            "UPDATE billing.transfers SET credit_account = 2 WHERE kind = 'refund'",
            "was refunded to person 2, who did not pay for it",
        ),
        (
            "INSERT INTO billing.transfers (subject, kind, debit_account, credit_account, amount, at, reason)
             SELECT subject, 'reversal', 1, 0, 1000, now(), 'a mistake' FROM billing.transfers WHERE kind = 'deposit'",
            "the reversal of 01890a5d-ac95-874b-bcce-b302099a8056 does not match a deposit or withdrawal",
        ),
    ];
    assert_found(&faults).await;
}

#[tokio::test]
async fn every_event_that_contradicts_its_order_is_found() {
    let faults = [
        (
            "UPDATE orders.product_orders SET unit_price = 300 WHERE status = 'pending'",
            "was published as 1 × 299 cents = 299 cents from person 1, instead of 1 × 300 cents = 300 cents from person 1",
        ),
        (
            "UPDATE orders.product_orders SET quantity = 2 WHERE status = 'pending'",
            "was published as 1 × 299 cents = 299 cents from person 1, instead of 2 × 299 cents = 598 cents from person 1",
        ),
        (
            "UPDATE orders.product_orders SET user_id = 2 WHERE status = 'pending'",
            "was published as 1 × 299 cents = 299 cents from person 1, instead of 1 × 299 cents = 299 cents from person 2",
        ),
    ];
    assert_found(&faults).await;
}

#[tokio::test]
async fn a_wrong_total_in_an_event_is_found() {
    let world = consistent_world().await;
    announce(&world, WAITING, 1, 300).await;
    let output = audit(&world, &[]).await;
    assert_eq!(output.status.code(), Some(1));
    let finding = "was published as 1 × 299 cents = 300 cents from person 1, instead of 1 × 299 cents = 299 cents";
    assert!(stdout(&output).contains(finding), "{}", stdout(&output));
    world.end().await;
}

#[tokio::test]
async fn an_event_of_before_there_were_prices_must_only_have_an_order() {
    let world = consistent_world().await;
    let unknown = "01890a5d-ac97-774b-bcce-b302099a805b";
    for order in [WAITING, unknown] {
        let body = json!({"id": order, "ssd_id": 1, "barcode": TEA, "timestamp": "2023-06-29T23:59:04Z", "quantity": 1,
            "status": "pending"});
        publish_pending(&world, order, &body).await;
    }
    let output = audit(&world, &[]).await;
    let text = stdout(&output);
    assert!(text.contains("4 messages of the broker") && text.contains("1 finding"), "{text}");
    assert!(text.contains(&format!("order {unknown} was published but is not in Postgres")), "{text}");
    world.end().await;
}

#[tokio::test]
async fn every_wrong_letter_is_found() {
    let faults = [
        // What must follow by a deadline is missing.
        ("DELETE FROM letters.letters WHERE kind = 'delivered'", "is completed and has no letter about it"),
        ("DELETE FROM letters.letters WHERE kind = 'refused'", "is refused and has no letter about it"),
        ("DELETE FROM letters.letters WHERE kind = 'cancelled'", "is cancelled and has no letter about it"),
        ("DELETE FROM letters.letters WHERE kind = 'paid'", "has no letter that it is paid"),
        // A letter contradicts its order.
        (
            "UPDATE letters.letters SET subject = gen_random_uuid() WHERE kind = 'paid'",
            "has a letter (paid) but was never placed",
        ),
        (
            "UPDATE letters.letters SET subject = '01890a5d-ac98-774b-bcce-b302099a8059' WHERE kind = 'delivered'",
            "is refused, but has a letter that it is delivered",
        ),
        (
            "INSERT INTO letters.letters (subject, kind, user_id, barcode, quantity, total, missing, written_at)
             SELECT subject, 'refused', user_id, barcode, quantity, total, 1, now() FROM letters.letters
             WHERE kind = 'delivered'",
            "is completed, but has a letter that it is refused",
        ),
        (
            "INSERT INTO letters.letters (subject, kind, user_id, barcode, quantity, total, written_at)
             SELECT subject, 'cancelled', user_id, barcode, quantity, total, now() FROM letters.letters
             WHERE kind = 'delivered'",
            "is completed, but has a letter that it is cancelled",
        ),
        ("UPDATE letters.letters SET total = 1 WHERE kind = 'delivered'", "has a letter (delivered) with other facts"),
        (
            "UPDATE letters.letters SET user_id = 2 WHERE kind = 'cancelled'",
            "has a letter (cancelled) with other facts",
        ),
        ("UPDATE letters.letters SET missing = 1 WHERE kind = 'refused'", "has a letter (refused) with other facts"),
    ];
    assert_found(&faults).await;
}

/// Asserts that the audit prints the finding of each fault.
async fn assert_found(faults: &[(&'static str, &'static str)]) {
    // An audit mostly waits for its patience to elapse, so several run at a time.
    futures::stream::iter(faults)
        .for_each_concurrent(6, |&(fault, finding)| async move {
            let world = consistent_world().await;
            sql(&world, fault).await;
            let output = audit(&world, &[]).await;
            let text = stdout(&output);
            assert!(output.status.code() == Some(1) && text.contains(finding), "after\n{fault}\nit printed\n{text}");
            let leftovers: &[Leftover] = if fault.contains("outbox") { &[Leftover::OutboxRows] } else { &[] };
            world.end_leaving(leftovers).await;
        })
        .await;
}

#[tokio::test]
async fn the_contents_of_the_broker_are_shown_but_are_no_proof() {
    let world = consistent_world().await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert(NATS_SCHEDULE, "@at 2100-01-01T00:00:00Z");
    headers.insert(NATS_SCHEDULE_TARGET, OrderDue::SUBJECT);
    let subject = format!("orders.timer.shipped.{WAITING}");
    world.nats.publish_with_headers(subject, headers, "{}").await;
    world.nats.publish_bytes(streams::SUPPLIER.dead_subject(), "not readable").await;
    let output = audit(&world, &[]).await;
    let text = stdout(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 order waiting for the supplier, 0 for the delivery"), "{text}");
    assert!(text.contains("1 dead letter: `off dead list` shows them"), "{text}");

    sql(&world, "UPDATE orders.product_orders SET deadline = now() WHERE status = 'pending'").await;
    let output = audit(&world, &[]).await;
    assert_eq!(output.status.code(), Some(1), "overdue, although a message schedule exists: {}", stdout(&output));
    world.end_leaving(&[Leftover::DeadLetters]).await;
}

#[tokio::test]
async fn findings_are_printed_as_json() {
    let world = consistent_world().await;
    sql(&world, "DELETE FROM users.consumptions").await;
    let output = audit(&world, &["--json"]).await;
    assert_eq!(output.status.code(), Some(1));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["findings"][0]["check"], "shelves", "{document}");
    assert_eq!(document["counts"]["completed"], 1, "{document}");
    assert!(document["broker"]["streams"].as_array().unwrap().len() == 5, "{document}");
    world.end().await;
}

#[tokio::test]
async fn an_audit_without_a_broker_exits_with_4() {
    let mut world = consistent_world().await;
    world.nats.server.kill().await.unwrap();
    let output = audit(&world, &[]).await;
    assert_eq!(output.status.code(), Some(4), "{}{}", stdout(&output), stderr(&output));
    assert!(stderr(&output).contains("could not check everything"), "{}", stderr(&output));
    world.abandon();
}
