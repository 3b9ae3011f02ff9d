//! A worker's claim to listen somewhere.

use std::sync::Arc;

use super::Inner;
use crate::{Error, Listen, Result};

/// A worker's claim to listen somewhere. Dropping it gives it up, and tells the primary: the last one who does so frees the port.
#[derive(Debug)]
pub(super) struct Claimed {
    // Dropped first, so that whoever asks again then is heard after this.
    _claim: Claim,
    hold: Hold,
}

impl Claimed {
    pub(super) fn new(claim: Claim, hold: Hold) -> Self {
        Self { _claim: claim, hold }
    }

    pub(super) async fn say_accepting(&self) {
        self.hold.worker.say_accepting(self.hold.listener).await;
    }
}

/// That this worker listens there, or asks to, as far as it knows itself. Dropping it gives that up.
#[derive(Debug)]
pub(super) struct Claim {
    /// What the application asked for.
    pub(super) asked: Listen,
    pub(super) nth: u32,
    worker: Arc<Inner>,
}

impl Claim {
    pub(super) fn new(asked: Listen, worker: &Arc<Inner>) -> Result<Self> {
        let nth = worker.claims.claim(&asked);
        let nth = nth.ok_or_else(|| Error::AlreadyListening { address: asked.to_string() })?;
        Ok(Self { asked, nth, worker: Arc::clone(worker) })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.worker.claims.release(&self.asked, self.nth);
    }
}

/// What the primary has granted. Dropping it tells the primary, also where nobody waited for it any more.
#[derive(Debug)]
pub(super) struct Hold {
    listener: u8,
    worker: Arc<Inner>,
}

impl Hold {
    pub(super) fn new(listener: u8, worker: Arc<Inner>) -> Self {
        Self { listener, worker }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.worker.say_dropped(self.listener);
    }
}
