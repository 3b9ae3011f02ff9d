//! The ledger beside a naive account that remembers every life.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use cluster_supervisor::{Counted, Ledger, Totals, WorkerId};
use proptest::prelude::*;

/// How many counters a worker has.
const COUNTERS: u8 = 64;

/// What may happen to the cluster.
#[derive(Clone, Debug)]
enum Step {
    Begin(u32),
    /// One of the living, by its place among them, counts so much more.
    Count(usize, u64, u64),
    Observe(usize),
    /// Its board shows less than it did, or nonsense.
    Lie(usize, u64),
    End(usize),
    /// Somebody who has ended is heard of once more.
    Haunt(usize, u64),
    Name(usize, u8, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..8_usize;
    prop_oneof![
        2 => (0..3_u32).prop_map(Step::Begin),
        4 => (who(), 0..50_u64, 0..50_u64).prop_map(|(who, requests, own)| Step::Count(who, requests, own)),
        3 => who().prop_map(Step::Observe),
        1 => (who(), 0..100_u64).prop_map(|(who, value)| Step::Lie(who, value)),
        2 => who().prop_map(Step::End),
        1 => (who(), any::<u64>()).prop_map(|(who, value)| Step::Haunt(who, value)),
        2 => (who(), 0..4_u8, 0..3_usize).prop_map(|(who, number, name)| Step::Name(who, number, name)),
    ]
}

const NAMED: [&str; 3] = ["a", "b", "c"];

/// A board with the same figure everywhere, but for the application's counters: each has its own.
fn showing(requests: u64, own: u64) -> Counted {
    let counters: Vec<u64> = (1..=u64::from(COUNTERS)).map(|factor| own * factor).collect();
    Counted::new(requests, requests, requests / 2).counters(counters)
}

/// One life, as the naive account has it.
#[derive(Clone, Debug, Default)]
struct Told {
    slot: u32,
    /// What its board shows, and the most that was ever seen of it.
    shows: (u64, u64),
    seen: (u64, u64),
    /// By number. The first name counts.
    names: BTreeMap<u8, &'static str>,
    ended: bool,
}

/// Both accounts.
#[derive(Debug, Default)]
struct Both {
    ledger: Ledger,
    lives: BTreeMap<WorkerId, Told>,
}

impl Both {
    fn pick(&self, who: usize, ended: bool) -> Option<WorkerId> {
        let all: Vec<_> =
            self.lives.iter().filter(|(_, life)| life.ended == ended).map(|(id, _)| *id).collect();
        (!all.is_empty()).then(|| all[who % all.len()])
    }

    fn observe(&mut self, id: WorkerId, shows: (u64, u64)) {
        let life = self.lives.get_mut(&id).unwrap();
        life.seen = (life.seen.0.max(shows.0), life.seen.1.max(shows.1));
    }

    fn take(&mut self, step: &Step) {
        let living = |who| self.pick(who, false);
        match *step {
            Step::Begin(slot) => {
                let generation = self.lives.keys().filter(|id| id.slot() == slot).count() as u32 + 1;
                let id = WorkerId::new(slot, generation);
                self.lives.insert(id, Told { slot, ..Told::default() });
                self.ledger.begin(id);
            }
            Step::Count(who, requests, own) => {
                let Some(id) = living(who) else { return };
                let life = self.lives.get_mut(&id).unwrap();
                life.shows = (life.shows.0 + requests, life.shows.1 + own);
            }
            Step::Observe(who) => {
                let Some(id) = living(who) else { return };
                let shows = self.lives[&id].shows;
                self.observe(id, shows);
                self.ledger.observe(id, &showing(shows.0, shows.1));
            }
            Step::Lie(who, value) => {
                let Some(id) = living(who) else { return };
                self.observe(id, (value, value));
                self.ledger.observe(id, &showing(value, value));
            }
            Step::End(who) => {
                let Some(id) = living(who) else { return };
                let shows = self.lives[&id].shows;
                self.observe(id, shows);
                self.lives.get_mut(&id).unwrap().ended = true;
                self.ledger.end(id, &showing(shows.0, shows.1));
            }
            Step::Haunt(who, value) => {
                let Some(id) = self.pick(who, true) else { return };
                self.ledger.observe(id, &showing(value, 0));
                self.ledger.end(id, &showing(value, 0));
                self.ledger.name(id, 0, "a ghost");
            }
            Step::Name(who, number, name) => {
                let Some(id) = living(who) else { return };
                self.lives.get_mut(&id).unwrap().names.entry(number).or_insert(NAMED[name]);
                self.ledger.name(id, number, NAMED[name]);
            }
        }
    }

    fn check(&self) {
        for (slot, totals) in self.ledger.slots() {
            let lives = || self.lives.values().filter(|life| life.slot == slot);
            let sum = |figure: fn(&Told) -> u64| lives().map(figure).sum::<u64>();
            assert_eq!(totals.created, lives().count() as u64);
            assert_eq!(totals.died, lives().filter(|life| life.ended).count() as u64);
            assert_eq!(totals.requests, sum(|life| life.seen.0));
            assert_eq!(totals.connections, totals.requests);
            assert_eq!(totals.errors, sum(|life| life.seen.0 / 2));
        }
        let mut counters = BTreeMap::new();
        for life in self.lives.values() {
            for (number, name) in &life.names {
                *counters.entry((*name).to_owned()).or_default() += life.seen.1 * (u64::from(*number) + 1);
            }
        }
        assert_eq!(self.ledger.counters(), counters);
    }
}

fn all(totals: Totals) -> [u64; 5] {
    [totals.created, totals.died, totals.connections, totals.requests, totals.errors]
}

proptest! {
    #[test]
    fn totals_are_the_sum_over_all_lives_and_never_go_back(steps in proptest::collection::vec(step(), 0..200)) {
        let mut both = Both::default();
        let mut before = (Totals::default(), BTreeMap::<String, u64>::new());
        for step in &steps {
            both.take(step);
            both.check();
            let totals = both.ledger.totals();
            let counters = both.ledger.counters();
            prop_assert!(all(totals).iter().zip(all(before.0)).all(|(now, before)| *now >= before), "{step:?}");
            prop_assert!(before.1.iter().all(|(name, before)| counters[name] >= *before), "{step:?}");
            before = (totals, counters);
        }
    }

    #[test]
    fn the_order_of_deaths_does_not_matter((lives, order) in deaths()) {
        prop_assert_eq!(after(&lives, &lives), after(&lives, &order));
    }
}

type Lives = Vec<(WorkerId, u64)>;

/// Lives with what they count, and the order in which they end.
fn deaths() -> impl Strategy<Value = (Lives, Lives)> {
    proptest::collection::vec((0..4_u32, 0..1000_u64), 1..20).prop_flat_map(|counts| {
        let ids = counts.iter().zip(1..).map(|((slot, count), life)| (WorkerId::new(*slot, life), *count));
        let lives: Lives = ids.collect();
        (Just(lives.clone()), Just(lives).prop_shuffle())
    })
}

fn after(lives: &Lives, order: &Lives) -> (Vec<(u32, Totals)>, BTreeMap<String, u64>) {
    let mut ledger = Ledger::new();
    for (id, _) in lives {
        ledger.begin(*id);
        ledger.name(*id, 0, "own");
    }
    for (id, count) in order {
        ledger.end(*id, &showing(*count, *count));
    }
    (ledger.slots().collect(), ledger.counters())
}

#[test]
fn names_are_bounded_and_what_is_known_goes_on() {
    let mut ledger = Ledger::new();
    for slot in 0..2 * Ledger::NAMES as u32 / u32::from(COUNTERS) {
        ledger.begin(WorkerId::new(slot, 1));
        for number in 0..COUNTERS {
            ledger.name(WorkerId::new(slot, 1), number, &format!("{slot} {number}"));
        }
    }
    assert_eq!(ledger.counters().len(), Ledger::NAMES);
    let late = WorkerId::new(1000, 1);
    ledger.begin(late);
    ledger.name(late, 0, "0 0");
    ledger.name(late, 1, "new");
    ledger.end(late, &showing(0, 7));
    assert_eq!(ledger.counters()["0 0"], 7);
    assert!(!ledger.counters().contains_key("new"));
}

#[test]
fn what_overflows_stays_at_the_most() {
    let mut ledger = Ledger::new();
    for slot in 0..2 {
        let id = WorkerId::new(slot, 1);
        ledger.begin(id);
        ledger.end(id, &Counted::new(0, u64::MAX, 0));
    }
    let totals = ledger.totals();
    assert_eq!(totals.requests, u64::MAX);
    assert!(totals.requests_per_worker() > 0.0);
    assert_eq!(Totals::default().requests_per_worker(), 0.0);
}
