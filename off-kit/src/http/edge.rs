//! A port that the public may reach: connections may use TLS and become something else than HTTP, like a WebSocket, and
//! each request has the address of its client.

use super::{
    connections::{Limits, accept_until_stop, http1_with},
    network_limit::{Network, NetworkLimit},
    parked,
};
use crate::Tasks;
use axum::response::Response;
use hyper::{Request, body::Incoming, service::Service};
use metrics::Gauge;
use std::{convert::Infallible, io, net::IpAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, time::timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

/// How long a client may take for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How an edge port serves its connections.
#[derive(Debug, Clone)]
pub struct Edge {
    /// TLS; without it connections are plain.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// How many file descriptors the service needs beside those of its clients.
    pub other_files: u64,
    /// How many connections a network may have; more are closed.
    pub connections: NetworkLimit,
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
        App::Future: Send + 'static,
    {
        let (http, idle) = (http1_with(&limits), limits.head_within);
        let (acceptor, connections) = (self.tls.map(TlsAcceptor::from), self.connections);
        let running = TaskTracker::new();
        accept_until_stop(listener, &limits, &open, tasks, |stream, peer| {
            let (http, acceptor, tasks) = (http.clone(), acceptor.clone(), tasks.clone());
            let peer = Peer { address: peer.ip().to_canonical(), tls: acceptor.is_some() };
            let app = WithPeer { inner: app.clone(), peer };
            let held = connections.enter(Network::of(peer.address));
            running.track_future(async move {
                let Some(_held) = held else { return Ok(()) };
                match acceptor {
                    None => parked::serve(&http, stream, app, idle, tasks.stopping()).await,
                    // In a box, so that plain connections do not take the memory of a TLS session.
                    Some(acceptor) => {
                        Box::pin(async move {
                            let stream = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
                            let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                            parked::serve(&http, stream, app, idle, tasks.stopping()).await
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
