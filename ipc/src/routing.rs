//! What the drivers that wait have in common: who waits for what.
//!
//! The connection reports what happened; here each finds its place: messages wait for the receiver, answers go to
//! who asked. `W` wakes somebody who waits: a task's `Waker`, or nothing where all are woken alike.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use crate::connection::take;
use crate::session::{Arrivals, CallId, Charge, Event, Failure, Incoming, Opened, Outcome, RequestId};
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
pub(crate) struct Routed {
    /// Something for the receiver, or its end.
    pub(crate) arrived: bool,
    /// Something for those who want to send, or their end; or the handshake is done.
    pub(crate) writable: bool,
    /// Anything at all.
    pub(crate) any: bool,
}

/// After so much handled the sender is given credit, even though more is in hand. Less often would keep the sender
/// waiting, more often would cost a lock each time.
const REPORT_MESSAGES: u32 = 512;

/// What the receiver has taken and not yet given to the application, and what is to be reported as handled.
#[derive(Debug, Default)]
pub(crate) struct Hand {
    arrivals: Arrivals<OwnedFd>,
    handled: Charge,
    /// How many messages `handled` is.
    count: u32,
    /// The message that was given out last: it counts as handled when the next one is asked for.
    current: Charge,
}

impl Hand {
    /// The message that was given out last has been handled. `true` when it is time to say so to the connection.
    fn put_down(&mut self) -> bool {
        self.handled = self.handled.and(std::mem::take(&mut self.current));
        self.count += 1;
        self.count > REPORT_MESSAGES
    }

    /// The next arrival if it is a message and in hand: the shortest way for the commonest case.
    pub(crate) fn next_message(&mut self) -> Option<Result<Message, Error>> {
        if self.put_down() {
            return None;
        }
        let message = take(self.arrivals.next_message()?);
        if let Ok(message) = &message {
            self.current = message.charge;
        }
        Some(message)
    }

    /// The next arrival, if there is one in hand. `None` also when the connection should be looked at:
    /// to take what has arrived, or to report what was handled.
    pub(crate) fn next(&mut self) -> Option<Result<Arrival, Error>> {
        if self.put_down() {
            return None;
        }
        let arrival = match self.arrivals.next()? {
            Event::Message(message) => take(message).map(Arrival::Message),
            Event::Request { id, deadline, message } => {
                take(message).map(|message| Arrival::Request { id, deadline, message })
            }
            Event::Gap { missed } => Ok(Arrival::Gap { missed }),
            // No other event is an arrival.
            _ => return None,
        };
        if let Ok(Arrival::Message(message) | Arrival::Request { message, .. }) = &arrival {
            self.current = message.charge;
        }
        Some(arrival)
    }
}

#[derive(Debug)]
pub(crate) struct Routes<W> {
    pub(crate) connection: Connection<Arc<Socket>>,
    calls: HashMap<CallId, Call<W>>,
    /// Who wants to know when the peer gives up on its request.
    watched: HashMap<RequestId, W>,
    opened: Option<Opened<OwnedFd>>,
    finished: bool,
    closed: Option<Error>,
    /// The receiver has been told of all arrivals up to this one.
    last_arrival: Option<u64>,
    /// There is no receiver any more.
    deaf: bool,
    senders: usize,
    pub(crate) scratch: Vec<u8>,
}

impl<W> Routes<W> {
    pub(crate) fn new(connection: Connection<Arc<Socket>>) -> Self {
        Self {
            connection,
            calls: HashMap::new(),
            watched: HashMap::new(),
            opened: None,
            finished: false,
            closed: None,
            last_arrival: None,
            deaf: false,
            senders: 0,
            scratch: Vec::new(),
        }
    }

    /// Brings every event to its place, and wakes those it is for.
    pub(crate) fn route(&mut self, mut wake: impl FnMut(W)) -> Routed {
        let mut routed = Routed::default();
        while let Some(signal) = self.connection.poll_signal() {
            routed.any = true;
            match signal {
                Event::Opened(opened) => {
                    self.opened = Some(opened);
                    routed.writable = true;
                }
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
                // Those come by `poll_arrival`.
                Event::Message(_) | Event::Request { .. } | Event::Gap { .. } => {}
            }
        }
        if self.deaf {
            self.refuse(&mut Arrivals::default());
        } else {
            let last = self.connection.session().last_arrival();
            if last.is_some() && last != self.last_arrival {
                (routed.arrived, routed.any) = (true, true);
            }
            self.last_arrival = last;
        }
        routed
    }

    /// Nobody will take these, nor what has arrived since: their room is given back, requests are answered.
    fn refuse(&mut self, arrivals: &mut Arrivals<OwnedFd>) {
        for arrival in arrivals.by_ref() {
            self.refuse_one(arrival);
        }
        self.connection.swap_arrivals(arrivals);
        for arrival in arrivals {
            self.refuse_one(arrival);
        }
    }

    fn refuse_one(&mut self, arrival: Event<Incoming<OwnedFd>, OwnedFd>) {
        match arrival {
            Event::Message(message) => self.connection.handled(message.into_parts().2),
            Event::Request { id, message, .. } => {
                self.connection.handled(message.into_parts().2);
                self.connection.fail(id, &Failure::Unhandled);
            }
            _ => {}
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

    /// Puts what has arrived into the receiver's hand, and reports what it handled. `Ok(false)` after the peer said that
    /// this was all, an error when it is gone; `None` when the receiver has to wait.
    pub(crate) fn take_arrivals(&mut self, hand: &mut Hand) -> Option<Result<bool, Error>> {
        self.connection.handled(std::mem::take(&mut hand.handled));
        hand.count = 0;
        if hand.arrivals.is_empty() {
            self.connection.swap_arrivals(&mut hand.arrivals);
        }
        if !hand.arrivals.is_empty() {
            return Some(Ok(true));
        }
        if self.finished {
            return Some(Ok(false));
        }
        self.closed.clone().map(Err)
    }

    /// Whether somebody still waits for the answer to a request of the peer. If not, it is answered here, so that nobody
    /// works for nothing.
    pub(crate) fn is_worth_answering(&mut self, id: RequestId) -> bool {
        // What a peer that is gone asked last is for the application to see.
        let session = self.connection.session();
        let wanted = session.is_closed() || session.is_wanted(id);
        if !wanted {
            self.connection.fail(id, &Failure::Unanswered);
        }
        wanted
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

    pub(crate) fn remove_receiver(&mut self, hand: &mut Hand) {
        self.deaf = true;
        self.connection.handled(hand.handled.and(hand.current));
        self.refuse(&mut hand.arrivals);
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
