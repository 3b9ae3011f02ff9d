//! A session over a transport: non-blocking, for an event loop of one's own. The drivers that wait stand on this.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::clock::now;
use crate::frame::Lane;
use crate::os::memory;
use crate::os::took_all;
#[cfg(any(feature = "blocking", feature = "tokio"))]
use crate::session::Arrivals;
use crate::session::{
    CallId, Charge, Config, Event, Failure, Incoming, Outcome, Payload, RequestId, Session,
};
use crate::{Error, Message, Received, Sent, Socket, Transport, TrySendError, Welcome};

/// How much one read asks for.
const READ_LEN: usize = 64 << 10;

/// How long to wait when too many descriptors are in flight: no event tells when that is over.
const RETRY: Duration = Duration::from_millis(10);

/// What became of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Read {
    /// Something was read; there may be more.
    Some,
    /// Nothing is there now.
    Drained,
    /// Nothing will come any more.
    Ended,
}

/// One end of a conversation that never waits. With feature `mio` it is an `event::Source`.
///
/// In an event loop: when it is readable, [`read`](Self::read) until it says `Drained`; take the events;
/// [`flush`](Self::flush); ask for writability while [`wants_write`](Self::wants_write); call
/// [`handle_timeout`](Self::handle_timeout) at [`poll_timeout`](Self::poll_timeout).
///
/// Dropping it closes the socket. What has not been flushed is lost, with its descriptors closed.
///
/// ```
/// # use cluster_ipc::session::{Config, Event};
/// # use cluster_ipc::{Connection, Lane, Read};
/// # use std::time::Instant;
/// let now = Instant::now();
/// let (mut here, mut there) = Connection::pair(Config::new())?;
/// // What an event loop would do when the sockets are ready:
/// there.read(now);
/// there.flush(now);
/// here.read(now);
/// assert!(matches!(here.poll_event(), Some(Event::Opened(_))));
///
/// here.send(Lane::Data, b"hello", vec![]).expect("there is credit");
/// here.flush(now);
/// while there.read(now) == Read::Some {}
/// assert!(matches!(there.poll_event(), Some(Event::Opened(_))));
/// let Some(Event::Message(message)) = there.poll_event() else { panic!() };
/// assert_eq!(&message.bytes()[..], b"hello");
/// there.handled(message.into_parts().2);
/// # Ok::<(), cluster_ipc::Error>(())
/// ```
#[derive(Debug)]
pub struct Connection<T = Socket> {
    transport: T,
    session: Session<OwnedFd>,
    buffer: Box<[u8]>,
    arrived: Vec<OwnedFd>,
    /// The last read took all that was there.
    drained: bool,
    /// The peer's process: it may be dead although somebody else holds its end of the socket.
    process: Option<Arc<OwnedFd>>,
    memory_above: usize,
    /// Too many descriptors are in flight: don't write before then.
    retry: Option<Instant>,
}

impl Connection {
    /// Two connected ends, in one process.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] when the socket pair could not be made.
    pub fn pair(config: Config) -> Result<(Self, Self), Error> {
        let (one, other) = Socket::pair()?;
        let mut parent = Self::parent(one, config, &[], Vec::new(), now());
        parent.flush(now());
        Ok((parent, Self::child(other, config, &[], now())))
    }
}

impl<T: Transport> Connection<T> {
    /// The end that speaks first; `greeting` and `descriptors` go into its Welcome.
    pub fn parent(
        transport: T,
        config: Config,
        greeting: &[u8],
        descriptors: Vec<OwnedFd>,
        now: Instant,
    ) -> Self {
        Self::new(transport, &config, Session::parent(config, greeting, descriptors, now))
    }

    /// The end that answers, with its `greeting`.
    pub fn child(transport: T, config: Config, greeting: &[u8], now: Instant) -> Self {
        Self::new(transport, &config, Session::child(config, greeting, now))
    }

    pub(crate) fn welcomed(
        transport: T,
        config: Config,
        greeting: &[u8],
        welcome: &Welcome,
        descriptors: Vec<OwnedFd>,
    ) -> Self {
        Self::new(transport, &config, Session::welcomed(config, greeting, welcome, descriptors))
    }

    fn new(transport: T, config: &Config, session: Session<OwnedFd>) -> Self {
        Self {
            transport,
            session,
            buffer: vec![0; READ_LEN].into_boxed_slice(),
            arrived: Vec::new(),
            drained: false,
            process: None,
            memory_above: config.memory_above,
            retry: None,
        }
    }

    /// Watches the peer's process too, by its pidfd: when it is readable the process is dead, and
    /// [`handle_exit`](Self::handle_exit) has to be called. Without this a death goes unnoticed as long as another
    /// process holds a copy of the peer's end.
    #[must_use]
    pub fn with_process(mut self, pidfd: OwnedFd) -> Self {
        self.process = Some(Arc::new(pidfd));
        self
    }

    pub(crate) fn process(&self) -> Option<Arc<OwnedFd>> {
        self.process.clone()
    }

    /// The same connection over the same stream in another wrapping.
    pub(crate) fn map_transport<U>(self, change: impl FnOnce(T) -> U) -> Connection<U> {
        let Self { transport, session, buffer, arrived, drained, process, memory_above, retry } = self;
        let transport = change(transport);
        Connection { transport, session, buffer, arrived, drained, process, memory_above, retry }
    }

    /// Queues a message that expects no answer; [`flush`](Self::flush) writes it. Large ones
    /// ([`Config::memory_above`]) are copied into sealed memory here.
    ///
    /// # Errors
    ///
    /// As [`Session::send`], with the descriptors.
    pub fn send(
        &mut self,
        lane: Lane,
        bytes: &[u8],
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), TrySendError<Vec<OwnedFd>>> {
        let payload = self.payload(lane, bytes, descriptors.len());
        self.session.send(lane, payload, descriptors).map_err(|unsent| unsent.map(|(_, fds)| fds))
    }

    /// Queues a gap in a broadcast.
    ///
    /// # Errors
    ///
    /// As [`Session::send_gap`].
    pub fn send_gap(&mut self, missed: u64) -> Result<(), TrySendError<()>> {
        self.session.send_gap(missed)
    }

    /// Queues a request. [`Event::Completed`] comes exactly once.
    ///
    /// # Errors
    ///
    /// As [`Session::request`], with the descriptors.
    pub fn request(
        &mut self,
        bytes: &[u8],
        descriptors: Vec<OwnedFd>,
        timeout: Option<Duration>,
        now: Instant,
    ) -> Result<CallId, TrySendError<Vec<OwnedFd>>> {
        let payload = self.payload(Lane::Data, bytes, descriptors.len());
        let begun = self.session.request(payload, descriptors, timeout, now);
        begun.map_err(|unsent| unsent.map(|(_, fds)| fds))
    }

    /// Queues the answer to a request.
    ///
    /// # Errors
    ///
    /// As [`Session::respond`], with the descriptors.
    pub fn respond(
        &mut self,
        id: RequestId,
        bytes: &[u8],
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), TrySendError<Vec<OwnedFd>>> {
        let payload = self.payload(Lane::Data, bytes, descriptors.len());
        self.session.respond(id, payload, descriptors).map_err(|unsent| unsent.map(|(_, fds)| fds))
    }

    /// Large messages go beside the stream, if the peer takes a descriptor more and the system has one, and memory.
    fn payload<'a>(&self, lane: Lane, bytes: &'a [u8], attached: usize) -> Payload<&'a [u8], OwnedFd> {
        let large = bytes.len() > self.memory_above
            && lane == Lane::Data
            && attached < self.session.max_descriptors();
        if large
            && bytes.len() as u64 <= self.session.max_message()
            && let Ok(descriptor) = memory::seal(bytes)
        {
            return Payload::Memory { len: bytes.len() as u64, descriptor };
        }
        Payload::Inline(bytes)
    }

    /// Answers a request with an error. See [`Session::fail`].
    pub fn fail(&mut self, id: RequestId, failure: &Failure) {
        self.session.fail(id, failure);
    }

    /// Gives up on a request. See [`Session::cancel`].
    pub fn cancel(&mut self, id: CallId) {
        self.session.cancel(id);
    }

    /// The application has handled a message: its sender may send as much again.
    pub fn handled(&mut self, charge: Charge) {
        self.session.handled(charge);
    }

    /// Tells the peer that no more messages and requests will come. See [`Session::finish`].
    pub fn finish(&mut self) {
        self.session.finish();
    }

    /// Ends it on this side, after a last attempt to write what is queued. See [`Session::close`]. The peer reads that,
    /// then the end.
    pub fn close(&mut self, why: Error) {
        if !self.session.is_closed() {
            self.flush(now());
        }
        self.session.close(why);
        self.end();
    }

    /// The session has ended: the peer learns it, and nothing is kept for it, nor for those who still hold this.
    fn end(&mut self) {
        self.transport.close();
        self.session.discard_unsent();
    }

    /// The state machine behind it, to look at.
    pub fn session(&self) -> &Session<OwnedFd> {
        &self.session
    }

    /// Reads once. Events may have come of it, and something to write.
    pub fn read(&mut self, now: Instant) -> Read {
        if self.session.is_closed() {
            return Read::Ended;
        }
        match self.transport.receive(&mut self.buffer, &mut self.arrived) {
            Ok(Received::Bytes(bytes)) => {
                self.drained = took_all(bytes, &self.buffer, self.arrived.is_empty());
                let bytes = self.buffer.get(..bytes).unwrap_or_default();
                self.session.handle_input(bytes, self.arrived.drain(..), now);
                if self.session.is_closed() {
                    // The peer did something wrong. It is told so, if that is what is queued last.
                    self.flush(now);
                    self.end();
                    return Read::Ended;
                }
                Read::Some
            }
            Ok(Received::WouldBlock) => Read::Drained,
            Ok(Received::PeerGone) => {
                self.session.handle_peer_gone();
                self.end();
                Read::Ended
            }
            Err(error) => {
                self.session.close(error);
                self.end();
                Read::Ended
            }
        }
    }

    /// Whether the last read took all that was there: another would be in vain, until the kernel tells of more.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_drained(&self) -> bool {
        self.drained
    }

    /// The peer's process is dead: what it sent before is read, then the session ends.
    pub fn handle_exit(&mut self, now: Instant) {
        while self.read(now) == Read::Some {}
        self.session.handle_peer_gone();
        self.end();
    }

    /// Writes what is queued, as far as the socket takes it. `true` when nothing is left that could be written.
    pub fn flush(&mut self, now: Instant) -> bool {
        if self.retry.is_some_and(|retry| retry > now) {
            return false;
        }
        self.retry = None;
        while let Some(transmit) = self.session.poll_transmit() {
            let descriptors: Vec<BorrowedFd<'_>> = transmit.descriptors().iter().map(AsFd::as_fd).collect();
            match self.transport.send(&[IoSlice::new(transmit.bytes())], &descriptors) {
                Ok(Sent::Bytes(sent)) => self.session.handle_sent(sent),
                Ok(Sent::WouldBlock) => return false,
                Ok(Sent::TooManyInFlight) => {
                    self.retry = now.checked_add(RETRY);
                    return false;
                }
                // Nothing can be written any more, but the last words of the peer may be waiting to be read.
                Err(Error::PeerGone) => {
                    self.handle_exit(now);
                    return true;
                }
                Err(error) => {
                    self.session.close(error);
                    self.end();
                    return true;
                }
            }
        }
        true
    }

    /// Whether something waits for the socket to become writable.
    pub fn wants_write(&self) -> bool {
        self.retry.is_none() && self.wants_flush()
    }

    /// Whether there is something to flush.
    pub fn wants_flush(&self) -> bool {
        !self.session.is_closed() && self.session.wants_transmit()
    }

    /// What happened next, in order.
    pub fn poll_event(&mut self) -> Option<Event<Message, OwnedFd>> {
        loop {
            let event = self.session.poll_event()?;
            if let Some(event) = self.take(event) {
                return Some(event);
            }
        }
    }

    /// Takes all messages, requests and gaps, ahead of other events. What came as memory is not mapped yet.
    #[cfg(any(feature = "blocking", feature = "tokio"))]
    pub(crate) fn swap_arrivals(&mut self, empty: &mut Arrivals<OwnedFd>) {
        self.session.swap_arrivals(empty);
    }

    /// The next event that is no message, request or gap, ahead of those.
    #[cfg(any(feature = "blocking", feature = "tokio"))]
    pub(crate) fn poll_signal(&mut self) -> Option<Event<Message, OwnedFd>> {
        loop {
            let event = self.session.poll_signal()?;
            if let Some(event) = self.take(event) {
                return Some(event);
            }
        }
    }

    /// Maps what came as memory. What can't be mapped ends the session, after what came before it.
    fn take(&mut self, event: Event<Incoming<OwnedFd>, OwnedFd>) -> Option<Event<Message, OwnedFd>> {
        let taken = match event {
            Event::Message(message) => take(message).map(Event::Message),
            Event::Request { id, deadline, message } => {
                take(message).map(|message| Event::Request { id, deadline, message })
            }
            Event::Completed(id, outcome) => Ok(Event::Completed(id, self.take_outcome(outcome))),
            Event::Opened(opened) => Ok(Event::Opened(opened)),
            Event::Cancelled(id) => Ok(Event::Cancelled(id)),
            Event::Gap { missed } => Ok(Event::Gap { missed }),
            Event::Writable => Ok(Event::Writable),
            Event::Finished => Ok(Event::Finished),
            Event::Closed(error) => Ok(Event::Closed(error)),
        };
        taken.map_err(|error| self.close(error)).ok()
    }

    fn take_outcome(&mut self, outcome: Outcome<Incoming<OwnedFd>>) -> Outcome<Message> {
        match outcome {
            Outcome::Reply(message) => match take(message) {
                Ok(message) => Outcome::Reply(message),
                // A request completes once, whatever its reply turns out to be.
                Err(error) => {
                    self.close(error);
                    Outcome::PeerGone
                }
            },
            Outcome::Failed(failure) => Outcome::Failed(failure),
            Outcome::TimedOut => Outcome::TimedOut,
            Outcome::Cancelled => Outcome::Cancelled,
            Outcome::PeerGone => Outcome::PeerGone,
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.session.poll_timeout(), self.retry].into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.session.handle_timeout(now);
        if self.retry.is_some_and(|retry| retry <= now) {
            self.retry = None;
        }
    }
}

impl Connection<Arc<Socket>> {
    /// The socket, to wait for while the connection is not locked.
    pub(crate) fn transport(&self) -> Arc<Socket> {
        Arc::clone(&self.transport)
    }
}

/// Maps what came as memory.
pub(crate) fn take(message: Incoming<OwnedFd>) -> Result<Message, Error> {
    let (payload, descriptors, charge) = message.into_parts();
    let bytes: Bytes = match payload {
        Payload::Inline(bytes) => bytes,
        Payload::Memory { len, descriptor } => memory::open(&descriptor, len)?,
    };
    Ok(Message { bytes, descriptors, charge })
}

impl<T: AsFd> AsFd for Connection<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.transport.as_fd()
    }
}
