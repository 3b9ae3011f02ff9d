//! Who is well: workers are sampled, the monitor concludes, and what follows goes to the supervisor and the acceptor.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster_acceptor::Command;
use cluster_health::{Cause, Quantity, Standing, Verdict, VerdictKind};
use cluster_supervisor::WorkerId;

use super::Core;
use super::link;
use crate::event::Event;
use crate::wire::{GAUGES, LONGEST_NAME};

/// How long its memory may take to be measured closely: the kernel waits for the process while that maps memory itself.
const CONFIRMATION: Duration = Duration::from_secs(2);

impl Core {
    /// Looks who has beaten, and how late that was.
    pub(super) fn read_beats(&mut self, now: Instant) {
        for (id, link) in &mut self.links {
            let figures = link.board.figures();
            self.monitor.handle_counter(*id, figures.beats, now);
            if std::mem::replace(&mut link.beats, figures.beats) != figures.beats {
                link.heard = Some(now);
                let lag = Duration::from_micros(figures.lag_micros).as_secs_f64();
                self.monitor.handle_value(*id, &Quantity::Lag, lag, now);
            }
        }
    }

    /// Looks how the workers are that are watched.
    pub(super) fn sample(&mut self, now: Instant) {
        self.next_sample = now.checked_add(self.config.sample_every);
        let ids: Vec<WorkerId> = self.links.keys().copied().collect();
        ids.into_iter().for_each(|id| self.repeat_gauges(id, now));
        for (id, link) in &mut self.links {
            // A worker that hangs is measured, too, and so is one that starts or leaves: for the status.
            let sample = link.vitals.sample(now);
            let figures = link.board.figures();
            if let Some(sample) = sample {
                self.ledger.count_check(id.slot());
                self.monitor.handle_sample(*id, &sample, now);
                if let Some(used) = self.config.gauge.and_then(|gauge| link.vitals.used(gauge)) {
                    self.acceptor.command(Command::Gauge { worker: *id, used });
                }
            }
            self.monitor.handle_requests(*id, figures.requests, figures.errors);
        }
    }

    /// Has somebody's memory measured closely, off the loop: that takes milliseconds for a large process.
    pub(super) fn confirm(&mut self) {
        let Some(id) = self.monitor.poll_confirm() else { return };
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.vitals.confirming.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let (rollup, reports) = (link.vitals.rollup(), self.reports.clone());
        let confirm = async move {
            let mut read = match rollup {
                Some(rollup) => tokio::task::spawn_blocking(move || rollup.read().ok()),
                None => tokio::task::spawn_blocking(|| None),
            };
            let (bytes, unread) = match tokio::time::timeout(CONFIRMATION, &mut read).await {
                Ok(bytes) => (bytes.ok().flatten().map(|proportional| proportional.bytes()), None),
                Err(_) => (None, Some(read)),
            };
            // The primary may have ended meanwhile.
            let _ = reports.send(link::Report::Confirmed(id, bytes)).await;
            // Before the kernel has answered it is not asked again.
            if let Some(read) = unread {
                let _ = read.await;
            }
        };
        link.vitals.confirming = Some(tokio::spawn(confirm));
    }

    pub(super) fn handle_confirmed(&mut self, id: WorkerId, bytes: Option<u64>, now: Instant) {
        match bytes {
            Some(bytes) => {
                let sample = cluster_health::Sample::new().proportional(bytes);
                self.monitor.handle_sample(id, &sample, now);
            }
            None => self.monitor.handle_unconfirmed(id, now),
        }
    }

    /// A worker says whether it can take work. That is no probe that may fail, but its word.
    pub(super) fn handle_readiness(&mut self, id: WorkerId, ready: bool, now: Instant) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if std::mem::replace(&mut link.unready, !ready) != ready {
            return;
        }
        if ready {
            self.readmit(id);
        } else if self.is_on_trial(id) {
            // It was to show that it can.
            self.supervisor.handle_unhealthy(id, now);
        } else {
            self.acceptor.command(Command::Withdraw { worker: id });
        }
        self.announce(Event::Readiness { id, ready });
    }

    /// A worker says what it counts.
    pub(super) fn handle_gauges(&mut self, id: WorkerId, gauges: &[(String, f64)], now: Instant) {
        let Some(link) = self.links.get_mut(&id) else { return };
        for (name, value) in gauges {
            let has_room = link.gauges.len() < GAUGES && name.len() <= LONGEST_NAME;
            let known = link
                .gauges
                .iter_mut()
                .find(|(known, _)| matches!(known, Quantity::Gauge(known) if **known == **name));
            match known {
                Some((_, known)) => *known = *value,
                None if has_room => link.gauges.push((Quantity::gauge(name.as_str()), *value)),
                None => {}
            }
        }
        self.repeat_gauges(id, now);
    }

    /// A gauge has its last value until another is said.
    fn repeat_gauges(&mut self, id: WorkerId, now: Instant) {
        let Some(link) = self.links.get(&id) else { return };
        for (quantity, value) in &link.gauges {
            self.monitor.handle_value(id, quantity, *value, now);
        }
    }

    /// Passes over those that are slow, large or failing, as long as at least half of those who are ready are well: beyond that the few
    /// would only be overrun in their turn, and whoever is slow serves better than nobody (the panic threshold of Envoy and others).
    pub(super) fn pass_over(&mut self) {
        let ready = |id: &WorkerId| self.is_ready(*id);
        let all = self.links.keys().filter(|id| ready(id)).count();
        let well = self.links.iter().filter(|(id, link)| link.is_well() && ready(id)).count();
        let enough = well > 0 && 2 * well >= all;
        let mut readmitted = Vec::new();
        for (id, link) in &mut self.links {
            let pass_over = link.unwell && enough;
            if std::mem::replace(&mut link.passed_over, pass_over) == pass_over {
                continue;
            }
            if pass_over {
                self.acceptor.command(Command::Withdraw { worker: *id });
            } else {
                readmitted.push(*id);
            }
        }
        readmitted.into_iter().for_each(|id| self.readmit(id));
    }

    /// Whether anybody else takes connections.
    fn others_serve(&self, id: WorkerId) -> bool {
        self.links
            .iter()
            .any(|(other, link)| *other != id && self.is_ready(*other) && link.takes_connections())
    }

    /// Whether every slot but this one has somebody who serves: so that this one may be missing for a moment.
    fn nobody_else_is_missing(&self, id: WorkerId) -> bool {
        let wanted = self.supervisor.slots().filter(|slot| slot.is_wanted() && slot.slot() != id.slot());
        let mut wanted = wanted.map(|slot| slot.current());
        wanted.all(|own| own.is_some_and(|own| self.is_ready(own))) && self.others_serve(id)
    }

    fn is_on_trial(&self, id: WorkerId) -> bool {
        self.supervisor.slots().any(|slot| slot.successor() == Some(id))
    }

    /// Does what follows from a verdict.
    pub(super) fn judge(&mut self, verdict: &Verdict<WorkerId>, now: Instant) {
        let id = verdict.key();
        let is_silence = matches!(verdict.cause(), Cause::Silence(_));
        let standing = self.monitor.standing(id);
        let may_be_missing = self.nobody_else_is_missing(id);
        let mut kind = verdict.kind();
        let (on_trial, stopping) = (self.is_on_trial(id), self.stopping);
        let Some(link) = self.links.get_mut(&id) else { return };
        let mut report = None;
        match verdict.kind() {
            // A successor has to show that it is well, and gets no second chance.
            VerdictKind::Suspect if on_trial => {
                link.reason = Some(Arc::from(verdict.to_string()));
                self.supervisor.handle_unhealthy(id, now);
            }
            VerdictKind::Suspect if is_silence => {
                link.silent = true;
                self.acceptor.command(Command::Withdraw { worker: id });
            }
            VerdictKind::Suspect => {
                link.unwell = true;
                self.pass_over();
                if !self.links.get(&id).is_some_and(|link| link.passed_over) {
                    kind = VerdictKind::Noticed;
                }
            }
            VerdictKind::Recovered => {
                let is_well = standing == Some(Standing::Well);
                link.silent &= !is_silence && !is_well;
                link.unwell &= !is_well;
                if is_well {
                    link.reason = None;
                }
                self.pass_over();
                self.readmit(id);
            }
            // Whoever stands at a breakpoint beats no heart and is not hung.
            VerdictKind::Unhealthy if is_silence && link.body.is_traced() => {
                // It stays suspect, for when the debugger lets go.
                self.monitor.excuse(id, now);
                return self.announce(Event::Traced { id });
            }
            // What can wait for a successor does, where somebody is missing already: all may be sick alike.
            VerdictKind::Unhealthy if !is_silence && !may_be_missing && !on_trial => {
                link.reason = Some(Arc::from(verdict.to_string()));
                if !stopping {
                    self.supervisor.replace(id, now);
                }
            }
            VerdictKind::Unhealthy => {
                // What it looks like, for people.
                report =
                    link.body.report().map(|report| Arc::from(report.sample(link.vitals.last()).to_string()));
                link.reason = Some(Arc::from(verdict.to_string()));
                self.supervisor.handle_unhealthy(id, now);
            }
            VerdictKind::Recycle if stopping => return,
            VerdictKind::Recycle => {
                link.reason = Some(Arc::from(verdict.to_string()));
                self.supervisor.replace(id, now);
            }
            _ => {}
        }
        let cause = verdict.cause().clone();
        self.announce(Event::Health { id, kind, cause, report });
    }
}
