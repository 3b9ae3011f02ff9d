//! The dispatcher: one queue, many members, and who has what.

mod member;
mod overloaded;
mod queue;
mod room;
mod roster;
mod ticket;

use std::collections::VecDeque;
use std::fmt;
use std::hash::Hash;
use std::time::Duration;

pub use self::overloaded::Overloaded;
pub use self::ticket::{Arrival, Batch, Ticket};

use self::queue::{Queue, Refusal, Spot, Waiting, Walk};
use self::roster::Roster;
use crate::strategy::Ended;
use crate::{Classes, DispatcherStatus, Limits, Request, Strategy, Totals, hash_of};

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
/// Time is a duration since any moment that stays the same, and comes in with [`handle_timeout`](Self::handle_timeout) or
/// with a [`Request`]. Who uses neither a limit on waiting nor a strategy with a sense of time needs none.
///
/// Dropping the dispatcher drops the items that it still owns.
pub struct Dispatcher<K, C> {
    strategy: Box<dyn Strategy>,
    queue: Queue<K, C>,
    queue_limit: usize,
    wait_at_most: Option<Duration>,
    now: Duration,
    totals: Totals,
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
            wait_at_most: None,
            now: Duration::ZERO,
            totals: Totals::default(),
            round: VecDeque::new(),
            next_sequence: 1,
        }
    }

    /// The same, in which an item that has not found a place so long after it was offered is given back by
    /// [`poll_expired`](Self::poll_expired). By default items wait for ever.
    #[must_use]
    pub fn wait_at_most(self, time: Duration) -> Self {
        Self { wait_at_most: Some(time), ..self }
    }

    // Verbs: what the user wants.

    /// Lets a member have items, within `limits`.
    ///
    /// Also readmits one that was withdrawn, and changes the limits of one that is there: its counts and
    /// its tickets in flight stay. Under a smaller window than before it gets nothing until it is below it. One that was
    /// [draining](Self::drain) no longer is.
    pub fn admit(&mut self, key: K, limits: Limits) {
        self.roster.ensure(key, limits.identity.unwrap_or_else(|| hash_of(key)), self.now);
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
    #[must_use = "these items are the caller's again"]
    pub fn remove(&mut self, key: K) -> Vec<C> {
        self.unassign(key);
        let items = self.roster.remove(key).map_or_else(Vec::new, |member| member.into_items());
        self.totals.returned += u64::try_from(items.len()).unwrap_or(u64::MAX);
        items
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

    /// Gives a member nothing new, but items whose key [sticks](crate::strategy::Sticky) to it; what it has it keeps.
    ///
    /// Ends when it is admitted again.
    pub fn drain(&mut self, key: K) {
        self.unassign(key);
        self.roster.update(key, |member| member.drain());
    }

    /// Says whether a member is well. One that isn't gets nothing, if the strategy doesn't
    /// [know better](crate::strategy::PanicThreshold); what it has it keeps.
    ///
    /// To take back what it has not taken, [`withdraw`](Self::withdraw) it.
    pub fn set_healthy(&mut self, key: K, healthy: bool) {
        self.unassign(key);
        self.roster.update(key, |member| member.set_healthy(healthy));
    }

    /// Appends an item to the queue; [`poll_batch`](Self::poll_batch) says who gets it.
    ///
    /// Always succeeds while [`room`](Self::room) is above 0.
    ///
    /// # Errors
    ///
    /// [`Overloaded`], with the item in it, when nobody has room for it, and as many items as the queue limit allows wait
    /// without a place for them.
    pub fn offer(&mut self, item: C) -> Result<(), Overloaded<C>> {
        self.offer_for(Request::new(), item).map(drop)
    }

    /// The same for an item with a class, a key, or a time.
    ///
    /// One with a class (see [`Classes`]) waits for a member that takes it, and doesn't hold up others behind it. Of the
    /// [key](Request::key) the strategy may make something. The time is that of the offer, unless a later one is known.
    /// By what is returned the item can be [retracted](Self::retract).
    ///
    /// # Errors
    ///
    /// As [`offer`](Self::offer); and always for a class that is none (64 and above).
    pub fn offer_for(&mut self, request: Request, item: C) -> Result<Arrival, Overloaded<C>> {
        self.handle_timeout(request.time());
        let is_class = request.of_class().is_none_or(|class| class < Classes::COUNT);
        let room = request.of_class().map_or_else(|| self.room(), |class| self.room_for(class));
        if !is_class || (room == 0 && self.without_place() >= self.queue_limit) {
            self.totals.overloaded += 1;
            return Err(Overloaded::new(item, self.queue.len()));
        }
        self.totals.offered += 1;
        Ok(self.queue.push(item, request.at(self.now)))
    }

    /// Takes an item back that nobody is to have any more, if it waits or has not been handed out yet.
    ///
    /// `None` for one that is in flight: when it has come back ([`handle_recalled`](Self::handle_recalled)) it can be
    /// retracted. And for one that left.
    pub fn retract(&mut self, arrival: Arrival) -> Option<C> {
        let waiting = self.queue.take(arrival).or_else(|| self.roster.retract(arrival))?;
        self.totals.retracted += 1;
        Some(waiting.into_item())
    }

    // Inputs: what happened.

    /// The member took the item: it is its own now, and outstanding until finished.
    ///
    /// Returns the item, so that the driver can let go of its copy, or `None` for a ticket that is not in
    /// flight.
    pub fn handle_taken(&mut self, key: K, ticket: Ticket) -> Option<C> {
        let waiting = self.roster.update(key, |member| member.take(ticket)).flatten()?;
        self.totals.taken += 1;
        Some(waiting.into_item())
    }

    /// The member will never have the item: it was claimed back, or could not be sent.
    ///
    /// The item goes back to where its arrival puts it in the queue, usually the head, even beyond the
    /// queue limit: what was accepted once is never dropped. Returns whether the ticket was in flight.
    ///
    /// A driver that could not send should [`pause`](Self::pause) the member first, or the next poll may
    /// choose it again.
    pub fn handle_recalled(&mut self, key: K, ticket: Ticket) -> bool {
        let Some(waiting) = self.recall(key, ticket) else { return false };
        self.totals.recalled += 1;
        self.queue.put_back(waiting);
        true
    }

    /// The member does not want the item. As [`handle_recalled`](Self::handle_recalled), but it comes to this member again only
    /// after that was [admitted](Self::admit) or [resumed](Self::resume) anew.
    ///
    /// What everybody has refused waits for that, or until it expires.
    pub fn handle_refused(&mut self, key: K, ticket: Ticket) -> bool {
        let Some(mut waiting) = self.recall(key, ticket) else { return false };
        self.totals.refused += 1;
        let stint = self.roster.get(key).map_or(0, |member| member.stint());
        waiting.refuse(Refusal { key, stint }, |refusal| self.roster.holds(refusal));
        self.queue.put_back(waiting);
        true
    }

    fn recall(&mut self, key: K, ticket: Ticket) -> Option<Waiting<K, C>> {
        self.roster.update(key, |member| member.recall(ticket)).flatten()
    }

    /// The member reports how many items it has finished in its whole life.
    ///
    /// The figure is not trusted: it counts only as far as it got items, and a smaller one than
    /// before is ignored. So a lie can make a member look idle, never more than that.
    pub fn handle_finished(&mut self, key: K, total: u64) {
        self.roster.finish(key, total);
    }

    /// The member reports how many items it has got in its whole life that did not come from here: connections that it accepted
    /// itself, say. They are outstanding until they are [finished](Self::handle_finished), like the others.
    ///
    /// A lie can make a member look busy, never more than that.
    pub fn handle_elsewhere(&mut self, key: K, total: u64) {
        self.roster.update(key, |member| member.get_elsewhere(total));
    }

    /// An item of the member ended like this: for strategies that learn, and for [`status`](Self::status). Counts of what is
    /// outstanding come from [`handle_finished`](Self::handle_finished) alone.
    pub fn handle_ended(&mut self, key: K, ended: Ended) {
        if let Some(place) = self.roster.place(key) {
            self.strategy.observe(place, ended);
            if ended.failed() {
                self.roster.update_at(place, |member| member.fail());
            }
        }
    }

    /// The member uses so much of what is measured, for [`LeastUsed`](crate::strategy::LeastUsed).
    pub fn handle_gauge(&mut self, key: K, used: u64) {
        let outstanding = self.outstanding(key).unwrap_or(0);
        if let Some(figures) = self.roster.place(key).and_then(|place| self.roster.figures_mut(place)) {
            *figures = figures.gauge(used, outstanding);
        }
    }

    /// It is `now`. A time before one that is known already changes nothing.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.now = self.now.max(now);
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
                if let Some(figures) = self.roster.figures_mut(place) {
                    figures.picked += tickets.len() as u64;
                }
                return Some(Batch::new(key, tickets));
            }
        }
    }

    /// Returns an item that has waited too long, and that nobody has room for; `None` when there is none. Such items, oldest
    /// first, are the caller's again.
    ///
    /// To be called after [`poll_batch`](Self::poll_batch) returned `None`: then whatever could find a place has found one.
    pub fn poll_expired(&mut self) -> Option<C> {
        let by = self.now.checked_sub(self.wait_at_most?)?;
        let waiting = self.queue.remove_overdue(by, |waiting| self.roster.is_stuck(waiting))?;
        self.totals.expired += 1;
        Some(waiting.into_item())
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) and [`poll_expired`](Self::poll_expired) next, if nothing happens
    /// before.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.queue.oldest()?.checked_add(self.wait_at_most?)
    }

    /// Takes back all items of a class that wait and that no member has: nobody will take them any more. Those in flight stay so.
    pub fn discard(&mut self, class: u8) -> Vec<C> {
        let discarded = self.queue.remove_class(class);
        self.totals.expired += discarded.len() as u64;
        discarded
    }

    // Getters.

    /// The item behind a ticket in flight.
    pub fn item(&self, key: K, ticket: Ticket) -> Option<&C> {
        self.roster.get(key)?.item(ticket)
    }

    /// How many more items could be assigned at once, beyond those that wait already.
    ///
    /// The free places of all members that are admitted, not paused, and well, within window and capacity, less the items that
    /// wait for these places. An acceptor that accepts only so many leaves the rest to the kernel.
    pub fn room(&self) -> usize {
        let room = self.roster.room();
        // Items that wait for others than have room are in nobody's way.
        let waiting: usize = self.queue.counts().map(|(class, count)| count.min(room.of(class))).sum();
        room.all().saturating_sub(waiting)
    }

    /// How many items wait for which there is no free place.
    fn without_place(&self) -> usize {
        let room = self.roster.room();
        let (mut waiting, mut stuck) = (0, 0);
        for (class, count) in self.queue.counts() {
            waiting += count;
            stuck += count.saturating_sub(room.of(class));
        }
        stuck.max(waiting.saturating_sub(room.all())) + self.queue.refused()
    }

    /// The same for items of one class: never more than the free places of the members that take it.
    ///
    /// Items of other classes may be assigned to the same places first, so it can be too high by as many as are
    /// offered before the next poll.
    pub fn room_for(&self, class: u8) -> usize {
        let same = self.queue.counts().find(|(other, _)| *other == Some(class));
        let waiting = same.map_or(0, |(_, count)| count);
        self.roster.room().of(Some(class)).saturating_sub(waiting).min(self.room())
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

    /// How many items the dispatcher owns: those that wait, and those that no member has taken.
    pub fn owned(&self) -> usize {
        self.waiting() + self.roster.untaken()
    }

    /// How many items a member has not finished: untaken ones and those it took, less those it reported
    /// finished. `None` if it is no member.
    pub fn outstanding(&self, key: K) -> Option<u32> {
        self.roster.get(key).map(|member| member.outstanding())
    }

    /// Everything that can be seen from outside, for people and for monitoring.
    pub fn status(&self) -> DispatcherStatus<K> {
        let members = self.roster.iter().filter_map(|member| {
            let figures = self.roster.figures(member.key())?;
            Some(member.status(figures))
        });
        DispatcherStatus {
            strategy: self.strategy.name(),
            members: members.collect(),
            waiting: self.queue.len(),
            queue_limit: self.queue_limit,
            totals: self.totals,
        }
    }

    /// The name of the strategy in use.
    pub fn strategy_name(&self) -> &'static str {
        self.strategy.name()
    }

    /// Starts a round: assigns what waits, as far as there is room.
    fn assign_waiting(&mut self) {
        let mut walk = Walk::default();
        while self.roster.room().is_any()
            && let Some(spot) = self.queue.next(&walk)
        {
            if !self.assign(spot) {
                walk.skip(spot);
            }
        }
        // One with a key may still go where others behind it may not: to a member that is draining.
        let (mut lane, mut index) = (0, 0);
        while self.roster.room().draining() > 0
            && let Some(keyed) = self.queue.next_keyed(lane, index)
        {
            (lane, index) = keyed;
            if !self.assign(Spot::Lane(lane, index)) {
                index += 1;
            }
        }
    }

    /// Assigns one item, if somebody may be picked for it.
    fn assign(&mut self, spot: Spot) -> bool {
        let Some(waiting) = self.queue.get(spot) else { return false };
        let Some(place) = self.roster.pick(&mut self.strategy, waiting, self.now) else { return false };
        let Some(waiting) = self.queue.remove(spot) else { return false };
        if self.roster.assign(place, waiting) {
            self.round.push_back(place);
        }
        true
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
