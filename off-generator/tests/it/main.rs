//! The generator, seen from outside, beside the real services.

#![expect(clippy::expect_used, reason = "what goes wrong here fails the test that asked")]

use futures::StreamExt;
use off_events::streams;
use off_generator::{Config, Generator};
use off_kit::{Clock, Service};
use off_orders_service::OrdersService;
use off_testkit::{LENTILS, Program, Running, World, eventually};
use off_users_service::UsersService;
use serde_json::{Value, json};
use std::net::TcpListener;

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
    assert!(first.iter().all(|email| email.contains(".7.")), "{first:?}");
}

#[tokio::test]
async fn orders_are_placed_for_what_the_services_draw() {
    let town = Town::new().await;
    let ssd = town.world.add_device().await;
    let config = Config { rate: 10.0, registration_weight: 0, consumption_weight: 0, ..town.config() };
    let generator = town.start(config).await;
    eventually("5 orders", || async { (town.placed().await.len() >= 5).then_some(()) }).await;
    generator.stop().await;
    assert!(town.placed().await.iter().all(|order| order["ssd_id"] == ssd));
}

#[tokio::test]
async fn with_a_period_one_thing_happens_at_a_time() {
    let town = Town::new().await;
    town.world.add_device().await;
    let config = Config { run_period: Some(1), registration_weight: 0, consumption_weight: 0, ..town.config() };
    let generator = town.start(config).await;
    eventually("2 orders", || async { (town.placed().await.len() == 2).then_some(()) }).await;
    generator.stop().await;
}

#[tokio::test]
async fn while_nobody_is_registered_nothing_is_ordered() {
    let town = Town::new().await;
    let config = Config { rate: 20.0, registration_weight: 0, consumption_weight: 0, ..town.config() };
    let generator = town.start(config).await;
    let mut answers = town.world.nats.bus.client.subscribe("orders.new").await.expect("the answers are heard");
    let nobody = json!({"ssd_id": null});
    while serde_json::from_slice::<Value>(&answers.next().await.expect("an answer").payload).ok()
        != Some(nobody.clone())
    {}
    assert!(town.placed().await.is_empty());
    let ssd = town.world.add_device().await;
    eventually("an order, now that there is a device", || async {
        town.placed().await.iter().find(|order| order["ssd_id"] == ssd).cloned()
    })
    .await;
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
async fn what_stands_on_a_shelf_is_eaten() {
    let town = Town::new().await;
    let config = Config { households: 1, rate: 20.0, registration_weight: 0, order_weight: 0, ..town.config() };
    let generator = town.start(config).await;
    let ssd: i64 = eventually("a device", || async {
        sqlx::query_scalar("SELECT id FROM users.ssds LIMIT 1").fetch_optional(&town.world.database.pool).await.ok()?
    })
    .await;
    let order = json!({"id": "01890a5d-ac96-774b-bcce-b302099a8057", "ssd_id": ssd, "product_id": LENTILS,
        "timestamp": "2026-01-01T00:00:00Z", "quantity": 9, "status": "completed"});
    town.world.say("orders.completed", &order).await;
    let heard = town.world.hear("STOCK", "stock.consumed", 1).await;
    let report: Value = serde_json::from_slice(&heard[0].payload).expect("JSON");
    assert_eq!((&report["ssd_id"], &report["barcode"]), (&json!(ssd), &json!(LENTILS)));
    // It goes on until the shelf is low, and then the device orders.
    eventually("an order of the device", || async { town.placed().await.first().cloned() }).await;
    generator.stop().await;
}

#[tokio::test]
async fn it_waits_for_services_that_are_away() {
    let town = Town::new().await;
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
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
    town.world.add_device().await;
    let client = &town.world.nats.bus.client;
    let config = Config { rate: 10.0, registration_weight: 0, consumption_weight: 0, ..town.config() };
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
