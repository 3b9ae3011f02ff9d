//! The naive model: plain maps, copied for each command.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use cluster_shared_state::{
    Answer, ChangeKind, ClientId, CommandError as E, Condition, Conflict, Entry, Epoch, Key, KeyRange,
    LeaseId, Limits, Misbehaviour, Outcome, Revision, TransactionOutcome,
};
use serde::{Serialize, de::DeserializeOwned};

use super::generate::{Op, Order, Step};

type Result<T> = std::result::Result<T, E>;
type Answered = std::result::Result<Result<Answer>, Misbehaviour>;
type Changes = Vec<(Vec<u8>, ChangeKind, Option<Entry>, Option<Entry>)>;

#[derive(Clone, PartialEq)]
struct Held {
    entry: Entry,
    expires: Option<u64>,
}

type Map = BTreeMap<Vec<u8>, Held>;

pub(crate) struct Lease {
    owner: ClientId,
    ttl: Option<u64>,
    expires: Option<u64>,
}

#[derive(Default)]
struct Client {
    highest: Option<u64>,
    acknowledged: u64,
    /// Answers, as they were, and as they are remembered.
    answers: BTreeMap<u64, (Result<Answer>, Result<Answer>)>,
}

pub(crate) struct Model {
    limits: Limits,
    pub(crate) revision: u64,
    map: Map,
    pub(crate) leases: BTreeMap<LeaseId, Lease>,
    pub(crate) ended: Vec<LeaseId>,
    /// A lease of another epoch.
    pub(crate) foreign: LeaseId,
    /// Those that the store grants, in order.
    ids: Vec<LeaseId>,
    granted: usize,
    clients: BTreeMap<ClientId, Client>,
    pub(crate) commits: Vec<(u64, Changes)>,
}

impl Model {
    pub(crate) fn new(epoch: Epoch, limits: Limits) -> Self {
        Self {
            limits,
            revision: 0,
            map: Map::new(),
            leases: BTreeMap::new(),
            ended: Vec::new(),
            foreign: make((epoch.get() + 1, 1_u64)),
            ids: (1..=300_u64).map(|number| make((epoch, number))).collect(),
            granted: 0,
            clients: BTreeMap::new(),
            commits: Vec::new(),
        }
    }

    pub(crate) fn highest(&self, client: ClientId) -> Option<u64> {
        self.clients.get(&client)?.highest
    }

    pub(crate) fn entries(&self) -> BTreeMap<Key, Entry> {
        self.map.iter().map(|(key, held)| (Key::from(key.clone()), held.entry.clone())).collect()
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let keys = self.map.values().filter_map(|held| held.expires);
        keys.chain(self.leases.values().filter_map(|lease| lease.expires)).min()
    }

    pub(crate) fn step(&mut self, step: &Step, now: u64) -> Option<Answered> {
        match step {
            Step::Wait(_) => None,
            Step::Gone(client) => {
                self.expire(now);
                self.clients.remove(client);
                let theirs: Vec<_> =
                    self.leases.iter().filter(|(_, it)| it.owner == *client).map(|(id, _)| *id).collect();
                let mut next = self.map.clone();
                self.end(&theirs, &mut next);
                self.commit(next, ChangeKind::LeaseGone, &[]);
                None
            }
            Step::Execute(client, order) => Some(Ok(self.execute(*client, order, now))),
            Step::Request { client, number, acknowledged, command } => {
                Some(self.request(*client, *number, *acknowledged, command, now))
            }
        }
    }

    fn request(&mut self, id: ClientId, number: u64, acknowledged: u64, order: &Order, now: u64) -> Answered {
        let client = self.clients.entry(id).or_default();
        client.acknowledged = client.acknowledged.max(acknowledged);
        client.answers.retain(|number, _| *number >= client.acknowledged);
        if let Some((_, remembered)) = client.answers.get(&number) {
            return Ok(remembered.clone());
        }
        if client.highest.is_some_and(|highest| number <= highest) {
            return Err(Misbehaviour::OldRequest { number });
        }
        if client.answers.len() >= self.limits.requests {
            return Err(Misbehaviour::TooManyRequests { limit: self.limits.requests as u64 });
        }
        let answer = self.execute(id, order, now);
        let limit = self.limits.remembered_bytes;
        let client = self.clients.entry(id).or_default();
        client.highest = Some(number);
        client.answers.insert(number, (answer.clone(), answer.clone()));
        // The oldest are hollowed until the rest fits.
        while client.answers.values().filter(|it| it.0 == it.1).map(|it| size(&it.1)).sum::<usize>() > limit {
            let Some(oldest) = client.answers.values_mut().find(|it| it.0 == it.1 && it.1.is_ok()) else {
                break;
            };
            if let Ok(Answer { revision, .. }) = oldest.0 {
                oldest.1 = Err(E::AnswerForgotten { revision });
            }
        }
        Ok(answer)
    }

    pub(crate) fn expire(&mut self, now: u64) {
        let mut next = self.map.clone();
        next.retain(|_, held| held.expires.is_none_or(|at| at > now));
        let expired: Vec<_> = self.map.keys().filter(|key| !next.contains_key(*key)).cloned().collect();
        let over: Vec<_> = self
            .leases
            .iter()
            .filter(|(_, it)| it.expires.is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        self.end(&over, &mut next);
        self.commit(next, ChangeKind::LeaseGone, &expired);
    }

    fn end(&mut self, leases: &[LeaseId], next: &mut Map) {
        next.retain(|_, held| held.entry.lease.is_none_or(|it| !leases.contains(&it)));
        for id in leases {
            self.leases.remove(id);
            self.ended.push(*id);
        }
    }

    /// What differs is the next revision. What is gone is so for that reason, or has expired.
    fn commit(&mut self, next: Map, gone: ChangeKind, expired: &[Vec<u8>]) -> u64 {
        let mut changes = Changes::new();
        let keys: std::collections::BTreeSet<_> = self.map.keys().chain(next.keys()).cloned().collect();
        for key in keys {
            let (old, new) = (self.map.get(&key), next.get(&key));
            if old == new {
                continue;
            }
            let kind = match new {
                Some(_) => ChangeKind::Put,
                None if expired.contains(&key) => ChangeKind::Expired,
                None => gone,
            };
            changes.push((key, kind, new.map(|it| it.entry.clone()), old.map(|it| it.entry.clone())));
        }
        let count = changes.len() as u64;
        if !changes.is_empty() {
            self.revision += 1;
            self.commits.push((self.revision, changes));
        }
        self.map = next;
        count
    }

    fn execute(&mut self, client: ClientId, order: &Order, now: u64) -> Result<Answer> {
        self.expire(now);
        self.check(order)?;
        let outcome = match order {
            Order::One(when, op) => {
                let compare = when.as_ref().filter(|_| op.key().is_some());
                if let Some(conflict) = compare.and_then(|(key, it)| self.conflict(key, it)) {
                    Outcome::Conflict(conflict)
                } else {
                    let mut outcomes = self.all(client, std::slice::from_ref(op), now, 0)?;
                    outcomes.remove(0)
                }
            }
            Order::Many { when, then, otherwise } => {
                let conflict = when.iter().find_map(|(key, it)| self.conflict(key, it));
                let ops = if conflict.is_none() { then } else { otherwise };
                let already =
                    conflict.as_ref().and_then(|it| it.entry.as_ref()).map_or(0, |it| it.value.len());
                let outcomes = self.all(client, ops, now, already)?;
                Outcome::Transaction(make::<TransactionOutcome>((conflict, outcomes)))
            }
            Order::Grant(ttl) => {
                if too_long(*ttl) {
                    return Err(E::TtlTooLong { ttl: ttl.expect("it is long") });
                }
                if self.leases.values().filter(|it| it.owner == client).count() >= self.limits.leases {
                    return Err(E::TooManyLeases { limit: self.limits.leases as u64 });
                }
                let id = self.ids[self.granted];
                self.granted += 1;
                let ttl = ttl.map(|ttl| ttl.as_millis() as u64);
                self.leases.insert(id, Lease { owner: client, ttl, expires: ttl.map(|ttl| now + ttl) });
                Outcome::Granted(id)
            }
            Order::KeepAlive(lease) => {
                self.owned(client, *lease)?;
                let lease = self.leases.get_mut(lease).expect("it is owned");
                lease.expires = lease.ttl.map(|ttl| now + ttl);
                Outcome::KeptAlive
            }
            Order::Revoke(lease) => {
                self.owned(client, *lease)?;
                let mut next = self.map.clone();
                self.end(&[*lease], &mut next);
                Outcome::Revoked { keys: self.commit(next, ChangeKind::LeaseGone, &[]) }
            }
        };
        Ok(make((self.revision, outcome)))
    }

    fn all(&mut self, client: ClientId, ops: &[Op], now: u64, already: usize) -> Result<Vec<Outcome>> {
        let mut next = self.map.clone();
        let mut returned = 0;
        let mut outcomes = Vec::new();
        let mut looked_at = 0;
        for op in ops {
            if let Op::DeleteRange(range) = op {
                // What it has to look at is bounded: no more than twice as many keys as there may be.
                let limit = 2 * self.limits.keys;
                looked_at += self.map.keys().filter(|key| within(range, key)).count();
                if looked_at > limit {
                    let (operations, limit) = (limit as u64 + 1, limit as u64);
                    return Err(E::TooManyOperations { operations, limit });
                }
            }
            outcomes.push(self.one(client, op, now, &mut next, &mut returned)?);
        }
        let limit = self.limits.answer_bytes as u64;
        if returned + already > self.limits.answer_bytes {
            return Err(E::AnswerTooLong { bytes: (returned + already) as u64, limit });
        }
        let bytes = |map: &Map| map.iter().map(|(key, it)| key.len() + it.entry.value.len()).sum::<usize>();
        if next.len() > self.limits.keys && next.len() > self.map.len() {
            return Err(E::TooManyKeys { keys: next.len() as u64, limit: self.limits.keys as u64 });
        }
        if bytes(&next) > self.limits.total_bytes && bytes(&next) > bytes(&self.map) {
            return Err(E::StoreFull { bytes: bytes(&next) as u64, limit: self.limits.total_bytes as u64 });
        }
        self.commit(next, ChangeKind::Deleted, &[]);
        Ok(outcomes)
    }

    fn one(
        &self,
        client: ClientId,
        op: &Op,
        now: u64,
        next: &mut Map,
        returned: &mut usize,
    ) -> Result<Outcome> {
        type Life = (Option<LeaseId>, Option<Duration>, Option<u64>);
        let life = |lease: &Option<LeaseId>, ttl: &Option<Duration>| -> Result<Life> {
            if let Some(lease) = lease {
                self.owned(client, *lease)?;
            }
            if too_long(*ttl) {
                return Err(E::TtlTooLong { ttl: ttl.expect("it is long") });
            }
            Ok((*lease, *ttl, ttl.map(|ttl| now + ttl.as_millis() as u64)))
        };
        let write = |next: &mut Map, key: &str, value: Vec<u8>, life: Life| {
            let old = next.get(key.as_bytes()).map(|it| it.entry.clone());
            let modified = Revision::new(self.revision + 1);
            let mut entry: Entry =
                make((Bytes::new(), (0_u64, 0_u64), 0_u64, None::<LeaseId>, None::<Duration>));
            entry.value = value.into();
            entry.created = old.as_ref().map_or(modified, |it| it.created);
            entry.modified = modified;
            entry.version = old.as_ref().map_or(1, |it| it.version + 1);
            (entry.lease, entry.ttl) = (life.0, life.1);
            next.insert(key.as_bytes().to_vec(), Held { entry, expires: life.2 });
            old
        };
        let mut returning = |is: bool, old: Option<Entry>| {
            let old = old.filter(|_| is);
            *returned += old.as_ref().map_or(0, |it| it.value.len());
            if *returned > self.limits.answer_bytes {
                let limit = self.limits.answer_bytes as u64;
                return Err(E::AnswerTooLong { bytes: *returned as u64, limit });
            }
            Ok(old)
        };
        Ok(match op {
            Op::Put { key, value, lease, ttl, returns } => {
                let life = life(lease, ttl)?;
                let old = write(next, key, value.clone(), life);
                Outcome::Put { previous: returning(*returns, old)? }
            }
            Op::Delete { key, returns } => {
                let old = next.remove(key.as_bytes()).map(|it| it.entry);
                let keys = u64::from(old.is_some());
                Outcome::Deleted { keys, previous: returning(*returns, old)? }
            }
            Op::DeleteRange(range) => {
                let before = next.len();
                next.retain(|key, _| !within(range, key));
                Outcome::Deleted { keys: (before - next.len()) as u64, previous: None }
            }
            Op::Increment { key, by, initial, min, max, lease, ttl } => {
                let old = next.get(key.as_bytes()).cloned();
                let life = match &old {
                    Some(old) => (old.entry.lease, old.entry.ttl, old.expires),
                    None => life(lease, ttl)?,
                };
                let name = || Key::from(key.as_str());
                let value = match &old {
                    None => *initial,
                    Some(old) => postcard::take_from_bytes(&old.entry.value)
                        .ok()
                        .filter(|(_, rest)| rest.is_empty())
                        .map(|(value, _)| value)
                        .ok_or_else(|| E::NotANumber { key: name() })?,
                };
                let sum = i128::from(value) + i128::from(*by);
                let Ok(sum) = i64::try_from(sum) else {
                    return Err(E::Overflow { key: name(), value, by: *by });
                };
                if sum < *min || sum > *max {
                    return Err(E::OutOfBounds { key: name(), value, by: *by, min: *min, max: *max });
                }
                write(next, key, postcard::to_stdvec(&sum).expect("a number"), life);
                Outcome::Number(sum)
            }
            Op::Append { key, value, lease, ttl } => {
                let old = next.get(key.as_bytes()).cloned();
                let life = match &old {
                    Some(old) => (old.entry.lease, old.entry.ttl, old.expires),
                    None => life(lease, ttl)?,
                };
                let mut whole = old.map_or_else(Vec::new, |old| old.entry.value.to_vec());
                whole.extend(value);
                let length = whole.len() as u64;
                if whole.len() > self.limits.value_bytes {
                    return Err(E::ValueTooLong { length, limit: self.limits.value_bytes as u64 });
                }
                write(next, key, whole, life);
                Outcome::Appended { length }
            }
        })
    }

    fn owned(&self, client: ClientId, lease: LeaseId) -> Result<()> {
        match self.leases.get(&lease) {
            None => Err(E::NoSuchLease { lease }),
            Some(it) if it.owner != client => Err(E::ForeignLease { lease }),
            Some(_) => Ok(()),
        }
    }

    fn conflict(&self, key: &str, condition: &Condition) -> Option<Conflict> {
        let entry = self.map.get(key.as_bytes()).map(|it| it.entry.clone());
        let holds = match condition {
            Condition::Absent => entry.is_none(),
            Condition::Present => entry.is_some(),
            Condition::Value(value) => entry.as_ref().is_some_and(|it| it.value == value),
            Condition::Modified(at) => entry.as_ref().is_some_and(|it| it.modified == *at),
            Condition::ModifiedBefore(at) => entry.as_ref().is_some_and(|it| it.modified < *at),
            Condition::ModifiedAfter(at) => entry.as_ref().is_some_and(|it| it.modified > *at),
            Condition::Lease(lease) => entry.as_ref().is_some_and(|it| it.lease == Some(*lease)),
            Condition::Owner(owner) => {
                let lease = entry.as_ref().and_then(|it| it.lease);
                lease.is_some_and(|lease| self.leases[&lease].owner == *owner)
            }
            _ => unreachable!("not generated"),
        };
        (!holds).then(|| make((Key::from(key), entry)))
    }

    fn check(&self, order: &Order) -> Result<()> {
        let limits = &self.limits;
        let (when, ops): (Vec<_>, Vec<_>) = match order {
            Order::One(when, op) => (when.iter().filter(|_| op.key().is_some()).collect(), vec![op]),
            Order::Many { when, then, otherwise } => {
                let longest = [when.len(), then.len(), otherwise.len()].into_iter().max().expect("three");
                if longest > limits.operations {
                    let (operations, limit) = (longest as u64, limits.operations as u64);
                    return Err(E::TooManyOperations { operations, limit });
                }
                (when.iter().collect(), then.iter().chain(otherwise).collect())
            }
            Order::Grant(_) | Order::KeepAlive(_) | Order::Revoke(_) => return Ok(()),
        };
        let mut bytes = 0;
        let mut key_and_value = |key: &str, value: usize| {
            if value > limits.value_bytes {
                return Err(E::ValueTooLong { length: value as u64, limit: limits.value_bytes as u64 });
            }
            if key.is_empty() {
                return Err(E::EmptyKey);
            }
            if key.len() > limits.key_bytes {
                return Err(E::KeyTooLong { length: key.len() as u64, limit: limits.key_bytes as u64 });
            }
            bytes += key.len() + value;
            Ok(())
        };
        for (key, condition) in when {
            let value = if let Condition::Value(value) = condition { value.len() } else { 0 };
            key_and_value(key, value)?;
        }
        for op in ops {
            match op {
                Op::Put { key, value, .. } | Op::Append { key, value, .. } => {
                    key_and_value(key, value.len())?
                }
                Op::Delete { key, .. } | Op::Increment { key, .. } => key_and_value(key, 0)?,
                Op::DeleteRange(range) => {
                    let length = match range {
                        KeyRange::Key(key) | KeyRange::Prefix(key) => key.len(),
                        KeyRange::Between(from, to) => from.len().max(to.len()),
                        _ => 0,
                    };
                    // An end may be empty.
                    if length > 0 {
                        key_and_value(&"x".repeat(length), 0)?;
                    }
                }
            }
        }
        if bytes > limits.command_bytes {
            return Err(E::CommandTooLong { bytes: bytes as u64, limit: limits.command_bytes as u64 });
        }
        Ok(())
    }
}

fn within(range: &KeyRange, key: &[u8]) -> bool {
    match range {
        KeyRange::Key(it) => **it == *key,
        KeyRange::Prefix(it) => key.get(..it.len()).is_some_and(|start| *start == **it),
        KeyRange::Between(from, to) => (&**from..&**to).contains(&key),
        _ => true,
    }
}

/// As only the longest there is is too long for a clock.
fn too_long(ttl: Option<Duration>) -> bool {
    ttl == Some(Duration::MAX)
}

fn size(answer: &Result<Answer>) -> usize {
    fn of(outcome: &Outcome) -> usize {
        let value = |entry: &Option<Entry>| entry.as_ref().map_or(0, |it| it.value.len());
        let conflict = |it: &Conflict| it.key.len() + value(&it.entry);
        size_of::<Outcome>()
            + match outcome {
                Outcome::Put { previous } | Outcome::Deleted { previous, .. } => value(previous),
                Outcome::Conflict(it) => conflict(it),
                Outcome::Transaction(it) => {
                    it.outcomes.iter().map(of).sum::<usize>() + it.conflict.as_ref().map_or(0, conflict)
                }
                _ => 0,
            }
    }
    answer.as_ref().map_or(0, |it| of(&it.outcome))
}

/// What only the crate itself can make, from its fields.
fn make<T: DeserializeOwned>(fields: impl Serialize) -> T {
    let bytes = postcard::to_stdvec(&fields).expect("it can be encoded");
    postcard::from_bytes(&bytes).expect("it has those fields")
}
