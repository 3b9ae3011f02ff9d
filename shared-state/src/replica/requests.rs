//! What was asked for and is not answered.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use thiserror::Error;

use crate::command::MOST_OPERATIONS;
use crate::protocol::{self, ToPrimary};
use crate::{Answer, Command, CommandError, Cursor, Epoch, Misbehaviour, Outcome, RequestError, Revision};

/// Names a request. Rising, and never repeated by the same replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

impl RequestId {
    /// Its number, as the primary sees it.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Too many requests have no completion yet.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{limit} requests have no completion yet, as many as may")]
pub struct Full {
    limit: usize,
    command: Option<Box<Command>>,
}

impl Full {
    /// The command that could not be taken. (`None` for read levels.)
    pub fn into_command(self) -> Option<Command> {
        self.command.map(|command| *command)
    }
}

/// What cancelling a request did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cancelled {
    /// It was never sent, and changes nothing.
    NeverSent,
    /// It was sent: it is or will be carried out, or not; its completion won't come.
    Sent,
    /// There is no such request without completion.
    Unknown,
}

/// All requests that have no completion.
#[derive(Debug)]
pub(super) struct Requests {
    limit: usize,
    issued: u64,
    /// In the order of numbers.
    outstanding: VecDeque<Outstanding>,
    /// How many at the front of `outstanding` were sent on this connection.
    sent: usize,
    /// How many may be.
    window: usize,
    /// Bytes of a command that may be sent on this connection.
    command_bytes: u64,
    /// What waits for a revision, by that.
    waiting: BTreeMap<(Epoch, Revision, RequestId), ()>,
    /// The epoch of the state, when it was last told.
    epoch: Option<Epoch>,
    completions: VecDeque<(RequestId, Result<Answer, RequestError>)>,
}

#[derive(Debug)]
struct Outstanding {
    number: u64,
    /// `None` is a sync.
    command: Option<Command>,
    /// On this connection or an earlier one.
    was_sent: bool,
    is_cancelled: bool,
}

impl Requests {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            limit,
            issued: 0,
            outstanding: VecDeque::new(),
            sent: 0,
            window: 0,
            command_bytes: 0,
            waiting: BTreeMap::new(),
            epoch: None,
            completions: VecDeque::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.outstanding.len() + self.waiting.len()
    }

    /// Whether somebody waits for a revision.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn submit(&mut self, command: Command) -> Result<RequestId, Full> {
        if let Command::Transact(transaction) = &command
            && transaction.longest() > MOST_OPERATIONS
            && !self.is_full()
        {
            // The primary would take it for garbage.
            let (operations, limit) = (transaction.longest() as u64, MOST_OPERATIONS as u64);
            let error = CommandError::TooManyOperations { operations, limit };
            let id = self.issue();
            self.completions.push_back((id, Err(RequestError::Refused(error))));
            return Ok(id);
        }
        self.push(Some(command))
    }

    pub(super) fn sync(&mut self) -> Result<RequestId, Full> {
        self.push(None)
    }

    pub(super) fn wait(&mut self, cursor: Cursor) -> Result<RequestId, Full> {
        if self.is_full() {
            return Err(Full { limit: self.limit, command: None });
        }
        let id = self.issue();
        self.waiting.insert((cursor.epoch, cursor.revision, id), ());
        Ok(id)
    }

    pub(super) fn cancel(&mut self, id: RequestId) -> Cancelled {
        if let Some(place) = self.place(id.0) {
            let Some(request) = self.outstanding.get_mut(place) else { return Cancelled::Unknown };
            if request.was_sent {
                request.is_cancelled = true;
                return Cancelled::Sent;
            }
            self.outstanding.remove(place);
            return Cancelled::NeverSent;
        }
        let before = self.waiting.len();
        self.waiting.retain(|(_, _, waiting), ()| *waiting != id);
        if self.waiting.len() < before { Cancelled::NeverSent } else { Cancelled::Unknown }
    }

    /// All must be sent again, as far as they are not in doubt.
    pub(super) fn handle_disconnected(&mut self) {
        self.sent = 0;
        self.window = 0;
    }

    pub(super) fn handle_connected(&mut self, window: u64, command_bytes: u64) {
        self.window = usize::try_from(window).unwrap_or(usize::MAX);
        self.command_bytes = command_bytes;
    }

    /// What was sent is in doubt: whoever answers now does not know it. A sync changes nothing, so it is sent
    /// again.
    pub(super) fn doubt(&mut self) {
        self.drop_if(|request| request.was_sent && request.command.is_some(), || RequestError::InDoubt);
    }

    /// Nothing is sent or answered any more.
    pub(super) fn abandon(&mut self) {
        self.doubt();
        self.outstanding.clear();
        self.waiting.clear();
    }

    /// Nothing is answered any more.
    pub(super) fn cut_off(&mut self, reason: &Misbehaviour) {
        self.doubt();
        self.drop_if(|_| true, || RequestError::CutOff(reason.clone()));
        for ((_, _, id), ()) in std::mem::take(&mut self.waiting) {
            self.completions.push_back((id, Err(RequestError::CutOff(reason.clone()))));
        }
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Bytes> {
        if self.sent >= self.window {
            return None;
        }
        self.refuse_too_long();
        // The oldest without an answer: all before it were answered. (An answer given to nobody, because its
        // request was cancelled, was read, too.)
        let acknowledged = self.outstanding.front().map_or(0, |oldest| oldest.number);
        let request = self.outstanding.get_mut(self.sent)?;
        request.was_sent = true;
        self.sent += 1;
        let number = request.number;
        // It is lent, not cloned: a value that is shared for the first time is one more allocation.
        let message = match request.command.take() {
            Some(command) => ToPrimary::Request { number, acknowledged, command },
            None => ToPrimary::Sync { number },
        };
        let encoded = protocol::encode(&message);
        if let ToPrimary::Request { command, .. } = message {
            request.command = Some(command);
        }
        Some(encoded)
    }

    /// What comes next is sent only if it is not too long. (What was sent before was not.)
    fn refuse_too_long(&mut self) {
        let limit = self.command_bytes;
        while let Some(Outstanding { number, command: Some(command), was_sent: false, .. }) =
            self.outstanding.get(self.sent)
            && command.bytes() as u64 > limit
        {
            let (id, bytes) = (RequestId(*number), command.bytes() as u64);
            let error = CommandError::CommandTooLong { bytes, limit };
            self.completions.push_back((id, Err(RequestError::Refused(error))));
            self.outstanding.remove(self.sent);
        }
    }

    pub(super) fn poll_completion(&mut self) -> Option<(RequestId, Result<Answer, RequestError>)> {
        self.completions.pop_front()
    }

    /// Whether this was sent on this connection and has no answer.
    pub(super) fn is_waiting(&self, number: u64) -> bool {
        self.place(number).is_some_and(|place| place < self.sent)
    }

    pub(super) fn complete(&mut self, number: u64, result: Result<Answer, RequestError>) {
        let Some(place) = self.place(number) else { return };
        if place < self.sent {
            self.sent -= 1;
        }
        if self.outstanding.remove(place).is_some_and(|request| !request.is_cancelled) {
            self.completions.push_back((RequestId(number), result));
        }
    }

    /// The state is as of there.
    pub(super) fn reached(&mut self, here: Cursor) {
        if self.epoch != Some(here.epoch) {
            // With the first state nothing ends: what is waited for may come yet.
            let is_first = self.epoch.replace(here.epoch).is_none();
            let others = self.waiting.keys().filter(|(epoch, ..)| !is_first && *epoch != here.epoch);
            let over: Vec<_> = others.copied().collect();
            for key in over {
                self.waiting.remove(&key);
                self.completions.push_back((key.2, Err(RequestError::NewEpoch)));
            }
        }
        let from = (here.epoch, Revision::ZERO, RequestId(0));
        let to = (here.epoch, here.revision, RequestId(u64::MAX));
        while let Some((key, ())) = self.waiting.range(from..=to).next() {
            let key = *key;
            self.waiting.remove(&key);
            let answer = Answer { revision: here.revision, outcome: Outcome::Reached };
            self.completions.push_back((key.2, Ok(answer)));
        }
    }

    fn push(&mut self, command: Option<Command>) -> Result<RequestId, Full> {
        if self.is_full() {
            return Err(Full { limit: self.limit, command: command.map(Box::new) });
        }
        let id = self.issue();
        self.outstanding.push_back(Outstanding {
            number: id.0,
            command,
            was_sent: false,
            is_cancelled: false,
        });
        Ok(id)
    }

    fn is_full(&self) -> bool {
        // Completions that nobody polls count, too.
        self.len() + self.completions.len() >= self.limit
    }

    fn issue(&mut self) -> RequestId {
        self.issued += 1;
        RequestId(self.issued)
    }

    fn place(&self, number: u64) -> Option<usize> {
        // Most often none is missing in between.
        let guess = usize::try_from(number.checked_sub(self.outstanding.front()?.number)?).ok()?;
        if self.outstanding.get(guess).is_some_and(|request| request.number == number) {
            return Some(guess);
        }
        self.outstanding.binary_search_by_key(&number, |request| request.number).ok()
    }

    /// Completes those with that error.
    fn drop_if(&mut self, is_meant: impl Fn(&Outstanding) -> bool, error: impl Fn() -> RequestError) {
        let all = std::mem::take(&mut self.outstanding);
        for request in all {
            if !is_meant(&request) {
                self.outstanding.push_back(request);
            } else if !request.is_cancelled {
                self.completions.push_back((RequestId(request.number), Err(error())));
            }
        }
        // Whoever calls this has no connection on which something was sent.
        self.sent = 0;
    }
}
