//! What an application has taken, so that it can be cut, for tests (feature `test-util`).

use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::io::Io;
use super::stream::Account;

/// Copies of the descriptors of all connections that are open, once somebody may want to cut them. Each ends with its connection.
#[derive(Debug, Default)]
pub(super) struct Taken {
    copies: Mutex<Vec<Weak<OwnedFd>>>,
    counts: AtomicBool,
}

impl Taken {
    /// Notes connections from now on.
    pub(super) fn begin(&self) {
        self.counts.store(true, Ordering::Relaxed);
    }

    /// Notes a connection. One that can't be copied, for want of descriptors, can't be cut.
    pub(super) fn count(&self, io: &Io, mut account: Account) -> Account {
        if self.counts.load(Ordering::Relaxed)
            && let Ok(copy) = io.as_fd().try_clone_to_owned()
        {
            let copy = Arc::new(copy);
            let mut copies = self.copies.lock();
            copies.retain(|copy| copy.strong_count() > 0);
            copies.push(Arc::downgrade(&copy));
            account.copy = Some(copy);
        }
        account
    }

    pub(super) fn cut(&self) {
        for copy in self.copies.lock().drain(..).filter_map(|copy| copy.upgrade()) {
            // It may have ended by itself.
            let _ = socket2::SockRef::from(&*copy).shutdown(Shutdown::Both);
        }
    }
}
