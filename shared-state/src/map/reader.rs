//! Reading from any thread.

use std::fmt;
use std::sync::Arc;

use super::state::Shared;
use super::{Held, View};
use crate::Cursor;

/// Reads the map from any thread. Cheap to clone; lives on when the [`Writer`](super::Writer) is gone.
///
/// Every read is of the newest published state, never of an older one than the thread has seen before.
/// Several reads that must fit together take a [`view`](Self::view).
#[derive(Clone)]
pub struct Reader {
    pub(super) shared: Shared,
}

impl Reader {
    /// What is under the key.
    ///
    /// Allocates nothing and waits for nobody. Counts one reference on the entry, which threads that all want the same
    /// key contend for: see [`read`](Self::read).
    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<Held> {
        self.read(key, |entry| entry.cloned())
    }

    /// As [`get`](Self::get), unless it is known that there is something newer than what is published
    /// ([`Writer::set_newest`](super::Writer::set_newest)): then `None`.
    #[inline]
    pub fn get_newest(&self, key: &[u8]) -> Option<Option<Held>> {
        let state = self.shared.load();
        if state.is_outdated() { None } else { Some(state.read(key, |entry| entry.cloned())) }
    }

    /// Calls `then` with what is under the key, counting no reference.
    ///
    /// `then` should be short: while it runs, the writer cannot reach a 256th part of the keys, and whoever looks for
    /// them needs longer. Writes go on.
    #[inline]
    pub fn read<R>(&self, key: &[u8], then: impl FnOnce(Option<&Held>) -> R) -> R {
        self.shared.load().read(key, then)
    }

    /// The newest state, to read as often as wanted.
    #[inline]
    pub fn view(&self) -> View {
        View { state: self.shared.load_full() }
    }

    /// What the newest state is as of. Later reads are of this revision or of newer ones.
    #[inline]
    pub fn cursor(&self) -> Cursor {
        self.shared.load().cursor
    }

    /// Whether the other reads the same map.
    pub fn same_map(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("cursor", &self.cursor()).finish_non_exhaustive()
    }
}
