//! What is measured, and the orders that both processes of a measurement get.

use std::fmt;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::cpus::Placement;

/// A way of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// To the child and back.
    PingPong,
    /// To the child, which confirms the last.
    OneWay,
    /// As one-way, with open files.
    Descriptors,
}

/// Where the two processes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Place {
    /// Both on one CPU.
    Same,
    /// Each on a CPU of its own.
    Cross,
    /// Wherever the scheduler puts them.
    Free,
}

/// What peers are compared in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Case {
    pub(crate) kind: Kind,
    pub(crate) place: Place,
    /// Bytes of a message, or descriptors in one.
    pub(crate) size: usize,
}

impl Case {
    /// What one message counts for.
    pub(crate) const fn weight(&self) -> usize {
        match self.kind {
            Kind::PingPong | Kind::OneWay => 1,
            Kind::Descriptors => self.size,
        }
    }

    /// How many bytes, or descriptors, in words.
    pub(crate) fn amount(&self) -> String {
        match (self.kind, self.size) {
            (Kind::Descriptors, size) => format!("{size} in a message"),
            (_, size) if size >= 1 << 20 && size % (1 << 20) == 0 => format!("{} MiB", size >> 20),
            (_, size) if size >= 1 << 10 && size % (1 << 10) == 0 => format!("{} KiB", size >> 10),
            (_, size) => format!("{size} B"),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {}", word(self.kind), word(self.place), self.amount())
    }
}

/// As it is typed on the command line.
fn word(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Operations of a first try.
const FEW: u64 = 20;

/// One measurement: `warm_up` operations, then `count` that are timed.
///
/// Each of the two stretches ends when the last answer, or the confirmation, has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Job {
    #[serde(flatten)]
    pub(crate) case: Case,
    /// The CPUs of the two processes. The parent is on its own, and the child on its parent's, before a peer's code runs.
    pub(crate) placement: Option<Placement>,
    pub(crate) warm_up: u64,
    pub(crate) count: u64,
}

impl Job {
    /// A first try.
    pub(crate) const fn new(case: Case, placement: Option<Placement>) -> Self {
        Self { case, placement, warm_up: FEW, count: FEW }
    }

    /// The parent's side: does both stretches, and times the second.
    pub(crate) fn time(&self, mut stretch: impl FnMut(u64) -> Result<()>) -> Result<Duration> {
        stretch(self.warm_up)?;
        let begin = Instant::now();
        stretch(self.count)?;
        Ok(begin.elapsed())
    }

    /// The child's side.
    pub(crate) fn each_stretch(&self, mut stretch: impl FnMut(u64) -> Result<()>) -> Result<()> {
        stretch(self.warm_up)?;
        stretch(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_survives_the_command_line() {
        let case = Case { kind: Kind::OneWay, place: Place::Cross, size: 1024 };
        let job = Job::new(case, Some(Placement { parent: 0, child: 1 }));
        let text = serde_json::to_string(&job).unwrap();
        assert_eq!(serde_json::from_str::<Job>(&text).unwrap(), job);
        assert!(text.contains(r#""kind":"one-way""#), "the scripts read it too: {text}");
        assert_eq!(case.to_string(), "one-way, cross, 1 KiB");
    }
}
