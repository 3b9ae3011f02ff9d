//! A primary and its workers, and what they say to each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cluster_ipc::Error;
use cluster_ipc::events::{Call, Event};
use cluster_ipc::session::Config;
use cluster_ipc::switch::{Limits, Port, Switch};
use cluster_ipc::tokio::Endpoint;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

/// For what has to happen, however busy the machine is.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Note(pub(crate) u32);
impl Event for Note {
    const NAME: &'static str = "note";
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Blob(pub(crate) Vec<u8>);
impl Event for Blob {
    const NAME: &'static str = "blob";
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Double(pub(crate) u32);
impl Event for Double {
    const NAME: &'static str = "double";
}
impl Call for Double {
    type Reply = u32;
}

/// A primary and its workers.
pub(crate) struct Team {
    pub(crate) switch: Switch<u32>,
    pub(crate) primary: Port<u32>,
    pub(crate) workers: Vec<Worker>,
}

pub(crate) struct Worker {
    pub(crate) port: Port<u32>,
    serving: JoinHandle<Error>,
    attached: JoinHandle<Error>,
}

impl Team {
    pub(crate) fn of(workers: u32) -> Self {
        Self::with(workers, Limits::new())
    }

    pub(crate) fn with(workers: u32, limits: Limits) -> Self {
        let switch = Switch::with_limits(limits);
        let primary = switch.port();
        let workers = (0..workers).map(|key| Worker::with(&switch, key, limits)).collect();
        Self { switch, primary, workers }
    }

    pub(crate) fn port(&self, worker: usize) -> &Port<u32> {
        &self.workers[worker].port
    }
}

impl Worker {
    pub(crate) fn join(switch: &Switch<u32>, key: u32) -> Self {
        Self::with(switch, key, Limits::new())
    }

    fn with(switch: &Switch<u32>, key: u32, limits: Limits) -> Self {
        let (here, there) = Endpoint::pair(Config::new()).unwrap();
        let attached = tokio::spawn(switch.attach(key, here));
        switch.assign(key, key);
        let (port, serving) = Port::with_limits(there, limits);
        Self { port, serving: tokio::spawn(serving), attached }
    }

    /// As if its process had died.
    pub(crate) async fn die(self) {
        self.serving.abort();
        drop(self.port);
        let _ = self.serving.await;
        let error = within(self.attached).await.unwrap();
        assert!(matches!(error, Error::PeerGone), "{error}");
    }
}

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("it happens in time")
}

/// Counts itself out when dropped.
pub(crate) struct Running(pub(crate) Arc<AtomicU32>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(crate) async fn until(count: &AtomicU32, wanted: u32) {
    within(async {
        while count.load(Ordering::SeqCst) != wanted {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}
