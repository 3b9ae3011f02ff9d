//! What the drivers that wait have in common: who waits for what.
//!
//! The connection reports events in one order; here each finds its place: messages queue up for the receiver,
//! answers go to who asked. `W` wakes somebody who waits: a task's `Waker`, or nothing where all are woken alike.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use crate::session::{CallId, Charge, Event, Failure, Opened, Outcome, RequestId};
use crate::{Connection, Error, MAX_DESCRIPTORS, Message, Socket, TrySendError};

/// What the receiver takes.
#[derive(Debug)]
pub(crate) enum Arrival {
    Message(Message),
    Request { id: RequestId, deadline: Option<Instant>, message: Message },
    Gap { missed: u64 },
}

/// A request of this side, for the one who asked.
#[derive(Debug)]
enum Call<W> {
    Waiting(Option<W>),
    Done(Outcome<Message>),
}

/// Who has to be woken besides those that `W` is for.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(not(feature = "tokio"), allow(dead_code, reason = "threads are all woken alike"))]
pub(crate) struct Routed {
    /// Something for the receiver, or its end.
    pub(crate) arrived: bool,
    /// Something for those who want to send, or their end; or the handshake is done.
    pub(crate) writable: bool,
    /// Anything at all.
    pub(crate) any: bool,
}

#[derive(Debug)]
pub(crate) struct Routes<W> {
    pub(crate) connection: Connection<Arc<Socket>>,
    arrivals: VecDeque<Arrival>,
    calls: HashMap<CallId, Call<W>>,
    /// Who wants to know when the peer gives up on its request.
    watched: HashMap<RequestId, W>,
    opened: Option<Opened<OwnedFd>>,
    finished: bool,
    closed: Option<Error>,
    /// The message that the receiver was given last: it counts as handled when the next one is asked for.
    in_hand: Option<Charge>,
    /// There is no receiver any more.
    deaf: bool,
    senders: usize,
    pub(crate) scratch: Vec<u8>,
}

impl<W> Routes<W> {
    pub(crate) fn new(connection: Connection<Arc<Socket>>) -> Self {
        Self {
            connection,
            arrivals: VecDeque::new(),
            calls: HashMap::new(),
            watched: HashMap::new(),
            opened: None,
            finished: false,
            closed: None,
            in_hand: None,
            deaf: false,
            senders: 0,
            scratch: Vec::new(),
        }
    }

    /// Brings every event to its place, and wakes those it is for.
    pub(crate) fn route(&mut self, mut wake: impl FnMut(W)) -> Routed {
        let mut routed = Routed::default();
        while let Some(event) = self.connection.poll_event() {
            routed.any = true;
            match event {
                Event::Opened(opened) => {
                    self.opened = Some(opened);
                    routed.writable = true;
                }
                Event::Message(message) => self.arrive(Arrival::Message(message), &mut routed),
                Event::Request { id, deadline, message } => {
                    self.arrive(Arrival::Request { id, deadline, message }, &mut routed);
                }
                Event::Gap { missed } => self.arrive(Arrival::Gap { missed }, &mut routed),
                Event::Cancelled(id) => {
                    if let Some(watcher) = self.watched.remove(&id) {
                        wake(watcher);
                    }
                }
                Event::Completed(id, outcome) => self.complete(id, outcome, &mut wake),
                Event::Writable => routed.writable = true,
                Event::Finished => {
                    self.finished = true;
                    routed.arrived = true;
                }
                Event::Closed(error) => {
                    self.closed = Some(error);
                    self.watched.drain().for_each(|(_, watcher)| wake(watcher));
                    (routed.arrived, routed.writable) = (true, true);
                }
            }
        }
        routed
    }

    fn arrive(&mut self, arrival: Arrival, routed: &mut Routed) {
        if self.deaf {
            self.refuse(arrival);
        } else {
            self.arrivals.push_back(arrival);
            routed.arrived = true;
        }
    }

    /// Nobody will take it: its room is given back, a request is answered.
    fn refuse(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Message(message) => self.connection.handled(message.charge),
            Arrival::Request { id, message, .. } => {
                self.connection.handled(message.charge);
                self.connection.fail(id, &Failure::Unhandled);
            }
            Arrival::Gap { .. } => {}
        }
    }

    fn complete(&mut self, id: CallId, outcome: Outcome<Message>, wake: &mut impl FnMut(W)) {
        // The answer waits for who asked, not for the receiver: it gives no credit away that a slow one would need.
        if let Outcome::Reply(message) = &outcome {
            self.connection.handled(message.charge);
        }
        if let Some(call) = self.calls.get_mut(&id)
            && let Call::Waiting(Some(waiter)) = std::mem::replace(call, Call::Done(outcome))
        {
            wake(waiter);
        }
    }

    /// What the peer said in the handshake; its descriptors go to the first who asks.
    pub(crate) fn take_opened(&mut self) -> Option<Result<Opened<OwnedFd>, Error>> {
        let opened = self.opened.as_mut().map(|opened| Ok(opened.share()));
        opened.or_else(|| self.closed.clone().map(Err))
    }

    /// What the receiver gets next: `Ok(None)` after the peer said that this was all, an error when it is gone.
    /// `None` when it has to wait.
    pub(crate) fn take_arrival(&mut self) -> Option<Result<Option<Arrival>, Error>> {
        if let Some(charge) = self.in_hand.take() {
            self.connection.handled(charge);
        }
        while let Some(arrival) = self.arrivals.pop_front() {
            match &arrival {
                // Given up by who asked before anybody looked at it.
                Arrival::Request { id, .. } if !self.connection.session().is_wanted(*id) => {
                    self.refuse(arrival);
                    continue;
                }
                Arrival::Message(message) | Arrival::Request { message, .. } => {
                    self.in_hand = Some(message.charge);
                }
                Arrival::Gap { .. } => {}
            }
            return Some(Ok(Some(arrival)));
        }
        if self.finished {
            return Some(Ok(None));
        }
        self.closed.clone().map(Err)
    }

    /// Somebody waits for the answer to this request from now on.
    pub(crate) fn expect(&mut self, id: CallId) {
        self.calls.insert(id, Call::Waiting(None));
    }

    /// The answer, once; until then `waiter` is woken when it comes.
    pub(crate) fn take_answer(
        &mut self,
        id: CallId,
        waiter: impl FnOnce() -> Option<W>,
    ) -> Option<Result<Message, Error>> {
        match self.calls.get_mut(&id) {
            Some(Call::Waiting(waiting)) => {
                *waiting = waiter();
                None
            }
            Some(Call::Done(_)) => match self.calls.remove(&id) {
                Some(Call::Done(outcome)) => Some(answer(outcome)),
                _ => None,
            },
            None => Some(Err(Error::Closed)),
        }
    }

    /// Nobody waits for the answer any more.
    pub(crate) fn forget(&mut self, id: CallId) {
        if let Some(Call::Waiting(_)) = self.calls.remove(&id) {
            self.connection.cancel(id);
        }
    }

    /// Wakes `watcher` when the peer gives up on this request. `false`: it has.
    #[cfg(feature = "tokio")]
    pub(crate) fn watch(&mut self, id: RequestId, watcher: W) -> bool {
        let wanted = self.connection.session().is_wanted(id) && self.closed.is_none();
        if wanted {
            self.watched.insert(id, watcher);
        }
        wanted
    }

    /// Whoever handled the request is done with it.
    pub(crate) fn unwatch(&mut self, id: RequestId) {
        self.watched.remove(&id);
    }

    pub(crate) fn add_sender(&mut self) {
        self.senders += 1;
    }

    /// After the last one the peer is told that this was all.
    pub(crate) fn remove_sender(&mut self) {
        self.senders -= 1;
        if self.senders == 0 {
            self.connection.finish();
        }
    }

    pub(crate) fn remove_receiver(&mut self) {
        self.deaf = true;
        if let Some(charge) = self.in_hand.take() {
            self.connection.handled(charge);
        }
        for arrival in std::mem::take(&mut self.arrivals) {
            self.refuse(arrival);
        }
    }

    pub(crate) fn closed(&self) -> Option<&Error> {
        self.closed.as_ref()
    }

    /// Why something can't be sent at all.
    pub(crate) fn refusal<T>(&self, refused: &TrySendError<T>) -> Error {
        match refused {
            TrySendError::TooLarge(_) => Error::TooLarge {
                max: usize::try_from(self.connection.session().max_message()).unwrap_or(usize::MAX),
                descriptors: MAX_DESCRIPTORS,
            },
            TrySendError::Full(_) | TrySendError::Closed(_) => self.closed.clone().unwrap_or(Error::Closed),
        }
    }
}

fn answer(outcome: Outcome<Message>) -> Result<Message, Error> {
    match outcome {
        Outcome::Reply(message) => Ok(message),
        Outcome::Failed(failure) => Err(Error::Failed(failure)),
        Outcome::TimedOut => Err(Error::TimedOut),
        Outcome::Cancelled => Err(Error::Closed),
        Outcome::PeerGone => Err(Error::PeerGone),
    }
}
