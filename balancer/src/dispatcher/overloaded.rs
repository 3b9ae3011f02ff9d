//! The error that gives the item back.

use std::fmt;

/// Nobody has room for the item, and as much waits already as may. Gives it back.
#[derive(thiserror::Error)]
#[error("{}", self.reason())]
pub struct Overloaded<C> {
    item: C,
    waiting: usize,
    weight: Option<(u64, u64)>,
}

impl<C> Overloaded<C> {
    pub(super) fn new(item: C, waiting: usize) -> Self {
        Self { item, waiting, weight: None }
    }

    /// Of what is kept as much is there as may be.
    pub(crate) fn too_heavy(item: C, waiting: usize, kept: u64, most: u64) -> Self {
        Self { item, waiting, weight: Some((kept, most)) }
    }

    fn reason(&self) -> String {
        match self.weight {
            Some((kept, most)) => format!("it is too heavy beside what is kept already: {kept} of {most}"),
            None => format!("no member has room for it, and {} items wait already", self.waiting),
        }
    }

    /// The same about what is made of the item.
    pub(crate) fn map<D>(self, change: impl FnOnce(C) -> D) -> Overloaded<D> {
        Overloaded { item: change(self.item), waiting: self.waiting, weight: self.weight }
    }

    /// The item that was offered, so that it can be refused politely or offered again.
    pub fn into_inner(self) -> C {
        self.item
    }

    /// How many items waited when it was refused.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// How much was kept when it was refused, and the most that may be, if it was refused for its weight: by a
    /// [pool of tasks](crate::tasks::Tasks::max_weight).
    pub fn weight(&self) -> Option<(u64, u64)> {
        self.weight
    }
}

// By hand, so that items need not be `Debug` for the error to be one.
impl<C> fmt::Debug for Overloaded<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overloaded")
            .field("waiting", &self.waiting)
            .field("weight", &self.weight)
            .finish_non_exhaustive()
    }
}
