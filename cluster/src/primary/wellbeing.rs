//! Who is well: workers are sampled, the monitor concludes, and what follows goes to the supervisor and the acceptor.

use std::sync::Arc;
use std::time::Instant;

use cluster_health::os::Report;
use cluster_health::{Cause, Quantity, Standing, Verdict, VerdictKind};
use cluster_supervisor::WorkerId;

use super::Core;
use super::link;
use crate::acceptor::Command;
use crate::event::Event;

/// Gauges of one worker that are listened to.
const GAUGES: usize = 64;

/// What a sick process looks like, for people. The thread that only waits for the primary's end says nothing about it.
fn look(link: &link::Link) -> Option<Arc<str>> {
    let report = Report::of(link.child.pid()).ok()?.without_threads(crate::worker::GUARD);
    Some(Arc::from(report.sample(link.vitals.last()).to_string()))
}

impl Core {
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
                self.monitor.handle_sample(*id, &sample, now);
                if let Some(used) = self.config.gauge.and_then(|gauge| link.vitals.used(gauge)) {
                    self.acceptor.command(Command::Gauge { worker: *id, used });
                }
            }
            let lag = figures.lag_micros as f64 / 1e6;
            self.monitor.handle_value(*id, &Quantity::Lag, lag, now);
            self.monitor.handle_requests(*id, figures.requests, figures.errors);
        }
    }

    /// Has somebody's memory measured closely, off the loop: that takes milliseconds for a large process.
    pub(super) fn confirm(&mut self) {
        let Some(id) = self.monitor.poll_confirm() else { return };
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.vitals.is_confirming {
            return;
        }
        link.vitals.is_confirming = true;
        let (rollup, reports) = (link.vitals.rollup(), self.reports.clone());
        tokio::spawn(async move {
            let bytes = match rollup {
                Some(rollup) => tokio::task::spawn_blocking(move || rollup.read().ok()).await.ok().flatten(),
                None => None,
            };
            let bytes = bytes.map(|proportional| proportional.bytes());
            // The primary may have ended meanwhile.
            let _ = reports.send(link::Report::Confirmed(id, bytes)).await;
        });
    }

    pub(super) fn handle_confirmed(&mut self, id: WorkerId, bytes: Option<u64>, now: Instant) {
        if let Some(link) = self.links.get_mut(&id) {
            link.vitals.is_confirming = false;
        }
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
            let has_room = link.gauges.len() < GAUGES;
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

    /// Whether anybody else takes connections.
    fn others_serve(&self, id: WorkerId) -> bool {
        self.links.iter().any(|(other, link)| *other != id && self.is_ready(*other) && link.is_well())
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
        let (others_serve, may_be_missing) = (self.others_serve(id), self.nobody_else_is_missing(id));
        let (on_trial, stopping) = (self.is_on_trial(id), self.stopping);
        let Some(link) = self.links.get_mut(&id) else { return };
        let mut report = None;
        match verdict.kind() {
            // A successor has to show that it is well, and gets no second chance.
            VerdictKind::Suspect if on_trial => {
                link.reason = Some(Arc::from(verdict.to_string()));
                self.supervisor.handle_unhealthy(id, now);
            }
            // Whoever is slow or large serves better than nobody.
            VerdictKind::Suspect if !is_silence && !others_serve => {}
            VerdictKind::Suspect => {
                link.suspect = true;
                self.acceptor.command(Command::Withdraw { worker: id });
            }
            VerdictKind::Recovered if self.monitor.standing(id) == Some(Standing::Well) => {
                link.suspect = false;
                link.reason = None;
                self.readmit(id);
            }
            // Whoever stands at a breakpoint beats no heart and is not hung.
            VerdictKind::Unhealthy if is_silence && link.child.is_traced() => {
                tracing::info!(
                    slot = id.slot(),
                    "worker {id} is silent, but a debugger holds it: left alone"
                );
                // It stays suspect, for when the debugger lets go.
                self.monitor.excuse(id, now);
                return;
            }
            // What can wait for a successor does, where somebody is missing already: all may be sick alike.
            VerdictKind::Unhealthy if !is_silence && !may_be_missing && !on_trial => {
                link.reason = Some(Arc::from(verdict.to_string()));
                if !stopping {
                    self.supervisor.replace(id, now);
                }
            }
            VerdictKind::Unhealthy => {
                report = look(link);
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
        let (kind, cause) = (verdict.kind(), verdict.cause().clone());
        self.announce(Event::Health { id, kind, cause, report });
    }
}
