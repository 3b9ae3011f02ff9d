//! Who fails more of its requests than the others: outlier ejection, as Envoy does it, for few members.
//!
//! With fewer than some five members deviations mean nothing, so it goes by shares: a member whose share of failed requests over a
//! window is high, and at least twice that of all others together, is suspect for a while; the worst first, and never more than a part
//! of them. The while grows with each time in a row (Envoy: `base_ejection_time` × the number of times).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// When a member fails so many of its requests that it gets no more for a while: for [`Checks::outliers`](crate::Checks::outliers).
///
/// | setting | default | Envoy |
/// |---|---|---|
/// | [`window`](Self::window) | 10 s | 10 s |
/// | [`min_requests`](Self::min_requests) | 50 in the window | 100 |
/// | [`share`](Self::share) | 50 % failed | |
/// | [`for_at_least`](Self::for_at_least) | 30 s × times in a row, at most 300 s | the same |
/// | [`at_most`](Self::at_most) | a quarter of the members, but one in any case; never the last | 10 % |
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct Outliers {
    pub(crate) window: Duration,
    pub(crate) min_requests: u64,
    pub(crate) share: f64,
    pub(crate) base: Duration,
    pub(crate) at_most: f64,
}

const LONGEST: Duration = Duration::from_secs(300);
const A_YEAR: Duration = Duration::from_secs(365 * 86_400);

/// How often the members are compared.
const SWEEPS_PER_WINDOW: u32 = 10;

impl Outliers {
    /// The defaults of the table.
    pub fn new() -> Self {
        Self {
            window: Duration::from_secs(10),
            min_requests: 50,
            share: 0.5,
            base: Duration::from_secs(30),
            at_most: 0.25,
        }
    }

    /// Over which time requests are counted; at least 10 ms.
    pub fn window(self, window: Duration) -> Self {
        Self { window: window.max(Duration::from_millis(10)), ..self }
    }

    /// How many requests a member must have had in the window to be judged.
    pub fn min_requests(self, requests: u64) -> Self {
        Self { min_requests: requests.max(1), ..self }
    }

    /// Which share of them must have failed: 0 to 1.
    pub fn share(self, failed: f64) -> Self {
        Self { share: failed, ..self }
    }

    /// For how long it gets nothing, the first time; at most a year.
    pub fn for_at_least(self, time: Duration) -> Self {
        Self { base: time.min(A_YEAR), ..self }
    }

    /// Which part of the members may be suspect for this at a time; one in any case, and never the last that is well.
    pub fn at_most(self, part: f64) -> Self {
        Self { at_most: part, ..self }
    }

    /// Whether one who has done this fails more than all the others, who have done that. Nobody does where there are no others.
    pub(crate) fn is_one(&self, own: Count, others: Count) -> bool {
        own.requests >= self.min_requests
            && own.failed > 0
            && others.requests > 0
            && own.share() >= self.share
            && own.share() >= 2.0 * others.share()
    }

    pub(crate) fn sweep(&self) -> Duration {
        self.window / SWEEPS_PER_WINDOW
    }

    pub(crate) fn ejection(&self, times: u32) -> Duration {
        self.base.saturating_mul(times).min(LONGEST.max(self.base))
    }

    /// How many of so many may be ejected.
    pub(crate) fn allowed(&self, members: usize) -> usize {
        let part = (self.at_most.clamp(0.0, 1.0) * members as f64) as usize;
        part.max(1).min(members.saturating_sub(1))
    }
}

impl Default for Outliers {
    fn default() -> Self {
        Self::new()
    }
}

/// A member that failed more than the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failures {
    /// Its requests in the window.
    pub requests: u64,
    /// How many of them failed.
    pub failed: u64,
    /// The requests of all others.
    pub others_requests: u64,
    /// How many of these failed.
    pub others_failed: u64,
    /// For how long it gets no more.
    pub lasting: Duration,
}

/// Requests and failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
}

impl Count {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            failed: self.failed.saturating_add(other.failed),
        }
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(other.requests),
            failed: self.failed.saturating_sub(other.failed),
        }
    }

    pub(crate) fn share(self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.failed.min(self.requests) as f64 / self.requests as f64 }
    }
}

/// What one member has answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    /// `None` until the first reading, which says nothing of the time before it; and again after the monitor stood still.
    now: Option<Count>,
    /// What it was at the sweeps of the last window.
    past: VecDeque<(Instant, Count)>,
    /// Until when it is ejected.
    pub(crate) until: Option<Instant>,
    times: u32,
    /// When it was let in again.
    since: Option<Instant>,
}

impl Record {
    /// It has answered so many so far. Counts that go backwards begin anew.
    pub(crate) fn handle_counts(&mut self, requests: u64, failed: u64) {
        let failed = failed.min(requests);
        if self.now.is_some_and(|before| requests < before.requests || failed < before.failed) {
            self.past.clear();
        }
        self.now = Some(Count { requests, failed });
    }

    /// The monitor stood still: what failed then is nobody's fault, and comes with the next reading.
    pub(crate) fn forgive(&mut self) {
        self.now = None;
        self.past.clear();
    }

    /// Those of the window that ends now.
    pub(crate) fn handle_sweep(&mut self, window: Duration, now: Instant) -> Count {
        let Some(count) = self.now else { return Count::default() };
        while self.past.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= window) {
            self.past.pop_front();
        }
        let before = self.past.front().map_or(count, |(_, count)| *count);
        self.past.push_back((now, count));
        // A sweep a window's tenth: no more than that and what is at its edges.
        while self.past.len() > 2 * SWEEPS_PER_WINDOW as usize {
            self.past.pop_front();
        }
        count.minus(before)
    }

    /// It gets no more for a while, which is returned.
    pub(crate) fn eject(&mut self, outliers: &Outliers, now: Instant) -> Duration {
        // A time as long as the last one without failure, and it is the first time again.
        let calm = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if calm > outliers.ejection(self.times) {
            self.times = 0;
        }
        self.times = self.times.saturating_add(1);
        let lasting = outliers.ejection(self.times);
        self.until = now.checked_add(lasting);
        lasting
    }

    /// Lets it in again, if it is time: what it did before is not held against it.
    pub(crate) fn readmit(&mut self, now: Instant) -> bool {
        let is_over = self.until.is_some_and(|until| until <= now);
        if is_over {
            self.until = None;
            self.since = Some(now);
            self.past.clear();
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_all_and_one_in_any_case() {
        let outliers = Outliers::new();
        let allowed: Vec<_> = [0, 1, 2, 3, 4, 7, 8, 16].map(|members| outliers.allowed(members)).to_vec();
        assert_eq!(allowed, [0, 0, 1, 1, 1, 1, 2, 4]);
        assert_eq!(Outliers::new().at_most(9.0).allowed(4), 3);
        assert_eq!(Outliers::new().at_most(f64::NAN).allowed(4), 1);
    }

    #[test]
    fn the_while_grows_and_is_bounded() {
        let outliers = Outliers::new();
        let lasting: Vec<_> =
            [1, 2, 10, 11, u32::MAX].map(|times| outliers.ejection(times).as_secs()).to_vec();
        assert_eq!(lasting, [30, 60, 300, 300, 300]);
    }
}
