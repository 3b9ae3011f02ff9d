//! Random values, answers, counts, stalls and lives, against a model that remembers everything and looks it all through each time.
//!
//! Its time is that in which the monitor was awake: what the monitor moves on, the model never lived through.
//! Who is ejected it does not foretell: it holds the monitor to its bounds.
//!
//! `CLUSTER_TEST_SEED` repeats a run, `CLUSTER_TEST_LONG=1` makes it a hundred times as long.

#![allow(clippy::expect_used, reason = "a test")]

mod clock;
mod history;

use std::collections::BTreeMap;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use clock::{ms, patient, start};
use cluster_health::{
    Cause, Checks, InARow, Monitor, Outliers, Probe, Quantity, Standing, Verdict, VerdictKind,
};
use fastrand::Rng;
use history::{History, Rule};

const STEPS: usize = 1_500;
const RUNS: u64 = 60;
const KEYS: u8 = 6;
/// Half the interval of the heartbeat.
const TICK: Duration = ms(500);

#[test]
fn every_verdict_follows_from_all_that_ever_happened() {
    let long = env::var_os("CLUSTER_TEST_LONG").is_some_and(|value| value == "1");
    let runs = if long { 100 * RUNS } else { RUNS };
    let (first, runs) = match env::var("CLUSTER_TEST_SEED") {
        Ok(seed) => (seed.parse().unwrap_or_else(|_| panic!("CLUSTER_TEST_SEED is a number")), 1),
        Err(_) => (fastrand::u64(..u64::MAX / 2), runs),
    };
    let mut seen = BTreeMap::new();
    for seed in first..first + runs {
        match catch_unwind(AssertUnwindSafe(|| Run::new(seed).run())) {
            Ok(topics) => topics.into_iter().for_each(|topic| *seen.entry(topic).or_insert(0) += 1),
            Err(panic) => {
                eprintln!("repeat with CLUSTER_TEST_SEED={seed}");
                resume_unwind(panic);
            }
        }
    }
    // Two limits, ejections and two probes, each with its end, and two ways of having lived.
    let often = seen.values().filter(|count| **count >= runs / 10).count();
    assert!(often == 12 || runs == 1, "the runs must see every kind of verdict often: {seen:?}");
}

/// What of a verdict is foretold: of what it is, and when that began, by the monitor's waking time.
type Said = (u8, VerdictKind, &'static str);

struct Member {
    inserted: Instant,
    awake_at_birth: Duration,
    limits: [History; 2],
    /// All answers that count, to readiness and liveness, and whether it fails them.
    answers: [(Vec<bool>, bool); 2],
    is_starting: bool,
    served: u64,
    failed: u64,
    told_old: Option<Instant>,
    is_ejected: bool,
}

struct Run {
    rng: Rng,
    rules: [Rule; 2],
    in_a_row: (u32, u32),
    monitor: Monitor<u8>,
    now: Instant,
    /// For how long the monitor was awake.
    awake: Duration,
    looked: Instant,
    stalled: Option<Instant>,
    members: BTreeMap<u8, Member>,
    expected: Vec<Said>,
    seen: Vec<(VerdictKind, &'static str)>,
}

const QUEUE: &str = "queue";
const MAX_REQUESTS: u64 = 400;
const MAX_LIFETIME: Duration = Duration::from_secs(40);
const NAMES: [&str; 2] = ["readiness", "liveness"];
const RULES: [&str; 2] = ["soft", "hard"];

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let rules = [
            Rule::random(&mut rng, 50.0, VerdictKind::Suspect),
            Rule::random(&mut rng, 70.0, VerdictKind::Recycle),
        ];
        let in_a_row = (rng.u32(1..4), rng.u32(1..4));
        let mut checks = Checks::new()
            .heartbeat(patient())
            .starts()
            .max_requests(MAX_REQUESTS)
            .max_lifetime(MAX_LIFETIME)
            .jitter(0.0)
            .outliers(Outliers::new().min_requests(20).for_at_least(ms(20_000)));
        for rule in &rules {
            checks = checks.limit(Quantity::gauge(QUEUE), rule.limit());
        }
        for probe in [Probe::Readiness, Probe::Liveness] {
            checks = checks.probe(probe, InARow::new(in_a_row.0, in_a_row.1));
        }
        let now = start();
        Self {
            rng,
            rules,
            in_a_row,
            monitor: Monitor::new(checks),
            now,
            awake: ms(0),
            looked: now,
            stalled: None,
            members: BTreeMap::new(),
            expected: Vec::new(),
            seen: Vec::new(),
        }
    }

    fn run(mut self) -> Vec<(VerdictKind, &'static str)> {
        for _ in 0..STEPS {
            let key = self.rng.u8(..KEYS);
            match self.rng.u8(..100) {
                0..2 => self.insert(key),
                2 => {
                    self.monitor.remove(key);
                    self.members.remove(&key);
                }
                3..6 => self.begin(key),
                6..45 => self.value(key),
                45..60 => self.answer(key),
                60..75 => self.requests(key),
                75..78 => {
                    let time = self.rng.u64(501..60_000);
                    self.pass(ms(time));
                }
                _ => {
                    let time = self.rng.u64(0..500);
                    self.pass(ms(time));
                }
            }
            self.check();
        }
        self.seen
    }

    /// Time passes: ticks come when they should, but for the last one, which may be too late.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        if time <= TICK
            && let Some(due) = self.monitor.poll_timeout().filter(|due| *due <= until)
        {
            self.now = due.max(self.now);
            self.tick();
            self.check();
        }
        self.now = until.max(self.now);
        if self.rng.bool() {
            self.tick();
        }
    }

    /// To be called before anything that tells the monitor the time.
    fn wake(&mut self) {
        self.awake += self.now - self.looked;
        self.looked = self.now;
        let Some(due) = self.monitor.poll_timeout().filter(|due| self.now > *due + TICK) else { return };
        // From the announced tick on, also if there was something in between that was not late yet.
        self.awake = self.awake.saturating_sub(self.now - due);
        for member in self.members.values_mut() {
            member.awake_at_birth = member.awake_at_birth.min(self.awake);
            member.limits.iter_mut().for_each(|history| history.turn_back(self.awake));
        }
        self.stalled = Some(self.now);
        self.monitor.handle_beat(99, self.now);
    }

    fn tick(&mut self) {
        self.wake();
        for (key, member) in &mut self.members {
            if member.is_starting {
                continue;
            }
            let is_due = member.told_old.is_none_or(|told| self.now - told >= ms(60_000));
            let by_age = self.awake - member.awake_at_birth >= MAX_LIFETIME;
            let by_requests = member.served >= MAX_REQUESTS;
            if is_due && (by_age || by_requests) {
                member.told_old = Some(self.now);
                self.expected.push((
                    *key,
                    VerdictKind::Recycle,
                    if by_requests { "requests" } else { "lifetime" },
                ));
            }
        }
        self.monitor.handle_timeout(self.now);
        let next = self.monitor.poll_timeout();
        assert_eq!(next.is_none(), self.members.is_empty());
        assert!(next.is_none_or(|next| next > self.now && next <= self.now + TICK));
    }

    fn insert(&mut self, key: u8) {
        self.wake();
        self.monitor.insert(key, self.now);
        let member = Member {
            inserted: self.now,
            awake_at_birth: self.awake,
            limits: Default::default(),
            answers: Default::default(),
            is_starting: true,
            served: 0,
            failed: 0,
            told_old: None,
            is_ejected: false,
        };
        self.members.insert(key, member);
    }

    fn begin(&mut self, key: u8) {
        self.wake();
        self.monitor.handle_probe(key, Probe::Startup, Ok(()), self.now, self.now);
        if let Some(member) = self.members.get_mut(&key) {
            member.is_starting = false;
        }
    }

    fn value(&mut self, key: u8) {
        self.wake();
        let value = match self.rng.u8(..20) {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2..6 => self.rng.f64() * 100.0,
            // Much the same for a while.
            _ => [30.0, 45.0, 55.0, 65.0, 75.0][(self.awake.as_secs() / 15) as usize % 5],
        };
        self.monitor.handle_value(key, &Quantity::gauge(QUEUE), value, self.now);
        let Some(member) = self.members.get_mut(&key).filter(|member| !member.is_starting) else { return };
        for ((rule, history), name) in self.rules.iter().zip(&mut member.limits).zip(RULES) {
            let kind = history.value(rule, value, self.awake);
            self.expected.extend(kind.map(|kind| (key, kind, name)));
        }
    }

    fn answer(&mut self, key: u8) {
        self.wake();
        let at = self.rng.usize(..2);
        let is_good = self.rng.bool();
        let began = self.now.checked_sub(ms(self.rng.u64(..2_000))).expect("the clock does not begin there");
        let answer = if is_good { Ok(()) } else { Err("no") };
        self.monitor.handle_probe(key, [Probe::Readiness, Probe::Liveness][at], answer, began, self.now);
        let excused = !is_good && self.stalled.is_some_and(|stalled| began <= stalled);
        let Some(member) = self.members.get_mut(&key) else { return };
        if member.is_starting || excused || began < member.inserted {
            return;
        }
        let (answers, is_bad) = &mut member.answers[at];
        answers.push(is_good);
        let row = answers.iter().rev().take_while(|answer| **answer == is_good).count() as u32;
        let needed = if is_good { self.in_a_row.0 } else { self.in_a_row.1 };
        if *is_bad == is_good && row >= needed {
            *is_bad = !is_good;
            let kind = match (is_good, at) {
                (true, _) => VerdictKind::Recovered,
                (false, 0) => VerdictKind::Suspect,
                (false, _) => VerdictKind::Unhealthy,
            };
            self.expected.push((key, kind, NAMES[at]));
        }
    }

    fn requests(&mut self, key: u8) {
        let Some(member) = self.members.get_mut(&key) else { return };
        let more = self.rng.u64(..60);
        // The first two fail most of the time.
        let failed = if key < 2 { more } else { more / 20 };
        (member.served, member.failed) = match self.rng.u8(..100) {
            0 => (0, 0),
            _ => (member.served + more, member.failed + failed),
        };
        self.monitor.handle_requests(key, member.served, member.failed);
    }

    fn check(&mut self) {
        let mut said = Vec::new();
        while let Some(verdict) = self.monitor.poll_verdict() {
            let (key, topic) = (verdict.key(), self.topic(&verdict));
            assert!(verdict.since() <= self.now && !verdict.to_string().is_empty());
            self.seen.push((verdict.kind(), topic));
            if topic == "failures" {
                let member = self.members.get_mut(&key).expect("only members are spoken of");
                assert_eq!(member.is_ejected, verdict.kind() == VerdictKind::Recovered, "in turns");
                assert!(!member.is_starting);
                member.is_ejected ^= true;
                let is_left = (0..KEYS).any(|key| self.monitor.standing(key) == Some(Standing::Well));
                assert!(is_left || !member.is_ejected, "never the last one that is well");
            } else {
                said.push((key, verdict.kind(), topic));
            }
        }
        let sorted = |mut said: Vec<Said>| {
            said.sort();
            said
        };
        assert_eq!(sorted(said), sorted(std::mem::take(&mut self.expected)));
        let ejected = self.members.values().filter(|member| member.is_ejected).count();
        assert!(ejected <= 1, "of six at most a quarter, or one");
        for key in 0..KEYS {
            assert_eq!(self.monitor.standing(key), self.members.get(&key).map(standing));
        }
    }

    fn topic(&self, verdict: &Verdict<u8>) -> &'static str {
        match verdict.cause() {
            Cause::Limit(excess) if excess.limit == self.rules[0].over => RULES[0],
            Cause::Limit(_) => RULES[1],
            Cause::Failures(_) => "failures",
            Cause::Probe(failure) => failure.probe.as_str(),
            Cause::Requests { .. } => "requests",
            Cause::Lifetime { .. } => "lifetime",
            other => panic!("a cause that the model does not know: {other}"),
        }
    }
}

/// What was told, summed up.
fn standing(member: &Member) -> Standing {
    if member.is_starting {
        return Standing::Starting;
    }
    let [(_, not_ready), (_, not_alive)] = member.answers;
    match (not_alive, not_ready || member.is_ejected || member.limits[0].is_told()) {
        (true, _) => Standing::Unhealthy,
        (false, true) => Standing::Suspect,
        (false, false) => Standing::Well,
    }
}
