//! A primary and replicas in memory, driven at random, with everything noted.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;

use crate::command::{Append, Command, Condition, Increment, Put, Transaction};
use crate::witness::{Came, Level, Log, Merging, Record, Seen, Since, What, Who};
use crate::{
    ClientId, Cursor, Delete, Entry, Epoch, Key, KeyRange, LeaseId, Limits, Outcome, Overflow, PlainReplica,
    Publisher, PublisherConfig, Replica, ReplicaConfig, RequestId, Revision, Start, View, Watch, WatchId,
};

/// What a run leaves behind.
pub(super) struct History {
    pub(super) records: Vec<Record>,
    pub(super) log: Log,
}

struct World {
    rng: Rng,
    start: Instant,
    /// Virtual time.
    now: u64,
    primary: Publisher,
    /// A watcher of the primary, which writes the log.
    logger: WatchId,
    epochs: u64,
    incarnations: u64,
    workers: Vec<Worker>,
    history: History,
}

struct Worker {
    client: ClientId,
    replica: PlainReplica,
    up: VecDeque<Bytes>,
    down: VecDeque<Bytes>,
    is_connected: bool,
    asked: HashMap<RequestId, Asked>,
    watches: Vec<(WatchId, u64)>,
    leases: Vec<LeaseId>,
}

#[derive(Clone, Copy)]
enum Asked {
    Command(usize),
    Sync(u64),
    AtLeast(u64, Cursor),
}

/// A run of so many steps.
pub(super) fn run(seed: u64, steps: usize) -> History {
    let mut rng = Rng::with_seed(seed);
    let start = Instant::now();
    let (primary, logger) = primary(1, &mut rng);
    let history = History { records: Vec::new(), log: Log::new() };
    let mut world = World {
        rng,
        start,
        now: 1,
        primary,
        logger,
        epochs: 1,
        incarnations: 0,
        workers: Vec::new(),
        history,
    };
    world.note_primary();
    for slot in 0..1 + world.rng.u64(1..4) {
        let worker = world.worker(slot);
        world.workers.push(worker);
    }
    for _ in 0..steps {
        world.step();
    }
    world.settle();
    world.history
}

fn config(rng: &mut Rng) -> PublisherConfig {
    let entries = rng.usize(1..40);
    let limits = Limits::new().requests(8).remembered_bytes(if rng.u8(..4) == 0 { 100 } else { 1 << 20 });
    PublisherConfig::new()
        .limits(limits)
        .history(entries, 1 << 14)
        .queue_bytes(rng.usize(1..2000))
        .chunk_bytes(64)
}

fn primary(epoch: u64, rng: &mut Rng) -> (Publisher, WatchId) {
    let mut primary = Publisher::new(Epoch::new(epoch), config(rng));
    let all = Watch::new(KeyRange::All).overflow(Overflow::Tell).capacity(usize::MAX);
    let logger = primary.watch(all).unwrap();
    (primary, logger)
}

const PRIMARY: Who = Who { client: ClientId::PRIMARY, thread: 0 };

impl World {
    fn worker(&mut self, slot: u64) -> Worker {
        self.incarnations += 1;
        let client = ClientId::new(slot, self.incarnations);
        self.note(Who { client, thread: 0 }, self.now, What::Started);
        Worker {
            client,
            replica: Replica::new(client, ReplicaConfig::new().requests(12), BTreeMap::new()),
            up: VecDeque::new(),
            down: VecDeque::new(),
            is_connected: false,
            asked: HashMap::new(),
            watches: Vec::new(),
            leases: Vec::new(),
        }
    }

    fn note(&mut self, who: Who, invoked: u64, what: What) {
        self.now += 1;
        self.history.records.push(Record { who, invoked, returned: Some(self.now), what });
    }

    fn note_primary(&mut self) {
        let epoch = self.primary.cursor().epoch;
        self.history.log.begin(epoch);
        self.note(PRIMARY, self.now, What::Primary { epoch });
    }

    fn instant(&self) -> Instant {
        self.start + Duration::from_millis(self.now)
    }

    fn write_log(&mut self) {
        while let Some(notice) = self.primary.poll_notice(self.logger) {
            self.history.log.handle_notice(&notice);
        }
    }

    fn step(&mut self) {
        self.now += self.rng.u64(1..4);
        let place = self.rng.usize(..self.workers.len());
        match self.rng.u32(..1000) {
            0..200 => self.submit(place),
            200..500 => self.deliver(place),
            500..640 => self.read(place, Level::Local, None),
            640..670 => self.level(place),
            670..690 => self.watch(place),
            690..860 => self.pump(place),
            860..885 => self.disconnect(place),
            885..950 => self.connect(place),
            950..955 => self.kill(place),
            955..957 => self.restart(),
            957..980 => self.by_primary(),
            _ => {
                let now = self.instant();
                self.primary.handle_timeout(now);
            }
        }
        self.finish(place);
        self.write_log();
    }

    fn submit(&mut self, place: usize) {
        let command = self.command(place);
        let invoked = self.now;
        let Some(worker) = self.workers.get_mut(place) else { return };
        let Ok(request) = worker.replica.submit(command.clone()) else { return };
        let who = Who { client: worker.client, thread: request.get() % 3 };
        worker.asked.insert(request, Asked::Command(self.history.records.len()));
        let what = What::Command { command, came: Came::InDoubt };
        self.history.records.push(Record { who, invoked, returned: None, what });
    }

    fn by_primary(&mut self) {
        let command = self.command(0);
        // The primary has no lease of its own.
        let (invoked, now) = (self.now, self.instant());
        let epoch = self.primary.cursor().epoch;
        let came = match self.primary.execute(command.clone(), now) {
            Ok(answer) => Came::Answered { epoch, answer },
            Err(error) => Came::Refused(error),
        };
        self.note(PRIMARY, invoked, What::Command { command, came });
    }

    fn key(&mut self) -> Key {
        let keys = ["a/1", "a/2", "b/1", "b/2", "n/1", "n/2"];
        Key::from(keys[self.rng.usize(..keys.len())])
    }

    fn command(&mut self, place: usize) -> Command {
        let key = self.key();
        let modified = self.primary.store().get(&key).map_or(Revision::ZERO, |entry| entry.modified);
        let lease = self.workers.get(place).and_then(|worker| worker.leases.last().copied());
        let value = format!("v{}", self.rng.u32(..50));
        match self.rng.u32(..24) {
            0..4 => Command::put(key, value).into(),
            4 => Command::put(key, value).returning_previous().into(),
            5..7 => Command::put(key, value).when(Condition::Modified(modified)),
            7 => Command::put(key, value).when(Condition::Absent),
            8 => Command::put(key, value).ttl(Duration::from_millis(self.rng.u64(1..300))).into(),
            9 => Command::delete(key).returning_previous().into(),
            10 => Command::delete_range(KeyRange::prefix(["a/", "b/", "n/"][self.rng.usize(..3)])),
            11..14 => Command::increment(if self.rng.bool() { "n/1" } else { "n/2" }, 1).into(),
            14 => Increment::new("n/1", -3).at_least(0).into(),
            15 => Append::new(key, "+").into(),
            16 | 17 => self.transaction(),
            18 => Command::grant(self.rng.bool().then(|| Duration::from_millis(400))),
            19 => lease.map_or_else(|| Command::grant(None), Command::keep_alive),
            20 => lease.map_or_else(|| Command::grant(None), Command::revoke),
            21 | 22 => match lease {
                Some(lease) => Command::put(key, value).lease(lease).into(),
                None => Command::grant(None),
            },
            _ => Command::delete(key).when(Condition::Present),
        }
    }

    fn transaction(&mut self) -> Command {
        let (one, other) = (self.key(), self.key());
        let value = format!("t{}", self.rng.u32(..50));
        let mut transaction = Transaction::new();
        if self.rng.bool() {
            transaction = transaction.when(one.clone(), Condition::Present).otherwise(Put::new(&one, "else"));
        }
        transaction = transaction.then(Put::new(&one, value.clone())).then(Put::new(&other, value));
        match self.rng.u32(..4) {
            0 => transaction = transaction.then(Delete::new(one)),
            1 => transaction = transaction.then(KeyRange::prefix("a/")),
            _ => transaction = transaction.then(Increment::new("n/2", 5).at_most(90)),
        }
        transaction.into()
    }

    /// Some messages, in both directions.
    fn deliver(&mut self, place: usize) {
        let now = self.instant();
        for _ in 0..self.rng.usize(1..12) {
            let Some(worker) = self.workers.get_mut(place).filter(|it| it.is_connected) else { return };
            if let Some(message) = worker.replica.poll_transmit() {
                worker.up.push_back(message);
            }
            if let Some(message) = self.primary.poll_transmit(worker.client) {
                worker.down.push_back(message);
            }
            if self.rng.bool()
                && let Some(message) = worker.up.pop_front()
            {
                self.primary.handle_message(worker.client, &message, now);
            }
            if self.rng.bool()
                && let Some(message) = worker.down.pop_front()
            {
                worker.replica.handle_message(message).unwrap();
            }
            self.now += 1;
            self.finish(place);
        }
    }

    /// What was completed.
    fn finish(&mut self, place: usize) {
        loop {
            let Some(worker) = self.workers.get_mut(place) else { return };
            let Some((request, result)) = worker.replica.poll_completion() else { return };
            let epoch = worker.replica.cursor().map_or(Epoch::new(0), |cursor| cursor.epoch);
            match worker.asked.remove(&request) {
                Some(Asked::Command(index)) => {
                    if let Ok(answer) = &result
                        && let Outcome::Granted(lease) = answer.outcome
                    {
                        worker.leases.push(lease);
                    }
                    self.now += 1;
                    let record = &mut self.history.records[index];
                    record.returned = Some(self.now);
                    if let What::Command { came, .. } = &mut record.what {
                        *came = Came::of(result, epoch);
                    }
                }
                Some(Asked::Sync(invoked)) if result.is_ok() => {
                    self.read(place, Level::Linearizable, Some(invoked));
                }
                Some(Asked::AtLeast(invoked, cursor)) if result.is_ok() => {
                    self.read(place, Level::AtLeast(cursor), Some(invoked));
                }
                _ => {}
            }
        }
    }

    fn read(&mut self, place: usize, level: Level, invoked: Option<u64>) {
        let range = self.range();
        let key = self.key();
        let Some(worker) = self.workers.get(place) else { return };
        let Some(at) = worker.replica.cursor() else { return };
        let state = worker.replica.state();
        let seen = if self.rng.bool() {
            vec![Seen::Key(key.clone(), View::get(state, &key))]
        } else {
            let mut entries: Vec<(Key, Entry)> = Vec::new();
            state.visit(&range, &mut |key, entry| {
                entries.push((key.clone(), entry.clone()));
                true
            });
            vec![Seen::Range(range, entries)]
        };
        let who = Who { client: worker.client, thread: 9 };
        self.note(who, invoked.unwrap_or(self.now), What::Read { level, at, seen });
    }

    fn range(&mut self) -> KeyRange {
        match self.rng.u32(..4) {
            0 => KeyRange::All,
            1 => KeyRange::key("n/1"),
            2 => KeyRange::between("a/2", "n/2"),
            _ => KeyRange::prefix("a/"),
        }
    }

    fn level(&mut self, place: usize) {
        let other = self.rng.usize(..self.workers.len());
        let cursor = self.workers.get(other).and_then(|other| other.replica.cursor());
        let invoked = self.now;
        let Some(worker) = self.workers.get_mut(place) else { return };
        let asked = match cursor.filter(|_| self.rng.bool()) {
            Some(cursor) => (worker.replica.at_least(cursor), Asked::AtLeast(invoked, cursor)),
            None => (worker.replica.sync(), Asked::Sync(invoked)),
        };
        if let (Ok(request), asked) = asked {
            worker.asked.insert(request, asked);
        }
    }

    fn watch(&mut self, place: usize) {
        let range = self.range();
        let is_strict = self.rng.bool();
        let Some(worker) = self.workers.get_mut(place).filter(|it| it.watches.len() < 4) else { return };
        let here = worker.replica.cursor();
        let (start, since) = match (self.rng.u32(..3), here) {
            (0, Some(here)) => {
                let back = here.revision.get().saturating_sub(self.rng.u64(..20));
                let cursor = Cursor::new(here.epoch, Revision::new(back));
                (Start::After(cursor), Since::After(cursor))
            }
            (1, _) => (Start::Present, Since::Present),
            _ => (Start::Now, Since::Now(here)),
        };
        let (overflow, merging) = match is_strict {
            true => (Overflow::Tell, Merging::Never),
            false => (Overflow::Coalesce, Merging::Allowed),
        };
        let capacity = self.rng.usize(1..12);
        let watch = Watch::new(range.clone()).start(start).overflow(overflow).capacity(capacity);
        let id = worker.replica.watch(watch).unwrap();
        let name = self.now;
        worker.watches.push((id, name));
        let who = Who { client: worker.client, thread: 5 };
        self.note(who, self.now, What::Watch { watch: name, range, since, merging });
    }

    fn pump(&mut self, place: usize) {
        let Some(worker) = self.workers.get(place) else { return };
        let who = Who { client: worker.client, thread: 5 };
        let watches = worker.watches.clone();
        for (id, watch) in watches {
            let is_partial = self.rng.bool();
            loop {
                let Some(worker) = self.workers.get_mut(place) else { return };
                match worker.replica.poll_notice(id) {
                    Some(notice) => self.note(who, self.now, What::Told { watch, notice }),
                    None => {
                        if let Some(at) = worker.replica.cursor() {
                            self.note(who, self.now, What::Quiet { watch, at });
                        }
                        break;
                    }
                }
                if is_partial {
                    break;
                }
            }
        }
    }

    fn connect(&mut self, place: usize) {
        let Some(worker) = self.workers.get_mut(place).filter(|it| !it.is_connected) else { return };
        worker.is_connected = true;
        worker.replica.handle_connected();
        self.primary.handle_connected(worker.client);
    }

    fn disconnect(&mut self, place: usize) {
        let Some(worker) = self.workers.get_mut(place).filter(|it| it.is_connected) else { return };
        worker.is_connected = false;
        worker.up.clear();
        worker.down.clear();
        worker.replica.handle_disconnected();
        self.primary.handle_disconnected(worker.client);
    }

    /// What the worker had sent may still arrive.
    fn kill(&mut self, place: usize) {
        let now = self.instant();
        let Some(worker) = self.workers.get_mut(place) else { return };
        let client = worker.client;
        for message in worker.up.drain(..).take(self.rng.usize(..4)) {
            self.primary.handle_message(client, &message, now);
        }
        let who = Who { client, thread: 0 };
        self.note(who, self.now, What::Died);
        let invoked = self.now;
        self.primary.handle_gone(client, now);
        let at = self.primary.cursor();
        self.note(who, invoked, What::Gone { at });
        let worker = self.worker(client.client());
        self.workers[place] = worker;
    }

    fn restart(&mut self) {
        self.write_log();
        self.epochs += 1;
        (self.primary, self.logger) = primary(self.epochs, &mut self.rng);
        self.note_primary();
        for place in 0..self.workers.len() {
            self.disconnect(place);
        }
    }

    /// Until nothing happens any more.
    fn settle(&mut self) {
        for place in 0..self.workers.len() {
            self.connect(place);
            for _ in 0..200 {
                self.deliver(place);
            }
            self.pump(place);
            self.pump(place);
            self.read(place, Level::Local, None);
        }
        self.write_log();
    }
}
