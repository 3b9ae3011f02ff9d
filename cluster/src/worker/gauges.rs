//! What the application counts, on its way to the primary.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::wire::{GAUGES, LONGEST_NAME};

/// The last value of each name.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    values: Mutex<BTreeMap<String, (f64, bool)>>,
}

impl Gauges {
    pub(super) fn set(&self, name: &str, value: f64) {
        let mut values = self.values.lock();
        let has_room = values.len() < GAUGES && name.len() <= LONGEST_NAME;
        match values.get_mut(name) {
            Some(known) => *known = (value, true),
            None if has_room => {
                values.insert(name.to_owned(), (value, true));
            }
            None => {}
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> BTreeMap<String, f64> {
        self.values.lock().iter().map(|(name, (value, _))| (name.clone(), *value)).collect()
    }

    /// Those that were set since the last time.
    pub(super) fn take(&self) -> Vec<(String, f64)> {
        let mut values = self.values.lock();
        let new = values.iter_mut().filter(|(_, (_, is_new))| *is_new);
        new.map(|(name, (value, is_new))| {
            *is_new = false;
            (name.clone(), *value)
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_set_is_sent_and_only_the_last_value() {
        let gauges = Gauges::default();
        gauges.set("queue", 1.0);
        gauges.set("queue", 2.0);
        gauges.set("age", 3.0);
        assert_eq!(gauges.take(), [("age".to_owned(), 3.0), ("queue".to_owned(), 2.0)]);
        assert_eq!(gauges.take(), []);
        gauges.set("queue", 2.0);
        assert_eq!(gauges.take(), [("queue".to_owned(), 2.0)], "said again, it is sent again: time passes");
    }

    #[test]
    fn names_are_bounded() {
        let gauges = Gauges::default();
        gauges.set(&"x".repeat(LONGEST_NAME + 1), 1.0);
        (0..1000).for_each(|name| gauges.set(&name.to_string(), 1.0));
        assert_eq!(gauges.take().len(), GAUGES);
    }
}
