//! Strategies: who gets the next item. The [`Strategy`] trait is the seam for one's own.
//!
//! Writing one takes a struct and one method, or [`from_fn`] and a closure:
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

use std::fmt;
use std::time::Duration;

pub use crate::candidate::{Candidate, Figures};
pub use crate::candidates::{Candidates, Request};
pub use crate::decorators::{BoundedLoad, Fallback, Named, PanicThreshold, SlowStart, Sticky, key_of_member};
pub use crate::strategies::{
    FromFn, LeastLoaded, LeastUsed, Maglev, PeakEwma, PowerOfTwoChoices, Random, Rendezvous, RoundRobin,
    SmoothWeighted, UnknownStrategy, WeightedRandom, by_name, by_name_seeded, from_fn, names,
};

/// Picks the member that gets the next item.
///
/// A strategy may keep state (`&mut self`), but not the counts of outstanding work: the caller has the
/// exact ones and shows them with every pick.
pub trait Strategy: fmt::Debug + Send {
    /// What people call it, as in a configuration file: lower case, words joined by hyphens.
    fn name(&self) -> &'static str;

    /// Returns the index into `among` of an eligible candidate, or `None` when none is eligible.
    ///
    /// A member keeps its index while it stays; the index of a removed member may pass to a newcomer
    /// ([`Figures::identity`] tells them apart).
    ///
    /// [`Dispatcher`](crate::Dispatcher) and [`Pool`](crate::Pool) do not trust the answer: for an index out of range, for a
    /// candidate that has no room, and for `None` while somebody is eligible they take the first eligible one.
    /// A broken strategy spoils the balance, never the work.
    fn pick(&mut self, among: &Candidates<'_>) -> Option<usize>;

    /// An item that the member at `index` had has ended. By default this is of no interest.
    fn observe(&mut self, index: usize, ended: Ended) {
        let _ = (index, ended);
    }

    /// Whether it asks for the [least loaded](Candidates::least_loaded_from): then the caller keeps an index, so that this
    /// is fast among many. By default it doesn't.
    fn ranks_by_load(&self) -> bool {
        false
    }

    /// Whether an item shall rather wait where it was sent than go elsewhere: because its [key](Candidates::key) says so, or
    /// because each member is to have its exact share. By default it goes where it is served first.
    fn insists(&self) -> bool {
        false
    }

    /// Whether it may pick somebody who is unwell: then a [`Dispatcher`](crate::Dispatcher) counts the free places of those, too.
    /// By default it doesn't.
    fn looks_beyond_health(&self) -> bool {
        false
    }
}

impl<S: Strategy + ?Sized> Strategy for Box<S> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn pick(&mut self, among: &Candidates<'_>) -> Option<usize> {
        (**self).pick(among)
    }

    fn observe(&mut self, index: usize, ended: Ended) {
        (**self).observe(index, ended);
    }

    fn ranks_by_load(&self) -> bool {
        (**self).ranks_by_load()
    }

    fn insists(&self) -> bool {
        (**self).insists()
    }

    fn looks_beyond_health(&self) -> bool {
        (**self).looks_beyond_health()
    }
}

/// How an item ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    failed: bool,
    took: Option<Duration>,
    at: Duration,
}

impl Ended {
    /// Well, at this time (since the same moment as [`Request::at`]).
    pub fn well(at: Duration) -> Self {
        Self { failed: false, took: None, at }
    }

    /// Badly, at this time.
    pub fn badly(at: Duration) -> Self {
        Self { failed: true, took: None, at }
    }

    /// The same after so long.
    #[must_use]
    pub fn after(self, took: Duration) -> Self {
        Self { took: Some(took), ..self }
    }

    /// Whether it failed.
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// How long it took, if that is known.
    pub fn took(&self) -> Option<Duration> {
        self.took
    }

    /// When.
    pub fn at(&self) -> Duration {
        self.at
    }
}
