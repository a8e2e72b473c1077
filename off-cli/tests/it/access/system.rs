//! The real services behind the gateway, with two people who each have a device and credentials.

use off_auth_service::AuthService;
use off_cli::{home::Home, migrate};
use off_gateway::{Gateway, RateSetting, Rates, Services, Tls};
use off_kit::{
    Clock,
    auth::{Config, JwkSet},
    secret,
};
use off_notifications_service::NotificationsService;
use off_orders_service::OrdersService;
use off_testkit::{Http, LENTILS, Running, World, tokens};
use off_users_service::UsersService;
use serde_json::{Value, json};
use std::{fs, time::Duration};
use tempfile::TempDir;
use url::Url;

/// A person with a device and an order.
#[derive(Debug, Default)]
pub(super) struct Owner {
    pub(super) user_id: i64,
    pub(super) ssd_id: i64,
    pub(super) order_id: String,
    token: String,
    device_token: String,
}

pub(super) struct System {
    pub(super) ada: Owner,
    pub(super) bob: Owner,
    world: World,
    home: Home,
    gateway: Running,
    auth: Running,
    others: Vec<Running>,
    clients: Vec<Http>,
    _folder: TempDir,
}

/// The body of a registration of one person with one device.
pub(super) fn registration(email: &str, mac_address: &str) -> Value {
    json!({
        "user": {"first_name": "Ada", "last_name": "Example", "email": email, "password": "correct horse battery"},
        "devices": [{"mac_address": mac_address}],
    })
}

impl System {
    /// The idempotency key of each owner's order.
    pub(super) const ORDER_KEY: &str = "breakfast-1";

    pub(super) async fn start() -> Self {
        let (world, folder) = (World::new().await, tempfile::tempdir().unwrap());
        let home = Home::new(folder.path().join("off")).unwrap();
        home.make_secrets().unwrap();
        migrate::set_clients(&world.database.pool, &home.secrets()).await.unwrap();
        let clock = Clock::real(1.0);
        let secret = home.secrets().join(off_cli::home::AUTH_SECRET);
        let config = off_auth_service::Config::new(world.db_config(), world.bus_config(), secret);
        let auth = Running::start_ready::<AuthService>(config, clock).await;

        // The other services accept the keys of the auth service, and that of the tests, which signs forged tokens.
        let keys = auth.http.get("/.well-known/jwks.json").await.body;
        let mut keys: JwkSet = serde_json::from_value(keys).unwrap();
        keys.keys.push(tokens::public_key());
        let keys_file = folder.path().join("keys.json");
        fs::write(&keys_file, serde_json::to_vec(&keys).unwrap()).unwrap();
        let verifying = Config { auth_keys_file: Some(keys_file), ..Config::default() };

        let url = |running: &Running| -> Url { running.http.base().parse().unwrap() };
        let health_url = |running: &Running| -> Url { running.health.base().parse().unwrap() };
        let config = off_users_service::Config { db: world.db_config(), bus: world.bus_config(), auth_url: url(&auth) };
        let users = Running::start_verifying::<UsersService>(config, clock, verifying.clone()).await;
        let config = off_orders_service::Config::new(world.db_config(), world.bus_config(), Duration::from_mins(4));
        let orders = Running::start_verifying::<OrdersService>(config, clock, verifying.clone()).await;
        let config = off_notifications_service::Config {
            bus: world.bus_config(),
            supplier_delay_min: Duration::from_mins(4),
            supplier_delay_max: Duration::from_mins(4),
            delivery_delay_min: Duration::from_mins(4),
            delivery_delay_max: Duration::from_mins(4),
            seed: 0,
        };
        let notifications = Running::start_verifying::<NotificationsService>(config, clock, verifying.clone()).await;
        let config = off_gateway::Config {
            bus: world.bus_config(),
            services: Services {
                auth_url: url(&auth),
                auth_health_url: health_url(&auth),
                users_url: url(&users),
                users_health_url: health_url(&users),
                orders_url: url(&orders),
                orders_health_url: health_url(&orders),
                notifications_url: url(&notifications),
                notifications_health_url: health_url(&notifications),
                generator_url: None,
                generator_health_url: None,
            },
            rates: unlimited(),
            tls: Tls::default(),
            trusted_proxies: 0,
            cors_origins: Vec::new(),
            max_body_bytes: 64 * 1024,
            upstream_timeout: Duration::from_secs(10),
            max_streams: 16,
            max_streams_per_caller: 16,
        };
        let gateway = Running::start_verifying::<Gateway>(config, clock, verifying).await;
        let mut system = Self {
            ada: Owner::default(),
            bob: Owner::default(),
            world,
            home,
            gateway,
            auth,
            others: vec![users, orders, notifications],
            clients: Vec::new(),
            _folder: folder,
        };
        system.ada = system.register("ada@example.org", "02:00:00:00:00:0a").await;
        system.bob = system.register("bob@example.org", "02:00:00:00:00:0b").await;
        system.ada.order_id = system.order(&system.ada).await;
        system.clients = vec![system.client("generator").await, system.client("operator").await];
        system
    }

    /// Registers a person, and exchanges the key of their device for a token.
    async fn register(&self, email: &str, mac_address: &str) -> Owner {
        let registered = self.anonymous().post("/api/register", &registration(email, mac_address)).await;
        assert_eq!(registered.status, 201, "{registered:?}");
        let body = registered.body;
        let ssd_id = body["devices"][0]["ssd_id"].as_i64().unwrap();
        let key = body["devices"][0]["key"].as_str().unwrap();
        Owner {
            user_id: body["user_id"].as_i64().unwrap(),
            ssd_id,
            order_id: String::new(),
            token: body["session"]["access_token"].as_str().unwrap().to_owned(),
            device_token: self.exchange(&format!("ssd-{ssd_id}"), key).await,
        }
    }

    /// A token for the credentials of a device or a client.
    async fn exchange(&self, id: &str, secret: &str) -> String {
        let request = self.anonymous().request(reqwest::Method::POST, "/oauth/token").basic_auth(id, Some(secret));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = request.body("grant_type=client_credentials").send().await.unwrap();
        let body: Value = answer.json().await.unwrap();
        body["access_token"].as_str().unwrap_or_else(|| panic!("no token for {id}: {body}")).to_owned()
    }

    async fn order(&self, owner: &Owner) -> String {
        let order = json!({"ssd_id": owner.ssd_id, "barcode": LENTILS, "quantity": 1});
        let placed = self.of(owner).post_with_key("/api/orders", Self::ORDER_KEY, &order).await;
        assert_eq!(placed.status, 201, "{placed:?}");
        placed.body["id"].as_str().unwrap().to_owned()
    }

    /// A client of the gateway without a token. It does not follow redirects.
    pub(super) fn anonymous(&self) -> Http {
        self.gateway.http.anonymous()
    }

    /// A client of the gateway with the token of a person.
    pub(super) fn of(&self, owner: &Owner) -> Http {
        self.anonymous().with_token(&owner.token)
    }

    /// A client of the gateway with the token of a person's device.
    pub(super) fn device_of(&self, owner: &Owner) -> Http {
        self.anonymous().with_token(&owner.device_token)
    }

    /// A client of the gateway with the token of a program.
    pub(super) async fn client(&self, id: &str) -> Http {
        let secret = secret::read(&self.home.secrets().join(off_cli::home::client_file(id))).unwrap();
        self.anonymous().with_token(self.exchange(id, &secret).await)
    }

    /// One client for each kind of caller.
    pub(super) fn callers(&self) -> [Http; 7] {
        let (ada, bob) = (&self.ada, &self.bob);
        [
            self.anonymous(),
            self.of(ada),
            self.of(bob),
            self.device_of(ada),
            self.device_of(bob),
            self.clients[0].clone(),
            self.clients[1].clone(),
        ]
    }

    /// Clients of the services themselves.
    pub(super) fn services(&self) -> impl Iterator<Item = &Http> {
        self.others.iter().chain([&self.auth]).map(|running| &running.http)
    }

    /// The published keys of the auth service.
    pub(super) async fn public_keys(&self) -> Value {
        self.anonymous().get("/.well-known/jwks.json").await.body
    }

    pub(super) async fn end(self) {
        let mut services = vec![self.gateway];
        services.extend(self.others);
        services.push(self.auth);
        self.world.end_after(services, &[]).await;
    }
}

fn unlimited() -> Rates {
    let none = RateSetting(None);
    Rates { rate_anonymous: none, rate_sign_in: none, rate_person: none, rate_device: none, rate_client: none }
}
