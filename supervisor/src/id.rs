//! Who a worker is: a place and a life.

use std::fmt;

/// Names one life of one worker: its slot and its generation.
///
/// The slot is a stable place (0, 1, 2, …) that survives crashes and restarts.
/// The generation counts the lives of that slot from 1 and never repeats, so a late message about a dead worker
/// finds nothing, where a reused process id would find a stranger.
///
/// Ids are ordered by slot, then by generation. With feature `serde` they can be serialised.
///
/// ```
/// use cluster_supervisor::WorkerId;
///
/// let id = WorkerId::new(2, 7);
/// assert_eq!((id.slot(), id.generation()), (2, 7));
/// assert_eq!(id.to_string(), "2.7");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct WorkerId {
    slot: u32,
    generation: u32,
}

impl WorkerId {
    /// Makes an id from its two parts, as after a trip through a message.
    ///
    /// A made-up id does no harm: the supervisor ignores ids that it has not given out.
    pub const fn new(slot: u32, generation: u32) -> Self {
        Self { slot, generation }
    }

    /// The place: stable over restarts, counted from 0.
    pub const fn slot(self) -> u32 {
        self.slot
    }

    /// The life in that place, counted from 1.
    pub const fn generation(self) -> u32 {
        self.generation
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_slot_and_then_by_generation() {
        let mut ids = [WorkerId::new(1, 1), WorkerId::new(0, 3), WorkerId::new(0, 2)];
        ids.sort_unstable();
        assert_eq!(ids.map(|id| id.to_string()), ["0.2", "0.3", "1.1"]);
    }
}
