//! Black-box tests of the gateway over HTTP, with services that the tests play.

#![expect(clippy::unwrap_used, reason = "a failure in a helper must fail the calling test")]

mod callers;
mod connections;
mod docs;
mod forwarding;
mod heads;
mod health;
mod live;
mod openapi;
mod pages;
mod program;
mod rates;
mod sessions;
mod streams;
mod tls;
mod upstream;
mod with_users;

use off_gateway::{Config, Gateway, RateSetting, Rates, Services, Tls};
use off_kit::{Clock, bus};
use off_testkit::{Http, Running, TestNats};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use upstream::Upstream;
use url::Url;

/// Much longer than anything here takes, and shorter than the limits of the gateway.
const SOON: Duration = Duration::from_secs(5);

/// A running gateway in front of one server that plays all services.
struct Gate {
    nats: TestNats,
    upstream: Upstream,
    gateway: Running,
}

impl Gate {
    async fn start() -> Self {
        Self::start_with(Clock::real(1.0), |_| {}).await
    }

    /// A gateway with changed settings.
    async fn start_with(clock: Clock, change: impl FnOnce(&mut Config)) -> Self {
        let (nats, upstream) = (TestNats::new().await, Upstream::start().await);
        let mut config = config(&nats, &upstream.url);
        change(&mut config);
        Self { nats, upstream, gateway: start_gateway(config, clock).await }
    }

    /// A client with the token of a client that operates.
    fn http(&self) -> &Http {
        &self.gateway.http
    }

    fn address(&self) -> SocketAddr {
        self.http().base().split("://").nth(1).unwrap().parse().unwrap()
    }

    /// Sends `text` on a connection of its own; returns everything that comes back until the connection ends.
    async fn send_raw(&self, text: &str) -> String {
        let mut stream = TcpStream::connect(self.address()).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // The gateway may close a connection whose request it did not read to its end.
        let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn end(self) {
        self.gateway.stop().await;
        self.nats.end().await;
    }
}

/// A gateway with these settings.
async fn start_gateway(config: Config, clock: Clock) -> Running {
    Box::pin(Running::start_ready::<Gateway>(config, clock)).await
}

/// Settings with all services at `url`, without rate limits.
fn config(nats: &TestNats, url: &Url) -> Config {
    let (url, off) = (|| url.clone(), RateSetting(None));
    Config {
        bus: bus::Config::at(&nats.url),
        services: Services {
            auth_url: url(),
            auth_health_url: url(),
            users_url: url(),
            users_health_url: url(),
            orders_url: url(),
            orders_health_url: url(),
            billing_url: url(),
            billing_health_url: url(),
            notifications_url: url(),
            notifications_health_url: url(),
            operator_url: None,
            operator_health_url: None,
            generator_url: None,
            generator_health_url: None,
        },
        rates: Rates { rate_anonymous: off, rate_sign_in: off, rate_person: off, rate_device: off, rate_client: off },
        tls: Tls::default(),
        trusted_proxies: 0,
        cors_origins: Vec::new(),
        max_connections_per_address: 0,
        max_body_bytes: 64 * 1024,
        upstream_timeout: Duration::from_secs(10),
        trace_url: None,
        product_photos: true,
        max_streams: 100,
        max_streams_per_caller: 50,
    }
}
