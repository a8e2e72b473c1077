//! A TCP proxy that can cut, slow down or black-hole the link between two parts of the system.

use anyhow::Context;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// Delay of each chunk on a slow link.
const SLOW_DELAY: Duration = Duration::from_millis(60);

/// State of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkState {
    Open,
    /// Existing connections are closed, and new ones are closed on arrival.
    Cut,
    Slow,
    /// Nothing arrives and connections stay open, as when a host disappears. Connections that are open at that moment
    /// stay in this state until the link is cut, even if it opens again.
    BlackHole,
}

/// Forwards TCP connections to another address. Stops when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: watch::Sender<LinkState>,
    _accepting: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free port and forwards to `to`.
    pub(crate) async fn start(to: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("cannot bind a port for a proxy")?;
        let address = listener.local_addr()?;
        let (state, current) = watch::channel(LinkState::Open);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                connections.spawn(connect(stream, to, current.clone()));
            }
        });
        Ok(Self { address, state, _accepting: accepting })
    }

    pub(crate) fn set(&self, state: LinkState) {
        self.state.send_replace(state);
    }
}

async fn connect(stream: TcpStream, to: SocketAddr, mut state: watch::Receiver<LinkState>) {
    if *state.borrow_and_update() == LinkState::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(to).await else { return };
    // With Nagle's algorithm the proxy would delay small packets, which the real link does not.
    let _ = (stream.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = stream.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::select! {
        () = forward(&mut from_client, &mut to_server, &state) => {}
        () = forward(&mut from_server, &mut to_client, &state) => {}
        () = wait_for_state(LinkState::Cut, state.clone()) => {}
        // Both connections stay open.
        () = wait_for_state(LinkState::BlackHole, state.clone()) => {
            wait_for_state(LinkState::Cut, state.clone()).await;
        }
    }
}

async fn wait_for_state(wanted: LinkState, mut state: watch::Receiver<LinkState>) {
    // The sender is gone, so the state never changes again.
    if state.wait_for(|state| *state == wanted).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn forward(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, state: &watch::Receiver<LinkState>) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        if *state.borrow() == LinkState::Slow {
            tokio::time::sleep(SLOW_DELAY).await;
        }
        if to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
}
