//! Who is well: workers are sampled, the monitor concludes, and what follows goes to the supervisor and the acceptor.

use std::sync::Arc;
use std::time::Instant;

use cluster_health::os::Report;
use cluster_health::{Cause, Probe, Quantity, Standing, Verdict, VerdictKind};
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

    /// A worker says whether it can take work.
    pub(super) fn handle_readiness(&mut self, id: WorkerId, is_ready: bool, now: Instant) {
        let answer = if is_ready { Ok(()) } else { Err("the application says so") };
        self.monitor.handle_probe(id, Probe::Readiness, answer, now, now);
    }

    /// A worker says what it counts.
    pub(super) fn handle_gauges(&mut self, id: WorkerId, gauges: &[(String, f64)], now: Instant) {
        for (name, value) in gauges.iter().take(GAUGES) {
            self.monitor.handle_value(id, &Quantity::gauge(name.as_str()), *value, now);
        }
    }

    /// Does what follows from a verdict.
    pub(super) fn judge(&mut self, verdict: &Verdict<WorkerId>, now: Instant) {
        let id = verdict.key();
        let Some(link) = self.links.get_mut(&id) else { return };
        let is_silence = matches!(verdict.cause(), Cause::Silence(_));
        let mut report = None;
        match verdict.kind() {
            VerdictKind::Suspect => {
                link.suspect = true;
                self.acceptor.command(Command::Withdraw { worker: id });
            }
            VerdictKind::Recovered if self.monitor.standing(id) == Some(Standing::Well) => {
                link.suspect = false;
                self.readmit(id);
            }
            // Whoever stands at a breakpoint beats no heart and is not hung.
            VerdictKind::Unhealthy if is_silence && link.child.is_traced() => {
                tracing::info!(
                    slot = id.slot(),
                    "worker {id} is silent, but a debugger holds it: left alone"
                );
                // Watched anew, for when the debugger lets go.
                self.monitor.insert(id, now);
                return;
            }
            VerdictKind::Unhealthy => {
                report = look(link);
                link.reason = Some(Arc::from(verdict.to_string()));
                self.supervisor.handle_unhealthy(id, now);
            }
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
