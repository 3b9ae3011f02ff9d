//! One running child of a [`Runner`](super::Runner), until nobody is left of it.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::listing::Listing;
use super::service::{Ready, Service};
use crate::os::Readiness as Heard;
use crate::os::{
    Ask, Autopsy, Capture, Child, ChildSpec, Death, Error, Field, NotifySocket, ReadyPipe, Sender, Senders,
    Signal, Stdio, Stream, Tree,
};
use crate::state::after;
use crate::{Exit, StopSignal, WorkerId};

/// How long whoever a dead child left behind is chased, and in how many rounds at least. What may not be signalled can't be waited for.
const CHASE: Duration = Duration::from_secs(2);
const ROUNDS: u32 = 20;

/// How soon a child that has ended is asked again how, where a debugger holds it.
const ASK_AGAIN: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct Life {
    child: Child,
    tree: Tree,
    autopsy: Autopsy,
    readiness: Readiness,
    /// What asks it to stop.
    stop_signal: Signal,
    /// It was asked by that.
    is_asked: bool,
    /// The strongest signal that followed.
    sent: Option<StopSignal>,
    /// The tree is being killed: look again then.
    next_round: Option<Instant>,
    /// Rounds so far.
    rounds: u32,
    /// The child has ended; others of its tree may not have.
    death: Option<(Death, Instant)>,
    /// It has ended, and it can't be had how: ask again then.
    held_until: Option<Instant>,
}

#[derive(Debug)]
enum Readiness {
    Said,
    Due(Instant),
    Notify(NotifySocket),
    /// It has said so, and may go on saying things.
    Told(NotifySocket),
    Line(ReadyPipe),
    /// It has closed its end without a word: only its deadline is left.
    Never,
}

impl Readiness {
    /// What a service's next child is started as, and how it will be heard.
    fn prepare(service: &Service, now: Instant) -> Result<(ChildSpec, Self), Error> {
        let spec = service.spec().clone();
        Ok(match service.how_ready() {
            Ready::AtOnce => (spec, Self::Said),
            Ready::After(time) => (spec, Self::Due(after(now, time))),
            Ready::Notify => {
                let socket = NotifySocket::bind()?;
                (spec.env("NOTIFY_SOCKET", socket.address()), Self::Notify(socket))
            }
            Ready::Line(number) => {
                let (pipe, childs_end) = ReadyPipe::new()?;
                (spec.descriptor(number, childs_end), Self::Line(pipe))
            }
        })
    }

    /// Hears what there is. `None` if that told nothing new.
    fn hear(&mut self, child: u32, now: Instant) -> Option<Heard> {
        match self {
            Self::Said | Self::Never => None,
            Self::Told(socket) => {
                let heard = || socket.receive(Senders::Tree(child));
                // To keep its queue from filling.
                let _ = (0..64).find(|_| !matches!(heard(), Ok(Some(_))));
                None
            }
            Self::Due(due) => (*due <= now).then_some(Heard::Ready),
            // At most as many as a queue holds; a socket that fails says nothing any more.
            Self::Notify(socket) => (0..64)
                .map_while(|_| socket.receive(Senders::Tree(child)).ok().flatten())
                .any(|notification| notification.fields().contains(&Field::Ready))
                .then_some(Heard::Ready),
            Self::Line(pipe) => match pipe.receive() {
                Ok(None) => None,
                Ok(Some(Heard::Ready)) => Some(Heard::Ready),
                // One that fails would be readable for ever, too.
                Ok(Some(_)) | Err(_) => Some(Heard::Closed),
            },
        }
    }
}

impl Life {
    /// Whether a child of this service could ever be started, as far as that can be said beforehand.
    pub(super) fn check(service: &Service, now: Instant) -> Result<(), Error> {
        Readiness::prepare(service, now)?.0.check()
    }

    pub(super) fn begin(
        service: &Service,
        id: WorkerId,
        capture: Option<&Capture<WorkerId>>,
        now: Instant,
    ) -> Result<Self, Error> {
        let (mut spec, readiness) = Readiness::prepare(service, now)?;
        let capture = capture.filter(|_| service.is_captured());
        if capture.is_some() {
            spec = spec.stdout(Stdio::Piped).stderr(Stdio::Piped);
        }
        let mut child = spec.spawn()?;
        let watched = capture.map_or(Ok(()), |capture| watch(capture, id, &mut child));
        let begun = watched.and_then(|()| Tree::of(&child));
        match begun {
            Ok(tree) => {
                let autopsy = Autopsy::begin(&child);
                Ok(Self {
                    child,
                    tree,
                    autopsy,
                    readiness,
                    stop_signal: service.how_asked(),
                    is_asked: false,
                    sent: None,
                    next_round: None,
                    rounds: 0,
                    death: None,
                    held_until: None,
                })
            }
            // Nobody could look after it.
            Err(error) => {
                child.kill_and_reap()?;
                Err(error)
            }
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.pid()
    }

    pub(super) fn is_ready_at_once(&self) -> bool {
        matches!(self.readiness, Readiness::Said)
    }

    /// Whether it has become ready just now.
    pub(super) fn becomes_ready(&mut self, now: Instant) -> bool {
        match self.readiness.hear(self.child.pid(), now) {
            None => false,
            Some(Heard::Ready) => {
                self.readiness = match std::mem::replace(&mut self.readiness, Readiness::Said) {
                    // A program that finds its socket closed may take that for a fault.
                    Readiness::Notify(socket) => Readiness::Told(socket),
                    _ => Readiness::Said,
                };
                true
            }
            Some(Heard::Closed) => {
                self.readiness = Readiness::Never;
                false
            }
        }
    }

    /// Asks the child to stop, in its program's way.
    pub(super) fn ask(&mut self) {
        self.is_asked = true;
        // Without /proc it is asked all the same; if it can't be signalled, its deadline comes.
        let _ = self.tree.ask_by(self.stop_signal, Ask::Child);
    }

    /// Asks its whole group, in everybody's way.
    pub(super) fn ask_all(&mut self) {
        self.sent = self.sent.or(Some(StopSignal::Term));
        // As above.
        let _ = self.tree.ask(Ask::Group);
    }

    /// Begins to kill everybody.
    pub(super) fn kill(&mut self, now: Instant) {
        self.sent = Some(StopSignal::Kill);
        self.next_round = Some(now);
    }

    /// Notes who belongs to it, for when they have lost their parents.
    pub(super) fn look(&mut self, listing: &mut Listing) {
        if let Ok(listed) = listing.get() {
            self.tree.look_among(listed);
        }
    }

    /// Goes on with what takes several rounds. Returns how it died, once nobody is left.
    pub(super) fn advance(&mut self, listing: &mut Listing, now: Instant) -> Option<Death> {
        if self.death.is_none()
            && self.held_until.is_none_or(|until| until <= now)
            && let Some(death) = self.examine(now)
        {
            let as_asked = self.is_asked && death.exit() == Exit::Signal(self.stop_signal.number());
            let death = if as_asked { death.with_sender(Sender::Supervisor) } else { death };
            self.death = Some((death, now + CHASE));
            // Whom it left behind is nobody's.
            (self.next_round, self.rounds) = (Some(now), 0);
        }
        let is_nobody = match self.next_round {
            Some(at) if at <= now => {
                self.next_round = Some(now + super::ROUND);
                self.rounds = self.rounds.saturating_add(1);
                let left = self.tree.kill_round_among(listing.get());
                left.is_ok_and(|left| left.living() <= left.refused())
            }
            _ => false,
        };
        let (death, give_up) = self.death?;
        if !is_nobody && (now < give_up || self.rounds < ROUNDS) {
            return None;
        }
        if !is_nobody {
            // At least nobody is left standing still.
            let _ = self.tree.kill_all();
        }
        // It is a zombie, and ours.
        let _ = self.child.try_reap();
        Some(death)
    }

    /// How it ended, once it has.
    fn examine(&mut self, now: Instant) -> Option<Death> {
        self.held_until = None;
        if let Ok(Some(death)) = self.autopsy.examine(&self.child, self.sent) {
            return Some(death);
        }
        if !self.child.has_ended() {
            return None;
        }
        match self.child.try_reap() {
            Ok(Some(exit)) => Some(Death::new(exit)),
            Ok(None) => {
                self.held_until = Some(now + ASK_AGAIN);
                None
            }
            // Somebody else has reaped it: nobody knows how.
            Err(_) => Some(Death::new(Exit::Code(-1))),
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let ready = match self.readiness {
            Readiness::Due(due) => Some(due),
            Readiness::Said
            | Readiness::Notify(_)
            | Readiness::Told(_)
            | Readiness::Line(_)
            | Readiness::Never => None,
        };
        ready.into_iter().chain(self.next_round).chain(self.held_until).min()
    }

    /// What to wait on. A child that is dead has nothing more to say.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let notify = match &self.readiness {
            Readiness::Notify(socket) | Readiness::Told(socket) => Some(socket.as_fd()),
            Readiness::Line(pipe) => Some(pipe.as_fd()),
            Readiness::Said | Readiness::Due(_) | Readiness::Never => None,
        };
        let is_awaited = self.death.is_none() && self.held_until.is_none();
        let child = is_awaited.then(|| self.child.as_fd());
        child.into_iter().chain(notify)
    }
}

fn watch(capture: &Capture<WorkerId>, id: WorkerId, child: &mut Child) -> Result<(), Error> {
    if let Some(pipe) = child.take_stdout() {
        capture.watch(id, Stream::Stdout, pipe)?;
    }
    if let Some(pipe) = child.take_stderr() {
        capture.watch(id, Stream::Stderr, pipe)?;
    }
    Ok(())
}
