//! Random operations on a dispatcher and on a naive model of one that does everything by counting.
//!
//! `CLUSTER_TEST_SEED` repeats a run, `CLUSTER_TEST_LONG=1` makes it a hundred times as long.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod naive;

use std::collections::BTreeSet;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use cluster_balancer::strategy::Ended;
use cluster_balancer::{Arrival, Classes, Dispatcher, Limits, Ticket, Totals};
use fastrand::Rng;
use naive::{Item, Key, Naive, Offer, strategy};

const OPERATIONS: usize = 1_000;
const RUNS: u64 = 108;

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
    naive: Naive,
    /// Items that left: taken, expired, or given back. Each can be here once.
    gone: BTreeSet<Item>,
    settled: Vec<(Key, Ticket)>,
    arrivals: Vec<(Item, Arrival)>,
    totals: Totals,
    /// No more members than this.
    most: usize,
    next_item: Item,
    next_key: Key,
    last_sequence: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let queue_limit = rng.usize(..20);
        let wait = rng.bool().then(|| Duration::from_secs(rng.u64(..30)));
        // Every kind of strategy in turn.
        let twin = || strategy(seed % naive::kinds(), seed);
        let dispatcher = Dispatcher::new(twin(), queue_limit);
        Self {
            dispatcher: wait
                .map_or_else(|| Dispatcher::new(twin(), queue_limit), |wait| dispatcher.wait_at_most(wait)),
            naive: Naive::new(twin(), queue_limit, wait),
            rng,
            gone: BTreeSet::new(),
            settled: Vec::new(),
            arrivals: Vec::new(),
            totals: Totals::default(),
            most: 6,
            next_item: 0,
            next_key: 0,
            last_sequence: 0,
        }
    }

    fn run(mut self) {
        // Few, or so many that they are indexed.
        if self.rng.u8(..6) == 0 {
            self.most = 40;
            (0..30).for_each(|_| self.admit());
        }
        for _ in 0..OPERATIONS {
            match self.rng.u8(..100) {
                0..5 => self.admit(),
                5..7 => self.withdraw(),
                7..9 => self.remove(),
                9..11 => self.pause(),
                11..15 => self.resume(),
                15..19 => self.judge(),
                19..21 => self.drain(),
                21..42 => self.offer(),
                42..44 => self.retract(),
                44..63 => self.poll(),
                63..76 => self.take(),
                76..80 => self.recall(),
                80..84 => self.refuse(),
                84..86 => self.try_stale(),
                86..88 => self.learn(),
                88..89 => self.get_elsewhere(),
                89..93 => self.expire(),
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
        let every = Classes::all();
        let classes = *self.rng.choice(&[every, every, every.without(0), Classes::none().with(1)]).unwrap();
        let key = match self.any_key() {
            Some(key) if self.rng.bool() || self.naive.iter().count() >= self.most => key,
            _ => {
                self.next_key += 1;
                self.next_key
            }
        };
        let limits = Limits::new().window(window).capacity(capacity).weight(weight).classes(classes);
        self.dispatcher.admit(key, limits.identity(key.into()));
        self.naive.unassign(key);
        let member = self.naive.ensure(key);
        (member.window, member.capacity, member.weight, member.classes) = (window, capacity, weight, classes);
        (member.admitted, member.draining) = (true, false);
        member.stint += 1;
    }

    fn withdraw(&mut self) {
        let Some(key) = self.any_key() else { return };
        let tickets = self.dispatcher.withdraw(key);
        self.naive.unassign(key);
        let member = self.naive.member(key);
        member.admitted = false;
        let mut expected: Vec<Ticket> = member.flying.iter().map(|(ticket, _)| *ticket).collect();
        expected.sort_by_key(Ticket::sequence);
        assert_eq!(tickets, expected, "withdraw returns what is in flight, oldest first");
    }

    fn remove(&mut self) {
        let Some(key) = self.any_key() else { return };
        let items = self.dispatcher.remove(key);
        let member = self.naive.remove(key);
        self.settled.extend(member.flying.iter().map(|(ticket, _)| (key, *ticket)));
        let mut expected: Vec<Item> = member.flying.iter().map(|(_, item)| *item).collect();
        expected.sort_unstable();
        assert_eq!(items, expected, "remove returns what is in flight, in order of arrival");
        self.totals.returned += items.len() as u64;
        items.into_iter().for_each(|item| self.end(item));
    }

    fn pause(&mut self) {
        let Some(key) = self.any_key() else { return };
        self.dispatcher.pause(key);
        self.naive.unassign(key);
        self.naive.member(key).paused = true;
    }

    fn resume(&mut self) {
        let Some(key) = self.any_key() else { return };
        self.dispatcher.resume(key);
        self.naive.member(key).paused = false;
        self.naive.member(key).stint += 1;
    }

    /// Mostly well of it: otherwise little would move.
    fn judge(&mut self) {
        let Some(key) = self.any_key() else { return };
        let healthy = self.rng.u8(..3) > 0;
        self.dispatcher.set_healthy(key, healthy);
        self.naive.unassign(key);
        self.naive.member(key).healthy = healthy;
    }

    fn drain(&mut self) {
        let Some(key) = self.any_key() else { return };
        self.dispatcher.drain(key);
        self.naive.unassign(key);
        self.naive.member(key).draining = true;
    }

    fn offer(&mut self) {
        for _ in 0..self.rng.usize(1..5) {
            let item = self.next_item;
            self.next_item += 1;
            let class = *self.rng.choice(&[None, None, Some(0), Some(1)]).unwrap();
            let key = self.rng.bool().then(|| self.rng.u64(..8));
            let offer = Offer { class, key, since: self.naive.now, refusals: Vec::new() };
            let accepts = self.naive.accepts(class);
            match self.dispatcher.offer_for(offer.request(), item) {
                Ok(arrival) => {
                    assert!(accepts, "more items wait than may");
                    self.arrivals.push((item, arrival));
                    if !self.naive.lanes.contains(&class) {
                        self.naive.lanes.push(class);
                    }
                    self.naive.offers.insert(item, offer);
                    self.naive.waiting.insert(item);
                    self.totals.offered += 1;
                }
                Err(refused) => {
                    assert!(!accepts, "refused with room for it");
                    assert_eq!(refused.waiting(), self.naive.waiting.len());
                    self.totals.overloaded += 1;
                    self.end(refused.into_inner());
                }
            }
        }
    }

    /// Whatever was ever offered: only what no member was handed comes back.
    fn retract(&mut self) {
        let Some(&(item, arrival)) = self.rng.choice(&self.arrivals) else { return };
        let is_here = self.naive.retract(item);
        assert_eq!(self.dispatcher.retract(arrival), is_here.then_some(item));
        if is_here {
            self.totals.retracted += 1;
            self.end(item);
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
        let (batch, expected) = (self.dispatcher.poll_batch(), self.naive.poll_batch());
        let Some((key, items)) = expected else {
            assert_eq!(batch, None, "nothing to hand out");
            return false;
        };
        let batch = batch.expect("there is something to hand out");
        assert_eq!(batch.key(), key, "batches come in the order of the round");
        assert_eq!(batch.tickets().len(), items.len());
        let member = self.naive.member(key);
        for (item, ticket) in items.into_iter().zip(batch.tickets()) {
            assert_eq!(self.dispatcher.item(key, *ticket), Some(&item), "in order of arrival");
            assert_eq!(ticket.sequence(), self.last_sequence + 1, "a sequence never repeats");
            self.last_sequence += 1;
            assert!(ticket.index() < member.window);
            let unique = member.flying.iter().all(|(other, _)| other.index() != ticket.index());
            assert!(unique, "an index is used twice");
            member.flying.push((*ticket, item));
        }
        assert!(member.flying.len() <= usize::from(member.window), "the window is exceeded");
        // What it got elsewhere nobody asked about.
        let within = member.outstanding() <= u64::from(member.capacity) + member.elsewhere;
        assert!(within, "the capacity is exceeded");
        true
    }

    fn take(&mut self) {
        let Some((key, ticket, item)) = self.any_flying() else { return };
        assert_eq!(self.dispatcher.handle_taken(key, ticket), Some(item));
        self.naive.member(key).taken += 1;
        self.land(key, ticket);
        self.totals.taken += 1;
        self.end(item);
    }

    fn recall(&mut self) {
        let Some((key, ticket, item)) = self.any_flying() else { return };
        assert!(self.dispatcher.handle_recalled(key, ticket));
        self.totals.recalled += 1;
        self.come_back(key, ticket, item);
    }

    fn refuse(&mut self) {
        let Some((key, ticket, item)) = self.any_flying() else { return };
        assert!(self.dispatcher.handle_refused(key, ticket));
        self.totals.refused += 1;
        let stint = self.naive.member(key).stint;
        self.naive.offers.get_mut(&item).unwrap().refusals.push((key, stint));
        self.come_back(key, ticket, item);
    }

    fn come_back(&mut self, key: Key, ticket: Ticket, item: Item) {
        self.land(key, ticket);
        self.naive.waiting.insert(item);
        self.naive.member(key).clamp();
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
            assert!(!self.dispatcher.handle_refused(key, ticket));
        }
    }

    /// What strategies learn from.
    fn learn(&mut self) {
        let Some(key) = self.any_key() else { return };
        let used = self.rng.u64(..1_000);
        self.dispatcher.handle_gauge(key, used);
        let outstanding = u32::try_from(self.naive.member(key).outstanding()).unwrap();
        self.naive.member(key).gauge = Some((used, outstanding));
        let now = self.naive.now;
        let ended = if self.rng.bool() { Ended::well(now) } else { Ended::badly(now) };
        let ended = ended.after(Duration::from_millis(self.rng.u64(..500)));
        self.dispatcher.handle_ended(key, ended);
        self.naive.observe(key, ended);
    }

    /// A member gets items by itself.
    fn get_elsewhere(&mut self) {
        let Some(key) = self.any_key() else { return };
        let more = self.rng.u64(..4);
        let member = self.naive.member(key);
        member.elsewhere += more;
        self.dispatcher.handle_elsewhere(key, member.elsewhere);
        self.dispatcher.handle_elsewhere(key, member.elsewhere / 2);
    }

    /// Time goes by, sometimes so much that something expires.
    fn expire(&mut self) {
        let now = self.naive.now + Duration::from_secs(self.rng.u64(..10));
        self.naive.now = now;
        self.dispatcher.handle_timeout(now);
        self.dispatcher.handle_timeout(now / 2);
        if self.rng.bool() {
            while self.poll_one() {}
        }
        loop {
            let expired = self.dispatcher.poll_expired();
            assert_eq!(expired, self.naive.poll_expired());
            let Some(item) = expired else { return };
            self.totals.expired += 1;
            self.end(item);
        }
    }

    fn finish(&mut self) {
        let Some(key) = self.any_key() else { return };
        let member = self.naive.member(key);
        let (taken, lie) = (member.taken + member.elsewhere, self.rng.u64(..));
        let total = match self.rng.u8(..20) {
            0 => lie,
            1 => lie % 8,
            _ => taken.saturating_sub(lie % 3),
        };
        self.dispatcher.handle_finished(key, total);
        let member = self.naive.member(key);
        let finished = member.finished.max(total.min(member.assigned()));
        if std::mem::replace(&mut member.finished, finished) != finished {
            self.naive.finisher = Some(self.naive.place(key));
        }
    }

    // What must hold at any time.

    fn check(&self) {
        let Self { dispatcher, naive, .. } = self;
        assert_eq!(dispatcher.room(), naive.free());
        for class in [0, 1] {
            assert_eq!(dispatcher.room_for(class), naive.room_for(Some(class)));
        }
        assert_eq!(dispatcher.poll_timeout(), naive.poll_timeout());
        let status = dispatcher.status();
        assert_eq!((status.waiting, status.queue_limit), (naive.waiting.len(), naive.queue_limit));
        assert_eq!(status.waiting, dispatcher.waiting());
        assert_eq!(status.totals, self.totals);
        assert!(dispatcher.members().eq(naive.iter().map(|member| member.key)));
        for (member, status) in naive.iter().zip(status.members) {
            let candidate = member.candidate();
            assert_eq!(status.key, member.key);
            assert_eq!((status.weight, status.outstanding), (candidate.weight(), candidate.outstanding()));
            assert_eq!(status.eligible, candidate.is_eligible());
            assert_eq!((status.healthy, status.draining), (member.healthy, member.draining));
            assert_eq!((status.paused, status.withdrawn), (member.paused, !member.admitted));
            assert_eq!(status.picked, member.picked);
            assert_eq!((status.failed, status.gauge), (member.failed, member.gauge.map(|(used, _)| used)));
            assert_eq!(dispatcher.untaken(member.key), member.untaken());
            assert_eq!(status.untaken as usize, member.untaken());
            assert_eq!(dispatcher.outstanding(member.key).map(u64::from), Some(member.outstanding()));
            let tickets: BTreeSet<Ticket> = dispatcher.in_flight(member.key).collect();
            assert_eq!(tickets, member.flying.iter().map(|(ticket, _)| *ticket).collect());
        }
    }

    /// Every item that was ever offered is in exactly one place.
    fn account(&self) {
        let held = self.naive.iter().flat_map(|member| {
            member.pending.iter().copied().chain(member.flying.iter().map(|(_, item)| *item))
        });
        let mut all: Vec<Item> = held.chain(self.gone.iter().copied()).collect();
        all.extend(&self.naive.waiting);
        all.sort_unstable();
        assert!(all.into_iter().eq(0..self.next_item), "an item is lost or there twice");
    }

    // Helpers.

    fn any_key(&mut self) -> Option<Key> {
        let keys: Vec<Key> = self.naive.iter().map(|member| member.key).collect();
        self.rng.choice(keys)
    }

    fn any_flying(&mut self) -> Option<(Key, Ticket, Item)> {
        let flying = self
            .naive
            .iter()
            .flat_map(|member| member.flying.iter().map(|(ticket, item)| (member.key, *ticket, *item)));
        let flying: Vec<_> = flying.collect();
        self.rng.choice(flying)
    }

    fn land(&mut self, key: Key, ticket: Ticket) {
        self.naive.member(key).flying.retain(|(other, _)| *other != ticket);
        self.settled.push((key, ticket));
    }

    fn end(&mut self, item: Item) {
        assert!(self.gone.insert(item), "item {item} ended twice");
    }
}
