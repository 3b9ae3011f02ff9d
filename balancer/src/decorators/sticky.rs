//! Sticky: a key stays where it was.

use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;

use crate::strategy::{Candidates, Ended, Strategy};

/// Sends a key to the member that it went to last, as long as that is there and the key is used; the strategy inside decides
/// where it goes first.
///
/// For sessions that live in one member's memory. Unlike with hashing, no key moves when members come. A member that is
/// draining keeps its keys and gets no new ones; one that is unhealthy, full or gone loses them to where the
/// strategy inside sends them next.
///
/// A key is forgotten when it was not used for the time to live, and the one used longest ago when there are too many. It
/// needs the time of each pick ([`Request::at`](crate::strategy::Request::at)).
///
/// O(1), with an allocation for a new key.
///
/// ```
/// use std::time::Duration;
/// use cluster_balancer::strategy::{Candidate, Candidates, LeastLoaded, Request, Sticky, Strategy};
///
/// let mut strategy = Sticky::new(LeastLoaded::new(), Duration::from_secs(600));
/// let all = [Candidate::new(0, 1), Candidate::new(0, 1)];
/// let mut pick = |key| strategy.pick(&Candidates::new(&all).for_request(Request::new().key(key)));
/// let (anna, bert) = (pick(1), pick(2));
/// assert_ne!(anna, bert);
/// assert!((0..9).all(|_| pick(1) == anna && pick(2) == bert));
/// ```
#[derive(Clone, Debug)]
pub struct Sticky<S> {
    inner: S,
    ttl: Duration,
    keys: LruCache<u64, Home>,
}

#[derive(Clone, Copy, Debug)]
struct Home {
    identity: u64,
    /// Where it was then: its place is its own as long as it is there.
    index: usize,
    used: Duration,
    /// It was chosen although it was unwell, since nobody better was to be had.
    unwell: bool,
}

/// How many keys are remembered by default. (A constant: the compiler has checked it.)
const MAX_KEYS: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// How many old keys are forgotten per pick at most: more than come, and so few that nobody waits for it.
const FORGET: usize = 2;

impl<S: Strategy> Sticky<S> {
    /// Remembers up to 100,000 keys, each for this long after its last use.
    pub fn new(inner: S, ttl: Duration) -> Self {
        Self { inner, ttl, keys: LruCache::new(MAX_KEYS) }
    }

    /// The same with at most so many keys, 0 counting as 1. Default: 100,000, some 8 MB when all are there.
    #[must_use]
    pub fn max_keys(self, keys: usize) -> Self {
        let max = NonZeroUsize::new(keys).unwrap_or(NonZeroUsize::MIN);
        Self { keys: LruCache::new(max), ..self }
    }

    /// How many keys are remembered, some of which may be too old to count.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    fn forget_old(&mut self, now: Duration) {
        for _ in 0..FORGET {
            let old = self.keys.peek_lru().is_some_and(|(_, home)| self.is_old(home, now));
            if !old {
                return;
            }
            self.keys.pop_lru();
        }
    }

    fn is_old(&self, home: &Home, now: Duration) -> bool {
        now.saturating_sub(home.used) > self.ttl
    }

    /// Where a key is at home, if it may go there.
    fn home(&self, among: &Candidates<'_>, key: u64) -> Option<(usize, u64)> {
        let home = self.keys.peek(&key).filter(|home| !self.is_old(home, among.now()))?;
        let is_there = |index: usize| {
            let candidate = among.get(index)?;
            let lives = candidate.is_present() && among.figures(index).identity() == home.identity;
            lives.then_some(candidate)
        };
        let index = match is_there(home.index) {
            Some(_) => home.index,
            None => (0..among.len()).find(|index| is_there(*index).is_some())?,
        };
        let candidate = is_there(index)?;
        (candidate.is_available() && (candidate.is_healthy() || home.unwell))
            .then_some((index, home.identity))
    }
}

impl<S: Strategy> Strategy for Sticky<S> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn pick(&mut self, among: &Candidates<'_>) -> Option<usize> {
        let Some(key) = among.key() else { return self.inner.pick(among) };
        let (index, identity) = match self.home(among, key) {
            Some(home) => home,
            None => {
                let index = self.inner.pick(among)?;
                (index, among.figures(index).identity())
            }
        };
        let unwell = among.get(index).is_some_and(|candidate| !candidate.is_healthy());
        self.keys.put(key, Home { identity, index, used: among.now(), unwell });
        self.forget_old(among.now());
        Some(index)
    }

    fn observe(&mut self, index: usize, ended: Ended) {
        self.inner.observe(index, ended);
    }

    fn ranks_by_load(&self) -> bool {
        self.inner.ranks_by_load()
    }

    fn insists(&self) -> bool {
        true
    }

    fn looks_beyond_health(&self) -> bool {
        self.inner.looks_beyond_health()
    }
}
