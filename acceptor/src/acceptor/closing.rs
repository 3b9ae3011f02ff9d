//! The end of accepting: who has connected is handed out, and who comes later is refused.
//!
//! | phase \ what | Close                        | no handshake is under way, or linger is over | a queue is empty | all is handed out, or the time is over |
//! |--------------|------------------------------|----------------------------------------------|------------------|----------------------------------------|
//! | (none)       | Settling: all sockets refuse | -                                            | -                | -                                      |
//! | Settling     | again                        | Draining: all queues are looked at once more | -                | (none): all sockets end                |
//! | Draining     | Settling                     | -                                            | its socket ends  | (none): all sockets end                |
//!
//! See [`ListeningSocket`] for what a socket does at each step. While there is no worker that takes anything it is of no use to wait
//! longer than linger; otherwise a worker that is busy comes round to it.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::WorkerKey;
use super::intake::{Accepted, Intake};
use super::lane::Connection;
use super::peeking::Peeking;
use super::run::Run;
use crate::ListeningSocket;
use crate::socket::Port;

/// When handshakes are looked for first. A packet that another processor had let in just before is among them by then.
const FIRST_LOOK: Duration = Duration::from_millis(5);

/// How often they are looked for at least: the time between two looks doubles.
const MAX_LOOK: Duration = Duration::from_millis(40);

/// How long to wait for them where the system does not tell: a round trip of most clients.
const BLIND: Duration = Duration::from_millis(200);

pub(super) struct Closing {
    begun: Instant,
    /// While handshakes may be under way.
    look: Option<Look>,
    linger: Option<Instant>,
    deadline: Option<Instant>,
    /// Accepted to see whether somebody waits where there is no room. At most this one.
    spare: Option<Connection>,
    done: oneshot::Sender<()>,
}

/// The next look, and how long after the last one it is.
struct Look {
    at: Instant,
    after: Duration,
}

impl Look {
    fn first(now: Instant) -> Self {
        Self { at: now + FIRST_LOOK, after: FIRST_LOOK }
    }

    fn next(&self, now: Instant) -> Self {
        let after = (self.after * 2).min(MAX_LOOK);
        Self { at: now + after, after }
    }
}

impl Closing {
    /// If nobody takes anything, the time is over sooner.
    pub(super) fn poll_timeout(&self, is_hopeless: bool) -> Option<Instant> {
        let look = self.look.as_ref().map(|look| look.at);
        let linger = self.linger.filter(|_| is_hopeless);
        [look, linger, self.deadline].into_iter().flatten().min()
    }

    fn is_over(&self, is_hopeless: bool, now: Instant) -> bool {
        let is_past = |time: Option<Instant>| time.is_some_and(|time| time <= now);
        is_past(self.deadline) || (is_hopeless && is_past(self.linger))
    }
}

/// Lets nobody new in by this socket.
pub(super) fn refuse(listener: u8, socket: &ListeningSocket) {
    if let Err(error) = socket.refuse() {
        tracing::warn!(listener, %error, "clients can't be kept out before the end: who connects at the last moment is reset");
    }
}

impl<K: WorkerKey> Run<K> {
    pub(super) fn begin_closing(
        &mut self,
        linger: Duration,
        within: Duration,
        done: oneshot::Sender<()>,
        now: Instant,
    ) {
        self.intakes.iter().for_each(|intake| refuse(intake.listener, &intake.socket));
        let spare = self.closing.take().and_then(|closing| closing.spare);
        let may_settle = self.intakes.iter().any(|intake| intake.socket.half_open().is_some());
        let look = may_settle.then(|| Look::first(now));
        let (linger, deadline) = (now.checked_add(linger), now.checked_add(within));
        self.closing = Some(Closing { begun: now, look, linger, deadline, spare, done });
        // Ask each socket once more: one who connected before this must not be lost.
        self.intakes.iter_mut().for_each(|intake| intake.ready = true);
    }

    /// Looks whether all who were half in are in.
    pub(super) fn settle_closing(&mut self, now: Instant) {
        let Some(mut closing) = self.closing.take() else { return };
        if let Some(look) = closing.look.take_if(|look| look.at <= now) {
            if closing.linger.is_none_or(|linger| now < linger)
                && self.is_somebody_half_in(closing.begun, now)
            {
                closing.look = Some(look.next(now));
            } else {
                self.intakes.iter_mut().for_each(|intake| intake.ready = true);
            }
        }
        if let Some(spare) = closing.spare.take_if(|spare| self.room(spare.listener) > 0) {
            self.begin(spare, now);
        }
        self.closing = Some(closing);
    }

    fn is_somebody_half_in(&self, begun: Instant, now: Instant) -> bool {
        let mut ports: Vec<Port> = Vec::new();
        for port in self.intakes.iter().filter_map(|intake| intake.socket.half_open()) {
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
        ports.into_iter().any(|port| {
            port.has_half_open().unwrap_or_else(|error| {
                tracing::debug!(%error, "the system does not tell whether handshakes are under way");
                now < begun + BLIND
            })
        })
    }

    /// Ends the sockets whose queues are empty, once nobody can come into them any more.
    pub(super) fn close_drained(&mut self, now: Instant) {
        if self.closing.as_ref().is_none_or(|closing| closing.look.is_some()) {
            return;
        }
        self.probe(now);
        self.end_intakes(|intake| !intake.ready);
    }

    /// Whether it is to be seen if somebody waits where there is no room.
    pub(super) fn can_probe(&self) -> bool {
        let may =
            self.closing.as_ref().is_some_and(|closing| closing.look.is_none() && closing.spare.is_none());
        may && self.intakes.iter().any(|intake| self.is_to_be_probed(intake))
    }

    fn is_to_be_probed(&self, intake: &Intake) -> bool {
        intake.ready && self.room(intake.listener) == 0
    }

    /// Where there is no room nothing is accepted, so nothing tells whether a queue is empty.
    fn probe(&mut self, now: Instant) {
        for index in 0..self.intakes.len() {
            if !self.can_probe() || self.pause.until(now).is_some() {
                return;
            }
            let due = self.intakes.get(index).is_some_and(|intake| self.is_to_be_probed(intake));
            let Some(intake) = self.intakes.get_mut(index).filter(|_| due) else { continue };
            self.stats.attempts.add(1);
            match intake.accept() {
                Accepted::Connection(stream, peer) => {
                    self.stats.accepted.add(1);
                    let spare = Connection { stream, peer, listener: intake.listener };
                    if let Some(closing) = &mut self.closing {
                        closing.spare = Some(spare);
                    }
                }
                Accepted::Aborted | Accepted::Drained => {}
                Accepted::Exhausted(errno) => {
                    self.stats.backoffs.add(1);
                    let pause = self.pause.begin(now);
                    tracing::warn!(%errno, ?pause, "cannot accept for now; connections wait in the kernel's queue");
                }
            }
        }
    }

    fn end_intakes(&mut self, is_over: impl Fn(&Intake) -> bool) {
        self.intakes.iter().filter(|intake| is_over(intake)).for_each(|intake| intake.socket.end());
        self.close_intakes(is_over);
    }

    /// Whether nobody takes anything.
    pub(super) fn is_hopeless(&self) -> bool {
        self.lanes.values().all(|seat| seat.admitted.is_none())
    }

    pub(super) fn finish_closing(&mut self, now: Instant) {
        let Some(closing) = self.closing.take() else { return };
        let peeked = self.peeking.as_ref().map_or(0, Peeking::len);
        let held = self.dispatcher.owned() + peeked + usize::from(closing.spare.is_some());
        if (self.intakes.is_empty() && held == 0) || closing.is_over(self.is_hopeless(), now) {
            self.end_intakes(|_| true);
            // Whoever waited may have gone away meanwhile.
            let _ = closing.done.send(());
        } else {
            self.closing = Some(closing);
        }
    }
}
