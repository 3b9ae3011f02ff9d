//! What a strategy sees of one member.

use std::cmp::Ordering;
use std::time::Duration;

use crate::Classes;

/// What a strategy sees of one member: all that changes with every pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    outstanding: u32,
    weight: u32,
    standing: Standing,
    classes: Classes,
}

/// Why a member may be picked, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    /// There is a member here at all.
    present: bool,
    /// It is admitted, not paused, and has room for one more item.
    available: bool,
    /// Nobody thinks badly of it.
    healthy: bool,
    /// It keeps what it has and what sticks to it, and gets nothing new.
    draining: bool,
}

impl Candidate {
    /// An eligible candidate with so many items assigned and not finished. A weight of 0 counts as 1.
    pub fn new(outstanding: u32, weight: u32) -> Self {
        let standing = Standing { present: true, available: true, healthy: true, draining: false };
        Self { outstanding, weight: weight.max(1), standing, classes: Classes::all() }
    }

    /// A place without a member.
    pub(crate) fn vacant() -> Self {
        let standing = Standing { present: false, available: false, healthy: true, draining: false };
        Self { outstanding: 0, weight: 1, standing, classes: Classes::all() }
    }

    pub(crate) fn of(self, classes: Classes) -> Self {
        Self { classes, ..self }
    }

    pub(crate) fn with_outstanding(self, outstanding: u32) -> Self {
        Self { outstanding, ..self }
    }

    pub(crate) fn with_weight(self, weight: u32) -> Self {
        Self { weight: weight.max(1), ..self }
    }

    pub(crate) fn with_available(mut self, available: bool) -> Self {
        self.standing.available = available;
        self
    }

    pub(crate) fn classes(&self) -> Classes {
        self.classes
    }

    pub(crate) fn takes(&self, class: Option<u8>) -> bool {
        class.is_none_or(|class| self.classes.contains(class))
    }

    pub(crate) fn seen_for(self, class: Option<u8>) -> Self {
        if self.takes(class) { self } else { self.ineligible() }
    }

    /// The same candidate, not to be picked.
    #[must_use]
    pub fn ineligible(self) -> Self {
        self.with_available(false)
    }

    /// The same candidate, not to be picked unless there are too few others; see
    /// [`PanicThreshold`](crate::strategy::PanicThreshold).
    #[must_use]
    pub fn unhealthy(mut self) -> Self {
        self.standing.healthy = false;
        self
    }

    /// The same candidate, of which nobody thinks badly.
    pub(crate) fn healthy(mut self) -> Self {
        self.standing.healthy = true;
        self
    }

    /// The same candidate, to be picked only for what sticks to it; see [`Sticky`](crate::strategy::Sticky).
    #[must_use]
    pub fn draining(mut self) -> Self {
        self.standing.draining = true;
        self
    }

    /// How many items it has that are not finished, taken or not.
    pub fn outstanding(&self) -> u32 {
        self.outstanding
    }

    /// Its share of the work relative to the others, at least 1.
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// Whether it may be picked: available, healthy and not draining.
    pub fn is_eligible(&self) -> bool {
        self.standing.available && self.standing.healthy && !self.standing.draining
    }

    /// Whether it could have one more item: admitted, not paused, with room for it. Health and draining don't matter here.
    pub fn is_available(&self) -> bool {
        self.standing.available
    }

    /// Whether nobody thinks badly of it.
    pub fn is_healthy(&self) -> bool {
        self.standing.healthy
    }

    /// Whether it gets only what sticks to it.
    pub fn is_draining(&self) -> bool {
        self.standing.draining
    }

    /// Whether there is a member at all in this place.
    pub fn is_present(&self) -> bool {
        self.standing.present
    }

    /// Compares the load that each of two candidates would have with one more item: `(outstanding + 1) /
    /// weight`, exactly.
    ///
    /// The `+ 1` makes idle members of different weight differ, and with one slow member it has the
    /// better tail latency (`outstanding / weight`: 10.8 mean service times at p99, this: 8.0).
    ///
    /// ```
    /// use std::cmp::Ordering;
    /// use cluster_balancer::Candidate;
    ///
    /// let (small, large) = (Candidate::new(0, 1), Candidate::new(2, 4));
    /// assert_eq!(large.compare_load(&small), Ordering::Less, "3/4 of its capacity against 1/1");
    /// ```
    pub fn compare_load(&self, other: &Self) -> Ordering {
        // Cross multiplication: no division, no floats. 2^32 * (2^32 - 1) fits into 64 bits.
        let scaled =
            |load: &Self, weight: &Self| (u64::from(load.outstanding) + 1) * u64::from(weight.weight);
        scaled(self, other).cmp(&scaled(other, self))
    }
}

/// What else is known of a member: what few strategies ask for, and changes seldom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub(crate) identity: u64,
    pub(crate) gauge: Option<u64>,
    pub(crate) since_report: u32,
    pub(crate) admitted: Duration,
}

impl Figures {
    /// Those of a member that is known by this number.
    pub fn new(identity: u64) -> Self {
        Self { identity, ..Self::default() }
    }

    /// The same with what it uses of something: bytes of memory, thousandths of a core.
    #[must_use]
    pub fn gauge(self, used: u64) -> Self {
        Self { gauge: Some(used), ..self }
    }

    /// The same with so many items assigned since the gauge was read.
    #[must_use]
    pub fn since_report(self, items: u32) -> Self {
        Self { since_report: items, ..self }
    }

    /// The same, there since then.
    #[must_use]
    pub fn admitted(self, at: Duration) -> Self {
        Self { admitted: at, ..self }
    }

    /// What the member is known by, whichever place it has: strategies that remember choose by it.
    pub fn identity(&self) -> u64 {
        self.identity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_possible_loads_compare_without_overflow() {
        let (full, idle) = (Candidate::new(u32::MAX, 1), Candidate::new(0, u32::MAX));
        assert_eq!(full.compare_load(&idle), Ordering::Greater);
        assert_eq!(idle.compare_load(&full), Ordering::Less);
        let same = Candidate::new(u32::MAX, u32::MAX);
        assert_eq!(same.compare_load(&same), Ordering::Equal);
    }

    #[test]
    fn a_weight_of_zero_counts_as_one() {
        assert_eq!(Candidate::new(4, 0), Candidate::new(4, 1));
    }

    #[test]
    fn who_is_unhealthy_or_draining_is_available_and_not_eligible() {
        for candidate in [Candidate::new(0, 1).unhealthy(), Candidate::new(0, 1).draining()] {
            assert!(candidate.is_available() && !candidate.is_eligible());
            assert!(!candidate.ineligible().is_available());
        }
    }
}
