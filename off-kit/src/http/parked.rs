//! Connections that wait for their next request without the buffers of HTTP. These take 16 KiB for each connection, so
//! thousands of idle clients would cost more memory than all requests.

use axum::{
    body::{Body, Bytes, HttpBody},
    response::Response,
};
use futures::future::BoxFuture;
use hyper::{
    Request,
    body::{Frame, Incoming, SizeHint},
    server::conn::http1,
    service::Service,
};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::server::TlsStream;

/// How long a connection is idle before its buffers are freed. Short, so that few connections have buffers at the same
/// time even when thousands connect within seconds: the allocator keeps what other threads freed until its own thread
/// allocates again, and an idle process does not.
const PARK_AFTER: Duration = Duration::from_millis(100);

/// How seldom a connection is looked at during a long request; at most a quarter of its idle timeout.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// A connection whose next bytes can be waited for.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Whether a new connection may have read bytes that it did not pass on yet.
    const READS_AHEAD: bool;
    /// The connection below it.
    fn tcp(&self) -> &TcpStream;
}

impl Socket for TcpStream {
    const READS_AHEAD: bool = false;

    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Socket for TlsStream<TcpStream> {
    /// The first request may come with the end of the handshake.
    const READS_AHEAD: bool = true;

    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// What happens on a connection.
#[derive(Debug, Default)]
struct Activity {
    /// Requests whose answer is not sent to its end.
    requests: AtomicUsize,
    /// All requests so far.
    total: AtomicUsize,
    /// Whether something was read that belongs to no request yet.
    has_partial_head: AtomicBool,
    /// Whether something could not be written at once.
    is_blocked: AtomicBool,
}

impl Activity {
    fn is_idle(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0
            && !self.has_partial_head.load(Ordering::Relaxed)
            && !self.is_blocked.load(Ordering::Relaxed)
    }
}

/// Serves the requests of one connection until it ends, which happens at the latest after `idle` without a request, and
/// when the service stops: after the answer to a running request.
pub(super) async fn serve<S, App>(
    http: &http1::Builder,
    stream: S,
    app: App,
    idle: Duration,
    stopping: impl Future<Output = ()>,
) -> io::Result<()>
where
    S: Socket,
    App: Service<Request<Incoming>, Response = Response, Error = Infallible> + Send + 'static,
    App::Future: Send + 'static,
{
    let activity = Arc::<Activity>::default();
    let mut stream = Watched { stream, prefix: Bytes::new(), activity: activity.clone() };
    let mut app = Counted { inner: app, activity };
    let max_pause = MAX_PAUSE.min(idle / 4);
    let mut stopping = pin!(stopping);
    let mut must_wait = !S::READS_AHEAD;
    loop {
        if must_wait {
            let mut byte = [0];
            tokio::select! {
                biased;
                () = &mut stopping => return Ok(()),
                // `readable` alone also completes when there is nothing.
                peeked = timeout(idle, stream.stream.tcp().peek(&mut byte)) => match peeked {
                    Ok(peeked) => drop(peeked?),
                    Err(_) => return Ok(()),
                },
            }
        }
        // In a box, so that the task of an idle connection is small.
        match Box::pin(serve_until_idle(http, stream, app, max_pause, stopping.as_mut())).await? {
            Some(parked) => (stream, app) = parked,
            None => return Ok(()),
        }
        must_wait = stream.prefix.is_empty();
    }
}

/// Serves requests until there was none for [`PARK_AFTER`]; then returns the connection. `None` when it has ended.
async fn serve_until_idle<S, App>(
    http: &http1::Builder,
    stream: Watched<S>,
    app: Counted<App>,
    max_pause: Duration,
    mut stopping: Pin<&mut impl Future<Output = ()>>,
) -> io::Result<Option<(Watched<S>, Counted<App>)>>
where
    S: Socket,
    App: Service<Request<Incoming>, Response = Response, Error = Infallible> + Send + 'static,
    App::Future: Send + 'static,
{
    let activity = stream.activity.clone();
    let mut connection = http.serve_connection(TokioIo::new(stream), app).with_upgrades();
    let (mut seen, mut pause) = (activity.total.load(Ordering::Relaxed), PARK_AFTER);
    loop {
        tokio::select! {
            ended = &mut connection => return ended.map(|()| None).map_err(io::Error::other),
            () = &mut stopping => {
                Pin::new(&mut connection).graceful_shutdown();
                return connection.await.map(|()| None).map_err(io::Error::other);
            }
            () = sleep(pause) => {}
        }
        let total = activity.total.load(Ordering::Relaxed);
        // All of the last answer is sent: hyper wrote until nothing was left or the connection blocked.
        if total == seen && activity.is_idle() {
            break;
        }
        pause = if total == seen { max_pause.min(pause * 2) } else { PARK_AFTER };
        seen = total;
    }
    // Without a request nothing was upgraded.
    let Some(parts) = connection.into_parts() else { return Ok(None) };
    let mut stream = parts.io.into_inner();
    // The start of a next request. It has one time limit from now on, because it keeps the connection from idling. An
    // empty one would keep its buffer.
    stream.prefix = if parts.read_buf.is_empty() { Bytes::new() } else { parts.read_buf };
    Ok(Some((stream, parts.service)))
}

/// Counts requests until their answers are sent to their end.
struct Counted<App> {
    inner: App,
    activity: Arc<Activity>,
}

impl<App> Service<Request<Incoming>> for Counted<App>
where
    App: Service<Request<Incoming>, Response = Response, Error = Infallible>,
    App::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.activity.has_partial_head.store(false, Ordering::Relaxed);
        self.activity.total.fetch_add(1, Ordering::Relaxed);
        self.activity.requests.fetch_add(1, Ordering::Relaxed);
        let running = Running(self.activity.clone());
        let answered = self.inner.call(request);
        Box::pin(async move {
            let Ok(response) = answered.await;
            Ok(response.map(|inner| Body::new(CountedBody { inner, _running: running })))
        })
    }
}

/// A request whose answer is not sent to its end.
struct Running(Arc<Activity>);

impl Drop for Running {
    fn drop(&mut self) {
        // What was read last may have been the body of this request.
        self.0.has_partial_head.store(false, Ordering::Relaxed);
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer.
struct CountedBody {
    inner: Body,
    _running: Running,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A connection that notes what was read and whether it blocks.
struct Watched<S> {
    stream: S,
    /// What was read already.
    prefix: Bytes,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    fn note<T>(&self, written: Poll<T>) -> Poll<T> {
        self.activity.is_blocked.store(written.is_pending(), Ordering::Relaxed);
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.prefix.is_empty() {
            let length = self.prefix.len().min(buffer.remaining());
            buffer.put_slice(&self.prefix.split_to(length));
            self.activity.has_partial_head.store(true, Ordering::Relaxed);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.activity.has_partial_head.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.note(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.stream).poll_shutdown(context);
        self.note(closed)
    }
}
