//! Strategies by name, as they stand in configuration files and on command lines.

use crate::{LeastLoaded, RoundRobin, Strategy};

type Make = fn() -> Box<dyn Strategy>;

/// A second name for a strategy is a second line.
const TABLE: &[(&str, Make)] = &[
    ("least-loaded", || Box::new(LeastLoaded::new())),
    ("least-connections", || Box::new(LeastLoaded::new())),
    ("round-robin", || Box::new(RoundRobin::new())),
];

/// Makes the strategy with this name: `least-loaded` (also called `least-connections`) or `round-robin`.
///
/// # Errors
///
/// [`UnknownStrategy`] for any other name; its message lists those there are.
///
/// ```
/// use cluster_balancer::strategy;
///
/// assert_eq!(strategy::by_name("round-robin")?.name(), "round-robin");
/// assert_eq!(
///     strategy::by_name("fastest").unwrap_err().to_string(),
///     "unknown strategy \"fastest\": there are least-loaded, least-connections, round-robin",
/// );
/// # Ok::<(), strategy::UnknownStrategy>(())
/// ```
pub fn by_name(name: &str) -> Result<Box<dyn Strategy>, UnknownStrategy> {
    match TABLE.iter().find(|(known, _)| *known == name) {
        Some((_, make)) => Ok(make()),
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
