//! How a cluster should be, and which part of it this process is.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use cluster_acceptor::worker::Deadlines;
use cluster_balancer::Strategy;
use cluster_health::{Checks, Heartbeat, Limit, Quantity};
use cluster_shared_state::PublisherConfig;
use cluster_supervisor::{Backoff, Budget, Policy, Roll, StopSequence};

use crate::reporting::{Periodic, Reporting, Sink};
use crate::scheduling::Asked;
use crate::tasks::TaskPolicy;
use crate::wire::Greeting;
use crate::{
    ClusterStatus, Key, Mode, Output, Peek, Primary, Result, Role, Scheduling, Settings, WhenFull, Worker,
};

/// Settings of a cluster; all have defaults.
///
/// ```no_run
/// use cluster::{Cluster, Role};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> cluster::Result<()> {
/// match Cluster::builder().workers(4).strategy("round-robin").role()? {
///     Role::Primary(primary) => primary.run().await,
///     Role::Worker(worker) => {
///         let listener = worker.listen("127.0.0.1:3000").await?;
///         while let Some((stream, peer)) = listener.accept().await {
///             println!("worker {} has {peer}", worker.slot());
///             drop(stream);
///         }
///         Ok(())
///     }
/// }
/// # }
/// ```
///
/// What managers in Node's world call by names of their own:
///
/// | there | here |
/// |---|---|
/// | workers | [`workers`](Self::workers) |
/// | max restarts | [`max_restarts`](Self::max_restarts) |
/// | restart delay | [`restart_delay`](Self::restart_delay) |
/// | graceful timeout | [`graceful_timeout`](Self::graceful_timeout) |
/// | health-check interval | [`heartbeat`](Self::heartbeat) for signs of life, [`sample_every`](Self::sample_every) for memory and CPU |
/// | memory threshold | [`max_memory`](Self::max_memory), in bytes |
/// | CPU threshold | [`max_cpu`](Self::max_cpu), 0.8 for 80 % |
/// | scheduling | [`strategy`](Self::strategy), [`mode`](Self::mode) |
/// | exec, args, env | [`exec`](Self::exec), [`args`](Self::args), [`env`](Self::env) |
/// | silent | [`output`](Self::output) |
/// | metrics interval | [`metrics_every`](Self::metrics_every) |
/// | status report | [`report_every`](Self::report_every) |
#[derive(Debug)]
#[must_use]
pub struct Builder {
    pub(crate) workers: usize,
    pub(crate) strategy: Choice,
    pub(crate) mode: Mode,
    /// The code says who decides where connections go: the environment doesn't.
    scheduled: bool,
    key: Key,
    peek: Peek,
    pub(crate) policy: Policy,
    pub(crate) checks: Checks,
    pub(crate) sample_every: Duration,
    /// What the strategy wants to know of the workers.
    pub(crate) gauge: Option<Gauge>,
    pub(crate) limits: Limits,
    /// The acceptor's own default if `None`.
    window: Option<u16>,
    pub(crate) linger: Duration,
    pub(crate) long_lived: Option<Duration>,
    pub(crate) orphan_timeout: Duration,
    /// What workers are started with.
    pub(crate) settings: Settings,
    pub(crate) signals: bool,
    pub(crate) rolling: Roll,
    pub(crate) output: Output,
    pub(crate) kill_descendants: bool,
    pub(crate) subreaper: bool,
    pub(crate) state: PublisherConfig,
    pub(crate) reporting: Reporting,
    pub(crate) tasks: TaskPolicy,
}

/// How many connections there may be at a time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) cluster: Option<usize>,
    pub(crate) when_full: WhenFull,
}

/// What a strategy may balance by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gauge {
    Memory,
    Cpu,
}

const HALF_A_MINUTE: Duration = Duration::from_secs(30);

/// A strategy by name or by value.
#[derive(Debug)]
pub(crate) enum Choice {
    Named(String),
    Custom(Box<dyn Strategy>),
}

impl Choice {
    pub(crate) fn resolve(self) -> Result<Box<dyn Strategy>> {
        match self {
            Self::Named(name) => Ok(cluster_balancer::strategy::by_name(&name)?),
            Self::Custom(strategy) => Ok(strategy),
        }
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// The defaults: one worker per available core, least-loaded.
    pub fn new() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            strategy: Choice::Named("least-loaded".to_owned()),
            mode: Mode::default(),
            scheduled: false,
            key: Key::address(),
            peek: Peek::new(),
            limits: Limits::default(),
            policy: Policy::new(),
            checks: Checks::new(),
            sample_every: Duration::from_secs(1),
            gauge: None,
            window: None,
            linger: Duration::from_secs(1),
            long_lived: None,
            orphan_timeout: Duration::from_secs(2),
            settings: Settings::new(),
            signals: true,
            rolling: Roll::same().canaries(1, Duration::from_secs(5)),
            output: Output::inherit(),
            kill_descendants: true,
            subreaper: false,
            state: PublisherConfig::new(),
            reporting: Reporting::default(),
            tasks: TaskPolicy::new(),
        }
    }

    /// How many workers to keep running. Default: the cores available to this process (its affinity and
    /// cgroup quota count). `0` means *inline mode*: no workers are started, this process does the
    /// work itself, for debuggers and tests.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Who gets the next connection, by name: `least-loaded` (the default), `round-robin`, or [another](crate::balancer::strategy::names).
    /// An unknown name is reported by [`role`](Self::role), with all that exist.
    pub fn strategy(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.gauge = match name.as_str() {
            "least-memory" => Some(Gauge::Memory),
            "least-cpu" => Some(Gauge::Cpu),
            _ => None,
        };
        self.strategy = Choice::Named(name);
        self.scheduled = true;
        self
    }

    /// Who decides where connections go, by Node's names: [`mode`](Self::mode) and [`strategy`](Self::strategy) in one, the last call counts. Without
    /// any of them the environment variable `CLUSTER_SCHED_POLICY` counts; see [`Scheduling`].
    pub fn scheduling(self, scheduling: Scheduling) -> Self {
        self.mode(scheduling.mode()).strategy(scheduling.strategy())
    }

    /// What the environment says, where the code says nothing.
    pub(crate) fn scheduled(self) -> Result<Self> {
        if self.scheduled {
            return Ok(self);
        }
        Ok(match Asked::from_environment()? {
            Some(Asked { mode, strategy }) => self.mode(mode).strategy(strategy),
            None => self,
        })
    }

    /// Connections over the whole cluster at a time, at most. Default: no limit. It holds for mode [`Handoff`](Mode::Handoff).
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.limits.cluster = Some(connections);
        self
    }

    /// Connections of one worker at a time, at most, on all listeners together. Default: as many as its limit of open files allows. 0 is none;
    /// [`Fork::max_connections`](crate::Fork::max_connections) sets one worker's.
    pub fn max_connections_per_worker(mut self, connections: u32) -> Self {
        self.settings = self.settings.max_connections_per_worker(connections);
        self
    }

    /// What becomes of connections beyond these limits. Default: they [wait](WhenFull::Wait), also in the other modes.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.limits.when_full = when_full;
        self
    }

    /// How connections come to the workers, for listeners that don't [say](crate::Listen::mode). Default: [`Mode::Handoff`].
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self.scheduled = true;
        self
    }

    /// Which connections belong together, for strategies that go by a key. Default: those of one client's address.
    ///
    /// Sticky sessions, for clients behind one address too:
    ///
    /// ```
    /// use std::time::Duration;
    /// use cluster::balancer::LeastLoaded;
    /// use cluster::balancer::strategy::Sticky;
    /// use cluster::{Cluster, Key};
    ///
    /// let half_an_hour = Duration::from_secs(30 * 60);
    /// let builder = Cluster::builder()
    ///     .strategy_with(Sticky::new(LeastLoaded::new(), half_an_hour))
    ///     .key(Key::first_of([Key::cookie("sid"), Key::query("sid"), Key::address()]));
    /// # let _ = builder;
    /// ```
    ///
    /// The worker's slot is what a key sticks to: it stays there when the worker is restarted. Only mode
    /// [`Handoff`](Mode::Handoff) knows keys.
    pub fn key(mut self, key: Key) -> Self {
        self.key = key;
        self
    }

    /// How far to look at the first bytes of connections for a key that needs them.
    pub fn peek(mut self, peek: Peek) -> Self {
        self.peek = peek;
        self
    }

    /// Who gets the next connection, by a strategy of your own.
    pub fn strategy_with(mut self, strategy: impl Strategy + 'static) -> Self {
        // Whatever it may balance by: of the two that can be measured, the one that lasts.
        self.gauge = Some(Gauge::Memory);
        self.strategy = Choice::Custom(Box::new(strategy));
        self.scheduled = true;
        self
    }

    /// When workers are restarted, how long starts and stops may take. See [`Policy`] for the defaults.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// How often one worker may be restarted within 60 s of being ready before it is given up; default 10. When all are given up,
    /// [`Primary::run`] fails. For another period use [`policy`](Self::policy).
    pub fn max_restarts(mut self, restarts: u32) -> Self {
        self.policy = self.policy.budget(Budget::new(restarts, Duration::from_secs(60)));
        self
    }

    /// The pause before a worker is restarted that has failed twice in a row; it doubles with each further failure, to half a minute or this,
    /// whichever is longer. Default: 1 s. The first failure after a stable run is restarted at once. For more use [`policy`](Self::policy).
    pub fn restart_delay(mut self, delay: Duration) -> Self {
        let cap = HALF_A_MINUTE.max(delay);
        self.policy = self.policy.backoff(Backoff::new().base(delay).cap(cap));
        self
    }

    /// How long a worker that was asked to leave may take to finish what it has before it gets SIGTERM. Default: 10 s. SIGKILL follows after
    /// another 2 s: for that use [`policy`](Self::policy).
    pub fn graceful_timeout(mut self, timeout: Duration) -> Self {
        let stop = self.policy.stop_sequence().drain(timeout);
        self.policy = self.policy.stop(stop);
        self
    }

    /// How often workers beat, and for how long they may be silent. By default they beat every 200 ms, get no more
    /// connections after 5 missed beats, and are replaced after 10 s or 30 missed beats, whichever is longer.
    pub fn heartbeat(mut self, heartbeat: Heartbeat) -> Self {
        self.checks = self.checks.heartbeat(heartbeat);
        self
    }

    /// What the workers are checked for, and what follows: limits of memory, CPU use, descriptors, loop lag and gauges of the application,
    /// failed requests, and what [`Checks`] has more. Default: the heartbeat alone. It replaces what was set by [`heartbeat`](Self::heartbeat)
    /// and the methods below. Inline mode knows none of this.
    ///
    /// Who exceeds a limit that makes it suspect, or fails its requests, gets no connections as long as at least half of those who are ready are
    /// well; beyond that it goes on (its event is then only `Noticed`), since the few would be overrun in their turn. Who has to go for a limit
    /// waits for its successor where somebody is missing already. In mode `Shared` nobody keeps a suspect from accepting.
    pub fn health(mut self, checks: Checks) -> Self {
        self.checks = checks;
        self
    }

    /// A worker whose memory is above this for half a minute is replaced when convenient, its successor first. Default: no limit.
    pub fn max_memory(mut self, bytes: u64) -> Self {
        let limit = Limit::over(bytes as f64).lasting(HALF_A_MINUTE).recycle();
        self.checks = self.checks.limit(Quantity::Memory, limit);
        self
    }

    /// A worker that uses more than this share of a core for half a minute is told of by an [event](crate::Event::Health): 0.8 is 80 %.
    /// Default: no limit. For another consequence use [`health`](Self::health).
    pub fn max_cpu(mut self, share: f64) -> Self {
        self.checks = self.checks.limit(Quantity::Cpu, Limit::over(share).lasting(HALF_A_MINUTE));
        self
    }

    /// After so many requests, less up to a tenth, a worker is replaced when convenient. Default: never.
    pub fn max_requests(mut self, requests: u64) -> Self {
        self.checks = self.checks.max_requests(requests);
        self
    }

    /// After so long, less up to a tenth, a worker is replaced when convenient. Default: never.
    pub fn max_lifetime(mut self, time: Duration) -> Self {
        self.checks = self.checks.max_lifetime(time);
        self
    }

    /// How often what the workers use is measured. Default: each second; at least 10 ms. It costs some microseconds a worker.
    pub fn sample_every(mut self, time: Duration) -> Self {
        self.sample_every = time.max(Duration::from_millis(10));
        self
    }

    /// How often the status of the cluster is published as an [event](crate::Event::Metrics). Default: never; at least 10 ms. Not in
    /// inline mode.
    pub fn metrics_every(mut self, time: Duration) -> Self {
        self.reporting.metrics = Periodic::every(time);
        self
    }

    /// How often the status of the cluster is written to the log as a table, at level info. Default: never; at least 10 ms. Not in inline
    /// mode.
    ///
    /// ```text
    /// 2 workers, 2 ready; up 3m 20s; pid 4711; on 127.0.0.1:3000
    /// slot  gen   pid  state      up  restarts  active  requests  errors    memory    cpu    lag
    ///    0    2  4720  ready  1m 10s         1       3      8012       1  21.5 MiB  31.0%  0.1ms
    ///    1    1  4713  ready  3m 20s         0       2     23840       0  22.0 MiB  30.2%  0.2ms
    /// created 3, died 1, restarted 1, replaced 0; 51200 requests (17066.7 a worker), 4 errors; 400 health checks
    /// ```
    pub fn report_every(mut self, time: Duration) -> Self {
        self.reporting.table = Periodic::every(time);
        self
    }

    /// Where the status goes that is [reported](Self::report_every), instead of to the log. The primary waits for this: it must not block.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use cluster::Cluster;
    /// let builder = Cluster::builder()
    ///     .report_every(Duration::from_secs(60))
    ///     .report_to(|status| eprintln!("{status}"));
    /// # let _ = builder;
    /// ```
    pub fn report_to(mut self, sink: impl FnMut(&ClusterStatus) + Send + 'static) -> Self {
        self.reporting.sink = Sink::to(sink);
        self
    }

    /// How many connections may be on their way to one worker that it has not taken; default 32, at most 256. When every
    /// worker has so many, the rest wait in the kernel's queue.
    pub fn window(mut self, connections: u16) -> Self {
        self.window = Some(connections);
        self
    }

    /// How long a worker that was asked to leave keeps idle connections open for a request that may be on its way;
    /// default 1 s. When all are to leave, so long it may take clients at most that are half in to connect.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// How long the [long-lived](crate::Connection) connections of a worker that was asked to leave may last: WebSockets, HTTP/2,
    /// streams of events. They are [told](crate::Worker::leaving) at once; those that have not ended by then are cut. Default: nine tenths
    /// of the time that a worker has to drain ([`Policy::stop`]), 9 s.
    ///
    /// With a longer time a worker may take longer to end: this time and a tenth of what it has to drain, before it gets SIGTERM. All
    /// other connections are cut when that time is over, as ever.
    pub fn long_lived_deadline(mut self, deadline: Duration) -> Self {
        self.long_lived = Some(deadline);
        self
    }

    /// How long a worker may outlive a primary that died; default 2 s.
    pub fn orphan_timeout(mut self, timeout: Duration) -> Self {
        self.orphan_timeout = timeout;
        self
    }

    /// The program that workers run; default: this one. It must use this crate as well.
    pub fn exec(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.exec = Some(path.into());
        self
    }

    /// The arguments of the workers; default: those of this process.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.settings = self.settings.args(args);
        self
    }

    /// Sets an environment variable for the workers, on top of the primary's environment.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.settings = self.settings.env(key, value);
        self
    }

    /// The working directory of the workers; default: this process's.
    pub fn cwd(mut self, directory: impl Into<PathBuf>) -> Self {
        self.settings = self.settings.cwd(directory);
        self
    }

    /// Whether what workers print goes nowhere, whatever [`output`](Self::output) says. Default: no.
    pub fn silent(mut self, silent: bool) -> Self {
        self.settings = self.settings.silent(silent);
        self
    }

    /// The user that workers run as, by number: see [`Settings::uid`]. Default: this process's.
    pub fn uid(mut self, uid: u32) -> Self {
        self.settings = self.settings.uid(uid);
        self
    }

    /// The group that workers run as, by number: see [`Settings::gid`]. Default: this process's.
    pub fn gid(mut self, gid: u32) -> Self {
        self.settings = self.settings.gid(gid);
        self
    }

    /// All at once, as far as they are set: what [`Handle::setup`](crate::Handle::setup) does while the cluster runs.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings.over(&self.settings);
        self
    }

    /// Whether orphans below this process become its children (`PR_SET_CHILD_SUBREAPER`) and are reaped. Default: no. As PID 1, in a
    /// container say, they come here in any case, and are reaped.
    ///
    /// A child that the application has started itself looks the same from here: let somebody wait for it, since it is
    /// reaped if it has been dead for a second.
    pub fn subreaper(mut self, subreaper: bool) -> Self {
        self.subreaper = subreaper;
        self
    }

    /// Where the workers' stdout and stderr go. Default: to this process's.
    pub fn output(mut self, output: Output) -> Self {
        self.output = output;
        self
    }

    /// Whether processes that a worker started are killed when it has ended: those of its process group, and those below it where that
    /// can be seen. Default: yes, as service managers do.
    ///
    /// Who left both group and session and whose parent died before the worker escapes. A successor doesn't wait for this.
    pub fn kill_descendants(mut self, kill: bool) -> Self {
        self.kill_descendants = kill;
        self
    }

    /// How a [reload](crate::Handle::reload) goes about: how long each successor has to serve beside its predecessor, and thereby the pause between
    /// two replacements ([`Roll::bake`]: a manager's staggered restart), and how many
    /// canaries a new executable has to send ahead, for how long. Default: ready is good enough, and one canary for 5 s.
    ///
    /// How many workers may be on their way at a time is a matter of [`policy`](Self::policy). The release is the primary's to choose.
    pub fn rolling(mut self, roll: Roll) -> Self {
        self.rolling = roll;
        self
    }

    /// Limits of the [shared state](crate::Worker::state), and how much is kept for those who are behind. By default a million keys, values of 1 MiB,
    /// 256 MiB in all. Every worker holds a copy of it.
    pub fn state(mut self, config: PublisherConfig) -> Self {
        self.state = config;
        self
    }

    /// How [tasks](crate::Tasks) are spread over workers, and how many may wait.
    pub fn tasks(mut self, policy: TaskPolicy) -> Self {
        self.tasks = policy;
        self
    }

    /// Whether the primary hears signals: SIGTERM and SIGINT stop it (gracefully; at once at the second), SIGHUP reloads, SIGTTIN and
    /// SIGTTOU start one worker more and stop one. Default: yes. Without, use the [`Handle`](crate::Handle).
    pub fn handle_signals(mut self, handle: bool) -> Self {
        self.signals = handle;
        self
    }

    /// Finds out which part of the cluster this process is.
    ///
    /// A process that a primary started finds its channel on stdin; no environment variable is involved, so none is
    /// inherited by mistake. Call it once, early, inside the tokio runtime: in a worker it starts the
    /// tasks that keep in touch with the primary. Settings only matter in the primary; it passes on what workers need.
    ///
    /// # Errors
    ///
    /// An unknown strategy, or one in the [environment](Scheduling); or, in a worker, what is wrong with the primary's greeting. A process
    /// that gets an error must end: it was meant to be a worker.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O and time enabled.
    pub fn role(self) -> Result<Role> {
        if let Some(adopted) = cluster_ipc::adopt_stdin()? {
            return Ok(Role::Worker(Worker::adopt(adopted)?));
        }
        if self.workers == 0 {
            let stop_within = self.signals.then(|| self.stop_sequence().longest());
            return Ok(Role::Worker(Worker::inline(
                self.deadlines(),
                stop_within,
                self.settings.max_connections_per_worker,
                self.state,
                self.tasks,
            )?));
        }
        Ok(Role::Primary(self.primary()?))
    }

    /// The primary, without asking which part this process is: for a program whose workers run
    /// another one ([`exec`](Self::exec)). With [no workers](Self::workers) it begins with none, as a primary in Node does, and
    /// waits for some to be [forked](crate::Handle::fork).
    ///
    /// # Errors
    ///
    /// An unknown strategy, or one in the [environment](Scheduling).
    pub fn primary(self) -> Result<Primary> {
        Primary::new(self.scheduled()?)
    }

    /// What the acceptor is started with; takes what only it needs.
    pub(crate) fn acceptor(&mut self) -> Result<cluster_acceptor::Settings> {
        let strategy = std::mem::replace(&mut self.strategy, Choice::Named(String::new()));
        let settings = cluster_acceptor::Settings::boxed(strategy.resolve()?)
            .max_connections(self.limits.cluster)
            .when_full(self.limits.when_full)
            .key(self.key.clone())
            .peek(self.peek);
        Ok(match self.window {
            Some(connections) => settings.window(connections),
            None => settings,
        })
    }

    /// What each worker is greeted with, but for its name and what its settings say.
    pub(crate) fn greeting(&self, open_files: u64) -> Greeting {
        Greeting {
            slot: 0,
            generation: 0,
            heartbeat: self.checks.heartbeat_expected().beats_every(),
            deadlines: self.deadlines(),
            orphan_timeout: self.orphan_timeout,
            open_files,
            connections: None,
            descriptors: Vec::new(),
        }
    }

    /// How long a worker takes to leave.
    pub(crate) fn deadlines(&self) -> Deadlines {
        Deadlines::new(self.linger, self.policy.stop_sequence().drain_deadline(), self.long_lived)
    }

    /// The steps by which a worker is stopped that takes so long.
    pub(crate) fn stop_sequence(&self) -> StopSequence {
        self.policy.stop_sequence().drain(self.deadlines().in_all())
    }
}
