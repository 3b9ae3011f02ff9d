//! One monitor, one worker, virtual time.

use std::time::{Duration, Instant};

use cluster_health::{Monitor, VerdictKind};
use fastrand::Rng;

use crate::contender::Contender;
use crate::trace::{Stall, Trace};

/// Of a worker that lived all the time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Alarms {
    pub(crate) suspicions: u64,
    pub(crate) deaths: u64,
}

/// How long a hang took to be found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// From the moment when it hung to the suspicion.
    pub(crate) suspect: Duration,
    /// From its last beat.
    pub(crate) suspect_since_beat: Duration,
    pub(crate) dead_since_beat: Duration,
}

struct Stage {
    trace: Trace,
    interval: Duration,
    rng: Rng,
    monitor: Monitor<u8>,
    begin: Instant,
    /// The trace's time when this begins.
    phase: Duration,
    now: Duration,
    last_beat: Duration,
    next_beat: Duration,
    stall: Stall,
}

const WORKER: u8 = 1;

impl Stage {
    fn new(contender: &Contender, trace: Trace, mut rng: Rng, phase: Duration) -> Self {
        let begin = Instant::now();
        let mut monitor = Monitor::new(contender.heartbeat);
        monitor.insert(WORKER, begin);
        let interval = contender.heartbeat.beats_every();
        let next_beat = trace.gap(interval, phase, &mut rng);
        let stall = Stall::next(trace, Duration::ZERO, &mut rng);
        let (now, last_beat) = (Duration::ZERO, Duration::ZERO);
        Self { trace, interval, rng, monitor, begin, phase, now, last_beat, next_beat, stall }
    }

    /// What is next, a beat or a tick, up to `until`; `false` if nothing is.
    fn step(&mut self, until: Duration, beats: bool) -> bool {
        let tick = self.monitor.poll_timeout().map_or(Duration::MAX, |due| due - self.begin);
        let is_beat = beats && self.next_beat <= tick;
        let at = if is_beat { self.next_beat } else { tick };
        if at > until {
            return false;
        }
        if at >= self.stall.from {
            self.stand_still();
            return true;
        }
        self.now = at;
        if is_beat {
            self.beat();
        } else {
            self.monitor.handle_timeout(self.begin + at);
        }
        true
    }

    fn beat(&mut self) {
        self.last_beat = self.next_beat;
        self.monitor.handle_beat(WORKER, self.begin + self.now);
        self.next_beat += self.trace.gap(self.interval, self.phase + self.next_beat, &mut self.rng);
    }

    /// The monitor is stopped, and comes back to all that has piled up: in any order.
    fn stand_still(&mut self) {
        let Stall { from, to, together } = self.stall;
        if together && self.next_beat >= from {
            self.next_beat += to - from;
        }
        self.now = to;
        let ticks_first = self.rng.bool();
        if ticks_first {
            self.monitor.handle_timeout(self.begin + to);
        }
        while self.next_beat <= to {
            self.beat();
        }
        if !ticks_first {
            self.monitor.handle_timeout(self.begin + to);
        }
        self.stall = Stall::next(self.trace, to, &mut self.rng);
    }
}

/// Watches a worker that lives for so long.
pub(crate) fn alarms(contender: &Contender, trace: Trace, hours: u32, seed: u64) -> Alarms {
    let mut stage = Stage::new(contender, trace, Rng::with_seed(seed), Duration::ZERO);
    let mut alarms = Alarms::default();
    let until = Duration::from_secs(3600) * hours;
    while stage.step(until, true) {
        while let Some(verdict) = stage.monitor.poll_verdict() {
            match verdict.kind() {
                VerdictKind::Suspect => alarms.suspicions += 1,
                VerdictKind::Unhealthy => alarms.deaths += 1,
                _ => {}
            }
        }
    }
    alarms
}

/// Lets a worker hang at some time, and says when it was found; `None` if it was suspect already.
pub(crate) fn hang(contender: &Contender, trace: Trace, seed: u64) -> Option<Found> {
    let mut rng = Rng::with_seed(seed);
    let phase = Duration::from_secs_f64(7200.0 * rng.f64());
    // Long enough for a detector to know what it can.
    let hangs = Duration::from_secs_f64(120.0 + rng.f64());
    let mut stage = Stage::new(contender, trace, rng, phase);
    let mut is_suspect = false;
    while stage.step(hangs, true) {
        while let Some(verdict) = stage.monitor.poll_verdict() {
            is_suspect = verdict.kind() != VerdictKind::Recovered;
        }
    }
    if is_suspect {
        return None;
    }
    let (last_beat, mut suspect) = (stage.last_beat, None);
    while stage.step(Duration::MAX, false) {
        while let Some(verdict) = stage.monitor.poll_verdict() {
            match (verdict.kind(), suspect) {
                (VerdictKind::Suspect, _) => suspect = Some(stage.now),
                (VerdictKind::Unhealthy, Some(suspect)) => {
                    return Some(Found {
                        suspect: suspect.saturating_sub(hangs),
                        suspect_since_beat: suspect - last_beat,
                        dead_since_beat: stage.now - last_beat,
                    });
                }
                _ => {}
            }
        }
    }
    None
}
