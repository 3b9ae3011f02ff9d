//! A limit's verdicts, from all values that there ever were.

use std::time::Duration;

use cluster_health::{Limit, VerdictKind};
use fastrand::Rng;

use crate::clock::ms;

/// A limit, as the test knows it.
#[derive(Clone, Copy)]
pub(crate) struct Rule {
    pub(crate) over: f64,
    lasting: Duration,
    under: f64,
    clear_lasting: Duration,
    again: Duration,
    kind: VerdictKind,
}

impl Rule {
    pub(crate) fn random(rng: &mut Rng, over: f64, kind: VerdictKind) -> Self {
        let mut time = || ms([0, 700, 3_000, 10_000][rng.usize(..4)]);
        let (lasting, clear_lasting, again) = (time(), time(), time() + ms(1));
        Self { over, lasting, under: over - 10.0, clear_lasting, again, kind }
    }

    pub(crate) fn limit(&self) -> Limit {
        let limit = Limit::over(self.over).lasting(self.lasting).clear(self.under, self.clear_lasting);
        let limit = limit.again_after(self.again);
        if self.kind == VerdictKind::Recycle { limit.recycle() } else { limit.suspect() }
    }
}

/// All that ever happened to one limit of one member.
#[derive(Default)]
pub(crate) struct History {
    values: Vec<(Duration, f64)>,
    /// From here on values count for the next change.
    from: usize,
    told: Option<Duration>,
}

impl History {
    pub(crate) fn value(&mut self, rule: &Rule, value: f64, awake: Duration) -> Option<VerdictKind> {
        if value.is_nan() {
            return None;
        }
        self.values.push((awake, value));
        let is_over = |value: f64| value > rule.over;
        let has_lasted = |holds: &dyn Fn(f64) -> bool, time| {
            let row = self.values[self.from..].iter().rev().take_while(|(_, value)| holds(*value));
            row.last().is_some_and(|(since, _)| awake - *since >= time)
        };
        match self.told {
            None if has_lasted(&is_over, rule.lasting) => {
                (self.told, self.from) = (Some(awake), self.values.len());
                Some(rule.kind)
            }
            Some(_) if has_lasted(&|value| value < rule.under, rule.clear_lasting) => {
                (self.told, self.from) = (None, self.values.len());
                Some(VerdictKind::Recovered)
            }
            Some(told) if is_over(value) && awake - told >= rule.again => {
                self.told = Some(awake);
                (rule.kind == VerdictKind::Recycle).then_some(rule.kind)
            }
            None | Some(_) => None,
        }
    }

    pub(crate) fn is_told(&self) -> bool {
        self.told.is_some()
    }

    /// What came later than that came then.
    pub(crate) fn turn_back(&mut self, awake: Duration) {
        self.values.iter_mut().for_each(|(at, _)| *at = awake.min(*at));
        self.told = self.told.map(|told| told.min(awake));
    }
}
