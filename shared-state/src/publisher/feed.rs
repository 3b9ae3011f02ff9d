//! What one replica is sent, and in which order.
//!
//! | phase         | what is sent                                            | then          |
//! |---------------|---------------------------------------------------------|---------------|
//! | Hello         | nothing                                                 | by its hello  |
//! | CatchingUp    | deltas from its place, replies behind theirs; Live      | Live          |
//! | NeedsSnapshot | Begin                                                   | Snapshot      |
//! | Snapshot      | chunks, and all deltas since Begin in between; Live     | Live          |
//! | Live          | deltas, replies behind theirs; Tune                     | Tuned         |
//! | Tuned         | replies; deltas go to all at once                       |               |
//! | CutOff        | the reason                                              |               |
//!
//! From CatchingUp, Snapshot and Live to NeedsSnapshot when its place is no longer in the history, or when the
//! replica asks. From Tuned to CatchingUp when the replica has missed something, or to NeedsSnapshot when the history
//! has that no longer either. Only who can hear the broadcast is told to tune in.
//!
//! # Why a snapshot needs no copy of the state
//!
//! A chunk holds the keys after those of the last one, as they are when it is made; all deltas after Begin are
//! sent, in order, wherever chunks fall between them. Let `d` be the last delta that was sent when Live is: it is
//! not before any commit that was made when the last chunk was. For each key, look at the last of all messages
//! that are about it:
//!
//! - It is a delta. It carries the whole entry as of that commit, and no commit from there to `d` touches the key
//!   (its delta would come later). So it is the entry as of `d`.
//! - It is a chunk. No delta about the key comes after it. A commit up to `d` that touched the key after the chunk
//!   was made would have its delta after it, and one that touched it before is in the chunk, which has nothing
//!   that is later than `d`. So it is the entry as of `d`.
//! - There is none. The key was in no chunk, and in no delta since Begin: it was not there when its turn came,
//!   and has not been written since, up to `d`. So it is not there as of `d`.
//!
//! A delta about a key whose chunk is still to come does no harm: the chunk is newer; if the key is not there
//! any more, its delete comes as a delta, and if that is sent after the chunk that leaves it out, it still
//! comes before Live. While deltas lag behind a chunk, staging may hold for a moment what no revision ever had;
//! nobody reads it before Live.
//!
//! So Live need not wait for the very last commit, and does not: where others write as fast as a replica reads,
//! there is always one more, and it would never be answered anything.

use std::collections::VecDeque;

use bytes::Bytes;

use super::broadcast::{Broadcast, Woken};
use super::config::PublisherConfig;
use super::event::{PublisherEvent, Sent};
use crate::faults::{self, Fault};
use crate::protocol::{self, ToReplica};
use crate::{Answer, ClientId, CommandError, History, Key, Revision, Store, entry};

/// Deltas that may go before the next chunk: so a snapshot gets on however much is written.
const DELTAS_PER_CHUNK: u32 = 16;

/// One connected replica.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) phase: Phase,
    /// Goes before anything else.
    control: VecDeque<Bytes>,
    /// The next delta to send; of use in CatchingUp, Snapshot and Live.
    next: Revision,
    /// In the order of `at`, which is that in which they were given.
    pub(super) replies: VecDeque<Reply>,
    pub(super) reply_bytes: usize,
    sent: Sent,
    /// Whether it was live before, on this connection.
    was_live: bool,
    /// Whether it can hear the broadcast.
    pub(super) listens: bool,
    /// Whether it has to be woken for all that is broadcast.
    pub(super) attends: bool,
    /// When it was woken, or sent something.
    woken: Woken,
}

#[derive(Debug)]
pub(super) enum Phase {
    Hello,
    /// Live when it was sent this.
    CatchingUp {
        until: Revision,
    },
    NeedsSnapshot,
    /// Live when it was sent the last chunk, and all up to the revision of then.
    Snapshot {
        after: Option<Key>,
        whole: Option<Revision>,
        deltas: u32,
    },
    Live,
    /// It takes deltas from the broadcast, from its `next` on.
    Tuned,
    CutOff,
}

/// What a request was answered. Of a sync, `at` is the answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) at: Revision,
    pub(super) number: u64,
    pub(super) result: Option<Result<Answer, CommandError>>,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            phase: Phase::Hello,
            control: VecDeque::new(),
            next: Revision::ZERO,
            replies: VecDeque::new(),
            reply_bytes: 0,
            sent: Sent::default(),
            was_live: false,
            listens: false,
            attends: false,
            woken: Woken::default(),
        }
    }
}

impl Feed {
    /// Welcomes it with that message: to go on after that revision, or from nothing; the last one is `here`.
    pub(super) fn welcome(&mut self, message: Bytes, resume: Option<Revision>, here: Revision) {
        self.control.push_back(message);
        match resume {
            Some(revision) => {
                self.next = revision.next();
                if faults::is(Fault::ResumeOffByOne) {
                    self.next = self.next.next();
                }
                self.phase = Phase::CatchingUp { until: here };
            }
            None => self.phase = Phase::NeedsSnapshot,
        }
    }

    pub(super) fn cut_off(&mut self, message: Bytes) {
        *self = Self { phase: Phase::CutOff, ..Self::default() };
        self.control.push_back(message);
    }

    pub(super) const fn is_cut_off(&self) -> bool {
        matches!(self.phase, Phase::CutOff)
    }

    pub(super) fn reply(&mut self, reply: Reply) {
        self.reply_bytes += reply.size();
        self.replies.push_back(reply);
    }

    /// Whether it takes the delta after this one from the broadcast. (Before that it may have been told to, and not know it yet.)
    pub(super) fn is_tuned_after(&self, revision: Revision) -> bool {
        matches!(self.phase, Phase::Tuned) && revision.next() >= self.next
    }

    /// The delta that it needs next, if it lives on deltas.
    pub(super) const fn next(&self) -> Option<Revision> {
        match self.phase {
            Phase::CatchingUp { .. } | Phase::Snapshot { .. } | Phase::Live => Some(self.next),
            Phase::Hello | Phase::NeedsSnapshot | Phase::Tuned | Phase::CutOff => None,
        }
    }

    /// Whether deltas have to be broadcast for it: it listens, or will.
    pub(super) const fn wants_broadcast(&self) -> bool {
        self.listens && matches!(self.phase, Phase::Live | Phase::Tuned)
    }

    /// Whether it is to be woken for what was broadcast since it was the last time. If so, it was.
    pub(super) fn poll_bell(&mut self, broadcast: &Broadcast) -> bool {
        let is_wanted = matches!(self.phase, Phase::Tuned)
            && broadcast.has_news_since(self.woken, self.attends)
            && !faults::is(Fault::BellForgotten);
        if is_wanted {
            self.woken = broadcast.here();
        }
        is_wanted
    }

    /// It has missed what was broadcast after this revision, and gets it here. The history has it; `here` is the last one.
    pub(super) fn catch_up(&mut self, after: Revision, here: Revision) {
        self.next = after.next();
        self.sent = Sent::default();
        if faults::is(Fault::MissedOffByOne) {
            self.next = self.next.next();
        }
        self.phase = Phase::CatchingUp { until: here };
    }

    pub(super) fn poll_transmit(
        &mut self,
        client: ClientId,
        store: &Store,
        history: &History,
        broadcast: &Broadcast,
        config: &PublisherConfig,
    ) -> (Option<Bytes>, Option<PublisherEvent>) {
        if let Some(message) = self.control.pop_front() {
            return (Some(message), None);
        }
        let revision = store.cursor().revision;
        match &mut self.phase {
            Phase::Hello | Phase::CutOff => (None, None),
            Phase::NeedsSnapshot => (Some(self.begin(revision)), None),
            Phase::Snapshot { whole: None, deltas, .. }
                if self.next > revision || *deltas >= DELTAS_PER_CHUNK =>
            {
                *deltas = 0;
                (Some(self.chunk(store, config)), None)
            }
            Phase::CatchingUp { until } | Phase::Snapshot { whole: Some(until), .. }
                if self.next > *until =>
            {
                self.live(client)
            }
            Phase::Snapshot { deltas, .. } => {
                *deltas = deltas.saturating_add(1);
                self.delta(client, revision, history)
            }
            // What is broadcast need not be sent. First, so that whoever is answered listens.
            Phase::Live if self.listens && broadcast.reaches(self.next) => {
                self.woken = broadcast.here();
                (Some(self.tune()), None)
            }
            Phase::CatchingUp { .. } | Phase::Live => {
                // A reply goes when all deltas up to it have gone, and before those after it.
                match self.replies.front() {
                    Some(reply) if reply.at < self.next || faults::is(Fault::ReplyBeforeDelta) => {
                        (self.pop_reply(), None)
                    }
                    _ if self.next <= revision => self.delta(client, revision, history),
                    _ => (None, None),
                }
            }
            // The replica holds them back until it has heard what belongs before them.
            Phase::Tuned => {
                let reply = self.pop_reply();
                if reply.is_some() {
                    self.woken = broadcast.here();
                }
                (reply, None)
            }
        }
    }

    fn delta(
        &mut self,
        client: ClientId,
        revision: Revision,
        history: &History,
    ) -> (Option<Bytes>, Option<PublisherEvent>) {
        let Some(message) = history.message(self.next) else {
            // Whoever is behind is found when the history is cut, so this does not happen; if it did, the
            // replica would not be sent something with a hole in it.
            let event = PublisherEvent::FellBehind { client, next: self.next, revision };
            return (Some(self.begin(revision)), Some(event));
        };
        self.next = self.next.next();
        self.sent.deltas += 1;
        if faults::is(Fault::DropDelta) && self.next.get().is_multiple_of(16) {
            return (None, None);
        }
        (Some(message.clone()), None)
    }

    fn tune(&mut self) -> Bytes {
        self.phase = Phase::Tuned;
        protocol::encode(&ToReplica::Tune { from: self.next })
    }

    fn begin(&mut self, revision: Revision) -> Bytes {
        self.next = revision.next();
        self.sent = Sent::default();
        self.phase = Phase::Snapshot { after: None, whole: None, deltas: 0 };
        protocol::encode(&ToReplica::Begin { revision })
    }

    fn live(&mut self, client: ClientId) -> (Option<Bytes>, Option<PublisherEvent>) {
        self.phase = Phase::Live;
        let revision = self.next.previous();
        let sent = std::mem::take(&mut self.sent);
        let event = if self.was_live {
            PublisherEvent::Resynchronised { client, revision, sent }
        } else {
            PublisherEvent::Live { client, revision, sent }
        };
        self.was_live = true;
        (Some(protocol::encode(&ToReplica::Live { revision })), Some(event))
    }

    fn chunk(&mut self, store: &Store, config: &PublisherConfig) -> Bytes {
        let Phase::Snapshot { after, whole, .. } = &mut self.phase else { return Bytes::new() };
        let mut bytes = 0;
        let mut entries = Vec::new();
        let mut rest = store.after(after.as_ref());
        *whole = loop {
            let Some((key, entry)) = rest.next() else { break Some(store.cursor().revision) };
            bytes += entry::size(key, entry) + entry::OVERHEAD;
            if bytes > config.chunk_bytes && !entries.is_empty() {
                break None;
            }
            entries.push((key.clone(), entry.clone()));
        };
        drop(rest);
        if let Some((key, _)) = entries.last() {
            *after = Some(Key::clone(key));
        }
        self.sent.entries += entries.len() as u64;
        let message = protocol::encode(&ToReplica::Chunk { entries });
        self.sent.chunk_bytes += message.len() as u64;
        message
    }

    fn pop_reply(&mut self) -> Option<Bytes> {
        let reply = self.replies.pop_front()?;
        self.reply_bytes -= reply.size();
        let Reply { at, number, result } = reply;
        Some(protocol::encode(&match result {
            Some(result) => ToReplica::Reply { number, at, result },
            None => ToReplica::Synced { number, at },
        }))
    }
}

impl Reply {
    fn size(&self) -> usize {
        let payload = match &self.result {
            Some(Ok(answer)) => answer.size(),
            Some(Err(_)) | None => 0,
        };
        payload + size_of::<Self>()
    }
}
