//! One member: everything that is known of it, and how it stands.

use std::time::{Duration, Instant};

use crate::cpu::Usage;
use crate::limit::{Change, Consequence, Tracker};
use crate::outliers::{Failures, Record};
use crate::probe::{Answers, Turned};
use crate::silence::{Beats, Rung};
use crate::{Cause, Checks, Limit, Probe, ProbeFailure, Quantity, Standing, VerdictKind};

/// Something to tell of a member.
pub(crate) type Finding = (VerdictKind, Cause, Instant);

#[derive(Clone, Debug)]
pub(crate) struct Member<K> {
    pub(crate) key: K,
    began: Instant,
    /// It has not given its first good answer to the startup probe, and is one that has to.
    is_starting: bool,
    pub(crate) beats: Beats,
    /// One for each limit of the checks, in their order.
    limits: Vec<Tracker>,
    pub(crate) usage: Usage,
    pub(crate) record: Record,
    /// What was told of its being ejected.
    ejection: Option<(Failures, Instant)>,
    probes: [(Answers, Option<Instant>); 3],
    served: u64,
    max_requests: Option<u64>,
    max_lifetime: Option<Duration>,
    /// When it was last told that its life is over.
    told_old: Option<Instant>,
    memory: Confirmation,
}

/// Whether memory over a limit is what it seems.
#[derive(Clone, Copy, Debug, Default)]
struct Confirmation {
    /// A limit is exceeded by this, and has been since then, which has yet to be confirmed.
    asked: Option<(f64, Instant)>,
    /// It was not confirmed, then, at this value.
    refuted: Option<(Instant, f64)>,
}

/// A refuted excess is looked at again after this time, or when it has grown by [`GROWTH`].
const LOOK_AGAIN: Duration = Duration::from_secs(60);
const GROWTH: f64 = 1.1;

impl<K: Copy> Member<K> {
    /// `chance` is between 0 and 1: how much of the jitter is its.
    pub(crate) fn new(key: K, checks: &Checks, chance: f64, now: Instant) -> Self {
        let part = 1.0 - checks.jitter * chance;
        Self {
            key,
            began: now,
            is_starting: checks.starts,
            beats: Beats::new(&checks.heartbeat, now),
            limits: checks.limits.iter().map(|_| Tracker::new()).collect(),
            usage: Usage::default(),
            record: Record::default(),
            ejection: None,
            probes: Probe::ALL.map(|_| (Answers::new(), None)),
            served: 0,
            max_requests: checks.max_requests.map(|requests| ((requests as f64 * part) as u64).max(1)),
            max_lifetime: checks.max_lifetime.map(|time| time.mul_f64(part)),
            told_old: None,
            memory: Confirmation::default(),
        }
    }

    pub(crate) fn standing(&self, checks: &Checks) -> Standing {
        let of_rung = match self.beats.rung() {
            Rung::Heard => Standing::Well,
            Rung::Suspect => Standing::Suspect,
            Rung::Dead => Standing::Unhealthy,
        };
        let exceeded = checks.limits.iter().zip(&self.limits).filter(|(_, tracker)| tracker.is_breached());
        let of_limits = exceeded.map(|((_, limit), _)| match limit.consequence() {
            Consequence::Report | Consequence::Recycle => Standing::Well,
            Consequence::Suspect => Standing::Suspect,
            Consequence::Replace => Standing::Unhealthy,
        });
        let failed = Probe::ALL.into_iter().filter(|probe| self.probes[probe.index()].0.is_bad());
        let of_probes = failed.map(|probe| match probe.verdict() {
            VerdictKind::Unhealthy => Standing::Unhealthy,
            _ => Standing::Suspect,
        });
        let of_record = if self.record.until.is_some() { Standing::Suspect } else { Standing::Well };
        let worst = of_limits.chain(of_probes).fold(of_rung.max(of_record), Standing::max);
        if self.is_starting && worst < Standing::Unhealthy { Standing::Starting } else { worst }
    }

    pub(crate) fn handle_beat(&mut self, checks: &Checks, now: Instant) -> Option<Finding> {
        let since = self.beats.heard();
        let silence = self.beats.beat(&checks.heartbeat, now)?;
        Some((VerdictKind::Recovered, Cause::Silence(silence), since))
    }

    /// The monitor came late: that is nobody's time.
    pub(crate) fn forgive(&mut self, checks: &Checks, late: Duration, now: Instant) {
        self.beats.forgive(late, &checks.heartbeat, now);
        self.limits.iter_mut().for_each(|tracker| tracker.forgive(late, now));
    }

    /// Time has passed.
    pub(crate) fn judge(&mut self, checks: &Checks, now: Instant, found: &mut dyn FnMut(Finding)) {
        if self.is_starting {
            // Silence begins when it has begun.
            self.beats.beat(&checks.heartbeat, now);
            return;
        }
        while let Some(rung) = self.beats.judge(&checks.heartbeat, now) {
            let kind = if rung == Rung::Dead { VerdictKind::Unhealthy } else { VerdictKind::Suspect };
            found((kind, Cause::Silence(self.beats.silence(&checks.heartbeat, now)), self.beats.heard()));
        }
        if self.record.readmit(now)
            && let Some((failures, since)) = self.ejection.take()
        {
            found((VerdictKind::Recovered, Cause::Failures(failures), since));
        }
        let was_told = |told: Instant| now.saturating_duration_since(told) < LOOK_AGAIN;
        if !self.told_old.is_some_and(was_told)
            && let Some(cause) = self.is_old(now)
        {
            self.told_old = Some(now);
            found((VerdictKind::Recycle, cause, self.began));
        }
    }

    fn is_old(&self, now: Instant) -> Option<Cause> {
        let age = now.saturating_duration_since(self.began);
        let by_requests = self.max_requests.filter(|limit| self.served >= *limit);
        let by_age = self.max_lifetime.filter(|limit| age >= *limit);
        by_requests
            .map(|limit| Cause::Requests { served: self.served, limit })
            .or_else(|| by_age.map(|limit| Cause::Lifetime { age, limit }))
    }

    pub(crate) fn handle_requests(&mut self, requests: u64, failed: u64) {
        self.served = requests;
        self.record.handle_counts(requests, failed);
    }

    pub(crate) fn eject(&mut self, mut failures: Failures, checks: &Checks, now: Instant) -> Option<Finding> {
        failures.lasting = self.record.eject(checks.outliers.as_ref()?, now);
        self.ejection = Some((failures, now));
        Some((VerdictKind::Suspect, Cause::Failures(failures), now))
    }

    /// One of its quantities has this value.
    pub(crate) fn handle_value(
        &mut self,
        quantity: &Quantity,
        value: f64,
        checks: &Checks,
        now: Instant,
        found: &mut dyn FnMut(Finding),
    ) {
        if self.is_starting {
            return;
        }
        let limits = checks.limits.iter().zip(&mut self.limits).filter(|((of, _), _)| of == quantity);
        for ((_, limit), tracker) in limits {
            let Some(change) = tracker.handle_value(limit, value, now) else { continue };
            let leads_away = limit.consequence() >= Consequence::Recycle;
            let has_doubts = *quantity == Quantity::Memory && checks.confirm_memory && leads_away;
            match change {
                // Told when it is confirmed.
                Change::Breached(since) if has_doubts && self.memory.is_worth_asking(value, now) => {
                    self.memory.asked = Some((value, since));
                }
                Change::Breached(_) if has_doubts => tracker.reset(),
                Change::Breached(since) => {
                    found((kind(limit), limit.cause(quantity, value, since, now), since))
                }
                Change::Recovered(_) if has_doubts && self.memory.asked.is_some() => self.memory.asked = None,
                Change::Recovered(since) => {
                    found((VerdictKind::Recovered, limit.cause(quantity, value, since, now), since));
                }
            }
        }
    }

    /// Whether its memory is to be looked at closely.
    pub(crate) fn needs_confirmation(&self) -> bool {
        self.memory.asked.is_some()
    }

    /// What memory comes to by the look that was asked for; `None` if that can't be had, and the first look has to do.
    pub(crate) fn handle_confirmation(
        &mut self,
        bytes: Option<f64>,
        checks: &Checks,
        now: Instant,
        found: &mut dyn FnMut(Finding),
    ) {
        let Some((asked, since)) = self.memory.asked.take() else { return };
        let value = bytes.unwrap_or(asked);
        let limits = checks.limits.iter().zip(&mut self.limits);
        let in_doubt = limits.filter(|((quantity, limit), tracker)| {
            let leads_away = limit.consequence() >= Consequence::Recycle;
            *quantity == Quantity::Memory && leads_away && tracker.is_breached()
        });
        for ((quantity, limit), tracker) in in_doubt {
            if limit.is_over(value) {
                found((kind(limit), limit.cause(quantity, value, since, now), since));
            } else {
                tracker.reset();
                self.memory.refuted = Some((now, asked));
            }
        }
    }

    /// An answer to a probe.
    pub(crate) fn handle_probe(
        &mut self,
        probe: Probe,
        answer: Result<(), &str>,
        checks: &Checks,
        now: Instant,
    ) -> Option<Finding> {
        if self.is_starting && probe != Probe::Startup {
            return None;
        }
        if probe == Probe::Startup && answer.is_ok() {
            self.is_starting = false;
        }
        let (answers, since) = &mut self.probes[probe.index()];
        let turned = answers.handle(answer, checks.probes[probe.index()])?;
        let began = *since.get_or_insert(now);
        let failure = ProbeFailure {
            probe,
            failures: answers.failures,
            reason: answers.reason.clone(),
            lasted: now.saturating_duration_since(began),
        };
        let kind = match turned {
            Turned::Bad => probe.verdict(),
            Turned::Good => {
                *since = None;
                answers.clear();
                VerdictKind::Recovered
            }
        };
        Some((kind, Cause::Probe(failure), began))
    }
}

impl Confirmation {
    fn is_worth_asking(&self, value: f64, now: Instant) -> bool {
        let is_known = |(at, refuted): (Instant, f64)| {
            now.saturating_duration_since(at) < LOOK_AGAIN && value < GROWTH * refuted
        };
        self.asked.is_none() && !self.refuted.is_some_and(is_known)
    }
}

fn kind(limit: &Limit) -> VerdictKind {
    match limit.consequence() {
        Consequence::Report => VerdictKind::Noticed,
        Consequence::Suspect => VerdictKind::Suspect,
        Consequence::Recycle => VerdictKind::Recycle,
        Consequence::Replace => VerdictKind::Unhealthy,
    }
}
