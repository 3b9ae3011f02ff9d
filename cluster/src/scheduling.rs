//! Who decides where connections go, by the names that Node has for it.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Mode, Result};

/// The environment variable that sets the policy where the code doesn't.
pub(crate) const VARIABLE: &str = "CLUSTER_SCHED_POLICY";

/// Who decides where connections go: a [`Mode`] and a strategy in one word, as Node has it.
///
/// | Node | here | that is |
/// |---|---|---|
/// | `SCHED_RR`, `rr` | [`RoundRobin`](Self::RoundRobin) | [`Mode::Handoff`], strategy `round-robin` |
/// | | [`LeastLoaded`](Self::LeastLoaded), the default | [`Mode::Handoff`], strategy `least-loaded`: with workers that are equally busy the same |
/// | `SCHED_NONE`, `none` | [`None`](Self::None) | [`Mode::Shared`]: the kernel decides |
///
/// Where the code says nothing, by [`Builder::scheduling`](crate::Builder::scheduling), [`mode`](crate::Builder::mode) or
/// [`strategy`](crate::Builder::strategy), the environment variable `CLUSTER_SCHED_POLICY` counts, as `NODE_CLUSTER_SCHED_POLICY` does for Node. It
/// is `rr`, `none`, or the name of a [strategy](crate::balancer::strategy::names); with anything else there the primary does not start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheduling {
    /// The primary hands connections to one worker after the other.
    RoundRobin,
    /// The primary hands each connection to the worker that has the fewest.
    #[default]
    LeastLoaded,
    /// All workers accept on one socket.
    None,
}

impl Scheduling {
    /// How connections come to the workers.
    pub fn mode(self) -> Mode {
        match self {
            Self::RoundRobin | Self::LeastLoaded => Mode::Handoff,
            Self::None => Mode::Shared,
        }
    }

    /// The strategy, which has no say in mode [`Shared`](Mode::Shared).
    pub fn strategy(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::LeastLoaded | Self::None => "least-loaded",
        }
    }
}

impl fmt::Display for Scheduling {
    /// As in the environment variable.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RoundRobin => "rr",
            Self::LeastLoaded => "least-loaded",
            Self::None => "none",
        })
    }
}

/// What the environment variable asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) mode: Mode,
    pub(crate) strategy: String,
}

impl Asked {
    /// `None` if the variable isn't set, or is empty.
    pub(crate) fn from_environment() -> Result<Option<Self>> {
        match std::env::var_os(VARIABLE) {
            Some(value) if !value.is_empty() => value.to_string_lossy().parse().map(Some),
            _ => Ok(None),
        }
    }
}

impl From<Scheduling> for Asked {
    fn from(scheduling: Scheduling) -> Self {
        Self { mode: scheduling.mode(), strategy: scheduling.strategy().to_owned() }
    }
}

impl FromStr for Asked {
    type Err = Error;

    fn from_str(value: &str) -> Result<Self> {
        match value {
            "rr" => Ok(Scheduling::RoundRobin.into()),
            "none" => Ok(Scheduling::None.into()),
            name if cluster_balancer::strategy::names().any(|known| known == name) => {
                Ok(Self { mode: Mode::Handoff, strategy: name.to_owned() })
            }
            other => Err(Error::SchedulingVariable { value: other.to_owned() }),
        }
    }
}

/// All that the variable may be, for people.
pub(crate) fn allowed() -> String {
    let names: Vec<_> = ["rr", "none"].into_iter().chain(cluster_balancer::strategy::names()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_names_and_those_of_strategies_are_known() {
        let asked = |mode, strategy: &str| Asked { mode, strategy: strategy.to_owned() };
        for (value, expected) in [
            ("rr", asked(Mode::Handoff, "round-robin")),
            ("none", asked(Mode::Shared, "least-loaded")),
            ("least-loaded", asked(Mode::Handoff, "least-loaded")),
            ("random", asked(Mode::Handoff, "random")),
        ] {
            assert_eq!(value.parse::<Asked>().unwrap(), expected, "{value}");
        }
    }

    #[test]
    fn what_is_unknown_is_an_error_that_says_what_is_not() {
        let error = "RR".parse::<Asked>().unwrap_err().to_string();
        assert!(error.starts_with("CLUSTER_SCHED_POLICY is \"RR\""), "{error}");
        assert!(error.contains("rr, none,") && error.contains("round-robin"), "{error}");
    }

    #[test]
    fn each_policy_is_written_as_it_is_read() {
        for policy in [Scheduling::RoundRobin, Scheduling::LeastLoaded, Scheduling::None] {
            assert_eq!(policy.to_string().parse::<Asked>().unwrap(), policy.into());
        }
    }
}
