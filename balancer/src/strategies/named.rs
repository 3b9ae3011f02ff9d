//! Strategies by name, as they stand in configuration files and on command lines.

use crate::Strategy;
use crate::strategies::{
    LeastLoaded, LeastUsed, Maglev, PeakEwma, PowerOfTwoChoices, Random, Rendezvous, RoundRobin,
    SmoothWeighted, WeightedRandom,
};

/// Makes a strategy from a seed, which most don't need.
type Make = fn(u64) -> Box<dyn Strategy>;

/// A second name for a strategy is a second line.
const TABLE: &[(&str, Make)] = &[
    ("least-loaded", |_| Box::new(LeastLoaded::new())),
    ("least-connections", |_| Box::new(LeastLoaded::new())),
    ("round-robin", |_| Box::new(RoundRobin::new())),
    ("smooth-weighted", |_| Box::new(SmoothWeighted::new())),
    ("random", |seed| Box::new(Random::seeded(seed))),
    ("weighted-random", |seed| Box::new(WeightedRandom::seeded(seed))),
    ("power-of-two", |seed| Box::new(PowerOfTwoChoices::seeded(seed))),
    ("peak-ewma", |seed| Box::new(PeakEwma::seeded(seed))),
    ("least-memory", |_| Box::new(LeastUsed::memory())),
    ("least-cpu", |_| Box::new(LeastUsed::cpu())),
    ("maglev", |_| Box::new(Maglev::new())),
    ("rendezvous", |_| Box::new(Rendezvous::new())),
];

/// Makes the strategy with this name; see [`names`].
///
/// # Errors
///
/// [`UnknownStrategy`] for any other name; its message lists those there are.
///
/// ```
/// use cluster_balancer::strategy;
///
/// assert_eq!(strategy::by_name("round-robin")?.name(), "round-robin");
/// let error = strategy::by_name("fastest").unwrap_err().to_string();
/// assert!(error.starts_with("unknown strategy \"fastest\": there are least-loaded, least-connections, round-robin, "));
/// # Ok::<(), strategy::UnknownStrategy>(())
/// ```
pub fn by_name(name: &str) -> Result<Box<dyn Strategy>, UnknownStrategy> {
    by_name_seeded(name, fastrand::u64(..))
}

/// The same with a seed for what is random about it: the same seed gives the same picks.
///
/// # Errors
///
/// As [`by_name`].
pub fn by_name_seeded(name: &str, seed: u64) -> Result<Box<dyn Strategy>, UnknownStrategy> {
    match TABLE.iter().find(|(known, _)| *known == name) {
        Some((_, make)) => Ok(make(seed)),
        None => Err(UnknownStrategy { name: name.to_owned() }),
    }
}

/// All names that [`by_name`] knows, for help texts and completion.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}

/// No strategy has this name. The message lists the valid ones.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown strategy {name:?}: there are {}", names().collect::<Vec<_>>().join(", "))]
pub struct UnknownStrategy {
    name: String,
}

impl UnknownStrategy {
    /// The name that was asked for.
    pub fn name(&self) -> &str {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_makes_a_strategy() {
        for name in names() {
            let strategy = by_name(name).expect("listed");
            assert!(names().any(|known| known == strategy.name()), "{name} calls itself {}", strategy.name());
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_all_names() {
        let error = by_name("Round Robin").unwrap_err();
        assert_eq!(error.name(), "Round Robin");
        for name in names() {
            assert!(error.to_string().contains(name), "the message lacks {name}: {error}");
        }
    }
}
