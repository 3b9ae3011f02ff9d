//! `Connection`s that never wait, in a loop of their own: in memory with a clock that can be turned, and over sockets with
//! mio.
//!
//! Both ends of a pair are in the same loop, which runs while either waits. Nothing is tried twice without a reason:
//! what was refused as full is tried again after `Writable` and not before, so a promise that is not kept shows as a
//! test that hangs.

use std::cell::{RefCell, RefMut};
use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster_ipc::session::{CallId, Charge, Event, Failure, Opened, Outcome, RequestId};
use cluster_ipc::{
    Arrival, Connection, Error, Lane, Message, Parcel, Read, Socket, Transport, TrySendError, memory,
};
use mio::{Events, Interest, Poll, Token};

use crate::end::{Answer, Cancel, Driver, End, Opening, Setup, describe};
use crate::stranger::Stranger;

/// What moves the bytes of a loop's connections.
pub(crate) trait Mover {
    type Transport: Transport;

    fn now(&self) -> Instant;

    /// Begins to look after a connection.
    fn add(&mut self, connection: &mut Connection<Self::Transport>, place: usize);

    /// Moves what can be moved.
    fn turn(&mut self, sides: &mut [Option<Side<Self::Transport>>; 2]);

    /// Waits until something can be moved or time is up for something. So many times in a row nothing has come of it.
    fn wait(&mut self, sides: &mut [Option<Side<Self::Transport>>; 2], in_vain: u32);
}

/// A connection, and where its events have gone.
pub(crate) struct Side<T> {
    connection: Connection<T>,
    is_open: bool,
    opened: Option<Opened<OwnedFd>>,
    arrivals: VecDeque<Arrived>,
    outcomes: HashMap<CallId, Outcome<Message>>,
    unwanted: HashSet<RequestId>,
    finished: bool,
    closed: Option<Error>,
    /// How often `Writable` has come. Who was refused as full tries again when it has come once more.
    writable: u64,
    sends_refused: Option<u64>,
    requests_refused: Option<u64>,
    sends: VecDeque<Send>,
    requests: VecDeque<Request>,
    sent: HashMap<u64, Result<(), Error>>,
    begun: HashMap<u64, Result<CallId, Error>>,
    tickets: u64,
    current: Charge,
}

/// A message that waits to be passed on.
struct Send {
    ticket: u64,
    lane: Lane,
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// A request that does.
struct Request {
    ticket: u64,
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    deadline: Option<Instant>,
}

enum Arrived {
    Message(Message),
    Request(RequestId, Message),
    Gap(u64),
}

impl<T: Transport> Side<T> {
    fn new(connection: Connection<T>) -> Self {
        Self {
            connection,
            is_open: false,
            opened: None,
            arrivals: VecDeque::new(),
            outcomes: HashMap::new(),
            unwanted: HashSet::new(),
            finished: false,
            closed: None,
            writable: 0,
            sends_refused: None,
            requests_refused: None,
            sends: VecDeque::new(),
            requests: VecDeque::new(),
            sent: HashMap::new(),
            begun: HashMap::new(),
            tickets: 0,
            current: Charge::default(),
        }
    }

    fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    /// Passes on what waits to be sent. `true` if anything was.
    fn pass_on(&mut self, now: Instant) -> bool {
        let mut any = false;
        while self.sends_refused != Some(self.writable)
            && let Some(Send { ticket, lane, bytes, descriptors }) = self.sends.pop_front()
        {
            match self.connection.send(lane, &bytes, descriptors) {
                Err(TrySendError::Full(descriptors)) => {
                    self.sends_refused = Some(self.writable);
                    self.sends.push_front(Send { ticket, lane, bytes, descriptors });
                }
                done => {
                    any = true;
                    let done = done.map_err(|error| self.refusal(&error));
                    self.sent.insert(ticket, done);
                }
            }
        }
        while self.requests_refused != Some(self.writable)
            && let Some(Request { ticket, bytes, descriptors, deadline }) = self.requests.pop_front()
        {
            let rest = deadline.map(|deadline| deadline.saturating_duration_since(now));
            match self.connection.request(&bytes, descriptors, rest, now) {
                Err(TrySendError::Full(descriptors)) => {
                    self.requests_refused = Some(self.writable);
                    self.requests.push_front(Request { ticket, bytes, descriptors, deadline });
                }
                done => {
                    any = true;
                    let done = done.map_err(|error| self.refusal(&error));
                    self.begun.insert(ticket, done);
                }
            }
        }
        // Waiting for room to ask is a part of the time for the answer.
        let begun = &mut self.begun;
        self.requests.retain(|request| {
            let late = request.deadline.is_some_and(|at| at <= now);
            if late {
                any = true;
                begun.insert(request.ticket, Err(Error::TimedOut));
            }
            !late
        });
        any
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let asking = self.requests.iter().filter_map(|request| request.deadline);
        asking.chain(self.connection.poll_timeout()).min()
    }

    fn refusal<X>(&self, refused: &TrySendError<X>) -> Error {
        match refused {
            TrySendError::TooLarge(_) => {
                let max = self.connection.session().max_message() as usize;
                Error::TooLarge { max, descriptors: cluster_ipc::MAX_DESCRIPTORS }
            }
            _ => self.closed.clone().unwrap_or(Error::Closed),
        }
    }

    /// Brings every event to its place. `true` if there was any.
    fn sort_events(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.connection.poll_event() {
            any = true;
            assert!(self.closed.is_none(), "nothing comes after Closed, but this did: {event:?}");
            if !matches!(event, Event::Opened(_) | Event::Closed(_) | Event::Writable) {
                assert!(self.is_open, "Opened comes first, but this came before it: {event:?}");
            }
            match event {
                Event::Opened(opened) => {
                    assert!(!self.is_open, "Opened comes once");
                    (self.is_open, self.opened) = (true, Some(opened));
                }
                Event::Message(message) => self.arrivals.push_back(Arrived::Message(message)),
                Event::Request { id, message, .. } => {
                    self.arrivals.push_back(Arrived::Request(id, message));
                }
                Event::Gap { missed } => self.arrivals.push_back(Arrived::Gap(missed)),
                Event::Cancelled(id) => {
                    assert!(self.unwanted.insert(id), "a request is cancelled once");
                }
                Event::Completed(id, outcome) => {
                    assert!(self.outcomes.insert(id, outcome).is_none(), "a request completes once");
                }
                Event::Writable => self.writable += 1,
                Event::Finished => {
                    assert!(!self.finished, "Finished comes once");
                    self.finished = true;
                }
                Event::Closed(error) => {
                    self.closed = Some(error);
                    // Whoever waits for room waits in vain.
                    self.writable += 1;
                }
                other => panic!("an event that this test doesn't know: {other:?}"),
            }
        }
        any
    }

    fn take_opened(&mut self) -> Option<Result<Opened<OwnedFd>, Error>> {
        self.opened.take().map(Ok).or_else(|| self.closed.clone().map(Err))
    }

    fn put_down(&mut self) {
        self.connection.handled(std::mem::take(&mut self.current));
    }

    fn take_arrival(&mut self) -> Option<Result<Option<Arrival<Bytes, RequestId>>, Error>> {
        let parcel = |message: Message| {
            let (value, descriptors, charge) = message.into_parts();
            (Parcel { value, descriptors }, charge)
        };
        match self.arrivals.pop_front() {
            Some(Arrived::Message(message)) => {
                let (parcel, charge) = parcel(message);
                self.current = charge;
                Some(Ok(Some(Arrival::Message(parcel))))
            }
            Some(Arrived::Request(id, message)) => {
                let (parcel, charge) = parcel(message);
                self.current = charge;
                Some(Ok(Some(Arrival::Request(parcel, id))))
            }
            Some(Arrived::Gap(missed)) => Some(Ok(Some(Arrival::Gap { missed }))),
            None if self.finished => Some(Ok(None)),
            None => self.closed.clone().map(Err),
        }
    }
}

/// The loop.
pub(crate) struct World<M: Mover> {
    mover: M,
    sides: [Option<Side<M::Transport>>; 2],
}

impl<M: Mover> World<M> {
    fn new(mover: M) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self { mover, sides: [None, None] }))
    }

    fn add(world: &Rc<RefCell<Self>>, mut connection: Connection<M::Transport>) -> PolledEnd<M> {
        let mut this = world.borrow_mut();
        let place = usize::from(this.sides[0].is_some());
        this.mover.add(&mut connection, place);
        this.sides[place] = Some(Side::new(connection));
        PolledEnd { world: Rc::clone(world), place }
    }

    /// Everything that can be done without waiting. `true` if anything was.
    fn work(&mut self) -> bool {
        let now = self.mover.now();
        let mut any = false;
        for side in self.sides.iter_mut().flatten() {
            any |= side.pass_on(now);
            any |= side.sort_events();
        }
        any
    }

    fn turn(&mut self) {
        self.work();
        self.mover.turn(&mut self.sides);
        while self.work() {
            self.mover.turn(&mut self.sides);
        }
    }

    fn side(&mut self, place: usize) -> &mut Side<M::Transport> {
        self.sides[place].as_mut().expect("this end has not left yet")
    }

    fn until<R>(&mut self, place: usize, mut ready: impl FnMut(&mut Side<M::Transport>) -> Option<R>) -> R {
        let mut in_vain = 0;
        loop {
            self.turn();
            if let Some(result) = ready(self.side(place)) {
                // What this did may have to be written.
                self.turn();
                return result;
            }
            in_vain += 1;
            self.mover.wait(&mut self.sides, in_vain);
        }
    }
}

pub(crate) struct PolledEnd<M: Mover> {
    world: Rc<RefCell<World<M>>>,
    place: usize,
}

impl<M: Mover> PolledEnd<M> {
    fn with<R>(&mut self, change: impl FnOnce(&mut Side<M::Transport>, Instant) -> R) -> R {
        let mut world = self.world.borrow_mut();
        let now = world.mover.now();
        change(world.side(self.place), now)
    }

    fn until<R>(&mut self, ready: impl FnMut(&mut Side<M::Transport>) -> Option<R>) -> R {
        self.world.borrow_mut().until(self.place, ready)
    }

    fn take(self) -> (Side<M::Transport>, Rc<RefCell<World<M>>>) {
        let taken = RefMut::map(self.world.borrow_mut(), |world| &mut world.sides[self.place]).take();
        (taken.expect("an end leaves once"), self.world)
    }
}

impl<M: Mover> End for PolledEnd<M> {
    type Sending = u64;
    type Call = u64;
    type Request = RequestId;

    fn opened(&mut self) -> Opening {
        self.until(Side::take_opened)
    }

    fn begin_send(&mut self, lane: Lane, bytes: &[u8], descriptors: Vec<OwnedFd>) -> u64 {
        self.with(|side, _| {
            let ticket = side.ticket();
            side.sends.push_back(Send { ticket, lane, bytes: bytes.to_vec(), descriptors });
            ticket
        })
    }

    fn sent(&mut self, sending: u64) -> Result<(), Error> {
        self.until(|side| match side.sent.get(&sending) {
            Some(Ok(())) if side.connection.wants_flush() => None,
            _ => side.sent.remove(&sending),
        })
    }

    fn try_send(&mut self, bytes: &[u8]) -> Result<(), TrySendError<Vec<u8>>> {
        self.with(|side, _| {
            let sent = side.connection.send(Lane::Data, bytes, Vec::new());
            sent.map_err(|refused| refused.map(|_| bytes.to_vec()))
        })
    }

    fn turn(&mut self) {
        self.world.borrow_mut().turn();
    }

    fn recv(&mut self) -> Result<Option<Arrival<Bytes, RequestId>>, Error> {
        self.with(|side, _| side.put_down());
        self.until(Side::take_arrival)
    }

    fn nothing_yet(&mut self) {
        self.with(|side, _| side.put_down());
        self.turn();
        let arrived = self.with(|side, _| side.take_arrival());
        assert!(arrived.is_none(), "{} while nothing was to come", describe(&arrived.unwrap()));
    }

    fn recv_message(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match self.recv()? {
                Some(Arrival::Message(message)) => return Ok(Some(message.value)),
                Some(Arrival::Request(_, id)) => {
                    self.with(|side, _| side.connection.fail(id, &Failure::Unhandled));
                }
                Some(Arrival::Gap { missed }) => return Err(Error::Missed { missed }),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    fn begin_request(&mut self, bytes: &[u8], descriptors: Vec<OwnedFd>, timeout: Option<Duration>) -> u64 {
        self.with(|side, now| {
            let ticket = side.ticket();
            let deadline = timeout.map(|timeout| now + timeout);
            side.requests.push_back(Request { ticket, bytes: bytes.to_vec(), descriptors, deadline });
            ticket
        })
    }

    fn answer(&mut self, call: u64) -> Answer {
        let outcome = self.until(|side| match side.begun.get(&call)? {
            Ok(id) => {
                let outcome = side.outcomes.remove(id)?;
                side.begun.remove(&call);
                Some(Ok(outcome))
            }
            Err(error) => Some(Err(error.clone())),
        });
        match outcome? {
            Outcome::Reply(message) => {
                let (bytes, descriptors, charge) = message.into_parts();
                self.with(|side, _| side.connection.handled(charge));
                Ok((bytes, descriptors))
            }
            Outcome::Failed(failure) => Err(Error::Failed(failure)),
            Outcome::TimedOut => Err(Error::TimedOut),
            Outcome::Cancelled => Err(Error::Closed),
            Outcome::PeerGone => Err(Error::PeerGone),
            other => panic!("an outcome that this test doesn't know: {other:?}"),
        }
    }

    fn reply(&mut self, request: RequestId, bytes: &[u8], descriptors: Vec<OwnedFd>) -> Result<(), Error> {
        let (mut descriptors, mut refused) = (Some(descriptors), None);
        self.until(|side| {
            if refused == Some(side.writable) {
                return None;
            }
            match side.connection.respond(request, bytes, descriptors.take().unwrap_or_default()) {
                Ok(()) => Some(Ok(())),
                Err(TrySendError::Full(unsent)) => {
                    (descriptors, refused) = (Some(unsent), Some(side.writable));
                    None
                }
                Err(error) => {
                    // It still has to be answered.
                    side.connection.fail(request, &Failure::Unanswered);
                    Some(Err(side.refusal(&error)))
                }
            }
        })
    }

    fn fail(&mut self, request: RequestId, reason: &str) {
        let failure = Failure::Refused { reason: reason.to_owned() };
        self.with(|side, _| side.connection.fail(request, &failure));
    }

    fn let_go(&mut self, request: RequestId) {
        self.with(|side, _| side.connection.fail(request, &Failure::Unanswered));
    }

    fn until_unwanted(&mut self, request: &RequestId) {
        self.until(|side| {
            let wanted = side.connection.session().is_wanted(*request);
            let told = side.unwanted.contains(request);
            assert!(!(told && wanted), "a request that was cancelled is still wanted");
            (told || side.closed.is_some()).then_some(())
        });
    }

    fn finish(&mut self) {
        self.turn();
        self.with(|side, _| {
            assert!(
                side.sends.is_empty() && side.requests.is_empty(),
                "finish comes after all was passed on"
            );
            side.connection.finish();
        });
        self.turn();
    }

    fn leave(mut self) {
        self.until(|side| (side.sends.is_empty() && side.requests.is_empty()).then_some(()));
        self.with(|side, _| side.connection.finish());
        // Until all is written, or the other end has gone.
        self.until(|side| (!side.connection.wants_flush()).then_some(()));
        drop(self.take());
    }

    fn die(mut self) {
        self.turn();
        drop(self.take());
    }
}

impl<M: Mover> Cancel for PolledEnd<M> {
    fn cancel(&mut self, call: u64) {
        self.with(|side, _| match side.begun.remove(&call) {
            Some(Ok(id)) => {
                side.connection.cancel(id);
                // Once more is no harm.
                side.connection.cancel(id);
                side.sort_events();
                assert!(matches!(side.outcomes.remove(&id), Some(Outcome::Cancelled)));
            }
            Some(Err(_)) => {}
            None => side.requests.retain(|request| request.ticket != call),
        });
        self.turn();
    }
}

/// In memory, through a narrow pipe, with a clock that is turned when there is nothing else to do.
pub(crate) struct Memory {
    now: Instant,
}

type MemoryEnd = memory::End;

/// Two ends: narrow, and taking odd numbers of bytes at a time.
fn narrow() -> (MemoryEnd, MemoryEnd) {
    let (one, other) = memory::ends();
    (one.step(4099).capacity(60_013), other.step(8191).capacity(70_001))
}

impl Mover for Memory {
    type Transport = MemoryEnd;

    fn now(&self) -> Instant {
        self.now
    }

    fn add(&mut self, _: &mut Connection<MemoryEnd>, _: usize) {}

    fn turn(&mut self, sides: &mut [Option<Side<MemoryEnd>>; 2]) {
        match sides {
            [Some(one), Some(other)] => memory::drive(&mut one.connection, &mut other.connection, self.now),
            [Some(one), None] | [None, Some(one)] => loop {
                let unsent = one.connection.session().unsent();
                one.connection.flush(self.now);
                let read = one.connection.read(self.now);
                if read != Read::Some && one.connection.session().unsent() == unsent {
                    break;
                }
            },
            [None, None] => {}
        }
    }

    fn wait(&mut self, sides: &mut [Option<Side<MemoryEnd>>; 2], in_vain: u32) {
        if in_vain < 3 {
            // What was looked at last may have left something to do.
            return;
        }
        let due = sides.iter().flatten().filter_map(|side| side.poll_timeout()).min();
        self.now = due.expect("nothing can happen any more, whatever time passes: this would wait for ever");
        for side in sides.iter_mut().flatten() {
            side.connection.handle_timeout(self.now);
        }
    }
}

impl Memory {
    fn world() -> Rc<RefCell<World<Self>>> {
        World::new(Self { now: Instant::now() })
    }
}

impl Driver for Memory {
    type End = PolledEnd<Self>;

    fn pair(parent: Setup, child: Setup) -> (Self::End, Self::End) {
        let (one, other) = narrow();
        let world = Self::world();
        let parent = {
            let now = world.borrow().mover.now;
            Connection::parent(one, parent.config, &parent.greeting, parent.descriptors, now)
        };
        let child = Connection::child(other, child.config, &child.greeting, world.borrow().mover.now);
        (World::add(&world, parent), World::add(&world, child))
    }

    fn parent(setup: Setup) -> (Self::End, Stranger) {
        let (one, other) = memory::ends();
        let world = Self::world();
        let now = world.borrow().mover.now;
        let parent = Connection::parent(one, setup.config, &setup.greeting, setup.descriptors, now);
        (World::add(&world, parent), Stranger::new(other))
    }

    fn child(setup: Setup) -> (Self::End, Stranger) {
        let (one, other) = memory::ends();
        let world = Self::world();
        let child = Connection::child(one, setup.config, &setup.greeting, world.borrow().mover.now);
        (World::add(&world, child), Stranger::new(other))
    }
}

/// Over sockets, in a loop as the documentation of `Connection` and its `Source` has it.
pub(crate) struct Mio {
    poll: Poll,
    events: Events,
}

impl Mio {
    fn world() -> Rc<RefCell<World<Self>>> {
        World::new(Self { poll: Poll::new().unwrap(), events: Events::with_capacity(8) })
    }

    fn poll(&mut self, sides: &mut [Option<Side<Socket>>; 2], timeout: Option<Duration>) {
        let now = self.now();
        for side in sides.iter_mut().flatten() {
            side.connection.flush(now);
        }
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return,
            polled => polled.unwrap(),
        }
        let now = self.now();
        for event in &self.events {
            let Some(side) = &mut sides[event.token().0] else { continue };
            if event.is_readable() {
                while side.connection.read(now) == Read::Some {}
            }
            if event.is_writable() {
                side.connection.flush(now);
            }
        }
        for side in sides.iter_mut().flatten() {
            side.connection.handle_timeout(now);
            side.connection.flush(now);
        }
    }
}

impl Mover for Mio {
    type Transport = Socket;

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn add(&mut self, connection: &mut Connection, place: usize) {
        let interests = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(connection, Token(place), interests).unwrap();
    }

    fn turn(&mut self, sides: &mut [Option<Side<Self::Transport>>; 2]) {
        self.poll(sides, Some(Duration::ZERO));
    }

    fn wait(&mut self, sides: &mut [Option<Side<Self::Transport>>; 2], _: u32) {
        let due = sides.iter().flatten().filter_map(|side| side.poll_timeout()).min();
        self.poll(sides, due.map(|due| due.saturating_duration_since(self.now())));
    }
}

impl Driver for Mio {
    type End = PolledEnd<Self>;

    fn pair(parent: Setup, child: Setup) -> (Self::End, Self::End) {
        let (one, other) = super::pair_of(parent, child);
        let world = Self::world();
        (World::add(&world, one), World::add(&world, other))
    }

    fn parent(setup: Setup) -> (Self::End, Stranger) {
        let (parent, stranger) = super::parent_and_stranger(setup);
        (World::add(&Self::world(), parent), stranger)
    }

    fn child(setup: Setup) -> (Self::End, Stranger) {
        let (child, stranger) = super::child_and_stranger(setup);
        (World::add(&Self::world(), child), stranger)
    }
}
