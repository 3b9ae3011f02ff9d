//! Members of different weights: a tournament, in which the less loaded of two goes on.

use crate::candidate::Candidate;

const NOBODY: u32 = u32::MAX;

/// A complete binary tree as an array: the parent of `n` is `n / 2`, the leaves are the second half. Each node holds the
/// index of the best of those below it; of equals the first.
#[derive(Debug)]
pub(super) struct Tree {
    best: Vec<u32>,
}

impl Tree {
    pub(super) fn new(all: &[Candidate]) -> Self {
        let leaves = all.len().next_power_of_two();
        let mut tree = Self { best: vec![NOBODY; 2 * leaves] };
        for index in 0..all.len() {
            tree.set_leaf(all, index);
        }
        for node in (1..leaves).rev() {
            tree.play(all, node);
        }
        tree
    }

    #[inline]
    pub(super) fn update(&mut self, all: &[Candidate], index: usize) {
        self.set_leaf(all, index);
        let mut node = (self.leaves() + index) / 2;
        while node > 0 {
            self.play(all, node);
            node /= 2;
        }
    }

    #[inline]
    pub(super) fn least(&self, all: &[Candidate], start: usize) -> Option<usize> {
        let winner = self.at(1);
        let from = self.best_from(all, start);
        // Of equals, the first from `start` on.
        let equal = better(all, winner, from) == winner && better(all, from, winner) == from;
        let chosen = if equal && from != NOBODY { from } else { winner };
        (chosen != NOBODY).then_some(chosen as usize)
    }

    /// The best from this index to the end.
    #[inline]
    fn best_from(&self, all: &[Candidate], start: usize) -> u32 {
        let mut node = self.leaves() + start;
        let mut best = self.at(node);
        while node > 1 {
            // What is to the right of a left child comes after all that was looked at.
            if node.is_multiple_of(2) {
                best = better(all, best, self.at(node + 1));
            }
            node /= 2;
        }
        best
    }

    #[inline]
    fn leaves(&self) -> usize {
        self.best.len() / 2
    }

    #[inline]
    fn at(&self, node: usize) -> u32 {
        self.best.get(node).copied().unwrap_or(NOBODY)
    }

    #[inline]
    fn set_leaf(&mut self, all: &[Candidate], index: usize) {
        let eligible = all.get(index).is_some_and(Candidate::is_eligible);
        let leaf = self.leaves() + index;
        if let Some(best) = self.best.get_mut(leaf) {
            *best = if eligible { index as u32 } else { NOBODY };
        }
    }

    #[inline]
    fn play(&mut self, all: &[Candidate], node: usize) {
        let winner = better(all, self.at(2 * node), self.at(2 * node + 1));
        if let Some(best) = self.best.get_mut(node) {
            *best = winner;
        }
    }
}

/// The less loaded of two; of equals the first.
#[inline]
fn better(all: &[Candidate], one: u32, other: u32) -> u32 {
    match (all.get(one as usize), all.get(other as usize)) {
        (Some(first), Some(second)) if second.compare_load(first).is_lt() => other,
        (None, Some(_)) => other,
        _ => one,
    }
}
