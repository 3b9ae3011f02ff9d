//! Random operations on a dispatcher and on a naive model of one that does everything by counting.
//!
//! `CLUSTER_TEST_SEED` repeats a run, `CLUSTER_TEST_LONG=1` makes it a hundred times as long.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod naive;

use std::collections::BTreeSet;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use cluster_balancer::{Candidate, Candidates, Dispatcher, Limits, Strategy, Ticket};
use fastrand::Rng;
use naive::{Item, Key, Member, strategy};

const OPERATIONS: usize = 1_000;
const RUNS: u64 = 100;

#[test]
fn every_item_ends_exactly_once_in_any_order_of_events() {
    let long = env::var_os("CLUSTER_TEST_LONG").is_some_and(|value| value == "1");
    let runs = if long { 100 * RUNS } else { RUNS };
    let (first, runs) = match env::var("CLUSTER_TEST_SEED") {
        Ok(seed) => (seed.parse().expect("CLUSTER_TEST_SEED is a number"), 1),
        Err(_) => (fastrand::u64(..u64::MAX / 2), runs),
    };
    for seed in first..first + runs {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| Run::new(seed).run())) {
            eprintln!("repeat with CLUSTER_TEST_SEED={seed}");
            resume_unwind(panic);
        }
    }
}

struct Run {
    rng: Rng,
    dispatcher: Dispatcher<Key, Item>,
    /// The twin of the dispatcher's strategy.
    twin: Box<dyn Strategy>,
    queue_limit: usize,
    members: Vec<Option<Member>>,
    waiting: BTreeSet<Item>,
    /// Members by place, in the order in which they got their first item of this round.
    round: Vec<usize>,
    /// Items that left: taken, or returned by a removal. Each can be here once.
    gone: BTreeSet<Item>,
    settled: Vec<(Key, Ticket)>,
    next_item: Item,
    next_key: Key,
    last_sequence: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let queue_limit = rng.usize(..20);
        Self {
            dispatcher: Dispatcher::new(strategy(seed), queue_limit),
            twin: strategy(seed),
            rng,
            queue_limit,
            members: Vec::new(),
            waiting: BTreeSet::new(),
            round: Vec::new(),
            gone: BTreeSet::new(),
            settled: Vec::new(),
            next_item: 0,
            next_key: 0,
            last_sequence: 0,
        }
    }

    fn run(mut self) {
        for _ in 0..OPERATIONS {
            match self.rng.u8(..100) {
                0..5 => self.admit(),
                5..8 => self.withdraw(),
                8..10 => self.remove(),
                10..13 => self.pause(),
                13..17 => self.resume(),
                17..42 => self.offer(),
                42..65 => self.poll(),
                65..80 => self.take(),
                80..87 => self.recall(),
                87..90 => self.try_stale(),
                _ => self.finish(),
            }
            self.check();
        }
        self.account();
    }

    // Operations, each on both sides.

    fn admit(&mut self) {
        let window = *self.rng.choice(&[0, 1, 2, 3, 8, 32]).unwrap();
        let capacity = *self.rng.choice(&[0, 1, 3, 10, u32::MAX, u32::MAX]).unwrap();
        let weight = self.rng.u32(..4);
        let key = match self.any_key() {
            Some(key) if self.rng.bool() || self.count() >= 6 => key,
            _ => {
                self.next_key += 1;
                self.next_key
            }
        };
        self.dispatcher.admit(key, Limits::new().window(window).capacity(capacity).weight(weight));
        self.unassign(key);
        let existing = self.members.iter_mut().flatten().find(|member| member.key == key);
        if let Some(member) = existing {
            (member.window, member.capacity, member.weight, member.admitted) =
                (window, capacity, weight, true);
            return;
        }
        let member = Member::new(key, window, capacity, weight);
        match self.members.iter().position(Option::is_none) {
            Some(vacant) => self.members[vacant] = Some(member),
            None => self.members.push(Some(member)),
        }
    }

    fn withdraw(&mut self) {
        let Some(key) = self.any_key() else { return };
        let tickets = self.dispatcher.withdraw(key);
        self.unassign(key);
        let member = self.member(key);
        member.admitted = false;
        let mut expected: Vec<Ticket> = member.flying.iter().map(|(ticket, _)| *ticket).collect();
        expected.sort_by_key(Ticket::sequence);
        assert_eq!(tickets, expected, "withdraw returns what is in flight, oldest first");
    }

    fn remove(&mut self) {
        let Some(key) = self.any_key() else { return };
        let items = self.dispatcher.remove(key);
        self.unassign(key);
        let place = self.place(key);
        let member = self.members[place].take().unwrap();
        self.settled.extend(member.flying.iter().map(|(ticket, _)| (key, *ticket)));
        let mut expected: Vec<Item> = member.flying.iter().map(|(_, item)| *item).collect();
        expected.sort_unstable();
        assert_eq!(items, expected, "remove returns what is in flight, in order of arrival");
        items.into_iter().for_each(|item| self.end(item));
    }

    fn pause(&mut self) {
        let Some(key) = self.any_key() else { return };
        self.dispatcher.pause(key);
        self.unassign(key);
        self.member(key).paused = true;
    }

    fn resume(&mut self) {
        let Some(key) = self.any_key() else { return };
        self.dispatcher.resume(key);
        self.member(key).paused = false;
    }

    fn offer(&mut self) {
        for _ in 0..self.rng.usize(1..5) {
            let item = self.next_item;
            self.next_item += 1;
            let accepts = self.waiting.len() < self.room() + self.queue_limit;
            assert!(accepts || self.dispatcher.room() == 0, "room was promised");
            match self.dispatcher.offer(item) {
                Ok(()) => {
                    assert!(accepts, "more items wait than may");
                    self.waiting.insert(item);
                }
                Err(refused) => {
                    assert!(!accepts, "refused with room for it");
                    assert_eq!(refused.waiting(), self.waiting.len());
                    self.end(refused.into_inner());
                }
            }
        }
    }

    /// Polls a few batches: sometimes to the end, sometimes leaving a round in the middle.
    fn poll(&mut self) {
        for _ in 0..self.rng.usize(1..8) {
            if !self.poll_one() {
                return;
            }
        }
    }

    fn poll_one(&mut self) -> bool {
        self.round.retain(|place| self.members[*place].as_ref().is_some_and(|m| !m.pending.is_empty()));
        if self.round.is_empty() {
            self.assign();
        }
        let batch = self.dispatcher.poll_batch();
        if self.round.is_empty() {
            assert_eq!(batch, None, "nothing to hand out");
            return false;
        }
        let batch = batch.expect("there is something to hand out");
        let member = self.members[self.round.remove(0)].as_mut().unwrap();
        assert_eq!(batch.key(), member.key, "batches come in the order of the round");
        assert_eq!(batch.tickets().len(), member.pending.len());
        for (item, ticket) in member.pending.drain(..).zip(batch.tickets()) {
            assert_eq!(self.dispatcher.item(member.key, *ticket), Some(&item), "in order of arrival");
            assert_eq!(ticket.sequence(), self.last_sequence + 1, "a sequence never repeats");
            self.last_sequence += 1;
            assert!(ticket.index() < member.window);
            let unique = member.flying.iter().all(|(other, _)| other.index() != ticket.index());
            assert!(unique, "an index is used twice");
            member.flying.push((*ticket, item));
        }
        assert!(member.flying.len() <= usize::from(member.window), "the window is exceeded");
        assert!(member.outstanding() <= u64::from(member.capacity), "the capacity is exceeded");
        true
    }

    /// What a round does, item by item.
    fn assign(&mut self) {
        while self.room() > 0
            && let Some(item) = self.waiting.pop_first()
        {
            let vacant = Candidate::new(0, 1).ineligible();
            let all: Vec<_> =
                self.members.iter().map(|m| m.as_ref().map_or(vacant, Member::candidate)).collect();
            let picked = self.twin.pick(&Candidates::new(&all));
            let eligible = |place: &usize| all.get(*place).is_some_and(Candidate::is_eligible);
            let place = picked.filter(eligible).unwrap_or_else(|| (0..).find(eligible).unwrap());
            self.members[place].as_mut().unwrap().pending.push(item);
            if !self.round.contains(&place) {
                self.round.push(place);
            }
        }
    }

    fn take(&mut self) {
        let Some((key, ticket, item)) = self.any_flying() else { return };
        assert_eq!(self.dispatcher.handle_taken(key, ticket), Some(item));
        self.member(key).taken += 1;
        self.land(key, ticket);
        self.end(item);
    }

    fn recall(&mut self) {
        let Some((key, ticket, item)) = self.any_flying() else { return };
        assert!(self.dispatcher.handle_recalled(key, ticket));
        self.land(key, ticket);
        self.waiting.insert(item);
        self.clamp(key);
    }

    /// Settled tickets, tickets of others and invented ones.
    fn try_stale(&mut self) {
        let invented = (self.any_key().unwrap_or(0), Ticket::new(self.rng.u16(..40), u64::MAX));
        let settled = self.rng.choice(&self.settled).copied();
        let elsewhere = self.any_flying().map(|(key, ticket, _)| (key.wrapping_add(1), ticket));
        for (key, ticket) in [Some(invented), settled, elsewhere].into_iter().flatten() {
            assert_eq!(self.dispatcher.item(key, ticket), None);
            assert_eq!(self.dispatcher.handle_taken(key, ticket), None);
            assert!(!self.dispatcher.handle_recalled(key, ticket));
        }
    }

    fn finish(&mut self) {
        let Some(key) = self.any_key() else { return };
        let (taken, lie) = (self.member(key).taken, self.rng.u64(..));
        let total = match self.rng.u8(..20) {
            0 => lie,
            1 => lie % 8,
            _ => taken.saturating_sub(lie % 3),
        };
        self.dispatcher.handle_finished(key, total);
        let member = self.member(key);
        member.finished = member.finished.max(total.min(member.assigned()));
    }

    // What must hold at any time.

    fn check(&self) {
        let Self { dispatcher, .. } = self;
        assert_eq!(dispatcher.waiting(), self.waiting.len());
        assert_eq!(dispatcher.room(), self.room().saturating_sub(self.waiting.len()));
        assert!(dispatcher.members().eq(self.members.iter().flatten().map(|member| member.key)));
        for member in self.members.iter().flatten() {
            assert_eq!(dispatcher.untaken(member.key), member.untaken());
            assert_eq!(dispatcher.outstanding(member.key).map(u64::from), Some(member.outstanding()));
            let tickets: BTreeSet<Ticket> = dispatcher.in_flight(member.key).collect();
            assert_eq!(tickets, member.flying.iter().map(|(ticket, _)| *ticket).collect());
        }
    }

    /// Every item that was ever offered is in exactly one place.
    fn account(&self) {
        let held = self.members.iter().flatten().flat_map(|member| {
            member.pending.iter().copied().chain(member.flying.iter().map(|(_, item)| *item))
        });
        let mut all: Vec<Item> = held.chain(self.gone.iter().copied()).collect();
        all.extend(&self.waiting);
        all.sort_unstable();
        assert!(all.into_iter().eq(0..self.next_item), "an item is lost or there twice");
    }

    // Helpers.

    fn any_key(&mut self) -> Option<Key> {
        let keys: Vec<Key> = self.members.iter().flatten().map(|member| member.key).collect();
        self.rng.choice(keys)
    }

    fn any_flying(&mut self) -> Option<(Key, Ticket, Item)> {
        let flying = self
            .members
            .iter()
            .flatten()
            .flat_map(|member| member.flying.iter().map(|(ticket, item)| (member.key, *ticket, *item)));
        let flying: Vec<_> = flying.collect();
        self.rng.choice(flying)
    }

    fn count(&self) -> usize {
        self.members.iter().flatten().count()
    }

    fn place(&self, key: Key) -> usize {
        let mut places = self.members.iter();
        places.position(|member| member.as_ref().is_some_and(|member| member.key == key)).unwrap()
    }

    fn member(&mut self, key: Key) -> &mut Member {
        let place = self.place(key);
        self.members[place].as_mut().unwrap()
    }

    fn room(&self) -> usize {
        self.members.iter().flatten().map(Member::room).sum()
    }

    /// What was assigned and not polled waits again when the standing of its member changes.
    fn unassign(&mut self, key: Key) {
        let Some(member) = self.members.iter_mut().flatten().find(|member| member.key == key) else { return };
        self.waiting.extend(member.pending.drain(..));
        self.clamp(key);
    }

    fn clamp(&mut self, key: Key) {
        let member = self.member(key);
        member.finished = member.finished.min(member.assigned());
    }

    fn land(&mut self, key: Key, ticket: Ticket) {
        self.member(key).flying.retain(|(other, _)| *other != ticket);
        self.settled.push((key, ticket));
    }

    fn end(&mut self, item: Item) {
        assert!(self.gone.insert(item), "item {item} ended twice");
    }
}
