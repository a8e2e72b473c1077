//! Connections: bounded in number, and none is kept for a client that stands still.

use crate::{Tasks, backoff::Backoff};
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
use std::{convert::Infallible, io, os::fd::AsFd, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tracing::{debug, warn};

/// The most connections at once, where the process may have so many files; more wait to be taken in.
const CONNECTIONS: u64 = 16 * 1024;

/// Connections that may wait to be taken in; the kernel may allow fewer.
const BACKLOG: i32 = 4096;

/// Files that are left to all else: the database, NATS, logs.
const OTHER_FILES: u64 = 512;

/// How long a client may take to send the head of a request. A connection that lies idle is closed after that, too: later
/// than by the proxies that keep one for a minute, so that they do not send a request into its end.
const HEAD_WITHIN: Duration = Duration::from_secs(75);

/// How large the head of a request may be, in bytes.
const HEAD_LIMIT: usize = 32 * 1024;

/// How long a client may leave unread what it asked for.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// How a port deals with connections.
#[derive(Debug)]
pub(super) struct Limits {
    /// The most connections at once.
    pub(super) connections: usize,
    /// How long a client may take to send the head of a request, or leave a connection idle.
    pub(super) head_within: Duration,
}

impl Limits {
    /// For clients of an API.
    pub(super) fn of_api() -> Self {
        Self { connections: most(), head_within: HEAD_WITHIN }
    }
}

/// Answers requests with `app`, until the service stops and every request under way is answered. `open` shows how many connections
/// there are.
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
    // It listens already; this only makes more room before it.
    listen(&listener, Backlog::new(BACKLOG)?)?;
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head_within).max_buf_size(HEAD_LIMIT);
    let room = Arc::new(Semaphore::new(limits.connections));
    let shutdown = GracefulShutdown::new();
    let mut backoff = Backoff::default();
    loop {
        let accepted = tokio::select! {
            () = tasks.stopping() => break,
            accepted = accept(&listener, &room) => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!("cannot take in a connection: {error}");
                tokio::time::sleep(backoff.pause()).await;
                continue;
            }
        };
        backoff = Backoff::default();
        let open = open.clone();
        open.increment(1.0);
        let connection = http.serve_connection(TokioIo::new(stream), app.clone());
        let connection = shutdown.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!("a connection ended early: {error}");
            }
            open.decrement(1.0);
            drop(place);
        });
    }
    drop(listener);
    shutdown.shutdown().await;
    Ok(())
}

/// The next connection, once there is room for it.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = room.clone().acquire_owned().await.map_err(io::Error::other)?;
    loop {
        match listener.accept().await {
            // One that cannot be set up was gone before it was taken in.
            Ok((stream, _)) => {
                if stream.set_nodelay(true).and_then(|()| end_when_unread(&stream)).is_ok() {
                    return Ok((stream, place));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Has the kernel end the connection when the client leaves unread what was sent: `TCP_USER_TIMEOUT`, tcp(7).
#[cfg(target_os = "linux")]
fn end_when_unread(stream: &TcpStream) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt::TcpUserTimeout};
    let milliseconds = u32::try_from(READ_WITHIN.as_millis()).map_err(io::Error::other)?;
    Ok(setsockopt(&stream.as_fd(), TcpUserTimeout, &milliseconds)?)
}

/// Nothing of the kind exists elsewhere.
#[cfg(not(target_os = "linux"))]
fn end_when_unread(_: &TcpStream) -> io::Result<()> {
    Ok(())
}

/// How many connections of clients there is room for, once the process may open as many files as it can be allowed.
fn most() -> usize {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let files = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_or(soft, |()| hard);
    let room = files.saturating_sub(OTHER_FILES).max(files / 2).min(CONNECTIONS);
    usize::try_from(room).unwrap_or(usize::MAX)
}
