//! Slow start: a newcomer's share grows.

use std::time::Duration;

use fastrand::Rng;

use crate::strategy::{Candidate, Candidates, Ended, Strategy};

/// Hides a newcomer from the strategy inside most of the time, and ever more seldom over a window.
///
/// For members that are slow at first: caches to fill, code to compile, connections to open. For a pick a newcomer is there
/// with a probability of max(10 %, age / window); Envoy scales weights so, which for the least loaded of few means nothing
/// at all until it is everything. It needs the time of each pick ([`Request::at`](crate::strategy::Request::at)): without, nobody
/// is new. Who was there from the beginning (time zero) isn't either.
///
/// O(n) while somebody is new, without allocation once it has seen as many members.
///
/// ```
/// use std::time::Duration;
/// use cluster_balancer::strategy::{
///     Candidate, Candidates, Figures, LeastLoaded, Request, SlowStart, Strategy,
/// };
///
/// let seconds = Duration::from_secs;
/// let mut strategy = SlowStart::seeded(LeastLoaded::new(), seconds(60), 7);
/// let all = [Candidate::new(3, 1), Candidate::new(0, 1)];
/// let figures = [Figures::new(0), Figures::new(1).admitted(seconds(100))];
/// let mut newcomers_of_1000 = |now| {
///     let among = Candidates::new(&all).with_figures(&figures).for_request(Request::new().at(seconds(now)));
///     (0..1000).filter(|_| strategy.pick(&among) == Some(1)).count()
/// };
/// assert!((50..150).contains(&newcomers_of_1000(103)));
/// assert!((400..600).contains(&newcomers_of_1000(130)));
/// assert_eq!(newcomers_of_1000(160), 1000);
/// ```
#[derive(Clone, Debug)]
pub struct SlowStart<S> {
    inner: S,
    window: Duration,
    rng: Rng,
    /// Until when somebody is new, as far as known: of which members, and when.
    until: Option<(u64, Duration)>,
    seen: Vec<Candidate>,
}

/// What a newcomer begins with.
const FIRST: f64 = 0.1;

impl<S: Strategy> SlowStart<S> {
    /// With this window; 30 s to a minute is usual.
    pub fn new(inner: S, window: Duration) -> Self {
        Self::with_rng(inner, window, Rng::new())
    }

    /// The same with this seed.
    pub fn seeded(inner: S, window: Duration, seed: u64) -> Self {
        Self::with_rng(inner, window, Rng::with_seed(seed))
    }

    fn with_rng(inner: S, window: Duration, rng: Rng) -> Self {
        Self { inner, window, rng, until: None, seen: Vec::new() }
    }

    /// When a member that came at `admitted` is no longer new; `None` if it isn't now.
    fn new_until(&self, admitted: Duration, now: Duration) -> Option<Duration> {
        let until = admitted.saturating_add(self.window);
        (!admitted.is_zero() && admitted <= now && now < until).then_some(until)
    }

    /// Shows all but the newcomers that are hidden this time. Returns until when somebody is new.
    fn look(&mut self, among: &Candidates<'_>) -> Option<Duration> {
        let now = among.now();
        let mut last = None;
        self.seen.clear();
        for (index, candidate) in among.iter().enumerate() {
            let admitted = among.figures(index).admitted;
            let mut seen = candidate;
            if candidate.is_present()
                && let Some(until) = self.new_until(admitted, now)
            {
                last = last.max(Some(until));
                let share = (now - admitted).as_secs_f64() / self.window.as_secs_f64();
                if self.rng.f64() >= share.max(FIRST) {
                    seen = candidate.ineligible();
                }
            }
            self.seen.push(seen);
        }
        last
    }
}

impl<S: Strategy> Strategy for SlowStart<S> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn pick(&mut self, among: &Candidates<'_>) -> Option<usize> {
        let (now, version) = (among.now(), among.version());
        // Nobody is new, and nobody has come since that was found out.
        if let (Some((known, until)), Some(version)) = (self.until, version)
            && known == version
            && until <= now
        {
            return self.inner.pick(among);
        }
        let until = self.look(among);
        self.until = version.map(|version| (version, until.unwrap_or(now)));
        let picked = match until {
            Some(_) => self.inner.pick(&among.seen_as(&self.seen)),
            None => None,
        };
        // Better a newcomer than nobody.
        picked.or_else(|| self.inner.pick(among))
    }

    fn observe(&mut self, index: usize, ended: Ended) {
        self.inner.observe(index, ended);
    }

    fn ranks_by_load(&self) -> bool {
        self.inner.ranks_by_load()
    }

    fn insists(&self) -> bool {
        self.inner.insists()
    }

    fn looks_beyond_health(&self) -> bool {
        self.inner.looks_beyond_health()
    }
}
