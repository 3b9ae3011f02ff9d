//! The error that gives the item back.

use std::fmt;

/// Nobody has room for the item, and as many wait already as may. Gives it back.
#[derive(thiserror::Error)]
#[error("no member has room for it, and {waiting} items wait already")]
pub struct Overloaded<C> {
    item: C,
    waiting: usize,
}

impl<C> Overloaded<C> {
    pub(super) fn new(item: C, waiting: usize) -> Self {
        Self { item, waiting }
    }

    /// The same about what is made of the item.
    pub(crate) fn map<D>(self, change: impl FnOnce(C) -> D) -> Overloaded<D> {
        Overloaded { item: change(self.item), waiting: self.waiting }
    }

    /// The item that was offered, so that it can be refused politely or offered again.
    pub fn into_inner(self) -> C {
        self.item
    }

    /// How many items waited when it was refused.
    pub fn waiting(&self) -> usize {
        self.waiting
    }
}

// By hand, so that items need not be `Debug` for the error to be one.
impl<C> fmt::Debug for Overloaded<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overloaded").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}
