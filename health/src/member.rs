//! One member: everything that is known of it, and how it stands.

use std::time::{Duration, Instant};

use crate::cpu::Usage;
use crate::limits::Limits;
use crate::outliers::{Failures, Record};
use crate::probe::{Answers, Turned};
use crate::silence::{Beats, Rung};
use crate::{Cause, Checks, Probe, ProbeFailure, Quantity, Standing, VerdictKind};

/// Something to tell of a member.
pub(crate) type Finding = (VerdictKind, Cause, Instant);

#[derive(Clone, Debug)]
pub(crate) struct Member<K> {
    pub(crate) key: K,
    began: Instant,
    /// It has not given its first good answer to the startup probe, and is one that has to.
    is_starting: bool,
    pub(crate) beats: Beats,
    pub(crate) limits: Limits,
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
}

/// That a life is over is told again after this time, for whoever could not act on it.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

impl<K: Copy> Member<K> {
    /// `chance` is between 0 and 1: how much of the jitter is its.
    pub(crate) fn new(key: K, checks: &Checks, chance: f64, now: Instant) -> Self {
        let part = 1.0 - checks.jitter * chance;
        Self {
            key,
            began: now,
            is_starting: checks.starts,
            beats: Beats::new(&checks.heartbeat, now),
            limits: Limits::new(checks),
            usage: Usage::default(),
            record: Record::default(),
            ejection: None,
            probes: Probe::ALL.map(|_| (Answers::new(), None)),
            served: 0,
            max_requests: checks.max_requests.map(|requests| ((requests as f64 * part) as u64).max(1)),
            max_lifetime: checks.max_lifetime.map(|time| time.mul_f64(part)),
            told_old: None,
        }
    }

    pub(crate) fn standing(&self, checks: &Checks) -> Standing {
        let of_rung = match self.beats.rung() {
            Rung::Heard => Standing::Well,
            Rung::Suspect => Standing::Suspect,
            Rung::Dead => Standing::Unhealthy,
        };
        let failed = Probe::ALL.into_iter().filter(|probe| self.probes[probe.index()].0.is_bad());
        let of_probes = failed.map(|probe| match probe.verdict() {
            VerdictKind::Unhealthy => Standing::Unhealthy,
            _ => Standing::Suspect,
        });
        let of_record = if self.record.until.is_some() { Standing::Suspect } else { Standing::Well };
        let without_probes = of_rung.max(of_record).max(self.limits.standing(checks));
        let worst = of_probes.fold(without_probes, Standing::max);
        if self.is_starting && worst < Standing::Unhealthy { Standing::Starting } else { worst }
    }

    pub(crate) fn handle_beat(&mut self, checks: &Checks, now: Instant) -> Option<Finding> {
        if self.is_starting {
            self.beats.begin(now);
        }
        let since = self.beats.heard();
        let silence = self.beats.beat(&checks.heartbeat, now)?;
        Some((VerdictKind::Recovered, Cause::Silence(silence), since))
    }

    /// The monitor came late: that is nobody's time.
    pub(crate) fn forgive(&mut self, checks: &Checks, late: Duration, now: Instant) {
        self.beats.forgive(late, &checks.heartbeat, now);
        self.limits.forgive(late, now);
    }

    /// Time has passed.
    pub(crate) fn judge(&mut self, checks: &Checks, now: Instant, found: &mut dyn FnMut(Finding)) {
        if self.is_starting {
            // Silence begins when it has begun.
            self.beats.begin(now);
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
        let was_told = |told: Instant| now.saturating_duration_since(told) < AGAIN_AFTER;
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
        if !self.is_starting {
            self.limits.handle_value(quantity, value, checks, now, found);
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
