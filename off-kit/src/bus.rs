//! NATS: the connection, publishing, consuming, request-reply, and stream declarations.

pub mod dead_letters;
mod declare;
pub mod faults;
mod listen;
mod lookup;
mod publish;
mod read;
mod respond;

pub use declare::{MAX_ACK_PENDING, StreamStorage, declare, find_missing, is_missing_stream};
pub use listen::{Batch, Failure, Received, listen};
pub use lookup::{Search, StoredMessage};
pub use publish::{OutboundMessage, PublishFailed};
pub use read::{Backlog, Content, Pages};
pub use respond::{reply, respond};

use crate::{Kit, secret, telemetry::Metric};
use anyhow::Context;
use async_nats::{ConnectOptions, Event, ServerAddr, connection::State, jetstream};
use faults::Faults;
use percent_encoding::percent_decode_str;
use std::{fmt, path::PathBuf, sync::atomic::Ordering, time::Duration};
use tracing::{debug, info, warn};

/// The metrics of this module.
pub(crate) const METRICS: [Metric; 8] = [
    Metric::histogram("off_message_batch_size", "Messages per batch of a consumer"),
    Metric::histogram("off_message_batch_seconds", "Time to handle a batch"),
    Metric::gauge("off_messages_being_handled", "Messages currently being handled"),
    Metric::counter("off_messages_handled_total", "Messages handled and acknowledged"),
    Metric::counter("off_messages_redelivered_total", "Messages that were delivered more than once"),
    Metric::counter("off_messages_dead_total", "Messages stored as dead letters"),
    Metric::counter(
        "off_messages_dead_refused_total",
        "Messages that could neither be handled nor stored as dead letters",
    ),
    Metric::counter("off_messages_dropped_total", "Messages of devices that could not be handled and were dropped"),
];

/// The oldest supported nats-server version (major, minor, patch): the first with message schedules.
pub const OLDEST_SERVER: (i64, i64, i64) = (2, 12, 0);

/// Timeout for the acknowledgement of a published message.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the start of a service waits for the first connection to the broker.
const FIRST_CONNECTION_TIMEOUT: Duration = Duration::from_millis(500);

/// The address of NATS.
#[derive(Clone, clap::Args)]
#[group(skip)]
pub struct Config {
    /// The URL of the broker, like nats://user:password@host:4222; separate the servers of a cluster with commas.
    #[arg(long, env = "NATS_URL", value_name = "URL", hide_env_values = true)]
    pub nats_url: String,
    /// A file with the password, for a URL that contains only the user.
    #[arg(long, env = "NATS_PASSWORD_FILE", value_name = "FILE")]
    pub nats_password_file: Option<PathBuf>,
    /// Whether the failure switches of operators have an effect here. Not in production, unless that is what you want.
    #[arg(long, env = "ALLOW_FAULTS", default_value_t = false, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub allow_faults: bool,
}

impl Config {
    /// The broker at `url`, which contains the password.
    pub fn at(url: &str) -> Self {
        Self { nats_url: url.to_owned(), nats_password_file: None, allow_faults: false }
    }
}

/// Shows `…` in place of the password.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<_> = self.nats_url.split(',').map(crate::secret::redact).collect();
        f.debug_struct("Config")
            .field("nats_url", &servers)
            .field("nats_password_file", &self.nats_password_file)
            .field("allow_faults", &self.allow_faults)
            .finish()
    }
}

/// The error does not repeat the text: it may contain a password.
fn parse_url(text: &str) -> anyhow::Result<Vec<ServerAddr>> {
    let servers: Option<Vec<ServerAddr>> = text.split(',').map(|server| server.trim().parse().ok()).collect();
    servers.context("NATS_URL: expected nats://user:password@host:port, or several of these separated by commas")
}

/// A connection to NATS that reconnects automatically. Clones share it.
#[derive(Debug, Clone)]
pub struct Bus {
    /// The connection, for messages that no stream stores.
    pub client: async_nats::Client,
    /// Streams and consumers, over the same connection.
    pub jetstream: jetstream::Context,
    /// The failure switches that are on.
    pub faults: Faults,
}

impl Bus {
    /// Connects in the background and retries without a limit, so that a service starts while NATS is unavailable.
    ///
    /// # Errors
    /// The URL is invalid or the password file cannot be read.
    pub async fn connect(config: &Config, name: &str) -> anyhow::Result<Self> {
        let url = secret::fill_in(&config.nats_url, config.nats_password_file.as_deref()).context("NATS_URL")?;
        let servers = parse_url(&url)?;
        let mut options = ConnectOptions::new()
            .name(format!("off-{name}"))
            // Each program has its own inbox prefix, so that permissions at the broker can keep others from reading
            // replies.
            .custom_inbox_prefix(format!("_INBOX_{name}"))
            .retry_on_initial_connect()
            .max_reconnects(None)
            .ping_interval(Duration::from_secs(10))
            .event_callback(log_event);
        // The client does not read the credentials from the URL by itself.
        if let Some((user, password)) = servers.iter().find_map(|server| Some((server.username()?, server.password())))
        {
            let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
            options = match password {
                Some(password) => options.user_and_password(decode(user), decode(password)),
                None => options.token(decode(user)),
            };
        }
        let client = options.connect(servers).await.context("cannot set up the NATS client")?;
        let jetstream = jetstream::context::ContextBuilder::new().ack_timeout(ACK_TIMEOUT).build(client.clone());
        Ok(Self { client, jetstream, faults: Faults::default() })
    }

    /// The bus of a service. Adds the readiness check `nats`: from now on the service is ready only while NATS is.
    pub async fn for_service(kit: &Kit, config: &Config) -> anyhow::Result<Self> {
        let bus = Self::connect(config, kit.name).await?;
        // A running broker connects at once. An unavailable one must not delay the start.
        let _ = bus.connected(FIRST_CONNECTION_TIMEOUT).await;
        let checked = bus.clone();
        kit.readiness_checks.add("nats", move || {
            let bus = checked.clone();
            async move { bus.check().await }
        });
        Ok(bus)
    }

    /// Whether the client is connected now.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// How many connections the client has made so far; this is the number of the current one, from 1.
    fn connections(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    /// Waits until the client is connected; fails after `timeout`.
    pub async fn connected(&self, timeout: Duration) -> anyhow::Result<()> {
        let connected = async {
            while !self.is_connected() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let result = tokio::time::timeout(timeout, connected).await;
        result.context("NATS does not answer: is it running, and is NATS_URL correct?")
    }

    /// Checks that the broker answers, supports what off needs and has all streams. The error is a text for people.
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
                debug!("cannot get the info of stream {name}: {error}");
                format!("stream {name}: the broker does not return its info")
            })?;
        }
        Ok(())
    }

    /// Sends what is buffered and closes the connection; gives up after 3 s when the broker is unavailable.
    pub async fn close(&self) {
        let closing = async {
            self.client.flush().await.ok()?;
            self.client.drain().await.ok()
        };
        if tokio::time::timeout(Duration::from_secs(3), closing).await.is_err() {
            warn!("NATS was unavailable while the connection was closed");
        }
    }
}

async fn log_event(event: Event) {
    match event {
        Event::Connected => info!("connected to NATS"),
        // A publish without permission is reported only here.
        Event::Disconnected | Event::SlowConsumer(_) | Event::ServerError(_) | Event::ClientError(_) => {
            warn!("NATS: {event}");
        }
        Event::LameDuckMode | Event::Draining | Event::Closed => info!("NATS: {event}"),
    }
}
