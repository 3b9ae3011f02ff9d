//! Random runs: members lag behind what they are told, the pool lags behind what they say.
//!
//! `CLUSTER_TEST_SEED` repeats a run, `CLUSTER_TEST_LONG=1` makes it a hundred times as long.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use cluster_balancer::strategy::PowerOfTwoChoices;
use cluster_balancer::tasks::{Action, Begun, End, TaskId, Tasks};
use cluster_balancer::{LeastLoaded, Limits, Request, RoundRobin, Strategy};
use fastrand::Rng;

use crate::member::{Process, Told, Word};
use crate::naive::{Key, Member, Naive, Place};

const OPERATIONS: usize = 1_000;
const RUNS: u64 = 60;

#[test]
fn every_task_ends_once_and_runs_at_most_once_whoever_lags_refuses_or_dies() {
    let long = env::var_os("CLUSTER_TEST_LONG").is_some_and(|value| value == "1");
    let runs = if long { 100 * RUNS } else { RUNS };
    let (first, runs) = match env::var("CLUSTER_TEST_SEED") {
        Ok(seed) => (seed.parse().expect("CLUSTER_TEST_SEED is a number"), 1),
        Err(_) => (fastrand::u64(..u64::MAX / 2), runs),
    };
    for seed in first..first + runs {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| Run::new(seed).run())) {
            eprintln!("repeat with CLUSTER_TEST_SEED={seed}");
            resume_unwind(panic);
        }
    }
}

/// Some weigh nothing, some more than may be kept.
fn weigh(item: &u64) -> u64 {
    item % 100
}

struct Run {
    rng: Rng,
    tasks: Tasks<Key, u64, u64>,
    naive: Naive,
    processes: BTreeMap<Key, Process>,
    /// How often each task was begun, by anybody.
    begun: BTreeMap<TaskId, u32>,
    ended: BTreeMap<TaskId, End<u64>>,
    submitted: BTreeMap<TaskId, u64>,
    queue_limit: usize,
    max_weight: Option<u64>,
    /// Given since the last time that nothing was left to poll.
    given: Vec<(TaskId, Key)>,
    /// Nothing happened since then but one operation.
    undisturbed: bool,
    next_key: Key,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let strategy: Box<dyn Strategy> = match rng.u8(..3) {
            0 => Box::new(LeastLoaded::new()),
            1 => Box::new(RoundRobin::new()),
            _ => Box::new(PowerOfTwoChoices::seeded(seed)),
        };
        let queue_limit = rng.usize(..60);
        let patience = rng.bool().then(|| Duration::from_secs(rng.u64(1..20)));
        let tasks = Tasks::new(strategy, queue_limit);
        let tasks = patience.into_iter().fold(tasks, Tasks::patience);
        let max_weight = rng.bool().then(|| rng.u64(..400));
        let tasks = max_weight.into_iter().fold(tasks, |tasks, most| tasks.max_weight(most, weigh));
        let naive = Naive { patience, nobody_since: Some(Duration::ZERO), ..Naive::default() };
        Self {
            rng,
            tasks,
            naive,
            processes: BTreeMap::new(),
            begun: BTreeMap::new(),
            ended: BTreeMap::new(),
            submitted: BTreeMap::new(),
            queue_limit,
            max_weight,
            given: Vec::new(),
            undisturbed: true,
            next_key: 0,
        }
    }

    fn run(mut self) {
        for _ in 0..OPERATIONS {
            match self.rng.u8(..100) {
                0..5 => self.admit(),
                5..7 => self.withdraw(),
                7..10 => self.judge(),
                10..12 => self.kill(),
                12..34 => self.submit(),
                34..38 => self.cancel(),
                38..42 => self.pass_time(),
                42..45 => self.lie(),
                45..75 => self.live(),
                _ => self.hear(),
            }
            // Sometimes two things happen before anybody looks.
            if self.rng.u8(..10) == 0 {
                self.undisturbed = false;
                let at_most = self.rng.usize(..3);
                self.poll(at_most);
            } else {
                self.poll(usize::MAX);
            }
            self.check();
        }
        self.come_to_an_end();
    }

    // Operations, each on both sides.

    fn admit(&mut self) {
        let key = match self.any_member() {
            Some(key) if self.rng.bool() || self.naive.members.len() > 6 => key,
            _ => {
                self.next_key += 1;
                self.processes.insert(self.next_key, Process::default());
                self.next_key
            }
        };
        let capacity = self.rng.u16(..6);
        let window = self.rng.u16(1..8);
        self.tasks.admit(key, Limits::new().capacity(capacity.into()).window(window));
        let (capacity, window) = (capacity.into(), window.into());
        let member = Member { capacity, window, present: true, healthy: true };
        let before = self.naive.members.insert(key, member);
        // Being admitted makes nobody well.
        self.naive.members.get_mut(&key).unwrap().healthy = before.is_none_or(|before| before.healthy);
        self.naive.look_who_is_there();
        self.naive.tasks.values_mut().for_each(|task| task.refused_by.retain(|other| *other != key));
    }

    fn withdraw(&mut self) {
        let Some(key) = self.any_member() else { return };
        self.tasks.withdraw(key);
        self.naive.members.get_mut(&key).unwrap().present = false;
        self.naive.look_who_is_there();
    }

    fn judge(&mut self) {
        let Some(key) = self.any_member() else { return };
        let healthy = self.rng.u8(..3) > 0;
        self.tasks.set_healthy(key, healthy);
        self.naive.members.get_mut(&key).unwrap().healthy = healthy;
    }

    /// What it had said is heard first, or it is known that it was not.
    fn kill(&mut self) {
        let Some(key) = self.any_member() else { return };
        if self.rng.u8(..4) == 0 {
            self.tasks.handle_cut_off(key);
            self.naive.cut_off(key);
        } else {
            while self.hear_from(key) {}
            self.tasks.handle_gone(key);
            self.naive.gone(key);
        }
        self.processes.remove(&key);
        self.naive.tasks.values_mut().for_each(|task| task.refused_by.retain(|other| *other != key));
    }

    fn submit(&mut self) {
        let now = self.naive.now;
        let deadline = self.rng.bool().then(|| now + Duration::from_secs(self.rng.u64(..30)));
        let item = self.rng.u64(..);
        // It is told what time it is.
        self.naive.expire();
        match self.tasks.submit(Request::new().at(now), deadline, item) {
            Ok(id) => {
                assert!(self.submitted.last_key_value().is_none_or(|(last, _)| *last < id), "ids rise");
                self.submitted.insert(id, item);
                let weight = if self.max_weight.is_some() { weigh(&item) } else { 0 };
                assert!(!self.is_too_heavy(weight), "more is kept than may be");
                self.naive.submit(id, deadline, weight);
            }
            Err(full) => {
                match full.weight() {
                    Some(figures) => {
                        assert_eq!(Some(figures.1), self.max_weight);
                        assert_eq!(figures.0, self.naive.weight());
                        assert!(self.is_too_heavy(weigh(&item)), "there is room for its weight");
                    }
                    None => {
                        assert!(
                            self.naive.waiting().count() >= self.queue_limit,
                            "there is room in the queue"
                        );
                    }
                }
                assert_eq!(full.into_inner(), item, "it is given back");
            }
        }
    }

    /// Beside what is kept already. One alone never is.
    fn is_too_heavy(&self, weight: u64) -> bool {
        let kept = self.naive.weight();
        kept > 0 && self.max_weight.is_some_and(|most| kept + weight > most)
    }

    /// Also of those that have ended.
    fn cancel(&mut self) {
        let Some((&id, _)) = self.rng.choice(&self.submitted) else { return };
        self.tasks.cancel(id);
        self.naive.end_early(id, End::Cancelled);
    }

    fn pass_time(&mut self) {
        let now = self.naive.now + Duration::from_secs(self.rng.u64(..8));
        self.naive.now = now;
        self.tasks.handle_timeout(now);
        self.tasks.handle_timeout(now / 2);
        self.naive.expire();
        assert!(self.tasks.poll_timeout().is_none_or(|at| at > now), "a deadline that is over is cleared");
    }

    /// Reports about tasks that a member does not have change nothing.
    fn lie(&mut self) {
        let task = self.rng.choice(&self.submitted).map_or(TaskId::new(0), |(id, _)| *id);
        let key = self.rng.u16(..=self.next_key);
        let place = self.naive.tasks.get(&task).map(|task| task.place);
        if place == Some(Place::Given(key)) || place == Some(Place::Running(key)) {
            return;
        }
        assert_eq!(self.tasks.running(key, task), None);
        self.tasks.handle_taken(key, task);
        self.tasks.handle_refused(key, task);
        self.tasks.handle_finished(key, task, u64::MAX);
    }

    /// A member does something by itself.
    fn live(&mut self) {
        let Some(key) = self.any_member() else { return };
        let process = self.processes.get_mut(&key).unwrap();
        match self.rng.u8(..20) {
            0 => process.refuse(),
            1..9 => process.read(),
            9..15 => process.begin(&mut self.begun),
            _ => process.finish(),
        }
    }

    fn hear(&mut self) {
        if let Some(key) = self.any_member() {
            self.hear_from(key);
        }
    }

    fn hear_from(&mut self, key: Key) -> bool {
        let Some(word) = self.processes.get_mut(&key).unwrap().said.pop_front() else { return false };
        match word {
            Word::Taken(task) => {
                self.tasks.handle_taken(key, task);
                self.naive.taken(key, task);
            }
            Word::Refused(task) => {
                self.tasks.handle_refused(key, task);
                self.naive.refused(key, task);
            }
            Word::Finished(task) => {
                let outcome = self.rng.u64(..);
                self.tasks.handle_finished(key, task, outcome);
                self.naive.finished(key, task, outcome);
            }
        }
        true
    }

    fn poll(&mut self, at_most: usize) {
        for _ in 0..at_most {
            let Some(action) = self.tasks.poll() else {
                assert!(self.naive.ends.is_empty(), "not told: {:?}", self.naive.ends);
                self.check_gifts();
                assert_eq!(self.tasks.waiting(), self.naive.waiting().count());
                (self.given, self.undisturbed) = (Vec::new(), true);
                return;
            };
            self.apply(action);
        }
    }

    fn apply(&mut self, action: Action<Key, u64, u64>) {
        match action {
            Action::Give { to, task } => {
                assert!(self.naive.may_get(to), "{to} can't have more");
                let known = self.naive.tasks.get_mut(&task).expect("it has not ended");
                assert_eq!(known.place, Place::Waiting, "somebody has it");
                assert!(!known.refused_by.contains(&to), "it did not want it");
                known.place = Place::Given(to);
                assert_eq!(self.tasks.item(task), Some(&self.submitted[&task]));
                self.given.push((task, to));
                self.tell(to, Told::Give(task));
            }
            Action::Recall { from, task } => self.tell(from, Told::Recall(task)),
            Action::Cancel { on, task } => {
                assert!(self.naive.tasks[&task].ended, "somebody waits for it");
                self.tell(on, Told::Cancel(task));
            }
            Action::End { task, item, end } => {
                assert_eq!(item, self.submitted[&task]);
                assert_eq!((task, end.clone()), self.naive.ends.remove(0), "in the order of what happened");
                assert_eq!(self.ended.insert(task, end), None, "it ended twice");
                assert_eq!(self.tasks.item(task), None);
            }
            other => panic!("{other:?} is unknown here"),
        }
    }

    fn tell(&mut self, key: Key, told: Told) {
        self.processes.get_mut(&key).expect("it lives").inbox.push_back(told);
    }

    // What must hold.

    /// Whoever could get something has got it, and what was submitted first went first.
    fn check_gifts(&self) {
        for (id, task) in self.naive.waiting() {
            for key in self.naive.members.keys() {
                let idle = self.naive.may_get(*key) && !task.refused_by.contains(key);
                assert!(!idle, "{key} could have {id}");
            }
            for (later, to) in self.given.iter().filter(|(later, _)| self.undisturbed && later > id) {
                assert!(task.refused_by.contains(to), "{later} went before {id}");
            }
        }
    }

    fn check(&self) {
        let status = self.tasks.status();
        assert_eq!(status.left, self.naive.tasks.values().filter(|task| task.ended).count());
        assert_eq!((status.weight, self.tasks.weight()), (self.naive.weight(), self.naive.weight()));
        let has_work = !self.naive.tasks.is_empty() || !self.naive.ends.is_empty();
        let is_served = self.naive.members.values().any(|member| member.present);
        assert!(!self.tasks.is_idle() || !has_work && !is_served, "it has something to do");
        assert_eq!(status.totals.submitted, self.submitted.len() as u64);
        assert_eq!(self.tasks.poll_timeout(), self.naive.poll_timeout());
        let mut members: Vec<Key> = self.tasks.members().collect();
        members.sort_unstable();
        assert!(members.iter().eq(self.naive.members.keys()));
        assert!(self.begun.values().all(|times| *times == 1), "a task was begun twice");
    }

    /// Everybody does what is left to do; then every task has ended, as it should.
    fn come_to_an_end(mut self) {
        self.poll(usize::MAX);
        let keys: BTreeSet<Key> = self.naive.members.keys().copied().collect();
        for key in keys {
            while self.processes[&key].inbox.front().is_some() {
                self.processes.get_mut(&key).unwrap().read();
            }
            while self.hear_from(key) {}
            self.tasks.handle_gone(key);
            self.naive.gone(key);
        }
        self.poll(usize::MAX);
        let open: Vec<TaskId> = self.naive.tasks.keys().copied().collect();
        for id in open {
            self.tasks.cancel(id);
            self.naive.end_early(id, End::Cancelled);
        }
        self.poll(usize::MAX);
        assert!(self.ended.keys().eq(self.submitted.keys()), "a task has not ended");
        for (id, end) in &self.ended {
            let began = self.begun.contains_key(id);
            match end {
                End::Done(_) => assert!(began, "{id} is {end:?} and never began"),
                End::NoMember | End::Cancelled(Begun::No) | End::TimedOut(Begun::No) => {
                    assert!(!began, "{id} is {end:?} and began");
                }
                _ => {}
            }
        }
        let totals = self.tasks.status().totals;
        let ends = totals.done + totals.cancelled + totals.timed_out + totals.lost + totals.no_member;
        assert_eq!((ends, totals.submitted), (self.ended.len() as u64, self.ended.len() as u64));
        assert_eq!((self.tasks.waiting(), self.tasks.status().left, self.tasks.poll_timeout()), (0, 0, None));
        assert_eq!(self.tasks.weight(), 0, "nothing is left that weighs anything");
        assert!(self.tasks.is_idle(), "nothing is left to do");
    }

    fn any_member(&mut self) -> Option<Key> {
        let keys: Vec<Key> = self.naive.members.keys().copied().collect();
        self.rng.choice(keys)
    }
}
