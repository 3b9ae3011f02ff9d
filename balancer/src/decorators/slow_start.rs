//! Slow start: a newcomer's share grows.

use std::time::Duration;

use crate::strategy::{Candidate, Candidates, Ended, Strategy};

/// Shows the strategy inside a newcomer with a small weight, which grows to its own over a window.
///
/// For members that are slow at first: caches to fill, code to compile, connections to open. The weight is the member's
/// × max(10 %, age / window), as Envoy's with aggression 1. It needs the time of each pick
/// ([`Request::at`](crate::strategy::Request::at)), and a strategy that considers weights.
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
/// let mut strategy = SlowStart::new(LeastLoaded::new(), seconds(60));
/// let all = [Candidate::new(3, 1), Candidate::new(0, 1)];
/// let figures = [Figures::new(0), Figures::new(1).admitted(seconds(100))];
/// let mut pick = |now| {
///     strategy.pick(&Candidates::new(&all).with_figures(&figures).for_request(Request::new().at(seconds(now))))
/// };
/// assert_eq!(pick(103), Some(0), "1 / 0.1 is more than 4 / 1");
/// assert_eq!(pick(160), Some(1));
/// ```
#[derive(Clone, Debug)]
pub struct SlowStart<S> {
    inner: S,
    window: Duration,
    /// Until when somebody is new, as far as known: of which members, and when.
    until: Option<(u64, Duration)>,
    seen: Vec<Candidate>,
}

/// Weights are shown times this, so that a tenth of 1 is something.
const SCALE: u32 = 100;

/// What a newcomer begins with, of [`SCALE`].
const FIRST: u32 = 10;

impl<S: Strategy> SlowStart<S> {
    /// With this window; 30 s to a minute is usual.
    pub fn new(inner: S, window: Duration) -> Self {
        Self { inner, window, until: None, seen: Vec::new() }
    }

    fn share(&self, admitted: Duration, now: Duration) -> u32 {
        let age = now.saturating_sub(admitted).as_secs_f64();
        let part = if self.window.is_zero() { 1.0 } else { age / self.window.as_secs_f64() };
        ((part.min(1.0) * f64::from(SCALE)) as u32).max(FIRST)
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
        let mut until = Duration::ZERO;
        self.seen.clear();
        for (index, candidate) in among.iter().enumerate() {
            let admitted = among.figures(index).admitted;
            // Who was there from the beginning is not new.
            let share = if admitted.is_zero() { SCALE } else { self.share(admitted, now) };
            if share < SCALE && candidate.is_present() {
                until = until.max(admitted.saturating_add(self.window));
            }
            self.seen.push(candidate.with_weight(candidate.weight().saturating_mul(share)));
        }
        self.until = version.map(|version| (version, until));
        if until.is_zero() {
            return self.inner.pick(among);
        }
        self.inner.pick(&among.seen_as(&self.seen))
    }

    fn observe(&mut self, index: usize, ended: Ended) {
        self.inner.observe(index, ended);
    }

    fn ranks_by_load(&self) -> bool {
        self.inner.ranks_by_load()
    }
}
