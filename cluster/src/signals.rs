//! The signals that ask to stop.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{Error, Result};

/// SIGTERM, and in a process that a terminal talks to also SIGINT, as one stream.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Option<Signal>,
}

impl Signals {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { interrupt: Some(listen(SignalKind::interrupt())?), ..Self::terminate()? })
    }

    /// SIGTERM alone: a worker's process group gets no Ctrl-C.
    pub(crate) fn terminate() -> Result<Self> {
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: None })
    }

    /// Waits for the next one. Cancel-safe.
    pub(crate) async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            () = received(&mut self.interrupt) => {}
        }
    }
}

fn listen(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(Error::os("listen for signals"))
}

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
