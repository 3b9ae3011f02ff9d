//! A replica's side: a state that follows the primary's, and requests.
//!
//! | link \ input | connected | Welcome | other messages | disconnected | CutOff |
//! |--------------|-----------|---------|----------------|--------------|--------|
//! | Down         | Greeting  | -       | -              | -            | -      |
//! | Greeting     | Greeting  | Up      | error          | Down         | Closed |
//! | Up           | Greeting  | error   | see `following`| Down         | Closed |
//! | Closed       | Greeting  | -       | -              | Closed       | -      |

mod config;
mod event;
mod following;
mod requests;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::faults::{self, Fault};
use crate::protocol::{self, Join, Memory, ToPrimary, ToReplica};
use crate::{
    Answer, ClientId, Command, Cursor, Entry, Epoch, Key, Misbehaviour, Notice, ProtocolError, RequestError,
    Revision, State, TooManyWatchers, Watch, WatchId, Watchers,
};
pub use config::ReplicaConfig;
pub use event::ReplicaEvent;
use requests::Requests;
pub use requests::{Cancelled, Full, RequestId};

/// Events that are kept for who does not poll them; the oldest go first.
const EVENTS: usize = 1024;

/// A replica of the primary's map: follows it in order, and hands commands to it.
///
/// A driver tells it what happens to its connection ([`handle_connected`](Self::handle_connected),
/// [`handle_message`](Self::handle_message), [`handle_disconnected`](Self::handle_disconnected)), sends what
/// [`poll_transmit`](Self::poll_transmit) returns, and hands on completions, events and notices.
///
/// # What is promised
///
/// - The state is always that of the primary as of some revision, and never goes back (but for a new epoch,
///   which is told: [`ReplicaEvent::NewEpoch`]). While a snapshot comes in, it stays as it was, and changes in
///   one step at its end.
/// - When a request completes, the state holds what it wrote.
/// - A request is carried out at most once, also over reconnections. If the primary was replaced by one that
///   knows nothing of it, it completes as [`RequestError::InDoubt`]; what was not sent yet is sent to the new one.
///
/// # Read levels
///
/// *Local*: read the [`state`](Self::state). *At least*: what another replica has seen, by its
/// [`cursor`](Self::cursor): [`is_applied`](Self::is_applied), or wait for [`at_least`](Self::at_least).
/// *Linearizable*: wait for [`sync`](Self::sync), then read.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::time::Instant;
/// use cluster_shared_state::{ClientId, Command, Epoch, Key, Entry, Publisher, PublisherConfig, Replica, ReplicaConfig};
///
/// let now = Instant::now();
/// let mut primary = Publisher::new(Epoch::new(1), PublisherConfig::new());
/// let client = ClientId::new(0, 1);
/// let mut replica = Replica::new(client, ReplicaConfig::new(), BTreeMap::<Key, Entry>::new());
///
/// primary.handle_connected(client);
/// replica.handle_connected();
/// let request = replica.submit(Command::put("greeting", "hello")).expect("it is the first");
///
/// // A driver's sockets; here, both ends are at hand.
/// let (answered, result) = loop {
///     while let Some(message) = replica.poll_transmit() {
///         primary.handle_message(client, &message, now);
///     }
///     while let Some(message) = primary.poll_transmit(client) {
///         replica.handle_message(message)?;
///     }
///     if let Some(completion) = replica.poll_completion() {
///         break completion;
///     }
/// };
/// assert_eq!(answered, request);
/// assert_eq!(result.expect("it was put").revision.get(), 1);
/// assert_eq!(replica.state()[&b"greeting"[..]].value, "hello");
/// # Ok::<_, cluster_shared_state::ProtocolError>(())
/// ```
#[derive(Debug)]
pub struct Replica<S> {
    client: ClientId,
    state: S,
    /// What the state is as of; `None` before the first.
    cursor: Option<Cursor>,
    link: Link,
    lane: Lane<S>,
    /// Whether this connection comes with a broadcast.
    listens: bool,
    /// The last revision that was heard on it. The lane may be behind that: what it says again is passed over.
    heard: Revision,
    /// What the primary was told: whether this has to be woken for what is broadcast.
    attends: bool,
    /// The epoch of the last Welcome: that in which requests were sent.
    session: Option<Epoch>,
    /// To be sent before anything else.
    control: VecDeque<Bytes>,
    requests: Requests,
    /// Answers that came before the state they belong to, in order.
    held: VecDeque<Held>,
    watchers: Watchers,
    events: VecDeque<ReplicaEvent>,
}

#[derive(Debug)]
enum Link {
    Down,
    Greeting,
    Up,
    Closed(Misbehaviour),
}

#[derive(Debug)]
enum Lane<S> {
    /// Deltas go to the state; live once the primary has said so.
    Following { is_live: bool, by: Source },
    /// Deltas and chunks go to a state apart.
    Staging { state: S, revision: Revision, entries: u64 },
    /// Waits for the beginning of a snapshot.
    Lost,
}

/// Where the next delta comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// With everything else that the primary sends.
    Lane,
    Broadcast,
    /// It was broadcast and missed; the lane will have it.
    Missed,
}

#[derive(Debug)]
struct Held {
    number: u64,
    at: Revision,
    result: Result<Answer, RequestError>,
}

impl<S: State> Replica<S> {
    /// Follows nobody yet. The state should be empty.
    ///
    /// The client's incarnation must be one that it never had before.
    pub fn new(client: ClientId, config: ReplicaConfig, state: S) -> Self {
        // Watchers that come before the first snapshot: it is a difference to them, from nothing.
        let nowhere = Cursor::new(Epoch::new(0), Revision::ZERO);
        Self {
            client,
            state,
            cursor: None,
            link: Link::Down,
            lane: Lane::Lost,
            listens: false,
            heard: Revision::ZERO,
            attends: false,
            session: None,
            control: VecDeque::new(),
            requests: Requests::new(config.requests),
            held: VecDeque::new(),
            watchers: Watchers::new(nowhere, config.watch),
            events: VecDeque::new(),
        }
    }

    // Getters.

    /// The state.
    pub const fn state(&self) -> &S {
        &self.state
    }

    /// The state, for one that has something to do of its own (publish what was put off, say).
    pub const fn state_mut(&mut self) -> &mut S {
        &mut self.state
    }

    /// What the state is as of: hand it to another replica, and there wait for it by
    /// [`at_least`](Self::at_least). `None` before there is a whole state.
    pub const fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// Whether the state is whole and every write comes in as it happens.
    pub const fn is_live(&self) -> bool {
        matches!((&self.link, &self.lane), (Link::Up, Lane::Following { is_live: true, .. }))
    }

    /// Why the primary does not talk to this replica any more, if it said so.
    pub const fn cut_off_for(&self) -> Option<&Misbehaviour> {
        match &self.link {
            Link::Closed(reason) => Some(reason),
            Link::Down | Link::Greeting | Link::Up => None,
        }
    }

    /// Whether the state is as of that or later, in the same epoch.
    pub fn is_applied(&self, cursor: Cursor) -> bool {
        self.cursor.is_some_and(|here| here.epoch == cursor.epoch && here.revision >= cursor.revision)
    }

    /// How many requests have no completion yet.
    pub fn outstanding(&self) -> usize {
        self.requests.len()
    }

    // Verbs.

    /// Asks the primary for that. It is sent when there is a connection.
    ///
    /// # Errors
    /// Gives the command back, if too many have no completion yet
    /// ([`ReplicaConfig::requests`]).
    pub fn submit(&mut self, command: impl Into<Command>) -> Result<RequestId, Full> {
        self.requests.submit(command.into())
    }

    /// Completes when the state has everything that was written before this call: then read it. One round
    /// trip.
    ///
    /// # Errors
    /// If too many requests have no completion yet.
    pub fn sync(&mut self) -> Result<RequestId, Full> {
        self.requests.sync()
    }

    /// Completes when the state is as of that or later. Of another epoch, it waits until that one comes, and
    /// completes as [`RequestError::NewEpoch`] if yet another does.
    ///
    /// # Errors
    /// If too many requests have no completion yet.
    pub fn at_least(&mut self, cursor: Cursor) -> Result<RequestId, Full> {
        let id = self.requests.wait(cursor)?;
        self.reached();
        Ok(id)
    }

    /// Wants the completion no longer. A request that was not sent will not be.
    pub fn cancel(&mut self, id: RequestId) -> Cancelled {
        self.requests.cancel(id)
    }

    /// Watches the state. Before there is one, it is empty: the first snapshot is told as a
    /// [`Notice::Resynchronised`] with all there is as the difference.
    ///
    /// # Errors
    /// If there are too many watchers.
    pub fn watch(&mut self, watch: Watch) -> Result<WatchId, TooManyWatchers> {
        self.watchers.watch(watch)
    }

    /// Watches no more.
    pub fn unwatch(&mut self, id: WatchId) {
        self.watchers.unwatch(id);
    }

    // Inputs.

    /// There is a connection to the primary. One that was there before is no more.
    pub fn handle_connected(&mut self) {
        self.handle_disconnected();
        self.link = Link::Greeting;
        let hello = ToPrimary::Hello { version: protocol::VERSION, client: self.client, cursor: self.cursor };
        self.control.push_back(protocol::encode(&hello));
    }

    /// What the primary broadcasts can be heard, for as long as there is this connection: ask
    /// [`poll_broadcast`](Self::poll_broadcast) what to listen for.
    pub const fn handle_listening(&mut self) {
        self.listens = true;
    }

    /// The connection ended. The state stays as it is, and can be read. Connect again at will.
    pub fn handle_disconnected(&mut self) {
        self.control.clear();
        self.lane = Lane::Lost;
        self.listens = false;
        self.heard = Revision::ZERO;
        self.attends = false;
        self.requests.handle_disconnected();
        // Their requests are sent again, and answered again.
        self.held.clear();
        if !matches!(self.link, Link::Closed(_)) {
            self.link = Link::Down;
        }
    }

    /// Nobody will connect it any more. Commands that were sent complete as [`RequestError::InDoubt`]; the others were not carried
    /// out, and do not complete.
    pub fn abandon(&mut self) {
        self.handle_disconnected();
        self.requests.abandon();
    }

    /// The primary sent that.
    ///
    /// # Errors
    /// If it makes no sense. The state is not touched; close the connection, say so by
    /// [`handle_disconnected`](Self::handle_disconnected), and connect again.
    pub fn handle_message(&mut self, message: Bytes) -> Result<(), ProtocolError> {
        let message = protocol::decode(&message).ok_or(ProtocolError::Garbage)?;
        match (&self.link, message) {
            (Link::Down | Link::Closed(_), _) => Ok(()),
            (_, ToReplica::CutOff { reason }) => {
                self.cut_off(reason);
                Ok(())
            }
            (Link::Greeting, ToReplica::Welcome { epoch, join, memory, window, command_bytes }) => {
                self.welcome(epoch, join, memory)?;
                self.requests.handle_connected(window, command_bytes);
                Ok(())
            }
            (Link::Greeting, _) => Err(ProtocolError::Unexpected { message: "something before Welcome" }),
            (Link::Up, message) => self.follow(message),
        }
    }

    /// This was broadcast as the revision that [`poll_broadcast`](Self::poll_broadcast) asked for.
    ///
    /// # Errors
    /// As [`handle_message`](Self::handle_message).
    pub fn handle_broadcast(&mut self, message: Bytes) -> Result<(), ProtocolError> {
        let Some(next) = self.poll_broadcast() else { return Ok(()) };
        match protocol::decode(&message).ok_or(ProtocolError::Garbage)? {
            ToReplica::Delta(commit) if commit.revision == next => {
                self.heard = next;
                self.apply(commit);
                Ok(())
            }
            _ => Err(ProtocolError::Unexpected { message: "another broadcast" }),
        }
    }

    /// What [`poll_broadcast`](Self::poll_broadcast) asked for was broadcast, and can't be had any more. The primary is asked to
    /// send it.
    pub fn handle_missed(&mut self) {
        let (Some(next), Some(here)) = (self.poll_broadcast(), self.cursor) else { return };
        self.lane = Lane::Following { is_live: false, by: Source::Missed };
        if !faults::is(Fault::MissedInSilence) {
            self.control.push_back(protocol::encode(&ToPrimary::Missed { after: here.revision }));
        }
        self.tell(ReplicaEvent::Missed { next });
    }

    // Polls.

    /// Which revision it takes from the broadcast next, if it does: when that was said, call
    /// [`handle_broadcast`](Self::handle_broadcast), or [`handle_missed`](Self::handle_missed) if it was not heard.
    ///
    /// Ask after each message, and when something was broadcast.
    pub fn poll_broadcast(&self) -> Option<Revision> {
        match (&self.lane, self.cursor) {
            (Lane::Following { by: Source::Broadcast, .. }, Some(here)) => Some(here.revision.next()),
            _ => None,
        }
    }

    /// The next message to the primary. Take it only if it can be sent. Commands that the primary would not take for their length
    /// complete meanwhile.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        if let Some(message) = self.control.pop_front() {
            return Some(message);
        }
        match self.link {
            Link::Up => self.poll_attend().or_else(|| self.requests.poll_transmit()),
            Link::Down | Link::Greeting | Link::Closed(_) => None,
        }
    }

    /// What came of a request.
    pub fn poll_completion(&mut self) -> Option<(RequestId, Result<Answer, RequestError>)> {
        self.requests.poll_completion()
    }

    /// What happened. At most 1,024 wait; the oldest go first.
    pub fn poll_event(&mut self) -> Option<ReplicaEvent> {
        self.events.pop_front()
    }

    /// A watcher that has something to be told.
    pub fn poll_ready(&mut self) -> Option<WatchId> {
        self.watchers.poll_ready()
    }

    /// What that watcher is told next. Before there is a whole state, nobody is told anything.
    pub fn poll_notice(&mut self, id: WatchId) -> Option<Notice> {
        self.cursor?;
        self.watchers.next(id, &self.state)
    }

    // What they do.

    fn welcome(&mut self, epoch: Epoch, join: Join, memory: Memory) -> Result<(), ProtocolError> {
        let resumes = join == Join::Resume;
        if resumes
            && self.cursor.is_none_or(|cursor| cursor.epoch != epoch && !faults::is(Fault::NoEpochCheck))
        {
            return Err(ProtocolError::Unexpected { message: "a resumption of what was not there" });
        }
        // Only who remembers can tell a repeated request from a new one.
        if self.session != Some(epoch) || memory == Memory::Unknown {
            self.requests.doubt();
        }
        self.session = Some(epoch);
        self.link = Link::Up;
        self.lane = if resumes { Lane::Following { is_live: false, by: Source::Lane } } else { Lane::Lost };
        self.tell(ReplicaEvent::Welcomed { epoch, join });
        Ok(())
    }

    /// What the primary has to know of who waits here.
    fn poll_attend(&mut self) -> Option<Bytes> {
        let wanted = !self.watchers.is_empty() || !self.held.is_empty() || self.requests.has_waiting();
        if wanted == self.attends || self.poll_broadcast().is_none() {
            return None;
        }
        self.attends = wanted;
        Some(protocol::encode(&ToPrimary::Attend { wanted }))
    }

    fn cut_off(&mut self, reason: Misbehaviour) {
        self.handle_disconnected();
        self.requests.cut_off(&reason);
        self.tell(ReplicaEvent::CutOff { reason: reason.clone() });
        self.link = Link::Closed(reason);
    }

    fn tell(&mut self, event: ReplicaEvent) {
        if self.events.len() >= EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

/// The plain replica: for one thread, with nothing but the standard library.
pub type PlainReplica = Replica<BTreeMap<Key, Entry>>;
