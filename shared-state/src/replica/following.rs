//! What a replica does with what the primary sends, on its lane and by the broadcast.
//!
//! | lane \ message | Delta, next        | Delta, other | Begin   | Chunk    | Live            | Reply    |
//! |----------------|--------------------|--------------|---------|----------|-----------------|----------|
//! | Following      | applied            | Lost, Resync | Staging | error    | (after Resume)  | given    |
//! | Staging        | applied to staging | Lost, Resync | Staging | staged   | Following, swap | held     |
//! | Lost           | -                  | -            | Staging | -        | -               | held     |
//!
//! | following by | Delta, next      | Delta from the broadcast, next | broadcast has it no longer | Reply ahead of the state |
//! |--------------|------------------|--------------------------------|----------------------------|--------------------------|
//! | own lane     | applied          | -                              | -                          | Lost, Resync             |
//! | broadcast    | applied          | applied                        | Missed: nothing            | held                     |
//! | nothing      | applied, own lane| -                              | -                          | held                     |
//!
//! From its own lane to the broadcast by Tune. The lane may be behind what was heard: a primary that could not broadcast something
//! begins a snapshot of before. What it says again is passed over, and such a snapshot when it is whole.

use std::sync::Arc;

use super::{Held, Lane, Replica, ReplicaEvent, Source};
use crate::faults::{self, Fault};
use crate::protocol::{self, ToPrimary, ToReplica};
use crate::watch::differences;
use crate::{Answer, Commit, Cursor, Entry, Key, Outcome, ProtocolError, RequestError, Revision, State};

impl<S: State> Replica<S> {
    pub(super) fn follow(&mut self, message: ToReplica) -> Result<(), ProtocolError> {
        match message {
            ToReplica::Delta(commit) => self.delta(commit),
            ToReplica::Begin { revision } => {
                self.lane = Lane::Staging { state: self.state.staging(), revision, entries: 0 };
                Ok(())
            }
            ToReplica::Chunk { entries } => self.chunk(entries),
            ToReplica::Live { revision } => self.live(revision),
            ToReplica::Tune { from } => self.tune(from),
            ToReplica::Reply { number, at, result } => {
                self.hold(number, at, result.map_err(RequestError::from));
                Ok(())
            }
            ToReplica::Synced { number, at } => {
                self.hold(number, at, Ok(Answer { revision: at, outcome: Outcome::Reached }));
                Ok(())
            }
            ToReplica::Welcome { .. } => Err(ProtocolError::Unexpected { message: "Welcome, again" }),
            // It was handled before it came here.
            ToReplica::CutOff { .. } => Ok(()),
        }
    }

    fn delta(&mut self, commit: Arc<Commit>) -> Result<(), ProtocolError> {
        let expected = match &self.lane {
            Lane::Lost => return Ok(()),
            Lane::Staging { revision, .. } => revision.next(),
            Lane::Following { .. } => self
                .cursor
                .ok_or(ProtocolError::Unexpected { message: "Delta, without a state" })?
                .revision
                .next(),
        };
        if matches!(self.lane, Lane::Following { .. })
            && commit.revision < expected
            && commit.revision <= self.heard
        {
            return Ok(());
        }
        if commit.revision != expected && !(faults::is(Fault::ResumeOffByOne) && commit.revision > expected) {
            self.lost(expected, commit.revision);
            return Ok(());
        }
        match &mut self.lane {
            Lane::Staging { state, revision, .. } => {
                *revision = commit.revision;
                for change in commit.changes.iter().filter(|_| !faults::is(Fault::SnapshotWithoutDeltas)) {
                    state.set(&change.key, change.entry.clone());
                }
            }
            Lane::Following { by, .. } => {
                if *by == Source::Missed {
                    *by = Source::Lane;
                }
                self.apply(commit);
            }
            Lane::Lost => {}
        }
        Ok(())
    }

    fn tune(&mut self, from: Revision) -> Result<(), ProtocolError> {
        if !self.listens {
            return Err(ProtocolError::Unexpected { message: "Tune, to one that can't hear" });
        }
        match (&mut self.lane, self.cursor) {
            (Lane::Following { is_live: true, by }, Some(here))
                if from == here.revision.next() || (from <= here.revision && from <= self.heard) =>
            {
                *by = Source::Broadcast;
            }
            (Lane::Following { .. }, Some(here)) => self.lost(here.revision.next(), from),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn apply(&mut self, mut commit: Arc<Commit>) {
        // It was just decoded, so nobody else has it, and nothing is copied.
        let is_forgotten = faults::is(Fault::ForgetDelta) && commit.revision.get().is_multiple_of(16);
        for change in Arc::make_mut(&mut commit).changes.iter_mut().filter(|_| !is_forgotten) {
            change.previous = self.state.set(&change.key, change.entry.clone());
        }
        let Some(cursor) = &mut self.cursor else { return };
        cursor.revision = commit.revision;
        self.state.commit(*cursor);
        self.watchers.handle_commit(&commit);
        self.reached();
    }

    fn chunk(&mut self, entries: Vec<(Key, Entry)>) -> Result<(), ProtocolError> {
        match &mut self.lane {
            Lane::Lost => Ok(()),
            Lane::Following { .. } => Err(ProtocolError::Unexpected { message: "Chunk, without Begin" }),
            Lane::Staging { state, entries: count, .. } => {
                *count += entries.len() as u64;
                for (key, entry) in entries {
                    state.set(&key, Some(entry));
                }
                Ok(())
            }
        }
    }

    fn live(&mut self, revision: Revision) -> Result<(), ProtocolError> {
        let lane = std::mem::replace(&mut self.lane, Lane::Lost);
        let entries = match lane {
            Lane::Lost => return Ok(()),
            Lane::Following { .. } => {
                let here = self.cursor.map_or(Revision::ZERO, |cursor| cursor.revision);
                if here != revision {
                    self.lost(here, revision);
                    return Ok(());
                }
                None
            }
            Lane::Staging { revision: staged, .. } if staged != revision => {
                self.lost(staged, revision);
                return Ok(());
            }
            // The lane was behind the broadcast: what is here is whole, and newer.
            Lane::Staging { .. } if self.has_heard_more_than(revision) => None,
            Lane::Staging { state, entries, .. } => {
                self.swap(state, revision)?;
                Some(entries)
            }
        };
        self.lane = Lane::Following { is_live: true, by: Source::Lane };
        self.tell(ReplicaEvent::Live { revision, snapshot: entries });
        self.reached();
        Ok(())
    }

    fn has_heard_more_than(&self, revision: Revision) -> bool {
        let here = self.cursor.filter(|here| Some(here.epoch) == self.session);
        here.is_some_and(|here| here.revision > revision) && revision < self.heard
    }

    fn swap(&mut self, staged: S, revision: Revision) -> Result<(), ProtocolError> {
        let Some(epoch) = self.session else { return Ok(()) };
        let mut to = Cursor::new(epoch, revision);
        if faults::is(Fault::CursorBack) {
            to.revision = Revision::new(revision.get().saturating_sub(1));
        }
        match self.cursor {
            Some(here) if here.epoch == epoch && here.revision > revision => {
                return Err(ProtocolError::Backwards { from: here.revision, to: revision });
            }
            Some(here) if here.epoch != epoch => self.tell(ReplicaEvent::NewEpoch { from: here, to }),
            _ => {}
        }
        // Without watchers nobody asks for the difference.
        let changes = if self.watchers.is_empty() {
            Commit { revision, changes: Vec::new() }
        } else {
            differences(&self.state, self.cursor, &staged, to)
        };
        self.state.replace(staged, to);
        self.cursor = Some(to);
        self.watchers.handle_replaced(to, changes);
        Ok(())
    }

    /// Something is missing. Nothing more is applied before a snapshot.
    fn lost(&mut self, expected: Revision, got: Revision) {
        self.lane = Lane::Lost;
        self.control.push_back(protocol::encode(&ToPrimary::Resync));
        self.tell(ReplicaEvent::Gap { expected, got });
    }

    fn hold(&mut self, number: u64, at: Revision, result: Result<Answer, RequestError>) {
        if !self.requests.is_waiting(number) {
            return;
        }
        self.held.push_back(Held { number, at, result });
        self.reached();
        if let (Some(held), Lane::Following { by: Source::Lane, .. }, Some(here)) =
            (self.held.front(), &self.lane, self.cursor)
        {
            // It came before a delta that belongs before it: that will not come any more.
            self.lost(here.revision.next(), held.at);
        }
    }

    /// Completes what waits for the state to be as it is.
    pub(super) fn reached(&mut self) {
        let Some(here) = self.cursor else { return };
        if matches!(self.lane, Lane::Following { .. }) {
            while let Some(held) = self.held.pop_front() {
                if held.at > here.revision && !faults::is(Fault::ReplyBeforeDelta) {
                    self.held.push_front(held);
                    break;
                }
                self.requests.complete(held.number, held.result);
            }
        }
        self.requests.reached(here);
    }
}
