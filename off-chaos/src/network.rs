//! The addresses of the services, and the proxies between them, the servers and the clients.

use crate::{
    fault::Link,
    proxy::Proxy,
    smtp::{MAIL_DOMAIN, MAIL_TIMEOUT},
};
use anyhow::Context;
use off_cli::{
    home::{AUTH_SECRET, client_file},
    serve::ServiceName,
};
use off_kit::Addresses;
use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    path::Path,
};
use url::Url;

/// Settings of a run that the system depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunSettings {
    /// Simulated seconds per real second.
    pub(crate) speed: f64,
    pub(crate) seed: u64,
    /// Number of orders that the run will place.
    pub(crate) orders: u64,
}

/// The URLs of the servers, not proxied.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Servers<'a> {
    pub(crate) postgres: &'a str,
    pub(crate) nats: &'a str,
    pub(crate) smtp: &'a str,
}

/// E-mails that are sent at once and per second: so many that a run tries most of them before it ends.
const MAILS_AT_ONCE: u32 = 40;
const MAILS_PER_SECOND: u32 = 2000;

/// A proxy on every link.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) proxies: BTreeMap<Link, Proxy>,
    /// The addresses of each service, not proxied.
    pub(crate) addresses: BTreeMap<ServiceName, Addresses>,
}

impl Network {
    /// Reserves addresses for the services, and starts the proxies. Fails if a port cannot be bound.
    pub(crate) async fn start(servers: Servers<'_>) -> anyhow::Result<Self> {
        let mut addresses = BTreeMap::new();
        // Reserves two ports per service. The listeners stay open until the proxies have their ports: a released port
        // may be assigned again at once.
        let mut listeners = Vec::new();
        for name in ServiceName::ALL {
            let (api, health) = (TcpListener::bind(("127.0.0.1", 0))?, TcpListener::bind(("127.0.0.1", 0))?);
            addresses.insert(name, Addresses { api: api.local_addr()?, health: health.local_addr()? });
            listeners.extend([api, health]);
        }
        let mut proxies = BTreeMap::new();
        for link in Link::ALL {
            let to = match link {
                Link::ToPostgres(_) => address_of(servers.postgres)?,
                Link::ToNats(_) => address_of(servers.nats)?,
                Link::ToAuth(_) => addresses[&ServiceName::Auth].api,
                Link::FromGateway(name) => addresses[&name].api,
                Link::FromClients | Link::FromGenerator => addresses[&ServiceName::Gateway].api,
            };
            proxies.insert(link, Proxy::start(to).await?);
        }
        drop(listeners);
        Ok(Self { proxies, addresses })
    }

    /// Environment variables of a service: all its connections go through proxies. Fails if a URL of a server is
    /// invalid.
    pub(crate) fn settings(
        &self,
        name: ServiceName,
        run: RunSettings,
        servers: Servers<'_>,
        secrets: &Path,
    ) -> anyhow::Result<Vec<(&'static str, String)>> {
        let http = |link| format!("http://{}", self.proxies[&link].address);
        let mut settings = vec![
            ("HTTP_SERVICE_PORT", self.addresses[&name].api.port().to_string()),
            ("HEALTH_PORT", self.addresses[&name].health.port().to_string()),
            ("NATS_URL", via_proxy(servers.nats, &self.proxies[&Link::ToNats(name)])?),
            ("OFF_SPEED", run.speed.to_string()),
            ("OFF_LOG_FORMAT", "json".to_owned()),
        ];
        if let Some(proxy) = self.proxies.get(&Link::ToPostgres(name)) {
            settings.push(("DATABASE_URL", via_proxy(servers.postgres, proxy)?));
        }
        if self.proxies.contains_key(&Link::ToAuth(name)) {
            settings.push(("AUTH_JWKS_URL", format!("{}/.well-known/jwks.json", http(Link::ToAuth(name)))));
        }
        match name {
            ServiceName::Auth => settings.push(("AUTH_SECRET_FILE", path(&secrets.join(AUTH_SECRET)))),
            ServiceName::Users => settings.push(("AUTH_URL", http(Link::ToAuth(name)))),
            ServiceName::Orders | ServiceName::Billing | ServiceName::Operator => {}
            ServiceName::Notifications => settings.extend([
                ("OFF_SEED", run.seed.to_string()),
                ("SMTP_URL", servers.smtp.to_owned()),
                ("SMTP_FROM", format!("off <off@{MAIL_DOMAIN}>")),
                ("SMTP_TIMEOUT", humantime::format_duration(MAIL_TIMEOUT).to_string()),
                ("SMTP_CONNECTIONS", MAILS_AT_ONCE.to_string()),
                ("SMTP_PER_DOMAIN", MAILS_AT_ONCE.to_string()),
                ("SMTP_RATE", MAILS_PER_SECOND.to_string()),
                // Every letter that a person wants is an e-mail.
                ("SMTP_PER_PERSON", "1000000".to_owned()),
            ]),
            ServiceName::Gateway => {
                // All clients have the same address.
                settings.push(("RATE_SIGN_IN", "off".to_owned()));
                settings.push(("MAX_CONNECTIONS_PER_ADDRESS", "0".to_owned()));
                for (service, url, health_url) in [
                    (ServiceName::Auth, "AUTH_URL", "AUTH_HEALTH_URL"),
                    (ServiceName::Users, "USERS_URL", "USERS_HEALTH_URL"),
                    (ServiceName::Orders, "ORDERS_URL", "ORDERS_HEALTH_URL"),
                    (ServiceName::Billing, "BILLING_URL", "BILLING_HEALTH_URL"),
                    (ServiceName::Notifications, "NOTIFICATIONS_URL", "NOTIFICATIONS_HEALTH_URL"),
                    (ServiceName::Operator, "OPERATOR_URL", "OPERATOR_HEALTH_URL"),
                ] {
                    let health = self.addresses[&service].health;
                    settings
                        .extend([(url, http(Link::FromGateway(service))), (health_url, format!("http://{health}"))]);
                }
            }
            // The generator only simulates the devices, which order low products. The clients run here, with a journal.
            ServiceName::Generator => settings.extend([
                ("USERS_URL", http(Link::FromGenerator)),
                ("ORDERS_URL", http(Link::FromGenerator)),
                ("BILLING_URL", http(Link::FromGenerator)),
                ("AUTH_TOKEN_URL", format!("{}/oauth/token", http(Link::FromGenerator))),
                ("CLIENT_SECRET_FILE", path(&secrets.join(client_file("generator")))),
                ("GENERATOR_RATE", "0".to_owned()),
                ("GENERATOR_HOUSEHOLDS", "0".to_owned()),
            ]),
        }
        Ok(settings)
    }
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn address_of(url: &str) -> anyhow::Result<SocketAddr> {
    let url = Url::parse(url)?;
    let host = url.host_str().context("a URL without a host")?;
    Ok(format!("{host}:{}", url.port().context("a URL without a port")?).parse()?)
}

/// `url` with the port of a proxy.
fn via_proxy(url: &str, proxy: &Proxy) -> anyhow::Result<String> {
    let mut url = Url::parse(url)?;
    url.set_port(Some(proxy.address.port())).map_err(|()| anyhow::anyhow!("a URL that cannot have a port"))?;
    Ok(url.into())
}
