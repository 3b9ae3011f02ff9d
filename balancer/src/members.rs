//! The table of members as strategies see it, index by index.

use std::time::Duration;

use crate::Strategy;
use crate::candidate::{Candidate, Figures};
use crate::candidates::{Candidates, Request};
use crate::index::LoadIndex;

/// Kept, so that a pick has nothing to build. Every change goes through here, which keeps the index true.
#[derive(Debug)]
pub(crate) struct Members {
    candidates: Vec<Candidate>,
    figures: Vec<Figures>,
    /// Only for strategies that ask for it.
    index: Option<LoadIndex>,
    /// The index is of others than are here: it is made anew before it is asked, once for many changes.
    stale: bool,
    /// Counts changes of membership and weights, from 1.
    version: u64,
    /// Who finished something last; `usize::MAX` as long as nobody did.
    finisher: usize,
}

impl Members {
    pub(crate) fn for_strategy<S: Strategy + ?Sized>(strategy: &S) -> Self {
        let index = strategy.ranks_by_load().then(|| LoadIndex::new(&[]));
        Self {
            candidates: Vec::new(),
            figures: Vec::new(),
            index,
            stale: false,
            version: 1,
            finisher: usize::MAX,
        }
    }

    #[inline]
    pub(crate) fn get(&self, place: usize) -> Option<&Candidate> {
        self.candidates.get(place)
    }

    pub(crate) fn figures(&self, place: usize) -> Option<&Figures> {
        self.figures.get(place)
    }

    #[inline]
    pub(crate) fn figures_mut(&mut self, place: usize) -> Option<&mut Figures> {
        self.figures.get_mut(place)
    }

    /// A place more, without a member.
    pub(crate) fn add_place(&mut self) -> usize {
        self.candidates.push(Candidate::vacant());
        self.figures.push(Figures::default());
        self.renew();
        self.candidates.len() - 1
    }

    /// A member moves in, known by `identity`.
    pub(crate) fn occupy(&mut self, place: usize, identity: u64, now: Duration) {
        if let Some(figures) = self.figures.get_mut(place) {
            *figures = Figures::new(identity).admitted(now);
        }
        self.set(place, Candidate::new(0, 1).ineligible());
    }

    /// A member moves out, and takes what was known of it along.
    pub(crate) fn vacate(&mut self, place: usize) {
        if let Some(figures) = self.figures.get_mut(place) {
            *figures = Figures::default();
        }
        if self.finisher == place {
            self.finisher = usize::MAX;
        }
        self.set(place, Candidate::vacant());
    }

    /// Changes what strategies see of the member at `place`.
    pub(crate) fn set(&mut self, place: usize, candidate: Candidate) {
        let Some(now) = self.candidates.get_mut(place) else { return };
        let before = std::mem::replace(now, candidate);
        let other = (before.weight(), before.is_present(), before.classes())
            != (candidate.weight(), candidate.is_present(), candidate.classes());
        if other {
            self.renew();
        } else if let Some(index) = &mut self.index
            && !self.stale
            && before != candidate
        {
            index.update(&self.candidates, place, before.rank());
        }
    }

    /// The member at `place` has so much outstanding now, and room for more or not.
    #[inline(always)]
    pub(crate) fn count(&mut self, place: usize, outstanding: u32, room: bool) {
        let Some(now) = self.candidates.get_mut(place) else { return };
        let before = now.rank();
        now.count(outstanding, room);
        if let Some(index) = &mut self.index
            && !self.stale
        {
            index.update(&self.candidates, place, before);
        }
    }

    /// The member at `place` has finished something.
    #[inline(always)]
    pub(crate) fn finish(&mut self, place: usize) {
        self.finisher = place;
    }

    fn renew(&mut self) {
        self.version += 1;
        self.stale = self.index.is_some();
    }

    #[inline(always)]
    pub(crate) fn view(&self, request: Request) -> Candidates<'_> {
        let index = if self.stale { None } else { self.index.as_ref() };
        Candidates::kept(&self.candidates, &self.figures, index, self.version, self.finisher)
            .for_request(request)
    }

    /// Asks the strategy and does not trust it: see [`Strategy::pick`].
    #[inline(always)]
    pub(crate) fn pick<S: Strategy + ?Sized>(&mut self, strategy: &mut S, request: Request) -> Option<usize> {
        if self.stale {
            self.index = Some(LoadIndex::new(&self.candidates));
            self.stale = false;
        }
        self.pick_among(strategy, &self.view(request))
    }

    /// The same among these members seen differently.
    #[inline(always)]
    pub(crate) fn pick_among<S: Strategy + ?Sized>(
        &self,
        strategy: &mut S,
        among: &Candidates<'_>,
    ) -> Option<usize> {
        strategy
            .pick(among)
            .filter(|place| among.is_possible(*place))
            .or_else(|| among.eligible_from(0).next().map(|(place, _)| place))
    }

    /// All of them, those in `places` not to be picked. It takes a copy, so it is for what is rare.
    pub(crate) fn without(&self, places: impl Iterator<Item = usize>) -> Vec<Candidate> {
        let mut all = self.candidates.clone();
        for place in places {
            if let Some(candidate) = all.get_mut(place) {
                *candidate = candidate.ineligible();
            }
        }
        all
    }
}
