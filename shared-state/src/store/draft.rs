//! What a command would change, before it is known whether it may.

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::leases::expiry;
use super::{Altered, Changes, Held, Store};
use crate::command::{Append, Command, Increment, Life, Operation, Put, Returns};
use crate::{
    ChangeKind, ClientId, CommandError, Entry, Key, KeyRange, Limits, Outcome, Revision, entry, number,
};

/// What lies over the state while operations are tried: dropped if one of them is refused.
pub(super) struct Draft<'a> {
    store: &'a Store,
    client: ClientId,
    now: Instant,
    revision: Revision,
    changes: Changes,
    /// How many keys there would be, and how many bytes.
    keys: usize,
    bytes: usize,
    /// Bytes of previous values that are to be returned.
    returned: usize,
    /// Keys that were looked at to delete ranges.
    scanned: usize,
}

impl<'a> Draft<'a> {
    pub(super) fn new(store: &'a Store, client: ClientId, now: Instant) -> Self {
        let revision = store.revision.next();
        let (keys, bytes) = (store.map.len(), store.bytes);
        Self {
            store,
            client,
            now,
            revision,
            changes: Changes::default(),
            keys,
            bytes,
            returned: 0,
            scanned: 0,
        }
    }

    pub(super) fn apply(&mut self, operation: Operation) -> Result<Outcome, CommandError> {
        match operation {
            Operation::Put(put) => self.put(put),
            Operation::Delete(delete) => {
                let previous = self.get(&delete.key).cloned();
                if let Some(entry) = &previous {
                    let former = Former::of(&delete.key, entry);
                    self.delete(delete.key, former);
                }
                let keys = u64::from(previous.is_some());
                Ok(Outcome::Deleted { keys, previous: self.returning(delete.returns, previous)? })
            }
            Operation::DeleteRange(range) => self.delete_range(&range),
            Operation::Increment(increment) => self.increment(increment),
            Operation::Append(append) => self.append(append),
        }
    }

    /// What is to change, if the limits allow it.
    pub(super) fn finish(self, outcome: &Outcome) -> Result<Changes, CommandError> {
        let store = self.store;
        let limits = &store.limits;
        if let Outcome::Transaction(transaction) = outcome
            && let Some(entry) = transaction.conflict.as_ref().and_then(|conflict| conflict.entry.as_ref())
        {
            check_answer(self.returned + entry.value.len(), limits)?;
        }
        let (keys, bytes) = (self.keys, self.bytes);
        // What makes it less may always be done.
        if keys > limits.keys && keys > store.map.len() {
            return Err(CommandError::TooManyKeys { keys: keys as u64, limit: limits.keys as u64 });
        }
        if bytes > limits.total_bytes && bytes > store.bytes {
            return Err(CommandError::StoreFull { bytes: bytes as u64, limit: limits.total_bytes as u64 });
        }
        Ok(self.changes)
    }

    fn get(&self, key: &Key) -> Option<&Entry> {
        self.held(key).map(|held| &held.entry)
    }

    fn held(&self, key: &Key) -> Option<&Held> {
        match self.changes.get(key) {
            Some(change) => change.held.as_ref(),
            None => self.store.map.get(key),
        }
    }

    fn put(&mut self, put: Put) -> Result<Outcome, CommandError> {
        let (life, expires) = self.life(put.life)?;
        let found = self.get(&put.key);
        let former = found.map(|entry| Former::of(&put.key, entry));
        let previous = found.filter(|_| put.returns == Returns::Previous).cloned();
        self.write(put.key, put.value, former, life, expires);
        Ok(Outcome::Put { previous: self.returning(put.returns, previous)? })
    }

    fn increment(&mut self, increment: Increment) -> Result<Outcome, CommandError> {
        let Increment { key, by, initial, min, max, life } = increment;
        let (life, expires) = self.life_at_first(&key, life)?;
        let found = self.get(&key);
        let value = found.map_or(Ok(initial), |entry| entry.number_of(&key))?;
        let former = found.map(|entry| Former::of(&key, entry));
        let Some(sum) = value.checked_add(by) else {
            return Err(CommandError::Overflow { key, value, by });
        };
        if sum < min || sum > max {
            return Err(CommandError::OutOfBounds { key, value, by, min, max });
        }
        self.write(key, number::encode(sum), former, life, expires);
        Ok(Outcome::Number(sum))
    }

    fn append(&mut self, append: Append) -> Result<Outcome, CommandError> {
        let Append { key, value, life } = append;
        let (life, expires) = self.life_at_first(&key, life)?;
        let found = self.get(&key);
        let former = found.map(|entry| Former::of(&key, entry));
        let value = match found {
            None => value,
            Some(entry) => {
                let length = entry.value.len() + value.len();
                check_value(length, &self.store.limits)?;
                let mut whole = BytesMut::with_capacity(length);
                whole.extend_from_slice(&entry.value);
                whole.extend_from_slice(&value);
                whole.freeze()
            }
        };
        let length = value.len() as u64;
        self.write(key, value, former, life, expires);
        Ok(Outcome::Appended { length })
    }

    fn delete_range(&mut self, range: &KeyRange) -> Result<Outcome, CommandError> {
        let former = |(key, entry): (&Key, &Entry)| (key.clone(), Former::of(key, entry));
        let written =
            self.changes.iter().filter_map(|(key, change)| Some((key, &change.held.as_ref()?.entry)));
        let mut found: Vec<_> = written.filter(|(key, _)| range.contains(key)).map(former).collect();
        // Deleting everything over and over in one transaction would hold up everyone else.
        let limit = self.store.limits.keys.saturating_mul(2);
        for (key, entry) in self.store.range(range) {
            self.scanned += 1;
            if self.scanned > limit {
                let operations = self.scanned as u64;
                return Err(CommandError::TooManyOperations { operations, limit: limit as u64 });
            }
            if self.changes.get(key).is_none() {
                found.push(former((key, entry)));
            }
        }
        let keys = found.len() as u64;
        found.into_iter().for_each(|(key, former)| self.delete(key, former));
        Ok(Outcome::Deleted { keys, previous: None })
    }

    fn delete(&mut self, key: Key, former: Former) {
        // What is taken away was counted before, so neither goes below zero.
        self.keys -= 1;
        self.bytes -= former.bytes;
        self.changes.insert(key, Altered { held: None, kind: ChangeKind::Deleted });
    }

    fn write(
        &mut self,
        key: Key,
        value: Bytes,
        former: Option<Former>,
        life: Life,
        expires: Option<Instant>,
    ) {
        let entry = Entry {
            value,
            created: former.map_or(self.revision, |former| former.created),
            modified: self.revision,
            version: former.map_or(1, |former| former.version + 1),
            lease: life.lease,
            ttl: life.ttl,
        };
        self.keys += usize::from(former.is_none());
        self.bytes = self.bytes + entry::size(&key, &entry) - former.map_or(0, |former| former.bytes);
        self.changes.insert(key, Altered { held: Some(Held { entry, expires }), kind: ChangeKind::Put });
    }

    /// The life that is asked for.
    fn life(&self, life: Life) -> Result<(Life, Option<Instant>), CommandError> {
        if let Some(lease) = life.lease {
            self.store.leases.check(self.client, lease)?;
        }
        Ok((life, expiry(life.ttl, self.now)?))
    }

    /// The life that the key has; if it is not there, the one that is asked for.
    fn life_at_first(&self, key: &Key, life: Life) -> Result<(Life, Option<Instant>), CommandError> {
        match self.held(key) {
            Some(held) => Ok((Life { lease: held.entry.lease, ttl: held.entry.ttl }, held.expires)),
            None => self.life(life),
        }
    }

    fn returning(
        &mut self,
        returns: Returns,
        previous: Option<Entry>,
    ) -> Result<Option<Entry>, CommandError> {
        let previous = previous.filter(|_| returns == Returns::Previous);
        self.returned += previous.as_ref().map_or(0, |entry| entry.value.len());
        check_answer(self.returned, &self.store.limits)?;
        Ok(previous)
    }
}

/// What there is to know of an entry that is replaced, without a share in its value.
#[derive(Clone, Copy, Debug)]
struct Former {
    created: Revision,
    version: u64,
    bytes: usize,
}

impl Former {
    fn of(key: &Key, entry: &Entry) -> Self {
        Self { created: entry.created, version: entry.version, bytes: entry::size(key, entry) }
    }
}

/// Whether the command is within what can be said without looking at the state.
pub(super) fn check(command: &Command, limits: &Limits) -> Result<(), CommandError> {
    let mut bytes = 0;
    match command {
        Command::Apply { when, operation } => {
            if let Some(compare) = when {
                bytes += check_compare(compare, limits)?;
            }
            bytes += check_operation(operation, limits)?;
        }
        Command::Transact(it) => {
            if it.longest() > limits.operations {
                let (operations, limit) = (it.longest() as u64, limits.operations as u64);
                return Err(CommandError::TooManyOperations { operations, limit });
            }
            for compare in &it.when {
                bytes += check_compare(compare, limits)?;
            }
            for operation in it.then.iter().chain(&it.otherwise) {
                bytes += check_operation(operation, limits)?;
            }
        }
        Command::Grant { .. } | Command::KeepAlive { .. } | Command::Revoke { .. } => {}
    }
    if bytes > limits.command_bytes {
        let limit = limits.command_bytes as u64;
        return Err(CommandError::CommandTooLong { bytes: bytes as u64, limit });
    }
    Ok(())
}

fn check_compare(compare: &crate::Compare, limits: &Limits) -> Result<usize, CommandError> {
    let value = match &compare.condition {
        crate::Condition::Value(value) => value.len(),
        _ => 0,
    };
    check_value(value, limits)?;
    Ok(check_key(&compare.key, limits)? + value)
}

fn check_operation(operation: &Operation, limits: &Limits) -> Result<usize, CommandError> {
    let (key, value) = match operation {
        Operation::Put(it) => (&it.key, it.value.len()),
        Operation::Append(it) => (&it.key, it.value.len()),
        Operation::Increment(it) => (&it.key, 0),
        Operation::Delete(it) => (&it.key, 0),
        Operation::DeleteRange(range) => {
            // Prefixes and ends may be empty.
            check_key_length(range.length(), limits)?;
            return Ok(range.length());
        }
    };
    check_value(value, limits)?;
    Ok(check_key(key, limits)? + value)
}

fn check_key(key: &Key, limits: &Limits) -> Result<usize, CommandError> {
    if key.is_empty() {
        return Err(CommandError::EmptyKey);
    }
    check_key_length(key.len(), limits)?;
    Ok(key.len())
}

fn check_key_length(length: usize, limits: &Limits) -> Result<(), CommandError> {
    if length > limits.key_bytes {
        let limit = limits.key_bytes as u64;
        return Err(CommandError::KeyTooLong { length: length as u64, limit });
    }
    Ok(())
}

fn check_value(length: usize, limits: &Limits) -> Result<(), CommandError> {
    if length > limits.value_bytes {
        let limit = limits.value_bytes as u64;
        return Err(CommandError::ValueTooLong { length: length as u64, limit });
    }
    Ok(())
}

pub(super) fn check_answer(bytes: usize, limits: &Limits) -> Result<(), CommandError> {
    if bytes > limits.answer_bytes {
        let limit = limits.answer_bytes as u64;
        return Err(CommandError::AnswerTooLong { bytes: bytes as u64, limit });
    }
    Ok(())
}
