//! A pool of tasks: each runs at most once, and ends exactly once for who submitted it.
//!
//! | state \ input | polled  | taken   | refused | finished | gone    | cancel     | deadline   | nobody |
//! |---------------|---------|---------|---------|----------|---------|------------|------------|--------|
//! | Waiting       | Given G | -       | -       | -        | -       | E          | E          | E      |
//! | Given         |         | Running | Waiting | E        | Waiting*| Left E C   | Left E C   | -      |
//! | Running       |         | -       | -       | E        | E       | Left E C   | Left E C   | -      |
//! | Left          |         | Left    | (gone)  | (gone)   | (gone)  | -          | -          | -      |
//!
//! \* If it is gone and was heard to the end; otherwise it is as if it had taken what it was given.
//! E: ends for who submitted it; G: give it to a member; C: tell the member; -: ignored.
//! *Left* is a task that has ended, and that a member still has: it takes up room there.
//! When a member is withdrawn or unwell, it is asked for what is Given; what it has not taken it refuses then.

mod action;
mod status;
mod task;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::time::Duration;

pub use self::action::{Action, Begun, End, TaskId};
pub use self::status::{TaskTotals, TasksStatus};

use self::task::{Member, Place, Task};
use crate::strategy::Ended;
use crate::{Dispatcher, Limits, Overloaded, Request, Strategy, Ticket};

/// Spreads tasks over members and knows how each ends. It asks a [`Dispatcher`] who gets which.
///
/// `K` names one *life* of a member, as there. `T` is what is submitted, `R` what a member says when it has finished.
///
/// # What is promised
///
/// * Each task that was accepted ends exactly once, by an [`Action::End`].
/// * What a member [took](Self::handle_taken) nobody else gets. If that member is gone, the task is [lost](End::Lost):
///   it ran at most once, and who submitted it learns that it is in doubt.
/// * What a member had and did not take goes elsewhere, before whatever was submitted later.
/// * No member has more tasks than its [capacity](Limits::capacity), those included that were cancelled and that it
///   has not let go.
/// * No more is kept than [agreed](Self::max_weight), in number and in weight.
///
/// For that a member says that it took a task *before* it begins, and whatever it said is told to the pool before
/// [`handle_gone`](Self::handle_gone); where that can't be promised, [`handle_cut_off`](Self::handle_cut_off) is told instead.
///
/// Methods come in kinds, as those of the [`Dispatcher`]; after any but a getter, call [`poll`](Self::poll) until it
/// returns `None`. Late reports, and reports about what a member never had, do nothing.
///
/// ```
/// use std::time::Duration;
/// use cluster_balancer::tasks::{Action, End, Tasks};
/// use cluster_balancer::{LeastLoaded, Limits, Request};
///
/// let mut tasks: Tasks<&str, &str, u32> = Tasks::new(Box::new(LeastLoaded::new()), 100);
/// tasks.admit("anna", Limits::new().capacity(1));
/// let sum = tasks.submit(Request::new(), Some(Duration::from_secs(5)), "2 + 3").expect("there is room");
/// assert_eq!(tasks.poll(), Some(Action::Give { to: "anna", task: sum }));
/// // A driver sends it. Anna says that she took it, and later what came of it.
/// tasks.handle_taken("anna", sum);
/// tasks.handle_finished("anna", sum, 5);
/// assert_eq!(tasks.poll(), Some(Action::End { task: sum, item: "2 + 3", end: End::Done(5) }));
/// ```
pub struct Tasks<K, T, R> {
    dispatcher: Dispatcher<K, TaskId>,
    tasks: HashMap<TaskId, Task<K, T>>,
    members: HashMap<K, Member>,
    deadlines: BTreeSet<(Duration, TaskId)>,
    now: Duration,
    patience: Option<Duration>,
    /// Since when no member is present.
    nobody_since: Option<Duration>,
    actions: VecDeque<Action<K, T, R>>,
    /// Handed out by the dispatcher, and not polled: those tasks are still `Waiting`.
    unpolled: VecDeque<(K, Ticket)>,
    next: u64,
    totals: TaskTotals,
    weigh: fn(&T) -> u64,
    max_weight: u64,
    /// Of all in `tasks`.
    weight: u64,
}

impl<K: Copy + Eq + Hash + fmt::Debug, T, R> Tasks<K, T, R> {
    /// A pool without members, in which `queue_limit` tasks may wait beyond those that the members have room for.
    pub fn new(strategy: Box<dyn Strategy>, queue_limit: usize) -> Self {
        Self {
            dispatcher: Dispatcher::new(strategy, queue_limit),
            tasks: HashMap::new(),
            members: HashMap::new(),
            deadlines: BTreeSet::new(),
            now: Duration::ZERO,
            patience: None,
            nobody_since: Some(Duration::ZERO),
            actions: VecDeque::new(),
            unpolled: VecDeque::new(),
            next: 1,
            totals: TaskTotals::default(),
            weigh: |_| 0,
            max_weight: u64::MAX,
            weight: 0,
        }
    }

    /// The same, in which a task that waits ends when there has been nobody to give it to for so long, not even somebody who
    /// is busy or unwell. By default it waits for ever, or until its deadline.
    ///
    /// Of [classes](Limits::classes) this knows nothing: a task of a class that nobody takes waits as long as there is anybody.
    #[must_use]
    pub fn patience(self, time: Duration) -> Self {
        Self { dispatcher: self.dispatcher.wait_at_most(time), patience: Some(time), ..self }
    }

    /// The same, in which all tasks together weigh at most so much: their bytes, for instance. One that is heavier than that alone is accepted
    /// when there is no other.
    ///
    /// A task weighs until nobody has it any more: one that was cancelled, until its member lets it go.
    #[must_use]
    pub fn max_weight(self, most: u64, weigh: fn(&T) -> u64) -> Self {
        Self { weigh, max_weight: most, ..self }
    }

    // Verbs: what the user wants.

    /// Accepts a task. The request says when, and whom it may be for; the deadline is a time like that one.
    ///
    /// # Errors
    ///
    /// [`Overloaded`], with the task in it, when too many wait already, or all weigh [too much](Self::max_weight); and for a class that is
    /// none.
    pub fn submit(
        &mut self,
        request: Request,
        deadline: Option<Duration>,
        item: T,
    ) -> Result<TaskId, Overloaded<T>> {
        self.handle_timeout(request.time());
        let weight = (self.weigh)(&item);
        if self.weight > 0 && self.weight.saturating_add(weight) > self.max_weight {
            return Err(Overloaded::too_heavy(item, self.dispatcher.waiting(), self.weight, self.max_weight));
        }
        let id = TaskId::new(self.next);
        let arrival = match self.dispatcher.offer_for(request, id) {
            Ok(arrival) => arrival,
            Err(overloaded) => return Err(overloaded.map(|_| item)),
        };
        self.next += 1;
        self.totals.submitted += 1;
        self.weight = self.weight.saturating_add(weight);
        self.tasks.insert(id, Task { arrival, deadline, place: Place::Waiting, item: Some(item), weight });
        self.deadlines.extend(deadline.map(|at| (at, id)));
        // Its deadline may be over.
        self.expire();
        Ok(id)
    }

    /// Ends a task early: [`End::Cancelled`]. A member that has it is told. One that has ended stays as it ended.
    pub fn cancel(&mut self, task: TaskId) {
        self.end_early(task, End::Cancelled);
    }

    /// Lets a member have tasks: at most as many at a time as its [capacity](Limits::capacity).
    ///
    /// Also readmits one that was withdrawn, and changes the limits of one that is there.
    pub fn admit(&mut self, member: K, limits: Limits) {
        self.unsend(member);
        self.dispatcher.admit(member, limits);
        self.members.entry(member).or_default().is_present = true;
        self.nobody_since = None;
    }

    /// Gives a member no more tasks, and asks it for what it has not taken. What it took it may finish.
    pub fn withdraw(&mut self, member: K) {
        self.dispatcher.withdraw(member);
        if let Some(known) = self.members.get_mut(&member) {
            known.is_present = false;
        }
        self.look_who_is_there();
        self.ask_back(member);
    }

    /// Says whether a member is well. One that isn't gets nothing and is asked for what it has not taken; it may get tasks
    /// again as soon as it is well.
    pub fn set_healthy(&mut self, member: K, healthy: bool) {
        self.dispatcher.set_healthy(member, healthy);
        if !healthy {
            self.ask_back(member);
        }
    }

    // Inputs: what happened.

    /// The member took the task, and begins only now.
    pub fn handle_taken(&mut self, member: K, task: TaskId) {
        let Some(known) = self.tasks.get_mut(&task) else { return };
        if let Place::Given { to, ticket } = known.place
            && to == member
        {
            self.dispatcher.handle_taken(member, ticket);
            known.place = Place::Running { on: member, since: self.now };
            self.members.entry(member).or_default().running.insert(task);
        }
    }

    /// The member has not taken the task and never will: somebody else gets it. Not this one, unless it is admitted anew.
    pub fn handle_refused(&mut self, member: K, task: TaskId) {
        let Some(known) = self.tasks.get(&task) else { return };
        if let Place::Given { to, ticket } = known.place
            && to == member
        {
            self.dispatcher.handle_refused(member, ticket);
            self.come_back(task);
        }
    }

    /// The member has finished the task, with this outcome; nobody learns of it if the task has ended before.
    pub fn handle_finished(&mut self, member: K, task: TaskId, outcome: R) {
        // Whoever has finished it has taken it.
        self.handle_taken(member, task);
        let Some(Place::Running { on, since }) = self.tasks.get(&task).map(|known| known.place) else {
            return;
        };
        if on != member {
            return;
        }
        let Some(known) = self.remove(task) else { return };
        let running = self.members.entry(member).or_default();
        running.running.remove(&task);
        running.finished += 1;
        self.dispatcher.handle_finished(member, running.finished);
        let took = self.now.saturating_sub(since);
        self.dispatcher.handle_ended(member, Ended::well(self.now).after(took));
        if let Some(item) = known.item {
            self.end(task, item, known.deadline, End::Done(outcome));
        }
    }

    /// The member is gone, and all that it ever said was told before. What it took is [lost](End::Lost), what it did not
    /// take goes to others.
    pub fn handle_gone(&mut self, member: K) {
        for ticket in self.dispatcher.withdraw(member) {
            let task = self.dispatcher.item(member, ticket).copied();
            self.dispatcher.handle_recalled(member, ticket);
            task.into_iter().for_each(|task| self.come_back(task));
        }
        // Nothing is left in flight there.
        drop(self.dispatcher.remove(member));
        let Some(known) = self.members.remove(&member) else { return };
        self.look_who_is_there();
        for id in known.running {
            let Some(task) = self.remove(id) else { continue };
            if let Some(item) = task.item {
                self.end(id, item, task.deadline, End::Lost);
            }
        }
    }

    /// The member is gone, and it may have said something that was not told: whatever it was given it may have taken, so all of it is
    /// [lost](End::Lost).
    pub fn handle_cut_off(&mut self, member: K) {
        self.unsend(member);
        for ticket in self.dispatcher.withdraw(member) {
            if let Some(&task) = self.dispatcher.item(member, ticket) {
                self.handle_taken(member, task);
            }
        }
        self.handle_gone(member);
    }

    /// It is `now`: deadlines that are over take effect. A time before one that is known already changes nothing.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.now = self.now.max(now);
        self.dispatcher.handle_timeout(now);
        self.expire();
    }

    // Outputs: what to do next.

    /// Returns what to do next, or `None` when there is nothing to do.
    pub fn poll(&mut self) -> Option<Action<K, T, R>> {
        while let Some(action) = self.actions.pop_front() {
            // What a member no longer has it need not be told of.
            let is_there = match &action {
                Action::Recall { from, task } | Action::Cancel { on: from, task } => {
                    self.tasks.get(task).is_some_and(|task| task.place.member() == Some(*from))
                }
                Action::Give { .. } | Action::End { .. } => true,
            };
            if is_there {
                return Some(action);
            }
        }
        loop {
            while let Some((to, ticket)) = self.unpolled.pop_front() {
                // Of those that came back meanwhile the dispatcher knows nothing.
                let Some(&task) = self.dispatcher.item(to, ticket) else { continue };
                let Some(known) = self.tasks.get_mut(&task) else { continue };
                known.place = Place::Given { to, ticket };
                return Some(Action::Give { to, task });
            }
            let batch = self.dispatcher.poll_batch()?;
            self.unpolled.extend(batch.tickets().iter().map(|ticket| (batch.key(), *ticket)));
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next, if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        let nobody = self.impatient_at().zip(self.dispatcher.poll_timeout());
        deadline.into_iter().chain(nobody.map(|(gone, waited)| gone.max(waited))).min()
    }

    // Getters.

    /// What a task consists of, until it has ended.
    pub fn item(&self, task: TaskId) -> Option<&T> {
        self.tasks.get(&task)?.item.as_ref()
    }

    /// The same if that member has taken the task and not finished it: for what it says of its progress.
    pub fn running(&self, member: K, task: TaskId) -> Option<&T> {
        let known = self.tasks.get(&task)?;
        matches!(known.place, Place::Running { on, .. } if on == member).then_some(known.item.as_ref()?)
    }

    /// How many tasks wait: those that no member has, when nothing is left to [poll](Self::poll).
    pub fn waiting(&self) -> usize {
        self.dispatcher.waiting()
    }

    /// What all tasks [weigh](Self::max_weight) that have not left the pool.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// Whether the pool does nothing that a new one would not do: no member is present, nobody has a task, and nothing is left to
    /// [poll](Self::poll). What is known of members that were withdrawn is of no use to anybody.
    pub fn is_idle(&self) -> bool {
        self.tasks.is_empty()
            && self.actions.is_empty()
            && !self.members.values().any(|member| member.is_present)
    }

    /// All members, withdrawn ones included.
    pub fn members(&self) -> impl Iterator<Item = K> {
        self.dispatcher.members()
    }

    /// Everything that can be seen from outside, for people and for monitoring.
    pub fn status(&self) -> TasksStatus<K> {
        TasksStatus {
            dispatcher: self.dispatcher.status(),
            left: self.tasks.values().filter(|task| task.item.is_none()).count(),
            weight: self.weight,
            totals: self.totals,
        }
    }

    /// Ends what has waited too long.
    fn expire(&mut self) {
        while let Some(&(at, task)) = self.deadlines.first()
            && at <= self.now
        {
            self.deadlines.pop_first();
            self.end_early(task, End::TimedOut);
        }
        while self.impatient_at().is_some_and(|at| at <= self.now)
            && let Some(task) = self.dispatcher.poll_expired()
        {
            if let Some(known) = self.remove(task)
                && let Some(item) = known.item
            {
                self.end(task, item, known.deadline, End::NoMember);
            }
        }
    }

    /// When nobody has been there for too long.
    fn impatient_at(&self) -> Option<Duration> {
        self.nobody_since?.checked_add(self.patience?)
    }

    fn look_who_is_there(&mut self) {
        if self.nobody_since.is_none() && !self.members.values().any(|member| member.is_present) {
            self.nobody_since = Some(self.now);
        }
    }

    /// Ends a task that may be anywhere, for who submitted it. A member that has it keeps it until it says otherwise.
    fn end_early(&mut self, id: TaskId, end: impl FnOnce(Begun) -> End<R>) {
        if let Some(to) = self.tasks.get(&id).and_then(|task| self.unpolled_to(id, task.place)) {
            self.unsend(to);
        }
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Some(item) = task.item.take() else { return };
        let (place, deadline, arrival) = (task.place, task.deadline, task.arrival);
        let end = match place.member() {
            None => {
                self.dispatcher.retract(arrival);
                self.remove(id);
                end(Begun::No)
            }
            Some(on) => {
                self.actions.push_back(Action::Cancel { on, task: id });
                end(Begun::Maybe)
            }
        };
        self.end(id, item, deadline, end);
    }

    fn end(&mut self, task: TaskId, item: T, deadline: Option<Duration>, end: End<R>) {
        let count = match end {
            End::Done(_) => &mut self.totals.done,
            End::Cancelled(_) => &mut self.totals.cancelled,
            End::TimedOut(_) => &mut self.totals.timed_out,
            End::Lost => &mut self.totals.lost,
            End::NoMember => &mut self.totals.no_member,
        };
        *count += 1;
        if let Some(at) = deadline {
            self.deadlines.remove(&(at, task));
        }
        self.actions.push_back(Action::End { task, item, end });
    }

    /// Nobody has the task any more.
    fn remove(&mut self, task: TaskId) -> Option<Task<K, T>> {
        let known = self.tasks.remove(&task)?;
        self.weight = self.weight.saturating_sub(known.weight);
        Some(known)
    }

    /// The dispatcher has the task again. One that has ended nobody is to get any more.
    fn come_back(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.place = Place::Waiting;
        if task.item.is_none() {
            self.dispatcher.retract(task.arrival);
            self.remove(id);
        }
    }

    /// Takes back what a member was given in vain: at once what was not polled, and by asking it what it has not taken.
    fn ask_back(&mut self, member: K) {
        self.unsend(member);
        let mut tickets: Vec<Ticket> = self.dispatcher.in_flight(member).collect();
        tickets.sort_unstable_by_key(Ticket::sequence);
        let tasks = tickets.into_iter().filter_map(|ticket| self.dispatcher.item(member, ticket));
        self.actions.extend(tasks.map(|task| Action::Recall { from: member, task: *task }));
    }

    /// Takes back what was handed out for a member and not polled.
    fn unsend(&mut self, member: K) {
        let dispatcher = &mut self.dispatcher;
        self.unpolled.retain(|(to, ticket)| {
            let stays = *to != member;
            if !stays {
                dispatcher.handle_recalled(member, *ticket);
            }
            stays
        });
    }

    /// For whom a task was handed out that was not polled.
    fn unpolled_to(&self, id: TaskId, place: Place<K>) -> Option<K> {
        let mut unpolled = self.unpolled.iter().filter(|_| place == Place::Waiting);
        let found = unpolled.find(|(to, ticket)| self.dispatcher.item(*to, *ticket) == Some(&id));
        found.map(|(to, _)| *to)
    }
}

// By hand, so that what is submitted need not be `Debug`.
impl<K: Copy + Eq + Hash + fmt::Debug, T, R> fmt::Debug for Tasks<K, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks")
            .field("dispatcher", &self.dispatcher)
            .field("tasks", &self.tasks.len())
            .field("totals", &self.totals)
            .finish_non_exhaustive()
    }
}
