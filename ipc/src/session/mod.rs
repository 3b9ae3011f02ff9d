//! What two processes say to each other, as a state machine: no I/O, no clock, no threads, no async.
//!
//! ```text
//!                        ┌───────────────────────────────────┐
//!  handle_input ────────▶│ Decoder ─▶ handshake, credit,     │──▶ poll_event      Opened, Message, Request,
//!  handle_peer_gone ────▶│            requests, assembly     │                    Completed, …, Closed
//!  handle_timeout ──────▶│                                   │──▶ poll_timeout
//!  send, request,        │            lanes: control first,  │──▶ poll_transmit   bytes and descriptors
//!  respond, cancel, … ──▶│            data by credit         │◀── handle_sent
//!                        └───────────────────────────────────┘
//! ```
//!
//! | state \ input | Welcome  | Online | Reject | any other frame | end of stream | handshake timeout |
//! |---------------|----------|--------|--------|-----------------|---------------|-------------------|
//! | Child         | Open   O | Closed | Closed | Closed          | Closed        | Closed            |
//! | Parent        | Closed   | Open   | Closed | Closed          | Closed        | Closed            |
//! | Open          | Closed   | Closed | Closed | Open            | Closed        | -                 |
//! | Closed        | -        | -      | -      | -               | -             | -                 |
//!
//! O: answers with Online, or with Reject and Closed if no version is shared. Every way into Closed fails what is
//! pending, oldest first, and reports `Closed` last.
//!
//! What holds, whatever the peer sends:
//!
//! * **Order** within a lane; data never delays the control lane by more than the frame being written.
//! * **Bounded**: what the peer may occupy here is the window and one message, counted until the application has
//!   *handled* it, and as much again for replies; what waits here for the peer is the outbox and one message.
//! * **Replies wait for nobody**: they are counted apart, so that one arrives although nobody takes the messages before it.
//! * **Exactly one completion** per request.
//! * **Last words first**: what arrived before the end is reported before it.
//! * Descriptors stay with their message, or are dropped (closed) with it.

mod assembly;
mod calls;
mod config;
mod credit;
mod event;
mod lanes;
mod message;
mod queue;
mod receive;

use std::time::{Duration, Instant};

pub use self::calls::{CallId, RequestId};
pub use self::config::Config;
pub use self::event::{Event, Opened, Outcome};
pub use self::message::{Charge, Failure, Incoming, Payload};
pub(crate) use self::queue::Arrivals;
pub use crate::settings::Window;

use self::assembly::Partial;
use self::calls::{Calls, Requests, Wanted};
use self::credit::{Account, Allowance, Amount, Quota};
use self::lanes::Lanes;
use self::queue::Queue;
use crate::frame::{Kind, Lane};
use crate::growing::Pool;
use crate::settings::Settings;
use crate::{Decoder, Error, MAX_DESCRIPTORS, Online, Transmit, TrySendError, Welcome};

/// Which part of the life of a session this is. See the table above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The side that speaks first has done so and waits for the answer.
    Parent {
        until: Option<Instant>,
    },
    /// The other side waits for the Welcome.
    Child {
        until: Option<Instant>,
    },
    Open,
    Closed,
}

/// Both directions of one quota.
#[derive(Clone, Copy, Debug)]
struct Credit {
    ours: Allowance,
    theirs: Account,
}

/// What is sent: payload, and the descriptors attached to it. It comes back if it cannot be.
pub type Unsent<'a, F> = TrySendError<(Payload<&'a [u8], F>, Vec<F>)>;

/// One side of a conversation. See the [module](self) for the picture.
///
/// Four kinds of methods: `handle_*` (what happened), verbs (what the application wants), `poll_*` (what to do
/// next), and getters. Poll events, then the transmit, then the timeout after every input; time must not go
/// backwards.
///
/// ```
/// # use cluster_ipc::session::{Config, Event, Payload, Session};
/// # use cluster_ipc::Lane;
/// # use std::time::Instant;
/// let now = Instant::now();
/// let mut parent = Session::<u32>::parent(Config::new(), b"hello", vec![], now);
/// let mut child = Session::<u32>::child(Config::new(), b"hello to you", now);
/// // A driver would move these bytes through a socket, in whatever pieces it takes.
/// let carry = |from: &mut Session<u32>, to: &mut Session<u32>| {
///     while let Some(transmit) = from.poll_transmit() {
///         let len = transmit.bytes().len();
///         to.handle_input(transmit.bytes(), transmit.descriptors().iter().copied(), now);
///         from.handle_sent(len);
///     }
/// };
/// carry(&mut parent, &mut child);
/// carry(&mut child, &mut parent);
/// assert!(matches!(parent.poll_event(), Some(Event::Opened(_))));
///
/// parent.send(Lane::Data, Payload::Inline(b"work"), vec![7]).unwrap();
/// carry(&mut parent, &mut child);
/// assert!(matches!(child.poll_event(), Some(Event::Opened(_))));
/// let Some(Event::Message(message)) = child.poll_event() else { panic!() };
/// let (payload, descriptors, charge) = message.into_parts();
/// assert!(matches!(payload, Payload::Inline(bytes) if bytes == "work"));
/// assert_eq!(descriptors, [7]);
/// child.handled(charge);
/// ```
#[derive(Debug)]
pub struct Session<F> {
    config: Config,
    state: State,
    /// What the application says in its part of the handshake, until it has been said.
    greeting: Vec<u8>,
    peer: Settings,
    decoder: Decoder<F>,
    lanes: Lanes<F>,
    data: Credit,
    control: Credit,
    replies: Credit,
    partial: Option<Partial<F>>,
    pool: Pool,
    calls: Calls,
    requests: Requests,
    events: Queue<F>,
    /// Somebody was told `Full` and waits for `Writable`: for credit, an answer or the handshake.
    refused: bool,
    /// The same, for room in the outbox.
    crowded: bool,
    /// This side has said that it sends nothing more.
    finished: bool,
    peer_finished: bool,
    late_replies: u64,
    /// So many bytes were dropped unsent.
    discarded: usize,
}

impl<F> Session<F> {
    /// The side that speaks first. `greeting` and `descriptors` go out with the Welcome; the time limit of the
    /// handshake begins `now`.
    pub fn parent(config: Config, greeting: &[u8], descriptors: Vec<F>, now: Instant) -> Self {
        let mut session =
            Self::new(config, State::Parent { until: now.checked_add(config.handshake_timeout) });
        let pid = std::process::id();
        session.lanes.push_frame(Welcome::frame_with(pid, &config.settings, greeting, descriptors));
        session
    }

    /// The side that answers. `greeting` goes out with the answer.
    pub fn child(config: Config, greeting: &[u8], now: Instant) -> Self {
        let mut session =
            Self::new(config, State::Child { until: now.checked_add(config.handshake_timeout) });
        session.greeting = greeting.to_vec();
        session
    }

    /// The side that answers a Welcome which has been read already.
    pub(crate) fn welcomed(config: Config, greeting: &[u8], welcome: &Welcome, descriptors: Vec<F>) -> Self {
        let mut session = Self::new(config, State::Child { until: None });
        session.greeting = greeting.to_vec();
        session.answer_welcome(welcome, descriptors);
        session
    }

    fn new(config: Config, state: State) -> Self {
        let none = Settings::NONE;
        let credit = |window| Credit { ours: Allowance::new(none.data), theirs: Account::new(window) };
        Self {
            config,
            state,
            greeting: Vec::new(),
            peer: none,
            decoder: Decoder::new(),
            lanes: Lanes::new(config.outbox),
            data: credit(config.settings.data),
            control: credit(config.settings.control),
            replies: credit(config.settings.data),
            partial: None,
            pool: Pool::default(),
            calls: Calls::default(),
            requests: Requests::default(),
            events: Queue::new(),
            refused: false,
            crowded: false,
            finished: false,
            peer_finished: false,
            late_replies: 0,
            discarded: 0,
        }
    }

    /// Sends a message that expects no answer.
    ///
    /// # Errors
    ///
    /// What was to be sent comes back: `Full` without credit or before the handshake is done ([`Event::Writable`]
    /// tells when to try again), `TooLarge`, or `Closed`.
    pub fn send<'a>(
        &mut self,
        lane: Lane,
        payload: Payload<&'a [u8], F>,
        descriptors: Vec<F>,
    ) -> Result<(), Unsent<'a, F>> {
        if self.finished {
            return Err(TrySendError::Closed((payload, descriptors)));
        }
        self.push(lane, Kind::Message, 0, &[], payload, descriptors)
    }

    /// Tells the receiver of a broadcast that messages for it were left out here.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_gap(&mut self, missed: u64) -> Result<(), TrySendError<()>> {
        if self.finished {
            return Err(TrySendError::Closed(()));
        }
        let sent = self.push(Lane::Data, Kind::Gap, missed, &[], Payload::Inline(&[]), Vec::new());
        sent.map_err(|unsent| unsent.map(drop))
    }

    /// Sends a message that expects an answer, within `timeout` from `now` if there is one.
    /// [`Event::Completed`] comes exactly once.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); also `Full` while as many requests are unanswered as may be, and `TooLarge` if the peer
    /// takes none at all.
    pub fn request<'a>(
        &mut self,
        payload: Payload<&'a [u8], F>,
        descriptors: Vec<F>,
        timeout: Option<Duration>,
        now: Instant,
    ) -> Result<CallId, Unsent<'a, F>> {
        if self.finished {
            return Err(TrySendError::Closed((payload, descriptors)));
        }
        if self.state == State::Open && self.calls.in_flight() as u64 >= self.max_requests() {
            if self.max_requests() == 0 {
                return Err(TrySendError::TooLarge((payload, descriptors)));
            }
            self.refused = true;
            return Err(TrySendError::Full((payload, descriptors)));
        }
        let deadline = timeout.and_then(|timeout| now.checked_add(timeout));
        let patience = timeout.map_or(u64::MAX, |timeout| timeout.as_micros().try_into().unwrap_or(u64::MAX));
        let id = self.calls.begin(deadline);
        let pushed =
            self.push(Lane::Data, Kind::Request, id.to_wire(), &patience.to_le_bytes(), payload, descriptors);
        match pushed {
            Ok(()) => self.calls.queued(id, self.lanes.end_of_data()),
            Err(_) => drop(self.calls.answer(id)),
        }
        pushed.map(|()| id)
    }

    /// Gives up on a request: it completes as cancelled, and the peer is told. Nothing happens if it has completed.
    pub fn cancel(&mut self, id: CallId) {
        self.give_up(id, Outcome::Cancelled);
    }

    fn give_up(&mut self, id: CallId, outcome: Outcome<Incoming<F>>) {
        if let Some(end) = self.calls.abandon(id) {
            self.lanes.push_cancel(id.to_wire(), end);
            self.events.push(Event::Completed(id, outcome));
        }
    }

    /// Whether the peer still waits for the answer to this request.
    pub fn is_wanted(&self, id: RequestId) -> bool {
        self.requests.wanted(id) == Some(Wanted::Yes)
    }

    /// Answers a request. An answer that the peer no longer waits for is dropped.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); `Closed` also when it has been answered before. After `TooLarge` it still has to be
    /// answered, say with [`fail`](Self::fail).
    pub fn respond<'a>(
        &mut self,
        id: RequestId,
        payload: Payload<&'a [u8], F>,
        descriptors: Vec<F>,
    ) -> Result<(), Unsent<'a, F>> {
        match self.requests.wanted(id) {
            None => Err(TrySendError::Closed((payload, descriptors))),
            Some(Wanted::No) => {
                self.fail(id, &Failure::Unanswered);
                Ok(())
            }
            Some(Wanted::Yes) => {
                self.push(Lane::Data, Kind::Reply, id.0, &[], payload, descriptors)?;
                self.requests.answer(id);
                Ok(())
            }
        }
    }

    /// Answers a request with an error. That always goes through, whatever is waiting: it is small and counts as the
    /// end of the request. Nothing happens if it has been answered.
    pub fn fail(&mut self, id: RequestId, failure: &Failure) {
        if self.requests.answer(id).is_some() {
            let (code, reason) = failure.encode();
            self.lanes.push_control(Kind::Failure, id.0, &[&[code], reason.as_bytes()]);
        }
    }

    /// The application has handled a message: its sender may send as much again.
    pub fn handled(&mut self, charge: Charge) {
        self.control.theirs.release(charge.control);
        self.data.theirs.release(charge.data);
        self.replies.theirs.release(charge.replies);
    }

    /// Tells the peer, after all that was sent before, that no more messages and requests will come. Replies still may.
    pub fn finish(&mut self) {
        if self.state == State::Open && !self.finished {
            self.lanes.push_message(Lane::Data, Kind::Finish, 0, &[], Payload::Inline(&[]), Vec::new());
        }
        self.finished = true;
    }

    /// Ends the session on this side: pending requests complete as gone, and nothing is sent any more.
    pub fn close(&mut self, why: Error) {
        if self.state == State::Closed {
            return;
        }
        self.state = State::Closed;
        self.partial = None;
        self.decoder.discard();
        self.requests.clear();
        for id in self.calls.fail_all() {
            self.events.push(Event::Completed(id, Outcome::PeerGone));
        }
        self.events.push(Event::Closed(why));
    }

    /// Queues a message if there is credit and room.
    fn push<'a>(
        &mut self,
        lane: Lane,
        kind: Kind,
        id: u64,
        head: &[u8],
        payload: Payload<&'a [u8], F>,
        descriptors: Vec<F>,
    ) -> Result<(), Unsent<'a, F>> {
        let (len, attached) = match &payload {
            Payload::Inline(bytes) => (bytes.len() as u64, descriptors.len()),
            Payload::Memory { len, .. } => (*len, descriptors.len() + 1),
        };
        match self.state {
            State::Closed => return Err(TrySendError::Closed((payload, descriptors))),
            State::Parent { .. } | State::Child { .. } => {
                self.refused = true;
                return Err(TrySendError::Full((payload, descriptors)));
            }
            State::Open => {}
        }
        let cost = Amount::message(len, attached);
        let inline = matches!(payload, Payload::Inline(_));
        let most = match lane {
            Lane::Control if inline => {
                (config::CHUNK as u64).min(self.peer.control.bytes).min(self.peer.max_message)
            }
            Lane::Control => 0,
            Lane::Data => self.peer.max_message,
        };
        let quota = Quota::of(kind, lane);
        if len > most || attached > MAX_DESCRIPTORS || !self.credit(quota).ours.is_possible(cost) {
            return Err(TrySendError::TooLarge((payload, descriptors)));
        }
        let on_wire = if inline { usize::try_from(len).unwrap_or(usize::MAX) } else { 0 };
        if !self.lanes.has_room(lane, on_wire) {
            self.crowded = true;
            return Err(TrySendError::Full((payload, descriptors)));
        }
        if !self.credit(quota).ours.take(cost) {
            self.refused = true;
            return Err(TrySendError::Full((payload, descriptors)));
        }
        self.lanes.push_message(lane, kind, id, head, payload, descriptors);
        Ok(())
    }

    fn credit(&mut self, quota: Quota) -> &mut Credit {
        match quota {
            Quota::Control => &mut self.control,
            Quota::Data => &mut self.data,
            Quota::Replies => &mut self.replies,
        }
    }

    /// The largest message that the peer takes, in bytes; 0 before the handshake is done.
    pub fn max_message(&self) -> u64 {
        self.peer.max_message
    }

    /// The most descriptors that a message to the peer may have; 0 before the handshake is done.
    pub fn max_descriptors(&self) -> usize {
        usize::try_from(self.peer.data.descriptors).map_or(MAX_DESCRIPTORS, |most| most.min(MAX_DESCRIPTORS))
    }

    /// How many requests of this side may be unanswered at a time; 0 if the peer takes none, and before the handshake is
    /// done.
    pub fn max_requests(&self) -> u64 {
        self.peer.max_requests.min(self.config.settings.max_requests)
    }

    /// Whether the handshake is done and the end has not come.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether the end has come.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// How many answers came after nobody waited for them any more. They were dropped, descriptors included.
    pub fn late_replies(&self) -> u64 {
        self.late_replies
    }

    /// How many bytes wait for the socket to take them, or did so when the session ended.
    pub fn unsent(&self) -> usize {
        self.discarded + self.lanes.len(Lane::Control) + self.lanes.len(Lane::Data)
    }

    /// Nothing can be written any more: drops what is queued, descriptors included. They would stay open as long as the
    /// session is kept.
    pub fn discard_unsent(&mut self) {
        self.discarded = self.unsent();
        self.lanes = Lanes::new(0);
    }

    /// What happened next, in order.
    pub fn poll_event(&mut self) -> Option<Event<Incoming<F>, F>> {
        self.events.pop()
    }

    /// Takes all messages, requests and gaps, ahead of other events, in exchange for an empty queue.
    pub(crate) fn swap_arrivals(&mut self, empty: &mut Arrivals<F>) {
        self.events.swap_arrivals(empty);
    }

    /// The next event that is no message, request or gap, ahead of those.
    pub(crate) fn poll_signal(&mut self) -> Option<Event<Incoming<F>, F>> {
        self.events.pop_signal()
    }

    /// A number that changes when a message, request or gap has arrived; `None` when none is waiting.
    pub(crate) fn last_arrival(&self) -> Option<u64> {
        self.events.last_arrival()
    }

    /// Whether there is something to write.
    pub fn wants_transmit(&self) -> bool {
        let credit = |credit: &Credit| credit.theirs.is_due() || credit.ours.wants_to_tell();
        !self.lanes.is_empty()
            || (self.is_open() && [&self.control, &self.data, &self.replies].into_iter().any(credit))
    }

    /// The next bytes to write, with the descriptors that go out with the first of them. Report what the
    /// socket took with [`handle_sent`](Self::handle_sent).
    pub fn poll_transmit(&mut self) -> Option<Transmit<'_, F>> {
        if self.is_open() {
            Quota::ALL.into_iter().for_each(|quota| self.push_credit(quota));
        }
        self.lanes.poll_transmit()
    }

    fn push_credit(&mut self, quota: Quota) {
        let credit = self.credit(quota);
        let (granted, wanted) = (credit.theirs.poll_credit(), credit.ours.poll_blocked());
        if let Some(granted) = granted {
            self.lanes.push_control(Kind::Credit, quota.to_wire(), &[&granted.encode()]);
        }
        if let Some(wanted) = wanted {
            self.lanes.push_control(Kind::Blocked, quota.to_wire(), &[&wanted.encode()]);
        }
    }

    /// The socket took so many bytes of the last transmit.
    pub fn handle_sent(&mut self, bytes: usize) {
        self.lanes.handle_sent(bytes);
        if self.crowded && !self.is_closed() && self.lanes.are_roomy() {
            self.crowded = false;
            self.events.push(Event::Writable);
        }
    }

    fn tell_writable(&mut self) {
        if std::mem::take(&mut self.refused) {
            self.events.push(Event::Writable);
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Parent { until } | State::Child { until } => until,
            State::Open => self.calls.next_deadline(),
            State::Closed => None,
        }
    }

    /// Time has passed: requests and the handshake may have run out of it.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Parent { until: Some(until) } | State::Child { until: Some(until) } if until <= now => {
                self.close(Error::HandshakeTimeout);
            }
            State::Open => {
                while let Some(id) = self.calls.next_expired(now) {
                    self.give_up(id, Outcome::TimedOut);
                }
            }
            State::Parent { .. } | State::Child { .. } | State::Closed => {}
        }
    }

    /// Answers the Welcome and opens.
    fn answer_welcome(&mut self, welcome: &Welcome, descriptors: Vec<F>) {
        let greeting = std::mem::take(&mut self.greeting);
        self.lanes.push_frame(Online::frame_with(&self.config.settings, &greeting));
        self.open(*welcome.settings(), welcome.payload().clone(), descriptors);
    }
}
