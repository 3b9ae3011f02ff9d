//! The simulation of one run: events in order of time, and how long each item took.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use cluster_balancer::{Ended, Limits, MemberId, Pool, Request, Strategy};
use fastrand::Rng;

use crate::scenario::{Scenario, Service};

/// Who decides.
pub(crate) enum Decider {
    /// A strategy of the crate, in a pool. Weights follow speeds if it is told to; gauges are read so often, if at all.
    Pool { strategy: Box<dyn Strategy>, weighted: bool, gauges: Option<f64> },
    /// Exact join-the-shortest-queue, written here once more, ties at random: the yardstick.
    Shortest,
    /// The smallest of counts that were read so long ago, as naive least-memory does.
    Stale(f64),
    /// One queue for all, from which an idle worker takes the oldest: late binding.
    Central,
}

/// How long items took, from arrival to end.
#[derive(Debug)]
pub(crate) struct Outcome {
    sojourns: Vec<f64>,
    /// Time-mean of the largest number of items at one worker over the mean.
    pub(crate) spread: f64,
    /// The mean of all times.
    pub(crate) mean: f64,
}

impl Outcome {
    /// The time that so many of all items took at most.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let last = self.sojourns.len().saturating_sub(1);
        self.sojourns.get((part * last as f64) as usize).copied().unwrap_or(f64::NAN)
    }
}

struct Job {
    arrived: f64,
    work: f64,
    member: Option<MemberId>,
}

#[derive(Default)]
struct Worker {
    queue: VecDeque<Job>,
    /// Work left of the first in the queue, when that was last known.
    left: f64,
    known: f64,
    speed: f64,
    /// Ends that were expected before the speed changed count for nothing.
    version: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Arrival,
    End { worker: usize, version: u32 },
    Stall { worker: usize },
    Recover { worker: usize },
    Gauges,
}

/// The earliest first.
struct Event(f64, What);

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.total_cmp(&self.0)
    }
}

struct Run<'a> {
    scenario: &'a Scenario,
    decider: Decider,
    pool: Option<Pool<usize>>,
    members: Vec<MemberId>,
    workers: Vec<Worker>,
    central: VecDeque<Job>,
    stale: Vec<usize>,
    events: BinaryHeap<Event>,
    arrivals: Rng,
    work: Rng,
    ties: Rng,
    now: f64,
    sojourns: Vec<f64>,
    spread: (f64, f64),
}

/// Runs so many items through.
pub(crate) fn run(scenario: &Scenario, decider: Decider, jobs: usize, seed: u64) -> Outcome {
    let mut run = Run::new(scenario, decider, jobs, seed);
    let mut left = jobs;
    run.events.push(Event(0.0, What::Arrival));
    while let Some(Event(at, what)) = run.events.pop() {
        run.pass(at);
        match what {
            What::Arrival => {
                let burst = run.burst().min(left);
                left -= burst;
                (0..burst).for_each(|_| run.arrive());
                if left > 0 {
                    let rate = scenario.load * scenario.speeds.iter().sum::<f64>() / scenario.burst;
                    let gap = exponential(&mut run.arrivals) / rate;
                    run.events.push(Event(at + gap, What::Arrival));
                }
            }
            What::End { worker, version } => run.end(worker, version),
            // Nobody has to stall or be measured when all is done.
            _ if run.sojourns.len() == jobs => {}
            What::Stall { worker } => run.stall(worker),
            What::Recover { worker } => run.recover(worker),
            What::Gauges => run.read_gauges(),
        }
    }
    run.outcome()
}

fn exponential(rng: &mut Rng) -> f64 {
    -(1.0 - rng.f64()).ln()
}

impl<'a> Run<'a> {
    fn new(scenario: &'a Scenario, mut decider: Decider, jobs: usize, seed: u64) -> Self {
        let speeds = &scenario.speeds;
        let mut members = Vec::new();
        let pool = match &mut decider {
            Decider::Pool { strategy, weighted, .. } => {
                let nothing = Box::new(cluster_balancer::RoundRobin::new());
                let mut pool = Pool::new(std::mem::replace(strategy, nothing));
                for (worker, speed) in speeds.iter().enumerate() {
                    let weight = if *weighted { (speed * 10.0).round() as u32 } else { 1 };
                    members.push(pool.add(worker, Limits::new().weight(weight)));
                }
                Some(pool)
            }
            _ => None,
        };
        let workers = speeds.iter().map(|speed| Worker { speed: *speed, ..Worker::default() }).collect();
        // Arrivals and work have seeds of their own: each decider gets the same.
        let mut run = Self {
            scenario,
            decider,
            pool,
            members,
            workers,
            central: VecDeque::new(),
            stale: vec![0; speeds.len()],
            events: BinaryHeap::new(),
            arrivals: Rng::with_seed(seed),
            work: Rng::with_seed(seed ^ 0x5eed),
            ties: Rng::with_seed(seed ^ 0xf00d),
            now: 0.0,
            sojourns: Vec::with_capacity(jobs),
            spread: (0.0, 0.0),
        };
        if let Some((rate, _)) = scenario.stalls {
            for worker in 0..speeds.len() {
                let at = exponential(&mut run.ties) / rate;
                run.events.push(Event(at, What::Stall { worker }));
            }
        }
        if matches!(run.decider, Decider::Pool { gauges: Some(_), .. } | Decider::Stale(_)) {
            run.events.push(Event(0.0, What::Gauges));
        }
        run
    }

    /// Time passes: figures over time.
    fn pass(&mut self, to: f64) {
        let gap = to - self.now;
        self.now = to;
        let lengths = || self.workers.iter().map(|worker| worker.queue.len());
        let (sum, most) = (lengths().sum::<usize>(), lengths().max().unwrap_or(0));
        if sum > 0 {
            let mean = sum as f64 / self.workers.len() as f64;
            self.spread.0 += gap * most as f64 / mean;
            self.spread.1 += gap;
        }
    }

    fn burst(&mut self) -> usize {
        if self.scenario.burst <= 1.0 {
            return 1;
        }
        // Geometric.
        let stop = 1.0 / self.scenario.burst;
        1 + (self.arrivals.f64().ln() / (1.0 - stop).ln()) as usize
    }

    fn arrive(&mut self) {
        let work = match self.scenario.service {
            Service::Exponential => exponential(&mut self.work),
            Service::LogNormal(sigma) => {
                // Box and Muller.
                let (one, other) = (1.0 - self.work.f64(), self.work.f64());
                let normal = (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * other).cos();
                (sigma * normal - sigma * sigma / 2.0).exp()
            }
        };
        let job = Job { arrived: self.now, work, member: None };
        match self.decide() {
            Some((worker, member)) => self.assign(worker, Job { member, ..job }),
            None => self.central.push_back(job),
        }
    }

    fn decide(&mut self) -> Option<(usize, Option<MemberId>)> {
        let now = Duration::from_secs_f64(self.now);
        if let Some(pool) = &mut self.pool {
            let picked = pool.pick_for(Request::new().at(now))?;
            return Some((*pool.key(picked)?, Some(picked)));
        }
        let lengths: Vec<usize> = match &self.decider {
            Decider::Stale(_) => self.stale.clone(),
            _ => self.workers.iter().map(|worker| worker.queue.len()).collect(),
        };
        let least = *lengths.iter().min()?;
        if matches!(self.decider, Decider::Central) && least > 0 {
            return None;
        }
        let equals: Vec<usize> =
            (0..lengths.len()).filter(|worker| lengths.get(*worker) == Some(&least)).collect();
        Some((*self.ties.choice(&equals)?, None))
    }

    fn assign(&mut self, worker: usize, job: Job) {
        let Some(at) = self.workers.get_mut(worker) else { return };
        at.queue.push_back(job);
        if at.queue.len() == 1 {
            self.begin(worker);
        }
    }

    /// The first in the queue is next.
    fn begin(&mut self, worker: usize) {
        let now = self.now;
        if let Some(at) = self.workers.get_mut(worker)
            && let Some(job) = at.queue.front()
        {
            (at.left, at.known) = (job.work, now);
            self.expect_end(worker);
        }
    }

    fn expect_end(&mut self, worker: usize) {
        if let Some(at) = self.workers.get_mut(worker) {
            at.version += 1;
            let event = Event(at.known + at.left / at.speed, What::End { worker, version: at.version });
            self.events.push(event);
        }
    }

    fn end(&mut self, worker: usize, version: u32) {
        let Some(at) = self.workers.get_mut(worker) else { return };
        if at.version != version {
            return;
        }
        let Some(job) = at.queue.pop_front() else { return };
        let took = self.now - job.arrived;
        self.sojourns.push(took);
        if let (Some(pool), Some(member)) = (&mut self.pool, job.member) {
            let ended = Ended::well(Duration::from_secs_f64(self.now)).after(Duration::from_secs_f64(took));
            pool.finish(member, ended);
        }
        self.begin(worker);
        let idle = self.workers.get(worker).is_some_and(|at| at.queue.is_empty());
        if idle && let Some(next) = self.central.pop_front() {
            self.assign(worker, next);
        }
    }

    fn set_speed(&mut self, worker: usize, speed: f64) {
        let now = self.now;
        let Some(at) = self.workers.get_mut(worker) else { return };
        at.left -= (now - at.known) * at.speed;
        (at.known, at.speed) = (now, speed);
        if !at.queue.is_empty() {
            self.expect_end(worker);
        }
    }

    fn stall(&mut self, worker: usize) {
        let Some((rate, length)) = self.scenario.stalls else { return };
        self.set_speed(worker, 0.1);
        self.events.push(Event(self.now + length, What::Recover { worker }));
        let next = self.now + length + exponential(&mut self.ties) / rate;
        self.events.push(Event(next, What::Stall { worker }));
    }

    fn recover(&mut self, worker: usize) {
        let speed = self.scenario.speeds.get(worker).copied().unwrap_or(1.0);
        self.set_speed(worker, speed);
    }

    fn read_gauges(&mut self) {
        let (Decider::Pool { gauges: Some(every), .. } | Decider::Stale(every)) = &self.decider else {
            return;
        };
        self.events.push(Event(self.now + every, What::Gauges));
        self.stale = self.workers.iter().map(|worker| worker.queue.len()).collect();
        if let Some(pool) = &mut self.pool {
            for (member, length) in self.members.iter().zip(&self.stale) {
                // 50 MB of its own and 10 MB for each item, give or take a fifth.
                let used = (50.0 + 10.0 * *length as f64) * (0.8 + 0.4 * self.ties.f64());
                pool.report(*member, (used * 1e6) as u64);
            }
        }
    }

    /// Without the first tenth: queues were empty in the beginning.
    fn outcome(mut self) -> Outcome {
        self.sojourns.drain(..self.sojourns.len() / 10);
        self.sojourns.sort_unstable_by(f64::total_cmp);
        let count = self.sojourns.len().max(1) as f64;
        let mean = self.sojourns.iter().sum::<f64>() / count;
        Outcome {
            spread: self.spread.0 / self.spread.1.max(f64::MIN_POSITIVE),
            mean,
            sojourns: self.sojourns,
        }
    }
}
