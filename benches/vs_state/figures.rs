//! What was measured.

use std::collections::BTreeMap;

/// One row of the tables and of the gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    LocalGet,
    RedisGet,
    /// On a CPU each.
    Bare,
    BareP99,
    Acknowledged,
    AcknowledgedP99,
    RedisSet,
    RedisSetP99,
    BareOneCpu,
    AcknowledgedOneCpu,
    RedisSetOneCpu,
    /// With pauses, among eight workers.
    BarePaused,
    /// Where all of the others watch, and where none does.
    AcknowledgedOf8,
    AcknowledgedAsleep,
    /// From the begin of a write until reads of other workers see it: half of them, 11 of 12.
    ReadOn8,
    ReadOnAll8,
    /// From the begin of a write until the last watcher was told.
    ToldOn8,
    ToldOn8P99,
    SocketsOn8,
    ChannelsOn8,
    RedisOn8,
    RedisOn8P99,
    /// Per second.
    Pipelined1,
    Pipelined4,
    RedisPipelined,
    Join,
    RedisGetAll,
}

/// Nanoseconds, or operations per second: one of each round.
#[derive(Debug)]
pub(crate) struct Figures {
    /// Its version, if it took part.
    pub(crate) redis: Option<String>,
    rounds: BTreeMap<What, Vec<f64>>,
}

impl Figures {
    pub(crate) const fn new(redis: Option<String>) -> Self {
        Self { redis, rounds: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, what: What, value: f64) {
        self.rounds.entry(what).or_default().push(value);
    }

    pub(crate) fn of(&self, what: What) -> Option<Summary> {
        let mut values = self.rounds.get(&what)?.clone();
        values.sort_unstable_by(f64::total_cmp);
        Some(Summary { median: median(&values), least: *values.first()?, most: *values.last()? })
    }

    /// The median of the ratios within each round.
    pub(crate) fn ratio(&self, one: What, to: What) -> Option<f64> {
        let (one, to) = (self.rounds.get(&one)?, self.rounds.get(&to)?);
        let mut ratios: Vec<f64> = one.iter().zip(to).map(|(one, to)| one / to).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        Some(median(&ratios))
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// From each begin to its end.
pub(crate) fn durations(stamps: &[u64]) -> Vec<f64> {
    let mut durations: Vec<f64> =
        stamps.chunks_exact(2).map(|pair| pair[1].saturating_sub(pair[0]) as f64).collect();
    durations.sort_unstable_by(f64::total_cmp);
    durations
}

/// Of sorted values, 0 of none: the one at that part of them.
pub(crate) fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = (sorted.len().saturating_sub(1) as f64 * part).round() as usize;
    sorted.get(place).copied().unwrap_or_default()
}

fn median(sorted: &[f64]) -> f64 {
    f64::midpoint(
        quantile(sorted, 0.5),
        sorted.get((sorted.len().saturating_sub(1)) / 2).copied().unwrap_or_default(),
    )
}
