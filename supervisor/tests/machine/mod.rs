//! A simulated machine: processes with a fate, a virtual clock, and a driver that is sometimes late.
//!
//! Everything that happens is drawn from one seed. The rules of [`rules`](super::rules) are checked at every step.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cluster_supervisor::{
    Action, Backoff, Budget, Event, Exit, ExitCodes, Figures, GiveUpReason, GivenUp, Group, Policy, Release,
    Restart, Roll, StopSequence, StopSignal, Supervisor, WorkerId,
};

use super::rules::{DONE_TOO, HOPELESS, Rules};

/// What a schedule is drawn with. Everything else follows from the seed.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) budget: Option<(u32, Duration)>,
    pub(crate) restart: Restart,
    pub(crate) stop: (Duration, Duration),
    pub(crate) start_timeout: Duration,
    pub(crate) surge: u32,
    pub(crate) unavailable: u32,
    pub(crate) group: Group,
}

impl Settings {
    fn draw(rng: &mut fastrand::Rng) -> Self {
        let budgets = [
            Some((10, seconds(60))),
            Some((10, seconds(60))),
            Some((2, seconds(20))),
            Some((0, seconds(9))),
            None,
        ];
        let restarts =
            [Restart::Always, Restart::Always, Restart::Always, Restart::OnFailure, Restart::Never];
        let stops = [
            (seconds(10), seconds(2)),
            (seconds(10), seconds(2)),
            (seconds(1), seconds(0)),
            (seconds(0), seconds(0)),
        ];
        Self {
            budget: budgets[rng.usize(..budgets.len())],
            restart: restarts[rng.usize(..restarts.len())],
            stop: stops[rng.usize(..stops.len())],
            start_timeout: if rng.u8(..8) == 0 { Duration::ZERO } else { seconds(30) },
            surge: [1, 1, 0, 2, 5][rng.usize(..5)],
            unavailable: [0, 0, 1, 2][rng.usize(..4)],
            group: [Group::OneForOne, Group::OneForOne, Group::OneForAll, Group::RestForOne][rng.usize(..4)],
        }
    }

    fn policy(&self, rng: &mut fastrand::Rng) -> Policy {
        let budget = self.budget.map_or_else(Budget::unlimited, |(limit, period)| Budget::new(limit, period));
        let base = if rng.u8(..10) == 0 { Duration::ZERO } else { seconds(1) };
        Policy::new()
            .budget(budget)
            .restart(self.restart)
            .success(ExitCodes::of(&[0, DONE_TOO]))
            .hopeless(ExitCodes::of(&[HOPELESS]))
            .backoff(Backoff::new().base(base))
            .stop(StopSequence::new().drain(self.stop.0).terminate(self.stop.1))
            .start_timeout(self.start_timeout)
            .max_surge(self.surge)
            .max_unavailable(self.unavailable)
            .group(self.group)
    }
}

/// Something that will come to the driver's notice.
#[derive(Clone, Copy, Debug)]
enum Fact {
    Spawned(WorkerId),
    SpawnFailed(WorkerId),
    Online(WorkerId),
    Ready(WorkerId),
    Exit(WorkerId, Exit),
    ChannelLost(WorkerId),
    Unhealthy(WorkerId),
    Leaving(WorkerId),
}

pub(crate) struct Machine {
    pub(crate) supervisor: Supervisor,
    pub(crate) rules: Rules,
    pub(crate) settings: Settings,
    pub(crate) now: Instant,
    rng: fastrand::Rng,
    /// What is to come, by time. Facts that are due together come in any order.
    facts: Vec<(Instant, Fact)>,
    /// Ids that once were, as material for late messages.
    known: Vec<WorkerId>,
    /// Processes that run, with the exit already on its way if there is one.
    dying: BTreeMap<WorkerId, bool>,
    /// No more faults of the clock or of the machine: what is left must end in time.
    pub(crate) calm: bool,
    begin: Instant,
    /// `CLUSTER_TEST_TELL=1`: for one who looks at the schedule of one seed.
    is_told: bool,
}

impl Machine {
    pub(crate) fn new(seed: u64, now: Instant) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let settings = Settings::draw(&mut rng);
        let policy = settings.policy(&mut rng);
        Self {
            supervisor: Supervisor::new(policy, rng.u64(..)),
            rules: Rules::new(&settings),
            settings,
            now,
            rng,
            facts: Vec::new(),
            known: Vec::new(),
            dying: BTreeMap::new(),
            calm: false,
            begin: now,
            is_told: std::env::var_os("CLUSTER_TEST_TELL").is_some(),
        }
    }

    /// One random wish of the user, or none.
    pub(crate) fn command(&mut self) {
        match self.rng.u8(..100) {
            0..12 => {
                let id = self.supervisor.start(self.now);
                self.rules.started(id);
            }
            12..18 => {
                if let Some(id) = self.anyone() {
                    self.rules.stopped(id, &self.supervisor);
                    self.supervisor.stop(id, self.now);
                }
            }
            18 => self.shutdown(),
            19 => self.shutdown_now(),
            20..24 => self.send_late_news(),
            24..30 => self.roll(),
            30 => drop(self.supervisor.pause_roll()),
            31..34 => drop(self.supervisor.resume_roll(self.now)),
            34..36 => self.supervisor.abort_roll(self.now),
            36..40 => {
                if let Some(id) = self.anyone() {
                    self.supervisor.replace(id, self.now);
                }
            }
            40..43 => self.scale(),
            43..60 => self.count_requests(),
            60..66 => self.start_again(),
            _ => {}
        }
        self.pump();
    }

    fn start_again(&mut self) {
        let Some(slot) = self.anyone().map(WorkerId::slot) else { return };
        let waits = self.supervisor.slots().any(|view| view.slot() == slot && view.retry_at().is_some());
        let started = self.supervisor.start_again(slot, self.now);
        if waits && started.is_some() {
            self.rules.met.insert("StartedInBackoff".to_owned());
        }
        self.rules.started_again(slot, started);
    }

    fn roll(&mut self) {
        let roll = match self.rng.u8(..4) {
            0 => Roll::same(),
            _ => Roll::to(Release::new(self.rng.u32(..4))),
        };
        let rolls_back = self.rng.u8(..4) > 0;
        let roll = roll.bake(seconds(self.rng.u64(..3) * 5)).roll_back(rolls_back);
        let bake = seconds(self.rng.u64(..20));
        let canaries = if self.rng.bool() { self.rng.u32(..3) } else { 0 };
        let roll = roll.canaries(canaries, bake);
        self.rules.rolls(canaries, rolls_back);
        let was = self.supervisor.current_roll();
        match self.supervisor.roll(roll, self.now) {
            Ok(_) => assert_eq!(was, None),
            Err(error) => drop(self.rules.met.insert(first_word(&format!("{error:?}")))),
        }
    }

    pub(crate) fn resume(&mut self) {
        self.supervisor.resume_roll(self.now);
        self.pump();
    }

    fn scale(&mut self) {
        let slots = self.rng.usize(..7);
        self.rules.scale(slots, &self.supervisor);
        self.supervisor.scale(slots, self.now);
        assert_eq!(self.supervisor.size(), slots, "as many slots as were asked for");
    }

    fn count_requests(&mut self) {
        let Some(id) = self.anyone() else { return };
        let requests = self.rng.u64(..200);
        let errors = if self.rng.u8(..4) == 0 { requests / 2 } else { 0 };
        self.supervisor.handle_figures(id, Figures::new(requests, errors), self.now);
    }

    pub(crate) fn shutdown(&mut self) {
        self.rules.shut_down();
        self.supervisor.shutdown(self.now);
        self.pump();
    }

    pub(crate) fn shutdown_now(&mut self) {
        self.rules.shut_down();
        self.supervisor.shutdown_now(self.now);
        self.pump();
    }

    /// Moves to the next thing that happens and lets it happen. Returns whether there was any.
    pub(crate) fn step(&mut self) -> bool {
        let timeout = self.supervisor.poll_timeout();
        let Some(next) = self.facts.iter().map(|(at, _)| *at).chain(timeout).min() else { return false };
        let late = match self.rng.u8(..100) {
            _ if self.calm => Duration::ZERO,
            0 => seconds(self.rng.u64(..7200)),
            1..10 => Duration::from_millis(self.rng.u64(..5000)),
            _ => Duration::ZERO,
        };
        self.now = self.now.max(next) + late;
        // A driver may look at its timer first or at its messages first.
        let timer_first = self.rng.bool();
        if timer_first {
            self.timeout();
        }
        loop {
            let due: Vec<_> = (0..self.facts.len()).filter(|&at| self.facts[at].0 <= self.now).collect();
            if due.is_empty() {
                break;
            }
            let (_, fact) = self.facts.swap_remove(due[self.rng.usize(..due.len())]);
            self.tell(fact);
        }
        if !timer_first {
            self.timeout();
        }
        self.pump();
        self.rules.look(&self.supervisor);
        true
    }

    fn timeout(&mut self) {
        self.supervisor.handle_timeout(self.now);
        let next = self.supervisor.poll_timeout();
        assert!(next.is_none_or(|next| next > self.now), "a deadline survived handle_timeout");
        self.pump();
    }

    fn tell(&mut self, fact: Fact) {
        let (supervisor, now) = (&mut self.supervisor, self.now);
        match fact {
            Fact::Spawned(id) => {
                self.rules.spawned(id);
                self.dying.insert(id, false);
                supervisor.handle_spawned(id, now);
                self.plan_life(id);
            }
            Fact::SpawnFailed(id) => {
                self.rules.spawn_failed(id);
                supervisor.handle_spawn_failed(id, now);
            }
            Fact::Online(id) => supervisor.handle_online(id, now),
            Fact::Ready(id) => supervisor.handle_ready(id, now),
            Fact::Exit(id, exit) => {
                self.rules.exited(id, exit, supervisor, now);
                self.dying.remove(&id);
                supervisor.handle_exit(id, exit, now);
            }
            Fact::ChannelLost(id) => supervisor.handle_channel_lost(id, now),
            Fact::Unhealthy(id) => supervisor.handle_unhealthy(id, now),
            Fact::Leaving(id) => {
                supervisor.handle_leaving(id, now);
                self.plan_exit(id, Exit::Code(0), 20_000);
            }
        }
        // Some drivers handle a batch of messages before they look at what to do.
        if self.rng.u8(..4) > 0 {
            self.pump();
        } else {
            self.rules.many_at_once = true;
        }
    }

    /// Carries out all actions and checks all that can be checked.
    fn pump(&mut self) {
        for _ in 0..10_000 {
            // First: they tell which of the spawns to come are of successors.
            while let Some(event) = self.supervisor.poll_event() {
                if self.is_told {
                    eprintln!("{:>9.3?} {event}", self.now - self.begin);
                }
                self.rules.event(&event, self.now);
                self.rules.verdict(&self.supervisor);
                let by_budget = |given_up: &GivenUp| matches!(given_up.reason(), GiveUpReason::Budget { .. });
                assert!(
                    !matches!(&event, Event::GaveUp(given_up) if by_budget(given_up) && self.settings.budget.is_none())
                );
            }
            let Some(action) = self.supervisor.poll_action() else {
                self.rules.many_at_once = false;
                return;
            };
            self.rules.action(action, self.now, &self.supervisor);
            self.carry_out(action);
        }
        panic!("the supervisor keeps the driver busy for ever");
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Spawn(id) => {
                self.known.push(id);
                let fails = !self.calm && self.rng.u8(..100) < 12;
                let fact = if fails { Fact::SpawnFailed(id) } else { Fact::Spawned(id) };
                // Most drivers answer at once; one that spawns in a thread answers later.
                let wait = if self.rng.bool() { 0 } else { self.rng.u64(..80) };
                self.facts.push((self.now + Duration::from_millis(wait), fact));
            }
            Action::Admit(_) | Action::Withdraw(_) => {}
            Action::AskStop(id) => match self.rng.u8(..10) {
                0..6 => self.plan_exit(id, Exit::Code(0), 5_000),
                // It obeys in its own time, which may be after the deadline.
                6..8 => self.plan_exit(id, Exit::Code(0), 20_000),
                _ => {}
            },
            Action::Signal(id, StopSignal::Term) => match self.rng.u8(..10) {
                0..5 => self.plan_exit(id, Exit::Signal(15), 500),
                5..7 => self.plan_exit(id, Exit::Code(0), 4_000),
                _ => {}
            },
            Action::Signal(id, StopSignal::Kill) => {
                // Nothing escapes SIGKILL, whatever else was under way.
                self.facts.retain(|(_, fact)| !matches!(fact, Fact::Exit(other, _) if *other == id));
                self.dying.insert(id, false);
                self.plan_exit(id, Exit::Signal(9), 50);
            }
        }
    }

    /// Draws what a new process will do by itself.
    fn plan_life(&mut self, id: WorkerId) {
        if self.rng.u8(..100) < 80 {
            self.plan(Fact::Online(id), 100);
        }
        match self.rng.u8(..100) {
            0..70 => self.plan(Fact::Ready(id), 2_000),
            70..80 => self.plan(Fact::Ready(id), 45_000),
            _ => {}
        }
        let codes = [0, 0, 1, 1, 2, DONE_TOO, HOPELESS];
        let code = i32::from(codes[self.rng.usize(..codes.len())]);
        match self.rng.u8(..100) {
            0..25 => self.plan_exit(id, Exit::Signal(6), 1_000),
            25..40 => self.plan_exit(id, Exit::Code(code), 20_000),
            40..60 => self.plan_exit(id, Exit::Code(code), 300_000),
            _ => {}
        }
        match self.rng.u8(..100) {
            0..8 => self.plan(Fact::ChannelLost(id), 60_000),
            8..16 => self.plan(Fact::Unhealthy(id), 60_000),
            16..24 => self.plan(Fact::Leaving(id), 60_000),
            _ => {}
        }
    }

    /// The process will end within so many milliseconds, unless its end is already on its way.
    ///
    /// Often its channel closes just before that, as the kernel does it.
    fn plan_exit(&mut self, id: WorkerId, exit: Exit, within: u64) {
        let Some(dying) = self.dying.get_mut(&id) else { return };
        if std::mem::replace(dying, true) {
            return;
        }
        let at = self.now + Duration::from_millis(self.rng.u64(..=within));
        if self.rng.bool() {
            self.facts.push((at, Fact::ChannelLost(id)));
        }
        self.facts.push((at, Fact::Exit(id, exit)));
    }

    fn plan(&mut self, fact: Fact, within: u64) {
        self.facts.push((self.now + Duration::from_millis(self.rng.u64(..=within)), fact));
    }

    /// Messages about workers of whom nothing is to be said any more.
    fn send_late_news(&mut self) {
        let Some(id) = self.anyone().filter(|&id| self.rules.has_ended(id)) else { return };
        let (supervisor, now) = (&mut self.supervisor, self.now);
        match self.rng.u8(..8) {
            0 => supervisor.handle_spawned(id, now),
            1 => supervisor.handle_spawn_failed(id, now),
            2 => supervisor.handle_online(id, now),
            3 => supervisor.handle_ready(id, now),
            4 => supervisor.handle_exit(id, Exit::Code(1), now),
            5 => supervisor.handle_channel_lost(id, now),
            6 => supervisor.handle_leaving(id, now),
            _ => supervisor.handle_unhealthy(id, now),
        }
        assert_eq!(supervisor.poll_action(), None, "late news about {id} moved something");
    }

    fn anyone(&mut self) -> Option<WorkerId> {
        (!self.known.is_empty()).then(|| self.known[self.rng.usize(..self.known.len())])
    }
}

/// The first word of something's debug form.
pub(crate) fn first_word(text: &str) -> String {
    text.split(|char: char| !char.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
