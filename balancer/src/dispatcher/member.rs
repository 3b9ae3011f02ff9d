//! One member: its limits, its counts and the items it has not taken yet.

use super::queue::Waiting;
use super::ticket::{Arrival, Ticket};
use crate::candidate::Figures;
use crate::{Candidate, Classes, Limits, MemberStatus};

pub(super) struct Member<K, C> {
    key: K,
    limits: Limits,
    standing: Standing,
    /// Independent of the standing: a full channel stays full across a withdrawal.
    paused: bool,
    healthy: bool,
    draining: bool,
    /// Items that ended badly.
    failed: u64,
    /// How often it was admitted or resumed.
    stint: u32,
    /// Assigned, but not handed out: the driver has not seen them, so they can go back without asking.
    pending: Vec<Waiting<K, C>>,
    /// In flight, by the index of the ticket. Never shorter than the window.
    places: Vec<Option<Held<K, C>>>,
    /// The indices below the window that are free, each once.
    free: Vec<u16>,
    in_flight: usize,
    /// All items ever assigned less those that came back.
    assigned: u64,
    /// Items that it got by itself, as reported.
    elsewhere: u64,
    /// As reported. Never above all that it got.
    finished: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Admitted,
    Withdrawn,
}

struct Held<K, C> {
    sequence: u64,
    waiting: Waiting<K, C>,
}

impl<K: Copy + PartialEq, C> Member<K, C> {
    pub(super) fn new(key: K) -> Self {
        Self {
            key,
            limits: Limits::new(),
            standing: Standing::Withdrawn,
            paused: false,
            healthy: true,
            draining: false,
            failed: 0,
            stint: 0,
            pending: Vec::new(),
            places: Vec::new(),
            free: Vec::new(),
            in_flight: 0,
            assigned: 0,
            elsewhere: 0,
            finished: 0,
        }
    }

    pub(super) fn key(&self) -> K {
        self.key
    }

    /// Items it has not taken: in flight, or about to be.
    pub(super) fn untaken(&self) -> usize {
        self.in_flight + self.pending.len()
    }

    /// Items it has not finished. What it has not even taken it can't have finished, whatever it says.
    pub(super) fn outstanding(&self) -> u32 {
        let reported = self.got().saturating_sub(self.finished);
        let outstanding = reported.max(u64::try_from(self.untaken()).unwrap_or(u64::MAX));
        u32::try_from(outstanding).unwrap_or(u32::MAX)
    }

    /// All items that it ever got, here or elsewhere, less those that came back.
    fn got(&self) -> u64 {
        self.assigned.saturating_add(self.elsewhere)
    }

    /// Believes the report as far as it doesn't go backwards.
    pub(super) fn get_elsewhere(&mut self, total: u64) {
        self.elsewhere = self.elsewhere.max(total);
    }

    /// How many items it could be assigned now.
    pub(super) fn room(&self) -> usize {
        if self.standing == Standing::Withdrawn || self.paused {
            return 0;
        }
        let unfinished = self.limits.capacity.saturating_sub(self.outstanding());
        let unfinished = usize::try_from(unfinished).unwrap_or(usize::MAX);
        usize::from(self.limits.window).saturating_sub(self.untaken()).min(unfinished)
    }

    pub(super) fn classes(&self) -> Classes {
        self.limits.classes
    }

    /// What it has refused before, it may want from now on.
    fn begin_stint(&mut self) {
        self.stint = self.stint.wrapping_add(1);
    }

    pub(super) fn stint(&self) -> u32 {
        self.stint
    }

    pub(super) fn candidate(&self) -> Candidate {
        let candidate = Candidate::new(self.outstanding(), self.limits.weight).taking(self.limits.classes);
        let candidate = if self.healthy { candidate } else { candidate.unhealthy() };
        let candidate = if self.draining { candidate.draining() } else { candidate };
        let candidate = if self.standing == Standing::Withdrawn { candidate.withdrawn() } else { candidate };
        candidate.with_available(self.room() > 0)
    }

    pub(super) fn admit(&mut self, limits: Limits) {
        self.limits = limits;
        self.standing = Standing::Admitted;
        self.draining = false;
        self.begin_stint();
        if self.places.len() < usize::from(limits.window) {
            self.places.resize_with(usize::from(limits.window), || None);
        }
        // Reversed, since the last one is used first. Tickets above a smaller window stay where they are.
        let indexed = (0..limits.window).zip(&self.places);
        self.free = indexed.filter(|(_, place)| place.is_none()).map(|(index, _)| index).collect();
        self.free.reverse();
    }

    pub(super) fn withdraw(&mut self) {
        self.standing = Standing::Withdrawn;
    }

    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    pub(super) fn set_healthy(&mut self, healthy: bool) {
        self.healthy = healthy;
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.healthy
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }

    /// An item of it ended badly.
    pub(super) fn fail(&mut self) {
        self.failed = self.failed.saturating_add(1);
    }

    pub(super) fn status(&self, figures: &Figures) -> MemberStatus<K> {
        let candidate = self.candidate();
        MemberStatus {
            key: self.key,
            weight: candidate.weight(),
            outstanding: candidate.outstanding(),
            untaken: u32::try_from(self.untaken()).unwrap_or(u32::MAX),
            capacity: (self.limits.capacity != u32::MAX).then_some(self.limits.capacity),
            eligible: candidate.is_eligible(),
            healthy: self.healthy,
            draining: self.draining,
            paused: self.paused,
            withdrawn: self.standing == Standing::Withdrawn,
            picked: figures.picked,
            failed: self.failed,
            gauge: figures.gauge,
        }
    }

    pub(super) fn pause(&mut self) {
        self.paused = true;
    }

    pub(super) fn resume(&mut self) {
        self.begin_stint();
        self.paused = false;
    }

    /// Assigns an item; [`hand_out`](Self::hand_out) gives it a ticket. Returns whether it is the first.
    pub(super) fn assign(&mut self, waiting: Waiting<K, C>) -> bool {
        self.assigned += 1;
        self.pending.push(waiting);
        self.pending.len() == 1
    }

    /// Takes back what was assigned and not handed out.
    pub(super) fn unassign(&mut self) -> Vec<Waiting<K, C>> {
        let pending = std::mem::take(&mut self.pending);
        self.forget(pending.len());
        pending
    }

    /// Takes back one item that was assigned and not handed out.
    pub(super) fn retract(&mut self, arrival: Arrival) -> Option<Waiting<K, C>> {
        let at = self.pending.iter().position(|waiting| waiting.arrival() == arrival)?;
        self.forget(1);
        Some(self.pending.remove(at))
    }

    /// Gives each assigned item a ticket, numbered from `next_sequence` on.
    pub(super) fn hand_out(&mut self, next_sequence: &mut u64) -> Vec<Ticket> {
        // Nothing is assigned without room, so there is an index for each; `min` keeps it that way for
        // items if that were ever wrong: they would wait for the next round.
        let count = self.free.len().min(self.pending.len());
        let indices = self.free.drain(self.free.len() - count..).rev();
        let tickets: Vec<Ticket> = indices
            .zip(self.pending.drain(..count))
            .map(|(index, waiting)| {
                let sequence = *next_sequence;
                *next_sequence += 1;
                // In bounds: a free index is below the window, and there are at least as many places.
                self.places[usize::from(index)] = Some(Held { sequence, waiting });
                Ticket::new(index, sequence)
            })
            .collect();
        self.in_flight += tickets.len();
        tickets
    }

    pub(super) fn item(&self, ticket: Ticket) -> Option<&C> {
        let held = self.places.get(usize::from(ticket.index()))?.as_ref()?;
        (held.sequence == ticket.sequence()).then(|| held.waiting.item())
    }

    /// The tickets in flight, in order of index.
    pub(super) fn tickets(&self) -> impl Iterator<Item = Ticket> {
        let indexed = (0..=u16::MAX).zip(&self.places);
        indexed.filter_map(|(index, place)| Some(Ticket::new(index, place.as_ref()?.sequence)))
    }

    /// Takes the item out of flight because the member has it now: it stays outstanding.
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<Waiting<K, C>> {
        let place = self.places.get_mut(usize::from(ticket.index()))?;
        let held = place.take_if(|held| held.sequence == ticket.sequence())?;
        self.in_flight -= 1;
        // An index above a window that shrank is not used again.
        if ticket.index() < self.limits.window {
            self.free.push(ticket.index());
        }
        Some(held.waiting)
    }

    /// Takes the item out of flight because the member will never have it.
    pub(super) fn recall(&mut self, ticket: Ticket) -> Option<Waiting<K, C>> {
        let waiting = self.take(ticket)?;
        self.forget(1);
        Some(waiting)
    }

    /// Believes the report as far as it can be true: never backwards, never beyond what was assigned.
    pub(super) fn finish(&mut self, total: u64) -> bool {
        let before = self.finished;
        self.finished = self.finished.max(total.min(self.got()));
        self.finished != before
    }

    /// All items it has not taken, oldest first.
    pub(super) fn into_items(self) -> Vec<C> {
        let mut held: Vec<_> = self.places.into_iter().flatten().map(|held| held.waiting).collect();
        held.sort_unstable_by_key(Waiting::arrival);
        held.into_iter().map(Waiting::into_item).collect()
    }

    fn forget(&mut self, items: usize) {
        self.assigned = self.assigned.saturating_sub(u64::try_from(items).unwrap_or(u64::MAX));
        self.finished = self.finished.min(self.got());
    }
}
