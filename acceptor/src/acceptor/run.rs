//! The acceptor's loop: hear, reap, accept, dispatch, sleep.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster_balancer::key::Key;
use cluster_balancer::{Batch, Classes, Dispatcher, Limits};
use cluster_ipc::Handed;
use cluster_ipc::board::{Ticket, TicketState};
use crossbeam_channel::{Receiver, TryRecvError};
use mio::event::Event;
use mio::{Events, Poll, Token};

use super::closing::{self, Closing};
use super::intake::{Intake, Pause};
use super::lane::{Bell, Connection, Lane};
use super::patience::{Patience, Signs};
use super::peeking::Peeking;
use super::stats::Stats;
use super::{Command, Settings, WAKER, WhenFull, WorkerKey};
use crate::{ListeningSocket, Orphan};

/// How soon the acceptor looks again at tickets that are open. It bounds how long the primary keeps a copy of a
/// taken connection when nothing else happens.
const TICK: Duration = Duration::from_millis(5);

/// Events that are taken at once.
pub(super) const EVENTS: usize = 256;

/// How long a worker that refused a connection gets no other.
const REST: Duration = Duration::from_millis(100);

pub(super) struct Run<K> {
    pub(super) poll: Poll,
    inbox: Receiver<Command<K>>,
    pub(super) stats: Arc<Stats>,
    pub(super) dispatcher: Dispatcher<K, Connection>,
    pub(super) intakes: Vec<Intake>,
    pub(super) lanes: BTreeMap<K, Seat>,
    tokens: HashMap<Token, K>,
    next_token: usize,
    window: u16,
    pub(super) batch: usize,
    pub(super) held: usize,
    /// How many connections there may be in all.
    pub(super) max_connections: Option<usize>,
    pub(super) when_full: WhenFull,
    /// Which listening socket is asked first: they take turns.
    pub(super) first_intake: usize,
    pub(super) key: Key,
    /// The strategy wants a connection to wait where it was sent.
    insists: bool,
    /// Only for a key that needs bytes.
    pub(super) peeking: Option<Peeking>,
    pub(super) pause: Pause,
    /// What the dispatcher counts time from.
    pub(super) epoch: Instant,
    pub(super) closing: Option<Closing>,
    /// Listeners that are no more: what comes back of their connections is nobody's.
    over: Classes,
}

/// A lane and what the loop remembers of it.
pub(super) struct Seat {
    slot: u32,
    generation: u32,
    pid: u32,
    lane: Lane,
    token: Token,
    /// How many connections of which listeners it can hold, once it was admitted.
    pub(super) admitted: Option<(u32, Classes)>,
    /// Frames are waiting that were not read yet.
    unheard: bool,
    /// It refused a connection and rests until then.
    rests_until: Option<Instant>,
    patience: Patience,
    /// The dispatcher gives it nothing, for one of these two reasons.
    paused: bool,
}

impl Seat {
    fn new(slot: u32, generation: u32, pid: u32, lane: Lane, token: Token) -> Self {
        Self {
            slot,
            generation,
            pid,
            lane,
            token,
            admitted: None,
            unheard: false,
            rests_until: None,
            patience: Patience::default(),
            paused: false,
        }
    }

    /// One line per step of a connection's way, for who wants to follow it: the state of its ticket, as the board has it.
    fn trace(&self, connection: &Connection, ticket: TicketState) {
        let (slot, generation, pid, peer) = (self.slot, self.generation, self.pid, &connection.peer);
        tracing::trace!(target: "cluster::connection", %peer, slot, generation, pid, ?ticket);
    }

    /// Whether it shall get nothing for now, if that is another answer than before.
    fn pauses_anew(&mut self) -> Option<bool> {
        let pauses = self.rests_until.is_some() || !self.patience.is_prompt();
        let anew = pauses != self.paused;
        self.paused = pauses;
        anew.then_some(pauses)
    }
}

fn on_board(ticket: cluster_balancer::Ticket) -> Ticket {
    Ticket::new(ticket.index(), ticket.sequence())
}

impl<K: WorkerKey> Run<K> {
    pub(super) fn new(
        poll: Poll,
        inbox: Receiver<Command<K>>,
        settings: Settings,
        stats: Arc<Stats>,
        now: Instant,
    ) -> Self {
        Self {
            poll,
            inbox,
            stats,
            insists: settings.strategy.insists(),
            dispatcher: Dispatcher::new(settings.strategy, settings.batch),
            intakes: Vec::new(),
            lanes: BTreeMap::new(),
            tokens: HashMap::new(),
            next_token: 0,
            window: settings.window,
            batch: settings.batch,
            held: settings.held,
            max_connections: settings.max_connections,
            when_full: settings.when_full,
            first_intake: 0,
            peeking: settings.key.needs_bytes().then(|| {
                // The other half is for those on their way to workers.
                let connections = settings.peek.connections.min(settings.held / 2);
                Peeking::new(settings.key.clone(), settings.peek.connections(connections))
            }),
            key: settings.key,
            pause: Pause::default(),
            epoch: now,
            closing: None,
            over: Classes::none(),
        }
    }

    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let timeout = self.timeout(Instant::now());
            if let Err(error) = self.poll_events(&mut events, timeout) {
                tracing::error!(%error, "the acceptor cannot wait for events");
                return;
            }
            if !self.handle_all(&events, Instant::now()) {
                return;
            }
        }
    }

    /// Waits for events.
    pub(super) fn poll_events(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// Handles events and commands, and does what follows. `false` when nobody can send commands any more.
    pub(super) fn handle_all(&mut self, events: &Events, now: Instant) -> bool {
        for event in events {
            self.handle_event(event);
        }
        self.take_commands(now) && self.work(now)
    }

    fn handle_event(&mut self, event: &Event) {
        if event.token() == WAKER {
            return;
        }
        if let Some(worker) = self.tokens.get(&event.token()).copied() {
            let Some(seat) = self.lanes.get_mut(&worker) else { return };
            seat.unheard |= event.is_readable();
            if event.is_writable() && seat.lane.flush() {
                seat.rests_until = None;
                self.pause_or_resume(worker);
            }
        } else if let Some(intake) = self.intakes.iter_mut().find(|intake| intake.token == event.token()) {
            intake.ready = true;
        } else if let Some(peeking) = &mut self.peeking {
            peeking.handle_readable(event.token(), event.is_read_closed(), self.poll.registry());
        }
    }

    /// `false` when nobody can send commands any more.
    fn take_commands(&mut self, now: Instant) -> bool {
        loop {
            match self.inbox.try_recv() {
                Ok(command) => self.handle_command(command, now),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn handle_command(&mut self, command: Command<K>, now: Instant) {
        match command {
            Command::Listen { listener, socket } => self.listen(listener, None, socket),
            Command::Unlisten { listener } => {
                self.close_intakes(|intake| intake.listener == listener);
                self.over = self.over.with(listener);
            }
            Command::Orphan(Orphan::Adopt { listener, slot, socket }) => self.listen(listener, slot, socket),
            Command::Orphan(Orphan::Release { listener, slot }) => {
                self.close_intakes(|intake| intake.listener == listener && intake.slot == Some(slot));
            }
            Command::Attach { worker, slot, generation, pid, channel, board } => {
                let token = self.new_token();
                match Lane::new(*channel, board, self.poll.registry(), token) {
                    Ok(lane) => {
                        self.tokens.insert(token, worker);
                        self.lanes.insert(worker, Seat::new(slot, generation, pid, lane, token));
                    }
                    Err(error) => {
                        tracing::error!(slot, generation, pid, %error, "could not watch the data channel of worker {worker}");
                    }
                }
            }
            Command::Admit { worker, capacity, listeners } => {
                if let Some(seat) = self.lanes.get_mut(&worker) {
                    seat.admitted = Some((capacity, listeners));
                    let limits = Limits::new()
                        .window(self.window)
                        .capacity(capacity)
                        .classes(listeners)
                        .identity(u64::from(seat.slot));
                    self.dispatcher.admit(worker, limits);
                }
            }
            Command::Withdraw { worker } => self.withdraw(worker),
            Command::Gauge { worker, used } => self.dispatcher.handle_gauge(worker, used),
            // Whoever asked may have gone away meanwhile.
            Command::Status { reply } => drop(reply.send(self.dispatcher.status())),
            Command::Forget { worker } => {
                self.withdraw(worker);
                drop(self.dispatcher.remove(worker));
                if let Some(seat) = self.lanes.remove(&worker) {
                    self.tokens.remove(&seat.token);
                }
            }
            Command::Close { linger, within, done } => self.begin_closing(linger, within, done, now),
        }
    }

    pub(super) fn new_token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    fn listen(&mut self, listener: u8, slot: Option<u32>, socket: ListeningSocket) {
        self.over = self.over.without(listener);
        if self.closing.is_some() {
            closing::refuse(listener, &socket);
        }
        let token = self.new_token();
        match Intake::new(listener, slot, socket, token, self.poll.registry()) {
            Ok(intake) => self.intakes.push(intake),
            Err(error) => tracing::error!(listener, %error, "could not watch a listening socket"),
        }
    }

    /// Closes the listening sockets for which `is_over`.
    pub(super) fn close_intakes(&mut self, is_over: impl Fn(&Intake) -> bool) {
        let (over, rest) = std::mem::take(&mut self.intakes).into_iter().partition(is_over);
        self.intakes = rest;
        over.into_iter().for_each(|intake: Intake| intake.close(self.poll.registry()));
    }

    /// Claims back what the worker has not taken, and closes what it took.
    fn withdraw(&mut self, worker: K) {
        if let Some(seat) = self.lanes.get_mut(&worker) {
            seat.admitted = None;
        }
        self.dispatcher.withdraw(worker);
        self.claim_back(worker);
    }

    /// Returns whether all of it came back: otherwise the worker has just taken something.
    fn claim_back(&mut self, worker: K) -> bool {
        let tickets: Vec<_> = self.dispatcher.in_flight(worker).collect();
        let mut all = true;
        for ticket in tickets {
            let Some(seat) = self.lanes.get(&worker) else { return all };
            let state = seat.lane.recall(on_board(ticket));
            all &= state == TicketState::Recalled;
            self.settle(worker, ticket, state);
        }
        all
    }

    /// A ticket has come to its end: the connection is the worker's, or goes to another.
    fn settle(&mut self, worker: K, ticket: cluster_balancer::Ticket, state: TicketState) {
        if let (Some(seat), Some(connection)) =
            (self.lanes.get(&worker), self.dispatcher.item(worker, ticket))
        {
            seat.trace(connection, state);
        }
        match state {
            TicketState::Recalled if self.dispatcher.handle_recalled(worker, ticket) => {
                self.stats.recalled.add(1);
            }
            TicketState::Refused if self.dispatcher.handle_refused(worker, ticket) => {
                self.stats.refused.add(1);
            }
            TicketState::Recalled | TicketState::Refused => {}
            // The worker has its own copy, or died with it.
            _ => drop(self.dispatcher.handle_taken(worker, ticket)),
        }
    }

    /// `false` when nobody can send commands any more.
    fn work(&mut self, now: Instant) -> bool {
        self.hear();
        self.reap(now);
        for listener in self.over.iter() {
            drop(self.dispatcher.discard(listener));
        }
        self.pass_over_late(now);
        if let Some(peeking) = &mut self.peeking {
            peeking.handle_timeout(now, self.poll.registry());
        }
        self.settle_closing(now);
        self.offer_ready(now);
        self.accept(now);
        self.reject(now);
        self.close_drained(now);
        self.offer_ready(now);
        // Who connects because a worker is ready must find it so: what was commanded before a connection came counts for it.
        let goes_on = self.take_commands(now);
        self.dispatch(now);
        if self.is_starved() {
            self.lanes.values().for_each(|seat| seat.lane.want_bell(true));
            // What was taken or finished before the workers could see the wish rings no bell.
            self.reap(now);
            self.offer_ready(now);
            self.dispatch(now);
        }
        self.finish_closing(now);
        goes_on
    }

    fn hear(&mut self) {
        let mut gone = Vec::new();
        for (worker, seat) in self.lanes.iter_mut().filter(|(_, seat)| seat.unheard) {
            let bell = seat.lane.listen_for_bell();
            seat.unheard = bell == Bell::More;
            if bell == Bell::Gone {
                gone.push(*worker);
            }
        }
        // Whether it is about to die or has only lost this channel: what it has not taken goes to others.
        gone.into_iter().for_each(|worker| self.withdraw(worker));
    }

    /// Looks at what became of open tickets, and at how much the workers have finished.
    fn reap(&mut self, now: Instant) {
        let mut settled = Vec::new();
        for (worker, seat) in &mut self.lanes {
            let figures = seat.lane.figures();
            if figures.accepted > 0 {
                self.dispatcher.handle_elsewhere(*worker, figures.accepted);
            }
            self.dispatcher.handle_finished(*worker, figures.finished);
            let mut lies = false;
            for ticket in self.dispatcher.in_flight(*worker) {
                lies = true;
                match seat.lane.state(on_board(ticket)) {
                    TicketState::Offered => {}
                    state => settled.push((*worker, ticket, state)),
                }
            }
            seat.rests_until = seat.rests_until.filter(|until| *until > now);
            if !self.insists {
                seat.patience.handle_signs(Signs::from(&figures), lies, now);
            }
        }
        for (worker, ticket, state) in settled {
            self.settle(worker, ticket, state);
            let more = self.dispatcher.untaken(worker) > 0;
            let Some(seat) = self.lanes.get_mut(&worker) else { continue };
            seat.patience.handle_settled(more, now);
            if state == TicketState::Refused {
                tracing::debug!(
                    slot = seat.slot,
                    generation = seat.generation,
                    pid = seat.pid,
                    "worker {worker} refused a connection; it goes to another"
                );
                seat.rests_until = Some(now + REST);
            }
        }
        for (worker, seat) in &mut self.lanes {
            match seat.pauses_anew() {
                Some(true) => self.dispatcher.pause(*worker),
                Some(false) => self.dispatcher.resume(*worker),
                None => {}
            }
        }
    }

    /// Claims back what lies with workers that don't come round to it, if somebody else has room.
    fn pass_over_late(&mut self, now: Instant) {
        if self.dispatcher.room() == 0 {
            return;
        }
        let late = self.lanes.iter().filter(|(_, seat)| seat.patience.is_late()).map(|(worker, _)| *worker);
        for worker in late.collect::<Vec<_>>() {
            let Some(seat) = self.lanes.get_mut(&worker) else { continue };
            tracing::debug!(
                slot = seat.slot,
                generation = seat.generation,
                pid = seat.pid,
                "worker {worker} does not come round to its connections; they go to others"
            );
            // Before: it rings when it finds them gone.
            seat.lane.want_bell(true);
            let signs = Signs::from(&seat.lane.figures());
            let all = self.claim_back(worker);
            if let Some(seat) = self.lanes.get_mut(&worker) {
                // What it took a moment ago may be the last thing to be heard of it for long.
                if all {
                    seat.patience.handle_claimed_back(signs, now);
                } else {
                    seat.patience.handle_settled(false, now);
                }
            }
            self.pause_or_resume(worker);
        }
    }

    fn rest(&mut self, worker: K, now: Instant) {
        if let Some(seat) = self.lanes.get_mut(&worker) {
            seat.rests_until = Some(now + REST);
        }
        self.pause_or_resume(worker);
    }

    fn pause_or_resume(&mut self, worker: K) {
        match self.lanes.get_mut(&worker).and_then(Seat::pauses_anew) {
            Some(true) => self.dispatcher.pause(worker),
            Some(false) => self.dispatcher.resume(worker),
            None => {}
        }
    }

    fn dispatch(&mut self, now: Instant) {
        while let Some(batch) = self.dispatcher.poll_batch() {
            if !self.send(&batch, now) {
                // The way is full, or descriptors can't travel for now, or the worker is gone: others get these until
                // it is writable, has rested, or is withdrawn.
                self.rest(batch.key(), now);
            }
        }
    }

    fn send(&mut self, batch: &Batch<K>, now: Instant) -> bool {
        let worker = batch.key();
        let Some(seat) = self.lanes.get_mut(&worker) else { return false };
        let connections = batch.tickets().iter().filter_map(|ticket| {
            self.dispatcher.item(worker, *ticket).map(|connection| (on_board(*ticket), connection))
        });
        let connections: Vec<_> = connections.collect();
        match seat.lane.send(&connections) {
            Ok(Handed::Sent) => {
                connections.iter().for_each(|(_, connection)| seat.trace(connection, TicketState::Offered));
                self.stats.handed.add(connections.len());
                seat.patience.handle_offered(now);
                return true;
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(slot = seat.slot, generation = seat.generation, pid = seat.pid, %error, "could not hand connections to worker {worker}")
            }
        }
        for ticket in batch.tickets() {
            seat.lane.recall(on_board(*ticket));
            self.dispatcher.handle_recalled(worker, *ticket);
        }
        false
    }

    fn has_open_tickets(&self) -> bool {
        self.dispatcher.owned() > self.dispatcher.waiting()
    }

    pub(super) fn timeout(&self, now: Instant) -> Option<Duration> {
        let ready = self.can_accept() || self.can_reject() || self.can_probe();
        let paused = self.pause.until(now);
        let unheard = self.lanes.values().any(|seat| seat.unheard);
        if (ready && paused.is_none()) || unheard {
            return Some(Duration::ZERO);
        }
        let tick = self.has_open_tickets().then(|| now + TICK);
        let rests = self.lanes.values().filter_map(|seat| seat.rests_until);
        let closing = self.closing.as_ref().and_then(|closing| closing.poll_timeout(self.is_hopeless()));
        let peeking = self.peeking.as_ref().and_then(Peeking::poll_timeout);
        let patience = self.lanes.values().filter_map(|seat| seat.patience.poll_timeout());
        let patience = patience.filter(|_| !self.insists);
        let deadlines =
            rests.chain(patience).chain(peeking).chain(tick).chain(closing).chain(paused.filter(|_| ready));
        deadlines.min().map(|deadline| deadline.saturating_duration_since(now))
    }
}
