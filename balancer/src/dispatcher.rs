//! The dispatcher: one queue, many members, and who has what.

use std::collections::VecDeque;
use std::fmt;
use std::hash::Hash;

use crate::queue::{Queue, Waiting};
use crate::roster::Roster;
use crate::{Batch, Classes, Limits, Overloaded, Request, Strategy, Ticket};

/// Hands items out to members and owns each one until a member took it.
///
/// `K` names a member and should name one *life* of it (a worker and its generation), so that a late event
/// of a dead member finds nothing. `C` is an item; it needs no trait at all.
///
/// Methods come in four kinds: getters; verbs for what the user wants ([`admit`](Self::admit),
/// [`offer`](Self::offer), …); `handle_*` for what happened; and [`poll_batch`](Self::poll_batch) for what
/// to do next, to be called until it returns `None` after any of the others.
///
/// Every method may be called with any key and any ticket at any time: an unknown key, or a ticket settled
/// before, does nothing. No report of a member can make a method panic.
///
/// Dropping the dispatcher drops the items that it still owns.
pub struct Dispatcher<K, C> {
    strategy: Box<dyn Strategy>,
    queue: Queue<C>,
    queue_limit: usize,
    roster: Roster<K, C>,
    /// Places in the roster whose items of this round are not handed out yet. A place that lost its items
    /// meanwhile is skipped.
    round: VecDeque<usize>,
    next_sequence: u64,
}

impl<K: Copy + Eq + Hash + fmt::Debug, C> Dispatcher<K, C> {
    /// A dispatcher without members, in which `queue_limit` items may wait beyond those that the members
    /// have room for (0: only what can be assigned at once is accepted).
    pub fn new(strategy: Box<dyn Strategy>, queue_limit: usize) -> Self {
        Self {
            roster: Roster::for_strategy(&strategy),
            strategy,
            queue: Queue::new(),
            queue_limit,
            round: VecDeque::new(),
            next_sequence: 1,
        }
    }

    // Verbs: what the user wants.

    /// Lets a member have items, within `limits`.
    ///
    /// Also readmits one that was withdrawn, and changes the limits of one that is there: its counts and
    /// its tickets in flight stay. Under a smaller window than before it gets nothing until it is below it.
    pub fn admit(&mut self, key: K, limits: Limits) {
        self.roster.ensure(key);
        self.unassign(key);
        self.roster.update(key, |member| member.admit(limits));
    }

    /// Gives a member no more items and returns the tickets it has in flight, oldest first.
    ///
    /// The driver settles each of them, by whatever decides between the two sides, with
    /// [`handle_taken`](Self::handle_taken) or [`handle_recalled`](Self::handle_recalled). Items assigned
    /// to it but not yet polled go back to the queue at once. Idempotent.
    pub fn withdraw(&mut self, key: K) -> Vec<Ticket> {
        self.unassign(key);
        self.roster.update(key, |member| member.withdraw());
        let mut tickets: Vec<Ticket> = self.in_flight(key).collect();
        tickets.sort_unstable_by_key(Ticket::sequence);
        tickets
    }

    /// Forgets a member and returns the items that were still in flight to it, oldest first.
    ///
    /// Nothing is returned after a [`withdraw`](Self::withdraw) whose tickets were all settled. Items
    /// assigned to it but not yet polled go back to the queue.
    pub fn remove(&mut self, key: K) -> Vec<C> {
        self.unassign(key);
        match self.roster.remove(key) {
            Some(member) => member.into_items(),
            None => Vec::new(),
        }
    }

    /// Skips a member until [`resume`](Self::resume), without withdrawing it: the way to it is full.
    ///
    /// Items assigned to it but not yet polled go back to the queue; those in flight stay. A member stays
    /// paused when it is admitted again.
    pub fn pause(&mut self, key: K) {
        self.unassign(key);
        self.roster.update(key, |member| member.pause());
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&mut self, key: K) {
        self.roster.update(key, |member| member.resume());
    }

    /// Appends an item to the queue; [`poll_batch`](Self::poll_batch) says who gets it.
    ///
    /// Always succeeds while [`room`](Self::room) is above 0.
    ///
    /// # Errors
    ///
    /// [`Overloaded`], with the item in it, when as many items as the queue limit allows wait without a
    /// place for them.
    pub fn offer(&mut self, item: C) -> Result<(), Overloaded<C>> {
        self.offer_of(0, item)
    }

    /// Appends an item of a class; see [`Classes`](crate::Classes). Such an item waits for a member that takes its class, and
    /// doesn't hold up others behind it.
    ///
    /// # Errors
    ///
    /// As [`offer`](Self::offer).
    pub fn offer_of(&mut self, class: u8, item: C) -> Result<(), Overloaded<C>> {
        let waiting = self.queue.len();
        if waiting.saturating_sub(self.roster.room()) >= self.queue_limit && self.room_for(class) == 0 {
            return Err(Overloaded::new(item, waiting));
        }
        self.queue.push(item, class);
        Ok(())
    }

    // Inputs: what happened.

    /// The member took the item: it is its own now, and outstanding until finished.
    ///
    /// Returns the item, so that the driver can let go of its copy, or `None` for a ticket that is not in
    /// flight.
    pub fn handle_taken(&mut self, key: K, ticket: Ticket) -> Option<C> {
        self.roster.update(key, |member| member.take(ticket)).flatten().map(Waiting::into_item)
    }

    /// The member will never have the item: it was claimed back, or refused, or could not be sent.
    ///
    /// The item goes back to where its arrival puts it in the queue, usually the head, even beyond the
    /// queue limit: what was accepted once is never dropped. Returns whether the ticket was in flight.
    ///
    /// A driver that could not send should [`pause`](Self::pause) the member first, or the next poll may
    /// choose it again.
    pub fn handle_recalled(&mut self, key: K, ticket: Ticket) -> bool {
        let recalled = self.roster.update(key, |member| member.recall(ticket)).flatten();
        let found = recalled.is_some();
        recalled.into_iter().for_each(|waiting| self.queue.put_back(waiting));
        found
    }

    /// The member reports how many items it has finished in its whole life.
    ///
    /// The figure is not trusted: it counts only as far as items were assigned, and a smaller one than
    /// before is ignored. So a lie can make a member look idle, never more than that.
    pub fn handle_finished(&mut self, key: K, total: u64) {
        self.roster.update(key, |member| member.finish(total));
    }

    // Outputs: what to do next.

    /// Returns the items to send to one member now, or `None` when nothing can be assigned.
    ///
    /// Works in rounds: first every item that waits is assigned, oldest first, as far as there is room;
    /// then each member's items are handed out as one batch. Items that come back or are offered during
    /// the round belong to the next one.
    pub fn poll_batch(&mut self) -> Option<Batch<K>> {
        loop {
            let Some(place) = self.round.pop_front() else {
                self.assign_waiting();
                if self.round.is_empty() {
                    return None;
                }
                continue;
            };
            let next_sequence = &mut self.next_sequence;
            let batch = self.roster.update_at(place, |member| (member.key(), member.hand_out(next_sequence)));
            if let Some((key, tickets)) = batch
                && !tickets.is_empty()
            {
                return Some(Batch::new(key, tickets));
            }
        }
    }

    // Getters.

    /// The item behind a ticket in flight.
    pub fn item(&self, key: K, ticket: Ticket) -> Option<&C> {
        self.roster.get(key)?.item(ticket)
    }

    /// How many more items could be assigned at once, beyond those that wait already.
    ///
    /// The free places of all members that are admitted and not paused, within window and capacity, less
    /// the items waiting. An acceptor that accepts only so many leaves the rest to the kernel.
    pub fn room(&self) -> usize {
        self.roster.room().saturating_sub(self.queue.len())
    }

    /// The same for items of one class: never more than the free places of the members that take it.
    ///
    /// Items of other classes may be assigned to the same places first, so it can be too high by as many as are
    /// offered before the next poll.
    pub fn room_for(&self, class: u8) -> usize {
        let free = self.roster.room_for(class).saturating_sub(self.queue.count(class));
        free.min(self.room())
    }

    /// How many items wait: those that no member has.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// All members, withdrawn ones included.
    pub fn members(&self) -> impl Iterator<Item = K> {
        self.roster.iter().map(|member| member.key())
    }

    /// The tickets that a member has in flight: handed out and not settled, in order of index.
    pub fn in_flight(&self, key: K) -> impl Iterator<Item = Ticket> {
        self.roster.get(key).into_iter().flat_map(|member| member.tickets())
    }

    /// How many items a member has not taken: those in flight, and those assigned but not yet polled.
    pub fn untaken(&self, key: K) -> usize {
        self.roster.get(key).map_or(0, |member| member.untaken())
    }

    /// How many items a member has not finished: untaken ones and those it took, less those it reported
    /// finished. `None` if it is no member.
    pub fn outstanding(&self, key: K) -> Option<u32> {
        self.roster.get(key).map(|member| member.outstanding())
    }

    /// The name of the strategy in use.
    pub fn strategy_name(&self) -> &'static str {
        self.strategy.name()
    }

    /// Starts a round: assigns what waits, as far as there is room.
    fn assign_waiting(&mut self) {
        // Classes that nobody has room for: their items wait, and those behind them go on.
        let mut stuck = Classes::none();
        let mut index = 0;
        while self.roster.room() > 0 {
            let Some(class) = self.queue.class_at(index) else { return };
            let place = if stuck.contains(class) { None } else { self.pick(class) };
            let Some(place) = place else {
                stuck = stuck.with(class);
                index += 1;
                continue;
            };
            let Some(waiting) = self.queue.remove(index) else { return };
            if self.roster.update_at(place, |member| member.assign(waiting)) == Some(true) {
                self.round.push_back(place);
            }
        }
    }

    fn pick(&mut self, class: u8) -> Option<usize> {
        self.roster.pick(&mut self.strategy, Request::new().class(class))
    }

    /// Puts back what a member was assigned in this round and the driver has not seen.
    fn unassign(&mut self, key: K) {
        let pending = self.roster.update(key, |member| member.unassign());
        pending.into_iter().flatten().for_each(|waiting| self.queue.put_back(waiting));
    }
}

// By hand, so that items need not be `Debug`.
impl<K: Copy + Eq + Hash + fmt::Debug, C> fmt::Debug for Dispatcher<K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = || self.roster.iter().map(|member| (member.key(), member.outstanding()));
        f.debug_struct("Dispatcher")
            .field("strategy", &self.strategy)
            .field("outstanding", &fmt::from_fn(|f| f.debug_map().entries(members()).finish()))
            .field("waiting", &self.queue.len())
            .field("queue_limit", &self.queue_limit)
            .finish_non_exhaustive()
    }
}
