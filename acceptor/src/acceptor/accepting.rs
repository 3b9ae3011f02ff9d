//! How many connections to accept, from which socket, and when to pause.

use std::time::Instant;

use cluster_balancer::Request;

use super::intake::{Accepted, Intake};
use super::lane::Connection;
use super::peeking::Peeking;
use super::run::Run;
use super::{WhenFull, WorkerKey};

impl<K: WorkerKey> Run<K> {
    /// How many connections of a listener may be accepted now.
    pub(super) fn room(&self, listener: u8) -> usize {
        let peeked = self.peeking.as_ref().map_or(0, Peeking::len);
        let held = self.dispatcher.owned() + peeked;
        let room = self.dispatcher.room_for(listener).min(self.held.saturating_sub(held));
        self.max_connections.map_or(room, |most| room.min(most.saturating_sub(self.open())))
    }

    /// How many connections there are in the cluster, as far as the acceptor knows.
    fn open(&self) -> usize {
        let outstanding = |worker: &K| self.dispatcher.outstanding(*worker).unwrap_or(0) as usize;
        let peeked = self.peeking.as_ref().map_or(0, Peeking::len);
        self.lanes.keys().map(outstanding).sum::<usize>() + self.dispatcher.waiting() + peeked
    }

    /// Whether there are as many connections of a listener as there may be. That workers are slow to take theirs is another matter.
    fn is_full(&self, listener: u8) -> bool {
        if self.max_connections.is_some_and(|most| self.open() >= most) {
            return true;
        }
        let mut seats = self.lanes.iter().filter_map(|(worker, seat)| {
            let (capacity, listeners) = seat.admitted?;
            listeners.contains(listener).then_some((worker, capacity))
        });
        let mut some = false;
        let all = seats.all(|(worker, capacity)| {
            some = true;
            self.dispatcher.outstanding(*worker).unwrap_or(0) >= capacity
        });
        some && all
    }

    /// Whether connections wait that shall not.
    pub(super) fn can_reject(&self) -> bool {
        let is_over = |intake: &Intake| intake.ready && self.is_full(intake.listener);
        self.when_full == WhenFull::Reject && self.intakes.iter().any(is_over)
    }

    /// Closes connections that are too many.
    pub(super) fn reject(&mut self, now: Instant) {
        if !self.can_reject() || self.pause.until(now).is_some() {
            return;
        }
        for index in 0..self.intakes.len() {
            let full =
                self.intakes.get(index).is_some_and(|intake| intake.ready && self.is_full(intake.listener));
            let Some(intake) = self.intakes.get_mut(index).filter(|_| full) else { continue };
            for _ in 0..self.batch {
                match intake.accept() {
                    Accepted::Connection(..) => self.stats.rejected.add(1),
                    Accepted::Aborted => {}
                    Accepted::Drained => break,
                    Accepted::Exhausted(errno) => {
                        let pause = self.pause.begin(now);
                        tracing::warn!(%errno, ?pause, "cannot accept for now; connections wait in the kernel's queue");
                        return;
                    }
                }
            }
        }
    }

    /// Offers those that have been looked at, as far as there is room.
    pub(super) fn offer_ready(&mut self, now: Instant) {
        while let Some(mut peeking) = self.peeking.take() {
            let next = peeking.pop_ready(|listener| self.room(listener) > 0);
            self.peeking = Some(peeking);
            let Some((connection, key)) = next else { return };
            self.offer(connection, key, now);
        }
    }

    /// Gives a connection to the dispatcher, for which it has room.
    fn offer(&mut self, connection: Connection, key: Option<u64>, now: Instant) {
        let request = Request::new().class(connection.listener);
        let request = request.at(now.saturating_duration_since(self.epoch));
        let request = key.map_or(request, |key| request.key(key));
        // The queue takes as many as `batch` beyond those that there is room for.
        if let Err(overloaded) = self.dispatcher.offer_for(request, connection) {
            let peer = overloaded.into_inner().peer;
            tracing::error!(%peer, "no place for an accepted connection: closed it");
        }
    }

    /// Whether something waits for a worker to have room.
    pub(super) fn is_starved(&self) -> bool {
        let is_stuck = |intake: &Intake| intake.ready && self.room(intake.listener) == 0;
        let behind = self.peeking.as_ref().is_some_and(Peeking::has_ready);
        behind || self.dispatcher.waiting() > 0 || self.intakes.iter().any(is_stuck)
    }

    pub(super) fn can_accept(&self) -> bool {
        // What has been looked at comes first.
        let behind = self.peeking.as_ref().is_some_and(Peeking::has_ready);
        !behind && self.intakes.iter().any(|intake| intake.ready && self.room(intake.listener) > 0)
    }

    pub(super) fn accept(&mut self, now: Instant) {
        if !self.can_accept() {
            return;
        }
        // If the processors are busy, let others run first: more connections arrive meanwhile, and go out in one
        // message. If they are idle this costs nothing. (Measured on two busy cores: a quarter more connections a second.)
        rustix::thread::sched_yield();
        let mut tries = self.batch;
        self.first_intake = self.first_intake.wrapping_add(1);
        for turn in 0..self.intakes.len() {
            let index = (self.first_intake.wrapping_add(turn)) % self.intakes.len();
            self.accept_from(index, &mut tries, now);
        }
    }

    /// Gives an accepted connection, for which there is room, on its way.
    pub(super) fn begin(&mut self, connection: Connection, now: Instant) {
        let own = self.new_token();
        if let Some(peeking) = &mut self.peeking {
            peeking.insert(connection, own, self.poll.registry(), now);
        } else {
            let key = self.key.settle(connection.peer.host(), &[]);
            self.offer(connection, key, now);
        }
    }

    /// Accepts from one socket, with so many tries left.
    fn accept_from(&mut self, index: usize, tries: &mut usize, now: Instant) {
        let Some((listener, true)) = self.intakes.get(index).map(|intake| (intake.listener, intake.ready))
        else {
            return;
        };
        let mut room = self.room(listener);
        while room > 0 && *tries > 0 && self.pause.until(now).is_none() {
            let Some(intake) = self.intakes.get_mut(index) else { return };
            *tries -= 1;
            self.stats.attempts.add(1);
            match intake.accept() {
                Accepted::Connection(stream, peer) => {
                    self.pause.reset();
                    self.stats.accepted.add(1);
                    self.begin(Connection { stream, peer, listener }, now);
                    room -= 1;
                }
                Accepted::Aborted => {}
                Accepted::Drained => return,
                Accepted::Exhausted(errno) => {
                    self.stats.backoffs.add(1);
                    let pause = self.pause.begin(now);
                    tracing::warn!(%errno, ?pause, "cannot accept for now; connections wait in the kernel's queue");
                }
            }
        }
    }
}
