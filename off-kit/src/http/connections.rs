//! Accepts connections, limits their number and closes those of clients that stop sending or reading.

use crate::{Clock, Tasks, backoff::Backoff};
use anyhow::Context;
use axum::response::Response;
use hyper::server::conn::http1;
use hyper::{Request, body::Incoming};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use metrics::Gauge;
use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    socket::{Backlog, listen},
};
use std::{convert::Infallible, fmt::Display, io, net::SocketAddr, os::fd::AsFd, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tracing::{debug, warn};

/// Maximum number of connections, if the file limit of the process allows as many; more wait in the backlog.
const MAX_CONNECTIONS: u64 = 16 * 1024;

/// Connections that may wait to be accepted; the kernel may allow fewer.
const BACKLOG: i32 = 4096;

/// File descriptors reserved for everything else: the database, NATS, logs.
const OTHER_FILES: u64 = 512;

/// Timeout for the head of a request, and for idle connections. Longer than the minute for which proxies keep idle
/// connections, so that they do not send a request while the service closes the connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// Maximum size of the head of a request, in bytes.
pub const MAX_HEAD_BYTES: usize = 32 * 1024;

/// How long a client may leave a response unread.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The connection limits of a port.
#[derive(Debug)]
pub(super) struct Limits {
    /// Maximum number of connections.
    pub(super) connections: usize,
    /// Timeout for the head of a request, and for idle connections.
    pub(super) head_within: Duration,
    /// How long a client may leave a response unread.
    pub(super) read_within: Duration,
}

impl Limits {
    /// The limits of an API port of a service that needs `other_files` file descriptors beside [`OTHER_FILES`].
    pub(super) fn of_api(clock: Clock, other_files: u64) -> Self {
        Self {
            connections: max_connections(OTHER_FILES + other_files),
            head_within: clock.shortened(HEAD_TIMEOUT),
            read_within: clock.shortened(READ_TIMEOUT),
        }
    }
}

/// Serves requests with `app` until the service stops and all running requests are answered. `open` records the number
/// of connections.
pub(super) async fn serve<App>(
    listener: TcpListener,
    app: App,
    limits: Limits,
    open: Gauge,
    tasks: &Tasks,
) -> anyhow::Result<()>
where
    App: hyper::service::Service<Request<Incoming>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    App::Future: Send,
{
    let http = http1_with(&limits);
    let shutdown = GracefulShutdown::new();
    accept_until_stop(listener, &limits, &open, tasks, |stream, _| {
        shutdown.watch(http.serve_connection(TokioIo::new(stream), app.clone()))
    })
    .await?;
    shutdown.shutdown().await;
    Ok(())
}

/// HTTP/1 with the timeouts and sizes of `limits`.
pub(super) fn http1_with(limits: &Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head_within).max_buf_size(MAX_HEAD_BYTES);
    http
}

/// Accepts connections until the service stops, and spawns what `run` returns for each.
pub(super) async fn accept_until_stop<Run, Failure>(
    listener: TcpListener,
    limits: &Limits,
    open: &Gauge,
    tasks: &Tasks,
    run: impl Fn(TcpStream, SocketAddr) -> Run,
) -> anyhow::Result<()>
where
    Run: Future<Output = Result<(), Failure>> + Send + 'static,
    Failure: Display,
{
    // The socket listens already; this call only enlarges its backlog.
    listen(&listener, Backlog::new(BACKLOG)?)?;
    let permits = Arc::new(Semaphore::new(limits.connections));
    let mut backoff = Backoff::default();
    loop {
        let accepted = tokio::select! {
            () = tasks.stopping() => return Ok(()),
            accepted = accept(&listener, &permits, limits.read_within) => accepted,
        };
        let (stream, peer, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!("cannot accept a connection: {error}");
                tokio::time::sleep(backoff.pause()).await;
                continue;
            }
        };
        backoff = Backoff::default();
        let (connection, open) = (run(stream, peer), open.clone());
        open.increment(1.0);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!("a connection ended early: {error}");
            }
            open.decrement(1.0);
            drop(permit);
        });
    }
}

/// Accepts the next connection after a permit is available.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
    read_within: Duration,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.map_err(io::Error::other)?;
    loop {
        match listener.accept().await {
            // If the options cannot be set, the client has already disconnected.
            Ok((stream, peer)) => {
                if stream.set_nodelay(true).and_then(|()| close_when_unread(&stream, read_within)).is_ok() {
                    return Ok((stream, peer, permit));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Makes the kernel close the connection when the client does not read: `TCP_USER_TIMEOUT`, see tcp(7).
#[cfg(target_os = "linux")]
fn close_when_unread(stream: &TcpStream, read_within: Duration) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt::TcpUserTimeout};
    let milliseconds = u32::try_from(read_within.as_millis()).map_err(io::Error::other)?;
    Ok(setsockopt(&stream.as_fd(), TcpUserTimeout, &milliseconds)?)
}

/// Other systems have no such option.
#[cfg(not(target_os = "linux"))]
fn close_when_unread(_: &TcpStream, _: Duration) -> io::Result<()> {
    Ok(())
}

/// Raises the file limit of the process to its hard limit, and returns how many client connections fit into it beside
/// `other_files`.
fn max_connections(other_files: u64) -> usize {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let files = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_or(soft, |()| hard);
    let connections = files.saturating_sub(other_files).max(files / 2).min(MAX_CONNECTIONS);
    usize::try_from(connections).unwrap_or(usize::MAX)
}

/// Uses the given socket, or binds `address`. An error names the setting that selects another port.
pub(super) async fn bind(
    given: Option<std::net::TcpListener>,
    address: SocketAddr,
    setting: &str,
) -> anyhow::Result<TcpListener> {
    match given {
        Some(listener) => Ok(TcpListener::from_std(listener)?),
        None => TcpListener::bind(address).await.with_context(|| {
            format!("cannot listen on {address}: does another program use it? Choose another port with {setting}")
        }),
    }
}
