//! Who handles what, by name, in one process.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use super::{Letter, Peer};
use crate::Error;
use crate::codec::decode_borrowed;
use crate::events::{Answer, Event};
use crate::session::Failure;

/// What may wait for handlers that are not there: letters of all names, bytes of them unless it is one alone, and descriptors.
const HELD: usize = 64;
const HELD_BYTES: usize = 4 << 20;
const HELD_DESCRIPTORS: usize = 256;

/// Letters that may wait for a handler that is busy; then its process reads no more.
pub(super) const QUEUE: usize = 256;

/// A letter that has not been read.
#[derive(Debug)]
pub(super) struct Sealed<K> {
    pub(super) from: Peer<K>,
    pub(super) sent_at: SystemTime,
    /// The name, and the message.
    pub(super) body: Bytes,
    pub(super) descriptors: Vec<OwnedFd>,
}

impl<K> Sealed<K> {
    fn name(&self) -> Option<&str> {
        postcard::take_from_bytes::<&str>(&self.body).ok().map(|(name, _)| name)
    }

    pub(super) fn read<E: Event>(self) -> Result<Letter<E, K>, Error> {
        let (_, message) = postcard::take_from_bytes::<&str>(&self.body)
            .map_err(|error| Error::Decode { reason: error.to_string() })?;
        let message = decode_borrowed(message)?;
        Ok(Letter { from: self.from, sent_at: self.sent_at, message, descriptors: self.descriptors })
    }
}

/// An answer on its way.
pub(super) type Pending = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Begins to answer a call.
pub(super) type Answerer<K> = Arc<dyn Fn(Sealed<K>) -> Result<Pending, Failure> + Send + Sync>;

/// The handlers of a process, and the letters that wait for theirs.
pub(super) struct Mailbox<K> {
    state: Mutex<State<K>>,
    /// Rung when there is one handler of calls more, or there will be none.
    changed: Notify,
}

struct State<K> {
    queues: HashMap<&'static str, mpsc::Sender<Sealed<K>>>,
    answerers: HashMap<&'static str, Answerer<K>>,
    held: VecDeque<Sealed<K>>,
    settled: bool,
    lost: u64,
}

impl<K> State<K> {
    /// Keeps a letter for a handler to come, instead of the oldest ones if there are too many.
    fn hold(&mut self, letter: Sealed<K>) {
        let descriptors = |letter: &Sealed<K>| letter.descriptors.len();
        while !self.held.is_empty()
            && (self.held.len() >= HELD
                || self.held.iter().map(|held| held.body.len()).sum::<usize>() + letter.body.len()
                    > HELD_BYTES
                || self.held.iter().map(descriptors).sum::<usize>() + descriptors(&letter) > HELD_DESCRIPTORS)
        {
            self.held.pop_front();
            self.lost += 1;
        }
        self.held.push_back(letter);
    }
}

impl<K> std::fmt::Debug for Mailbox<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.lock();
        let names: Vec<_> = state.queues.keys().chain(state.answerers.keys()).collect();
        f.debug_struct("Mailbox").field("names", &names).finish_non_exhaustive()
    }
}

impl<K> Default for Mailbox<K> {
    fn default() -> Self {
        let state = State {
            queues: HashMap::new(),
            answerers: HashMap::new(),
            held: VecDeque::new(),
            settled: false,
            lost: 0,
        };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }
}

impl<K> Mailbox<K> {
    /// A panic elsewhere leaves the state whole: nothing in here calls out while it is being changed.
    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings letters of this name here from now on, those first that have waited for it.
    pub(super) fn open(&self, name: &'static str) -> mpsc::Receiver<Sealed<K>> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut state = self.lock();
        for letter in std::mem::take(&mut state.held) {
            if letter.name() == Some(name) {
                // There is room for more than may wait.
                drop(sender.try_send(letter));
            } else {
                state.held.push_back(letter);
            }
        }
        state.queues.insert(name, sender);
        receiver
    }

    /// Has calls of this name answered so from now on.
    pub(super) fn answer(&self, name: &'static str, answerer: Answerer<K>) {
        self.lock().answerers.insert(name, answerer);
        self.changed.notify_waiters();
    }

    /// From now on calls that nobody answers are refused at once.
    pub(super) fn settle(&self) {
        self.lock().settled = true;
        self.changed.notify_waiters();
    }

    /// Counts a letter that could not be read.
    pub(super) fn lose(&self) {
        self.lock().lost += 1;
    }

    pub(super) fn lost(&self) -> u64 {
        self.lock().lost
    }

    /// Brings a letter to its handler, waiting while that one has too many. Without one it waits here.
    pub(super) async fn deliver(&self, letter: Sealed<K>) {
        let queue = letter.name().and_then(|name| self.lock().queues.get(name).cloned());
        let letter = match queue {
            Some(queue) => match queue.send(letter).await {
                Ok(()) => return,
                // Whoever had taken it up has dropped it: another may.
                Err(mpsc::error::SendError(letter)) => letter,
            },
            None => letter,
        };
        let mut state = self.lock();
        // One may have been opened meanwhile. It is empty or nearly so.
        let letter =
            match letter.name().and_then(|name| state.queues.get(name)).map(|queue| queue.try_reserve()) {
                Some(Ok(place)) => return place.send(letter),
                _ => letter,
            };
        state.hold(letter);
    }

    /// The receiver of this name's letters takes no more of them: those that wait in it wait for another from now on.
    pub(super) fn close(&self, name: &'static str, receiver: &mut mpsc::Receiver<Sealed<K>>) {
        let mut state = self.lock();
        receiver.close();
        // Otherwise somebody else has the name, and letters that are newer.
        let is_last = state.queues.get(name).is_none_or(mpsc::Sender::is_closed);
        while let Ok(letter) = receiver.try_recv() {
            if is_last { state.hold(letter) } else { state.lost += 1 }
        }
    }

    /// Answers a call. Until it is settled that there is no handler it waits for one.
    pub(super) async fn call(&self, call: Sealed<K>) -> Answer {
        let answerer = loop {
            let changed = self.changed.notified();
            {
                let state = self.lock();
                let name = call.name().ok_or_else(nameless)?;
                match state.answerers.get(name) {
                    Some(answerer) => break Arc::clone(answerer),
                    None if state.settled => return Err(Failure::Unhandled),
                    None => {}
                }
            }
            changed.await;
        };
        answerer(call)?.await
    }
}

fn nameless() -> Failure {
    Failure::Undecodable { reason: "it has no name".to_owned() }
}
