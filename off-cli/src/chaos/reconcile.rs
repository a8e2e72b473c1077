//! Reconciliation: compares the journal of clients and devices with Postgres and the streams.

use super::{
    journal::{Entries, OrderRequest, Outcome, Poison},
    messages::tag_of,
};
use anyhow::Context;
use off_events::{Event, SsdId, StockLow, streams};
use off_kit::{
    Bus,
    bus::dead_letters::{self, DeadLetter},
};
use sqlx::PgPool;
use std::collections::{BTreeMap, HashMap, HashSet};
use uuid::Uuid;

/// Result of one check: what must be true, and the findings that contradict it.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) name: &'static str,
    pub(super) claim: String,
    pub(super) findings: Vec<String>,
}

impl Verdict {
    pub(super) fn new(name: &'static str, claim: impl Into<String>, findings: Vec<String>) -> Self {
        Self { name, claim: claim.into(), findings }
    }
}

/// An order as stored in Postgres, with its deliveries.
struct StoredOrder {
    id: Uuid,
    request: OrderRequest,
    is_complete: bool,
    is_in_order: bool,
    is_shipping_known: bool,
    deliveries: i64,
}

/// Runs all checks that must pass once the system has drained.
pub(super) async fn check_all(
    db: &PgPool,
    bus: &Bus,
    entries: &Entries,
    letters: &[DeadLetter],
) -> anyhow::Result<Vec<Verdict>> {
    let orders = read_orders(db).await?;
    Ok(vec![
        check_answered(&orders, entries),
        check_unrequested(&orders, entries, &read_low_stock_ids(bus).await?),
        check_reports(db, entries).await?,
        check_shelves(db).await?,
        check_letters(entries, letters),
    ])
}

async fn read_orders(db: &PgPool) -> anyhow::Result<HashMap<String, StoredOrder>> {
    let rows = sqlx::query!(
        r#"SELECT placed.id, coalesce(idempotency_key, '') AS "key!", placed.ssd_id, placed.barcode, placed.quantity,
                  status = 'completed' AS "is_complete!",
                  coalesce(placed_at <= completed_at AND coalesce(shipped_at BETWEEN placed_at AND completed_at, true), false)
                      AS "is_in_order!",
                  shipped_at IS NOT NULL AS "is_shipping_known!",
                  (SELECT count(*) FROM users.deliveries AS delivery
                   WHERE order_id = placed.id AND delivery.ssd_id = placed.ssd_id
                     AND delivery.barcode = placed.barcode AND delivery.quantity = placed.quantity) AS "deliveries!"
           FROM orders.product_orders AS placed"#
    )
    .fetch_all(db)
    .await
    .context("cannot read the orders")?;
    rows.into_iter()
        .map(|row| {
            let (ssd_id, barcode) = (SsdId(row.ssd_id), row.barcode.parse()?);
            let request = OrderRequest { ssd_id, barcode, quantity: row.quantity.into() };
            // All clients here send an idempotency key, so an order without one was requested by no client.
            let key = if row.key.is_empty() { format!("no key, order {}", row.id) } else { row.key };
            let order = StoredOrder {
                id: row.id,
                request,
                is_complete: row.is_complete,
                is_in_order: row.is_in_order,
                is_shipping_known: row.is_shipping_known,
                deliveries: row.deliveries,
            };
            Ok((key, order))
        })
        .collect()
}

/// Ids of all published `stock.low` events. Devices use them as keys of their orders.
async fn read_low_stock_ids(bus: &Bus) -> anyhow::Result<HashSet<String>> {
    let messages = bus.read(streams::STOCK.name, StockLow::SUBJECT, 1).await?;
    let events = messages.iter().filter_map(|message| serde_json::from_slice::<StockLow>(&message.payload).ok());
    Ok(events.map(|event| event.message_id()).collect())
}

/// Every order that was answered with 201 is stored, completed and delivered once.
fn check_answered(orders: &HashMap<String, StoredOrder>, entries: &Entries) -> Verdict {
    let mut findings = entries.contradictions.clone();
    let (mut answered, mut without_shipping) = (0, 0);
    for (key, (request, outcome)) in &entries.orders {
        let Outcome::Accepted(id) = outcome else { continue };
        answered += 1;
        let problem = match orders.get(key) {
            None => "is not stored",
            Some(order) if order.id != *id => "is stored under another id",
            Some(order) if order.request != *request => "is stored with another device, product or quantity",
            Some(order) if !order.is_complete => "is not completed",
            Some(order) if !order.is_in_order => "has timestamps in an impossible order",
            Some(order) if order.deliveries != 1 => "was not delivered exactly once as ordered",
            Some(order) if order.is_shipping_known => continue,
            // Only the broker knows the time of shipping until `orders.shipped` is handled.
            Some(_) if entries.has_lost(streams::ORDERS.name) => {
                without_shipping += 1;
                continue;
            }
            Some(_) => "is completed without a time of shipping",
        };
        findings.push(format!("order {id} ({key}) was answered with 201 and {problem}"));
    }
    let lost = match without_shipping {
        0 => String::new(),
        count => format!("; the broker's loss took the time of shipping of {count}"),
    };
    let claim =
        format!("each of {answered} orders answered with 201 is stored, completed and delivered exactly once{lost}");
    Verdict::new("answered", claim, findings)
}

/// Every stored order was requested by a client or a device, and no request was refused.
fn check_unrequested(
    orders: &HashMap<String, StoredOrder>,
    entries: &Entries,
    low_stock_ids: &HashSet<String>,
) -> Verdict {
    let mut findings = Vec::new();
    let (mut unknown, mut restocked) = (0, 0);
    for (key, order) in orders {
        let problem = match entries.orders.get(key) {
            None if low_stock_ids.contains(key) || !entries.losses.is_empty() && is_key_of_low(key, &order.request) => {
                restocked += 1;
                if order.is_complete && order.deliveries == 1 {
                    continue;
                }
                "was requested by a device but is not completed and delivered exactly once"
            }
            None => "was not requested",
            Some((request, _)) if order.request != *request => "has another device, product or quantity than requested",
            Some((_, Outcome::Refused(_))) => "was refused but is stored",
            Some((_, Outcome::Unknown)) if !order.is_complete || order.deliveries != 1 => {
                "got no response and is not completed and delivered exactly once"
            }
            Some((_, Outcome::Unknown)) => {
                unknown += 1;
                continue;
            }
            Some((_, Outcome::Accepted(_))) => continue,
        };
        findings.push(format!("order {} ({key}) {problem}", order.id));
    }
    findings.extend(entries.orders.iter().filter_map(|(key, (_, outcome))| match outcome {
        Outcome::Refused(reason) => Some(format!("{key} was refused: {reason}")),
        _ => None,
    }));
    let unanswered = entries.orders.values().filter(|(_, outcome)| *outcome == Outcome::Unknown).count();
    let claim = format!(
        "no order exists without a request; of {unanswered} requests without a response, {unknown} orders exist, each \
         once; devices requested {restocked} orders"
    );
    Verdict::new("unrequested", claim, findings)
}

/// Whether this is the id of a `stock.low` of that device and product. Used when the broker may have lost the event.
fn is_key_of_low(key: &str, request: &OrderRequest) -> bool {
    key.starts_with(&format!("low:{}:{}:", request.ssd_id, request.barcode))
}

/// Every consumption report that the broker acknowledged is stored once, except reports that a fault may have removed.
async fn check_reports(db: &PgPool, entries: &Entries) -> anyhow::Result<Verdict> {
    let rows = sqlx::query!("SELECT ssd_id, id, barcode, quantity FROM users.consumptions").fetch_all(db).await?;
    let mut stored: HashMap<(SsdId, String), (String, i64)> = HashMap::new();
    for row in rows {
        stored.insert((SsdId(row.ssd_id), row.id), (row.barcode, row.quantity.into()));
    }
    let mut findings = Vec::new();
    let (mut sent, mut lost) = (Vec::new(), 0);
    for ((ssd_id, id), (request, outcome)) in &entries.reports {
        let found = stored.remove(&(*ssd_id, id.clone()));
        if let Outcome::Accepted(window) = outcome {
            sent.push(window);
        }
        let problem = match (found, outcome) {
            (None, Outcome::Accepted(window)) if entries.may_have_lost(&[streams::STOCK.name], window) => {
                lost += 1;
                continue;
            }
            (None, Outcome::Accepted(_)) => "was acknowledged but is not stored",
            (Some((barcode, quantity)), _) if barcode != request.barcode.as_str() || quantity != request.quantity => {
                "is stored with another product or quantity"
            }
            _ => continue,
        };
        findings.push(format!("{id} of device {ssd_id} {problem}"));
    }
    findings.extend(stored.keys().map(|(ssd_id, id)| format!("{id} of device {ssd_id} was not sent")));
    let explained = entries.count_covered(streams::STOCK.name, &sent);
    if lost > explained {
        findings.push(format!("{lost} reports are missing, but faults in their stream explain at most {explained}"));
    }
    let acknowledged = sent.len();
    let claim = format!(
        "each of {acknowledged} reports that the broker acknowledged is stored once, whatever its timestamp, except \
         {lost} that the broker lost"
    );
    Ok(Verdict::new("reports", claim, findings))
}

/// Every `stock.low` led to an order, so no shelf is low.
async fn check_shelves(db: &PgPool) -> anyhow::Result<Verdict> {
    let low = sqlx::query!(
        "SELECT ssd_id, barcode, quantity FROM users.shelf_items
         WHERE low_since IS NOT NULL OR quantity <= reorder_point"
    );
    let low = low.fetch_all(db).await?;
    let findings =
        low.iter().map(|row| format!("device {} has {} of {} and stays low", row.ssd_id, row.quantity, row.barcode));
    Ok(Verdict::new("restocked", "every stock.low led to an order, and no shelf is low", findings.collect()))
}

/// The dead letters are exactly the poison messages, one for each consumer.
fn check_letters(entries: &Entries, letters: &[DeadLetter]) -> Verdict {
    let mut findings = Vec::new();
    let mut dead_lettered: BTreeMap<(String, String), usize> = BTreeMap::new();
    for letter in letters {
        match tag_of(letter) {
            Some(tag) => *dead_lettered.entry((letter.consumer.clone(), tag.to_owned())).or_default() += 1,
            None => findings.push(format!("dead letter {} is not a poison message: {}", letter.number, letter.reason)),
        }
        if letter.reason.is_empty() {
            findings.push(format!("dead letter {} has no reason", letter.number));
        }
    }
    for ((consumer, tag), Poison { subject, published }) in &entries.poison {
        match dead_lettered.remove(&(consumer.clone(), tag.clone())) {
            Some(1) => {}
            Some(_) if entries.recreated.contains(consumer) => {}
            // Lost before it was handled, or lost as a dead letter.
            None if streams::stream_of(subject)
                .map(|stream| [stream.name, streams::DEAD_LETTERS.name])
                .is_some_and(|streams| entries.may_have_lost(&streams, published)) => {}
            Some(times) => findings.push(format!("{tag} on {subject} has {times} dead letters of {consumer}")),
            None => findings.push(format!("{tag} on {subject} has no dead letter of {consumer}")),
        }
    }
    let unexpected = dead_lettered.keys();
    findings.extend(unexpected.map(|(consumer, tag)| format!("{tag} has an unexpected dead letter of {consumer}")));
    let claim = format!("the {} dead letters are exactly the poison messages that were sent", letters.len());
    Verdict::new("dead letters", claim, findings)
}

/// Replays one dead letter with a repaired payload. It must be handled and removed from the dead letters.
pub(super) async fn check_replay(db: &PgPool, bus: &Bus, letters: &[DeadLetter]) -> anyhow::Result<Verdict> {
    let claim = "a repaired dead letter is replayed and handled";
    let Some(letter) = letters.iter().find(|letter| letter.consumer == streams::ORDERS_SHIPPED.name) else {
        return Ok(Verdict::new("replay", "there was no dead letter to repair", Vec::new()));
    };
    // Clears the time of shipping of an order; the repaired `orders.shipped` must restore it.
    let order = sqlx::query!(
        "UPDATE orders.product_orders SET shipped_at = NULL
         WHERE id = (SELECT id FROM orders.product_orders ORDER BY id DESC LIMIT 1)
         RETURNING id, ssd_id, barcode, quantity, placed_at"
    );
    let order = order.fetch_one(db).await?;
    let body = serde_json::json!({"id": order.id, "ssd_id": order.ssd_id, "barcode": order.barcode,
        "timestamp": order.placed_at, "quantity": order.quantity, "status": "shipped"});
    dead_letters::replay(bus, letter.number, Some(body.to_string().into())).await?;
    let mut findings = Vec::new();
    if !bus.catch_up(&[streams::ORDERS_SHIPPED], std::time::Duration::from_secs(10)).await? {
        findings.push("the repaired message was not handled".to_owned());
    }
    let shipped_at = sqlx::query_scalar!("SELECT shipped_at FROM orders.product_orders WHERE id = $1", order.id);
    if shipped_at.fetch_one(db).await?.is_none() {
        findings.push(format!("the repaired message did not set the time of shipping of order {}", order.id));
    }
    if dead_letters::find(bus, letter.number).await.is_ok() {
        findings.push(format!("dead letter {} is still there", letter.number));
    }
    Ok(Verdict::new("replay", claim, findings))
}

#[cfg(test)]
mod tests {
    use super::{super::journal::Loss, *};
    use off_testkit::{LENTILS, TEA, World};
    use std::time::Duration;
    use tokio::time::Instant;

    /// A delivered order, a consumption report, and a journal with both.
    async fn consistent_world() -> (World, Entries) {
        let world = World::new().await;
        let ssd_id = SsdId(world.add_device().await);
        sql(
            &world,
            "INSERT INTO orders.product_orders
                 (id, ssd_id, barcode, quantity, status, idempotency_key, placed_at, shipped_at, completed_at)
             VALUES ('01890a5d-ac96-774b-bcce-b302099a8057', 1, '2000000000015', 5, 'completed', 'order-1',
                     now() - interval '3 s', now() - interval '2 s', now() - interval '1 s');
             INSERT INTO users.deliveries (order_id, ssd_id, barcode, quantity, delivered_at)
             VALUES ('01890a5d-ac96-774b-bcce-b302099a8057', 1, '2000000000015', 5, now());
             INSERT INTO users.consumptions (ssd_id, id, barcode, quantity, taken, consumed_at)
             VALUES (1, 'report-1', '2000000000015', 1, 1, now());
             INSERT INTO users.shelf_items (ssd_id, barcode, quantity, reorder_point)
             VALUES (1, '2000000000015', 4, 2)",
        )
        .await;
        let mut entries = Entries::default();
        let request = |quantity| OrderRequest { ssd_id, barcode: LENTILS.parse().unwrap(), quantity };
        let id = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        entries.orders.insert("order-1".to_owned(), (request(5), Outcome::Accepted(id)));
        let now = Instant::now();
        let accepted = Outcome::Accepted(now..=now);
        entries.reports.insert((ssd_id, "report-1".to_owned()), (request(1), accepted));
        (world, entries)
    }

    async fn sql(world: &World, statement: &'static str) {
        sqlx::raw_sql(statement).execute(&world.database.pool).await.unwrap();
    }

    async fn findings(world: &World, entries: &Entries) -> String {
        let letters = dead_letters::list(&world.nats.bus).await.unwrap();
        let verdicts = check_all(&world.database.pool, &world.nats.bus, entries, &letters).await.unwrap();
        verdicts.into_iter().flat_map(|verdict| verdict.findings).collect::<Vec<_>>().join("\n")
    }

    #[tokio::test]
    async fn a_journal_that_agrees_with_the_database_has_no_findings() {
        let (world, mut entries) = consistent_world().await;
        let unanswered = OrderRequest { ssd_id: SsdId(1), barcode: TEA.parse().unwrap(), quantity: 1 };
        entries.orders.insert("order-2".to_owned(), (unanswered.clone(), Outcome::Unknown));
        entries.reports.insert((SsdId(1), "report-2".to_owned()), (unanswered, Outcome::Unknown));
        assert_eq!(findings(&world, &entries).await, "");
    }

    #[tokio::test]
    async fn every_contradiction_to_the_journal_is_a_finding() {
        for (statement, finding) in [
            ("DELETE FROM orders.product_orders", "is not stored"),
            ("UPDATE orders.product_orders SET id = gen_random_uuid()", "is stored under another id"),
            ("UPDATE orders.product_orders SET quantity = 6", "is stored with another device"),
            ("UPDATE orders.product_orders SET status = 'shipped'", "is not completed"),
            ("UPDATE orders.product_orders SET shipped_at = placed_at - interval '1 s'", "in an impossible order"),
            ("UPDATE orders.product_orders SET shipped_at = NULL", "is completed without a time of shipping"),
            ("DELETE FROM users.deliveries", "was not delivered exactly once"),
            ("UPDATE orders.product_orders SET idempotency_key = NULL", "was not requested"),
            ("DELETE FROM users.consumptions", "was acknowledged but is not stored"),
            ("UPDATE users.consumptions SET quantity = 2", "is stored with another product or quantity"),
            ("UPDATE users.consumptions SET id = 'report-9'", "was not sent"),
            ("UPDATE users.shelf_items SET low_since = now()", "stays low"),
        ] {
            let (world, entries) = consistent_world().await;
            sql(&world, statement).await;
            let found = findings(&world, &entries).await;
            assert!(found.contains(finding), "after {statement} it found: {found}");
        }
    }

    #[tokio::test]
    async fn missing_repeated_and_unexpected_dead_letters_are_findings() {
        let (world, mut entries) = consistent_world().await;
        let poison = Poison { subject: "orders.pending", published: Instant::now()..=Instant::now() };
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
    }

    #[tokio::test]
    async fn only_a_loss_in_its_own_stream_explains_a_missing_report() {
        let (world, mut entries) = consistent_world().await;
        sql(&world, "DELETE FROM users.consumptions").await;
        entries.losses.push(loss("ORDERS", Some(1)));
        assert!(findings(&world, &entries).await.contains("was acknowledged but is not stored"));
        entries.losses.push(loss("STOCK", Some(1)));
        assert_eq!(findings(&world, &entries).await, "");
    }

    #[tokio::test]
    async fn a_loss_explains_no_more_missing_reports_than_were_unhandled() {
        let (world, mut entries) = consistent_world().await;
        sql(&world, "DELETE FROM users.consumptions").await;
        entries.losses.push(loss("STOCK", Some(0)));
        assert!(findings(&world, &entries).await.contains("1 reports are missing"));
    }

    #[tokio::test]
    async fn a_loss_in_the_orders_stream_explains_a_missing_time_of_shipping() {
        let (world, mut entries) = consistent_world().await;
        sql(&world, "UPDATE orders.product_orders SET shipped_at = NULL").await;
        entries.losses.push(loss("ORDERS", None));
        assert_eq!(findings(&world, &entries).await, "");
    }

    /// A loss one second from now, with this many unhandled messages.
    fn loss(stream: &'static str, unhandled: Option<u64>) -> Loss {
        let now = Instant::now();
        let moment = now + Duration::from_secs(1);
        Loss { stream, since: now - Duration::from_mins(1), during: moment..=moment, unhandled }
    }
}
