//! The limits of one member, and whether an excess of memory is what it seems.
//!
//! Resident memory counts in full for each of those that share it. So an excess of it that leads away is *in doubt* until a closer
//! look has confirmed it: until then nothing is told, and nothing is held against the member.

use std::time::{Duration, Instant};

use crate::limit::{Change, Consequence, Limit, Tracker};
use crate::member::Finding;
use crate::{Checks, Quantity, Standing, VerdictKind};

/// One for each limit of the checks, in their order, and what is known of the memory.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    each: Vec<Watched>,
    /// The memory that is to be looked at more closely.
    asked: Option<f64>,
    /// When a closer look did not confirm this much.
    refuted: Option<(Instant, f64)>,
}

#[derive(Clone, Debug)]
struct Watched {
    tracker: Tracker,
    is_told: bool,
    is_in_doubt: bool,
}

/// A refuted excess is looked at again after this time, or when it has grown by [`GROWTH`].
const LOOK_AGAIN: Duration = Duration::from_secs(60);
const GROWTH: f64 = 1.1;

impl Limits {
    pub(crate) fn new(checks: &Checks) -> Self {
        let watched = |_| Watched { tracker: Tracker::new(), is_told: false, is_in_doubt: false };
        Self { each: checks.limits.iter().map(watched).collect(), asked: None, refuted: None }
    }

    /// How the member stands for them: for those that were told, until their recovery is.
    pub(crate) fn standing(&self, checks: &Checks) -> Standing {
        let told = checks.limits.iter().zip(&self.each).filter(|(_, watched)| watched.is_told);
        let standings = told.map(|((_, limit), _)| match limit.consequence() {
            Consequence::Report | Consequence::Recycle => Standing::Well,
            Consequence::Suspect => Standing::Suspect,
            Consequence::Replace => Standing::Unhealthy,
        });
        standings.fold(Standing::Well, Standing::max)
    }

    /// A quantity has this value.
    pub(crate) fn handle_value(
        &mut self,
        quantity: &Quantity,
        value: f64,
        checks: &Checks,
        now: Instant,
        found: &mut dyn FnMut(Finding),
    ) {
        let is_known = self.refuted.is_some_and(|(at, refuted)| {
            now.saturating_duration_since(at) < LOOK_AGAIN && value < GROWTH * refuted
        });
        let limits = checks.limits.iter().zip(&mut self.each).filter(|((of, _), _)| of == quantity);
        for ((_, limit), watched) in limits {
            let leads_away = limit.consequence() >= Consequence::Recycle;
            let is_doubtful = *quantity == Quantity::Memory && checks.confirm_memory && leads_away;
            let Some(change) = watched.tracker.handle_value(limit, value, now) else { continue };
            let kind = match change {
                Change::Breached(_) if is_doubtful && is_known && !watched.is_told => {
                    watched.tracker.reset();
                    continue;
                }
                Change::Breached(_) if is_doubtful => {
                    watched.is_in_doubt = true;
                    continue;
                }
                Change::Breached(_) => verdict_kind(limit),
                Change::Recovered(_) => VerdictKind::Recovered,
            };
            let was_told = std::mem::replace(&mut watched.is_told, kind != VerdictKind::Recovered);
            watched.is_in_doubt = false;
            if was_told || watched.is_told {
                let (Change::Breached(since) | Change::Recovered(since)) = change;
                found((kind, limit.cause(quantity, value, since, now), since));
            }
        }
        if *quantity == Quantity::Memory && !value.is_nan() {
            self.asked = self.each.iter().any(|watched| watched.is_in_doubt).then_some(value);
        }
    }

    /// Whether memory is to be looked at closely.
    pub(crate) fn needs_confirmation(&self) -> bool {
        self.asked.is_some()
    }

    /// What memory comes to by the look that was asked for; `None` if that can't be had, and the first look has to do.
    pub(crate) fn handle_confirmation(
        &mut self,
        bytes: Option<f64>,
        checks: &Checks,
        now: Instant,
        found: &mut dyn FnMut(Finding),
    ) {
        let Some(asked) = self.asked.take() else { return };
        let value = bytes.unwrap_or(asked);
        for ((quantity, limit), watched) in checks.limits.iter().zip(&mut self.each) {
            let was_in_doubt = std::mem::take(&mut watched.is_in_doubt);
            let Some(since) = watched.tracker.breached().filter(|_| was_in_doubt) else { continue };
            let is_over = limit.is_over(value);
            let was_told = std::mem::replace(&mut watched.is_told, is_over);
            if !is_over {
                watched.tracker.reset();
                self.refuted = Some((now, asked));
            }
            if was_told || is_over {
                let kind = if is_over { verdict_kind(limit) } else { VerdictKind::Recovered };
                found((kind, limit.cause(quantity, value, since, now), since));
            }
        }
    }

    /// The monitor stood still for so long: nobody's time.
    pub(crate) fn forgive(&mut self, late: Duration, now: Instant) {
        self.each.iter_mut().for_each(|watched| watched.tracker.forgive(late, now));
    }
}

fn verdict_kind(limit: &Limit) -> VerdictKind {
    match limit.consequence() {
        Consequence::Report => VerdictKind::Noticed,
        Consequence::Suspect => VerdictKind::Suspect,
        Consequence::Recycle => VerdictKind::Recycle,
        Consequence::Replace => VerdictKind::Unhealthy,
    }
}
