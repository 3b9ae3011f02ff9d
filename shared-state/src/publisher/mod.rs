//! The primary's side: the store, and everyone who follows it.

mod broadcast;
mod config;
mod event;
mod feed;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;

use crate::faults::{self, Fault};
use crate::protocol::{self, Join, Memory, ToPrimary, ToReplica};
use crate::{
    Answer, ClientId, Command, CommandError, Cursor, Epoch, History, Misbehaviour, Notice, Revision, Store,
    TooManyWatchers, Watch, WatchId, Watchers,
};
use broadcast::Broadcast;
pub use config::PublisherConfig;
pub use event::{PublisherEvent, Sent};
use feed::{Feed, Phase, Reply};

/// Events that are kept for who does not poll them; the oldest go first.
const EVENTS: usize = 1024;

/// The primary: its [`Store`], one feed for each replica, and watchers of its own.
///
/// A driver tells it who is connected and what they send, and takes from it what is to be sent:
///
/// - [`handle_connected`](Self::handle_connected), [`handle_message`](Self::handle_message),
///   [`handle_disconnected`](Self::handle_disconnected): a connection begins, speaks, ends. The client may come
///   back, and goes on where it was.
/// - [`handle_gone`](Self::handle_gone): the client is gone for good. Its leases end.
/// - After any of them, and whenever a transport has room: [`poll_transmit`](Self::poll_transmit) for each
///   replica. **Call it only when the message can be sent**: what is not polled costs no memory, and so a slow
///   replica holds up nobody.
/// - [`poll_event`](Self::poll_event), [`poll_ready`](Self::poll_ready), [`poll_timeout`](Self::poll_timeout).
/// - If some replicas can hear a broadcast ([`handle_listening`](Self::handle_listening)):
///   [`poll_broadcast`](Self::poll_broadcast), before it polls what each is sent, and [`poll_bell`](Self::poll_bell).
///
/// # What a replica is sent
///
/// One lane, in order. Each commit is encoded once; a feed is a place in the [`History`], so a reply is sent
/// when all deltas up to the revision at which it was given have been: **whoever reads an answer already has
/// what it wrote**. Who listens gets deltas from the broadcast instead, once he is up to date, and himself holds an answer
/// back until he has heard what belongs before it. A replica whose place is no longer in the history gets a snapshot, in chunks that are made
/// when they are sent; other replicas don't notice.
#[derive(Debug)]
pub struct Publisher {
    config: PublisherConfig,
    store: Store,
    history: History,
    watchers: Watchers,
    feeds: BTreeMap<ClientId, Feed>,
    broadcast: Broadcast,
    events: VecDeque<PublisherEvent>,
}

impl Publisher {
    /// With an empty store. The epoch must be one that no primary before it had.
    pub fn new(epoch: Epoch, config: PublisherConfig) -> Self {
        let store = Store::new(epoch, config.limits);
        Self {
            history: History::new(Revision::ZERO, config.history_entries, config.history_bytes),
            watchers: Watchers::new(store.cursor(), config.watch),
            store,
            feeds: BTreeMap::new(),
            broadcast: Broadcast::new(),
            events: VecDeque::new(),
            config,
        }
    }

    // Getters.

    /// The map.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The last commits.
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// The last revision, and the epoch.
    pub const fn cursor(&self) -> Cursor {
        self.store.cursor()
    }

    /// Who is connected, and has not been cut off.
    pub fn replicas(&self) -> impl Iterator<Item = ClientId> {
        self.feeds.iter().filter(|(_, feed)| !feed.is_cut_off()).map(|(client, _)| *client)
    }

    /// Whether the replica was sent a whole state, and everything since or some of it.
    pub fn is_live(&self, client: ClientId) -> bool {
        self.feeds.get(&client).is_some_and(|feed| matches!(feed.phase, Phase::Live | Phase::Tuned))
    }

    /// Whether the replica takes what is committed from the broadcast.
    pub fn is_tuned(&self, client: ClientId) -> bool {
        self.feeds.get(&client).is_some_and(|feed| matches!(feed.phase, Phase::Tuned))
    }

    // Verbs: what the primary itself wants.

    /// Carries out a command of the primary itself.
    ///
    /// # Errors
    /// Why it was refused; then the command changed nothing.
    pub fn execute(&mut self, command: impl Into<Command>, now: Instant) -> Result<Answer, CommandError> {
        let answer = self.store.execute(ClientId::PRIMARY, command.into(), now);
        self.publish();
        answer
    }

    /// Watches the store, on this side.
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

    /// That client has connected, for the first time or again. Who it is, the driver says: it knows who is at
    /// the other end. A connection that it had before is no more.
    pub fn handle_connected(&mut self, client: ClientId) {
        self.feeds.insert(client, Feed::default());
    }

    /// The client that has just connected hears what is broadcast: what [`poll_broadcast`](Self::poll_broadcast) returns, the newest
    /// of it at any time, but perhaps not all.
    pub fn handle_listening(&mut self, client: ClientId) {
        if let Some(feed) = self.feeds.get_mut(&client) {
            feed.listens = true;
        }
    }

    /// The client's connection sent that. What is no message, or must not be said, cuts it off: see
    /// [`PublisherEvent::CutOff`].
    pub fn handle_message(&mut self, client: ClientId, message: &[u8], now: Instant) {
        let Some(feed) = self.feeds.get(&client).filter(|feed| !feed.is_cut_off()) else { return };
        let is_greeted = !matches!(feed.phase, Phase::Hello);
        let handled = match protocol::decode(message) {
            None => Err(Misbehaviour::Garbage),
            Some(ToPrimary::Hello { .. }) if is_greeted => Err(Misbehaviour::HelloTwice),
            Some(ToPrimary::Hello { version, client: name, cursor }) => {
                self.hello(client, version, name, cursor)
            }
            Some(_) if !is_greeted => Err(Misbehaviour::NoHello),
            Some(ToPrimary::Request { number, acknowledged, command }) => {
                self.request(client, number, acknowledged, command, now)
            }
            Some(ToPrimary::Sync { number }) => self.sync(client, number),
            Some(ToPrimary::Resync) => {
                self.resync(client);
                Ok(())
            }
            Some(ToPrimary::Attend { wanted }) => {
                if let Some(feed) = self.feeds.get_mut(&client) {
                    feed.attends = wanted;
                }
                Ok(())
            }
            Some(ToPrimary::Missed { after }) => self.missed(client, after),
        };
        // Also after a refusal: something may have expired.
        self.publish();
        if let Err(reason) = handled {
            self.cut_off(client, reason);
        }
    }

    /// The client's connection ended. It may come back: its leases and the answers it has not acknowledged
    /// are kept.
    pub fn handle_disconnected(&mut self, client: ClientId) {
        self.feeds.remove(&client);
    }

    /// The client is gone for good, its process has exited: its leases end, in one revision, and what it
    /// asked for is forgotten. It never comes back under this incarnation.
    pub fn handle_gone(&mut self, client: ClientId, now: Instant) {
        self.feeds.remove(&client);
        self.store.handle_owner_gone(client, now);
        self.publish();
    }

    /// Deletes what has expired.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.store.handle_timeout(now);
        self.publish();
    }

    // Polls.

    /// The next message to this replica, if there is one now. Take it only if it can be sent.
    pub fn poll_transmit(&mut self, client: ClientId) -> Option<Bytes> {
        let feed = self.feeds.get_mut(&client)?;
        let (message, event) =
            feed.poll_transmit(client, &self.store, &self.history, &self.broadcast, &self.config);
        if let Some(event) = event {
            self.tell(event);
        }
        message
    }

    /// What is to be said to all who listen, and which revision it is. Say it, all of it, before anything else that is polled.
    pub fn poll_broadcast(&mut self) -> Option<(Revision, Bytes)> {
        if self.is_broadcast() { self.broadcast.poll(&self.history) } else { None }
    }

    /// Whether that replica has to be woken now for what was broadcast; ask for each after [`poll_broadcast`](Self::poll_broadcast),
    /// and after what a replica sent. It counts as woken then. One for which nobody waits is woken only for 16 commits or 64 KiB: until
    /// then reads take them in.
    pub fn poll_bell(&mut self, client: ClientId) -> bool {
        self.feeds.get_mut(&client).is_some_and(|feed| feed.poll_bell(&self.broadcast))
    }

    /// What happened to replicas. At most 1,024 wait; the oldest go first.
    pub fn poll_event(&mut self) -> Option<PublisherEvent> {
        self.events.pop_front()
    }

    /// A watcher of the primary's own that has something to be told.
    pub fn poll_ready(&mut self) -> Option<WatchId> {
        self.watchers.poll_ready()
    }

    /// What a watcher of the primary's own is told next.
    pub fn poll_notice(&mut self, id: WatchId) -> Option<Notice> {
        self.watchers.next(id, &self.store)
    }

    /// When something expires next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.store.poll_timeout()
    }

    // What they do.

    fn hello(
        &mut self,
        client: ClientId,
        version: u32,
        name: ClientId,
        cursor: Option<Cursor>,
    ) -> Result<(), Misbehaviour> {
        if version != protocol::VERSION {
            return Err(Misbehaviour::Version { theirs: version, ours: protocol::VERSION });
        }
        if name != client || name == ClientId::PRIMARY {
            return Err(Misbehaviour::WrongName);
        }
        let here = self.store.cursor();
        let is_ours = |cursor: &Cursor| cursor.epoch == here.epoch || faults::is(Fault::NoEpochCheck);
        let resume = match cursor.filter(is_ours) {
            Some(cursor) if cursor.revision > here.revision => {
                return Err(Misbehaviour::Future { theirs: cursor.revision, ours: here.revision });
            }
            // The oldest that is kept must be the next one for it, or earlier.
            Some(cursor) => Some(cursor.revision).filter(|it| it.next() >= self.history.oldest()),
            None => None,
        };
        let memory = if self.store.welcome(client) { Memory::Remembered } else { Memory::Unknown };
        let join = if resume.is_some() { Join::Resume } else { Join::Snapshot };
        let welcome = ToReplica::Welcome {
            epoch: here.epoch,
            join,
            memory,
            window: self.config.limits.requests as u64,
            command_bytes: self.config.limits.command_bytes as u64,
        };
        if let Some(feed) = self.feeds.get_mut(&client) {
            feed.welcome(protocol::encode(&welcome), resume, here.revision);
        }
        self.tell(PublisherEvent::Joined { client, cursor, join });
        Ok(())
    }

    fn request(
        &mut self,
        client: ClientId,
        number: u64,
        acknowledged: u64,
        command: Command,
        now: Instant,
    ) -> Result<(), Misbehaviour> {
        let unread = self.unread(client)?;
        let limit = self.config.reply_bytes as u64;
        let result = if unread > limit {
            let error = CommandError::Busy { bytes: unread, limit };
            self.store.refuse_request(client, number, acknowledged, error)?
        } else {
            self.store.handle_request(client, number, acknowledged, command, now)?
        };
        self.reply(client, number, Some(result));
        Ok(())
    }

    fn sync(&mut self, client: ClientId, number: u64) -> Result<(), Misbehaviour> {
        self.unread(client)?;
        self.reply(client, number, None);
        Ok(())
    }

    /// Bytes of the replies that the client has not been sent, if it may have one more.
    fn unread(&self, client: ClientId) -> Result<u64, Misbehaviour> {
        let limit = self.config.limits.requests;
        match self.feeds.get(&client) {
            Some(feed) if feed.replies.len() >= limit => {
                Err(Misbehaviour::TooManyRequests { limit: limit as u64 })
            }
            Some(feed) => Ok(feed.reply_bytes as u64),
            None => Ok(0),
        }
    }

    fn reply(&mut self, client: ClientId, number: u64, result: Option<Result<Answer, CommandError>>) {
        let mut at = self.store.cursor().revision;
        if faults::is(Fault::StaleSync) && result.is_none() {
            at = Revision::new(at.get().saturating_sub(1));
        }
        if let Some(feed) = self.feeds.get_mut(&client) {
            feed.reply(Reply { at, number, result });
        }
    }

    fn resync(&mut self, client: ClientId) {
        let Some(feed) = self.feeds.get_mut(&client) else { return };
        feed.phase = Phase::NeedsSnapshot;
        self.tell(PublisherEvent::AskedAgain { client });
    }

    fn missed(&mut self, client: ClientId, after: Revision) -> Result<(), Misbehaviour> {
        let here = self.store.cursor().revision;
        if after > here {
            return Err(Misbehaviour::Future { theirs: after, ours: here });
        }
        // Otherwise it was said before something that we have sent since.
        let Some(feed) = self.feeds.get_mut(&client).filter(|feed| feed.is_tuned_after(after)) else {
            return Ok(());
        };
        let (next, revision) = (after.next(), here);
        if next >= self.history.oldest() {
            feed.catch_up(after, here);
            self.tell(PublisherEvent::Missed { client, next, revision });
        } else {
            feed.phase = Phase::NeedsSnapshot;
            self.tell(PublisherEvent::Missed { client, next, revision });
            self.tell(PublisherEvent::FellBehind { client, next, revision });
        }
        Ok(())
    }

    fn cut_off(&mut self, client: ClientId, reason: Misbehaviour) {
        if let Some(feed) = self.feeds.get_mut(&client) {
            feed.cut_off(protocol::encode(&ToReplica::CutOff { reason: reason.clone() }));
        }
        self.tell(PublisherEvent::CutOff { client, reason });
    }

    /// Whether there is somebody for whom what is committed has to be broadcast.
    fn is_broadcast(&self) -> bool {
        self.feeds.values().any(Feed::wants_broadcast)
    }

    /// What was committed goes to the history and to watchers; who is too far behind is found.
    fn publish(&mut self) {
        let mut is_new = false;
        while let Some(commit) = self.store.poll_commit() {
            self.history.push(&commit);
            self.watchers.handle_commit(&commit);
            is_new = true;
        }
        if !is_new {
            return;
        }
        let cap = self.config.queue_bytes as u64;
        let is_broadcast = self.is_broadcast();
        let broadcast = is_broadcast.then(|| self.broadcast.next());
        let waiting = self.feeds.values().filter_map(Feed::next).chain(broadcast);
        let within = waiting.filter(|next| self.history.bytes_from(*next).is_some_and(|bytes| bytes <= cap));
        let needed = within.min();
        self.history.trim(needed);
        let oldest = self.history.oldest();
        let revision = self.store.cursor().revision;
        // What was forgotten before it was broadcast nobody will hear.
        let unheard = broadcast.filter(|next| *next < oldest);
        if unheard.is_some() || !is_broadcast {
            self.broadcast.skip(revision);
        }
        let mut fallen = Vec::new();
        for (client, feed) in &mut self.feeds {
            let next = if matches!(feed.phase, Phase::Tuned) { unheard } else { feed.next() };
            if let Some(next) = next.filter(|next| *next < oldest) {
                feed.phase = Phase::NeedsSnapshot;
                fallen.push(PublisherEvent::FellBehind { client: *client, next, revision });
            }
        }
        fallen.into_iter().for_each(|event| self.tell(event));
    }

    fn tell(&mut self, event: PublisherEvent) {
        if self.events.len() >= EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}
