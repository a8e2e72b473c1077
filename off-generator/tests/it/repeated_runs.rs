//! A seed determines the events of a run.

use crate::TestSystem;
use futures::future::join_all;
use off_generator::Config;
use off_testkit::{LENTILS, eventually};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

/// Events by their number, each with its device, product and quantity.
type EventsByNumber = BTreeMap<i64, (i64, String, i32)>;

/// The planned orders, without those of devices that are low.
async fn list_planned_orders(system: &TestSystem) -> EventsByNumber {
    list_events(
        system,
        "SELECT split_part(idempotency_key, ':', 2)::bigint, ssd_id, barcode, quantity FROM orders.product_orders
         WHERE idempotency_key ~ '^[0-9a-f-]{36}:'",
    )
    .await
}

async fn list_consumptions(system: &TestSystem) -> EventsByNumber {
    let query = "SELECT split_part(id, ':', 2)::bigint, ssd_id, barcode, quantity FROM users.consumptions";
    list_events(system, query).await
}

/// The amounts that each person got, in cents.
async fn list_deposits(system: &TestSystem) -> BTreeMap<i64, BTreeSet<i64>> {
    let query = "SELECT credit_account, amount FROM billing.transfers WHERE kind = 'deposit'";
    let rows: Vec<(i64, i64)> =
        sqlx::query_as(query).fetch_all(&system.world.database.pool).await.expect("the deposits can be listed");
    let mut deposits: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
    for (user, amount) in rows {
        deposits.entry(user).or_default().insert(amount);
    }
    deposits
}

/// Asserts that the people of two runs got the same amounts, as far as both runs came.
fn assert_same_deposits(one: &BTreeMap<i64, BTreeSet<i64>>, other: &BTreeMap<i64, BTreeSet<i64>>) {
    let both: Vec<_> = one.iter().filter_map(|(user, amounts)| Some((amounts, other.get(user)?))).collect();
    assert!(both.len() >= 12 && both.iter().any(|(amounts, _)| amounts.len() > 1), "{one:?}");
    for (amounts, others) in both {
        assert!(amounts.is_subset(others) || others.is_subset(amounts), "{one:?} {other:?}");
    }
}

async fn list_events(system: &TestSystem, query: &'static str) -> EventsByNumber {
    let rows: Vec<(i64, i64, String, i32)> =
        sqlx::query_as(query).fetch_all(&system.world.database.pool).await.expect("the events can be listed");
    rows.into_iter().map(|(number, ssd, barcode, quantity)| (number, (ssd, barcode, quantity))).collect()
}

/// Waits until there are enough events to compare.
async fn wait_for_events(system: &TestSystem) {
    eventually("70 orders and 50 consumptions", || async {
        let (orders, consumptions) = tokio::join!(list_planned_orders(system), list_consumptions(system));
        (orders.len() >= 70 && consumptions.len() >= 50).then_some(())
    })
    .await;
}

/// Asserts that two runs had the same events, and at least `at_least` of them. On an overloaded machine a run skips events,
/// at most one in ten here.
fn assert_same(one: &EventsByNumber, other: &EventsByNumber, at_least: usize) {
    let last = one.keys().last().min(other.keys().last()).copied().expect("an event");
    // The last events may have been in progress at the shutdown.
    let until = |events: &EventsByNumber| -> EventsByNumber {
        events.range(..last - 20).map(|(number, event)| (*number, event.clone())).collect()
    };
    let (one, other) = (until(one), until(other));
    let both: Vec<_> = one.iter().filter_map(|(number, event)| Some((number, event, other.get(number)?))).collect();
    assert!(both.len() >= at_least && both.len() * 10 >= one.len().max(other.len()) * 9, "{one:?} {other:?}");
    for (number, event, same) in both {
        assert_eq!(event, same, "event {number}");
    }
}

fn config(system: &TestSystem) -> Config {
    Config {
        households: 12,
        rate: 60.0,
        registration_weight: 1,
        order_weight: 5,
        consumption_weight: 6,
        pay_interval: Duration::from_secs(2),
        ..system.config()
    }
}

/// One system is idle; in the other, a client places orders all the time and the users service starts late.
#[tokio::test]
async fn the_same_seed_generates_the_same_events_under_any_load() {
    let (idle, busy) = (TestSystem::new().await, TestSystem::new().await);
    let other_device = busy.world.add_device().await;
    idle.world.add_device().await;
    let load = async {
        let order = json!({"ssd_id": other_device, "barcode": LENTILS, "quantity": 1});
        loop {
            join_all((0..16).map(|_| busy.orders.http.post("/api/orders", &order))).await;
        }
    };
    let both_runs = async {
        let generator = idle.start(config(&idle)).await;
        wait_for_events(&idle).await;
        generator.stop().await;
        let (generator, users) = busy.start_before_users(config(&busy)).await;
        wait_for_events(&busy).await;
        generator.stop().await;
        users.stop().await;
    };
    tokio::select! {
        () = load => {}
        () = both_runs => {}
    }
    let (one, other) = (idle.list_generated_devices().await, busy.list_generated_devices().await);
    let common = one.len().min(other.len());
    assert!(common >= 12 && one[..common] == other[..common], "{one:?} {other:?}");
    assert_same(&list_consumptions(&idle).await, &list_consumptions(&busy).await, 25);
    let (one, other) = (list_planned_orders(&idle).await, list_planned_orders(&busy).await);
    assert_same(&one, &other, 45);
    assert_same_deposits(&list_deposits(&idle).await, &list_deposits(&busy).await);
    let devices: HashSet<i64> = one.values().map(|(ssd, ..)| *ssd).collect();
    assert!(devices.len() > 5 && !devices.contains(&other_device), "{devices:?}");
    idle.end().await;
    busy.end().await;
}
