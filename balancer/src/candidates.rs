//! The members to pick from.

use std::time::Duration;

use crate::candidate::{Candidate, Figures};
use crate::index::LoadIndex;

/// What a pick is for, as far as a strategy may care. Nothing of it needs to be known.
///
/// ```
/// use std::time::Duration;
/// use cluster_balancer::{Request, hash_of};
///
/// let request = Request::new().key(hash_of("session 4711")).at(Duration::from_secs(12));
/// # let _ = request;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    class: Option<u8>,
    key: Option<u64>,
    now: Duration,
}

impl Request {
    /// Anything, now.
    #[inline]
    pub fn new() -> Self {
        Self::default()
    }

    /// An item of this class; see [`Classes`](crate::Classes). By default every member takes it.
    #[must_use]
    #[inline]
    pub fn class(self, class: u8) -> Self {
        Self { class: Some(class), ..self }
    }

    /// An item that belongs with others of the same key: the hash of a session, a client's address, a name.
    /// [`hash_of`](crate::hash_of) makes one that is the same in every process.
    #[must_use]
    #[inline]
    pub fn key(self, hash: u64) -> Self {
        Self { key: Some(hash), ..self }
    }

    /// The time of the pick, since any moment that stays the same. Strategies without a sense of time ignore it.
    #[must_use]
    #[inline]
    pub fn at(self, now: Duration) -> Self {
        Self { now, ..self }
    }

    pub(crate) fn of_class(&self) -> Option<u8> {
        self.class
    }

    pub(crate) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    pub(crate) fn time(&self) -> Duration {
        self.now
    }
}

/// The members to pick from, by index. Some may be ineligible.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    // Private, since what a pick may depend on will grow.
    all: &'a [Candidate],
    figures: &'a [Figures],
    index: Option<&'a LoadIndex>,
    request: Request,
    /// Counts changes of membership and weights; 0: nobody counts.
    version: u64,
    /// Who finished something last; an index beyond the end if nobody did.
    finisher: usize,
}

impl<'a> Candidates<'a> {
    /// Shows `all` to a strategy. For tests of a strategy, and for those who use one without a pool or dispatcher.
    pub fn new(all: &'a [Candidate]) -> Self {
        Self { all, figures: &[], index: None, request: Request::new(), version: 0, finisher: usize::MAX }
    }

    #[inline]
    pub(crate) fn kept(
        all: &'a [Candidate],
        figures: &'a [Figures],
        index: Option<&'a LoadIndex>,
        version: u64,
        finisher: usize,
    ) -> Self {
        Self { all, figures, index, request: Request::new(), version, finisher }
    }

    /// The same with what else is known of each, by index.
    #[must_use]
    pub fn with_figures(self, figures: &'a [Figures]) -> Self {
        Self { figures, ..self }
    }

    /// The same, among whom the one at `index` finished something last.
    #[must_use]
    pub fn with_last_to_finish(self, index: usize) -> Self {
        Self { finisher: index, ..self }
    }

    /// The same for this request.
    #[must_use]
    #[inline]
    pub fn for_request(self, request: Request) -> Self {
        Self { request, ..self }
    }

    /// The same members, seen differently: for a strategy that shows another one less, or more, than there is.
    #[must_use]
    pub fn seen_as<'b>(&self, all: &'b [Candidate]) -> Candidates<'b>
    where
        'a: 'b,
    {
        Candidates { all, index: None, version: 0, ..*self }
    }

    /// How many there are, ineligible ones included.
    #[inline]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none at all.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The candidate at `index`.
    #[inline]
    pub fn get(&self, index: usize) -> Option<Candidate> {
        self.all.get(index).map(|candidate| candidate.seen_for(self.request.class))
    }

    /// The same in place, whatever the item's class.
    #[inline]
    pub(crate) fn at(&self, index: usize) -> Option<&'a Candidate> {
        self.all.get(index)
    }

    /// Whether the candidate at `index` could have the item: it is there, takes the class, and has room, be it unwell or draining.
    /// A strategy that looks beyond health may pick it.
    #[inline]
    pub fn is_possible(&self, index: usize) -> bool {
        self.all.get(index).is_some_and(|candidate| {
            candidate.is_present() && candidate.is_available() && candidate.takes(self.request.class)
        })
    }

    /// What else is known of it. Without figures, a member is known by its index.
    #[inline]
    pub fn figures(&self, index: usize) -> Figures {
        self.figures.get(index).copied().unwrap_or_else(|| Figures::new(index as u64))
    }

    /// The item's class, if it has one. Who doesn't take it is shown as ineligible.
    #[inline]
    pub fn class(&self) -> Option<u8> {
        self.request.class
    }

    /// The hash of the item's key, if it has one.
    #[inline]
    pub fn key(&self) -> Option<u64> {
        self.request.key
    }

    /// The time of the pick.
    #[inline]
    pub fn now(&self) -> Duration {
        self.request.now
    }

    /// A number that changes whenever a member comes, goes, or gets another weight; `None` if nobody counts.
    #[inline]
    pub fn version(&self) -> Option<u64> {
        (self.version != 0).then_some(self.version)
    }

    /// All of them in order of index, ineligible ones included.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Candidate> + use<'a> {
        let class = self.request.class;
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
    #[inline]
    pub fn eligible_from(&self, start: usize) -> impl Iterator<Item = (usize, Candidate)> + use<'a> {
        let start = if start < self.all.len() { start } else { 0 };
        let (before, from) = self.all.split_at(start);
        let from = from.iter().enumerate().map(move |(offset, candidate)| (start + offset, *candidate));
        let before = before.iter().enumerate().map(|(index, candidate)| (index, *candidate));
        let class = self.request.class;
        from.chain(before).filter(move |(_, candidate)| candidate.is_eligible() && candidate.takes(class))
    }

    /// The candidate that finished something last, if anybody did: of all the one whose loop most surely turns.
    #[inline]
    pub fn last_to_finish(&self) -> Option<usize> {
        (self.finisher < self.all.len()).then_some(self.finisher)
    }

    /// Whether the candidate at `index` may be picked.
    #[inline]
    pub fn is_eligible(&self, index: usize) -> bool {
        self.all
            .get(index)
            .is_some_and(|candidate| candidate.is_eligible() && candidate.takes(self.request.class))
    }

    /// The least loaded eligible one, by [`Candidate::compare_load`]; of equals the first from `start` on.
    ///
    /// In a pool or dispatcher whose strategy [ranks by load](crate::Strategy::ranks_by_load) this takes constant or
    /// logarithmic time, otherwise a scan.
    #[inline]
    pub fn least_loaded_from(&self, start: usize) -> Option<usize> {
        let start = if start < self.all.len() { start } else { 0 };
        if let Some(index) = self.index
            && (self.request.class.is_none() || index.takes_every_class())
        {
            return index.least(self.all, start);
        }
        let mut best: Option<(usize, Candidate)> = None;
        // A loop rather than `min_by`, which takes four times as long here. Of equals the first stays.
        for (index, candidate) in self.eligible_from(start) {
            if best.is_none_or(|(_, best)| candidate.compare_load(&best).is_lt()) {
                best = Some((index, candidate));
            }
        }
        best.map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
