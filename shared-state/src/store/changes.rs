//! What a commit is to change.

use std::collections::BTreeMap;
use std::iter;

use super::Held;
use crate::{ChangeKind, Key};

/// What becomes of a key.
#[derive(Debug)]
pub(super) struct Altered {
    /// What is there then; `None` if nothing is.
    pub(super) held: Option<Held>,
    pub(super) kind: ChangeKind,
}

/// Keys, each at most once, and what becomes of them. Most commits change one key: that needs no tree.
#[derive(Debug, Default)]
pub(super) struct Changes {
    first: Option<(Key, Altered)>,
    /// All of them, as soon as there are several; boxed, since a node of the tree has room for eleven.
    several: BTreeMap<Key, Box<Altered>>,
}

impl Changes {
    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.several.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Altered> {
        match &self.first {
            Some((first, altered)) => (first == key).then_some(altered),
            None => self.several.get(key).map(|altered| &**altered),
        }
    }

    /// Puts this in the place of what was to become of the key.
    pub(super) fn insert(&mut self, key: Key, altered: Altered) {
        match &mut self.first {
            Some((first, former)) if *first == key => *former = altered,
            None if self.several.is_empty() => self.first = Some((key, altered)),
            first => {
                let first = first.take().map(|(key, altered)| (key, Box::new(altered)));
                self.several.extend(first);
                self.several.insert(key, Box::new(altered));
            }
        }
    }

    /// In the order of keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &Altered)> {
        let several = self.several.iter().map(|(key, altered)| (key, &**altered));
        self.first.iter().map(|(key, altered)| (key, altered)).chain(several)
    }
}

impl IntoIterator for Changes {
    type Item = (Key, Altered);
    type IntoIter = iter::Chain<
        std::option::IntoIter<Self::Item>,
        iter::Map<
            std::collections::btree_map::IntoIter<Key, Box<Altered>>,
            fn((Key, Box<Altered>)) -> (Key, Altered),
        >,
    >;

    fn into_iter(self) -> Self::IntoIter {
        let unboxed: fn((Key, Box<Altered>)) -> (Key, Altered) = |(key, altered)| (key, *altered);
        self.first.into_iter().chain(self.several.into_iter().map(unboxed))
    }
}
