//! Who is least loaded, kept up to date with every change instead of being looked for.
//!
//! | members | weights | kept as | a pick and a change cost |
//! |---|---|---|---|
//! | up to 16 | any | nothing: a scan is faster | O(n) |
//! | more | all equal | [`levels`]: a bitmap per count | O(1), O(n / 64) to find a bit |
//! | more | different | [`tree`]: a tournament | O(log n) |
//!
//! All three give the same answer as a scan, ties included.

mod levels;
mod tree;

use self::levels::Levels;
use self::tree::Tree;
use crate::candidate::Candidate;
use crate::class::Classes;

/// Up to so many a scan beats everything.
const SCAN: usize = 16;

#[derive(Debug)]
pub(crate) struct LoadIndex {
    ranking: Ranking,
    /// Members that don't take every class: for items of a class the ranking knows too little then.
    choosy: usize,
}

#[derive(Debug)]
enum Ranking {
    Scan,
    Levels(Levels),
    Tree(Tree),
}

impl LoadIndex {
    pub(crate) fn new(all: &[Candidate]) -> Self {
        let mut present = all.iter().filter(|candidate| candidate.is_present()).map(Candidate::weight);
        let first = present.next();
        let ranking = if all.len() <= SCAN {
            Ranking::Scan
        } else if present.all(|weight| Some(weight) == first) {
            Ranking::Levels(Levels::new(all))
        } else {
            Ranking::Tree(Tree::new(all))
        };
        Self { ranking, choosy: all.iter().filter(|candidate| is_choosy(candidate)).count() }
    }

    /// The candidate at `index` was of that [rank](Candidate::rank). Weights and presence are the same: otherwise a new index has to be made.
    #[inline]
    pub(crate) fn update(&mut self, all: &[Candidate], index: usize, before: Option<u32>) {
        match &mut self.ranking {
            Ranking::Scan => {}
            Ranking::Levels(levels) => levels.update(index, before, all.get(index).and_then(Candidate::rank)),
            Ranking::Tree(tree) => tree.update(all, index),
        }
    }

    #[inline]
    pub(crate) fn takes_every_class(&self) -> bool {
        self.choosy == 0
    }

    /// The least loaded eligible one; of equals the first from `start` on, which is below the length.
    #[inline]
    pub(crate) fn least(&self, all: &[Candidate], start: usize) -> Option<usize> {
        match &self.ranking {
            Ranking::Scan => scan(all, start),
            Ranking::Levels(levels) => levels.least(all, start),
            Ranking::Tree(tree) => tree.least(all, start),
        }
    }
}

fn is_choosy(candidate: &Candidate) -> bool {
    candidate.is_present() && candidate.classes() != Classes::all()
}

/// Plain loops over loads as numbers: with iterators that are chained it takes twice as long.
#[inline]
fn scan(all: &[Candidate], start: usize) -> Option<usize> {
    let (before, from) = all.split_at_checked(start)?;
    let mut best = Best { index: usize::MAX, load: 0, weight: 0 };
    best.look(from, start);
    best.look(before, 0);
    (best.weight > 0).then_some(best.index)
}

struct Best {
    index: usize,
    load: u64,
    /// 0 as long as there is nobody.
    weight: u64,
}

impl Best {
    #[inline]
    fn look(&mut self, some: &[Candidate], first: usize) {
        for (offset, candidate) in some.iter().enumerate() {
            let (load, weight) = (u64::from(candidate.outstanding()) + 1, u64::from(candidate.weight()));
            // As `compare_load`, and anybody is better than nobody.
            let better = load * self.weight < self.load * weight || self.weight == 0;
            if better && candidate.is_eligible() {
                *self = Self { index: first + offset, load, weight };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever changes, each kind of index says what a scan says.
    #[test]
    fn an_index_agrees_with_a_scan() {
        let mut rng = fastrand::Rng::with_seed(7);
        for round in 0..60 {
            let count = rng.usize(1..200);
            let weights = if round % 2 == 0 { 1..=1 } else { 1..=5 };
            let mut all: Vec<Candidate> =
                (0..count).map(|_| Candidate::new(rng.u32(0..3), rng.u32(weights.clone()))).collect();
            let mut index = LoadIndex::new(&all);
            for _ in 0..500 {
                let at = rng.usize(..count);
                let before = all[at];
                let high = if rng.u8(..50) == 0 { 10_000 } else { 4 };
                all[at].count(rng.u32(..high), rng.u8(..5) > 0);
                index.update(&all, at, before.rank());
                let start = rng.usize(..count);
                assert_eq!(index.least(&all, start), scan(&all, start), "{count} members, from {start}");
            }
        }
    }

    #[test]
    fn nobody_eligible_is_nobody() {
        for count in [0, 5, 100] {
            let all = vec![Candidate::new(1, 1).ineligible(); count];
            assert_eq!(LoadIndex::new(&all).least(&all, 0), None);
        }
    }
}
