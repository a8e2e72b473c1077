//! Runs the three services on the servers of a test world, and places orders.

use futures::{StreamExt, stream};
use off_kit::Clock;
use off_notifications_service::NotificationsService;
use off_orders_service::OrdersService;
use off_testkit::{LENTILS, Running, World};
use off_users_service::UsersService;
use serde_json::json;
use std::time::Duration;

pub(crate) struct Services {
    users: Running,
    orders: Running,
    notifications: Running,
}

impl Services {
    /// Starts the services; suppliers take `supplier_delay`, deliveries take no time.
    pub(crate) async fn start(world: &World, supplier_delay: Duration) -> Self {
        let users = off_users_service::Config { db: world.db_config(), bus: world.bus_config() };
        let orders = off_orders_service::Config::new(world.db_config(), world.bus_config(), supplier_delay);
        let notifications = off_notifications_service::Config {
            bus: world.bus_config(),
            supplier_delay_min: supplier_delay,
            supplier_delay_max: supplier_delay,
            delivery_delay_min: Duration::ZERO,
            delivery_delay_max: Duration::ZERO,
            seed: 0,
        };
        let clock = || Clock::real(1.0);
        Self {
            users: Running::start_ready::<UsersService>(users, clock()).await,
            orders: Running::start_ready::<OrdersService>(orders, clock()).await,
            notifications: Running::start_ready::<NotificationsService>(notifications, clock()).await,
        }
    }

    /// Places `count` orders of one pack of lentils each.
    pub(crate) async fn place(&self, ssd: i64, count: usize) {
        let order_request = json!({"ssd_id": ssd, "barcode": LENTILS, "quantity": 1});
        let responses = stream::iter(0..count).map(|_| self.orders.http.post("/api/orders", &order_request));
        let responses = responses.buffer_unordered(128);
        assert!(responses.all(|response| async move { response.status == 201 }).await);
    }

    pub(crate) async fn stop(self) {
        for service in [self.notifications, self.orders, self.users] {
            service.stop().await;
        }
    }
}
