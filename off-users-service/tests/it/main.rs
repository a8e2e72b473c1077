//! Black-box tests of the service over HTTP and NATS.

mod bad_weather;
mod openapi;
mod program;
mod registration;
mod shelves;

use off_kit::Clock;
use off_testkit::{Http, Running, World, eventually};
use off_users_service::{Config, UsersService};
use serde_json::{Value, json};

/// The running service with a private database and NATS server.
struct Users {
    world: World,
    service: Running,
}

impl Users {
    async fn start() -> Self {
        Self::start_in(World::new().await).await
    }

    async fn start_in(world: World) -> Self {
        Self::start_with(world, Clock::real(1.0)).await
    }

    async fn start_with(world: World, clock: Clock) -> Self {
        let config = Config { db: world.db_config(), bus: world.bus_config() };
        let service = Running::start_ready::<UsersService>(config, clock).await;
        Self { world, service }
    }

    fn http(&self) -> &Http {
        &self.service.http
    }

    fn health(&self) -> &Http {
        &self.service.health
    }

    /// Waits until a device's shelf holds `quantity` units of a product.
    async fn wait_for_quantity(&self, ssd: i64, barcode: &str, quantity: i64) {
        eventually(&format!("{quantity} of {barcode} on the shelf of {ssd}"), || async {
            let device = self.http().get(&format!("/api/devices/{ssd}")).await;
            let items = device.body["shelf"].as_array()?;
            let found = items.iter().find(|item| item["barcode"] == barcode)?;
            (found["quantity"] == quantity).then_some(())
        })
        .await;
    }
}

/// The body of a registration with these devices.
fn ada(email: &str, mac_addresses: &[&str]) -> Value {
    let devices: Vec<Value> = mac_addresses.iter().map(|address| json!({"mac_address": address})).collect();
    json!({
        "user": {"first_name": "Ada", "last_name": "Example", "email": email, "password": "correct horse battery"},
        "devices": devices,
    })
}
