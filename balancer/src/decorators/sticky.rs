//! Sticky: a key stays where it was.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

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
/// O(1), with an allocation for a new key now and then.
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
    max: usize,
    keys: HashMap<u64, Home>,
    /// Uses in order of time. One that is not its key's last says nothing any more.
    uses: VecDeque<(u64, Duration)>,
}

#[derive(Clone, Copy, Debug)]
struct Home {
    identity: u64,
    /// Where it was then: its place is its own as long as it is there.
    index: usize,
    used: Duration,
    /// How many of `uses` are of this key.
    uses: u32,
}

/// How many keys are remembered by default.
const MAX_KEYS: usize = 1 << 20;

impl<S: Strategy> Sticky<S> {
    /// Remembers up to a million keys, each for this long after its last use.
    pub fn new(inner: S, ttl: Duration) -> Self {
        Self { inner, ttl, max: MAX_KEYS, keys: HashMap::new(), uses: VecDeque::new() }
    }

    /// The same with at most so many keys. Default: 1,048,576, some 60 MB.
    #[must_use]
    pub fn max_keys(self, keys: usize) -> Self {
        Self { max: keys.max(1), ..self }
    }

    /// How many keys are remembered.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    fn forget_old(&mut self, now: Duration) {
        while let Some((key, used)) = self.uses.front().copied() {
            let old = now.saturating_sub(used) > self.ttl;
            // A use that was followed by another is only in the way.
            let stale = self.keys.get(&key).is_none_or(|home| home.uses > 1);
            if !old && !stale && self.keys.len() <= self.max {
                return;
            }
            self.uses.pop_front();
            if let Some(home) = self.keys.get_mut(&key) {
                home.uses -= 1;
                if home.uses == 0 {
                    self.keys.remove(&key);
                }
            }
        }
    }

    fn remember(&mut self, key: u64, identity: u64, index: usize, now: Duration) {
        let home = self.keys.entry(key).or_insert(Home { identity, index, used: now, uses: 0 });
        (home.identity, home.index, home.used) = (identity, index, now);
        home.uses += 1;
        self.uses.push_back((key, now));
        self.forget_old(now);
        if self.uses.len() > 2 * self.keys.len() + 64 {
            self.forget_repetitions();
        }
    }

    /// Of each key only the last use counts. That is done when half of them don't, so it costs little for each.
    fn forget_repetitions(&mut self) {
        let keys = &mut self.keys;
        self.uses.retain(|(key, _)| match keys.get_mut(key) {
            Some(home) if home.uses > 1 => {
                home.uses -= 1;
                false
            }
            found => found.is_some(),
        });
    }

    /// Where a key is at home, if it may go there.
    fn home(&self, among: &Candidates<'_>, key: u64) -> Option<(usize, u64)> {
        let home = self.keys.get(&key).filter(|home| among.now().saturating_sub(home.used) <= self.ttl)?;
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
        (candidate.is_available() && candidate.is_healthy()).then_some((index, home.identity))
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
        self.remember(key, identity, index, among.now());
        Some(index)
    }

    fn observe(&mut self, index: usize, ended: Ended) {
        self.inner.observe(index, ended);
    }

    fn ranks_by_load(&self) -> bool {
        self.inner.ranks_by_load()
    }
}
