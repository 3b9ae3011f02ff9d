//! Limits that have to be exceeded for a while, and what follows.
//!
//! | state \ value | over     | over for long | between  | under    | under for long |
//! |---------------|----------|---------------|----------|----------|----------------|
//! | Under         | Over     | Over          | -        | -        | -              |
//! | Over          | -        | Breached B    | Under    | Under    | Under          |
//! | Breached      | -        | Breached B    | -        | Clearing | Clearing       |
//! | Clearing      | Breached | Breached B    | Breached | -        | Under R        |
//!
//! For long: the state has lasted for the time that belongs to it; Breached again B is told to whoever has to act.
//! B a breach is told, R a recovery, - nothing. Entering Over or Clearing with no time to last goes on at once.
//! Time passes by timestamps, not by counts of values: one that is missing, or no number, changes nothing.

use std::time::{Duration, Instant};

use crate::{Cause, Quantity};

/// A value that a member must not exceed for long, and what follows if it does: for [`Checks::limit`](crate::Checks::limit).
///
/// ```
/// use std::time::Duration;
/// use cluster_health::Limit;
///
/// // Over 500 MiB for 30 s: replaced when convenient, the new one first.
/// let soft = Limit::over(500.0 * 1048576.0).lasting(Duration::from_secs(30)).recycle();
/// // Over 1 GiB: replaced at once.
/// let hard = Limit::over(1073741824.0).replace();
/// # let _ = (soft, hard);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct Limit {
    over: f64,
    lasting: Duration,
    clear_under: f64,
    /// As long as `lasting`, unless it was said.
    clear_lasting: Option<Duration>,
    again_after: Duration,
    consequence: Consequence,
}

/// What follows when a limit is exceeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Consequence {
    /// It is told, no more: [`VerdictKind::Noticed`](crate::VerdictKind::Noticed).
    #[default]
    Report,
    /// The member is suspect while it lasts: nothing new for it.
    Suspect,
    /// The member is to be replaced when convenient, its successor first: [`VerdictKind::Recycle`](crate::VerdictKind::Recycle).
    Recycle,
    /// The member is unhealthy: to be replaced now.
    Replace,
}

impl Limit {
    /// Exceeded by values above this; by none if it is no number. Unless said otherwise: at once, it is over again a tenth below it
    /// for as long as it took to be exceeded, and it is only told.
    pub fn over(limit: f64) -> Self {
        Self {
            over: limit,
            lasting: Duration::ZERO,
            clear_under: limit - 0.1 * limit.abs(),
            clear_lasting: None,
            again_after: Duration::from_secs(60),
            consequence: Consequence::Report,
        }
    }

    /// For how long values have to be above it, without one that isn't. Default: not at all. How long they have to be below for it to
    /// be over is the same then.
    pub fn lasting(self, time: Duration) -> Self {
        Self { lasting: time, ..self }
    }

    /// Below which value, and for how long, it is over again. The value is at most the limit: the distance keeps a value
    /// that wavers from being told again and again. Default: a tenth below the limit, and [`lasting`](Self::lasting).
    pub fn clear(self, under: f64, lasting: Duration) -> Self {
        Self { clear_under: under.min(self.over), clear_lasting: Some(lasting), ..self }
    }

    /// After how long a breach that goes on is told again, for whoever could not act on it. Default: a minute.
    pub fn again_after(self, time: Duration) -> Self {
        Self { again_after: time, ..self }
    }

    /// The member is suspect while it is exceeded.
    pub fn suspect(self) -> Self {
        Self { consequence: Consequence::Suspect, ..self }
    }

    /// The member is to be replaced when convenient.
    pub fn recycle(self) -> Self {
        Self { consequence: Consequence::Recycle, ..self }
    }

    /// The member is to be replaced now.
    pub fn replace(self) -> Self {
        Self { consequence: Consequence::Replace, ..self }
    }

    pub(crate) fn consequence(&self) -> Consequence {
        self.consequence
    }

    pub(crate) fn is_over(&self, value: f64) -> bool {
        value > self.over
    }

    fn is_clear(&self, value: f64) -> bool {
        value < self.clear_under || (self.clear_under >= self.over && value <= self.over)
    }

    pub(crate) fn cause(&self, quantity: &Quantity, value: f64, since: Instant, now: Instant) -> Cause {
        let lasted = now.saturating_duration_since(since);
        Cause::Limit(Excess { quantity: quantity.clone(), value, limit: self.over, lasted })
    }
}

/// A value over its limit, for a while.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Excess {
    /// Of what.
    pub quantity: Quantity,
    /// The value. Of a recovery, the one that is under the limit again.
    pub value: f64,
    /// The limit.
    pub limit: f64,
    /// For how long it was over; time in which the monitor itself stood still is not counted.
    pub lasted: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Under,
    Over { since: Instant },
    Breached { since: Instant, told: Instant },
    Clearing { since: Instant, told: Instant, under: Instant },
}

/// What came of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Change {
    /// It has been over its limit since then, long enough.
    Breached(Instant),
    /// It had been over since then, and is not any more.
    Recovered(Instant),
}

/// One limit of one member.
#[derive(Clone, Debug)]
pub(crate) struct Tracker {
    state: State,
}

impl Tracker {
    pub(crate) fn new() -> Self {
        Self { state: State::Under }
    }

    pub(crate) fn handle_value(&mut self, limit: &Limit, value: f64, now: Instant) -> Option<Change> {
        if value.is_nan() {
            return None;
        }
        let (is_over, is_clear) = (limit.is_over(value), limit.is_clear(value));
        let has_lasted = |since: Instant, time: Duration| now.saturating_duration_since(since) >= time;
        self.state = match self.state {
            State::Under if is_over => State::Over { since: now },
            State::Under => State::Under,
            State::Over { since } if is_over => State::Over { since },
            State::Over { .. } => State::Under,
            State::Breached { since, told } if is_clear => State::Clearing { since, told, under: now },
            State::Breached { since, told } => State::Breached { since, told },
            State::Clearing { since, told, under } if is_clear => State::Clearing { since, told, under },
            State::Clearing { since, told, .. } => State::Breached { since, told },
        };
        match self.state {
            State::Over { since } if has_lasted(since, limit.lasting) => {
                self.state = State::Breached { since, told: now };
                Some(Change::Breached(since))
            }
            State::Breached { since, told } if is_over && has_lasted(told, limit.again_after) => {
                self.state = State::Breached { since, told: now };
                // Again is for whoever has to act.
                (limit.consequence >= Consequence::Recycle).then_some(Change::Breached(since))
            }
            State::Clearing { since, under, .. }
                if has_lasted(under, limit.clear_lasting.unwrap_or(limit.lasting)) =>
            {
                self.state = State::Under;
                Some(Change::Recovered(since))
            }
            State::Under | State::Over { .. } | State::Breached { .. } | State::Clearing { .. } => None,
        }
    }

    /// Since when it has been breached, if it is.
    pub(crate) fn breached(&self) -> Option<Instant> {
        match self.state {
            State::Under | State::Over { .. } => None,
            State::Breached { since, .. } | State::Clearing { since, .. } => Some(since),
        }
    }

    /// The excess could not be confirmed: it begins anew, if it is one.
    pub(crate) fn reset(&mut self) {
        self.state = State::Under;
    }

    /// The monitor stood still for so long: that is no time over a limit, nor under it.
    pub(crate) fn forgive(&mut self, late: Duration, now: Instant) {
        let moved = |at: Instant| at.checked_add(late).map_or(now, |at| at.min(now));
        self.state = match self.state {
            State::Under => State::Under,
            State::Over { since } => State::Over { since: moved(since) },
            State::Breached { since, told } => State::Breached { since: moved(since), told: moved(told) },
            State::Clearing { since, told, under } => {
                State::Clearing { since: moved(since), told: moved(told), under: moved(under) }
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LIMIT: f64 = 100.0;

    fn limit() -> Limit {
        Limit::over(LIMIT).lasting(5 * SECOND).clear(80.0, 7 * SECOND).again_after(9 * SECOND).recycle()
    }

    fn name(tracker: &Tracker) -> &'static str {
        match tracker.state {
            State::Under => "Under",
            State::Over { .. } => "Over",
            State::Breached { .. } => "Breached",
            State::Clearing { .. } => "Clearing",
        }
    }

    /// In this state since some instant, which is returned too.
    fn in_state(state: &str, begin: Instant) -> (Tracker, Instant) {
        let steps: &[(u32, f64)] = match state {
            "Under" => &[],
            "Over" => &[(0, 150.0)],
            "Breached" => &[(0, 150.0), (5, 150.0)],
            "Clearing" => &[(0, 150.0), (5, 150.0), (6, 50.0)],
            _ => panic!("unknown state {state}"),
        };
        let mut tracker = Tracker::new();
        for (second, value) in steps {
            tracker.handle_value(&limit(), *value, begin + SECOND * *second);
        }
        assert_eq!(name(&tracker), state);
        (tracker, begin + SECOND * steps.last().map_or(0, |(second, _)| *second))
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "tests need one instant to count from")]
    fn every_pair_of_the_table_is_as_it_says() {
        let begin = Instant::now();
        let lines = include_str!("limit.rs").lines().filter_map(|line| line.strip_prefix("//! |"));
        let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        let rows: Vec<_> = lines.filter(|line| !line.starts_with("--")).map(cells).collect();
        let (head, rows) = rows.split_first().unwrap();
        let mut pairs = 0;
        for row in rows {
            for (input, cell) in head.iter().zip(row).skip(1).filter(|(input, _)| !input.is_empty()) {
                let state = row[0].as_str();
                let (mut tracker, since) = in_state(state, begin);
                let (value, after) = match input.as_str() {
                    "over" => (LIMIT + 1.0, 1),
                    "over for long" => (LIMIT + 1.0, 60),
                    "between" => (LIMIT, 60),
                    "under" => (79.0, 1),
                    "under for long" => (79.0, 60),
                    _ => panic!("unknown input {input}"),
                };
                let change = tracker.handle_value(&limit(), value, since + SECOND * after);
                let letter = match change {
                    None => "",
                    Some(Change::Breached(_)) => " B",
                    Some(Change::Recovered(_)) => " R",
                };
                let expected = if cell == "-" { state } else { cell };
                assert_eq!(format!("{}{letter}", name(&tracker)), expected, "{input} in {state}");
                pairs += 1;
            }
        }
        assert_eq!(pairs, 4 * 5);
    }
}
