//! Black-box tests of the generator with the real services.

#![expect(clippy::expect_used, reason = "a failure in a helper must fail the calling test")]

use futures::future::join_all;
use off_events::streams;
use off_generator::{Config, Generator};
use off_kit::{Clock, Service};
use off_orders_service::OrdersService;
use off_testkit::{LENTILS, Program, Running, World, eventually};
use off_users_service::UsersService;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashSet},
    net::TcpListener,
    time::Duration,
};

/// The users service and the orders service with a private database and NATS server.
struct TestSystem {
    world: World,
    users: Running,
    orders: Running,
}

impl TestSystem {
    async fn new() -> Self {
        let world = World::new().await;
        let config = off_users_service::Config { db: world.db_config(), bus: world.bus_config() };
        let users = Running::start_ready::<UsersService>(config, Clock::real(1.0)).await;
        let config =
            off_orders_service::Config::new(world.db_config(), world.bus_config(), std::time::Duration::from_mins(4));
        let orders = Running::start_ready::<OrdersService>(config, Clock::real(1.0)).await;
        Self { world, users, orders }
    }

    /// The settings of a generator without households and events of its own.
    fn config(&self) -> Config {
        Config {
            bus: self.world.bus_config(),
            users_url: self.users.http.base().parse().expect("a URL"),
            orders_url: self.orders.http.base().parse().expect("a URL"),
            run_period: None,
            rate: 0.0,
            registration_weight: 1,
            order_weight: 1,
            consumption_weight: 1,
            households: 0,
            supplier_delay_max: Duration::ZERO,
            delivery_delay_max: Duration::ZERO,
            seed: 7,
        }
    }

    async fn start(&self, config: Config) -> Running {
        Running::start_ready::<Generator>(config, Clock::real(1.0)).await
    }

    async fn emails(&self) -> Vec<String> {
        sqlx::query_scalar("SELECT email FROM users.users ORDER BY email")
            .fetch_all(&self.world.database.pool)
            .await
            .expect("the users can be listed")
    }

    /// The generated devices, ordered by id.
    async fn devices(&self) -> Vec<(i64, String)> {
        sqlx::query_as("SELECT id, mac_address FROM users.devices WHERE mac_address LIKE '02:0f:%' ORDER BY id")
            .fetch_all(&self.world.database.pool)
            .await
            .expect("the devices can be listed")
    }

    /// The planned orders, without those of devices that are low.
    async fn orders_by_number(&self) -> EventsByNumber {
        self.by_number(
            "SELECT split_part(idempotency_key, ':', 2)::bigint, ssd_id, barcode, quantity FROM orders.product_orders
             WHERE idempotency_key ~ '^[0-9a-f-]{36}:'",
        )
        .await
    }

    async fn consumptions_by_number(&self) -> EventsByNumber {
        self.by_number("SELECT split_part(id, ':', 2)::bigint, ssd_id, barcode, quantity FROM users.consumptions").await
    }

    async fn by_number(&self, query: &'static str) -> EventsByNumber {
        let rows: Vec<(i64, i64, String, i32)> =
            sqlx::query_as(query).fetch_all(&self.world.database.pool).await.expect("the events can be listed");
        rows.into_iter().map(|(number, ssd, barcode, quantity)| (number, (ssd, barcode, quantity))).collect()
    }

    /// `Some` once there are enough events to compare.
    async fn has_enough_events(&self) -> Option<()> {
        let (orders, consumptions) = tokio::join!(self.orders_by_number(), self.consumptions_by_number());
        (orders.len() >= 130 && consumptions.len() >= 80).then_some(())
    }

    /// The placed orders.
    async fn list_orders(&self) -> Vec<Value> {
        self.orders.http.get("/api/orders").await.body["orders"].as_array().cloned().unwrap_or_default()
    }
}

#[tokio::test]
async fn the_same_seed_registers_the_same_households_once() {
    let system = TestSystem::new().await;
    let generator = system.start(Config { households: 5, ..system.config() }).await;
    eventually("5 households", || async { (system.emails().await.len() == 5).then_some(()) }).await;
    generator.stop().await;
    let first = system.emails().await;

    let generator = system.start(Config { households: 7, ..system.config() }).await;
    eventually("7 households", || async { (system.emails().await.len() == 7).then_some(()) }).await;
    generator.stop().await;

    let other = TestSystem::new().await;
    let generator = other.start(Config { households: 7, ..other.config() }).await;
    eventually("7 households", || async { (other.emails().await.len() == 7).then_some(()) }).await;
    generator.stop().await;
    assert_eq!(other.emails().await, system.emails().await);
    assert_eq!(other.devices().await, system.devices().await);
    assert!(first.iter().all(|email| email.contains(".7.")), "{first:?}");
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// A seed determines the events of a run. One system is idle; in the other, a client places orders all the time and the
/// users service starts late.
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
    let settings = |system: &TestSystem| Config {
        households: 12,
        rate: 60.0,
        registration_weight: 1,
        order_weight: 5,
        consumption_weight: 6,
        ..system.config()
    };
    let both = async {
        let generator = idle.start(settings(&idle)).await;
        eventually("events of the idle system", || idle.has_enough_events()).await;
        generator.stop().await;
        let port = free_port();
        let users_url = format!("http://127.0.0.1:{port}").parse().expect("a URL");
        let generator = Running::start::<Generator>(Config { users_url, ..settings(&busy) }, Clock::real(1.0)).await;
        let config = off_users_service::Config { db: busy.world.db_config(), bus: busy.world.bus_config() };
        let late = Running::start_at::<UsersService>(config, Clock::real(1.0), port).await;
        eventually("events of the busy system", || busy.has_enough_events()).await;
        generator.stop().await;
        late.stop().await;
    };
    tokio::select! {
        () = load => {}
        () = both => {}
    }
    let (one, other) = (idle.devices().await, busy.devices().await);
    assert_eq!(one[..20], other[..20]);
    let (one, other) = (idle.orders_by_number().await, busy.orders_by_number().await);
    assert_same(&one, &other, 100);
    let (one, other) = (idle.consumptions_by_number().await, busy.consumptions_by_number().await);
    assert_same(&one, &other, 50);
    let devices: HashSet<i64> = one.values().map(|(ssd, ..)| *ssd).collect();
    assert!(devices.len() > 5 && !devices.contains(&other_device), "{devices:?}");
}

/// Events by their number, each with its device, product and quantity.
type EventsByNumber = BTreeMap<i64, (i64, String, i32)>;

/// Asserts that two runs had the same events, and at least `at_least` of them.
fn assert_same(one: &EventsByNumber, other: &EventsByNumber, at_least: usize) {
    let last = one.keys().last().min(other.keys().last()).copied().expect("an event");
    let until = |events: &EventsByNumber| -> EventsByNumber {
        // The last events may have been in progress at the shutdown.
        events.range(..last - 20).map(|(number, event)| (*number, event.clone())).collect()
    };
    assert!(until(one).len() >= at_least, "{}", until(one).len());
    assert_eq!(until(one), until(other));
}

#[tokio::test]
async fn orders_are_for_generated_households_only() {
    let system = TestSystem::new().await;
    let real = system.world.add_device().await;
    let config = Config { households: 1, rate: 10.0, registration_weight: 0, consumption_weight: 0, ..system.config() };
    let generator = system.start(config).await;
    eventually("8 orders", || async { (system.list_orders().await.len() >= 8).then_some(()) }).await;
    generator.stop().await;
    let placed = system.list_orders().await;
    assert!(placed.iter().all(|order| order["ssd_id"] != real), "{placed:?}");
    let products: HashSet<&str> = placed.iter().filter_map(|order| order["barcode"].as_str()).collect();
    assert!(products.len() > 1, "{products:?}");
}

#[tokio::test]
async fn with_a_period_orders_are_placed_one_by_one() {
    let system = TestSystem::new().await;
    let config =
        Config { households: 1, run_period: Some(1), registration_weight: 0, consumption_weight: 0, ..system.config() };
    let generator = system.start(config).await;
    eventually("2 orders", || async { (system.list_orders().await.len() == 2).then_some(()) }).await;
    generator.stop().await;
}

#[tokio::test]
async fn a_household_with_a_taken_address_is_skipped() {
    let system = TestSystem::new().await;
    let generator = system.start(Config { households: 1, ..system.config() }).await;
    eventually("a household", || async { (system.emails().await.len() == 1).then_some(()) }).await;
    generator.stop().await;
    // Without devices, the generator does not find its household, but the e-mail address is still registered.
    sqlx::query("DELETE FROM users.devices")
        .execute(&system.world.database.pool)
        .await
        .expect("the devices are deleted");

    let config = Config { households: 3, rate: 20.0, registration_weight: 0, ..system.config() };
    let generator = system.start(config).await;
    eventually("3 households", || async { (system.emails().await.len() == 3).then_some(()) }).await;
    eventually("5 orders", || async { (system.list_orders().await.len() >= 5).then_some(()) }).await;
    generator.stop().await;
}

#[tokio::test]
async fn a_generated_device_that_is_low_orders_once_and_a_real_one_does_not() {
    let system = TestSystem::new().await;
    let real = system.world.add_device().await;
    let generator = system.start(Config { households: 1, ..system.config() }).await;
    eventually("a household", || async { (system.emails().await.len() == 2).then_some(()) }).await;
    let low = |ssd: i64| {
        json!({"ssd_id": ssd, "barcode": LENTILS, "quantity": 1, "reorder_point": 2,
            "timestamp": "2026-01-01T00:00:00.000007Z"})
    };
    system.world.publish("stock.low", &low(real + 1)).await;
    system.world.publish("stock.low", &low(real + 1)).await;
    system.world.publish("stock.low", &low(real)).await;
    system.world.publish_bytes("stock.low", b"poison".to_vec()).await;
    system.world.wait_for_dead_letters(1).await;
    system.world.caught_up(&streams::DEVICES_LOW).await;
    let placed = system.list_orders().await;
    assert_eq!(placed.len(), 1, "{placed:?}");
    assert_eq!((&placed[0]["ssd_id"], &placed[0]["barcode"]), (&json!(real + 1), &json!(LENTILS)));
    generator.stop().await;
}

#[tokio::test]
async fn an_ordered_product_is_consumed_and_reordered() {
    let system = TestSystem::new().await;
    let generator = system.start(Config { households: 1, rate: 20.0, registration_weight: 0, ..system.config() }).await;
    let reports = system.world.wait_for_messages("STOCK", "stock.consumed", 1).await;
    let report: Value = serde_json::from_slice(&reports[0].payload).expect("JSON");
    let placed = system.list_orders().await;
    let is_ordered = |order: &Value| (&order["ssd_id"], &order["barcode"]) == (&report["ssd_id"], &report["barcode"]);
    assert!(placed.iter().any(is_ordered), "{report} in {placed:?}");
    // Nothing is delivered in this test, so the product is low and the device orders.
    eventually("an order of the device", || async {
        sqlx::query_scalar::<_, i32>("SELECT quantity FROM orders.product_orders WHERE idempotency_key LIKE 'low:%'")
            .fetch_optional(&system.world.database.pool)
            .await
            .expect("the orders can be listed")
    })
    .await;
    generator.stop().await;
}

#[tokio::test]
async fn the_generator_waits_for_an_unavailable_service() {
    let system = TestSystem::new().await;
    let port = free_port();
    let users_url = format!("http://127.0.0.1:{port}").parse().expect("a URL");
    let generator =
        Running::start::<Generator>(Config { users_url, households: 3, ..system.config() }, Clock::real(1.0)).await;
    assert_eq!(generator.health.get("/livez").await.status, 200);
    let config = off_users_service::Config { db: system.world.db_config(), bus: system.world.bus_config() };
    let _late = Running::start_at::<UsersService>(config, Clock::real(1.0), port).await;
    eventually("3 households", || async { (system.emails().await.len() == 3).then_some(()) }).await;
    generator.stop().await;
}

#[tokio::test]
async fn the_program_starts_and_exits_successfully_on_sigterm() {
    let system = TestSystem::new().await;
    let settings = [
        ("NATS_URL", &*system.world.nats.url),
        ("USERS_URL", system.users.http.base()),
        ("ORDERS_URL", system.orders.http.base()),
        ("HTTP_SERVICE_PORT", "0"),
        ("GENERATOR_HOUSEHOLDS", "2"),
    ];
    let program = Program::start(env!("CARGO_BIN_EXE_off-generator"), &settings).await;
    eventually("2 households", || async { (system.emails().await.len() == 2).then_some(()) }).await;
    assert!(program.terminate().await);
}

#[test]
fn the_document_is_what_was_agreed() {
    insta::assert_json_snapshot!(Generator::openapi());
}
