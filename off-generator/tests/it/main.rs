//! Black-box tests of the generator with the real services.

#![expect(clippy::expect_used, reason = "a failure in a helper must fail the calling test")]

mod income;
mod openapi;
mod orders;
mod program;
mod registration;
mod repeated_runs;
mod stock;

use off_billing_service::BillingService;
use off_events::StockLow;
use off_generator::{Config, Generator};
use off_kit::{
    Clock,
    auth::{Credentials, Scope, Subject},
};
use off_orders_service::OrdersService;
use off_testkit::{Leftover, Running, World, eventually, tokens};
use off_users_service::UsersService;
use serde_json::{Value, json};
use std::{net::TcpListener, time::Duration};

/// The users service, the orders service and the billing service with a private database and NATS server.
struct TestSystem {
    world: World,
    users: Running,
    orders: Running,
    billing: Running,
}

impl TestSystem {
    async fn new() -> Self {
        let world = World::new().await;
        let config = off_users_service::Config {
            db: world.db_config(),
            bus: world.bus_config(),
            auth_url: "http://127.0.0.1:8085".parse().expect("a URL"),
        };
        let users = Running::start_ready::<UsersService>(config, Clock::real(1.0)).await;
        let config = off_orders_service::Config::new(world.db_config(), world.bus_config(), Duration::from_mins(4));
        let orders = Running::start_ready::<OrdersService>(config, Clock::real(1.0)).await;
        let config = off_billing_service::Config { db: world.db_config(), bus: world.bus_config() };
        let billing = Running::start_ready::<BillingService>(config, Clock::real(1.0)).await;
        Self { world, users, orders, billing }
    }

    /// The settings of a generator without households and events.
    fn config(&self) -> Config {
        Config {
            bus: self.world.bus_config(),
            credentials: Credentials {
                auth_token_url: "http://127.0.0.1:1".parse().expect("a URL"),
                client_secret_file: None,
                token: Some(tokens::token(&Subject::Client("generator".to_owned()), &[Scope::Simulate])),
            },
            users_url: self.users.http.base().parse().expect("a URL"),
            orders_url: self.orders.http.base().parse().expect("a URL"),
            billing_url: self.billing.http.base().parse().expect("a URL"),
            run_period: None,
            rate: 0.0,
            registration_weight: 1,
            order_weight: 1,
            consumption_weight: 1,
            households: 0,
            pay_interval: Duration::from_hours(1),
            income: 1.0,
            supplier_delay_max: Duration::ZERO,
            delivery_delay_max: Duration::ZERO,
            seed: 7,
        }
    }

    /// The settings of a generator with one household, which only places orders, `rate` per second.
    fn config_that_orders(&self, rate: f64) -> Config {
        Config { households: 1, rate, registration_weight: 0, consumption_weight: 0, ..self.config() }
    }

    /// Starts a generator and waits until it is ready.
    async fn start(&self, config: Config) -> Running {
        Box::pin(Running::start_ready::<Generator>(config, Clock::real(1.0))).await
    }

    /// Starts a generator whose users service is unavailable, and starts that service afterwards; returns both.
    async fn start_before_users(&self, config: Config) -> (Running, Running) {
        let port = find_free_port();
        let users_url = format!("http://127.0.0.1:{port}").parse().expect("a URL");
        let generator = Running::start::<Generator>(Config { users_url, ..config }, Clock::real(1.0)).await;
        assert_eq!(generator.health.get("/livez").await.status, 200);
        let config = off_users_service::Config {
            db: self.world.db_config(),
            bus: self.world.bus_config(),
            auth_url: "http://127.0.0.1:8085".parse().expect("a URL"),
        };
        (generator, Running::start_at::<UsersService>(config, Clock::real(1.0), port).await)
    }

    /// The e-mail addresses of all people, sorted.
    async fn list_emails(&self) -> Vec<String> {
        sqlx::query_scalar("SELECT email FROM users.users ORDER BY email")
            .fetch_all(&self.world.database.pool)
            .await
            .expect("the users can be listed")
    }

    /// The generated devices with their addresses, ordered by id.
    async fn list_generated_devices(&self) -> Vec<(i64, String)> {
        sqlx::query_as("SELECT id, mac_address FROM users.devices WHERE mac_address LIKE '02:0f:%' ORDER BY id")
            .fetch_all(&self.world.database.pool)
            .await
            .expect("the devices can be listed")
    }

    /// The placed orders, as the API returns them.
    async fn list_orders(&self) -> Vec<Value> {
        self.orders.http.get("/api/orders").await.body["orders"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until `count` people are registered.
    async fn wait_until_registered(&self, count: usize) {
        eventually(&format!("{count} people are registered"), || async {
            (self.list_emails().await.len() == count).then_some(())
        })
        .await;
    }

    /// Waits until at least `count` orders are placed; returns them.
    async fn wait_for_orders(&self, count: usize) -> Vec<Value> {
        eventually(&format!("{count} orders"), || async {
            let orders = self.list_orders().await;
            (orders.len() >= count).then_some(orders)
        })
        .await
    }

    /// Publishes that a device has too little of a product on its shelf.
    async fn report_low(&self, ssd: i64, barcode: &str) {
        let low = json!({"ssd_id": ssd, "barcode": barcode, "quantity": 1, "reorder_point": 2,
            "timestamp": "2026-01-01T00:00:00.000007Z"});
        self.world.nats.publish(StockLow::SUBJECT, &low).await;
    }

    /// Waits until a device that is low has ordered.
    async fn wait_until_reordered(&self) {
        let query = "SELECT quantity FROM orders.product_orders WHERE idempotency_key LIKE 'low:%'";
        eventually("an order of a device that is low", || async {
            sqlx::query_scalar::<_, i32>(query)
                .fetch_optional(&self.world.database.pool)
                .await
                .expect("the orders can be listed")
        })
        .await;
    }

    /// Stops the services after they have handled everything, and asserts that the test leaves nothing behind. An idle
    /// generator handles what the stopped one did not.
    async fn end(self) {
        self.end_leaving(&[]).await;
    }

    /// [`TestSystem::end`] of a test that leaves exactly these kinds of leftovers behind.
    async fn end_leaving(self, leftovers: &[Leftover]) {
        let generator = self.start(self.config()).await;
        self.world.end_after(vec![generator, self.orders, self.billing, self.users], leftovers).await;
    }
}

fn find_free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}
