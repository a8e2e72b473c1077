mod mails;

use super::*;
use crate::journal::{Deposit, Loss, Outcome, Poison, Request};
use off_events::{Money, Order, SsdId, UserId, streams};
use off_kit::bus::dead_letters;
use off_testkit::{LENTILS, Leftover, TEA, World};
use std::time::Duration;
use tokio::time::Instant;

/// The orders of each end, and the deposit.
const COMPLETED: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
const REFUSED: &str = "01890a5d-ac96-774b-bcce-b302099a8058";
const CANCELLED: &str = "01890a5d-ac96-774b-bcce-b302099a8059";
const DEPOSIT: &str = "01890a5d-ac96-774b-bcce-b302099a80aa";

/// Time from a refused or cancelled order to the next `stock.low`.
const PAUSE: Duration = Duration::from_secs(90);

/// An order of every end with its letters, a deposit, a consumption report, and a journal with all.
async fn consistent_world() -> (World, Entries) {
    let world = World::new().await;
    let ssd_id = SsdId(world.add_device().await);
    sql(
        &world,
        "INSERT INTO orders.product_orders
             (id, ssd_id, user_id, barcode, quantity, unit_price, status, idempotency_key, placed_at, paid_at, shipped_at,
              completed_at, ended_at, missing)
         SELECT id::uuid, 1, 1, '2000000000015', 5, 299, status::orders.order_status, key, now() - interval '4 s',
                now() - make_interval(secs => paid), now() - make_interval(secs => shipped),
                now() - make_interval(secs => completed), now() - make_interval(secs => ended), missing
         FROM (VALUES ('01890a5d-ac96-774b-bcce-b302099a8057', 'completed', 'order-1', 3, 2, 1, NULL, NULL),
                      ('01890a5d-ac96-774b-bcce-b302099a8058', 'refused', 'order-2', NULL, NULL, NULL, 3, 17),
                      ('01890a5d-ac96-774b-bcce-b302099a8059', 'cancelled', 'order-3', 3, NULL, NULL, 2, NULL))
             AS placed (id, status, key, paid, shipped, completed, ended, missing);
         INSERT INTO users.deliveries (order_id, ssd_id, barcode, quantity, delivered_at)
         VALUES ('01890a5d-ac96-774b-bcce-b302099a8057', 1, '2000000000015', 5, now());
         INSERT INTO users.consumptions (ssd_id, id, barcode, quantity, taken, consumed_at)
         VALUES (1, 'report-1', '2000000000015', 1, 1, now());
         INSERT INTO users.shelf_items (ssd_id, barcode, quantity, reorder_point)
         VALUES (1, '2000000000015', 4, 2);
         INSERT INTO letters.letters (subject, kind, user_id, barcode, quantity, total, missing, written_at)
         SELECT subject::uuid, kind::letters.letter_kind, 1, '2000000000015', 5, 1495, missing, now()
         FROM (VALUES ('01890a5d-ac96-774b-bcce-b302099a8057', 'paid', NULL),
                      ('01890a5d-ac96-774b-bcce-b302099a8057', 'delivered', NULL),
                      ('01890a5d-ac96-774b-bcce-b302099a8058', 'refused', 17),
                      ('01890a5d-ac96-774b-bcce-b302099a8059', 'paid', NULL),
                      ('01890a5d-ac96-774b-bcce-b302099a8059', 'cancelled', NULL)) AS letter (subject, kind, missing);
         INSERT INTO letters.letters (subject, kind, user_id, total, written_at)
         VALUES ('00000000-0000-0000-0000-000000000001', 'welcome', 1, NULL, now()),
                ('01890a5d-ac96-774b-bcce-b302099a8057', 'low_balance', 1, 2000, now());
         INSERT INTO billing.accounts VALUES (1, 3505);
         INSERT INTO billing.refusals VALUES ('01890a5d-ac96-774b-bcce-b302099a8058', 1, 'insufficient_funds', 17, now());
         INSERT INTO billing.transfers (subject, kind, debit_account, credit_account, amount, at)
         VALUES ('01890a5d-ac96-774b-bcce-b302099a80aa', 'deposit', 0, 1, 5000, now()),
                ('01890a5d-ac96-774b-bcce-b302099a8057', 'charge', 1, -1, 1495, now()),
                ('01890a5d-ac96-774b-bcce-b302099a8057', 'earning', -1, -2, 1495, now()),
                ('01890a5d-ac96-774b-bcce-b302099a8059', 'charge', 1, -1, 1495, now()),
                ('01890a5d-ac96-774b-bcce-b302099a8059', 'refund', -1, 1, 1495, now())",
    )
    .await;
    (world, consistent_entries(ssd_id))
}

fn consistent_entries(ssd_id: SsdId) -> Entries {
    let mut entries = Entries::default();
    let request = |quantity| Request { ssd_id, barcode: LENTILS.parse().unwrap(), quantity };
    for (key, id) in [("order-1", COMPLETED), ("order-2", REFUSED), ("order-3", CANCELLED)] {
        entries.orders.insert(key.to_owned(), (request(5), Outcome::Accepted(id.parse().unwrap())));
    }
    entries.cancellations.insert(CANCELLED.parse().unwrap(), Outcome::Accepted(()));
    entries.cancellations.insert(REFUSED.parse().unwrap(), Outcome::Rejected("409 Conflict".to_owned()));
    entries.deposits.insert("deposit-1".to_owned(), (deposit(5000), Outcome::Accepted(DEPOSIT.parse().unwrap())));
    let now = Instant::now();
    let accepted = Outcome::Accepted(now..=now);
    entries.reports.insert((ssd_id, "report-1".to_owned()), (request(1), accepted));
    entries
}

fn deposit(cents: i64) -> Deposit {
    Deposit { user: UserId(1), amount: Money::from_cents(cents).unwrap() }
}

async fn sql(world: &World, statement: &'static str) {
    sqlx::raw_sql(statement).execute(&world.database.pool).await.unwrap();
}

async fn findings(world: &World, entries: &Entries) -> String {
    let letters = dead_letters::list(&world.nats.bus).await.unwrap();
    let verdicts = check_all(&world.database.pool, &world.nats.bus, entries, &letters, PAUSE).await.unwrap();
    verdicts.into_iter().flat_map(|verdict| verdict.findings).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_journal_that_agrees_with_the_database_has_no_findings() {
    let (world, mut entries) = consistent_world().await;
    let unanswered = Request { ssd_id: SsdId(1), barcode: TEA.parse().unwrap(), quantity: 1 };
    entries.orders.insert("order-4".to_owned(), (unanswered.clone(), Outcome::Unknown));
    entries.deposits.insert("deposit-2".to_owned(), (deposit(70), Outcome::Unknown));
    entries.reports.insert((SsdId(1), "report-2".to_owned()), (unanswered, Outcome::Unknown));
    assert_eq!(findings(&world, &entries).await, "");
    world.end().await;
}

#[tokio::test]
async fn every_contradiction_to_the_journal_is_a_finding() {
    for (statement, finding) in [
        ("DELETE FROM orders.product_orders", "is not stored"),
        ("UPDATE orders.product_orders SET id = gen_random_uuid()", "is stored under another id"),
        ("UPDATE orders.product_orders SET quantity = 6", "is stored with another device"),
        ("UPDATE orders.product_orders SET status = 'shipped' WHERE status = 'completed'", "has not ended"),
        ("UPDATE orders.product_orders SET status = 'pending' WHERE status = 'refused'", "has not ended"),
        ("UPDATE orders.product_orders SET shipped_at = placed_at - interval '1 s'", "in an impossible order"),
        ("UPDATE orders.product_orders SET shipped_at = NULL", "is completed without a time of shipping"),
        ("UPDATE orders.product_orders SET paid_at = NULL", "is completed without a time of payment"),
        ("DELETE FROM users.deliveries", "was not delivered exactly once"),
        ("UPDATE orders.product_orders SET idempotency_key = NULL", "was not requested"),
        ("UPDATE orders.product_orders SET status = 'completed', completed_at = ended_at WHERE status = 'refused';
          INSERT INTO users.deliveries SELECT id, 1, barcode, 5, now() FROM orders.product_orders WHERE missing = 17",
         "was not charged and earned exactly once"),
        ("DELETE FROM billing.transfers WHERE kind = 'earning'", "was not charged and earned exactly once"),
        ("UPDATE billing.transfers SET amount = amount - 1 WHERE kind = 'charge'", "has a transfer with another amount"),
        ("UPDATE billing.transfers SET credit_account = 2 WHERE kind = 'refund'", "has a transfer with another amount"),
        ("DELETE FROM billing.refusals", "is refused, but not by the billing service"),
        ("INSERT INTO billing.transfers (subject, kind, debit_account, credit_account, amount, at)
          SELECT order_id, 'charge', 1, -1, 1495, now() FROM billing.refusals",
         "is refused, but not by the billing service"),
        ("UPDATE users.deliveries SET order_id = '01890a5d-ac96-774b-bcce-b302099a8058'",
         "was delivered although it was refused or cancelled"),
        ("UPDATE users.deliveries SET order_id = '01890a5d-ac96-774b-bcce-b302099a8059'",
         "was delivered although it was refused or cancelled"),
        ("UPDATE orders.product_orders SET shipped_at = paid_at WHERE status = 'cancelled'",
         "was shipped although it was refused or cancelled"),
        ("DELETE FROM billing.transfers WHERE kind = 'refund'", "is cancelled, but neither refunded"),
        ("UPDATE orders.product_orders SET status = 'cancelled' WHERE status = 'refused'",
         "was rejected, but it is cancelled"),
        ("UPDATE orders.product_orders SET status = 'refused' WHERE status = 'cancelled'",
         "was answered with 200, but it is not cancelled"),
        ("UPDATE orders.product_orders SET status = 'cancelled' WHERE status = 'completed'", "nobody cancelled it"),
        ("DELETE FROM letters.letters WHERE kind = 'delivered'", "is completed, but has other letters"),
        ("DELETE FROM letters.letters WHERE kind = 'paid'", "is completed, but has other letters"),
        ("UPDATE letters.letters SET barcode = '2000000000022' WHERE kind = 'delivered'",
         "is completed, but has other letters"),
        ("UPDATE letters.letters SET quantity = 6 WHERE kind = 'delivered'", "is completed, but has other letters"),
        ("UPDATE letters.letters SET total = 1496 WHERE kind = 'delivered'", "is completed, but has other letters"),
        ("UPDATE letters.letters SET user_id = 2 WHERE kind = 'delivered'", "is completed, but has other letters"),
        ("UPDATE letters.letters SET missing = 18 WHERE kind = 'refused'", "is refused, but has other letters"),
        ("UPDATE letters.letters SET kind = 'cancelled', missing = NULL WHERE kind = 'refused'",
         "is refused, but has other letters"),
        ("DELETE FROM letters.letters WHERE kind = 'cancelled'", "is cancelled, but has other letters"),
        ("UPDATE letters.letters SET kind = 'delivered' WHERE kind = 'paid' AND subject::text LIKE '%9'",
         "is cancelled, but has other letters"),
        ("UPDATE letters.letters SET kind = 'refused', missing = 17 WHERE kind = 'paid' AND subject::text LIKE '%9'",
         "is cancelled, but has other letters"),
        ("INSERT INTO letters.letters (subject, kind, user_id, total, written_at)
          VALUES (gen_random_uuid(), 'low_balance', 1, 2000, now())",
         "low_balance about"),
        ("INSERT INTO letters.letters (subject, kind, user_id, written_at)
          VALUES ('00000000-0000-0000-0000-000000000002', 'welcome', 1, now())",
         "is unknown, or the second one"),
        ("UPDATE letters.letters SET user_id = 2 WHERE kind = 'welcome'", "is unknown, or the second one"),
        ("DELETE FROM billing.transfers WHERE kind = 'deposit'", "was answered with 201, but is stored as None"),
        ("UPDATE billing.transfers SET amount = 50 WHERE kind = 'deposit'", "was answered with 201, but is stored as Some"),
        ("INSERT INTO billing.transfers (subject, kind, debit_account, credit_account, amount, at)
          VALUES (gen_random_uuid(), 'deposit', 0, 1, 5000, now())",
         "was not requested, or is stored again"),
        ("UPDATE billing.accounts SET balance = 3504", "has 3504 cents instead of 3505"),
        ("INSERT INTO users.users (first_name, last_name, email, registered_at) VALUES ('A', 'B', 'a@example.org', now());
          INSERT INTO billing.accounts SELECT max(id), 7 FROM users.users",
         "has 7 cents and paid nothing in"),
        ("DELETE FROM billing.transfers WHERE kind IN ('earning', 'refund')", "2990 cents are held"),
        ("DELETE FROM users.consumptions", "was acknowledged but is not stored"),
        ("UPDATE users.consumptions SET quantity = 2", "is stored with another product or quantity"),
        ("UPDATE users.consumptions SET id = 'report-9'", "was not sent"),
        ("UPDATE users.shelf_items SET low_since = now()", "stays low"),
        ("UPDATE users.shelf_items SET low_since = now(), remind_at = now() + interval '80 s'", "stays low"),
        ("UPDATE users.shelf_items SET low_since = now(), remind_at = now() + interval '90 s';
          UPDATE orders.product_orders SET barcode = '2000000000022' WHERE status <> 'completed'",
         "stays low"),
    ] {
        let (world, entries) = consistent_world().await;
        sql(&world, statement).await;
        let found = findings(&world, &entries).await;
        assert!(found.contains(finding), "after {statement} it found: {found}");
        world.end().await;
    }
}

#[tokio::test]
async fn deposits_without_a_response_are_stored_at_most_once() {
    let (world, mut entries) = consistent_world().await;
    entries.deposits.insert("deposit-2".to_owned(), (deposit(70), Outcome::Unknown));
    let paid_in = "INSERT INTO billing.transfers (subject, kind, debit_account, credit_account, amount, at)
         VALUES (gen_random_uuid(), 'deposit', 0, 1, 70, now());
         UPDATE billing.accounts SET balance = balance + 70";
    sql(&world, paid_in).await;
    assert_eq!(findings(&world, &entries).await, "");
    sql(&world, paid_in).await;
    assert!(findings(&world, &entries).await.contains("is stored again"));
    world.end().await;
}

#[tokio::test]
async fn a_cancelled_order_that_was_never_charged_has_no_findings() {
    let (world, entries) = consistent_world().await;
    sql(
        &world,
        "DELETE FROM billing.transfers WHERE subject = '01890a5d-ac96-774b-bcce-b302099a8059';
         INSERT INTO billing.refusals VALUES ('01890a5d-ac96-774b-bcce-b302099a8059', 1, 'cancelled', NULL, now());
         DELETE FROM letters.letters WHERE kind = 'paid' AND subject = '01890a5d-ac96-774b-bcce-b302099a8059'",
    )
    .await;
    assert_eq!(findings(&world, &entries).await, "");
    world.end().await;
}

#[tokio::test]
async fn an_order_that_was_refused_just_before_its_cancellation_has_no_findings() {
    let (world, entries) = consistent_world().await;
    sql(
        &world,
        "DELETE FROM billing.transfers WHERE subject = '01890a5d-ac96-774b-bcce-b302099a8059';
         INSERT INTO billing.refusals
         VALUES ('01890a5d-ac96-774b-bcce-b302099a8059', 1, 'insufficient_funds', 17, now());
         UPDATE letters.letters SET kind = 'refused', missing = 17
         WHERE kind = 'paid' AND subject = '01890a5d-ac96-774b-bcce-b302099a8059'",
    )
    .await;
    assert_eq!(findings(&world, &entries).await, "");
    world.end().await;
}

#[tokio::test]
async fn a_shelf_whose_order_was_refused_may_be_low() {
    let (world, entries) = consistent_world().await;
    sql(&world, "UPDATE users.shelf_items SET low_since = now(), remind_at = now() + interval '90 s'").await;
    assert_eq!(findings(&world, &entries).await, "");
    world.end().await;
}

#[tokio::test]
async fn missing_repeated_and_unexpected_dead_letters_are_findings() {
    let (world, mut entries) = consistent_world().await;
    let poison = Poison { subject: Order::PENDING, published: Instant::now()..=Instant::now() };
    entries.poison.insert(("supplier".to_owned(), "poison-1".to_owned()), poison);
    assert!(findings(&world, &entries).await.contains("has no dead letter of supplier"));
    let publish_dead_letter = |tag: &'static str| {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Off-Dead-Reason", "not readable");
        headers.insert("Off-Chaos", tag);
        world.nats.bus.jetstream.publish_with_headers("dead.ORDERS.supplier", headers, "".into())
    };
    publish_dead_letter("poison-1").await.unwrap().await.unwrap();
    assert_eq!(findings(&world, &entries).await, "");
    publish_dead_letter("poison-1").await.unwrap().await.unwrap();
    assert!(findings(&world, &entries).await.contains("has 2 dead letters"));
    publish_dead_letter("poison-2").await.unwrap().await.unwrap();
    assert!(findings(&world, &entries).await.contains("has an unexpected dead letter"));
    world.end_leaving(&[Leftover::DeadLetters]).await;
}

#[tokio::test]
async fn only_a_loss_in_its_own_stream_explains_a_missing_report() {
    let (world, mut entries) = consistent_world().await;
    sql(&world, "DELETE FROM users.consumptions").await;
    entries.losses.push(loss(streams::ORDERS.name, Some(1)));
    assert!(findings(&world, &entries).await.contains("was acknowledged but is not stored"));
    entries.losses.push(loss(streams::STOCK.name, Some(1)));
    assert_eq!(findings(&world, &entries).await, "");
    world.end().await;
}

#[tokio::test]
async fn a_loss_explains_no_more_missing_reports_than_were_unhandled() {
    let (world, mut entries) = consistent_world().await;
    sql(&world, "DELETE FROM users.consumptions").await;
    entries.losses.push(loss(streams::STOCK.name, Some(0)));
    assert!(findings(&world, &entries).await.contains("1 reports are missing"));
    world.end().await;
}

#[tokio::test]
async fn a_loss_in_the_orders_stream_explains_a_missing_time_of_payment() {
    let (world, mut entries) = consistent_world().await;
    sql(&world, "UPDATE orders.product_orders SET paid_at = NULL").await;
    entries.losses.push(loss(streams::ORDERS.name, None));
    assert_eq!(findings(&world, &entries).await, "");
    world.end().await;
}

/// A loss one second from now, with this many unhandled messages.
fn loss(stream: &'static str, unhandled: Option<u64>) -> Loss {
    let now = Instant::now();
    let moment = now + Duration::from_secs(1);
    Loss { stream, since: now - Duration::from_mins(1), during: moment..=moment, unhandled }
}
