//! A simulated machine: one primary, some replicas, connections, and a clock that jumps from event to event.
//!
//! Everything that happens is drawn from one seed. What must hold is checked after each step.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use cluster_shared_state::{
    ClientId, Cursor, Epoch, LeaseId, PlainReplica, Publisher, Replica, RequestId, Revision, WatchId,
};

use crate::air::Air;
use crate::ask::milliseconds;
use crate::follower::Follower;
use crate::model::{Map, Model};
use crate::settings::Settings;
use crate::wire::{Conn, To};
use crate::witness::Witness;

/// Says what happens, to one who wants to read it.
macro_rules! tell {
    ($machine:expr, $($what:tt)*) => {
        if $machine.is_told {
            println!("{:>9.3?} ms  {}", ($machine.now - $machine.base).as_secs_f64() * 1e3, format!($($what)*));
        }
    };
}
pub(crate) use tell;

/// On which side something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Primary,
    Slot(usize),
}

/// Something that will happen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// The next message of a connection arrives.
    Deliver(u64, To),
    /// One end sees that the connection is no more.
    Notice(u64, To),
    /// Something was broadcast: whoever has that connection may hear it.
    Bell(u64),
    Connect(usize),
    /// The primary learns that the client is gone for good.
    Gone(ClientId),
    Start,
    /// A slow watcher looks what there is.
    Turn(Side, WatchId),
}

/// One replica after the other under the same client number.
pub(crate) struct Slot {
    pub(crate) client: ClientId,
    pub(crate) replica: PlainReplica,
    /// What the replica's state should be, by folding the log up to its cursor.
    pub(crate) mirror: Map,
    pub(crate) cursor: Option<Cursor>,
    pub(crate) followers: Vec<Follower>,
    /// The connection that the replica thinks it has.
    pub(crate) conn: Option<u64>,
    pub(crate) leases: VecDeque<LeaseId>,
    /// Requests without completion, by number.
    pub(crate) ids: BTreeMap<u64, RequestId>,
}

pub(crate) struct Machine {
    pub(crate) settings: Settings,
    pub(crate) rng: fastrand::Rng,
    pub(crate) base: Instant,
    pub(crate) now: Instant,
    pub(crate) publisher: Option<Publisher>,
    pub(crate) model: Model,
    /// Watchers on the primary's side.
    pub(crate) followers: Vec<Follower>,
    pub(crate) leases: VecDeque<LeaseId>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) conns: BTreeMap<u64, Conn>,
    /// The connections that the primary thinks it has.
    pub(crate) feeds: BTreeMap<ClientId, u64>,
    /// What was broadcast, by epoch.
    pub(crate) airs: BTreeMap<Epoch, Air>,
    pub(crate) issued: u64,
    heap: BTreeMap<(Instant, u64), Event>,
    pub(crate) witness: Witness,
    /// No more faults, and nobody wants anything: what is left must come to its end.
    pub(crate) calm: bool,
    pub(crate) is_told: bool,
}

impl Machine {
    pub(crate) fn new(seed: u64, max_replicas: usize, max_steps: u32, base: Instant, is_told: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let settings = Settings::draw(&mut rng, max_replicas, max_steps);
        let epoch = Epoch::new(1);
        let mut machine = Self {
            publisher: Some(Publisher::new(epoch, settings.publisher)),
            model: Model::new(epoch, settings.publisher.limits),
            rng,
            base,
            now: base,
            followers: Vec::new(),
            leases: VecDeque::new(),
            slots: Vec::new(),
            conns: BTreeMap::new(),
            feeds: BTreeMap::new(),
            airs: BTreeMap::new(),
            issued: 0,
            heap: BTreeMap::new(),
            witness: Witness::default(),
            calm: false,
            is_told,
            settings,
        };
        tell!(machine, "seed {seed}: {:?}", machine.settings);
        for place in 0..machine.settings.replicas {
            let slot = machine.new_slot(ClientId::new(place as u64, 1));
            machine.slots.push(slot);
            machine.connect_later(place);
        }
        machine
    }

    pub(crate) fn new_slot(&self, client: ClientId) -> Slot {
        Slot {
            client,
            replica: Replica::new(client, self.settings.replica, BTreeMap::new()),
            mirror: Map::new(),
            cursor: None,
            followers: Vec::new(),
            conn: None,
            leases: VecDeque::new(),
            ids: BTreeMap::new(),
        }
    }

    pub(crate) fn cursor(&self) -> Cursor {
        Cursor::new(self.model.epoch, Revision::new(self.model.revision()))
    }

    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(crate) fn at(&mut self, at: Instant, event: Event) {
        self.issued += 1;
        self.heap.insert((at, self.issued), event);
    }

    pub(crate) fn some_time(&mut self) -> Duration {
        Duration::from_micros(self.rng.u64(..self.settings.delay * 1000))
    }

    /// The time, as the primary is told it: sometimes a little less than before.
    pub(crate) fn clock(&mut self) -> Instant {
        let is_back = !self.calm && self.rng.u8(..30) == 0;
        if is_back { self.now - milliseconds(self.rng.u64(..5)) } else { self.now }
    }

    pub(crate) fn connect_later(&mut self, place: usize) {
        let delay = self.some_time();
        self.after(delay, Event::Connect(place));
    }

    /// One thing happens: somebody wants something, or time moves on.
    pub(crate) fn step(&mut self) {
        if self.rng.u8(..100) < 35 {
            self.act();
        } else {
            self.next();
        }
    }

    /// Moves to the next thing that happens and lets it happen. Returns whether there was any.
    pub(crate) fn next(&mut self) -> bool {
        let next = self.heap.first_key_value().map(|(key, _)| *key);
        let timeout = self.publisher.as_ref().and_then(Publisher::poll_timeout);
        // A driver may be late.
        let is_late = !self.calm && self.rng.u8(..3) == 0;
        if let Some(timeout) = timeout.filter(|at| !is_late && next.is_none_or(|next| *at <= next.0)) {
            self.now = self.now.max(timeout);
            self.timeout();
            return true;
        }
        let Some(key) = next else { return false };
        let Some(event) = self.heap.remove(&key) else { return false };
        self.now = self.now.max(key.0);
        match event {
            Event::Deliver(number, to) => self.deliver(number, to),
            Event::Notice(number, to) => self.notice(number, to),
            Event::Bell(number) => self.bell(number),
            Event::Connect(place) => self.connect(place),
            Event::Gone(client) => self.gone(client),
            Event::Start => self.start(),
            Event::Turn(side, id) => self.turn(side, id),
        }
        true
    }

    fn timeout(&mut self) {
        let Some(publisher) = &mut self.publisher else { return };
        publisher.handle_timeout(self.now);
        self.model.handle_timeout(self.now);
        tell!(self, "primary: something expires, now at {}", self.model.revision());
        let next = self.publisher.as_ref().and_then(Publisher::poll_timeout);
        assert!(next.is_none_or(|next| next > self.now), "a deadline survived handle_timeout");
        self.look_at_primary();
    }

    fn gone(&mut self, client: ClientId) {
        if let Some(number) = self.feeds.remove(&client) {
            self.close_primary_end(number);
        }
        let Some(publisher) = &mut self.publisher else { return };
        publisher.handle_gone(client, self.now);
        self.model.handle_gone(client, self.now);
        tell!(self, "primary: {client} is gone, now at {}", self.model.revision());
        self.look_at_primary();
    }

    /// The primary ends, and all it knew with it.
    pub(crate) fn stop(&mut self) {
        if self.publisher.take().is_none() {
            return;
        }
        tell!(self, "primary: ends at {}", self.cursor());
        self.followers.clear();
        self.leases.clear();
        for number in std::mem::take(&mut self.feeds).into_values() {
            self.cut(number);
            self.close_primary_end(number);
        }
        self.witness.met.insert("the primary ended");
        let delay = self.some_time() * 3;
        self.after(delay, Event::Start);
    }

    fn start(&mut self) {
        let epoch = Epoch::new(self.model.epoch.get() + 1);
        self.model.restart(epoch);
        self.publisher = Some(Publisher::new(epoch, self.settings.publisher));
        tell!(self, "primary: begins epoch {epoch}");
    }

    /// The replica ends, and another takes its place.
    pub(crate) fn replace(&mut self, place: usize) {
        let old = self.slots[place].client;
        tell!(self, "{old}: ends");
        if let Some(number) = self.slots[place].conn {
            self.cut(number);
            self.close_replica_end(number);
        }
        self.slots[place] = self.new_slot(ClientId::new(old.client(), old.incarnation() + 1));
        self.witness.met.insert("a replica ended");
        self.connect_later(place);
        let delay = self.some_time() * [0, 1, 3, 10][self.rng.usize(..4)] + milliseconds(1);
        self.after(delay, Event::Gone(old));
    }
}
