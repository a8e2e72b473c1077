//! A replica of the orders service that a test can freeze.

use crate::config;
use off_kit::Clock;
use off_orders_service::OrdersService;
use off_testkit::{Running, World};
use std::sync::mpsc;
use tokio::sync::oneshot;

/// A replica on a thread and a runtime of its own.
pub(crate) struct FreezableReplica {
    freeze: oneshot::Sender<oneshot::Sender<()>>,
    /// The thread ends when this is dropped.
    end: mpsc::Sender<()>,
}

impl FreezableReplica {
    pub(crate) fn start(world: &World, clock: Clock) -> Self {
        let (freeze, freezing) = oneshot::channel::<oneshot::Sender<()>>();
        let (end, ended) = mpsc::channel();
        let config = config(world);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let service = Running::start::<OrdersService>(config, clock).await;
                freezing.await.unwrap().send(()).unwrap();
                // Blocks the only thread of the runtime.
                let _ = ended.recv();
                drop(service);
            });
        });
        Self { freeze, end }
    }

    /// Freezes the replica; returns what it needs to stay frozen.
    pub(crate) async fn freeze(self) -> mpsc::Sender<()> {
        let (frozen, is_frozen) = oneshot::channel();
        self.freeze.send(frozen).unwrap();
        is_frozen.await.unwrap();
        self.end
    }
}
