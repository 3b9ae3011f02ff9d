//! Questions that are asked of a member, and what their answers come to: as Kubernetes keeps them apart.
//!
//! | state \ answers | good | enough good in a row | bad | enough bad in a row |
//! |-----------------|------|----------------------|-----|---------------------|
//! | Good            | -    | -                    | -   | Bad B               |
//! | Bad             | -    | Good R               | -   | -                   |
//!
//! B a verdict that it failed, R that it recovered.

use std::time::{Duration, Instant};

use crate::VerdictKind;

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Probe {
    /// Has it begun? Until enough good answers nothing else is held against it. Failed, it is unhealthy. Only of members that
    /// [start](crate::Checks::starts), and until they have begun; answers that come later are ignored.
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

    fn of_kind(self, is_bad: bool) -> u32 {
        if is_bad { self.bad } else { self.good }
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
    /// How many bad answers there were since it began to fail.
    pub failures: u32,
    /// What was wrong with the last one.
    pub reason: String,
    /// For how long it failed, from the first bad answer; time in which the monitor itself stood still is not counted.
    pub lasted: Duration,
}

/// The answers of one member to one kind of question.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    is_bad: bool,
    /// The last answers in a row that were alike: whether they were bad, and how many.
    row: (bool, u32),
    failures: u32,
    reason: String,
    /// When the first of the failures came.
    since: Option<Instant>,
}

/// What came of an answer, with the failure that began or is over, and its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turned {
    Bad(ProbeFailure, Instant),
    Good(ProbeFailure, Instant),
}

impl Answers {
    pub(crate) fn new() -> Self {
        Self { is_bad: false, row: (false, 0), failures: 0, reason: String::new(), since: None }
    }

    pub(crate) fn handle(
        &mut self,
        probe: Probe,
        answer: Result<(), &str>,
        in_a_row: InARow,
        now: Instant,
    ) -> Option<Turned> {
        let is_bad = answer.is_err();
        let before = if self.row.0 == is_bad { self.row.1 } else { 0 };
        self.row = (is_bad, before.saturating_add(1));
        let since = *self.since.get_or_insert(now);
        if let Err(reason) = answer {
            self.failures = self.failures.saturating_add(1);
            self.reason.clear();
            self.reason.extend(reason.chars().take(REASON));
        }
        let turns = self.is_bad != is_bad && self.row.1 >= in_a_row.of_kind(is_bad);
        let failure = turns.then(|| ProbeFailure {
            probe,
            failures: self.failures,
            reason: self.reason.clone(),
            lasted: now.saturating_duration_since(since),
        });
        self.is_bad ^= turns;
        if !self.is_bad && !is_bad {
            // What failed so far did not last.
            (self.failures, self.since) = (0, None);
            self.reason.clear();
        }
        let failure = failure?;
        Some(if is_bad { Turned::Bad(failure, since) } else { Turned::Good(failure, since) })
    }

    pub(crate) fn is_bad(&self) -> bool {
        self.is_bad
    }

    /// Whether enough of the last answers were good.
    pub(crate) fn are_good(&self, in_a_row: InARow) -> bool {
        self.row.1 >= in_a_row.good && !self.row.0
    }

    /// The monitor stood still for so long: nobody failed then.
    pub(crate) fn forgive(&mut self, late: Duration, now: Instant) {
        self.since = self.since.map(|since| since.checked_add(late).map_or(now, |since| since.min(now)));
    }
}

/// A reason that somebody else writes is kept up to this many characters.
const REASON: usize = 200;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests need one instant to count from")]
mod tests {
    use super::*;

    const IN_A_ROW: InARow = InARow { good: 2, bad: 3 };
    const BAD: Result<(), &str> = Err("refused");

    fn after(given: &[Result<(), &str>]) -> (Answers, Option<Turned>) {
        let (now, mut answers) = (Instant::now(), Answers::new());
        let handle = |answer: &_| answers.handle(Probe::Liveness, *answer, IN_A_ROW, now);
        let turned = given.iter().map(handle).last().flatten();
        (answers, turned)
    }

    #[test]
    fn every_pair_of_the_table_is_as_it_says() {
        let lines = include_str!("probe.rs").lines().filter_map(|line| line.strip_prefix("//! |"));
        let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        let rows: Vec<_> = lines.filter(|line| !line.starts_with("--")).map(cells).collect();
        let (head, rows) = rows.split_first().unwrap();
        let mut pairs = 0;
        for row in rows {
            for (input, cell) in head.iter().zip(row).skip(1).filter(|(input, _)| !input.is_empty()) {
                let begins: &[_] = if row[0] == "Good" { &[Ok(())] } else { &[BAD, BAD, BAD] };
                let then: &[_] = match input.as_str() {
                    "good" => &[BAD, Ok(())],
                    "enough good in a row" => &[BAD, Ok(()), Ok(())],
                    "bad" => &[Ok(()), BAD, BAD],
                    "enough bad in a row" => &[Ok(()), BAD, BAD, BAD],
                    _ => panic!("unknown input {input}"),
                };
                let (answers, turned) = after(&[begins, then].concat());
                let letter = match turned {
                    None => "",
                    Some(Turned::Bad(..)) => " B",
                    Some(Turned::Good(..)) => " R",
                };
                let state = if answers.is_bad() { "Bad" } else { "Good" };
                let expected = if cell == "-" { &row[0] } else { cell };
                assert_eq!(&format!("{state}{letter}"), expected, "{input} in {}", row[0]);
                pairs += 1;
            }
        }
        assert_eq!(pairs, 2 * 4);
    }

    #[test]
    fn failures_are_those_since_it_began_to_fail() {
        let given = [BAD, BAD, Ok(()), BAD, BAD, BAD, BAD, Ok(()), BAD, Ok(()), Ok(())];
        let Some(Turned::Good(failure, _)) = after(&given).1 else { panic!("it recovers") };
        assert_eq!((failure.failures, failure.reason.as_str()), (5, "refused"));
    }

    #[test]
    fn a_long_reason_is_cut() {
        let long = "ü".repeat(100_000);
        let (answers, _) = after(&[Err(&long)]);
        assert_eq!(answers.reason.chars().count(), REASON);
    }
}
