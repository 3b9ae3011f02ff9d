//! One member: everything that is known of it, and how it stands.

use std::time::{Duration, Instant};

use crate::cpu::Usage;
use crate::limits::Limits;
use crate::outliers::{Failures, Record};
use crate::probe::{Answers, Turned};
use crate::silence::{Beats, Rung};
use crate::{Cause, Checks, Probe, Quantity, Standing, VerdictKind};

/// Something to tell of a member.
pub(crate) type Finding = (VerdictKind, Cause, Instant);

#[derive(Clone, Debug)]
pub(crate) struct Member<K> {
    pub(crate) key: K,
    /// Which life under this key it is, of all that the monitor has seen.
    pub(crate) life: u64,
    /// Its place among those whose memory is to be looked at.
    pub(crate) doubt: Option<u64>,
    inserted: Instant,
    /// When its life began, moved on by the monitor's own stalls.
    began: Instant,
    /// It has not given its first good answer to the startup probe, and is one that has to.
    is_starting: bool,
    pub(crate) beats: Beats,
    pub(crate) limits: Limits,
    pub(crate) usage: Usage,
    pub(crate) record: Record,
    /// What was told of its being ejected.
    ejection: Option<(Failures, Instant)>,
    probes: [Answers; 3],
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
    pub(crate) fn new(key: K, life: u64, checks: &Checks, chance: f64, now: Instant) -> Self {
        let part = 1.0 - checks.jitter * chance;
        let shorter = |time: Duration| Duration::try_from_secs_f64(time.as_secs_f64() * part).unwrap_or(time);
        Self {
            key,
            life,
            doubt: None,
            inserted: now,
            began: now,
            is_starting: checks.starts,
            beats: Beats::new(&checks.heartbeat, now),
            limits: Limits::new(checks),
            usage: Usage::default(),
            record: Record::default(),
            ejection: None,
            probes: Probe::ALL.map(|_| Answers::new()),
            served: 0,
            max_requests: checks.max_requests.map(|requests| ((requests as f64 * part) as u64).max(1)),
            max_lifetime: checks.max_lifetime.map(shorter),
            told_old: None,
        }
    }

    pub(crate) fn is_starting(&self) -> bool {
        self.is_starting
    }

    pub(crate) fn standing(&self, checks: &Checks) -> Standing {
        let of_rung = match self.beats.rung() {
            Rung::Heard => Standing::Well,
            Rung::Suspect => Standing::Suspect,
            Rung::Dead => Standing::Unhealthy,
        };
        let failed = Probe::ALL.into_iter().filter(|probe| self.probes[probe.index()].is_bad());
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
        self.probes.iter_mut().for_each(|answers| answers.forgive(late, now));
        self.record.forgive();
        self.began = self.began.checked_add(late).map_or(now, |began| began.min(now));
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
        began: Instant,
        checks: &Checks,
        now: Instant,
    ) -> Option<Finding> {
        // Each has its time; and what was asked of another life under this key is not for this one.
        if self.is_starting != (probe == Probe::Startup) || began < self.inserted {
            return None;
        }
        let (answers, in_a_row) = (&mut self.probes[probe.index()], checks.probes[probe.index()]);
        let turned = answers.handle(probe, answer, in_a_row, now);
        if self.is_starting && answers.are_good(in_a_row) {
            self.is_starting = false;
            self.beats.begin(now);
        }
        Some(match turned? {
            Turned::Bad(failure, since) => (probe.verdict(), Cause::Probe(failure), since),
            Turned::Good(failure, since) => (VerdictKind::Recovered, Cause::Probe(failure), since),
        })
    }
}
