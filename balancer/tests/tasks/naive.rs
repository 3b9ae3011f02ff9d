//! What the pool is compared with: it remembers where each task is, and looks through all of them for every answer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cluster_balancer::tasks::{Begun, End, TaskId};

pub(crate) type Key = u16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Waiting,
    Given(Key),
    Running(Key),
}

#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) since: Duration,
    pub(crate) deadline: Option<Duration>,
    pub(crate) place: Place,
    pub(crate) ended: bool,
    pub(crate) weight: u64,
    /// By members that have not been admitted since.
    pub(crate) refused_by: BTreeSet<Key>,
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) capacity: usize,
    pub(crate) window: usize,
    pub(crate) present: bool,
    pub(crate) healthy: bool,
}

#[derive(Default)]
pub(crate) struct Naive {
    pub(crate) now: Duration,
    pub(crate) patience: Option<Duration>,
    pub(crate) nobody_since: Option<Duration>,
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    pub(crate) members: BTreeMap<Key, Member>,
    /// Ends that the pool has yet to tell of, in order.
    pub(crate) ends: Vec<(TaskId, End<u64>)>,
}

impl Naive {
    pub(crate) fn submit(&mut self, id: TaskId, deadline: Option<Duration>, weight: u64) {
        let task = Task {
            since: self.now,
            deadline,
            place: Place::Waiting,
            ended: false,
            weight,
            refused_by: BTreeSet::new(),
        };
        assert!(self.tasks.insert(id, task).is_none(), "an id is used twice");
        self.expire();
    }

    pub(crate) fn weight(&self) -> u64 {
        self.tasks.values().map(|task| task.weight).sum()
    }

    pub(crate) fn held_by(&self, key: Key) -> usize {
        let has = |task: &&Task| matches!(task.place, Place::Given(at) | Place::Running(at) if at == key);
        self.tasks.values().filter(has).count()
    }

    pub(crate) fn may_get(&self, key: Key) -> bool {
        let member = &self.members[&key];
        let given = self.tasks.values().filter(|task| task.place == Place::Given(key)).count();
        let has_room = self.held_by(key) < member.capacity && given < member.window;
        member.present && member.healthy && has_room
    }

    pub(crate) fn waiting(&self) -> impl Iterator<Item = (&TaskId, &Task)> {
        self.tasks.iter().filter(|(_, task)| task.place == Place::Waiting)
    }

    pub(crate) fn taken(&mut self, key: Key, id: TaskId) {
        if let Some(task) = self.tasks.get_mut(&id)
            && task.place == Place::Given(key)
        {
            task.place = Place::Running(key);
        }
    }

    pub(crate) fn refused(&mut self, key: Key, id: TaskId) {
        if let Some(task) = self.tasks.get_mut(&id)
            && task.place == Place::Given(key)
        {
            task.refused_by.insert(key);
            self.come_back(id);
        }
    }

    pub(crate) fn finished(&mut self, key: Key, id: TaskId, outcome: u64) {
        let place = self.tasks.get(&id).map(|task| task.place);
        if place == Some(Place::Given(key)) || place == Some(Place::Running(key)) {
            self.end(id, End::Done(outcome));
            self.tasks.remove(&id);
        }
    }

    pub(crate) fn gone(&mut self, key: Key) {
        self.members.remove(&key);
        let at = |naive: &Self, place| -> Vec<TaskId> {
            naive.tasks.iter().filter(|(_, task)| task.place == place).map(|(id, _)| *id).collect()
        };
        at(self, Place::Given(key)).into_iter().for_each(|id| self.come_back(id));
        self.look_who_is_there();
        for id in at(self, Place::Running(key)) {
            self.end(id, End::Lost);
            self.tasks.remove(&id);
        }
    }

    /// Whatever it was given it may have taken.
    pub(crate) fn cut_off(&mut self, key: Key) {
        let given = self.tasks.values_mut().filter(|task| task.place == Place::Given(key));
        given.for_each(|task| task.place = Place::Running(key));
        self.gone(key);
    }

    fn come_back(&mut self, id: TaskId) {
        let task = self.tasks.get_mut(&id).unwrap();
        task.place = Place::Waiting;
        if task.ended {
            self.tasks.remove(&id);
        }
    }

    pub(crate) fn end_early(&mut self, id: TaskId, end: fn(Begun) -> End<u64>) {
        match self.tasks.get(&id).map(|task| task.place) {
            Some(Place::Waiting) => {
                self.end(id, end(Begun::No));
                self.tasks.remove(&id);
            }
            Some(_) => self.end(id, end(Begun::Maybe)),
            None => {}
        }
    }

    fn end(&mut self, id: TaskId, end: End<u64>) {
        let task = self.tasks.get_mut(&id).unwrap();
        if !std::mem::replace(&mut task.ended, true) {
            self.ends.push((id, end));
        }
    }

    pub(crate) fn look_who_is_there(&mut self) {
        let anybody = self.members.values().any(|member| member.present);
        self.nobody_since = if anybody { None } else { self.nobody_since.or(Some(self.now)) };
    }

    fn deadlines(&self) -> BTreeSet<(Duration, TaskId)> {
        let open = self.tasks.iter().filter(|(_, task)| !task.ended);
        open.filter_map(|(id, task)| Some((task.deadline?, *id))).collect()
    }

    /// When each that waits ends because nobody is there.
    fn impatient(&self) -> Vec<(TaskId, Duration)> {
        let (Some(gone), Some(patience)) = (self.nobody_since, self.patience) else { return Vec::new() };
        self.waiting().map(|(id, task)| (*id, gone.max(task.since) + patience)).collect()
    }

    pub(crate) fn expire(&mut self) {
        let due = |at: Duration| at <= self.now;
        let overdue: Vec<_> = self.deadlines().into_iter().filter(|(at, _)| due(*at)).collect();
        overdue.into_iter().for_each(|(_, id)| self.end_early(id, End::TimedOut));
        let now = self.now;
        for (id, _) in self.impatient().into_iter().filter(|(_, at)| *at <= now) {
            self.end(id, End::NoMember);
            self.tasks.remove(&id);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        let deadline = self.deadlines().first().map(|(at, _)| *at);
        deadline.into_iter().chain(self.impatient().into_iter().map(|(_, at)| at)).min()
    }
}
