//! Members of equal weight, by how much they have.

use crate::candidate::Candidate;

/// Counts from here on share a level: with so much outstanding a scan of it doesn't matter.
const TOP: usize = 4096;

/// Levels there is room for from the beginning.
const FIRST: usize = 64;

/// For each count of outstanding items a bitmap of the eligible members that have it.
#[derive(Debug)]
pub(super) struct Levels {
    /// Words of a level.
    words: usize,
    /// Level by level.
    bits: Vec<u64>,
    /// How many bits of each level are set.
    set: Vec<u32>,
    /// No level below this has any.
    lowest: usize,
}

#[inline]
fn level_of(outstanding: u32) -> usize {
    (outstanding as usize).min(TOP)
}

impl Levels {
    pub(super) fn new(all: &[Candidate]) -> Self {
        let words = all.len().div_ceil(64);
        let mut levels = Self { words, bits: vec![0; words * FIRST], set: vec![0; FIRST], lowest: 0 };
        for (index, candidate) in all.iter().enumerate() {
            levels.insert(index, candidate.rank().map(level_of));
        }
        levels
    }

    #[inline]
    pub(super) fn update(&mut self, index: usize, before: Option<u32>, now: Option<u32>) {
        let (before, now) = (before.map(level_of), now.map(level_of));
        if before != now {
            // In this order: then the lowest level moves least.
            self.insert(index, now);
            self.remove(index, before);
        }
    }

    #[inline]
    fn insert(&mut self, index: usize, level: Option<usize>) {
        let Some(level) = level else { return };
        if level >= self.set.len() {
            let levels = (level + 1).next_power_of_two().min(TOP + 1);
            self.set.resize(levels, 0);
            self.bits.resize(levels * self.words, 0);
        }
        let place = level * self.words + index / 64;
        if let (Some(word), Some(set)) = (self.bits.get_mut(place), self.set.get_mut(level)) {
            *word |= 1 << (index % 64);
            *set += 1;
            self.lowest = self.lowest.min(level);
        }
    }

    #[inline]
    fn remove(&mut self, index: usize, level: Option<usize>) {
        let Some(level) = level else { return };
        let place = level * self.words + index / 64;
        if let (Some(word), Some(set)) = (self.bits.get_mut(place), self.set.get_mut(level)) {
            *word &= !(1 << (index % 64));
            *set -= 1;
            // Counts change by one mostly, so this is one step.
            while self.set.get(self.lowest) == Some(&0) {
                self.lowest += 1;
            }
        }
    }

    #[inline]
    pub(super) fn least(&self, all: &[Candidate], start: usize) -> Option<usize> {
        if self.lowest >= TOP {
            return super::scan(all, start);
        }
        let level = self.bits.get(self.lowest * self.words..(self.lowest + 1) * self.words)?;
        let first = start / 64;
        // The rest of the word in which `start` is, the words after it, those before it, and its beginning.
        let here = level.get(first)? & (u64::MAX << (start % 64));
        if here != 0 {
            return Some(first * 64 + here.trailing_zeros() as usize);
        }
        let (before, from) = level.split_at_checked(first)?;
        let after = (first..).zip(from).skip(1);
        let found = after.chain((0..).zip(before)).find(|(_, word)| **word != 0);
        let (word, bits) = found.or_else(|| level.get(first).map(|word| (first, word)))?;
        (*bits != 0).then(|| word * 64 + bits.trailing_zeros() as usize)
    }
}
