//! The map of the primary: orders all writes.

mod changes;
mod clients;
mod draft;
mod leases;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use crate::command::{Command, Compare, Condition, Operation, Transaction};
use crate::faults::{self, Fault};
use crate::{
    Answer, Change, ChangeKind, ClientId, CommandError, Commit, Conflict, Cursor, Entry, Epoch, Key,
    KeyRange, Limits, Misbehaviour, Outcome, Revision, TransactionOutcome, View, entry,
};
use changes::{Altered, Changes};
use clients::Clients;
use draft::Draft;
use leases::Leases;

/// The map of the primary. All writes go through it, one after the other; each that changes something takes
/// the next [`Revision`].
///
/// It decides what expires: time comes in with each call, and should not go backwards (where it does, it is
/// taken to stand still). After each call, poll [`poll_commit`](Self::poll_commit) until it returns `None`,
/// then call [`handle_timeout`](Self::handle_timeout) at [`poll_timeout`](Self::poll_timeout).
///
/// ```
/// use std::time::{Duration, Instant};
/// use cluster_shared_state::{ClientId, Command, Condition, Epoch, Limits, Outcome, Store};
///
/// let now = Instant::now();
/// let mut store = Store::new(Epoch::new(1), Limits::new());
/// let me = ClientId::PRIMARY;
///
/// let answer = store.execute(me, Command::put("config", "a").into(), now)?;
/// let swap = Command::put("config", "b").when(Condition::Modified(answer.revision));
/// assert!(!store.execute(me, swap.clone(), now)?.is_conflict());
/// assert!(store.execute(me, swap, now)?.is_conflict(), "it was written since");
///
/// store.execute(me, Command::put("flash", "gone soon").ttl(Duration::from_secs(1)).into(), now)?;
/// let due = store.poll_timeout().expect("something expires");
/// store.handle_timeout(due);
/// assert!(store.get("flash").is_none());
/// # Ok::<_, cluster_shared_state::CommandError>(())
/// ```
#[derive(Debug)]
pub struct Store {
    limits: Limits,
    epoch: Epoch,
    revision: Revision,
    map: BTreeMap<Key, Held>,
    /// Bytes of all keys and values.
    bytes: usize,
    expiring: BTreeSet<(Instant, Key)>,
    leases: Leases,
    clients: Clients,
    commits: VecDeque<Arc<Commit>>,
    /// The latest time that was told.
    now: Option<Instant>,
}

/// An entry, and when it ends.
#[derive(Clone, Debug)]
struct Held {
    entry: Entry,
    expires: Option<Instant>,
}

impl Store {
    /// An empty store. The epoch must be one that no store before it had.
    pub fn new(epoch: Epoch, limits: Limits) -> Self {
        Self {
            limits,
            epoch,
            revision: Revision::ZERO,
            map: BTreeMap::new(),
            bytes: 0,
            expiring: BTreeSet::new(),
            leases: Leases::new(epoch),
            clients: Clients::default(),
            commits: VecDeque::new(),
            now: None,
        }
    }

    // Getters.

    /// The last revision, and the epoch.
    pub const fn cursor(&self) -> Cursor {
        Cursor::new(self.epoch, self.revision)
    }

    /// The limits.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What is under the key, as of the time of the last call.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<&Entry> {
        self.map.get(key.as_ref()).map(|held| &held.entry)
    }

    /// All of these keys, in order, and what is under them.
    pub fn range<'a>(&'a self, range: &'a KeyRange) -> impl Iterator<Item = (&'a Key, &'a Entry)> {
        let found = range.bounds().map(|bounds| self.map.range::<[u8], _>(bounds));
        let found = found.into_iter().flatten();
        found.take_while(|(key, _)| range.contains(key)).map(|(key, held)| (key, &held.entry))
    }

    /// The keys after this one, in order: for reading all in several turns.
    pub(crate) fn after(&self, key: Option<&Key>) -> impl Iterator<Item = (&Key, &Entry)> {
        let from = key.map_or(Bound::Unbounded, |key| Bound::Excluded(&**key));
        let found = self.map.range::<[u8], _>((from, Bound::Unbounded));
        found.map(|(key, held)| (key, &held.entry))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Bytes of all keys and values.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many leases there are.
    pub fn leases(&self) -> usize {
        self.leases.len()
    }

    // Verbs and inputs.

    /// Carries out the command of that client. What expired by now is gone before it looks.
    ///
    /// # Errors
    /// Why it was refused; then the command changed nothing.
    pub fn execute(
        &mut self,
        client: ClientId,
        command: Command,
        now: Instant,
    ) -> Result<Answer, CommandError> {
        let now = self.advance(now);
        self.expire(now);
        draft::check(&command, &self.limits)?;
        let outcome = match command {
            Command::Apply { when, operation } => self.apply(client, when, operation, now)?,
            Command::Transact(transaction) => self.transact(client, transaction, now)?,
            Command::Grant { ttl } => {
                Outcome::Granted(self.leases.grant(client, ttl, now, self.limits.leases)?)
            }
            Command::KeepAlive { lease } => {
                self.leases.keep_alive(client, lease, now)?;
                Outcome::KeptAlive
            }
            Command::Revoke { lease } => {
                self.leases.check(client, lease)?;
                Outcome::Revoked { keys: self.revoke([lease], Changes::default()) }
            }
        };
        Ok(Answer { revision: self.revision, outcome })
    }

    /// Carries out a request of that client, once: if it comes again, the answer is that of the first time.
    /// Answers of requests below `acknowledged` are forgotten.
    ///
    /// # Errors
    /// [`Misbehaviour`], if the client does not keep to the rules: the number must be higher than all before or
    /// one that is remembered, and no more than [`Limits::requests`] may be unacknowledged. Then nothing
    /// changed, and the client should be cut off. Within, as [`execute`](Self::execute).
    pub fn handle_request(
        &mut self,
        client: ClientId,
        number: u64,
        acknowledged: u64,
        command: Command,
        now: Instant,
    ) -> Result<Result<Answer, CommandError>, Misbehaviour> {
        if let Some(answer) = self.clients.admit(client, number, acknowledged, &self.limits)? {
            return Ok(answer);
        }
        let answer = self.execute(client, command, now);
        self.clients.remember(client, number, answer.clone(), &self.limits);
        Ok(answer)
    }

    /// Answers a request with an error, without carrying it out; remembered all the same.
    pub(crate) fn refuse_request(
        &mut self,
        client: ClientId,
        number: u64,
        acknowledged: u64,
        error: CommandError,
    ) -> Result<Result<Answer, CommandError>, Misbehaviour> {
        if let Some(answer) = self.clients.admit(client, number, acknowledged, &self.limits)? {
            return Ok(answer);
        }
        self.clients.remember(client, number, Err(error.clone()), &self.limits);
        Ok(Err(error))
    }

    /// Makes a client known, so that its requests are remembered; whether it was already.
    pub(crate) fn welcome(&mut self, client: ClientId) -> bool {
        self.clients.welcome(client)
    }

    /// A client is gone for good (its process exited): its leases end, and all their keys vanish in one
    /// revision; what it asked for is forgotten. It must not come back under the same incarnation.
    pub fn handle_owner_gone(&mut self, client: ClientId, now: Instant) {
        let now = self.advance(now);
        self.expire(now);
        self.clients.forget(client);
        let mut leases = self.leases.of(client);
        leases.retain(|_| !faults::is(Fault::LeaseOutlivesOwner));
        self.revoke(leases, Changes::default());
    }

    /// Deletes what is due: keys whose time to live is over, and those of leases that were not kept alive.
    /// All that is due at once goes in one revision.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.advance(now);
        self.expire(now);
    }

    // Polls.

    /// The next commit, in order.
    pub fn poll_commit(&mut self) -> Option<Arc<Commit>> {
        self.commits.pop_front()
    }

    /// When something expires next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let keys = self.expiring.first().map(|(at, _)| *at);
        [keys, self.leases.next_expiry()].into_iter().flatten().min()
    }

    // What they do.

    fn advance(&mut self, now: Instant) -> Instant {
        let now = self.now.map_or(now, |latest| latest.max(now));
        self.now = Some(now);
        now
    }

    fn expire(&mut self, now: Instant) {
        let mut changes = Changes::default();
        for (_, key) in self.expiring.iter().take_while(|(at, _)| *at <= now) {
            changes.insert(key.clone(), Altered { held: None, kind: ChangeKind::Expired });
        }
        let leases = self.leases.expired(now);
        if !changes.is_empty() || !leases.is_empty() {
            self.revoke(leases, changes);
        }
    }

    /// Ends the leases; their keys go in one revision, together with what changes otherwise. Returns how many
    /// keys that were.
    fn revoke(&mut self, leases: impl IntoIterator<Item = crate::LeaseId>, mut changes: Changes) -> u64 {
        for lease in leases {
            for key in self.leases.end(lease) {
                if changes.get(&key).is_none() {
                    changes.insert(key, Altered { held: None, kind: ChangeKind::LeaseGone });
                }
            }
        }
        let keys = changes.len() as u64;
        self.commit(changes);
        keys
    }

    fn apply(
        &mut self,
        client: ClientId,
        when: Option<Compare>,
        operation: Operation,
        now: Instant,
    ) -> Result<Outcome, CommandError> {
        if let Some(conflict) = when.and_then(|when| self.conflict(&when)) {
            let returned = conflict.entry.as_ref().map_or(0, |entry| entry.value.len());
            draft::check_answer(returned, &self.limits)?;
            return Ok(Outcome::Conflict(conflict));
        }
        let mut draft = self.draft(client, now);
        let outcome = draft.apply(operation)?;
        let changes = draft.finish(&outcome)?;
        self.commit(changes);
        Ok(outcome)
    }

    fn transact(
        &mut self,
        client: ClientId,
        transaction: Transaction,
        now: Instant,
    ) -> Result<Outcome, CommandError> {
        let conflict = transaction.when.iter().find_map(|compare| self.conflict(compare));
        let branch = if conflict.is_none() { transaction.then } else { transaction.otherwise };
        let mut draft = self.draft(client, now);
        let outcomes =
            branch.into_iter().map(|operation| draft.apply(operation)).collect::<Result<_, _>>()?;
        let outcome = Outcome::Transaction(TransactionOutcome { conflict, outcomes });
        let changes = draft.finish(&outcome)?;
        self.commit(changes);
        Ok(outcome)
    }

    fn draft(&self, client: ClientId, now: Instant) -> Draft<'_> {
        Draft::new(self, client, now)
    }

    /// Why the condition does not hold, if it does not.
    fn conflict(&self, compare: &Compare) -> Option<Conflict> {
        let entry = self.map.get(&compare.key).map(|held| &held.entry);
        let holds = match (&compare.condition, entry) {
            (Condition::Absent, entry) => entry.is_none(),
            (_, None) => false,
            (Condition::Present, Some(_)) => true,
            (Condition::Value(value), Some(entry)) => entry.value == *value,
            (Condition::Modified(revision), Some(entry)) => entry.modified == *revision,
            (Condition::ModifiedBefore(revision), Some(entry)) => entry.modified < *revision,
            (Condition::ModifiedAfter(revision), Some(entry)) => entry.modified > *revision,
            (Condition::Lease(lease), Some(entry)) => entry.lease == Some(*lease),
            (Condition::Owner(owner), Some(entry)) => {
                entry.lease.is_some_and(|lease| self.leases.owner(lease) == Some(*owner))
            }
        };
        (!holds).then(|| Conflict { key: compare.key.clone(), entry: entry.cloned() })
    }

    /// What changed becomes the next revision; if nothing did, there is none. Nothing here can fail.
    fn commit(&mut self, changes: Changes) {
        let revision = self.revision.next();
        let mut committed = Vec::with_capacity(changes.len());
        for (key, Altered { held, kind }) in changes {
            let entry = held.as_ref().map(|held| held.entry.clone());
            let previous = self.replace(&key, held);
            if entry.is_some() || previous.is_some() {
                committed.push(Change { key, kind, entry, previous });
            }
        }
        if !committed.is_empty() {
            self.revision = revision;
            self.commits.push_back(Arc::new(Commit { revision, changes: committed }));
        }
    }

    /// Puts this in the place of what is there, and keeps all that is counted or looked up beside it.
    fn replace(&mut self, key: &Key, held: Option<Held>) -> Option<Entry> {
        if let Some(held) = &held {
            self.bytes += entry::size(key, &held.entry);
            if let Some(at) = held.expires {
                self.expiring.insert((at, key.clone()));
            }
        }
        let (lease, expires) = held.as_ref().map_or((None, None), |it| (it.entry.lease, it.expires));
        let previous = match held {
            Some(held) => self.map.insert(key.clone(), held),
            None => self.map.remove(key),
        };
        if let Some(previous) = &previous {
            self.bytes -= entry::size(key, &previous.entry);
            if let Some(at) =
                previous.expires.filter(|at| Some(*at) != expires && !faults::is(Fault::TtlSurvives))
            {
                self.expiring.remove(&(at, key.clone()));
            }
        }
        let previous = previous.map(|held| held.entry);
        self.leases.moved(key, previous.as_ref().and_then(|entry| entry.lease), lease);
        previous
    }
}

impl View for Store {
    fn get(&self, key: &[u8]) -> Option<Entry> {
        self.map.get(key).map(|held| held.entry.clone())
    }

    fn visit(&self, range: &KeyRange, visit: &mut dyn FnMut(&Key, &Entry) -> bool) {
        for (key, entry) in self.range(range) {
            if !visit(key, entry) {
                return;
            }
        }
    }
}
