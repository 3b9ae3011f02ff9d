//! What the application counts, by name: the figures stand on the board, the primary is told the names.

use std::collections::BTreeMap;

use cluster_ipc::board::COUNTERS;
use parking_lot::Mutex;

use crate::wire::LONGEST_NAME;

/// The number of each name.
#[derive(Debug, Default)]
pub(super) struct Counters {
    names: Mutex<BTreeMap<String, Named>>,
}

#[derive(Clone, Copy, Debug)]
struct Named {
    number: u8,
    /// The primary was told.
    said: bool,
}

impl Counters {
    /// The number of a name, which gets one if there is room. A name that the primary doesn't know is told by `say`, which returns whether it
    /// could.
    pub(super) fn number(&self, name: &str, say: impl FnOnce(u8) -> bool) -> Option<u8> {
        let mut names = self.names.lock();
        if let Some(named) = names.get(name) {
            return Some(named.number);
        }
        let number = u8::try_from(names.len()).ok().filter(|number| usize::from(*number) < COUNTERS)?;
        if name.len() > LONGEST_NAME {
            return None;
        }
        names.insert(name.to_owned(), Named { number, said: say(number) });
        Some(number)
    }

    /// Tells the names again that could not be told.
    pub(super) fn say_rest(&self, say: impl Fn(u8, &str) -> bool) {
        for (name, named) in self.names.lock().iter_mut().filter(|(_, named)| !named.said) {
            named.said = say(named.number, name);
        }
    }

    /// What each name has come to.
    pub(super) fn all(&self, figures: &[u64; COUNTERS]) -> BTreeMap<String, u64> {
        let names = self.names.lock();
        let figure = |named: &Named| figures.get(usize::from(named.number)).copied().unwrap_or(0);
        names.iter().map(|(name, named)| (name.clone(), figure(named))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn a_name_is_told_until_that_worked_and_keeps_its_number() {
        let counters = Counters::default();
        assert_eq!(counters.number("a", |_| true), Some(0));
        assert_eq!(counters.number("b", |_| false), Some(1), "it counts though nobody knows what");
        assert_eq!(counters.number("a", |_| panic!("it was told")), Some(0));
        let said = RefCell::new(Vec::new());
        for is_said in [false, true, true] {
            counters.say_rest(|number, name| {
                said.borrow_mut().push((number, name.to_owned()));
                is_said
            });
        }
        assert_eq!(said.into_inner(), [(1, "b".to_owned()), (1, "b".to_owned())]);
    }

    #[test]
    fn names_are_bounded() {
        let counters = Counters::default();
        assert_eq!(counters.number(&"x".repeat(LONGEST_NAME + 1), |_| true), None);
        let numbers: Vec<_> =
            (0..1000).filter_map(|name| counters.number(&name.to_string(), |_| true)).collect();
        assert_eq!(numbers.len(), COUNTERS);
        assert_eq!(counters.all(&[1; COUNTERS]).values().sum::<u64>(), COUNTERS as u64);
    }
}
