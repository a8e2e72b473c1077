//! A port that the public may reach: connections may use TLS and become something else than HTTP, like a WebSocket, and
//! each request has the address of its client.

use super::connections::{Limits, accept_until_stop, http1_with};
use crate::Tasks;
use axum::response::Response;
use hyper::{Request, body::Incoming, server::conn::http1, service::Service};
use hyper_util::rt::TokioIo;
use metrics::Gauge;
use std::{convert::Infallible, io, net::IpAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

/// How long a client may take for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How an edge port serves its connections.
#[derive(Debug, Clone, Default)]
pub struct Edge {
    /// TLS; without it connections are plain.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// How many file descriptors the service needs beside those of its clients.
    pub other_files: u64,
}

/// The client's end of the connection, in the extensions of each request.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// The address, which may be that of a proxy.
    pub address: IpAddr,
    /// Whether the connection uses TLS.
    pub tls: bool,
}

impl Edge {
    /// Serves requests with `app` until the service stops and all running requests are answered. Connections that were
    /// upgraded are no longer counted: whoever upgraded them ends them.
    pub(super) async fn serve<App>(
        self,
        listener: TcpListener,
        app: App,
        limits: Limits,
        open: Gauge,
        tasks: &Tasks,
    ) -> anyhow::Result<()>
    where
        App: Service<Request<Incoming>, Response = Response, Error = Infallible> + Clone + Send + 'static,
        App::Future: Send,
    {
        let http = http1_with(&limits);
        let acceptor = self.tls.map(TlsAcceptor::from);
        let running = TaskTracker::new();
        accept_until_stop(listener, &limits, &open, tasks, |stream, peer| {
            let (http, acceptor, tasks) = (http.clone(), acceptor.clone(), tasks.clone());
            let peer = Peer { address: peer.ip().to_canonical(), tls: acceptor.is_some() };
            let app = WithPeer { inner: app.clone(), peer };
            running.track_future(async move {
                match acceptor {
                    None => run(http, stream, app, &tasks).await,
                    // In a box, so that plain connections do not take the memory of a TLS session.
                    Some(acceptor) => {
                        Box::pin(async move {
                            let stream = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
                            let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                            run(http, stream, app, &tasks).await
                        })
                        .await
                    }
                }
            })
        })
        .await?;
        running.close();
        running.wait().await;
        Ok(())
    }
}

/// Serves one connection until it ends; after the service was asked to stop, until its running request is answered.
async fn run<Stream, App>(http: http1::Builder, stream: Stream, app: App, tasks: &Tasks) -> io::Result<()>
where
    Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    App: Service<Request<Incoming>, Response = Response, Error = Infallible> + Send,
    App::Future: Send,
{
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), app).with_upgrades());
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = tasks.stopping() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    ended.map_err(io::Error::other)
}

/// Puts the client's end of the connection into each request.
struct WithPeer<App> {
    inner: App,
    peer: Peer,
}

impl<App: Service<Request<Incoming>>> Service<Request<Incoming>> for WithPeer<App> {
    type Response = App::Response;
    type Error = App::Error;
    type Future = App::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        self.inner.call(request)
    }
}
