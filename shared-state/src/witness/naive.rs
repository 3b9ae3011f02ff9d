//! The simplest map that does what commands say: what the store is judged by.
//!
//! It shares no code with the store. It has no clock: what ends by itself it learns from the log.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::command::{Append, Command, Compare, Condition, Increment, Life, Operation, Put, Returns};
use crate::{
    Change, ChangeKind, ClientId, CommandError, Conflict, Entry, Key, KeyRange, LeaseId, Outcome, Revision,
    TransactionOutcome, number,
};

/// A plain map that carries out commands one after the other.
///
/// ```
/// use cluster_shared_state::witness::Naive;
/// use cluster_shared_state::{ClientId, Command, Outcome, Revision};
///
/// let me = ClientId::new(0, 1);
/// let mut naive = Naive::new();
/// let done = naive.try_command(me, &Command::increment("hits", 2).into(), Revision::new(1)).expect("it fits");
/// assert_eq!(done.outcome, Outcome::Number(2));
/// naive.apply(&done.changes, Revision::new(1));
/// assert_eq!(naive.get(b"hits").and_then(|entry| entry.number()), Some(2));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Naive {
    revision: Revision,
    map: BTreeMap<Key, Entry>,
    /// All leases that were ever granted, and whose they are.
    granted: BTreeMap<LeaseId, ClientId>,
    ended: BTreeSet<LeaseId>,
    under: BTreeMap<LeaseId, BTreeSet<Key>>,
}

/// What a command would do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Done {
    /// What it answers.
    pub outcome: Outcome,
    /// What it changes, by key, with what was there before.
    pub changes: Vec<Change>,
}

/// What operations of one command did so far; `None` is a key that is gone.
type Layer = BTreeMap<Key, Option<Entry>>;

impl Naive {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// As of that revision, with these entries.
    pub fn starting_with(revision: Revision, entries: impl IntoIterator<Item = (Key, Entry)>) -> Self {
        let mut naive = Self { revision, ..Self::default() };
        for (key, entry) in entries {
            naive.set(&key, Some(entry));
        }
        naive
    }

    /// The revision of the last commit.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// What is under a key.
    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.map.get(key)
    }

    /// All of these keys, in order.
    pub fn range<'a>(&'a self, range: &'a KeyRange) -> impl Iterator<Item = (&'a Key, &'a Entry)> {
        let found = range.bounds().map(|bounds| self.map.range::<[u8], _>(bounds));
        found.into_iter().flatten().take_while(|(key, _)| range.contains(key))
    }

    /// The lease is this client's, whenever it was granted.
    pub fn grant(&mut self, lease: LeaseId, owner: ClientId) {
        self.granted.insert(lease, owner);
    }

    /// The lease is no more.
    pub fn end(&mut self, lease: LeaseId) {
        self.ended.insert(lease);
    }

    /// All keys under this lease.
    pub fn under(&self, lease: LeaseId) -> impl Iterator<Item = &Key> {
        self.under.get(&lease).into_iter().flatten()
    }

    /// Whose lease it is, if that is known.
    pub fn owner(&self, lease: LeaseId) -> Option<ClientId> {
        self.granted.get(&lease).copied()
    }

    /// What the command of that client would do, if its commit took that revision. Changes nothing.
    ///
    /// # Errors
    /// Why it is refused. Limits are not known here, so never because of them.
    pub fn try_command(
        &self,
        client: ClientId,
        command: &Command,
        revision: Revision,
    ) -> Result<Done, CommandError> {
        let mut layer = Layer::new();
        let mut kind = ChangeKind::Deleted;
        let outcome = match command {
            Command::Apply { when, operation } => match when.as_ref().and_then(|when| self.conflict(when)) {
                Some(conflict) => Outcome::Conflict(conflict),
                None => self.operate(client, operation, revision, &mut layer)?,
            },
            Command::Transact(transaction) => {
                let conflict = transaction.when.iter().find_map(|compare| self.conflict(compare));
                let branch = if conflict.is_some() { &transaction.otherwise } else { &transaction.then };
                let mut outcomes = Vec::new();
                for operation in branch {
                    outcomes.push(self.operate(client, operation, revision, &mut layer)?);
                }
                Outcome::Transaction(TransactionOutcome { conflict, outcomes })
            }
            // The store chooses the name: the judge looks whether it is new.
            Command::Grant { .. } => Outcome::Granted(LeaseId::new(crate::Epoch::new(0), 0)),
            Command::KeepAlive { lease } => {
                self.check_lease(client, *lease)?;
                Outcome::KeptAlive
            }
            Command::Revoke { lease } => {
                self.check_lease(client, *lease)?;
                kind = ChangeKind::LeaseGone;
                layer.extend(self.under(*lease).map(|key| (key.clone(), None)));
                Outcome::Revoked { keys: layer.len() as u64 }
            }
        };
        let mut changes = Vec::new();
        for (key, entry) in layer {
            let previous = self.map.get(&key).cloned();
            let kind = if entry.is_some() { ChangeKind::Put } else { kind };
            // What was made and deleted in the same command never was.
            if entry.is_some() || previous.is_some() {
                changes.push(Change { key, kind, entry, previous });
            }
        }
        Ok(Done { outcome, changes })
    }

    /// Makes these changes, as that revision.
    pub fn apply(&mut self, changes: &[Change], revision: Revision) {
        for change in changes {
            let previous = self.set(&change.key, change.entry.clone());
            if change.kind == ChangeKind::LeaseGone
                && let Some(lease) = previous.and_then(|entry| entry.lease)
            {
                self.ended.insert(lease);
            }
        }
        self.revision = revision;
    }

    fn set(&mut self, key: &Key, entry: Option<Entry>) -> Option<Entry> {
        if let Some(lease) = entry.as_ref().and_then(|entry| entry.lease) {
            self.under.entry(lease).or_default().insert(key.clone());
        }
        let now = entry.as_ref().and_then(|entry| entry.lease);
        let previous = match entry {
            Some(entry) => self.map.insert(key.clone(), entry),
            None => self.map.remove(key),
        };
        let before = previous.as_ref().and_then(|entry| entry.lease);
        if let Some(keys) =
            before.filter(|before| Some(*before) != now).and_then(|it| self.under.get_mut(&it))
        {
            keys.remove(key);
        }
        previous
    }

    /// A lease that nobody is known to have been granted is believed.
    fn check_lease(&self, client: ClientId, lease: LeaseId) -> Result<(), CommandError> {
        if self.ended.contains(&lease) {
            return Err(CommandError::NoSuchLease { lease });
        }
        if self.owner(lease).is_some_and(|owner| owner != client) {
            return Err(CommandError::ForeignLease { lease });
        }
        Ok(())
    }

    fn conflict(&self, compare: &Compare) -> Option<Conflict> {
        let entry = self.map.get(&compare.key);
        let owner = |entry: &Entry| entry.lease.and_then(|lease| self.owner(lease));
        let holds = match &compare.condition {
            Condition::Absent => entry.is_none(),
            Condition::Present => entry.is_some(),
            Condition::Value(value) => entry.is_some_and(|entry| entry.value == value),
            Condition::Modified(at) => entry.is_some_and(|entry| entry.modified == *at),
            Condition::ModifiedBefore(at) => entry.is_some_and(|entry| entry.modified < *at),
            Condition::ModifiedAfter(at) => entry.is_some_and(|entry| entry.modified > *at),
            Condition::Lease(lease) => entry.is_some_and(|entry| entry.lease == Some(*lease)),
            Condition::Owner(client) => entry.and_then(owner) == Some(*client),
        };
        if holds { None } else { Some(Conflict { key: compare.key.clone(), entry: entry.cloned() }) }
    }

    fn operate(
        &self,
        client: ClientId,
        operation: &Operation,
        revision: Revision,
        layer: &mut Layer,
    ) -> Result<Outcome, CommandError> {
        match operation {
            Operation::Put(Put { key, value, life, returns }) => {
                self.check_life(client, *life)?;
                let previous = self.current(layer, key);
                let entry = written(previous.as_ref(), value.clone(), *life, revision);
                layer.insert(key.clone(), Some(entry));
                Ok(Outcome::Put { previous: previous.filter(|_| *returns == Returns::Previous) })
            }
            Operation::Delete(delete) => {
                let previous = self.current(layer, &delete.key);
                if previous.is_some() {
                    layer.insert(delete.key.clone(), None);
                }
                let keys = u64::from(previous.is_some());
                let previous = previous.filter(|_| delete.returns == Returns::Previous);
                Ok(Outcome::Deleted { keys, previous })
            }
            Operation::DeleteRange(range) => {
                let mut keys: BTreeSet<Key> = self.range(range).map(|(key, _)| key.clone()).collect();
                keys.extend(layer.keys().filter(|key| range.contains(key)).cloned());
                keys.retain(|key| self.current(layer, key).is_some());
                let count = keys.len() as u64;
                layer.extend(keys.into_iter().map(|key| (key, None)));
                Ok(Outcome::Deleted { keys: count, previous: None })
            }
            Operation::Increment(increment) => self.increment(client, increment, revision, layer),
            Operation::Append(Append { key, value, life }) => {
                let previous = self.current(layer, key);
                let (before, life) = match &previous {
                    Some(entry) => (entry.value.clone(), life_of(entry)),
                    None => {
                        self.check_life(client, *life)?;
                        (Bytes::new(), *life)
                    }
                };
                let value: Bytes = [&before[..], &value[..]].concat().into();
                let length = value.len() as u64;
                layer.insert(key.clone(), Some(written(previous.as_ref(), value, life, revision)));
                Ok(Outcome::Appended { length })
            }
        }
    }

    fn increment(
        &self,
        client: ClientId,
        increment: &Increment,
        revision: Revision,
        layer: &mut Layer,
    ) -> Result<Outcome, CommandError> {
        let Increment { key, by, initial, min, max, life } = increment.clone();
        let previous = self.current(layer, &key);
        let (value, life) = match &previous {
            Some(entry) => {
                let number = number::decode(&entry.value);
                (number.ok_or_else(|| CommandError::NotANumber { key: key.clone() })?, life_of(entry))
            }
            None => {
                self.check_life(client, life)?;
                (initial, life)
            }
        };
        let sum = i128::from(value) + i128::from(by);
        let Ok(sum) = i64::try_from(sum) else { return Err(CommandError::Overflow { key, value, by }) };
        if !(min..=max).contains(&sum) {
            return Err(CommandError::OutOfBounds { key, value, by, min, max });
        }
        let entry = written(previous.as_ref(), number::encode(sum), life, revision);
        layer.insert(key, Some(entry));
        Ok(Outcome::Number(sum))
    }

    fn current(&self, layer: &Layer, key: &Key) -> Option<Entry> {
        match layer.get(key) {
            Some(entry) => entry.clone(),
            None => self.map.get(key).cloned(),
        }
    }

    fn check_life(&self, client: ClientId, life: Life) -> Result<(), CommandError> {
        life.lease.map_or(Ok(()), |lease| self.check_lease(client, lease))
    }
}

fn life_of(entry: &Entry) -> Life {
    Life { lease: entry.lease, ttl: entry.ttl }
}

/// An entry that takes the place of that one.
fn written(previous: Option<&Entry>, value: Bytes, life: Life, revision: Revision) -> Entry {
    let (created, version) = previous.map_or((revision, 1), |entry| (entry.created, entry.version + 1));
    Entry { value, created, modified: revision, version, lease: life.lease, ttl: life.ttl }
}
