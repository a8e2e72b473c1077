//! A way between two parts of the system that can be cut, slowed and silenced.

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

/// What is read at once.
const CHUNK: usize = 16 * 1024;

/// How long a slow way takes for each chunk.
const SLOW_BY: Duration = Duration::from_millis(60);

/// How a way is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Open,
    /// Connections are dropped, and new ones too.
    Cut,
    Slow,
    /// Nothing arrives any more, and nobody is told: as when a host vanishes. Connections from before stay that way.
    Silent,
}

/// Hands what arrives at its address on to another. Ends when dropped.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    way: watch::Sender<Way>,
    _accepting: JoinSet<()>,
}

impl Proxy {
    pub(super) async fn start(to: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("a proxy finds no port")?;
        let address = listener.local_addr()?;
        let (way, seen) = watch::channel(Way::Open);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                connections.spawn(connect(stream, to, seen.clone()));
            }
        });
        Ok(Self { address, way, _accepting: accepting })
    }

    pub(super) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

async fn connect(stream: TcpStream, to: SocketAddr, mut way: watch::Receiver<Way>) {
    if *way.borrow_and_update() == Way::Cut {
        return;
    }
    let Ok(other) = TcpStream::connect(to).await else { return };
    // A way that delays what is small would be slower than the one it stands for.
    let _ = (stream.set_nodelay(true), other.set_nodelay(true));
    let ((mut from, mut back), (mut other_from, mut other_to)) = (stream.into_split(), other.into_split());
    tokio::select! {
        () = carry(&mut from, &mut other_to, &way) => {}
        () = carry(&mut other_from, &mut back, &way) => {}
        () = until(Way::Cut, way.clone()) => {}
        // Both ends stay open.
        () = until(Way::Silent, way.clone()) => until(Way::Cut, way.clone()).await,
    }
}

async fn until(wanted: Way, mut way: watch::Receiver<Way>) {
    // Without a sender nothing changes any more.
    if way.wait_for(|way| *way == wanted).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn carry(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, way: &watch::Receiver<Way>) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        if *way.borrow() == Way::Slow {
            tokio::time::sleep(SLOW_BY).await;
        }
        if to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
}
