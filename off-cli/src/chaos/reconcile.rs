//! Holds what people and devices know against Postgres and the streams.

use super::{
    journal::{Outcome, Pages, Poison, Wish},
    messages::tag_of,
};
use anyhow::Context;
use off_events::{Event, SsdId, StockLow, streams};
use off_kit::{
    Bus,
    bus::dead::{self, DeadLetter},
};
use sqlx::PgPool;
use std::collections::{BTreeMap, HashMap, HashSet};
use uuid::Uuid;

/// One thing that has to be true, and what speaks against it.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) name: &'static str,
    pub(super) claim: String,
    pub(super) evidence: Vec<String>,
}

impl Verdict {
    pub(super) fn new(name: &'static str, claim: impl Into<String>, evidence: Vec<String>) -> Self {
        Self { name, claim: claim.into(), evidence }
    }
}

/// An order as Postgres has it, with its delivery.
struct StoredOrder {
    id: Uuid,
    wish: Wish,
    is_complete: bool,
    is_in_order: bool,
    is_shipping_known: bool,
    deliveries: i64,
}

/// Everything that has to be true once all is still.
pub(super) async fn judge(
    db: &PgPool,
    bus: &Bus,
    pages: &Pages,
    letters: &[DeadLetter],
) -> anyhow::Result<Vec<Verdict>> {
    let orders = read_orders(db).await?;
    Ok(vec![
        judge_answered(&orders, pages),
        judge_unasked(&orders, pages, &read_lows(bus).await?),
        judge_reports(db, pages).await?,
        judge_shelves(db).await?,
        judge_letters(pages, letters),
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
    .context("the orders cannot be read")?;
    rows.into_iter()
        .map(|row| {
            let wish = Wish { ssd_id: SsdId(row.ssd_id), barcode: row.barcode.parse()?, quantity: row.quantity.into() };
            // Every client here names its requests; an order without a name was asked for by nobody.
            let key = if row.key.is_empty() { format!("no key, order {}", row.id) } else { row.key };
            let order = StoredOrder {
                id: row.id,
                wish,
                is_complete: row.is_complete,
                is_in_order: row.is_in_order,
                is_shipping_known: row.is_shipping_known,
                deliveries: row.deliveries,
            };
            Ok((key, order))
        })
        .collect()
}

/// The ids of all `stock.low` that were said: what devices order for.
async fn read_lows(bus: &Bus) -> anyhow::Result<HashSet<String>> {
    let messages = bus.read(streams::STOCK.name, StockLow::SUBJECT, 1).await?;
    let lows = messages.iter().filter_map(|message| serde_json::from_slice::<StockLow>(&message.payload).ok());
    Ok(lows.map(|low| low.message_id()).collect())
}

fn judge_answered(orders: &HashMap<String, StoredOrder>, pages: &Pages) -> Verdict {
    let mut evidence = pages.contradictions.clone();
    let (mut answered, mut without_shipping) = (0, 0);
    for (key, (wish, outcome)) in &pages.orders {
        let Outcome::Accepted(id) = outcome else { continue };
        answered += 1;
        let what = match orders.get(key) {
            None => "is not stored",
            Some(order) if order.id != *id => "is stored under another id",
            Some(order) if order.wish != *wish => "is stored otherwise than asked for",
            Some(order) if !order.is_complete => "never arrived",
            Some(order) if !order.is_in_order => "reached its states in an impossible order",
            Some(order) if order.deliveries != 1 => "was not delivered once, as ordered",
            Some(order) if order.is_shipping_known => continue,
            // The broker alone knows when an order was shipped until that is handled.
            Some(_) if pages.has_lost(streams::ORDERS.name) => {
                without_shipping += 1;
                continue;
            }
            Some(_) => "arrived, and is not known to have been shipped",
        };
        evidence.push(format!("order {id} ({key}) was answered with 201 and {what}"));
    }
    let lost = match without_shipping {
        0 => String::new(),
        count => format!("; when {count} of them were shipped went with the broker's store"),
    };
    let claim =
        format!("each of {answered} orders answered with 201 exists once, arrived once, was delivered once{lost}");
    Verdict::new("answered", claim, evidence)
}

fn judge_unasked(orders: &HashMap<String, StoredOrder>, pages: &Pages, lows: &HashSet<String>) -> Verdict {
    let mut evidence = Vec::new();
    let (mut unknown, mut restocked) = (0, 0);
    for (key, order) in orders {
        let what = match pages.orders.get(key) {
            None if lows.contains(key) || !pages.losses.is_empty() && is_key_of_low(key, &order.wish) => {
                restocked += 1;
                if order.is_complete && order.deliveries == 1 {
                    continue;
                }
                "for a device never arrived"
            }
            None => "was asked for by nobody",
            Some((wish, _)) if order.wish != *wish => "is not what was asked for",
            Some((_, Outcome::Refused(_))) => "was refused and exists",
            Some((_, Outcome::Unknown)) if !order.is_complete || order.deliveries != 1 => {
                "was not answered, and halted"
            }
            Some((_, Outcome::Unknown)) => {
                unknown += 1;
                continue;
            }
            Some((_, Outcome::Accepted(_))) => continue,
        };
        evidence.push(format!("order {} ({key}) {what}", order.id));
    }
    evidence.extend(pages.orders.iter().filter_map(|(key, (_, outcome))| match outcome {
        Outcome::Refused(reason) => Some(format!("{key} was refused: {reason}")),
        _ => None,
    }));
    let unanswered = pages.orders.values().filter(|(_, outcome)| *outcome == Outcome::Unknown).count();
    let claim = format!(
        "nothing was ordered that nobody asked for; of {unanswered} orders without an answer {unknown} exist, once; \
         {restocked} were ordered by devices"
    );
    Verdict::new("unasked", claim, evidence)
}

/// Whether this is the id of a `stock.low` of that device and product: the broker may have lost the message itself.
fn is_key_of_low(key: &str, wish: &Wish) -> bool {
    key.starts_with(&format!("low:{}:{}:", wish.ssd_id, wish.barcode))
}

async fn judge_reports(db: &PgPool, pages: &Pages) -> anyhow::Result<Verdict> {
    let rows = sqlx::query!("SELECT ssd_id, id, barcode, quantity FROM users.consumptions").fetch_all(db).await?;
    let mut stored: HashMap<(SsdId, String), (String, i64)> = HashMap::new();
    for row in rows {
        stored.insert((SsdId(row.ssd_id), row.id), (row.barcode, row.quantity.into()));
    }
    let mut evidence = Vec::new();
    let (mut sent, mut lost) = (Vec::new(), 0);
    for ((ssd_id, id), (wish, outcome)) in &pages.reports {
        let found = stored.remove(&(*ssd_id, id.clone()));
        if let Outcome::Accepted(sending) = outcome {
            sent.push(sending);
        }
        let what = match (found, outcome) {
            (None, Outcome::Accepted(sending)) if pages.may_be_lost(&[streams::STOCK.name], sending) => {
                lost += 1;
                continue;
            }
            (None, Outcome::Accepted(_)) => "was acknowledged and never counted",
            (Some((barcode, quantity)), _) if barcode != wish.barcode.as_str() || quantity != wish.quantity => {
                "was counted otherwise than reported"
            }
            _ => continue,
        };
        evidence.push(format!("{id} of device {ssd_id} {what}"));
    }
    evidence.extend(stored.keys().map(|(ssd_id, id)| format!("{id} of device {ssd_id} was reported by nobody")));
    let explained = pages.count_explained(streams::STOCK.name, &sent);
    if lost > explained {
        evidence.push(format!("{lost} reports are missing, and the loss of their stream explains {explained} at most"));
    }
    let acknowledged = sent.len();
    let claim = format!(
        "each of {acknowledged} reports that the broker took was counted once, whatever its clock said, but for {lost} that \
         went with its store"
    );
    Ok(Verdict::new("reports", claim, evidence))
}

async fn judge_shelves(db: &PgPool) -> anyhow::Result<Verdict> {
    let low = sqlx::query!(
        "SELECT ssd_id, barcode, quantity FROM users.product_ssds
         WHERE low_since IS NOT NULL OR quantity <= reorder_point"
    );
    let low = low.fetch_all(db).await?;
    let evidence =
        low.iter().map(|row| format!("ssd {} holds {} of {} and stays low", row.ssd_id, row.quantity, row.barcode));
    Ok(Verdict::new("restocked", "every stock.low was answered, and no shelf is low", evidence.collect()))
}

fn judge_letters(pages: &Pages, letters: &[DeadLetter]) -> Verdict {
    let mut evidence = Vec::new();
    let mut buried: BTreeMap<(String, String), usize> = BTreeMap::new();
    for letter in letters {
        match tag_of(letter) {
            Some(tag) => *buried.entry((letter.consumer.clone(), tag.to_owned())).or_default() += 1,
            None => evidence.push(format!("dead letter {} was no poison: {}", letter.number, letter.reason)),
        }
        if letter.reason.is_empty() {
            evidence.push(format!("dead letter {} gives no reason", letter.number));
        }
    }
    for ((consumer, tag), Poison { subject, sending }) in &pages.poison {
        match buried.remove(&(consumer.clone(), tag.clone())) {
            Some(1) => {}
            Some(_) if pages.recreated.contains(consumer) => {}
            // Lost before it was read, or with the dead letters.
            None if streams::stream_of(subject)
                .is_some_and(|stream| pages.may_be_lost(&[stream.name, streams::DEAD_LETTERS.name], sending)) => {}
            Some(times) => evidence.push(format!("{tag} on {subject} was buried {times} times by {consumer}")),
            None => evidence.push(format!("{tag} on {subject} was not buried by {consumer}")),
        }
    }
    evidence.extend(buried.keys().map(|(consumer, tag)| format!("{consumer} gave up {tag}, which it never had")));
    let claim = format!("{}, and they are exactly the poison that was sent", letters.len());
    Verdict::new("dead letters", claim, evidence)
}

/// Sends one dead letter again, repaired; it has to be handled then, and to be gone from the dead letters.
pub(super) async fn judge_replay(db: &PgPool, bus: &Bus, letters: &[DeadLetter]) -> anyhow::Result<Verdict> {
    let claim = "a repaired dead letter is sent again and handled";
    let Some(letter) = letters.iter().find(|letter| letter.consumer == streams::ORDERS_SHIPPED.name) else {
        return Ok(Verdict::new("replay", "there was no dead letter to repair", Vec::new()));
    };
    // The order forgets when it was shipped, and learns it again.
    let order = sqlx::query!(
        "UPDATE orders.product_orders SET shipped_at = NULL
         WHERE id = (SELECT id FROM orders.product_orders ORDER BY id DESC LIMIT 1)
         RETURNING id, ssd_id, barcode, quantity, placed_at"
    );
    let order = order.fetch_one(db).await?;
    let body = serde_json::json!({"id": order.id, "ssd_id": order.ssd_id, "product_id": order.barcode,
        "timestamp": order.placed_at, "quantity": order.quantity, "status": "shipped"});
    dead::replay(bus, letter.number, Some(body.to_string().into())).await?;
    let mut evidence = Vec::new();
    if !bus.catch_up(&[streams::ORDERS_SHIPPED], std::time::Duration::from_secs(10)).await? {
        evidence.push("nobody took the repaired message".to_owned());
    }
    let shipped_at = sqlx::query_scalar!("SELECT shipped_at FROM orders.product_orders WHERE id = $1", order.id);
    if shipped_at.fetch_one(db).await?.is_none() {
        evidence.push(format!("order {} was said to be shipped, and that had no effect", order.id));
    }
    if dead::find(bus, letter.number).await.is_ok() {
        evidence.push(format!("dead letter {} is still there", letter.number));
    }
    Ok(Verdict::new("replay", claim, evidence))
}

#[cfg(test)]
mod tests {
    use super::{super::journal::Loss, *};
    use off_testkit::{LENTILS, TEA, World};
    use std::time::Duration;
    use tokio::time::Instant;

    /// An order that was answered, arrived and was delivered, a report of what was taken of it, and a journal that
    /// knows of both.
    async fn sound_world() -> (World, Pages) {
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
             INSERT INTO users.product_ssds (ssd_id, barcode, quantity, reorder_point)
             VALUES (1, '2000000000015', 4, 2)",
        )
        .await;
        let mut pages = Pages::default();
        let wish = |quantity| Wish { ssd_id, barcode: LENTILS.parse().unwrap(), quantity };
        let id = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        pages.orders.insert("order-1".to_owned(), (wish(5), Outcome::Accepted(id)));
        let now = Instant::now();
        let accepted = Outcome::Accepted(now..=now);
        pages.reports.insert((ssd_id, "report-1".to_owned()), (wish(1), accepted));
        (world, pages)
    }

    async fn sql(world: &World, statement: &'static str) {
        sqlx::raw_sql(statement).execute(&world.database.pool).await.unwrap();
    }

    async fn evidence(world: &World, pages: &Pages) -> String {
        let letters = dead::list(&world.nats.bus).await.unwrap();
        let verdicts = judge(&world.database.pool, &world.nats.bus, pages, &letters).await.unwrap();
        verdicts.into_iter().flat_map(|verdict| verdict.evidence).collect::<Vec<_>>().join("\n")
    }

    #[tokio::test]
    async fn what_agrees_is_no_evidence() {
        let (world, mut pages) = sound_world().await;
        let unheard = Wish { ssd_id: SsdId(1), barcode: TEA.parse().unwrap(), quantity: 1 };
        pages.orders.insert("order-2".to_owned(), (unheard.clone(), Outcome::Unknown));
        pages.reports.insert((SsdId(1), "report-2".to_owned()), (unheard, Outcome::Unknown));
        assert_eq!(evidence(&world, &pages).await, "");
    }

    #[tokio::test]
    async fn whatever_does_not_agree_is_evidence() {
        for (harm, finding) in [
            ("DELETE FROM orders.product_orders", "is not stored"),
            ("UPDATE orders.product_orders SET id = gen_random_uuid()", "is stored under another id"),
            ("UPDATE orders.product_orders SET quantity = 6", "is stored otherwise than asked for"),
            ("UPDATE orders.product_orders SET status = 'shipped'", "never arrived"),
            ("UPDATE orders.product_orders SET shipped_at = placed_at - interval '1 s'", "in an impossible order"),
            ("UPDATE orders.product_orders SET shipped_at = NULL", "is not known to have been shipped"),
            ("DELETE FROM users.deliveries", "was not delivered once"),
            ("UPDATE orders.product_orders SET idempotency_key = NULL", "was asked for by nobody"),
            ("DELETE FROM users.consumptions", "was acknowledged and never counted"),
            ("UPDATE users.consumptions SET quantity = 2", "was counted otherwise than reported"),
            ("UPDATE users.consumptions SET id = 'report-9'", "was reported by nobody"),
            ("UPDATE users.product_ssds SET low_since = now()", "stays low"),
        ] {
            let (world, pages) = sound_world().await;
            sql(&world, harm).await;
            let found = evidence(&world, &pages).await;
            assert!(found.contains(finding), "after {harm} it found: {found}");
        }
    }

    #[tokio::test]
    async fn dead_letters_are_the_poison_and_nothing_else() {
        let (world, mut pages) = sound_world().await;
        let poison = Poison { subject: "orders.pending", sending: Instant::now()..=Instant::now() };
        pages.poison.insert(("supplier".to_owned(), "poison-1".to_owned()), poison);
        assert!(evidence(&world, &pages).await.contains("was not buried by supplier"));
        let bury = |tag: &'static str| {
            let mut headers = async_nats::HeaderMap::new();
            headers.insert("Off-Dead-Reason", "not readable");
            headers.insert("Off-Chaos", tag);
            world.nats.bus.jetstream.publish_with_headers("dead.ORDERS.supplier", headers, "".into())
        };
        bury("poison-1").await.unwrap().await.unwrap();
        assert_eq!(evidence(&world, &pages).await, "");
        bury("poison-1").await.unwrap().await.unwrap();
        assert!(evidence(&world, &pages).await.contains("was buried 2 times"));
        bury("poison-2").await.unwrap().await.unwrap();
        assert!(evidence(&world, &pages).await.contains("which it never had"));
    }

    #[tokio::test]
    async fn only_the_loss_of_its_own_stream_excuses_a_report() {
        let (world, mut pages) = sound_world().await;
        sql(&world, "DELETE FROM users.consumptions").await;
        pages.losses.push(loss("ORDERS", Some(1)));
        assert!(evidence(&world, &pages).await.contains("was acknowledged and never counted"));
        pages.losses.push(loss("STOCK", Some(1)));
        assert_eq!(evidence(&world, &pages).await, "");
    }

    #[tokio::test]
    async fn a_loss_excuses_no_more_reports_than_were_unhandled() {
        let (world, mut pages) = sound_world().await;
        sql(&world, "DELETE FROM users.consumptions").await;
        pages.losses.push(loss("STOCK", Some(0)));
        assert!(evidence(&world, &pages).await.contains("1 reports are missing"));
    }

    #[tokio::test]
    async fn the_loss_of_the_orders_excuses_an_unknown_time_of_shipping() {
        let (world, mut pages) = sound_world().await;
        sql(&world, "UPDATE orders.product_orders SET shipped_at = NULL").await;
        pages.losses.push(loss("ORDERS", None));
        assert_eq!(evidence(&world, &pages).await, "");
    }

    /// A stream that lost something a moment from now, when so many messages were unhandled.
    fn loss(stream: &'static str, unhandled: Option<u64>) -> Loss {
        let now = Instant::now();
        let moment = now + Duration::from_secs(1);
        Loss { stream, since: now - Duration::from_mins(1), during: moment..=moment, unhandled }
    }
}
