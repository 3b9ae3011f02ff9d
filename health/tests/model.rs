//! Random beats, stalls and ticks, against a model that remembers every stall and measures silence anew.
//!
//! Silence is real time since the last beat less the time in which the monitor stood still. No verdict
//! comes with less of it, and every tick reports all there is to report.
//!
//! `CLUSTER_TEST_SEED` repeats a run, `CLUSTER_TEST_LONG=1` makes it a hundred times as long.

mod clock;

use std::collections::BTreeMap;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use clock::{ms, start};
use cluster_health::{Heartbeat, Monitor, Standing, VerdictKind};
use fastrand::Rng;

const STEPS: usize = 2_000;
const RUNS: u64 = 100;

#[test]
fn verdicts_follow_from_silence_as_a_monitor_that_never_stalls_would_see_it() {
    let long = env::var_os("CLUSTER_TEST_LONG").is_some_and(|value| value == "1");
    let runs = if long { 100 * RUNS } else { RUNS };
    let (first, runs) = match env::var("CLUSTER_TEST_SEED") {
        Ok(seed) => (seed.parse().unwrap_or_else(|_| panic!("CLUSTER_TEST_SEED is a number")), 1),
        Err(_) => (fastrand::u64(..u64::MAX / 2), runs),
    };
    let mut seen = [0; 3];
    for seed in first..first + runs {
        match catch_unwind(AssertUnwindSafe(|| Run::new(seed).run())) {
            Ok(verdicts) => seen.iter_mut().zip(verdicts).for_each(|(sum, count)| *sum += count),
            Err(panic) => {
                eprintln!("repeat with CLUSTER_TEST_SEED={seed}");
                resume_unwind(panic);
            }
        }
    }
    let all_kinds = seen.iter().all(|count| *count >= runs);
    assert!(all_kinds || runs == 1, "the runs must see every kind of verdict often: {seen:?}");
}

struct Member {
    beats: bool,
    counter: u64,
    read: Option<u64>,
    liveness: Standing,
    heard: Instant,
    /// From when to when the monitor stood still, since the last beat.
    stalls: Vec<(Instant, Instant)>,
    /// Silence that was forgiven beyond that, so that it could prove itself after a stall.
    grace: Duration,
    graced: bool,
}

impl Member {
    fn new(now: Instant) -> Self {
        Self {
            beats: true,
            counter: 0,
            read: None,
            liveness: Standing::Well,
            heard: now,
            stalls: Vec::new(),
            grace: ms(0),
            graced: false,
        }
    }

    fn silence(&self, now: Instant) -> Duration {
        let overlap = |(from, to): &(Instant, Instant)| to.saturating_duration_since((*from).max(self.heard));
        now - self.heard - self.stalls.iter().map(overlap).sum::<Duration>() - self.grace
    }

    fn beat(&mut self, now: Instant) {
        let kept = (self.beats, self.counter, self.read);
        *self = Self::new(now);
        (self.beats, self.counter, self.read) = kept;
    }

    fn fall(&mut self, to: Standing) {
        (self.liveness, self.graced) = (to, false);
    }

    /// How much silence may be left after a stall: none, or so much that death is not near.
    fn silence_after_stall(&self, heartbeat: &Heartbeat) -> Duration {
        match self.liveness {
            Standing::Well => ms(0),
            Standing::Suspect => heartbeat.dead_after() - heartbeat.suspect_after(),
            _ => Duration::MAX,
        }
    }
}

struct Run {
    rng: Rng,
    heartbeat: Heartbeat,
    monitor: Monitor<u8>,
    now: Instant,
    members: BTreeMap<u8, Member>,
    /// Verdicts that must come now: who, what, and the silence behind it.
    expected: Vec<(u8, VerdictKind, Duration)>,
    seen: [u64; 3],
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let interval = ms(rng.u64(1..400));
        let missed = rng.u32(1..8);
        let heartbeat = Heartbeat::new()
            .interval(interval)
            .suspect_missed(missed)
            .dead_missed(missed * rng.u32(0..5))
            .dead_at_least(interval * rng.u32(0..20));
        let monitor = Monitor::new(heartbeat);
        Self {
            rng,
            heartbeat,
            monitor,
            now: start(),
            members: BTreeMap::new(),
            expected: Vec::new(),
            seen: [0; 3],
        }
    }

    /// Returns how many suspicions, recoveries and deaths there were.
    fn run(mut self) -> [u64; 3] {
        for _ in 0..STEPS {
            match self.rng.u8(..100) {
                0..3 => self.insert(),
                3..5 => self.remove(),
                5..8 => self.change_mood(),
                8..50 => self.beat(),
                50..58 => self.look_early(),
                58..95 => self.tick(ms(0)),
                95..98 => self.stumble(),
                _ => self.stall(),
            }
            self.check();
        }
        self.seen
    }

    fn insert(&mut self) {
        let key = self.rng.u8(..6);
        self.monitor.insert(key, self.now);
        self.members.insert(key, Member::new(self.now));
    }

    fn remove(&mut self) {
        let key = self.rng.u8(..6);
        self.monitor.remove(key);
        self.members.remove(&key);
    }

    fn change_mood(&mut self) {
        let key = self.rng.u8(..6);
        if let Some(member) = self.members.get_mut(&key) {
            member.beats = !member.beats;
        }
    }

    /// A stall is noticed by whatever comes first after it, and once.
    fn notice_stall(&mut self) {
        let (now, heartbeat) = (self.now, self.heartbeat);
        let Some(due) = self.monitor.poll_timeout().filter(|due| now > *due + heartbeat.beats_every() / 2)
        else {
            return;
        };
        for member in self.members.values_mut() {
            member.stalls.push((due, now));
            let excess = member.silence(now).saturating_sub(member.silence_after_stall(&heartbeat));
            if excess > ms(0) && !member.graced {
                member.grace += excess;
                member.graced = true;
            }
        }
    }

    /// Those in the mood beat: by an event, or by a counter that is read whether it changed or not.
    fn beat(&mut self) {
        // Somebody else's, whom nobody knows.
        self.notice_stall();
        self.monitor.handle_beat(99, self.now);
        for (key, member) in &mut self.members {
            let by_event = key % 2 == 0;
            if member.beats {
                member.counter = if self.rng.u8(..10) == 0 { self.rng.u64(..) } else { member.counter + 1 };
            }
            let silence = member.silence(self.now);
            let heard = match by_event {
                true => member.beats,
                false => member.read.replace(member.counter).is_some_and(|read| read != member.counter),
            };
            match by_event {
                true if heard => self.monitor.handle_beat(*key, self.now),
                true => {}
                false => self.monitor.handle_counter(*key, member.counter, self.now),
            }
            if heard {
                if member.liveness != Standing::Well {
                    self.expected.push((*key, VerdictKind::Recovered, silence));
                }
                member.beat(self.now);
            }
        }
    }

    fn look_early(&mut self) {
        let Some(due) = self.monitor.poll_timeout() else { return };
        if let Some(left) = due.checked_duration_since(self.now) {
            self.now += left.mul_f64(self.rng.f64() * 0.99);
        }
        self.handle_timeout();
    }

    /// Comes at most as late as is still on time.
    fn stumble(&mut self) {
        let late = self.heartbeat.beats_every().mul_f64(self.rng.f64() / 2.0);
        self.tick(late);
    }

    fn stall(&mut self) {
        let late = self.heartbeat.beats_every() * self.rng.u32(0..20) + ms(self.rng.u64(1..1_000));
        if self.rng.bool() {
            // Beats may be handled before the late tick.
            if let Some(due) = self.monitor.poll_timeout() {
                self.now = self.now.max(due + late.mul_f64(self.rng.f64()));
                self.beat();
            }
        }
        self.tick(late);
    }

    fn tick(&mut self, late: Duration) {
        if let Some(due) = self.monitor.poll_timeout() {
            self.now = self.now.max(due + late);
        }
        self.handle_timeout();
    }

    fn handle_timeout(&mut self) {
        let (now, heartbeat) = (self.now, self.heartbeat);
        let half = heartbeat.beats_every() / 2;
        self.notice_stall();
        for (key, member) in &mut self.members {
            let silence = member.silence(now);
            if member.liveness == Standing::Well && silence >= heartbeat.suspect_after() {
                member.fall(Standing::Suspect);
                self.expected.push((*key, VerdictKind::Suspect, silence));
            }
            if member.liveness == Standing::Suspect && silence >= heartbeat.dead_after() {
                member.fall(Standing::Unhealthy);
                self.expected.push((*key, VerdictKind::Unhealthy, silence));
            }
        }
        self.monitor.handle_timeout(now);
        match self.monitor.poll_timeout() {
            Some(next) => {
                assert!(next > now && next <= now + half, "the next tick is at most half an interval away")
            }
            None => assert!(self.members.is_empty()),
        }
    }

    fn check(&mut self) {
        let mut verdicts = Vec::new();
        while let Some(verdict) = self.monitor.poll_verdict() {
            let real = self.now - self.members[&verdict.key()].heard;
            match verdict.kind() {
                VerdictKind::Suspect => {
                    self.seen[0] += 1;
                    assert!(real >= self.heartbeat.suspect_after());
                }
                VerdictKind::Recovered => self.seen[1] += 1,
                VerdictKind::Unhealthy => {
                    self.seen[2] += 1;
                    assert!(real >= self.heartbeat.dead_after());
                }
                other => panic!("a verdict that the model does not know: {other:?}"),
            }
            verdicts.push((verdict.key(), verdict.kind(), clock::silence(&verdict).lasted));
        }
        // The order of members within one tick is open; that of one member's verdicts is not.
        verdicts.sort_by_key(|(key, ..)| *key);
        self.expected.sort_by_key(|(key, ..)| *key);
        assert_eq!(verdicts, self.expected);
        self.expected.clear();
        for key in 0..6 {
            assert_eq!(self.monitor.standing(key), self.members.get(&key).map(|member| member.liveness));
        }
    }
}
