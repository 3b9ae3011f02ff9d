//! The primary's side: it starts workers, shares ports among them, watches them, replaces them.
//!
//! ```text
//!   signals, Handle ─┐                                   ┌─▶ acceptor (thread): Admit, Withdraw, …
//!   worker's frames ─┼─▶ one loop ─▶ Supervisor, Monitor ┼─▶ spawn, signal, ask to stop
//!   exits, deadlines ┘   (this)        (cores)           └─▶ events
//! ```
//!
//! `turns` waits, `mod` takes inputs, `apply` turns the cores' decisions into effects, `answer` answers workers. Nothing else sees
//! two cores at once. What they need of the system is in `system`: a test (`testing`) brings tasks in place of processes, and all
//! else is this.

mod answer;
mod apply;
mod birth;
mod forks;
mod handle;
mod link;
mod orphans;
mod parting;
mod process;
mod releases;
mod remains;
mod report;
mod rolls;
mod roster;
mod shared;
mod system;
mod turns;
mod vitals;
mod wellbeing;
mod worker_events;
mod worker_handle;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster_acceptor::{Acceptor, Command, Listeners};
use cluster_health::Monitor;
use cluster_shared_state::tokio::Follower;
use cluster_supervisor::os::{Death, Orphans};
use cluster_supervisor::{Ledger, Supervisor, WorkerId};
use cluster_tasks::PoolServer;
use tokio::sync::{mpsc, oneshot};

use self::forks::Forks;
use self::handle::Order;
pub use self::handle::{Handle, RollReport};
use self::link::{Link, Report};
use self::parting::Parting;
use self::releases::Releases;
use self::remains::Swept;
use self::rolls::Waiting;
use self::roster::{Registry, Roster};
pub(crate) use self::shared::client;
use self::shared::{Own, Shared};
pub(crate) use self::system::{Cradle, System};
use self::turns::Turns;
pub use self::worker_events::WorkerEvents;
pub use self::worker_handle::WorkerHandle;
#[cfg(feature = "test-util")]
pub(crate) use self::{
    link::Task,
    system::{Body, Newborn, Wires},
};
use crate::builder::Builder;
use crate::clock::now;
use crate::event::{Event, Events, Publisher};
use crate::messages::{Pool, Switch};
use crate::post_mortem::PostMortem;
use crate::record::about;
use crate::reporting::Reporting;
use crate::{Error, Result};

/// Reports of workers that may wait for the loop; the rest waits in the workers' channels.
const REPORTS: usize = 64;

/// Orders of handles that may wait for the loop.
const ORDERS: usize = 64;

/// How soon a child is asked again for its exit code whose pidfd said that it has exited.
const REAP_AGAIN: Duration = Duration::from_millis(10);

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
        self.begin(System::new)?.await
    }

    /// The same on a system that is made for it. No worker is started before what is returned is awaited.
    pub(crate) fn begin(
        mut self,
        system: impl FnOnce(&mut Builder) -> Result<System>,
    ) -> Result<impl Future<Output = Result<()>>> {
        let system = system(&mut self.config)?;
        let handle = self.handle();
        let (core, turns) = Core::new(self, system)?;
        Ok(async move {
            // All handlers that are set before are there.
            handle.messages().settle();
            core.run(turns).await
        })
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
    cradle: Box<dyn Cradle>,
    /// What workers are started from.
    releases: Releases,
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
    fn new(primary: Primary, system: System) -> Result<(Self, Turns)> {
        let Primary { mut config, events, handle, orders, follower, switch, tasks, spreading } = primary;
        let System { cradle, acceptor, acceptor_ended, listeners, signals, orphans, seed } = system;
        let (reports, inbox) = mpsc::channel(REPORTS);
        let (orphans, children) = orphans.unzip();
        let mut settings = std::mem::take(&mut config.settings);
        settings.args.get_or_insert_with(|| std::env::args_os().skip(1).collect());
        // Until the pool is dropped.
        tokio::spawn(spreading.serve());
        let core = Self {
            supervisor: Supervisor::new(config.policy.clone().stop(config.stop_sequence()), seed),
            monitor: Monitor::new(config.checks.clone().seed(seed)),
            ledger: Ledger::new(),
            started: now(),
            reporting: std::mem::take(&mut config.reporting),
            next_sample: None,
            acceptor,
            cradle,
            releases: Releases::new(&settings)?,
            shared: Shared::new(seed, config.state, handle.own(), follower)?,
            switch,
            tasks,
            listeners,
            links: BTreeMap::new(),
            reports,
            events,
            stopping: false,
            serving: false,
            gave_up: Vec::new(),
            post_mortems: BTreeMap::new(),
            spawn_error: None,
            unreaped: BTreeMap::new(),
            orphans,
            waiting: Waiting::default(),
            registry: Registry::new(handle.roster().clone()),
            forks: Forks::default(),
            parting: Parting::default(),
            closing: None,
            resting: config.workers == 0,
            config: *config,
        };
        Ok((core, Turns { inbox, orders, acceptor_ended, signals, children }))
    }

    async fn run(mut self, mut turns: Turns) -> Result<()> {
        self.start(now());
        loop {
            self.settle(now());
            if self.finish_parting(now()) {
                continue;
            }
            if self.is_done() {
                self.cradle.close();
                return self.outcome();
            }
            turns.wait(&mut self).await?;
        }
    }

    fn start(&mut self, now: Instant) {
        // Some may have ended before.
        self.look_after_orphans(now);
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
        if let Some(death) = link.body.examine() {
            return self.handle_death(id, death, now);
        }
        let reports = self.reports.clone();
        tokio::spawn(async move {
            tokio::time::sleep(REAP_AGAIN).await;
            // The primary may have ended meanwhile.
            let _ = reports.send(Report::Exited(id)).await;
        });
    }

    fn handle_death(&mut self, id: WorkerId, death: Death, now: Instant) {
        // Somebody else may hold a copy of its end.
        self.handle_disconnected(id, &cluster_ipc::Error::PeerGone);
        self.shared.gone(id);
        if let Some(link) = self.links.get(&id) {
            let figures = self.status_of(id, link, now);
            self.ledger.end(id, &link.counted());
            let (reason, last_words) = (link.reason.clone(), self.cradle.last_words(id));
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
        let is_ours =
            |pid| links.values().any(|link| link.pid() == pid) || unreaped.values().any(|dead| *dead == pid);
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
        let links = std::mem::take(&mut self.links).into_values();
        let children: Vec<_> = links.filter_map(|link| link.body.into_remains(false)).collect();
        if children.is_empty() {
            return;
        }
        let wait = move || children.into_iter().for_each(|remains| drop(remains.child.wait()));
        // Without a thread they are zombies until this process ends, no more.
        let _ = std::thread::Builder::new().name("cluster-reaper".to_owned()).spawn(wait);
    }
}
