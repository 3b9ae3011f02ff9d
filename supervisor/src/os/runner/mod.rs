//! A driver for the [`Supervisor`]: real children, in one thread, without async.
//!
//! ```text
//!   pidfds, readiness, signals ──poll──▶ Runner ──▶ Supervisor ──▶ spawn, ask, kill the tree
//!   orders, from any thread ─────┘         └── capture: lines, last words      └──▶ news
//! ```
//!
//! `mod` has the loop, `service` what a child is, `life` one running child, `news` what is told. `control` is for those who steer
//! it, `mailbox` holds what they want, `orders` carries it out.

mod control;
mod life;
mod listing;
mod mailbox;
mod news;
mod orders;
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

pub use self::control::Control;
pub use self::news::News;
pub use self::service::{Ready, Service};

use self::control::Line;
use self::life::Life;
use self::listing::Listing;
use super::{
    Capture, CaptureLimits, Death, Error, Orphans, Prefixed, Shutdown, Signal, Signals, Stream, Tail,
};
use crate::{Action, Event, GivenUp, Policy, StopSignal, Supervisor, WorkerId};

/// How soon a tree that is being killed is looked at again.
const ROUND: Duration = Duration::from_millis(5);

/// How often it is noted who belongs to whom.
const LOOK: Duration = Duration::from_secs(2);

/// Supervises children: starts them, keeps them running by their policies, and stops them.
///
/// For a program that does only that, or does it in a thread of its own. [`run`](Self::run) handles SIGTERM, SIGINT, SIGQUIT and, unless it
/// is ignored, SIGHUP: the first stops all gracefully, the second at once. Once it has run they have no effect any more: whoever goes on
/// watches them himself ([`Signals`]). As PID 1 it reaps the orphans that come to it. Other threads steer it by a [`Control`].
///
/// A service's output goes to our own, line by line, with its name before it, unless the service says otherwise; what it said last is
/// told with its death. When a service ends, whoever it left behind in its process group or below it is killed.
///
/// Dropping it kills whatever lives and waits for that. A SIGKILL of this process can't be answered here: children that shall
/// not outlive that need a [`death_signal`](super::ChildSpec::death_signal), as in the example `supervise_only`.
///
/// ```no_run
/// use std::time::Duration;
/// use cluster_supervisor::Policy;
/// use cluster_supervisor::os::{ChildSpec, Executable, Ready, Runner, Service};
///
/// let mut runner = Runner::new(Policy::new());
/// let database = ChildSpec::new(Executable::find("redis-server")?).args(["--port", "7000"]);
/// runner.add(Service::new("database", database).ready(Ready::After(Duration::from_millis(200))))?;
/// let web = ChildSpec::new(Executable::find("python3")?).args(["-m", "http.server", "8000"]);
/// runner.add(Service::new("web", web))?;
/// runner.run(|news| eprintln!("{news}"))?;
/// # Ok::<(), cluster_supervisor::os::Error>(())
/// ```
#[derive(Debug)]
pub struct Runner {
    supervisor: Supervisor,
    /// By slot.
    services: BTreeMap<u32, Service>,
    lives: BTreeMap<WorkerId, Life>,
    /// Of those who died, until it is told.
    deaths: BTreeMap<WorkerId, (Death, Option<Tail>)>,
    /// Of those who could not be started, until it is told.
    failures: BTreeMap<WorkerId, Error>,
    capture: Option<Capture<WorkerId>>,
    /// As PID 1 only.
    orphans: Option<Orphans>,
    /// When it is noted again who belongs to whom.
    next_look: Option<Instant>,
    /// To those who steer it, once somebody wanted to.
    line: Option<Arc<Line>>,
    /// Slots to be started when nobody lives there any more.
    again: BTreeSet<u32>,
    /// Slots that were stopped by an order, and may be started by another.
    parked: BTreeSet<u32>,
}

impl Runner {
    /// Without services. The policy is that of services that have none of their own, and says what concerns several:
    /// [`group`](Policy::group), and by [`max_surge`](Policy::max_surge) and [`max_unavailable`](Policy::max_unavailable) what
    /// [`Control::restart`] does.
    pub fn new(policy: Policy) -> Self {
        let seed = u64::from(std::process::id());
        Self {
            supervisor: Supervisor::new(policy, seed),
            services: BTreeMap::new(),
            lives: BTreeMap::new(),
            deaths: BTreeMap::new(),
            failures: BTreeMap::new(),
            capture: None,
            orphans: (std::process::id() == 1).then(Orphans::new),
            next_look: None,
            line: None,
            again: BTreeSet::new(),
            parked: BTreeSet::new(),
        }
    }

    /// Adds a service. It is started when [`run`](Self::run) runs, in the order in which they were added if that is the
    /// [group](Policy::group)'s way.
    ///
    /// # Errors
    ///
    /// For what trying again would not help: [`Error::NameTaken`], [`Error::Invalid`] for a [`ChildSpec`](super::ChildSpec) that
    /// can't be, [`Error::NoTrampoline`] if it needs one and this program has none. [`Error::Os`] at the limit of open files.
    /// The runner is as before then.
    pub fn add(&mut self, service: Service) -> Result<WorkerId, Error> {
        if self.services.values().any(|other| other.name() == service.name()) {
            return Err(Error::NameTaken { name: service.name().to_owned() });
        }
        let now = now();
        Life::check(&service, now)?;
        let id = match service.own_policy() {
            Some(policy) => self.supervisor.start_with(policy, now),
            None => self.supervisor.start(now),
        };
        if let Some(line) = &self.line {
            line.mailbox().add_service(service.name(), id.slot());
        }
        self.services.insert(id.slot(), service);
        Ok(id)
    }

    /// Something to steer it with while it runs.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] at the limit of open files.
    pub fn control(&mut self) -> Result<Control, Error> {
        if let Some(line) = &self.line {
            return Ok(Control::new(line));
        }
        let line = Arc::new(Line::open()?);
        for (slot, service) in &self.services {
            line.mailbox().add_service(service.name(), *slot);
        }
        self.line = Some(Arc::clone(&line));
        Ok(Control::new(&line))
    }

    /// Runs until nothing is left to run: every service has ended for good, or a signal or a [`Control`] asked to stop. A service that
    /// a control has stopped may come again, so while one is left this is not the end. Returns those that were given up.
    ///
    /// Afterwards it is without services, as a new one.
    ///
    /// # Errors
    ///
    /// [`Error`] of what the loop itself needs. That a service can't be started is told as news with the reason
    /// ([`News::error`]), and tried again for as long as it takes, after the waits of [`Backoff`](crate::Backoff).
    pub fn run(&mut self, mut tell: impl FnMut(News<'_>)) -> Result<Vec<GivenUp>, Error> {
        if let Some(line) = &self.line {
            let mut mailbox = line.mailbox();
            mailbox.open();
            self.services.iter().for_each(|(slot, service)| mailbox.add_service(service.name(), *slot));
        }
        let ended = self.run_to_the_end(&mut tell);
        self.end_orders();
        ended?;
        self.services.clear();
        Ok(self.supervisor.given_up().cloned().collect())
    }

    fn run_to_the_end(&mut self, tell: &mut impl FnMut(News<'_>)) -> Result<(), Error> {
        let mut signals = Signals::new(heard())?;
        let mut shutdown = Shutdown::default();
        if self.services.values().any(Service::is_captured) {
            let names: BTreeMap<u32, String> =
                self.services.iter().map(|(slot, service)| (*slot, service.name().to_owned())).collect();
            let prefix = move |id: WorkerId, _: Stream| {
                names.get(&id.slot()).map_or_else(String::new, |name| format!("[{name}] "))
            };
            self.capture = Some(Capture::start(CaptureLimits::new(), Prefixed::new(prefix))?);
        }
        loop {
            self.take_orders();
            self.settle(tell);
            if self.is_over() {
                break;
            }
            self.wait(&signals)?;
            for signal in signals.take() {
                // That the terminal has gone is a wish to stop, as any other.
                let signal = if signal == Signal::Hup { Signal::Term } else { signal };
                if let Some(stop) = shutdown.handle_signal(signal) {
                    self.shut_down(stop);
                }
            }
            self.look_at_lives();
            self.supervisor.handle_timeout(now());
        }
        if let Some(capture) = self.capture.take() {
            // What could not be written by then is lost, and counted there.
            let _ = capture.close(Duration::from_secs(1));
        }
        Ok(())
    }

    /// Carries out what was decided, and tells what happened.
    fn settle(&mut self, tell: &mut impl FnMut(News<'_>)) {
        loop {
            if let Some(action) = self.supervisor.poll_action() {
                self.carry_out(action);
            } else if let Some(event) = self.supervisor.poll_event() {
                self.tell(&event, tell);
            } else {
                return;
            }
        }
    }

    fn tell(&mut self, event: &Event, tell: &mut impl FnMut(News<'_>)) {
        let (ended, error) = match event {
            Event::Exited { id, .. } => (self.deaths.remove(id), None),
            Event::SpawnFailed { id, .. } => (None, self.failures.remove(id)),
            _ => (None, None),
        };
        let service = event.slot().and_then(|slot| self.services.get(&slot)).map(Service::name);
        let (death, last_words) = ended.map_or((None, None), |(death, tail)| (Some(death), tail));
        let (death, last_words) = (death.as_ref(), last_words.as_ref());
        tell(News { service, event, death, last_words, error: error.as_ref() });
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Spawn(id) => self.spawn(id),
            Action::Admit(_) | Action::Withdraw(_) => {}
            Action::AskStop(id) => self.with(id, |life| life.ask()),
            Action::Signal(id, StopSignal::Term) => self.with(id, |life| life.ask_all()),
            Action::Signal(id, StopSignal::Kill) => self.with(id, |life| life.kill(now())),
        }
    }

    fn with(&mut self, id: WorkerId, act: impl FnOnce(&mut Life)) {
        if let Some(life) = self.lives.get_mut(&id) {
            act(life);
        }
    }

    fn spawn(&mut self, id: WorkerId) {
        let Some(service) = self.services.get(&id.slot()) else {
            // Each slot has a service.
            return self.supervisor.handle_spawn_failed(id, now());
        };
        match Life::begin(service, id, self.capture.as_ref(), now()) {
            Ok(life) => {
                let is_ready = life.is_ready_at_once();
                self.lives.insert(id, life);
                self.supervisor.handle_spawned(id, now());
                if is_ready {
                    self.supervisor.handle_ready(id, now());
                }
            }
            Err(error) => {
                self.failures.insert(id, error);
                // It may have been watched already.
                drop(self.capture.as_ref().and_then(|capture| capture.finish(id)));
                self.supervisor.handle_spawn_failed(id, now());
            }
        }
    }

    /// Waits until something happens or is due.
    fn wait(&self, signals: &Signals) -> Result<(), Error> {
        let look = self.next_look.filter(|_| !self.lives.is_empty());
        let orphans = self.orphans.as_ref().and_then(Orphans::poll_timeout);
        let own = [self.supervisor.poll_timeout(), look, orphans].into_iter().flatten();
        let due = self.lives.values().filter_map(Life::deadline).chain(own).min();
        let wait = due.map(|due| due.saturating_duration_since(now()));
        let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
        let mut fds = vec![PollFd::new(signals, PollFlags::IN)];
        fds.extend(self.line.as_deref().map(|line| PollFd::new(line, PollFlags::IN)));
        for life in self.lives.values() {
            fds.extend(life.descriptors().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        }
        match poll(&mut fds, wait.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(Error::os("wait for children")(errno)),
        }
    }

    /// Hears who is ready, who has ended, and goes on with what takes several rounds.
    fn look_at_lives(&mut self) {
        let now = now();
        let mut listing = Listing::default();
        let mut ready = Vec::new();
        let mut ended = Vec::new();
        let is_time = self.next_look.is_none_or(|at| at <= now);
        for (id, life) in &mut self.lives {
            let is_ready = life.becomes_ready(now);
            if is_ready {
                ready.push(*id);
            }
            if is_ready || is_time {
                life.look(&mut listing);
            }
            if let Some(death) = life.advance(&mut listing, now) {
                ended.push((*id, death));
            }
        }
        self.look_after_orphans(now);
        if is_time {
            self.next_look = Some(now + LOOK);
        }
        for id in ready {
            self.supervisor.handle_ready(id, now);
        }
        for (id, death) in ended {
            self.lives.remove(&id);
            let last_words = self.capture.as_ref().and_then(|capture| capture.finish(id));
            self.deaths.insert(id, (death, last_words));
            self.supervisor.handle_exit(id, death.exit(), now);
        }
    }
}

impl Runner {
    /// As PID 1 all sorts of processes are our children.
    fn look_after_orphans(&mut self, now: Instant) {
        let Some(orphans) = &mut self.orphans else { return };
        let is_ours = |pid| self.lives.values().any(|life| life.pid() == pid);
        // Those that can't be reaped now are looked at again.
        let _ = orphans.look(is_ours, now);
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.end_orders();
        for life in self.lives.values_mut() {
            life.kill(now());
        }
        while !self.lives.is_empty() {
            let (now, mut listing) = (now(), Listing::default());
            self.lives.retain(|_, life| life.advance(&mut listing, now).is_none());
            if !self.lives.is_empty() {
                // Only to wait; if it can't, it looks more often.
                let _ = poll(&mut [], Timespec::try_from(ROUND).ok().as_ref());
            }
        }
    }
}

/// The signals that a runner hears.
///
/// SIGCHLD among them, though the loop waits for pidfds: where it is ignored, as whoever started us may have left it, nobody's exit can
/// be had. SIGHUP not where it is ignored: whoever did that (`nohup`) wants to outlive the terminal.
fn heard() -> Vec<Signal> {
    let signals = [Signal::Term, Signal::Int, Signal::Quit, Signal::Hup, Signal::Child];
    signals.into_iter().filter(|signal| *signal != Signal::Hup || !signal.is_ignored()).collect()
}

/// This is the driver: it may look at the clock.
#[allow(clippy::disallowed_methods, reason = "a driver has a clock")]
fn now() -> Instant {
    Instant::now()
}
