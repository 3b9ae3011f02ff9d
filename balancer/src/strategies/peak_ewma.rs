//! Peak EWMA: who has lately been fast.

use std::time::Duration;

use fastrand::Rng;

use super::power_of_two::draw_two;
use crate::strategy::{Candidates, Ended, Strategy};

/// Of two members picks the one whose latency, times what it has to do, is lower.
///
/// Finagle's and Linkerd's: a moving average of latency that follows a rise at once, and a fall or silence slowly (half of it in
/// 0.7 × [`decay`](Self::decay)), multiplied by outstanding + 1. Silence counts for who has nothing to do. Of two of whom one is not known yet, it
/// picks the less loaded. A failure counts as a latency of at least [`penalty`](Self::penalty): otherwise who fails fast would look
/// fast, and get everything.
///
/// For members whose speed differs, as seen from one of many dispatchers. Not a default: where service times have a heavy
/// tail, one long item poisons a member and work herds away from it (p99 6 × least-loaded's in simulation).
///
/// It learns from [`observe`](Strategy::observe) with the time an item [took](Ended::after), and needs the time of each pick
/// ([`Request::at`](crate::strategy::Request::at)) to forget; without either it is power of two choices. O(1) per pick, without allocation.
///
/// ```
/// use std::time::Duration;
/// use cluster_balancer::strategy::{Candidate, Candidates, Ended, PeakEwma, Strategy};
///
/// let mut strategy = PeakEwma::new();
/// let ms = Duration::from_millis;
/// strategy.observe(0, Ended::well(ms(100)).after(ms(80)));
/// strategy.observe(1, Ended::well(ms(100)).after(ms(5)));
/// let among = [Candidate::new(0, 1), Candidate::new(3, 1)];
/// assert_eq!(strategy.pick(&Candidates::new(&among)), Some(1), "4 × 5 ms is less than 1 × 80 ms");
/// ```
#[derive(Clone, Debug)]
pub struct PeakEwma {
    rng: Rng,
    decay: Duration,
    penalty: Duration,
    seen: Vec<Option<Average>>,
}

#[derive(Clone, Copy, Debug)]
struct Average {
    seconds: f64,
    at: Duration,
    identity: Option<u64>,
}

impl Average {
    /// What is left of it at this time: who was slow once is tried again.
    fn at(&self, now: Duration, decay: Duration) -> f64 {
        self.seconds * kept(now.saturating_sub(self.at), decay)
    }
}

/// How much of an observation counts after so long.
fn kept(gap: Duration, decay: Duration) -> f64 {
    (-gap.as_secs_f64() / decay.as_secs_f64().max(f64::MIN_POSITIVE)).exp()
}

/// Faster than this, in seconds, nobody is: who has more to do must still cost more.
const LEAST: f64 = 1e-6;

/// What counts as long ago by default.
const DECAY: Duration = Duration::from_secs(10);

/// What a failure counts as by default, at least.
const PENALTY: Duration = Duration::from_secs(1);

impl Default for PeakEwma {
    fn default() -> Self {
        Self::with_rng(Rng::new())
    }
}

impl PeakEwma {
    /// With a seed of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// With this seed.
    pub fn seeded(seed: u64) -> Self {
        Self::with_rng(Rng::with_seed(seed))
    }

    fn with_rng(rng: Rng) -> Self {
        Self { rng, decay: DECAY, penalty: PENALTY, seen: Vec::new() }
    }

    /// After so long an observation has lost 63 % of its weight. Default: 10 s.
    #[must_use]
    pub fn decay(self, decay: Duration) -> Self {
        Self { decay, ..self }
    }

    /// What a failure counts as, at least. Default: 1 s.
    #[must_use]
    pub fn penalty(self, penalty: Duration) -> Self {
        Self { penalty, ..self }
    }

    /// Latency times what there is to do, if the latency is known.
    fn cost(&self, among: &Candidates<'_>, index: usize) -> Option<f64> {
        let candidate = among.at(index)?;
        let identity = among.figures(index).identity();
        // Somebody else's figures are worth nothing.
        let average = self.seen.get(index).copied().flatten();
        let average = average.filter(|average| average.identity.is_none_or(|known| known == identity))?;
        // That nothing ends at somebody who has something to do speaks for nobody's speed.
        let silent = candidate.outstanding() == 0;
        let seconds = if silent { average.at(among.now(), self.decay) } else { average.seconds }.max(LEAST);
        Some(seconds * (f64::from(candidate.outstanding()) + 1.0) / f64::from(candidate.weight()))
    }
}

impl Strategy for PeakEwma {
    fn name(&self) -> &'static str {
        "peak-ewma"
    }

    #[inline]
    fn pick(&mut self, among: &Candidates<'_>) -> Option<usize> {
        let (first, second) = draw_two(&mut self.rng, among)?;
        let second_is_better = match (self.cost(among, first), self.cost(among, second)) {
            (Some(first), Some(second)) => second < first,
            _ => among.at(second)?.compare_load(among.at(first)?).is_lt(),
        };
        let picked = if second_is_better { second } else { first };
        // From now on what is observed there is known to be this member's.
        let identity = among.figures(picked).identity();
        if let Some(Some(average)) = self.seen.get_mut(picked) {
            if average.identity.is_some_and(|known| known != identity) {
                self.seen[picked] = None;
            } else {
                average.identity = Some(identity);
            }
        }
        Some(picked)
    }

    fn observe(&mut self, index: usize, ended: Ended) {
        let Some(took) = ended.took() else { return };
        let sample = if ended.failed() { took.max(self.penalty) } else { took }.as_secs_f64();
        if index >= self.seen.len() {
            self.seen.resize(index + 1, None);
        }
        let Some(seen) = self.seen.get_mut(index) else { return };
        let (seconds, identity) = match seen {
            Some(average) if sample <= average.seconds => {
                let kept = kept(ended.at().saturating_sub(average.at), self.decay);
                (average.seconds * kept + sample * (1.0 - kept), average.identity)
            }
            Some(average) => (sample, average.identity),
            None => (sample, None),
        };
        *seen = Some(Average { seconds, at: ended.at(), identity });
    }
}
