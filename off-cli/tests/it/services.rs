//! The four services of orders on the servers of a test world, and a device that orders.

use futures::{StreamExt, stream};
use off_billing_service::BillingService;
use off_events::streams::ORDER_CONSUMERS;
use off_kit::{Clock, bus::dead_letters};
use off_notifications_service::{MailConfig, NotificationsService};
use off_orders_service::OrdersService;
use off_testkit::{LENTILS, Running, World, eventually_within};
use off_users_service::UsersService;
use serde_json::json;
use std::time::Duration;

/// Enough for all orders of a test, in cents.
const MONEY: i64 = 1_000_000_000;

pub(crate) struct Services {
    pub(crate) world: World,
    ssd: i64,
    users: Running,
    orders: Running,
    billing: Running,
    notifications: Running,
}

impl Services {
    /// Starts the services; suppliers take `supplier_delay`, deliveries take no time. The orders service expects that
    /// suppliers take no time, either, so that an order which waits is overdue after 2 s.
    pub(crate) async fn start(world: World, supplier_delay: Duration) -> Self {
        let ssd = world.add_device().await;
        world.give_money(world.owner_of(ssd).await, MONEY).await;
        let users = off_users_service::Config {
            db: world.db_config(),
            bus: world.bus_config(),
            auth_url: "http://127.0.0.1:8085".parse().unwrap(),
        };
        let orders = off_orders_service::Config::new(world.db_config(), world.bus_config(), Duration::ZERO);
        let billing = off_billing_service::Config { db: world.db_config(), bus: world.bus_config() };
        let clock = Clock::real(1.0);
        Self {
            users: Running::start_ready::<UsersService>(users, clock).await,
            orders: Running::start_ready::<OrdersService>(orders, clock.with_short_timeouts(5)).await,
            billing: Running::start_ready::<BillingService>(billing, clock).await,
            notifications: start_notifications(&world, supplier_delay).await,
            world,
            ssd,
        }
    }

    /// Restarts the notifications service with suppliers that take `supplier_delay`.
    pub(crate) async fn change_supplier_delay(&mut self, supplier_delay: Duration) {
        let restarted = start_notifications(&self.world, supplier_delay).await;
        std::mem::replace(&mut self.notifications, restarted).stop().await;
    }

    /// Places `count` orders of one pack of lentils each.
    pub(crate) async fn place(&self, count: usize) {
        let order_request = json!({"ssd_id": self.ssd, "barcode": LENTILS, "quantity": 1});
        let responses = stream::iter(0..count).map(|_| self.orders.http.post("/api/orders", &order_request));
        let responses = responses.buffer_unordered(128);
        assert!(responses.all(|response| async move { response.status == 201 }).await);
    }

    /// The first value of a query. Panics if there is none.
    pub(crate) async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.world.database.pool).await.unwrap()
    }

    /// Waits until the shelf of the device holds `quantity` units.
    pub(crate) async fn assert_shelf_holds(&self, quantity: usize, timeout: Duration) {
        let on_the_shelf = "SELECT coalesce(sum(quantity), 0)::bigint FROM users.shelf_items";
        eventually_within(timeout, "everything is on the shelf", || async {
            (usize::try_from(self.count(on_the_shelf).await) == Ok(quantity)).then_some(())
        })
        .await;
    }

    /// Waits until the services have handled everything, stops them, and asserts that the test leaves nothing behind.
    pub(crate) async fn end(self) {
        // Thousands of messages take longer than the end of a test waits.
        for consumer in ORDER_CONSUMERS {
            self.world.nats.wait_until_caught_up(&consumer).await;
        }
        let services = vec![self.notifications, self.billing, self.orders, self.users];
        self.world.end_after(services, &[]).await;
    }

    /// Stops the services, and asserts that there are no dead letters. For a test whose broker dropped messages: those
    /// that were delivered count as unacknowledged until the ack wait of half a minute ends.
    pub(crate) async fn end_with_dropped_messages(self) {
        for service in [self.notifications, self.billing, self.orders, self.users] {
            service.stop().await;
        }
        assert!(dead_letters::list(&self.world.nats.bus).await.unwrap().is_empty());
        self.world.abandon();
    }
}

async fn start_notifications(world: &World, supplier_delay: Duration) -> Running {
    let config = off_notifications_service::Config {
        db: world.db_config(),
        bus: world.bus_config(),
        mail: MailConfig::none(),
        supplier_delay_min: supplier_delay,
        supplier_delay_max: supplier_delay,
        delivery_delay_min: Duration::ZERO,
        delivery_delay_max: Duration::ZERO,
        seed: 0,
    };
    Running::start_ready::<NotificationsService>(config, Clock::real(1.0)).await
}
