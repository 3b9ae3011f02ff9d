//! How much one member may have at a time.

use crate::Classes;

/// How much one member may have at a time, and its share of the whole.
///
/// ```
/// use cluster_balancer::Limits;
///
/// let limits = Limits::new().window(8).capacity(1_000).weight(2);
/// # let _ = limits;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub(crate) window: u16,
    pub(crate) capacity: u32,
    pub(crate) weight: u32,
    pub(crate) classes: Classes,
    pub(crate) identity: Option<u64>,
}

impl Limits {
    /// A window of 32, no limit on outstanding items, weight 1, every class.
    pub fn new() -> Self {
        Self { window: 32, capacity: u32::MAX, weight: 1, classes: Classes::all(), identity: None }
    }

    /// Items that it may have without having taken them, at most. Default: 32.
    ///
    /// This is the back-pressure: a member that stops taking soon gets no more. Small windows bind work
    /// late, to whoever is free; larger ones hide the way to the member. 0: it gets nothing.
    #[must_use]
    pub fn window(self, items: u16) -> Self {
        Self { window: items, ..self }
    }

    /// Items that it may have without having finished them, taken or not, at most. Default: no limit.
    #[must_use]
    pub fn capacity(self, items: u32) -> Self {
        Self { capacity: items, ..self }
    }

    /// Its share of the work relative to the others. Default: 1; 0 counts as 1.
    #[must_use]
    pub fn weight(self, share: u32) -> Self {
        Self { weight: share.max(1), ..self }
    }

    /// What it is known by to strategies that remember, [`Maglev`](crate::strategy::Maglev) say: the number of a slot, so that
    /// a successor gets the keys of its predecessor. Default: the hash of its key.
    #[must_use]
    pub fn identity(self, number: u64) -> Self {
        Self { identity: Some(number), ..self }
    }

    /// The classes of items that it takes. Default: all.
    #[must_use]
    pub fn classes(self, classes: Classes) -> Self {
        Self { classes, ..self }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}
