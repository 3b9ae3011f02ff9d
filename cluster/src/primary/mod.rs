//! The primary's side: it starts workers, shares ports among them, watches them, replaces them.
//!
//! ```text
//!   signals, Handle ─┐                                   ┌─▶ acceptor (thread): Admit, Withdraw, …
//!   worker's frames ─┼─▶ one loop ─▶ Supervisor, Monitor ┼─▶ spawn, signal, ask to stop
//!   exits, deadlines ┘   (this)        (cores)           └─▶ events
//! ```
//!
//! `turns` waits, `mod` takes inputs, `apply` turns the cores' decisions into effects, `answer` answers workers. Nothing else sees
//! two cores at once.

mod answer;
mod apply;
mod birth;
mod forks;
mod handle;
mod link;
mod orphans;
mod parting;
mod releases;
mod remains;
mod report;
mod rolls;
mod roster;
mod shared;
mod turns;
mod vitals;
mod wellbeing;
mod worker_events;
mod worker_handle;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster_acceptor::{Acceptor, Command, Listeners, Settings};
use cluster_health::Monitor;
use cluster_shared_state::tokio::Follower;
use cluster_supervisor::os::{Death, Orphans};
use cluster_supervisor::{Exit, Ledger, Supervisor, WorkerId, os};
use cluster_tasks::PoolServer;
use tokio::sync::{mpsc, oneshot};

use self::birth::Cradle;
use self::forks::Forks;
use self::handle::Order;
pub use self::handle::{Handle, RollReport};
#[cfg(feature = "test-util")]
pub(crate) use self::link::Task;
use self::link::{Link, Report};
use self::parting::Parting;
use self::remains::Swept;
use self::rolls::Waiting;
use self::roster::{Registry, Roster};
pub(crate) use self::shared::{Own, Shared, client};
use self::turns::Turns;
pub use self::worker_events::WorkerEvents;
pub use self::worker_handle::WorkerHandle;
use crate::builder::Builder;
use crate::event::{Event, Events, Publisher};
use crate::messages::{Pool, Switch};
use crate::post_mortem::PostMortem;
use crate::record::about;
use crate::reporting::Reporting;
use crate::signals::Signals;
use crate::{Error, Result};

/// Reports of workers that may wait for the loop; the rest waits in the workers' channels.
const REPORTS: usize = 64;

/// Orders of handles that may wait for the loop.
const ORDERS: usize = 64;

/// How soon a child is asked again for its exit code whose pidfd said that it has exited.
const REAP_AGAIN: Duration = Duration::from_millis(10);

/// Descriptors that the primary keeps free of connections, beside those per worker: its own, and a
/// worker being started.
const SPARE_DESCRIPTORS: u64 = 16;

/// Descriptors per worker: control channel, data channel, shared state, messages, four for its process, four to measure it, two for its output, with
/// room for its successor.
const DESCRIPTORS_PER_WORKER: u64 = 30;

/// The primary, before it [runs](Self::run).
#[derive(Debug)]
pub struct Primary {
    /// Boxed, since a primary is moved about before it runs.
    config: Box<Builder>,
    events: Publisher,
    handle: Handle,
    orders: mpsc::Receiver<Order>,
    /// Keeps its own replica of the shared state.
    follower: Follower,
    switch: Switch,
    tasks: Pool,
    /// Boxed for the same reason.
    spreading: Box<PoolServer<WorkerId>>,
}

impl Primary {
    pub(crate) fn new(mut config: Builder) -> Result<Self> {
        // An unknown strategy is better known now than after the first worker was started.
        config.strategy = crate::builder::Choice::Custom(config.strategy.resolve()?);
        let (sender, orders) = mpsc::channel(ORDERS);
        let (own, follower) = Own::new();
        let (switch, events) = (Switch::new(), Publisher::new());
        let (tasks, spreading) = Pool::new(switch.clone(), config.tasks.clone())?;
        let roster = Roster::new(config.settings.clone());
        let handle =
            Handle::new(sender, own, switch.port(), events.downgrade(), roster, tasks.desk().clone());
        let (config, spreading) = (Box::new(config), Box::new(spreading));
        Ok(Self { config, events, handle, orders, follower, switch, tasks, spreading })
    }

    /// Subscribes to the events. Do so before [`run`](Self::run) to see all of them.
    pub fn events(&self) -> Events {
        self.events.subscribe()
    }

    /// Makes a handle to steer the primary while it runs.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Starts the workers and keeps them running until SIGTERM, SIGINT or [`Handle::shutdown`]; SIGHUP [reloads](Handle::reload),
    /// SIGTTIN and SIGTTOU start one more and stop one. Then stops
    /// gracefully: nobody new is let in, what has connected is still handed out, workers drain, each within its
    /// deadline. What is handed out waits for busy workers as long as these may take to drain. A second signal ends all at once.
    ///
    /// It also ends when all workers have ended by themselves and none is restarted; but not when they were asked to leave by a [`Handle`]: then it
    /// waits for others to be [forked](Handle::fork).
    ///
    /// If the future is dropped, the workers see their primary gone: they drain and end.
    ///
    /// # Errors
    ///
    /// [`Error::GaveUp`] when every worker has used up its restart budget; or what prevented the start.
    pub async fn run(self) -> Result<()> {
        let (reports, inbox) = mpsc::channel(REPORTS);
        let shared = Shared::new(seed(), self.config.state, self.handle.own(), self.follower);
        tokio::spawn(self.spreading.serve());
        let roster = self.handle.roster();
        let (mut core, acceptor_ended) =
            Core::new(*self.config, self.events, reports, shared, self.switch, self.tasks, roster)?;
        self.handle.messages().settle();
        let children = core.watch_orphans()?;
        let signals = core.signals()?;
        core.start(Instant::now());
        let mut turns = Turns { inbox, orders: self.orders, acceptor_ended, signals, children };
        loop {
            core.settle(Instant::now());
            if core.finish_parting(Instant::now()) {
                continue;
            }
            if core.is_done() {
                core.cradle.close();
                return core.outcome();
            }
            turns.wait(&mut core).await?;
        }
    }
}

/// The primary's state. One method per input; `settle` carries out what the cores decided.
struct Core {
    config: Builder,
    supervisor: Supervisor,
    monitor: Monitor<WorkerId>,
    /// What is counted over all lives.
    ledger: Ledger,
    started: Instant,
    reporting: Reporting,
    /// When the workers are measured next.
    next_sample: Option<Instant>,
    acceptor: Acceptor<WorkerId>,
    cradle: Cradle,
    shared: Shared,
    /// Passes on messages.
    switch: Switch,
    /// Spreads tasks.
    tasks: Pool,
    listeners: Listeners,
    links: BTreeMap<WorkerId, Link>,
    reports: mpsc::Sender<Report>,
    events: Publisher,
    /// Was asked to stop, once.
    stopping: bool,
    /// Has said that all workers are ready.
    serving: bool,
    gave_up: Vec<String>,
    /// Of those who died, until it is told.
    post_mortems: BTreeMap<WorkerId, PostMortem>,
    /// Why a worker could not be started, the last time that happened.
    spawn_error: Option<(WorkerId, Arc<str>)>,
    /// The pids of those who died and are not reaped yet.
    unreaped: BTreeMap<WorkerId, u32>,
    orphans: Option<Orphans>,
    /// Who waits for the end of a roll, or for the successor of one worker.
    waiting: Waiting,
    /// Who lives, for those who look.
    registry: Registry,
    /// What single slots are started with.
    forks: Forks,
    /// That all leave and the primary goes on.
    parting: Parting,
    /// Tells that the acceptor has closed, once it was told to.
    closing: Option<oneshot::Receiver<()>>,
    /// It is somebody's wish that there are none: more may be forked.
    resting: bool,
}

impl Core {
    fn new(
        mut config: Builder,
        events: Publisher,
        reports: mpsc::Sender<Report>,
        shared: Shared,
        switch: Switch,
        tasks: Pool,
        roster: &Roster,
    ) -> Result<(Self, oneshot::Receiver<()>)> {
        let limit_before = os::raise_open_files()?;
        let strategy = std::mem::replace(&mut config.strategy, crate::builder::Choice::Named(String::new()));
        let settings = Settings::boxed(strategy.resolve()?)
            .window(config.window)
            .batch(config.batch)
            .max_connections(config.limits.cluster)
            .when_full(config.limits.when_full)
            .key(config.key.clone())
            .peek(config.peek)
            .held(held(config.workers));
        let (acceptor, ended) = Acceptor::start(settings)?;
        let core = Self {
            supervisor: Supervisor::new(config.policy.clone().stop(config.stop_sequence()), seed()),
            monitor: Monitor::new(config.checks.clone().seed(seed())),
            ledger: Ledger::new(),
            started: Instant::now(),
            reporting: std::mem::take(&mut config.reporting),
            next_sample: None,
            acceptor,
            cradle: Cradle::new(&mut config, limit_before.soft())?,
            shared,
            switch,
            tasks,
            listeners: Listeners::new(config.mode),
            links: BTreeMap::new(),
            reports,
            events,
            stopping: false,
            serving: false,
            gave_up: Vec::new(),
            post_mortems: BTreeMap::new(),
            spawn_error: None,
            unreaped: BTreeMap::new(),
            orphans: None,
            waiting: Waiting::default(),
            registry: Registry::new(roster.clone()),
            forks: Forks::default(),
            parting: Parting::default(),
            closing: None,
            resting: config.workers == 0,
            config,
        };
        Ok((core, ended))
    }

    fn signals(&self) -> Result<Option<Signals>> {
        self.config.signals.then(Signals::primary).transpose()
    }

    /// Returns what tells that a child has ended, where others than workers may.
    fn watch_orphans(&mut self) -> Result<Option<tokio::signal::unix::Signal>> {
        let Some((orphans, children)) = orphans::watch(self.config.subreaper)? else { return Ok(None) };
        self.orphans = Some(orphans);
        // Some may have ended before.
        self.look_after_orphans(Instant::now());
        Ok(Some(children))
    }

    fn start(&mut self, now: Instant) {
        self.announce_setup(self.supervisor.release());
        for _ in 0..self.config.workers {
            self.supervisor.start(now);
        }
        self.next_sample = now.checked_add(self.config.sample_every);
        self.reporting.start(now);
    }

    fn is_done(&self) -> bool {
        let stays = self.resting || self.parting.is_under_way();
        self.is_empty() && (self.stopping || !stays)
    }

    /// Nobody lives, nobody is to come, and nobody is to be reaped.
    fn is_empty(&self) -> bool {
        self.supervisor.is_done() && self.unreaped.is_empty()
    }

    fn outcome(&self) -> Result<()> {
        if self.stopping || self.gave_up.is_empty() {
            return Ok(());
        }
        Err(Error::GaveUp { reason: self.gave_up.join("; ") })
    }

    fn handle_report(&mut self, report: Report, now: Instant) {
        match report {
            Report::Frame(id, frame) => self.handle_frame(id, &frame, now),
            Report::Disconnected(id, error) => self.handle_disconnected(id, &error),
            Report::ChannelLost(id, error) => {
                about!(warn, id, self.pid(id), error, "the channel of worker {id} is lost");
                self.supervisor.handle_channel_lost(id, now);
            }
            Report::Exited(id) => self.handle_exited(id, now),
            Report::Swept(id, swept) => self.handle_swept(id, swept),
            Report::Confirmed(id, bytes) => self.handle_confirmed(id, bytes, now),
        }
    }

    /// Its channel has ended, which may be since it is ending.
    fn handle_disconnected(&mut self, id: WorkerId, error: &cluster_ipc::Error) {
        let Some(link) = self.links.get_mut(&id).filter(|link| !link.disconnected) else { return };
        link.disconnected = true;
        self.note(id);
        if !matches!(error, cluster_ipc::Error::PeerGone) {
            let error = format!("its channel broke: {}", apply::chain(error));
            self.announce(Event::Error { id, error: error.into() });
        }
        self.announce(Event::Disconnected { id });
    }

    fn handle_exited(&mut self, id: WorkerId, now: Instant) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let death = match link.examine() {
            Ok(Some(death)) => death,
            // Either somebody else has reaped it, or a debugger that holds it has to let go first.
            Ok(None) => {
                if let Some(exit) = link.try_reap() {
                    return self.handle_death(id, Death::new(exit), now);
                }
                let reports = self.reports.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(REAP_AGAIN).await;
                    // The primary may have ended meanwhile.
                    let _ = reports.send(Report::Exited(id)).await;
                });
                return;
            }
            Err(error) => {
                about!(error, id, link.child.pid(), %error, "the end of worker {id} can't be explained");
                Death::new(link.try_reap().unwrap_or(Exit::Code(-1)))
            }
        };
        self.handle_death(id, death, now);
    }

    fn handle_death(&mut self, id: WorkerId, death: Death, now: Instant) {
        // Somebody else may hold a copy of its end.
        self.handle_disconnected(id, &cluster_ipc::Error::PeerGone);
        self.shared.gone(id);
        let figures = self.links.get(&id).map(|link| self.status_of(id, link, now));
        if let Some(link) = self.links.get(&id) {
            self.ledger.end(id, &link.counted());
        }
        if let Some(figures) = figures {
            let last_words = self.cradle.last_words(id);
            let reason = self.links.get(&id).and_then(|link| link.reason.clone());
            self.post_mortems.insert(id, PostMortem { death, reason, figures, last_words });
        }
        self.supervisor.handle_exit(id, death.exit(), now);
    }

    /// Nobody is left of a worker, as far as we can see to that.
    fn handle_swept(&mut self, id: WorkerId, swept: Swept) {
        let Swept { found, left } = swept;
        if found > 0 {
            self.announce(Event::LeftBehind { id, killed: found.saturating_sub(left), left });
        }
        self.unreaped.remove(&id);
    }

    fn handle_order(&mut self, order: Order, now: Instant) {
        match order {
            Order::Fork(..) | Order::Scale(_) if self.parting.is_under_way() => self.parting.put_off(order),
            Order::Fork(fork, reply) => self.handle_fork(*fork, reply, now),
            Order::Stop(id) => {
                self.resting = true;
                self.supervisor.stop(id, now);
            }
            // Whoever asked may have stopped waiting.
            Order::Kill(id, signal, reply) => drop(reply.send(self.handle_kill(id, signal))),
            Order::Setup(changes, reply) => drop(reply.send(self.handle_setup(&changes))),
            Order::Restart(slot, reply) => self.handle_restart(slot, reply, now),
            Order::Scale(_) if self.stopping => {}
            Order::Scale(0) => {
                self.resting = true;
                self.begin_parting();
            }
            Order::Scale(workers) => {
                self.resting = false;
                self.scale(workers, now);
            }
            Order::Roll(anew, reply) => self.handle_roll(anew, reply, now),
            Order::Pause(reply) => drop(reply.send(self.supervisor.pause_roll())),
            Order::Resume(reply) => drop(reply.send(self.supervisor.resume_roll(now))),
            Order::Abort => self.supervisor.abort_roll(now),
            Order::Status(reply) => drop(reply.send(self.status(now))),
            Order::BalancerStatus(reply) => self.acceptor.command(Command::Status { reply }),
            Order::Disconnect(reply) => self.handle_disconnect(reply),
            Order::Shutdown => self.handle_shutdown(now),
        }
    }

    /// The first wish lets nobody new in and hands out what has connected, before anybody is asked to leave. The second ends all.
    fn handle_shutdown(&mut self, now: Instant) {
        if self.stopping {
            return self.supervisor.shutdown_now(now);
        }
        self.stopping = true;
        self.announce(Event::ShuttingDown);
        self.close();
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.read_beats(now);
        self.monitor.handle_timeout(now);
        if self.next_sample.is_some_and(|at| at <= now) {
            self.sample(now);
        }
        self.tell_regularly(now);
        // First: a successor whose time is over is judged by what it did in that time.
        self.report_figures(now);
        self.supervisor.handle_timeout(now);
        self.close_listeners(self.config.linger, now);
        if self.orphans.as_ref().and_then(Orphans::poll_timeout).is_some_and(|due| due <= now) {
            self.look_after_orphans(now);
        }
    }

    /// The workers are not among them: those who live are known, and so are those who have yet to be reaped.
    fn look_after_orphans(&mut self, now: Instant) {
        let Some(orphans) = &mut self.orphans else { return };
        let (links, unreaped) = (&self.links, &self.unreaped);
        let is_ours = |pid| {
            links.values().any(|link| link.child.pid() == pid) || unreaped.values().any(|dead| *dead == pid)
        };
        match orphans.look(is_ours, now) {
            Ok(reaped) => {
                for orphan in reaped {
                    tracing::debug!(pid = orphan.pid, name = ?orphan.name, exit = %orphan.exit, "reaped an orphan");
                }
            }
            Err(error) => tracing::warn!(%error, "orphans can't be reaped"),
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let orphans = self.orphans.as_ref().and_then(Orphans::poll_timeout);
        let listeners = self.listeners.poll_timeout(self.config.linger);
        let own = [self.supervisor.poll_timeout(), self.monitor.poll_timeout(), self.next_sample, listeners];
        own.into_iter().chain([orphans, self.reporting.poll_timeout()]).flatten().min()
    }
}

impl Drop for Core {
    /// Workers that live when the loop's future is dropped end by themselves, and somebody has to reap them.
    fn drop(&mut self) {
        let children: Vec<_> = std::mem::take(&mut self.links).into_values().map(Link::into_child).collect();
        if children.is_empty() {
            return;
        }
        let wait = move || children.into_iter().for_each(|child| drop(child.wait()));
        // Without a thread they are zombies until this process ends, no more.
        let _ = std::thread::Builder::new().name("cluster-reaper".to_owned()).spawn(wait);
    }
}

/// How many copies of untaken connections the acceptor may hold, so that there are always descriptors left to
/// replace a worker.
fn held(workers: usize) -> usize {
    let limit = os::OpenFiles::current().soft();
    let open = os::open_descriptors().unwrap_or(0);
    let reserved = open + SPARE_DESCRIPTORS + DESCRIPTORS_PER_WORKER * workers as u64;
    usize::try_from(limit.saturating_sub(reserved)).unwrap_or(usize::MAX).max(1)
}

/// At random: the jitter of the back-off, when workers are measured, the epoch of the shared state.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
