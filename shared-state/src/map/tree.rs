//! All keys in order, as they were at one time: a search tree that is never changed, but made anew where changes are.
//!
//! A node holds up to sixteen entries or children side by side, so what a change costs is one node per level; and many
//! changes at once share what they have in common, which is most of it. That is why they are gathered before (see `log`).
//!
//! Tried before: the red-black tree of rpds, changed with each write. A write copied some ten of its nodes and freed as
//! many, each in a place of its own, and took more time than everything else that a replica does with it.

use std::mem;
use std::ops::Bound;
use std::slice;
use std::sync::Arc;

use super::Held;
use super::log::Change;
use crate::Key;

/// Entries of a leaf, children of a branch: at most.
const LEAF: usize = 16;
const BRANCH: usize = 12;

/// A node with fewer is put together with its neighbour, where both fit into one.
const FEW: usize = 4;

/// From where to where.
pub(super) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

type Item = (Key, Held);
/// A node, and the first key in it.
type Child = (Key, Node);

/// The tree. Cheap to clone.
#[derive(Clone)]
pub(super) struct Tree {
    root: Node,
}

/// All leaves are at the same depth.
#[derive(Clone)]
enum Node {
    Leaf(Arc<[Item]>),
    Branch(Arc<[Child]>),
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { root: Node::Leaf(Arc::default()) }
    }

    /// Of entries that are in order.
    pub(super) fn from_sorted(mut entries: Vec<Item>) -> Self {
        let mut leaves = Vec::with_capacity(entries.len().div_ceil(LEAF));
        cut(&mut entries, LEAF, |leaf| leaves.push(child(Node::Leaf(leaf))));
        Self::over(leaves)
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(&self.root, Node::Leaf(entries) if entries.is_empty())
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Held> {
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let place = entries.binary_search_by(|(other, _)| (**other).cmp(key)).ok()?;
                    return entries.get(place).map(|(_, held)| held);
                }
                Node::Branch(children) => node = &children.get(place(children, key))?.1,
            }
        }
    }

    /// The entries within bounds, in order.
    pub(super) fn range<'a>(&'a self, (from, to): Bounds<'a>) -> Range<'a> {
        let mut above = Vec::new();
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(entries) => {
                    return Range { above, leaf: within(entries, from).iter(), to };
                }
                Node::Branch(children) => {
                    let place = match from {
                        Bound::Included(from) | Bound::Excluded(from) => place(children, from),
                        Bound::Unbounded => 0,
                    };
                    let mut rest = children.get(place..).unwrap_or_default().iter();
                    let Some((_, child)) = rest.next() else {
                        return Range { above, leaf: Default::default(), to };
                    };
                    above.push(rest);
                    node = child;
                }
            }
        }
    }

    /// The tree that comes of these changes, which are in order, each of another key.
    pub(super) fn changed(&self, changes: &[&Change]) -> Self {
        let mut nodes = Vec::new();
        fold(&self.root, changes, &mut nodes);
        Self::over(nodes)
    }

    /// Over nodes of one depth.
    fn over(mut nodes: Vec<Child>) -> Self {
        while nodes.len() > 1 {
            let mut above = Vec::with_capacity(nodes.len().div_ceil(BRANCH));
            cut(&mut nodes, BRANCH, |children| above.push(child(Node::Branch(children))));
            nodes = above;
        }
        let Some((_, mut root)) = nodes.pop() else { return Self::new() };
        while let Node::Branch(children) = &root
            && let [(_, only)] = &**children
        {
            root = only.clone();
        }
        Self { root }
    }
}

/// The entries of a run that is in order, within bounds, in order.
pub(super) fn range_of<'a>(entries: &'a [Item], (from, to): Bounds<'a>) -> Range<'a> {
    Range { above: Vec::new(), leaf: within(entries, from).iter(), to }
}

/// Entries in the order of their keys.
pub(super) struct Range<'a> {
    /// What comes after the leaf, the nearest last.
    above: Vec<slice::Iter<'a, Child>>,
    leaf: slice::Iter<'a, Item>,
    to: Bound<&'a [u8]>,
}

impl<'a> Iterator for Range<'a> {
    type Item = (&'a Key, &'a Held);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, held)) = self.leaf.next() {
                return is_before(key, self.to).then_some((key, held));
            }
            match self.above.last_mut()?.next() {
                Some((_, Node::Leaf(entries))) => self.leaf = entries.iter(),
                Some((_, Node::Branch(children))) => self.above.push(children.iter()),
                None => drop(self.above.pop()),
            }
        }
    }
}

/// Whether the key is not behind that end.
pub(super) fn is_before(key: &[u8], to: Bound<&[u8]>) -> bool {
    match to {
        Bound::Included(to) => key <= to,
        Bound::Excluded(to) => key < to,
        Bound::Unbounded => true,
    }
}

/// Whether the key is not before that begin.
pub(super) fn is_after(key: &[u8], from: Bound<&[u8]>) -> bool {
    match from {
        Bound::Included(from) => key >= from,
        Bound::Excluded(from) => key > from,
        Bound::Unbounded => true,
    }
}

fn within<'a>(entries: &'a [Item], from: Bound<&[u8]>) -> &'a [Item] {
    let begin = entries.partition_point(|(key, _)| !is_after(key, from));
    entries.get(begin..).unwrap_or_default()
}

/// Where a key is, if it is anywhere: what is before the first belongs to the first.
fn place(children: &[Child], key: &[u8]) -> usize {
    children.partition_point(|(first, _)| **first <= *key).saturating_sub(1)
}

/// What comes in the place of a node; nothing, if all of it is removed.
fn fold(node: &Node, changes: &[&Change], nodes: &mut Vec<Child>) {
    match node {
        Node::Leaf(entries) => {
            let mut merged = Vec::with_capacity(entries.len() + changes.len() + LEAF);
            let neighbour = |last: &Node| match last {
                Node::Leaf(entries) => Some(Arc::clone(entries)),
                Node::Branch(_) => None,
            };
            merge(entries, changes, &mut merged);
            join(nodes, &mut merged, LEAF, neighbour);
            cut(&mut merged, LEAF, |leaf| nodes.push(child(Node::Leaf(leaf))));
        }
        Node::Branch(children) => {
            let mut merged = Vec::with_capacity(children.len() + changes.len() + BRANCH);
            let neighbour = |last: &Node| match last {
                Node::Branch(children) => Some(Arc::clone(children)),
                Node::Leaf(_) => None,
            };
            let mut rest = changes;
            for (at, (first, child)) in children.iter().enumerate() {
                let end = match children.get(at + 1) {
                    Some((next, _)) => rest.iter().take_while(|change| change.key < *next).count(),
                    None => rest.len(),
                };
                let (theirs, others) = rest.split_at(end);
                rest = others;
                if theirs.is_empty() {
                    merged.push((first.clone(), child.clone()));
                } else {
                    fold(child, theirs, &mut merged);
                }
            }
            join(nodes, &mut merged, BRANCH, neighbour);
            cut(&mut merged, BRANCH, |children| nodes.push(child(Node::Branch(children))));
        }
    }
}

/// The entries as they are after the changes.
fn merge(entries: &[Item], changes: &[&Change], merged: &mut Vec<Item>) {
    let mut rest = entries;
    for change in changes {
        let before = rest.iter().take_while(|(key, _)| *key < change.key).count();
        let (these, others) = rest.split_at(before);
        merged.extend_from_slice(these);
        rest = match others {
            [(key, _), others @ ..] if *key == change.key => others,
            others => others,
        };
        merged.extend(change.held.as_ref().map(|held| (change.key.clone(), Arc::clone(held))));
    }
    merged.extend_from_slice(rest);
}

/// Puts what the last node has before this, if one of both is small, and takes that node away.
fn join<T: Clone>(
    nodes: &mut Vec<Child>,
    items: &mut Vec<T>,
    most: usize,
    of: impl Fn(&Node) -> Option<Arc<[T]>>,
) {
    let Some(last) = nodes.last().and_then(|(_, last)| of(last)) else { return };
    if last.len().min(items.len()) < FEW && last.len() + items.len() <= most {
        nodes.pop();
        items.splice(..0, last.iter().cloned());
    }
}

/// Cuts a list into pieces of about the same length, which is at most that. Leaves the list empty.
fn cut<T>(items: &mut Vec<T>, most: usize, mut each: impl FnMut(Arc<[T]>)) {
    let mut pieces = items.len().div_ceil(most);
    let mut left = items.len();
    let mut items = mem::take(items).into_iter();
    while pieces > 0 {
        let length = left.div_ceil(pieces);
        each(items.by_ref().take(length).collect());
        left -= length;
        pieces -= 1;
    }
}

/// A node with its first key. (None is empty, but for that of an empty tree, which is no child.)
fn child(node: Node) -> Child {
    let first = match &node {
        Node::Leaf(entries) => entries.first().map(|(key, _)| key),
        Node::Branch(children) => children.first().map(|(key, _)| key),
    };
    (first.cloned().unwrap_or_default(), node)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::log::{Kind, Log};
    use super::*;
    use crate::{Entry, Revision};

    type Model = BTreeMap<Key, u64>;

    fn held(revision: u64) -> Held {
        Arc::new(Entry::new("v", Revision::new(revision)))
    }

    fn seen<'a>(range: impl Iterator<Item = (&'a Key, &'a Held)>) -> Vec<(&'a Key, u64)> {
        range.map(|(key, held)| (key, held.modified.get())).collect()
    }

    /// How deep it is, after a look at each node.
    fn depth(node: &Node, first: Option<&Key>) -> usize {
        let (length, most, depth) = match node {
            Node::Leaf(entries) => {
                assert!(first.is_none_or(|first| entries[0].0 == *first), "its first key");
                (entries.len(), LEAF, 0)
            }
            Node::Branch(children) => {
                assert!(first.is_none_or(|first| children[0].0 == *first), "its first key");
                let depths: Vec<_> =
                    children.iter().map(|(first, child)| depth(child, Some(first))).collect();
                assert!(depths.windows(2).all(|two| two[0] == two[1]), "all leaves are at one depth");
                (children.len(), BRANCH, depths[0] + 1)
            }
        };
        assert!(length <= most && (length > 0 || first.is_none()), "a node of {length}");
        depth
    }

    fn agrees(tree: &Tree, model: &Model, rng: &mut fastrand::Rng, key: impl Fn(u64) -> Key) {
        let whole = (Bound::Unbounded, Bound::Unbounded);
        assert_eq!(seen(tree.range(whole)), model.iter().map(|(key, at)| (key, *at)).collect::<Vec<_>>());
        assert_eq!(tree.is_empty(), model.is_empty());
        for _ in 0..20 {
            let (one, other) = (key(rng.u64(..)), key(rng.u64(..)));
            assert_eq!(tree.get(&one).map(|held| held.modified.get()), model.get(&one).copied());
            let (from, to) = if one < other { (one, other) } else { (other, one) };
            let bound = |key: &Key, kind| match kind {
                0 => Bound::Included(key.clone()),
                1 => Bound::Excluded(key.clone()),
                _ => Bound::Unbounded,
            };
            let (from, to) = (bound(&from, rng.u8(..3)), bound(&to, rng.u8(..3)));
            // The map would panic.
            if let (Bound::Excluded(from), Bound::Excluded(to)) = (&from, &to)
                && from == to
            {
                continue;
            }
            let expected: Vec<_> =
                model.range((from.clone(), to.clone())).map(|(key, at)| (key, *at)).collect();
            let bounds = (from.as_ref().map(|key| &**key), to.as_ref().map(|key| &**key));
            assert_eq!(seen(tree.range(bounds)), expected, "{from:?} {to:?}");
        }
    }

    #[test]
    fn any_changes_make_the_tree_of_a_btreemap_and_leave_the_former_as_it_was() {
        for seed in 0..40 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let keys = [40, 400, 4000][seed as usize % 3];
            let key = |number: u64| Key::from(format!("{:05}", number % keys));
            let mut model: Model = (0..rng.u64(..keys)).map(|number| (key(number), 0)).collect();
            let mut tree =
                Tree::from_sorted(model.iter().map(|(key, at)| (key.clone(), held(*at))).collect());
            for round in 1..30 {
                // Sometimes more is added, sometimes all but everything is removed, at times from one side on.
                let (removes, from) = (rng.u8(..=10), rng.u64(..keys));
                let count = rng.usize(1..=keys as usize);
                let log = Log::with_capacity(count, Kind::AsWritten);
                let former = (tree.clone(), model.clone());
                for place in 0..count {
                    let key = key(if rng.bool() { rng.u64(..) } else { from + place as u64 });
                    if rng.u8(..10) < removes {
                        model.remove(&key);
                        assert!(log.push(place, 0, &key, None).is_ok());
                    } else {
                        model.insert(key.clone(), round);
                        assert!(log.push(place, 0, &key, Some(held(round))).is_ok());
                    }
                }
                tree = tree.changed(&log.newest(count, Bound::Unbounded, |_| true));
                agrees(&tree, &model, &mut rng, key);
                agrees(&former.0, &former.1, &mut rng, key);
                let depth = depth(&tree.root, None);
                assert!(depth <= 4, "seed {seed}: {depth} levels of branches for {} keys", model.len());
            }
        }
    }

    #[test]
    fn bounds_the_wrong_way_round_contain_nothing() {
        let tree = Tree::from_sorted((10..99).map(|n| (Key::from(format!("{n}")), held(1))).collect());
        let bounds: Bounds<'_> = (Bound::Included(b"50"), Bound::Excluded(b"20"));
        assert!(tree.range(bounds).next().is_none());
        let bounds: Bounds<'_> = (Bound::Excluded(b"50"), Bound::Excluded(b"50"));
        assert!(tree.range(bounds).next().is_none());
    }

    #[test]
    fn what_is_left_of_many_keys_does_not_keep_their_nodes() {
        let keys: Vec<_> = (0..10_000).map(|n| Key::from(format!("{n:05}"))).collect();
        let mut tree = Tree::from_sorted(keys.iter().map(|key| (key.clone(), held(1))).collect());
        let log = Log::with_capacity(keys.len(), Kind::InOrder);
        let gone = keys.iter().enumerate().filter(|(n, _)| n % 100 != 0);
        let gone =
            gone.enumerate().filter(|(place, (_, key))| log.push(*place, 0, key, None).is_ok()).count();
        tree = tree.changed(&log.newest(gone, Bound::Unbounded, |_| true));
        fn leaves(node: &Node) -> usize {
            match node {
                Node::Leaf(_) => 1,
                Node::Branch(children) => children.iter().map(|(_, child)| leaves(child)).sum(),
            }
        }
        assert_eq!(seen(tree.range((Bound::Unbounded, Bound::Unbounded))).len(), 100);
        // There were 625. Those of different branches are not put together at once.
        assert!(leaves(&tree.root) < 60, "{} leaves for 100 keys", leaves(&tree.root));
    }
}
