//! A primary, replicas and watchers under random schedules: slow links, lost connections, dead workers, other
//! primaries. After every message each replica must have the state of some revision, whole, and never go back;
//! what each watcher was told, folded, must be such a state, too.
//!
//! `CLUSTER_TEST_LONG=1` runs a hundred times as many schedules, `CLUSTER_TEST_SEED=n` the one of that seed.
#![allow(clippy::expect_used, clippy::disallowed_methods, reason = "a test may panic, and begins some time")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use cluster_shared_state::{
    ClientId, Command, Condition, Cursor, Epoch, Increment, KeyRange, Notice, Outcome, Overflow, Publisher,
    PublisherConfig, ReplicaConfig, RequestError, RequestId, Revision, Start, Transaction, Watch, WatchId,
    WatchLimits,
};
use common::wire::{End, State, Wire};
use common::{Repeat, seeds};
use fastrand::Rng;

const SCHEDULES: u64 = 1500;
const STEPS: u32 = 400;
const REPLICAS: u64 = 3;

#[test]
fn replicas_and_watchers_see_nothing_but_prefixes() {
    let mut met = BTreeMap::new();
    let seeds = seeds(SCHEDULES);
    let is_one = seeds.end - seeds.start == 1;
    for seed in seeds {
        let _repeat = Repeat { test: "schedules", seed };
        Schedule::new(seed).run(&mut met);
    }
    let words = ["Present", "Changes", "Coalesced", "Lagged", "Gap", "Resynchronised", "InDoubt", "Done"];
    if !is_one {
        for word in words {
            assert!(met.get(word).is_some_and(|count| *count > 20), "{word} is rare: {met:?}");
        }
    }
}

struct Schedule {
    rng: Rng,
    wire: Wire,
    config: PublisherConfig,
    /// The state as of each revision of each epoch.
    log: BTreeMap<(Epoch, Revision), State>,
    /// The primary's own watcher, by which the log is written.
    chronicle: WatchId,
    sides: Vec<Side>,
    incarnation: u64,
    /// Increments of this epoch: answered, and those nobody knows of.
    done: i64,
    unknown: i64,
}

/// What is expected of a replica.
#[derive(Default)]
struct Side {
    last: Option<Cursor>,
    increments: Vec<RequestId>,
    watchers: Vec<Watcher>,
}

struct Watcher {
    id: WatchId,
    range: KeyRange,
    view: State,
    /// Only a `Present` may come next.
    is_lost: bool,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let config = PublisherConfig::new()
            .history(rng.usize(0..20), 10_000)
            .queue_bytes(rng.usize(0..1500))
            .chunk_bytes(rng.usize(0..300))
            .watch(WatchLimits::new());
        let mut wire = Wire::new(config, 0);
        let incarnation = 1;
        let watch = WatchLimits::new().history(rng.usize(0..12), 10_000);
        for number in 0..REPLICAS {
            let config = ReplicaConfig::new().requests(20).watch(watch);
            wire.ends.push(End::new(ClientId::new(number, incarnation), config));
        }
        let chronicle = chronicle(&mut wire.publisher);
        let sides = (0..REPLICAS).map(|_| Side::default()).collect();
        let mut schedule = Self {
            rng,
            wire,
            config,
            log: BTreeMap::new(),
            chronicle,
            sides,
            incarnation,
            done: 0,
            unknown: 0,
        };
        schedule.log.insert((Epoch::new(7), Revision::ZERO), State::new());
        schedule
    }

    fn run(mut self, met: &mut BTreeMap<&'static str, u32>) {
        for _ in 0..STEPS {
            self.step(met);
            self.record();
        }
        for end in 0..self.sides.len() {
            if !self.wire.ends[end].is_connected {
                self.wire.connect(end);
            }
        }
        for _ in 0..200 {
            for end in 0..self.sides.len() {
                self.wire.say(end, 99);
                self.wire.hear(end, 99);
                self.wire.send(end, 99);
                self.record();
                self.read(end, 99, met);
            }
        }
        self.wire.assert_equal();
        for end in 0..self.sides.len() {
            self.watch(end, usize::MAX, met);
            for watcher in &self.sides[end].watchers {
                assert_eq!(
                    watcher.view,
                    within(&self.wire.state(), &watcher.range),
                    "a watcher missed something"
                );
            }
            assert_eq!(self.wire.replica(end).outstanding(), 0, "every request is answered in the end");
        }
        let count = self.wire.publisher.store().get("count").and_then(|it| it.number()).unwrap_or(0);
        let (done, unknown) = (self.done, self.unknown);
        assert!((done..=done + unknown).contains(&count), "{count} of {done} done and {unknown} unknown");
    }

    fn step(&mut self, met: &mut BTreeMap<&'static str, u32>) {
        let end = self.rng.usize(0..self.sides.len());
        let few = self.rng.usize(0..6);
        match self.rng.u32(0..1000) {
            0..200 => self.write_here(),
            200..330 => self.write_there(end),
            330..430 => self.wire.say(end, few),
            430..530 => self.wire.hear(end, few),
            530..680 => self.wire.send(end, few),
            680..840 => self.read(end, few, met),
            840..900 => self.watch(end, few, met),
            900..930 => self.begin_watching(end),
            930..950 => self.wire.later(Duration::from_millis(self.rng.u64(0..30))),
            950..980 => self.wire.connect(end),
            980..990 => self.wire.disconnect(end),
            990..996 => self.die(end),
            _ => self.another_primary(),
        }
    }

    fn command(&mut self) -> Command {
        let names = ["a/1", "a/2", "a/3", "b/1", "b/2", "c"];
        let key = names[self.rng.usize(0..names.len())];
        let other = names[self.rng.usize(0..names.len())];
        let value = format!("{}", self.rng.u32(..));
        match self.rng.u32(0..10) {
            0..4 => Command::put(key, value).into(),
            4 => Command::put(key, value).ttl(Duration::from_millis(self.rng.u64(0..40))).into(),
            5 => Command::delete(key).into(),
            6 => Command::put(key, value).when(Condition::Absent),
            7 => Command::delete_range(KeyRange::prefix("a/")),
            _ => {
                let both = Transaction::new().then(Command::put(key, value));
                both.then(Command::delete(other)).then(Command::append("log", "x")).into()
            }
        }
    }

    fn write_here(&mut self) {
        let command = self.command();
        self.wire.publisher.execute(command, self.wire.now).expect("it is within the limits");
    }

    fn write_there(&mut self, end: usize) {
        let is_increment = self.rng.bool();
        let command = if is_increment { Increment::new("count", 1).into() } else { self.command() };
        let submitted = match self.rng.u32(0..5) {
            0 => self.wire.replica(end).sync(),
            _ => self.wire.replica(end).submit(command.clone()),
        };
        if let Ok(id) = submitted
            && command == Increment::new("count", 1).into()
        {
            self.sides[end].increments.push(id);
        }
    }

    /// Reads some messages; looks after each.
    fn read(&mut self, end: usize, most: usize, met: &mut BTreeMap<&'static str, u32>) {
        let (log, side) = (&self.log, &mut self.sides[end]);
        let here = self.wire.publisher.cursor().epoch;
        let done = &mut self.done;
        let each = |replica: &mut cluster_shared_state::PlainReplica| {
            if let Some(cursor) = replica.cursor() {
                let expected = &log[&(cursor.epoch, cursor.revision)];
                assert_eq!(replica.state(), expected, "the state is that of no revision ({cursor})");
                if let Some(last) = side.last {
                    assert!(last.epoch != cursor.epoch || last.revision <= cursor.revision, "it went back");
                }
                side.last = Some(cursor);
            }
            while let Some((id, result)) = replica.poll_completion() {
                let is_increment = side.increments.contains(&id);
                match result {
                    Ok(answer) => {
                        let at = Cursor::new(here, answer.revision);
                        assert!(replica.is_applied(at), "it was answered what it cannot read");
                        if is_increment && matches!(answer.outcome, Outcome::Number(_)) {
                            *done += 1;
                        }
                        *met.entry("Done").or_default() += 1;
                    }
                    Err(RequestError::InDoubt) => *met.entry("InDoubt").or_default() += 1,
                    // "count" is nothing but a number, and there is room for all.
                    Err(error) => panic!("{error}"),
                }
                side.increments.retain(|it| *it != id);
            }
        };
        self.wire.read(end, most, each).expect("the primary keeps to the protocol");
    }

    fn begin_watching(&mut self, end: usize) {
        let ranges = [
            KeyRange::All,
            KeyRange::prefix("a/"),
            KeyRange::key("c"),
            KeyRange::key("log"),
            KeyRange::between("a/2", "b/2"),
        ];
        let range = ranges[self.rng.usize(0..ranges.len())].clone();
        let replica = &mut self.wire.ends[end].replica;
        let state = within(replica.state(), &range);
        let here = replica.cursor();
        let past = here.map(|it| {
            let back = self.rng.u64(0..15);
            Cursor::new(it.epoch, Revision::new(it.revision.get().saturating_sub(back)))
        });
        let (start, view) = match (self.rng.u32(0..3), past) {
            (0, _) | (_, None) => (Start::Now, state),
            (1, _) => (Start::Present, State::new()),
            (_, Some(past)) => (Start::After(past), within(&self.log[&(past.epoch, past.revision)], &range)),
        };
        let overflow = if self.rng.bool() { Overflow::Coalesce } else { Overflow::Tell };
        let capacity = self.rng.usize(0..12);
        let watch = Watch::new(range.clone()).start(start).overflow(overflow).capacity(capacity);
        let id = replica.watch(watch).expect("there is room");
        self.sides[end].watchers.push(Watcher { id, range, view, is_lost: start == Start::Present });
        if self.sides[end].watchers.len() > 6 {
            let gone = self.sides[end].watchers.remove(0);
            replica.unwatch(gone.id);
            assert_eq!(replica.poll_notice(gone.id), None);
        }
    }

    /// Hands on notices to at most so many watchers that are woken.
    fn watch(&mut self, end: usize, most: usize, met: &mut BTreeMap<&'static str, u32>) {
        let replica = &mut self.wire.ends[end].replica;
        if replica.cursor().is_none() {
            return;
        }
        for _ in 0..most {
            let Some(id) = replica.poll_ready() else { return };
            let watcher = self.sides[end].watchers.iter_mut().find(|it| it.id == id).expect("it is there");
            while let Some(notice) = replica.poll_notice(id) {
                let word = watcher.handle(notice, &self.log);
                *met.entry(word).or_default() += 1;
            }
        }
    }

    /// A worker dies; another takes its place.
    fn die(&mut self, end: usize) {
        self.incarnation += 1;
        let client = ClientId::new(end as u64, self.incarnation);
        self.unknown += self.sides[end].increments.len() as i64;
        self.sides[end] = Side::default();
        let config = ReplicaConfig::new().requests(20).watch(WatchLimits::new().history(5, 10_000));
        let dead = std::mem::replace(&mut self.wire.ends[end], End::new(client, config));
        self.wire.publisher.handle_disconnected(dead.client);
        self.wire.publisher.handle_gone(dead.client, self.wire.now);
    }

    /// The primary is lost with all it had; another takes its place.
    fn another_primary(&mut self) {
        for end in 0..self.sides.len() {
            self.wire.disconnect(end);
        }
        self.record();
        let epoch = Epoch::new(self.wire.publisher.cursor().epoch.get() + 1);
        self.wire.publisher = Publisher::new(epoch, self.config);
        self.chronicle = chronicle(&mut self.wire.publisher);
        self.log.insert((epoch, Revision::ZERO), State::new());
        (self.done, self.unknown) = (0, 0);
    }

    /// Writes down the state as of each new revision.
    fn record(&mut self) {
        let epoch = self.wire.publisher.cursor().epoch;
        while let Some(notice) = self.wire.publisher.poll_notice(self.chronicle) {
            let Notice::Changes(batch) = notice else { panic!("{notice:?}") };
            let before = Revision::new(batch.first.get() - 1);
            let mut state = self.log[&(epoch, before)].clone();
            for event in batch.events {
                match event.entry {
                    Some(entry) => state.insert(event.key, entry),
                    None => state.remove(&event.key),
                };
            }
            self.log.insert((epoch, batch.first), state);
        }
        let last = self.wire.publisher.cursor();
        assert_eq!(self.log[&(last.epoch, last.revision)], self.wire.state());
    }
}

impl Watcher {
    fn handle(&mut self, notice: Notice, log: &BTreeMap<(Epoch, Revision), State>) -> &'static str {
        if self.is_lost {
            assert!(!matches!(notice, Notice::Changes(_)), "what is there comes before what changes");
        }
        match notice {
            Notice::Present { at, entries } => {
                self.is_lost = false;
                self.view = entries.into_iter().collect();
                assert_eq!(self.view, within(&log[&(at.epoch, at.revision)], &self.range));
                "Present"
            }
            Notice::Changes(batch) => {
                assert!(!batch.events.is_empty());
                let coalesced = batch.is_coalesced();
                for event in batch.events {
                    assert!(self.range.contains(&event.key), "nobody asked for that");
                    let before = match event.entry {
                        Some(entry) => self.view.insert(event.key, entry),
                        None => self.view.remove(&event.key),
                    };
                    assert_eq!(before, event.previous, "it is not what was told before");
                }
                let expected = &log[&(batch.last.epoch, batch.last.revision)];
                assert_eq!(self.view, within(expected, &self.range), "part of a revision, or of several");
                if coalesced { "Coalesced" } else { "Changes" }
            }
            Notice::Lagged { .. } => {
                self.is_lost = true;
                "Lagged"
            }
            Notice::Gap { .. } => {
                self.is_lost = true;
                "Gap"
            }
            Notice::Resynchronised { .. } => "Resynchronised",
            other => panic!("{other:?}"),
        }
    }
}

/// Told of every single revision.
fn chronicle(publisher: &mut Publisher) -> WatchId {
    publisher.watch(Watch::new(KeyRange::All).capacity(usize::MAX)).expect("it is the first")
}

fn within(state: &State, range: &KeyRange) -> State {
    state.iter().filter(|(key, _)| range.contains(key)).map(|(key, it)| (key.clone(), it.clone())).collect()
}
