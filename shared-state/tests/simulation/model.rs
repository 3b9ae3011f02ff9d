//! What the store should do, written once more and as plainly as possible: the judge of the one that is fast.
//!
//! Each command works on a copy of the whole map; keys under a lease are found by looking at all; what expires
//! is found by looking at all. Each commit is kept, so that the state as of any revision of any epoch is known.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster_shared_state::{
    ChangeKind, ClientId, CommandError, Condition, Entry, Epoch, Key, KeyRange, LeaseId, Limits, number,
};

use crate::ask::{Ask, Life, Op};

/// What is under a key.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) value: Bytes,
    created: u64,
    pub(crate) modified: u64,
    version: u64,
    lease: Option<LeaseId>,
    ttl: Option<Duration>,
    expires: Option<Instant>,
}

impl Held {
    pub(crate) fn is(&self, entry: &Entry) -> bool {
        self.value == entry.value
            && self.created == entry.created.get()
            && self.modified == entry.modified.get()
            && self.version == entry.version
            && self.lease == entry.lease
            && self.ttl == entry.ttl
    }
}

impl Held {
    /// Whether they are the same, as far as a replica knows.
    pub(crate) fn is_like(self: &Rc<Self>, other: &Rc<Self>) -> bool {
        let of = |it: &Self| (it.created, it.modified, it.version, it.lease, it.ttl);
        Rc::ptr_eq(self, other) || (of(self) == of(other) && self.value == other.value)
    }
}

/// Whether both are nothing, or the same.
pub(crate) fn is_same(held: Option<&Rc<Held>>, entry: Option<&Entry>) -> bool {
    match (held, entry) {
        (None, None) => true,
        (Some(held), Some(entry)) => held.is(entry),
        _ => false,
    }
}

pub(crate) type Map = BTreeMap<Key, Rc<Held>>;

/// One change of a commit.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) key: Key,
    pub(crate) kind: ChangeKind,
    pub(crate) entry: Option<Rc<Held>>,
}

/// All commits of one epoch: that of revision `n` at `n - 1`.
#[derive(Debug, Default)]
pub(crate) struct Log(Vec<Vec<Changed>>);

impl Log {
    pub(crate) fn revision(&self) -> u64 {
        self.0.len() as u64
    }

    pub(crate) fn changes(&self, revision: u64) -> &[Changed] {
        &self.0[usize::try_from(revision).unwrap() - 1]
    }

    pub(crate) fn fold(&self, map: &mut Map, revision: u64) {
        for Changed { key, entry, .. } in self.changes(revision) {
            match entry {
                Some(entry) => map.insert(key.clone(), Rc::clone(entry)),
                None => map.remove(key),
            };
        }
    }

    pub(crate) fn state_at(&self, revision: u64) -> Map {
        let mut map = Map::new();
        (1..=revision).for_each(|revision| self.fold(&mut map, revision));
        map
    }
}

/// What an operation or a command says.
#[derive(Debug, Clone)]
pub(crate) enum Said {
    Put(Option<Rc<Held>>),
    Deleted(u64, Option<Rc<Held>>),
    Number(i64),
    Appended(u64),
    Conflict(Key, Option<Rc<Held>>),
    Transaction(Option<(Key, Option<Rc<Held>>)>, Vec<Self>),
    /// The how many-th lease of the epoch.
    Granted(u64),
    KeptAlive,
    Revoked(u64),
}

/// With the revision of the answer.
pub(crate) type Answered = Result<(u64, Said), CommandError>;

#[derive(Debug)]
struct Lease {
    owner: ClientId,
    ttl: Option<Duration>,
    expires: Option<Instant>,
}

/// The primary's store as it should be, and all that ever was.
#[derive(Debug)]
pub(crate) struct Model {
    limits: Limits,
    pub(crate) epoch: Epoch,
    pub(crate) map: Map,
    /// By number.
    leases: BTreeMap<u64, Lease>,
    granted: u64,
    now: Option<Instant>,
    pub(crate) logs: BTreeMap<Epoch, Log>,
}

impl Model {
    pub(crate) fn new(epoch: Epoch, limits: Limits) -> Self {
        let logs = BTreeMap::from([(epoch, Log::default())]);
        let (map, leases) = (Map::new(), BTreeMap::new());
        Self { limits, epoch, map, leases, granted: 0, now: None, logs }
    }

    /// A new primary, which knows nothing.
    pub(crate) fn restart(&mut self, epoch: Epoch) {
        self.epoch = epoch;
        self.map.clear();
        self.leases.clear();
        self.granted = 0;
        self.now = None;
        self.logs.insert(epoch, Log::default());
    }

    pub(crate) fn revision(&self) -> u64 {
        self.logs[&self.epoch].revision()
    }

    pub(crate) fn owners(&self) -> BTreeSet<ClientId> {
        self.leases.values().map(|lease| lease.owner).collect()
    }

    pub(crate) fn leases(&self) -> usize {
        self.leases.len()
    }

    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        let keys = self.map.values().filter_map(|held| held.expires);
        keys.chain(self.leases.values().filter_map(|lease| lease.expires)).min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let now = self.advance(now);
        self.expire(now);
    }

    pub(crate) fn handle_gone(&mut self, owner: ClientId, now: Instant) {
        let now = self.advance(now);
        self.expire(now);
        let leases: BTreeSet<u64> =
            self.leases.iter().filter(|(_, it)| it.owner == owner).map(|(number, _)| *number).collect();
        self.end_leases(&leases, BTreeMap::new());
    }

    pub(crate) fn execute(&mut self, client: ClientId, ask: &Ask, now: Instant) -> Answered {
        let now = self.advance(now);
        self.expire(now);
        let said = match ask {
            Ask::Apply { when: Some((key, condition)), .. } if !self.holds(key, condition) => {
                Said::Conflict(key.clone(), self.map.get(key).cloned())
            }
            Ask::Apply { op, .. } => self.carry_out(client, std::slice::from_ref(op), now)?.remove(0),
            Ask::Transact { when, then, otherwise } => {
                let conflict = when.iter().find(|(key, condition)| !self.holds(key, condition));
                let conflict = conflict.map(|(key, _)| (key.clone(), self.map.get(key).cloned()));
                let ops = if conflict.is_none() { then } else { otherwise };
                Said::Transaction(conflict, self.carry_out(client, ops, now)?)
            }
            Ask::Grant(ttl) => {
                let limit = self.limits.leases;
                if self.leases.values().filter(|lease| lease.owner == client).count() >= limit {
                    return Err(CommandError::TooManyLeases { limit: limit as u64 });
                }
                self.granted += 1;
                let lease = Lease { owner: client, ttl: *ttl, expires: ttl.map(|ttl| now + ttl) };
                self.leases.insert(self.granted, lease);
                Said::Granted(self.granted)
            }
            Ask::KeepAlive(lease) => {
                self.check(client, *lease)?;
                let lease = self.leases.get_mut(&lease.number()).unwrap();
                lease.expires = lease.ttl.map(|ttl| now + ttl);
                Said::KeptAlive
            }
            Ask::Revoke(lease) => {
                self.check(client, *lease)?;
                Said::Revoked(self.end_leases(&BTreeSet::from([lease.number()]), BTreeMap::new()))
            }
        };
        Ok((self.revision(), said))
    }

    fn advance(&mut self, now: Instant) -> Instant {
        *self.now.insert(self.now.map_or(now, |latest| latest.max(now)))
    }

    fn expire(&mut self, now: Instant) {
        let is_due = |expires: Option<Instant>| expires.is_some_and(|at| at <= now);
        let keys = self.map.iter().filter(|(_, held)| is_due(held.expires));
        let changes = keys.map(|(key, _)| (key.clone(), (None, ChangeKind::Expired))).collect();
        let leases = self.leases.iter().filter(|(_, lease)| is_due(lease.expires));
        let leases = leases.map(|(number, _)| *number).collect();
        self.end_leases(&leases, changes);
    }

    fn end_leases(
        &mut self,
        leases: &BTreeSet<u64>,
        mut changes: BTreeMap<Key, (Option<Rc<Held>>, ChangeKind)>,
    ) -> u64 {
        for (key, held) in &self.map {
            if held.lease.is_some_and(|lease| leases.contains(&lease.number())) {
                changes.entry(key.clone()).or_insert((None, ChangeKind::LeaseGone));
            }
        }
        self.leases.retain(|number, _| !leases.contains(number));
        let count = changes.len() as u64;
        self.commit(changes);
        count
    }

    fn check(&self, client: ClientId, lease: LeaseId) -> Result<(), CommandError> {
        match self.leases.get(&lease.number()).filter(|_| lease.epoch() == self.epoch) {
            None => Err(CommandError::NoSuchLease { lease }),
            Some(it) if it.owner != client => Err(CommandError::ForeignLease { lease }),
            Some(_) => Ok(()),
        }
    }

    fn holds(&self, key: &Key, condition: &Condition) -> bool {
        let Some(held) = self.map.get(key) else { return *condition == Condition::Absent };
        match condition {
            Condition::Present => true,
            Condition::Value(value) => held.value == *value,
            Condition::Modified(revision) => held.modified == revision.get(),
            Condition::ModifiedBefore(revision) => held.modified < revision.get(),
            Condition::ModifiedAfter(revision) => held.modified > revision.get(),
            Condition::Lease(lease) => held.lease == Some(*lease),
            Condition::Owner(owner) => held.lease.is_some_and(|it| self.leases[&it.number()].owner == *owner),
            _ => false,
        }
    }

    /// All of them, or none.
    fn carry_out(&mut self, client: ClientId, ops: &[Op], now: Instant) -> Result<Vec<Said>, CommandError> {
        let mut map = self.map.clone();
        let mut kinds = BTreeMap::new();
        let mut said = Vec::new();
        for op in ops {
            said.push(self.carry_out_one(client, op, now, &mut map, &mut kinds)?);
        }
        let bytes = |map: &Map| map.iter().map(|(key, held)| key.len() + held.value.len()).sum::<usize>();
        if map.len() > self.limits.keys && map.len() > self.map.len() {
            let limit = self.limits.keys as u64;
            return Err(CommandError::TooManyKeys { keys: map.len() as u64, limit });
        }
        if bytes(&map) > self.limits.total_bytes && bytes(&map) > bytes(&self.map) {
            let limit = self.limits.total_bytes as u64;
            return Err(CommandError::StoreFull { bytes: bytes(&map) as u64, limit });
        }
        self.commit(kinds.into_iter().map(|(key, kind)| (key.clone(), (map.remove(&key), kind))).collect());
        Ok(said)
    }

    fn carry_out_one(
        &self,
        client: ClientId,
        op: &Op,
        now: Instant,
        map: &mut Map,
        kinds: &mut BTreeMap<Key, ChangeKind>,
    ) -> Result<Said, CommandError> {
        let mut write = |map: &mut Map, key: &Key, value: Bytes, life: (Life, Option<Instant>)| {
            let previous = map.get(key);
            let modified = self.revision() + 1;
            let held = Held {
                value,
                created: previous.map_or(modified, |it| it.created),
                modified,
                version: previous.map_or(1, |it| it.version + 1),
                lease: life.0.lease,
                ttl: life.0.ttl,
                expires: life.1,
            };
            kinds.insert(key.clone(), ChangeKind::Put);
            map.insert(key.clone(), Rc::new(held))
        };
        let life = |life: Life| {
            life.lease.map_or(Ok(()), |lease| self.check(client, lease))?;
            Ok((life, life.ttl.map(|ttl| now + ttl)))
        };
        let life_at_first = |map: &Map, key: &Key, wanted: Life| match map.get(key) {
            Some(held) => Ok((Life { lease: held.lease, ttl: held.ttl }, held.expires)),
            None => life(wanted),
        };
        Ok(match op {
            Op::Put { key, value, life: wanted, previous } => {
                let before = write(map, key, value.clone(), life(*wanted)?);
                Said::Put(before.filter(|_| *previous))
            }
            Op::Delete { key, previous } => {
                let before = map.remove(key);
                if before.is_some() {
                    kinds.insert(key.clone(), ChangeKind::Deleted);
                }
                Said::Deleted(u64::from(before.is_some()), before.filter(|_| *previous))
            }
            Op::DeleteRange(range) => {
                let keys: Vec<Key> = map.keys().filter(|key| is_within(range, key)).cloned().collect();
                let count = keys.len() as u64;
                for key in keys {
                    map.remove(&key);
                    kinds.insert(key, ChangeKind::Deleted);
                }
                Said::Deleted(count, None)
            }
            Op::Add { key, by, initial, min, max, life: wanted } => {
                let (key, by, min, max) = (key.clone(), *by, *min, *max);
                let life = life_at_first(map, &key, *wanted)?;
                let value = match map.get(&key) {
                    None => *initial,
                    Some(held) => match number::decode(&held.value) {
                        Some(value) => value,
                        None => return Err(CommandError::NotANumber { key }),
                    },
                };
                let Some(sum) = value.checked_add(by) else {
                    return Err(CommandError::Overflow { key, value, by });
                };
                if !(min..=max).contains(&sum) {
                    return Err(CommandError::OutOfBounds { key, value, by, min, max });
                }
                write(map, &key, number::encode(sum), life);
                Said::Number(sum)
            }
            Op::Append { key, value, life: wanted } => {
                let life = life_at_first(map, key, *wanted)?;
                let mut whole = map.get(key).map_or_else(Vec::new, |held| held.value.to_vec());
                whole.extend_from_slice(value);
                let length = whole.len() as u64;
                write(map, key, whole.into(), life);
                Said::Appended(length)
            }
        })
    }

    fn commit(&mut self, changes: BTreeMap<Key, (Option<Rc<Held>>, ChangeKind)>) {
        let mut commit = Vec::new();
        for (key, (entry, kind)) in changes {
            let previous = match &entry {
                Some(entry) => self.map.insert(key.clone(), Rc::clone(entry)),
                None => self.map.remove(&key),
            };
            if entry.is_some() || previous.is_some() {
                commit.push(Changed { key, kind, entry });
            }
        }
        if !commit.is_empty() {
            self.logs.get_mut(&self.epoch).unwrap().0.push(commit);
        }
    }
}

pub(crate) fn is_within(range: &KeyRange, key: &Key) -> bool {
    match range {
        KeyRange::Key(it) => it == key,
        KeyRange::Prefix(prefix) => key.starts_with(prefix),
        KeyRange::Between(from, to) => from <= key && key < to,
        KeyRange::All => true,
        _ => unreachable!("the simulator draws no other"),
    }
}
