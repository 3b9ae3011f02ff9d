//! Maglev hashing: each key to a member, by a table.

use std::collections::{HashMap, HashSet};

use super::cursor::Cursor;
use crate::hash::mix;
use crate::strategies::rendezvous::score;
use crate::strategy::{Candidates, Strategy};

/// The size of the table by default. A prime, and at least 100 entries for each of 655 members.
const TABLE: usize = 65_537;

/// Picks for each key the member that the table says, and the next in the table while that one may not be picked.
///
/// Eisenbud et al., "Maglev: a fast and reliable software network load balancer" (NSDI 2016), §3.4. The table is made for
/// *all* members, those that may not be picked just now included, so that health that comes and goes moves no key of the
/// others (as Sōzu does). Members that are [known by the same number](crate::Figures::identity), a successor beside its predecessor, have
/// one member's keys: the first of them that may be picked gets them. When a member comes or goes for good, less than 1 % of the keys of the others move. Items
/// without a key go to the least loaded.
///
/// O(1) per pick, without allocation; making the table takes 1 to 2 ms.
///
/// ```
/// use cluster_balancer::strategy::{Candidate, Candidates, Maglev, Request, Strategy};
/// use cluster_balancer::hash_of;
///
/// let all = [Candidate::new(0, 1), Candidate::new(0, 1), Candidate::new(0, 1)];
/// let among = Candidates::new(&all).for_request(Request::new().key(hash_of("anna")));
/// let mut strategy = Maglev::new();
/// let home = strategy.pick(&among);
/// assert!((0..10).all(|_| strategy.pick(&among) == home));
/// ```
#[derive(Clone, Debug)]
pub struct Maglev {
    size: usize,
    table: Vec<u32>,
    version: u64,
    /// Of whom this is the table: identity and weight by place, 0 for a vacant one.
    members: Vec<(u64, u32)>,
    /// By place, the next place of somebody who is known by the same number: a successor beside its predecessor.
    twins: Vec<u32>,
    cursor: Cursor,
}

impl Default for Maglev {
    fn default() -> Self {
        Self::new()
    }
}

impl Maglev {
    /// With a table of 65,537 entries.
    pub fn new() -> Self {
        Self {
            size: TABLE,
            table: Vec::new(),
            version: 0,
            members: Vec::new(),
            twins: Vec::new(),
            cursor: Cursor::default(),
        }
    }

    /// The same with a table of at least so many entries: a hundred times as many as there are members, for shares that
    /// differ by 1 %. Default: 65,537.
    #[must_use]
    pub fn table(self, entries: usize) -> Self {
        Self { size: next_prime(entries.max(2)), version: 0, table: Vec::new(), ..self }
    }

    fn is_current(&self, among: &Candidates<'_>) -> bool {
        match among.version() {
            Some(version) => version == self.version,
            None => !self.table.is_empty() && members(among).eq(self.members.iter().copied()),
        }
    }

    fn renew(&mut self, among: &Candidates<'_>) {
        self.version = among.version().unwrap_or(0);
        self.members = members(among).collect();
        self.twins = twins(&self.members);
        self.table = populate(&self.members, self.size);
    }
}

/// Identity and weight of each, by place.
fn members<'a>(among: &Candidates<'a>) -> impl Iterator<Item = (u64, u32)> + use<'a> {
    let among = *among;
    among.iter().enumerate().map(move |(index, candidate)| {
        let weight = if candidate.is_present() { candidate.weight() } else { 0 };
        (among.figures(index).identity(), weight)
    })
}

const NOBODY: u32 = u32::MAX;

/// For each place the next one with the same identity.
fn twins(members: &[(u64, u32)]) -> Vec<u32> {
    let mut last = HashMap::new();
    let mut twins = vec![NOBODY; members.len()];
    for (place, (identity, _)) in members.iter().enumerate().filter(|(_, (_, weight))| *weight > 0) {
        if let Some(twin) = last.insert(*identity, place).and_then(|before: usize| twins.get_mut(before)) {
            *twin = u32::try_from(place).unwrap_or(NOBODY);
        }
    }
    twins
}

/// The members take turns; each takes the next free entry in an order of its own. One of half the weight takes every
/// other turn only.
fn populate(members: &[(u64, u32)], size: usize) -> Vec<u32> {
    struct Taker {
        place: u32,
        at: u64,
        step: u64,
        weight: u64,
        due: u64,
    }
    let size = size as u64;
    let heaviest = members.iter().map(|(_, weight)| u64::from(*weight)).max().unwrap_or(0);
    // A successor beside its predecessor has one turn with it: nobody else's keys move.
    let mut known = HashSet::new();
    let mut takers: Vec<Taker> = (0u32..)
        .zip(members)
        .filter(|(_, (identity, weight))| *weight > 0 && known.insert(*identity))
        .map(|(place, (identity, weight))| Taker {
            place,
            at: mix(*identity) % size,
            step: mix(!*identity) % (size - 1) + 1,
            weight: u64::from(*weight),
            due: 0,
        })
        .collect();
    let mut table = vec![NOBODY; size as usize];
    let mut free = if takers.is_empty() { 0 } else { table.len() };
    // The order of turns must not depend on places, which change hands.
    takers.sort_unstable_by_key(|taker| (taker.at, taker.step));
    while free > 0 {
        for taker in &mut takers {
            taker.due += taker.weight;
            if taker.due < heaviest {
                continue;
            }
            taker.due -= heaviest;
            // The size is a prime, so these steps come by every entry.
            loop {
                let entry = table.get_mut(taker.at as usize);
                taker.at = (taker.at + taker.step) % size;
                if let Some(entry) = entry
                    && *entry == NOBODY
                {
                    *entry = taker.place;
                    break;
                }
            }
            free -= 1;
            if free == 0 {
                break;
            }
        }
    }
    table
}

fn next_prime(at_least: usize) -> usize {
    let is_prime = |n: usize| n >= 2 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d));
    (at_least..).find(|n| is_prime(*n)).unwrap_or(TABLE)
}

impl Strategy for Maglev {
    fn name(&self) -> &'static str {
        "maglev"
    }

    #[inline(always)]
    fn pick(&mut self, among: &Candidates<'_>) -> Option<usize> {
        let Some(key) = among.key() else {
            return self.cursor.least_loaded(among);
        };
        if !self.is_current(among) {
            self.renew(among);
        }
        // The golden ratio spreads keys that are near each other (Knuth, TAOCP 6.4); the high half of a product is as even as
        // a remainder, without a division.
        let spread = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let first = ((u128::from(spread) * self.table.len() as u128) >> 64) as usize;
        // The commonest case, without what the others need.
        if let Some(place) = self.table.get(first).map(|place| *place as usize)
            && among.is_eligible(place)
        {
            return Some(place);
        }
        let (before, from) = self.table.split_at_checked(first)?;
        // So far the walk meets everybody who may be picked, unless they are few.
        let far = 8 * among.len();
        let walk = from.iter().chain(before).take(far).map(|place| *place as usize);
        for place in walk {
            let mut place = place;
            while place != NOBODY as usize {
                if among.is_eligible(place) {
                    return Some(place);
                }
                place = self.twins.get(place).copied().unwrap_or(NOBODY) as usize;
            }
        }
        let scores = among.eligible_from(0).map(|(index, candidate)| {
            (index, score(key, among.figures(index).identity(), candidate.weight()))
        });
        scores.max_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(index, _)| index)
    }

    fn insists(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_weights() {
        let table = populate(&[(11, 1), (22, 2), (33, 0), (44, 5)], TABLE);
        let count = |place| table.iter().filter(|entry| **entry == place).count();
        assert_eq!(count(2), 0);
        for (place, weight) in [(0, 1), (1, 2), (3, 5)] {
            let share = count(place) as f64 / TABLE as f64;
            assert!((share - f64::from(weight) / 8.0).abs() < 0.001, "{place}: {share}");
        }
    }

    #[test]
    fn the_table_depends_on_who_is_there_and_not_on_where() {
        let (one, other) =
            (populate(&[(1, 1), (2, 1), (3, 1)], 1009), populate(&[(3, 1), (0, 0), (1, 1), (2, 1)], 1009));
        let named =
            |table: &[u32], names: &[u64]| table.iter().map(|p| names[*p as usize]).collect::<Vec<_>>();
        assert_eq!(named(&one, &[1, 2, 3]), named(&other, &[3, 0, 1, 2]));
    }

    #[test]
    fn tables_have_a_prime_number_of_entries() {
        assert_eq!([2, 4, 100, 65_537].map(next_prime), [2, 5, 101, 65_537]);
    }
}
