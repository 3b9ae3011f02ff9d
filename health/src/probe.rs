//! Questions that are asked of a member, and what their answers come to: as Kubernetes keeps them apart.
//!
//! | state \ answer | good                      | bad                      |
//! |----------------|---------------------------|--------------------------|
//! | Good           | -                         | Bad B, by so many in a row |
//! | Bad            | Good R, by so many in a row | -                      |
//!
//! B a verdict that it failed, R that it recovered.

use std::time::Duration;

use crate::VerdictKind;

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Probe {
    /// Has it begun? Until the first good answer nothing else is held against it. Failed, it is unhealthy.
    Startup,
    /// Can it take work now? While not, it is suspect.
    Readiness,
    /// Does it make progress? Failed, it is unhealthy.
    Liveness,
}

impl Probe {
    pub(crate) const ALL: [Self; 3] = [Self::Startup, Self::Readiness, Self::Liveness];

    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Startup => 0,
            Self::Readiness => 1,
            Self::Liveness => 2,
        }
    }

    /// What a failure means.
    pub(crate) const fn verdict(self) -> VerdictKind {
        match self {
            Self::Readiness => VerdictKind::Suspect,
            Self::Startup | Self::Liveness => VerdictKind::Unhealthy,
        }
    }

    /// In lower case: `startup`, `readiness`, `liveness`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Readiness => "readiness",
            Self::Liveness => "liveness",
        }
    }
}

/// How many answers in a row change a member's standing.
///
/// | | good | bad |
/// |---|---|---|
/// | startup | 1 | 30 |
/// | readiness, liveness | 1 | 3 |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct InARow {
    pub(crate) good: u32,
    pub(crate) bad: u32,
}

impl InARow {
    /// So many good ones, or so many bad ones; at least one of each.
    pub fn new(good: u32, bad: u32) -> Self {
        Self { good: good.max(1), bad: bad.max(1) }
    }

    pub(crate) const fn of(probe: Probe) -> Self {
        match probe {
            Probe::Startup => Self { good: 1, bad: 30 },
            Probe::Readiness | Probe::Liveness => Self { good: 1, bad: 3 },
        }
    }
}

/// A probe that failed, or did until it recovered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbeFailure {
    /// Which.
    pub probe: Probe,
    /// How many bad answers there were in a row.
    pub failures: u32,
    /// What was wrong with the last one.
    pub reason: String,
    /// For how long it failed.
    pub lasted: Duration,
}

/// The answers of one member to one kind of question.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    is_bad: bool,
    /// In a row, of the kind that would change something.
    count: u32,
    pub(crate) failures: u32,
    pub(crate) reason: String,
}

/// What came of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turned {
    Bad,
    Good,
}

impl Answers {
    pub(crate) fn new() -> Self {
        Self { is_bad: false, count: 0, failures: 0, reason: String::new() }
    }

    pub(crate) fn handle(&mut self, answer: Result<(), &str>, in_a_row: InARow) -> Option<Turned> {
        if let Err(reason) = answer {
            self.failures = self.failures.saturating_add(1);
            self.reason.clear();
            self.reason.extend(reason.chars().take(REASON));
        }
        if answer.is_err() == self.is_bad {
            self.count = 0;
            return None;
        }
        self.count = self.count.saturating_add(1);
        let (needed, turned) =
            if self.is_bad { (in_a_row.good, Turned::Good) } else { (in_a_row.bad, Turned::Bad) };
        if self.count < needed {
            return None;
        }
        (self.is_bad, self.count) = (!self.is_bad, 0);
        Some(turned)
    }

    pub(crate) fn is_bad(&self) -> bool {
        self.is_bad
    }

    /// The failures so far are over.
    pub(crate) fn clear(&mut self) {
        self.failures = 0;
        self.reason.clear();
    }
}

/// A reason that somebody else writes is kept up to this many characters.
const REASON: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_in_a_row_change_anything() {
        let mut answers = Answers::new();
        let in_a_row = InARow::new(2, 3);
        let mut handle = |answer| answers.handle(answer, in_a_row);
        let bad = Err("refused");
        for answer in [bad, bad, Ok(()), bad, bad] {
            assert_eq!(handle(answer), None);
        }
        assert_eq!(handle(bad), Some(Turned::Bad));
        for answer in [bad, Ok(()), bad, Ok(())] {
            assert_eq!(handle(answer), None);
        }
        assert_eq!(handle(Ok(())), Some(Turned::Good));
        assert_eq!((answers.failures, answers.reason.as_str()), (7, "refused"));
    }

    #[test]
    fn a_long_reason_is_cut() {
        let mut answers = Answers::new();
        answers.handle(Err(&"ü".repeat(100_000)), InARow::new(1, 1));
        assert_eq!(answers.reason.chars().count(), REASON);
    }
}
