//! The generator, seen from outside, beside the real services.

#![expect(clippy::expect_used, reason = "what goes wrong here fails the test that asked")]

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

/// A world with both services, and the settings of a generator in it that does nothing by itself.
struct Town {
    world: World,
    users: Running,
    orders: Running,
}

impl Town {
    async fn new() -> Self {
        let world = World::new().await;
        let config = off_users_service::Config { db: world.db_config(), bus: world.bus_config() };
        let users = Running::start_ready::<UsersService>(config, Clock::real(1.0)).await;
        let config =
            off_orders_service::Config::new(world.db_config(), world.bus_config(), std::time::Duration::from_mins(4));
        let orders = Running::start_ready::<OrdersService>(config, Clock::real(1.0)).await;
        Self { world, users, orders }
    }

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
            .expect("the people are listed")
    }

    /// The devices that are played, by their ids.
    async fn devices(&self) -> Vec<(i64, String)> {
        sqlx::query_as("SELECT id, mac_address FROM users.ssds WHERE mac_address LIKE '02:0f:%' ORDER BY id")
            .fetch_all(&self.world.database.pool)
            .await
            .expect("the devices are listed")
    }

    /// The orders that the generator placed by itself.
    async fn orders_by_number(&self) -> Numbered {
        self.by_number(
            "SELECT split_part(idempotency_key, ':', 2)::bigint, ssd_id, barcode, quantity FROM orders.product_orders
             WHERE idempotency_key ~ '^[0-9a-f-]{36}:'",
        )
        .await
    }

    async fn consumptions_by_number(&self) -> Numbered {
        self.by_number("SELECT split_part(id, ':', 2)::bigint, ssd_id, barcode, quantity FROM users.consumptions").await
    }

    async fn by_number(&self, query: &'static str) -> Numbered {
        let rows: Vec<(i64, i64, String, i32)> =
            sqlx::query_as(query).fetch_all(&self.world.database.pool).await.expect("events are listed");
        rows.into_iter().map(|(number, ssd, barcode, quantity)| (number, (ssd, barcode, quantity))).collect()
    }

    /// Once there is enough to compare.
    async fn enough(&self) -> Option<()> {
        let (orders, consumptions) = tokio::join!(self.orders_by_number(), self.consumptions_by_number());
        (orders.len() >= 130 && consumptions.len() >= 80).then_some(())
    }

    /// The orders that were placed.
    async fn placed(&self) -> Vec<Value> {
        self.orders.http.get("/api/orders").await.body["orders"].as_array().cloned().unwrap_or_default()
    }
}

#[tokio::test]
async fn households_settle_the_same_ones_for_the_same_seed_and_none_twice() {
    let town = Town::new().await;
    let generator = town.start(Config { households: 5, ..town.config() }).await;
    eventually("5 households", || async { (town.emails().await.len() == 5).then_some(()) }).await;
    generator.stop().await;
    let first = town.emails().await;

    let generator = town.start(Config { households: 7, ..town.config() }).await;
    eventually("7 households", || async { (town.emails().await.len() == 7).then_some(()) }).await;
    generator.stop().await;

    let other = Town::new().await;
    let generator = other.start(Config { households: 7, ..other.config() }).await;
    eventually("7 households", || async { (other.emails().await.len() == 7).then_some(()) }).await;
    generator.stop().await;
    assert_eq!(other.emails().await, town.emails().await);
    assert_eq!(other.devices().await, town.devices().await);
    assert!(first.iter().all(|email| email.contains(".7.")), "{first:?}");
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// The promise that a seed repeats a run: one town does nothing else, in the other somebody orders all the time, and the users
/// service comes late.
#[tokio::test]
async fn the_same_seed_brings_the_same_events_however_busy_the_services_are() {
    let (quiet, busy) = (Town::new().await, Town::new().await);
    let other_device = busy.world.add_device().await;
    quiet.world.add_device().await;
    let load = async {
        let order = json!({"ssd_id": other_device, "barcode": LENTILS, "quantity": 1});
        loop {
            join_all((0..16).map(|_| busy.orders.http.post("/api/orders", &order))).await;
        }
    };
    let settings = |town: &Town| Config {
        households: 12,
        rate: 60.0,
        registration_weight: 1,
        order_weight: 5,
        consumption_weight: 6,
        ..town.config()
    };
    let both = async {
        let generator = quiet.start(settings(&quiet)).await;
        eventually("events in the quiet town", || quiet.enough()).await;
        generator.stop().await;
        let port = free_port();
        let users_url = format!("http://127.0.0.1:{port}").parse().expect("a URL");
        let generator = Running::start::<Generator>(Config { users_url, ..settings(&busy) }, Clock::real(1.0)).await;
        let config = off_users_service::Config { db: busy.world.db_config(), bus: busy.world.bus_config() };
        let late = Running::start_at::<UsersService>(config, Clock::real(1.0), port).await;
        eventually("events in the busy town", || busy.enough()).await;
        generator.stop().await;
        late.stop().await;
    };
    tokio::select! {
        () = load => {}
        () = both => {}
    }
    let (one, other) = (quiet.devices().await, busy.devices().await);
    assert_eq!(one[..20], other[..20]);
    let (one, other) = (quiet.orders_by_number().await, busy.orders_by_number().await);
    assert_same(&one, &other, 100);
    let (one, other) = (quiet.consumptions_by_number().await, busy.consumptions_by_number().await);
    assert_same(&one, &other, 50);
    let devices: HashSet<i64> = one.values().map(|(ssd, ..)| *ssd).collect();
    assert!(devices.len() > 5 && !devices.contains(&other_device), "{devices:?}");
}

/// Events by their number: the device, the product and how much of it.
type Numbered = BTreeMap<i64, (i64, String, i32)>;

/// Whether two runs had the same events; at least so many of them.
fn assert_same(one: &Numbered, other: &Numbered, at_least: usize) {
    let last = one.keys().last().min(other.keys().last()).copied().expect("an event");
    let until = |events: &Numbered| -> Numbered {
        // The last ones may still have been under way when it was stopped.
        events.range(..last - 20).map(|(number, event)| (*number, event.clone())).collect()
    };
    assert!(until(one).len() >= at_least, "{}", until(one).len());
    assert_eq!(until(one), until(other));
}

#[tokio::test]
async fn orders_are_for_its_own_households_and_products_of_the_catalogue() {
    let town = Town::new().await;
    let real = town.world.add_device().await;
    let config = Config { households: 1, rate: 10.0, registration_weight: 0, consumption_weight: 0, ..town.config() };
    let generator = town.start(config).await;
    eventually("8 orders", || async { (town.placed().await.len() >= 8).then_some(()) }).await;
    generator.stop().await;
    let placed = town.placed().await;
    assert!(placed.iter().all(|order| order["ssd_id"] != real), "{placed:?}");
    let products: HashSet<&str> = placed.iter().filter_map(|order| order["product_id"].as_str()).collect();
    assert!(products.len() > 1, "{products:?}");
}

#[tokio::test]
async fn with_a_period_one_thing_happens_at_a_time() {
    let town = Town::new().await;
    let config =
        Config { households: 1, run_period: Some(1), registration_weight: 0, consumption_weight: 0, ..town.config() };
    let generator = town.start(config).await;
    eventually("2 orders", || async { (town.placed().await.len() == 2).then_some(()) }).await;
    generator.stop().await;
}

#[tokio::test]
async fn a_household_whose_address_somebody_else_has_takes_no_part() {
    let town = Town::new().await;
    let generator = town.start(Config { households: 1, ..town.config() }).await;
    eventually("a household", || async { (town.emails().await.len() == 1).then_some(()) }).await;
    generator.stop().await;
    // It looks as if it had never been there, but for its e-mail address.
    sqlx::query("DELETE FROM users.ssds").execute(&town.world.database.pool).await.expect("its devices are gone");

    let config = Config { households: 3, rate: 20.0, registration_weight: 0, ..town.config() };
    let generator = town.start(config).await;
    eventually("3 households", || async { (town.emails().await.len() == 3).then_some(()) }).await;
    eventually("5 orders", || async { (town.placed().await.len() >= 5).then_some(()) }).await;
    generator.stop().await;
}

#[tokio::test]
async fn a_device_that_is_low_orders_once_and_a_real_one_is_left_alone() {
    let town = Town::new().await;
    let real = town.world.add_device().await;
    let generator = town.start(Config { households: 1, ..town.config() }).await;
    eventually("a household", || async { (town.emails().await.len() == 2).then_some(()) }).await;
    let low = |ssd: i64| {
        json!({"ssd_id": ssd, "barcode": LENTILS, "quantity": 1, "reorder_point": 2,
            "timestamp": "2026-01-01T00:00:00.000007Z"})
    };
    town.world.say("stock.low", &low(real + 1)).await;
    town.world.say("stock.low", &low(real + 1)).await;
    town.world.say("stock.low", &low(real)).await;
    town.world.say_bytes("stock.low", b"poison".to_vec()).await;
    town.world.bury(1).await;
    town.world.caught_up(&streams::DEVICES_LOW).await;
    let placed = town.placed().await;
    assert_eq!(placed.len(), 1, "{placed:?}");
    assert_eq!((&placed[0]["ssd_id"], &placed[0]["product_id"]), (&json!(real + 1), &json!(LENTILS)));
    generator.stop().await;
}

#[tokio::test]
async fn what_was_ordered_is_eaten_and_ordered_again() {
    let town = Town::new().await;
    let generator = town.start(Config { households: 1, rate: 20.0, registration_weight: 0, ..town.config() }).await;
    let heard = town.world.hear("STOCK", "stock.consumed", 1).await;
    let report: Value = serde_json::from_slice(&heard[0].payload).expect("JSON");
    let placed = town.placed().await;
    let is_ordered =
        |order: &Value| (&order["ssd_id"], &order["product_id"]) == (&report["ssd_id"], &report["barcode"]);
    assert!(placed.iter().any(is_ordered), "{report} in {placed:?}");
    // Nothing is delivered here, so the shelf is low, and the device orders.
    eventually("an order of the device", || async {
        sqlx::query_scalar::<_, i32>("SELECT quantity FROM orders.product_orders WHERE idempotency_key LIKE 'low:%'")
            .fetch_optional(&town.world.database.pool)
            .await
            .expect("orders are listed")
    })
    .await;
    generator.stop().await;
}

#[tokio::test]
async fn it_waits_for_services_that_are_away() {
    let town = Town::new().await;
    let port = free_port();
    let users_url = format!("http://127.0.0.1:{port}").parse().expect("a URL");
    let generator =
        Running::start::<Generator>(Config { users_url, households: 3, ..town.config() }, Clock::real(1.0)).await;
    assert_eq!(generator.health.get("/livez").await.status, 200);
    let config = off_users_service::Config { db: town.world.db_config(), bus: town.world.bus_config() };
    let _late = Running::start_at::<UsersService>(config, Clock::real(1.0), port).await;
    eventually("3 households", || async { (town.emails().await.len() == 3).then_some(()) }).await;
    generator.stop().await;
}

#[tokio::test]
async fn answers_that_are_no_answers_disturb_nothing() {
    let town = Town::new().await;
    let client = &town.world.nats.bus.client;
    let config = Config { households: 1, rate: 10.0, registration_weight: 0, consumption_weight: 0, ..town.config() };
    let generator = town.start(config).await;
    for (subject, body) in [("orders.new", "poison"), ("orders.completed", "poison"), ("orders.random", "\u{0}")] {
        client.publish(subject, body.into()).await.expect("it is sent");
    }
    eventually("2 orders", || async { (town.placed().await.len() >= 2).then_some(()) }).await;
    generator.stop().await;
}

#[tokio::test]
async fn it_runs_as_a_program_and_ends_well_when_asked() {
    let town = Town::new().await;
    let settings = [
        ("NATS_URL", &*town.world.nats.url),
        ("USERS_URL", town.users.http.base()),
        ("ORDERS_URL", town.orders.http.base()),
        ("HTTP_SERVICE_PORT", "0"),
        ("GENERATOR_HOUSEHOLDS", "2"),
    ];
    let program = Program::start(env!("CARGO_BIN_EXE_off-generator"), &settings).await;
    eventually("2 households", || async { (town.emails().await.len() == 2).then_some(()) }).await;
    assert!(program.terminate().await);
}

#[test]
fn the_document_is_what_was_agreed() {
    insta::assert_json_snapshot!(Generator::openapi());
}
