//! A replica, as those see it who read, write and watch.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use thiserror::Error;

use super::follower::Follower;
use super::garbage::Disposal;
use super::node::{Completion, Node, Requested};
use super::watch::Watching;
use crate::map::{Held, Reader, View, Writer};
use crate::{
    Answer, ClientId, Command, Condition, Conflict, Cursor, Entry, Full, Increment, Key, KeyRange, LeaseId,
    Outcome, Put, Replica, ReplicaConfig, RequestError, RequestId, Revision, TooManyWatchers, Transaction,
    TransactionOutcome, Watch,
};

/// A replica of the shared state: reads are local, writes go to the primary. Cheap to clone; for any thread.
///
/// # What is promised
///
/// - A read never waits and never sees a part of a transaction. What a thread has seen it never sees older.
/// - Whoever was told that his write was done reads it, at once, from any handle of this replica.
/// - A write is carried out at most once. If the primary is lost before it answered, whoever wrote is told that it is
///   [in doubt](RequestError::InDoubt). Dropping the future of a write that was not sent yet takes it back.
///
/// # Read levels
///
/// [`get`](Self::get) and [`view`](Self::view) are local: as of a moment ago. Where the primary broadcasts
/// ([`Follower::follow_listening`]; workers of a cluster have that) they take in first what was broadcast until then: so they see what
/// was acknowledged to anybody before. Not so while another thread of this process is using the replica for something else (a read waits
/// for nobody), while there is much to take in (64 commits or 64 KiB: the next read goes on), or while it joins or catches up by its link:
/// at the beginning, after it was stopped for long, after a commit too long for the broadcast. After [`at_least`](Self::at_least) they have all
/// that another replica had when its [`cursor`](Self::cursor) was taken; after [`sync`](Self::sync) all that was written anywhere
/// before it was called (linearizable).
///
/// ```
/// use cluster_shared_state::tokio::{Hub, SharedState, memory};
/// use cluster_shared_state::{ClientId, Epoch, PublisherConfig, ReplicaConfig};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hub = Hub::new(Epoch::new(1), PublisherConfig::new());
/// let (here, there) = memory();
/// let anna = ClientId::new(0, 1);
/// let primary = hub.clone();
/// tokio::spawn(async move { primary.serve(anna, there).await });
///
/// let (state, mut follower) = SharedState::new(anna, ReplicaConfig::new());
/// tokio::spawn(async move { follower.follow(here).await });
///
/// state.set("greeting", "hello").await?;
/// assert_eq!(state.get("greeting").expect("it was set").value, "hello");
/// assert_eq!(state.increment("visits", 1).await?, 1);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SharedState {
    node: Arc<Node>,
    reader: Reader,
}

/// Why something could not be done.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum StateError {
    /// The primary refused it, or was lost.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A condition did not hold: nothing changed.
    #[error("the condition does not hold: {0}")]
    Conflict(Box<Conflict>),
    /// The replica follows no primary any more, for good. What was asked was not carried out.
    #[error("the replica follows no primary any more: nothing was changed")]
    Gone,
    /// There are as many watchers as there may be.
    #[error(transparent)]
    TooManyWatchers(#[from] TooManyWatchers),
}

impl SharedState {
    /// A replica that follows nobody yet, and who drives it. The incarnation of the client must be one that it never had.
    pub fn new(client: ClientId, config: ReplicaConfig) -> (Self, Follower) {
        let (mut writer, reader) = Writer::new();
        let disposal = Disposal::default();
        writer.on_garbage(move |garbage| disposal.free(garbage));
        let node = Arc::new(Node::new(Replica::new(client, config, writer)));
        (Self { node: Arc::clone(&node), reader }, Follower::new(node))
    }

    // Reads.

    /// What is under the key, as of a moment ago.
    #[inline]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Held> {
        let key = key.as_ref();
        self.reader.get_newest(key).unwrap_or_else(|| {
            self.node.catch_up();
            self.reader.get(key)
        })
    }

    /// The whole state, as it was at one revision: for reads that have to fit together, and for going through it.
    pub fn view(&self) -> View {
        let view = self.reader.view();
        if !view.is_outdated() {
            return view;
        }
        self.node.catch_up();
        self.reader.view()
    }

    /// The whole state as JSON, for people (see [`dump`](crate::dump)).
    #[cfg(feature = "json")]
    pub fn to_json(&self) -> String {
        let view = self.view();
        crate::dump::to_json(view.cursor(), view.iter().map(|(key, entry)| (key, &**entry)))
    }

    /// What the state is as of; `None` before there is a whole one.
    pub fn cursor(&self) -> Option<Cursor> {
        self.node.catch_up();
        self.node.cursor()
    }

    /// Whether the state is whole and every write comes in as it happens.
    pub fn is_live(&self) -> bool {
        self.node.is_live()
    }

    /// Waits until the state is whole and every write comes in as it happens.
    ///
    /// # Errors
    ///
    /// [`StateError::Gone`].
    pub async fn live(&self) -> Result<(), StateError> {
        loop {
            // First, so that it hears of all that happens after we looked.
            let turned = self.node.turned.notified();
            if self.node.is_gone() {
                return Err(StateError::Gone);
            }
            if self.node.is_live() {
                return Ok(());
            }
            turned.await;
        }
    }

    /// Waits until the state has all that was written, anywhere, before this was called: then read. One round trip.
    ///
    /// # Errors
    ///
    /// [`StateError::Request`], [`StateError::Gone`].
    pub async fn sync(&self) -> Result<Revision, StateError> {
        let answer = self.request(Node::sync).await?;
        Ok(answer.revision)
    }

    /// Waits until the state is as of that or later.
    ///
    /// # Errors
    ///
    /// [`StateError::Request`] if the cursor is of an epoch that is no more; [`StateError::Gone`].
    pub async fn at_least(&self, cursor: Cursor) -> Result<(), StateError> {
        self.request(|node| node.at_least(cursor)).await.map(drop)
    }

    // Writes.

    /// Hands a command to the primary, at once: commands go in the order in which they were handed over. Await what comes of it,
    /// now or later; dropping that takes back what was not sent.
    ///
    /// # Errors
    ///
    /// Gives the command back, if too many have no completion yet: [`execute`](Self::execute) waits instead.
    pub fn submit(&self, command: impl Into<Command>) -> Result<Pending, Full> {
        self.node.submit(command.into()).map(|request| self.pending(request))
    }

    /// Has the primary carry out a command, and waits for what came of it.
    ///
    /// # Errors
    ///
    /// [`StateError::Request`], [`StateError::Gone`].
    pub async fn execute(&self, command: impl Into<Command>) -> Result<Answer, StateError> {
        let mut full = match self.node.submit(command.into()) {
            Ok(request) => return self.pending(request).await,
            Err(full) => full,
        };
        loop {
            // Those who are not in the queue yet are not told each of their own, so it is tried once more from there.
            let mut room = pin!(self.node.room.notified());
            room.as_mut().enable();
            let command = full.into_command().ok_or(StateError::Gone)?;
            full = match self.node.submit(command) {
                Ok(request) => return self.pending(request).await,
                Err(full) => full,
            };
            room.await;
        }
    }

    /// Puts a value under a key. Returns the revision of that.
    ///
    /// # Errors
    ///
    /// [`StateError::Request`], [`StateError::Gone`].
    pub async fn set(&self, key: impl Into<Key>, value: impl Into<Bytes>) -> Result<Revision, StateError> {
        Ok(self.execute(Put::new(key, value)).await?.revision)
    }

    /// Puts a value under a key and returns what was there before.
    ///
    /// # Errors
    ///
    /// [`StateError::Request`], [`StateError::Gone`].
    pub async fn get_and_set(
        &self,
        key: impl Into<Key>,
        value: impl Into<Bytes>,
    ) -> Result<Option<Entry>, StateError> {
        match self.execute(Put::new(key, value).returning_previous()).await?.outcome {
            Outcome::Put { previous } => Ok(previous),
            _ => Ok(None),
        }
    }

    /// Deletes a key. Says whether it was there.
    ///
    /// # Errors
    ///
    /// [`StateError::Request`], [`StateError::Gone`].
    pub async fn delete(&self, key: impl Into<Key>) -> Result<bool, StateError> {
        let answer = self.execute(Command::delete(key)).await?;
        Ok(matches!(answer.outcome, Outcome::Deleted { keys: 1.., .. }))
    }

    /// Deletes all of these keys, in one revision. Says how many there were.
    ///
    /// # Errors
    ///
    /// [`StateError::Request`], [`StateError::Gone`].
    pub async fn delete_range(&self, range: KeyRange) -> Result<u64, StateError> {
        match self.execute(Command::delete_range(range)).await?.outcome {
            Outcome::Deleted { keys, .. } => Ok(keys),
            _ => Ok(0),
        }
    }

    /// Puts a value under a key if a condition holds for what is there: its value, its revision, that nothing is there.
    ///
    /// # Errors
    ///
    /// [`StateError::Conflict`] with what is there instead; [`StateError::Request`], [`StateError::Gone`].
    pub async fn compare_and_set(
        &self,
        key: impl Into<Key>,
        condition: Condition,
        value: impl Into<Bytes>,
    ) -> Result<Revision, StateError> {
        let answer = self.execute(Put::new(key, value).when(condition)).await?;
        match answer.outcome {
            Outcome::Conflict(conflict) => Err(StateError::Conflict(Box::new(conflict))),
            _ => Ok(answer.revision),
        }
    }

    /// Adds to a number; a key that is not there counts as zero. Returns what it is now.
    ///
    /// # Errors
    ///
    /// [`StateError::Request`] (not a number, an overflow, or in doubt), [`StateError::Gone`].
    pub async fn increment(&self, key: impl Into<Key>, by: i64) -> Result<i64, StateError> {
        match self.execute(Increment::new(key, by)).await?.outcome {
            Outcome::Number(number) => Ok(number),
            _ => Ok(0),
        }
    }

    /// Carries out a transaction: all of it or nothing, at one revision.
    ///
    /// # Errors
    ///
    /// [`StateError::Request`], [`StateError::Gone`]. That its conditions did not hold is no error: see the outcome.
    pub async fn transact(&self, transaction: Transaction) -> Result<Option<TransactionOutcome>, StateError> {
        match self.execute(transaction).await?.outcome {
            Outcome::Transaction(outcome) => Ok(Some(outcome)),
            _ => Ok(None),
        }
    }

    /// Grants a lease: what is put under it vanishes with this process, or when it is [revoked](Command::revoke). With a time to live it
    /// has to be [kept alive](Command::keep_alive).
    ///
    /// # Errors
    ///
    /// [`StateError::Request`], [`StateError::Gone`].
    pub async fn grant(&self, ttl: Option<std::time::Duration>) -> Result<LeaseId, StateError> {
        match self.execute(Command::grant(ttl)).await?.outcome {
            Outcome::Granted(lease) => Ok(lease),
            _ => Err(StateError::Gone),
        }
    }

    // Watches.

    /// Watches: a stream of what changes.
    ///
    /// # Errors
    ///
    /// [`StateError::TooManyWatchers`].
    pub fn watch(&self, watch: Watch) -> Result<Watching, StateError> {
        Ok(Watching::new(Arc::clone(&self.node), self.node.watch(watch)?))
    }

    async fn request(
        &self,
        request: impl Fn(&Node) -> Result<Requested, Full>,
    ) -> Result<Answer, StateError> {
        loop {
            let mut room = pin!(self.node.room.notified());
            room.as_mut().enable();
            match request(&self.node) {
                Ok(request) => return self.pending(request).await,
                Err(Full { .. }) => room.await,
            }
        }
    }

    fn pending(&self, (id, completion): Requested) -> Pending {
        Pending { node: Arc::clone(&self.node), id, completion }
    }
}

impl fmt::Debug for SharedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedState")
            .field("cursor", &self.cursor())
            .field("is_live", &self.is_live())
            .finish()
    }
}

/// What comes of a command. Dropping it takes the command back, if it was not sent yet.
#[derive(Debug)]
#[must_use = "dropping it takes the command back, if it was not sent yet"]
pub struct Pending {
    node: Arc<Node>,
    /// `None` if nobody will carry it out.
    id: Option<RequestId>,
    completion: Completion,
}

impl Future for Pending {
    type Output = Result<Answer, StateError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let completed = ready!(Pin::new(&mut self.completion).poll(cx));
        Poll::Ready(completed.map_err(|_| StateError::Gone)?.map_err(StateError::Request))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.node.cancel(id);
        }
    }
}
