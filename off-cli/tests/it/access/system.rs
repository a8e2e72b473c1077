//! The real services behind the gateway, with two people who each have a device and credentials.

use off_auth_service::AuthService;
use off_billing_service::BillingService;
use off_cli::{home::Home, migrate};
use off_gateway::{Gateway, RateSetting, Rates, Services, Tls};
use off_kit::{
    Clock,
    auth::{Config, JwkSet},
    secret,
};
use off_notifications_service::{MailConfig, NotificationsService};
use off_operator_service::OperatorService;
use off_orders_service::OrdersService;
use off_testkit::{Http, LENTILS, Running, World, tokens};
use off_users_service::UsersService;
use serde_json::{Value, json};
use std::{fs, path::Path, time::Duration};
use tempfile::TempDir;
use url::Url;

/// A person with a device and an order.
#[derive(Debug, Default)]
pub(super) struct Owner {
    pub(super) user_id: i64,
    pub(super) ssd_id: i64,
    pub(super) order_id: String,
    pub(super) device_key: String,
    pub(super) refresh_token: String,
    token: String,
    device_token: String,
}

pub(super) struct System {
    pub(super) ada: Owner,
    pub(super) bob: Owner,
    pub(super) world: World,
    home: Home,
    setup: Setup,
    verifying: Config,
    gateway: Running,
    /// `None` while it is stopped.
    auth: Option<Running>,
    users: Running,
    orders: Running,
    billing: Running,
    notifications: Running,
    operator: Running,
    clients: Vec<Http>,
    _folder: TempDir,
}

/// How the gateway and the services verify tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    /// Whether they fetch the keys from the auth service. Otherwise they read them from a file, with the key of the
    /// tests.
    pub(super) by_url: bool,
    /// Their clock; that of the auth service is real.
    pub(super) clock: Clock,
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
    /// Ada's money, in cents.
    pub(super) const MONEY: i64 = 10_000;

    /// A system in which the key of the tests is valid, too.
    pub(super) async fn start() -> Self {
        Self::start_with(Setup { by_url: false, clock: Clock::real(1.0) }).await
    }

    pub(super) async fn start_with(setup: Setup) -> Self {
        // In a box: the future is large.
        Box::pin(Self::build(setup)).await
    }

    async fn build(setup: Setup) -> Self {
        let (world, folder) = (World::new().await, tempfile::tempdir().unwrap());
        let home = Home::new(folder.path().join("off")).unwrap();
        home.make_secrets().unwrap();
        migrate::set_clients(&world.database.pool, &home.secrets()).await.unwrap();
        let auth = start_auth(&world, &home, 0).await;
        let verifying = verifying(&auth, setup, &folder.path().join("keys.json")).await;
        let users = start_users(&world, &auth, setup, &verifying).await;
        let orders = start_orders(&world, setup, &verifying).await;
        let config = off_billing_service::Config { db: world.db_config(), bus: world.bus_config() };
        let billing = Running::start_verifying::<BillingService>(config, setup.clock, verifying.clone()).await;
        let config = off_notifications_service::Config {
            db: world.db_config(),
            bus: world.bus_config(),
            mail: MailConfig::none(),
            supplier_delay_min: Duration::from_mins(4),
            supplier_delay_max: Duration::from_mins(4),
            delivery_delay_min: Duration::from_mins(4),
            delivery_delay_max: Duration::from_mins(4),
            seed: 0,
        };
        let notifications =
            Running::start_verifying::<NotificationsService>(config, setup.clock, verifying.clone()).await;
        let config = off_operator_service::Config {
            db: world.db_config(),
            bus: world.bus_config(),
            audit_patience: Duration::ZERO,
        };
        let operator = Running::start_verifying::<OperatorService>(config, setup.clock, verifying.clone()).await;
        let config = gateway_config(&world, [&auth, &users, &orders, &billing, &notifications, &operator]);
        let gateway = Box::pin(Running::start_verifying::<Gateway>(config, setup.clock, verifying.clone())).await;
        let mut system = Self {
            ada: Owner::default(),
            bob: Owner::default(),
            world,
            home,
            setup,
            verifying,
            gateway,
            auth: Some(auth),
            users,
            orders,
            billing,
            notifications,
            operator,
            clients: Vec::new(),
            _folder: folder,
        };
        system.ada = system.register("ada@example.org", "02:00:00:00:00:0a").await;
        system.bob = system.register("bob@example.org", "02:00:00:00:00:0b").await;
        system.world.give_money(system.ada.user_id, Self::MONEY).await;
        system.ada.order_id = system.order(&system.ada).await;
        system.clients = vec![system.client("generator").await, system.client("operator").await];
        system
    }

    /// Stops the auth service; returns its port.
    pub(super) async fn stop_auth(&mut self) -> u16 {
        let auth = self.auth.take().unwrap();
        let port = url(&auth).port().unwrap();
        auth.stop().await;
        port
    }

    /// Starts the auth service again.
    pub(super) async fn start_auth_at(&mut self, port: u16) {
        self.auth = Some(start_auth(&self.world, &self.home, port).await);
    }

    /// Restarts everything that verifies tokens: the gateway and two of the services.
    pub(super) async fn restart_verifiers(&mut self) {
        let auth = self.auth.as_ref().unwrap();
        let users = Box::pin(start_users(&self.world, auth, self.setup, &self.verifying)).await;
        let orders = Box::pin(start_orders(&self.world, self.setup, &self.verifying)).await;
        let others = [&self.billing, &self.notifications, &self.operator];
        let config = gateway_config(&self.world, [auth, &users, &orders, others[0], others[1], others[2]]);
        let gateway = Running::start_verifying::<Gateway>(config, self.setup.clock, self.verifying.clone());
        let gateway = Box::pin(gateway).await;
        std::mem::replace(&mut self.gateway, gateway).stop().await;
        std::mem::replace(&mut self.users, users).stop().await;
        std::mem::replace(&mut self.orders, orders).stop().await;
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
            device_key: key.to_owned(),
            refresh_token: body["session"]["refresh_token"].as_str().unwrap().to_owned(),
            token: body["session"]["access_token"].as_str().unwrap().to_owned(),
            device_token: self.exchange(&format!("ssd-{ssd_id}"), key).await,
        }
    }

    /// A token for the credentials of a device or a client.
    pub(super) async fn exchange(&self, id: &str, secret: &str) -> String {
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

    /// A client of the orders service itself.
    pub(super) fn orders(&self) -> Http {
        self.orders.http.anonymous()
    }

    /// A client of the users service itself.
    pub(super) fn users(&self) -> Http {
        self.users.http.anonymous()
    }

    /// Clients of the services themselves.
    pub(super) fn services(&self) -> impl Iterator<Item = &Http> {
        let others = [&self.users, &self.orders, &self.billing, &self.notifications, &self.operator];
        others.into_iter().chain(&self.auth).map(|running| &running.http)
    }

    /// The published keys of the auth service.
    pub(super) async fn public_keys(&self) -> Value {
        self.anonymous().get("/.well-known/jwks.json").await.body
    }

    pub(super) async fn end(self) {
        let mut services = vec![self.gateway, self.users, self.orders, self.billing, self.notifications, self.operator];
        services.extend(self.auth);
        self.world.end_after(services, &[]).await;
    }
}

fn url(running: &Running) -> Url {
    running.http.base().parse().unwrap()
}

async fn start_auth(world: &World, home: &Home, port: u16) -> Running {
    let secret = home.secrets().join(off_cli::home::AUTH_SECRET);
    let config = off_auth_service::Config::new(world.db_config(), world.bus_config(), secret);
    let auth = Running::start_at::<AuthService>(config, Clock::real(1.0), port).await;
    auth.health.wait_until_ready().await;
    auth
}

async fn start_users(world: &World, auth: &Running, setup: Setup, verifying: &Config) -> Running {
    let config = off_users_service::Config { db: world.db_config(), bus: world.bus_config(), auth_url: url(auth) };
    Running::start_verifying::<UsersService>(config, setup.clock, verifying.clone()).await
}

async fn start_orders(world: &World, setup: Setup, verifying: &Config) -> Running {
    let config = off_orders_service::Config::new(world.db_config(), world.bus_config(), Duration::from_mins(4));
    Running::start_verifying::<OrdersService>(config, setup.clock, verifying.clone()).await
}

/// How the other services verify the tokens of `auth`.
async fn verifying(auth: &Running, setup: Setup, keys_file: &Path) -> Config {
    if setup.by_url {
        return Config { auth_jwks_url: url(auth).join("/.well-known/jwks.json").unwrap(), ..Config::default() };
    }
    let keys = auth.http.get("/.well-known/jwks.json").await.body;
    let mut keys: JwkSet = serde_json::from_value(keys).unwrap();
    keys.keys.push(tokens::public_key());
    fs::write(keys_file, serde_json::to_vec(&keys).unwrap()).unwrap();
    Config { auth_keys_file: Some(keys_file.to_owned()), ..Config::default() }
}

fn gateway_config(
    world: &World,
    [auth, users, orders, billing, notifications, operator]: [&Running; 6],
) -> off_gateway::Config {
    let health_url = |running: &Running| -> Url { running.health.base().parse().unwrap() };
    off_gateway::Config {
        bus: world.bus_config(),
        services: Services {
            auth_url: url(auth),
            auth_health_url: health_url(auth),
            users_url: url(users),
            users_health_url: health_url(users),
            orders_url: url(orders),
            orders_health_url: health_url(orders),
            billing_url: url(billing),
            billing_health_url: health_url(billing),
            notifications_url: url(notifications),
            notifications_health_url: health_url(notifications),
            operator_url: Some(url(operator)),
            operator_health_url: Some(health_url(operator)),
            generator_url: None,
            generator_health_url: None,
        },
        rates: unlimited(),
        tls: Tls::default(),
        trusted_proxies: 0,
        cors_origins: Vec::new(),
        max_connections_per_address: 0,
        max_body_bytes: 64 * 1024,
        upstream_timeout: Duration::from_secs(10),
        trace_url: None,
        product_photos: true,
        max_streams: 16,
        max_streams_per_caller: 16,
    }
}

fn unlimited() -> Rates {
    let none = RateSetting(None);
    Rates { rate_anonymous: none, rate_sign_in: none, rate_person: none, rate_device: none, rate_client: none }
}
