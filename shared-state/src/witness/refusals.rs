//! Refusals name no revision: there must have been one, between what was before and what came after, at which
//! the command is refused so.

use super::court::Court;
use super::naive::Naive;
use super::order::{Sights, is_write};
use super::place::{Place, seen};
use super::record::{Came, What};
use super::verdict::Fault;
use crate::{CommandError, LeaseId, Revision};

#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// By where they begin, the last first.
    waiting: Vec<Refusal>,
    open: Vec<Refusal>,
    has_hole: bool,
}

#[derive(Debug)]
struct Refusal {
    record: usize,
    /// The state was this or later.
    from: Place,
    /// And before this.
    until: Option<Place>,
}

impl Refusals {
    pub(super) fn of(court: &mut Court<'_>, sights: &Sights) -> Self {
        let mut writes: Vec<(u64, Place)> = Vec::new();
        for record in court.records {
            if let What::Command { came: Came::Answered { answer, .. }, .. } = &record.what
                && is_write(&answer.outcome) == Some(true)
                && let Some(place) = seen(record).and_then(|cursor| court.epochs.place(cursor))
            {
                writes.push((record.invoked, place));
            }
        }
        writes.sort_unstable();
        // Each with the first place of all that were invoked then or later.
        let mut first: Option<Place> = None;
        for (_, place) in writes.iter_mut().rev() {
            *place = first.map_or(*place, |first| first.min(*place));
            first = Some(*place);
        }
        let mut waiting = Vec::new();
        for (index, record) in court.records.iter().enumerate() {
            let What::Command { came: Came::Refused(error), .. } = &record.what else { continue };
            if !by_state(court, index, error) {
                continue;
            }
            let from = sights.all.before(record.invoked).map_or(Place { epoch: 0, revision: 0 }, |it| it.0);
            let after = writes.partition_point(|(at, _)| record.returned.is_none_or(|it| *at <= it));
            let until = writes.get(after).map(|(_, place)| *place);
            waiting.push(Refusal { record: index, from, until });
        }
        waiting.sort_by_key(|refusal| std::cmp::Reverse(refusal.from));
        Self { waiting, open: Vec::new(), has_hole: false }
    }

    /// The state is this, at that place.
    pub(super) fn handle_state(&mut self, court: &mut Court<'_>, place: Place, naive: &Naive) {
        while let Some(next) = self.waiting.pop_if(|refusal| refusal.from <= place) {
            self.open.push(next);
        }
        let has_hole = self.has_hole;
        self.open.retain(|refusal| {
            if refusal.until.is_some_and(|until| until <= place) {
                refusal.close(court, has_hole);
                return false;
            }
            let is_so = refusal.is_so(court, naive);
            court.judged.refusals += u64::from(is_so);
            !is_so
        });
    }

    /// Something is not known from here on.
    pub(super) const fn handle_hole(&mut self) {
        self.has_hole = true;
    }

    pub(super) fn finish(&mut self, court: &mut Court<'_>) {
        for refusal in self.open.drain(..).chain(self.waiting.drain(..)) {
            refusal.close(court, self.has_hole);
        }
    }
}

impl Refusal {
    fn is_so(&self, court: &Court<'_>, naive: &Naive) -> bool {
        let Some(record) = court.records.get(self.record) else { return true };
        let What::Command { command, came: Came::Refused(error) } = &record.what else { return true };
        let done = naive.try_command(record.who.client, command, naive.revision().next());
        done.as_ref() == Err(error)
    }

    fn close(&self, court: &mut Court<'_>, has_hole: bool) {
        if has_hole {
            court.judged.unjudged += 1;
            return;
        }
        let until = self.until.map_or(Revision::new(u64::MAX), |until| Revision::new(until.revision));
        let what = format!("from revision {} to before {until} there is no such reason", self.from.revision);
        court.accuse(Fault::WrongRefusal, what, [self.record]);
    }
}

/// Whether it is what is stored that refuses it. What is said of leases is judged here.
fn by_state(court: &mut Court<'_>, index: usize, error: &CommandError) -> bool {
    let client = court.records.get(index).map(|record| record.who.client);
    // In a later epoch there are no leases of an earlier one.
    let is_last_epoch = |lease: LeaseId| court.epochs.index(lease.epoch()) == Some(court.epochs.last());
    let wrong = match error {
        CommandError::NotANumber { .. }
        | CommandError::Overflow { .. }
        | CommandError::OutOfBounds { .. } => {
            return true;
        }
        CommandError::NoSuchLease { lease } if !court.may_end(*lease) && is_last_epoch(*lease) => {
            format!("lease {lease} has no time to live, and its owner lives")
        }
        CommandError::ForeignLease { lease }
            if client.is_some() && court.leases.owners.get(lease).copied() == client =>
        {
            format!("lease {lease} is its own")
        }
        _ => {
            court.judged.believed += 1;
            return false;
        }
    };
    court.accuse(Fault::WrongRefusal, wrong, [index]);
    false
}
