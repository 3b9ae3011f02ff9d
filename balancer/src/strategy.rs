//! The seam where one picks the next member: the [`Strategy`] trait and what a strategy gets to see.
//!
//! Writing one takes a struct and one method:
//!
//! ```
//! use cluster_balancer::strategy::{Candidate, Candidates, Strategy};
//!
//! /// Fills one member to the brim before it touches the next: fewest members busy.
//! #[derive(Debug)]
//! struct Fullest;
//!
//! impl Strategy for Fullest {
//!     fn name(&self) -> &'static str {
//!         "fullest"
//!     }
//!
//!     fn pick(&mut self, among: &Candidates<'_>) -> Option<usize> {
//!         among.eligible_from(0).max_by_key(|(_, candidate)| candidate.outstanding()).map(|(index, _)| index)
//!     }
//! }
//!
//! let among = [Candidate::new(3, 1), Candidate::new(7, 1), Candidate::new(9, 1).ineligible()];
//! assert_eq!(Fullest.pick(&Candidates::new(&among)), Some(1));
//! ```

use std::cmp::Ordering;
use std::fmt;

use crate::Classes;

pub use crate::least_loaded::LeastLoaded;
pub use crate::named::{UnknownStrategy, by_name, names};
pub use crate::round_robin::RoundRobin;

/// Picks the member that gets the next item.
///
/// A strategy may keep state (`&mut self`), but not the counts of outstanding work: the caller has the
/// exact ones and shows them with every pick.
pub trait Strategy: fmt::Debug + Send {
    /// What people call it, as in a configuration file: lower case, words joined by hyphens.
    fn name(&self) -> &'static str;

    /// Returns the index into `among` of an eligible candidate, or `None` when none is eligible.
    ///
    /// A member keeps its index while it stays; the index of a removed member may pass to a newcomer.
    ///
    /// [`Dispatcher`](crate::Dispatcher) does not trust the answer: for an index out of range, for an
    /// ineligible candidate, and for `None` while somebody is eligible it takes the first eligible one.
    /// A broken strategy spoils the balance, never the work.
    fn pick(&mut self, among: &Candidates<'_>) -> Option<usize>;
}

/// What a strategy sees of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    outstanding: u32,
    weight: u32,
    eligible: bool,
    classes: Classes,
}

impl Candidate {
    /// An eligible candidate with so many items assigned and not finished. A weight of 0 counts as 1.
    pub fn new(outstanding: u32, weight: u32) -> Self {
        Self { outstanding, weight: weight.max(1), eligible: true, classes: Classes::all() }
    }

    pub(crate) fn of(self, classes: Classes) -> Self {
        Self { classes, ..self }
    }

    fn is_eligible_for(&self, class: Option<u8>) -> bool {
        self.eligible && class.is_none_or(|class| self.classes.contains(class))
    }

    fn seen_for(&self, class: Option<u8>) -> Self {
        Self { eligible: self.is_eligible_for(class), ..*self }
    }

    /// The same candidate, not to be picked.
    #[must_use]
    pub fn ineligible(self) -> Self {
        Self { eligible: false, ..self }
    }

    /// How many items it has that are not finished, taken or not.
    pub fn outstanding(&self) -> u32 {
        self.outstanding
    }

    /// Its share of the work relative to the others, at least 1.
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// Whether it may be picked: admitted, not paused, with room for one more item.
    pub fn is_eligible(&self) -> bool {
        self.eligible
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

/// The members to pick from, by index. Some may be ineligible.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    // Private, since what a pick may depend on will grow (a hash of the peer's address, for instance).
    all: &'a [Candidate],
    /// The class of the item, if that matters: those that don't take it are not eligible.
    class: Option<u8>,
}

impl<'a> Candidates<'a> {
    /// Shows `all` to a strategy. For tests of a strategy, and for those who use one without a dispatcher.
    pub fn new(all: &'a [Candidate]) -> Self {
        Self { all, class: None }
    }

    pub(crate) fn of_class(all: &'a [Candidate], class: u8) -> Self {
        Self { all, class: Some(class) }
    }

    /// How many there are, ineligible ones included.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none at all.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The candidate at `index`.
    pub fn get(&self, index: usize) -> Option<Candidate> {
        self.all.get(index).map(|candidate| candidate.seen_for(self.class))
    }

    /// All of them in order of index, ineligible ones included.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Candidate> + use<'a> {
        let class = self.class;
        self.all.iter().map(move |candidate| candidate.seen_for(class))
    }

    /// The eligible ones with their index, each once: from `start` to the end, then from 0 up to `start`.
    ///
    /// A strategy that starts behind its last pick and prefers the first of equals breaks ties by rotation.
    /// A `start` beyond the end counts as 0.
    ///
    /// ```
    /// use cluster_balancer::{Candidate, Candidates};
    ///
    /// let all = [Candidate::new(0, 1), Candidate::new(0, 1).ineligible(), Candidate::new(0, 1)];
    /// let order: Vec<usize> = Candidates::new(&all).eligible_from(1).map(|(index, _)| index).collect();
    /// assert_eq!(order, [2, 0]);
    /// ```
    pub fn eligible_from(&self, start: usize) -> impl Iterator<Item = (usize, Candidate)> + use<'a> {
        let start = if start < self.all.len() { start } else { 0 };
        let (before, from) = self.all.split_at(start);
        let from = from.iter().enumerate().map(move |(offset, candidate)| (start + offset, *candidate));
        let before = before.iter().enumerate().map(|(index, candidate)| (index, *candidate));
        let class = self.class;
        from.chain(before).filter(move |(_, candidate)| candidate.is_eligible_for(class))
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
    fn every_start_visits_every_eligible_candidate_once() {
        let all = [Candidate::new(0, 1), Candidate::new(0, 1).ineligible(), Candidate::new(0, 1)];
        let among = Candidates::new(&all);
        let order = |start| among.eligible_from(start).map(|(index, _)| index).collect::<Vec<_>>();
        assert_eq!(order(0), [0, 2]);
        assert_eq!(order(2), [2, 0]);
        assert_eq!(order(3), [0, 2], "beyond the end is the beginning");
        assert_eq!(order(usize::MAX), [0, 2]);
    }
}
