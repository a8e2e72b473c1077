//! NATS: the connection, and what services do with it.

mod answer;
pub mod dead;
mod declare;
mod listen;
mod publish;
mod read;

pub use answer::answer;
pub use declare::{Keeping, MAX_ACK_PENDING, declare, find_missing};
pub use listen::{Batch, Failure, Received, listen};
pub use publish::{Outgoing, Unpublished};
pub use read::{Content, Pages, Waiting};

use crate::{Kit, secret};
use anyhow::Context;
use async_nats::{ConnectOptions, Event, ServerAddr, connection::State, jetstream};
use percent_encoding::percent_decode_str;
use std::{fmt, path::PathBuf, sync::atomic::Ordering, time::Duration};
use tracing::{debug, info, warn};

/// The oldest nats-server that keeps message schedules.
pub const OLDEST_SERVER: (i64, i64, i64) = (2, 12, 0);

/// How long the broker may take to acknowledge a message.
const ACK_WITHIN: Duration = Duration::from_secs(5);

/// How long a service holds its start for a broker that is just connecting.
const FIRST_CONNECTION_WITHIN: Duration = Duration::from_millis(500);

/// Where NATS is.
#[derive(Clone, clap::Args)]
#[group(skip)]
pub struct Config {
    /// The broker, like nats://user:password@host:4222; several of one cluster are separated by commas.
    #[arg(long, env = "NATS_URL", value_name = "URL", hide_env_values = true)]
    pub nats_url: String,
    /// A file that holds the password of the address's user, where the address does not.
    #[arg(long, env = "NATS_PASSWORD_FILE", value_name = "FILE")]
    pub nats_password_file: Option<PathBuf>,
}

impl Config {
    /// The broker at `url`, which has its password.
    pub fn at(url: &str) -> Self {
        Self { nats_url: url.to_owned(), nats_password_file: None }
    }
}

/// The password shows as dots.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<_> = self.nats_url.split(',').map(crate::db::redact).collect();
        f.debug_struct("Config")
            .field("nats_url", &servers)
            .field("nats_password_file", &self.nats_password_file)
            .finish()
    }
}

/// Says nothing of the text when it is wrong: it may hold a password.
fn parse_url(text: &str) -> anyhow::Result<Vec<ServerAddr>> {
    let servers: Option<Vec<ServerAddr>> = text.split(',').map(|server| server.trim().parse().ok()).collect();
    servers.context("NATS_URL: expected nats://user:password@host:port, several separated by commas")
}

/// A connection to NATS that comes back by itself. Clones share it.
#[derive(Debug, Clone)]
pub struct Bus {
    pub client: async_nats::Client,
    pub jetstream: jetstream::Context,
}

impl Bus {
    /// Connects in the background, for as long as it takes: a service starts while NATS is still away.
    pub async fn connect(config: &Config, name: &str) -> anyhow::Result<Self> {
        let url = secret::fill_in(&config.nats_url, config.nats_password_file.as_deref()).context("NATS_URL")?;
        let servers = parse_url(&url)?;
        let mut options = ConnectOptions::new()
            .name(format!("off-{name}"))
            // Answers come to an inbox of its own, so that a broker can be told to let nobody else read them.
            .custom_inbox_prefix(format!("_INBOX_{name}"))
            .retry_on_initial_connect()
            .max_reconnects(None)
            .ping_interval(Duration::from_secs(10))
            .event_callback(log_event);
        // The client does not read these from the URL by itself.
        if let Some((user, password)) = servers.iter().find_map(|server| Some((server.username()?, server.password())))
        {
            let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
            options = match password {
                Some(password) => options.user_and_password(decode(user), decode(password)),
                None => options.token(decode(user)),
            };
        }
        let client = options.connect(servers).await.context("cannot set up the NATS client")?;
        let jetstream = jetstream::context::ContextBuilder::new().ack_timeout(ACK_WITHIN).build(client.clone());
        Ok(Self { client, jetstream })
    }

    /// The bus of a service, which from now on is ready only while NATS is.
    pub async fn for_service(kit: &Kit, config: &Config) -> anyhow::Result<Self> {
        let bus = Self::connect(config, kit.name).await?;
        // A broker that is there is connected in a moment; one that is away is not waited for.
        let _ = bus.connected(FIRST_CONNECTION_WITHIN).await;
        let checked = bus.clone();
        kit.needs.add("nats", move || {
            let bus = checked.clone();
            async move { bus.check().await }
        });
        Ok(bus)
    }

    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// How many connections it has made so far: the number of the present one, from 1.
    fn connections(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    /// Waits until the broker answers, at most `patience`.
    pub async fn connected(&self, patience: Duration) -> anyhow::Result<()> {
        let connected = async {
            while !self.is_connected() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let within = tokio::time::timeout(patience, connected).await;
        within.context("NATS does not answer: is it running, and is NATS_URL right?")
    }

    /// Whether the broker answers and has all streams; else what is wrong, in words.
    pub async fn check(&self) -> Result<(), String> {
        if !self.is_connected() {
            return Err("not connected".to_owned());
        }
        let (major, minor, patch) = OLDEST_SERVER;
        if !self.client.is_server_compatible(major, minor, patch) {
            let version = self.client.server_info().version;
            return Err(format!("nats-server {version} is too old, {major}.{minor} or newer is needed"));
        }
        for stream in off_events::streams::STREAMS {
            self.jetstream.get_stream(stream.name).await.map_err(|error| {
                let name = stream.name;
                if declare::is_missing_stream(&error) {
                    return format!("stream {name}: it is missing: run `off migrate`");
                }
                debug!("the broker does not tell of stream {name}: {error}");
                format!("stream {name}: the broker does not tell of it")
            })?;
        }
        Ok(())
    }

    /// Sends what is buffered and closes; gives up after a few seconds when the broker is away.
    pub async fn close(&self) {
        let closing = async {
            self.client.flush().await.ok()?;
            self.client.drain().await.ok()
        };
        if tokio::time::timeout(Duration::from_secs(3), closing).await.is_err() {
            warn!("NATS was away while the connection was closed");
        }
    }
}

async fn log_event(event: Event) {
    match event {
        Event::Connected => info!("connected to NATS"),
        // A publish without permission is refused here and nowhere else.
        Event::Disconnected | Event::SlowConsumer(_) | Event::ServerError(_) | Event::ClientError(_) => {
            warn!("NATS: {event}");
        }
        Event::LameDuckMode | Event::Draining | Event::Closed => info!("NATS: {event}"),
    }
}
