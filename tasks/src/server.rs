//! What spreads the tasks: a core for each name, and what each process is told.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use cluster_balancer::tasks::{Action, TaskId, Tasks};
use cluster_balancer::{Limits, Request};
use cluster_ipc::switch::{Letter, Letters, Peer, Port};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::party::{MAX_BODY, SUBMISSIONS};
use super::pool::{Heard, News, Roster};
use super::wire::{Order, Outcome, TaskRef, ToParty, ToPool, Verdict};
use super::words::{ORDERS, Place, Words};
use crate::{TaskPolicy, WorkerKey};

/// Names of tasks that there may be at a time: those that somebody runs, or that some task has.
const NAMES: usize = 1024;

/// Bytes of such a name.
const LONGEST_NAME: usize = 4096;

/// Tasks that one worker may run at a time, of each name.
const AT_ONCE: u16 = 1024;

/// Tasks that it may run at a time, of all names, and one of each name in any case: for each there is [room](ORDERS) for three words.
const AT_ONCE_OF_ALL: u16 = 4096;
const _: () = assert!(3 * (AT_ONCE_OF_ALL as usize + NAMES) <= ORDERS);

/// Then it looks again what there is to wait for.
const LONGEST: Duration = Duration::from_secs(86_400);

/// A task that waits or runs.
#[derive(Debug)]
struct Job<K> {
    from: Peer<K>,
    number: u64,
    body: Bytes,
    /// For the word that it has ended.
    place: Place,
}

#[derive(Debug)]
struct Named<K: WorkerKey> {
    name: String,
    tasks: Tasks<Peer<K>, Job<K>, Outcome>,
}

/// Takes in words and news, and carries out what the pools decide.
#[derive(Debug)]
pub(super) struct Server<K: WorkerKey> {
    port: Port<K>,
    policy: TaskPolicy,
    roster: Roster<K>,
    epoch: Instant,
    names: HashMap<String, u32>,
    /// By a number that is not used again for long, so that late words about a pool that is gone find nothing.
    pools: BTreeMap<u32, Named<K>>,
    next_pool: u32,
    /// What waits to be sent to each process.
    parties: HashMap<Peer<K>, Words>,
    /// What each process has submitted, by its number for it.
    submissions: HashMap<Peer<K>, HashMap<u64, (u32, TaskId)>>,
    /// How many tasks of each pool each process runs at a time.
    at_once: HashMap<Peer<K>, HashMap<u32, u16>>,
    sending: JoinSet<()>,
}

impl<K: WorkerKey> Server<K> {
    /// Without names, from now on.
    pub(super) fn new(port: Port<K>, policy: TaskPolicy, roster: Roster<K>) -> Self {
        Self {
            port,
            policy,
            roster,
            epoch: Instant::now(),
            names: HashMap::new(),
            pools: BTreeMap::new(),
            next_pool: 0,
            parties: HashMap::new(),
            submissions: HashMap::new(),
            at_once: HashMap::new(),
            sending: JoinSet::new(),
        }
    }

    /// Goes on until the pool is dropped.
    pub(super) async fn run(
        &mut self,
        letters: &mut Letters<ToPool, K>,
        news: &mut mpsc::UnboundedReceiver<News<K>>,
    ) {
        // The runtime's clock is the one that counts: a test may stop it.
        self.epoch = Instant::now();
        loop {
            self.settle();
            while self.sending.try_join_next().is_some() {}
            let next = self.pools.values().filter_map(|named| named.tasks.poll_timeout()).min();
            let next = next.and_then(|at| self.epoch.checked_add(at));
            tokio::select! {
                Some(letter) = letters.recv() => self.hear(letter),
                Some(news) = news.recv() => {
                    // What somebody said before it went was delivered before that.
                    letters.take_waiting().into_iter().for_each(|letter| self.hear(letter));
                    match news {
                        News::Well(worker, well) => self.judge(worker, well),
                        News::Gone(worker, heard) => self.lose(worker, heard),
                        News::Over => return,
                    }
                }
                () = sleep_until(next) => self.pass_time(),
            }
        }
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn pass_time(&mut self) {
        let now = self.now();
        self.pools.values_mut().for_each(|named| named.tasks.handle_timeout(now));
    }

    fn hear(&mut self, letter: Letter<ToPool, K>) {
        let from = letter.from;
        // Nobody would tell of the end of others.
        if let Peer::Worker(worker) = from
            && !self.roster.lock().contains_key(&worker)
        {
            return tracing::debug!(%from, "a word about tasks of one who is not attached to the pool");
        }
        // For how long tasks take.
        self.pass_time();
        match letter.message {
            ToPool::Submit(order) => self.submit(from, order),
            ToPool::Revoke(number) => {
                let submitted = self.submissions.get(&from).and_then(|of| of.get(&number));
                if let Some(&(index, task)) = submitted
                    && let Some(named) = self.pools.get_mut(&index)
                {
                    named.tasks.cancel(task);
                }
            }
            ToPool::Serve(name, at_once) => self.admit(from, name, at_once),
            ToPool::Retire(name) => {
                if let Some(index) = self.names.get(&name)
                    && let Some(named) = self.pools.get_mut(index)
                {
                    named.tasks.withdraw(from);
                    self.at_once.get_mut(&from).and_then(|of| of.remove(index));
                }
            }
            ToPool::Taken(task) => self.with(task, |tasks, task| tasks.handle_taken(from, task)),
            ToPool::Refused(task) => self.with(task, |tasks, task| tasks.handle_refused(from, task)),
            ToPool::Progress(task, body) => self.report(from, task, body),
            ToPool::Finished(task, outcome) => {
                let bytes = outcome.as_ref().map_or_else(String::len, Bytes::len);
                let outcome =
                    if bytes > MAX_BODY { Err("its outcome was too large".to_owned()) } else { outcome };
                self.with(task, |tasks, task| tasks.handle_finished(from, task, outcome));
            }
        }
    }

    fn with(&mut self, task: TaskRef, input: impl FnOnce(&mut Tasks<Peer<K>, Job<K>, Outcome>, TaskId)) {
        if let Some(named) = self.pools.get_mut(&task.pool) {
            input(&mut named.tasks, task.task());
        }
    }

    fn submit(&mut self, from: Peer<K>, order: Order) {
        let Order { number, name, body, within, key } = order;
        let now = self.now();
        let request = key.map_or_else(Request::new, |key| Request::new().key(key)).at(now);
        let deadline = within.and_then(|within| now.checked_add(within));
        // Whoever keeps to what was agreed has looked himself: it may hear that this is too much, or may not.
        let of = self.submissions.get(&from);
        let is_allowed =
            body.len() <= MAX_BODY && of.is_none_or(|of| of.len() < SUBMISSIONS && !of.contains_key(&number));
        let Some(place) = self.party(from).place().filter(|_| is_allowed) else {
            self.party(from).order(ToParty::Ended(number, Verdict::Full));
            return;
        };
        let (kept, most) = (self.kept(), self.policy.bytes);
        if kept > 0 && kept.saturating_add(body.len() as u64) > most {
            return self.party(from).end(place, number, Verdict::Overloaded { kept, most });
        }
        let Some((index, named)) =
            self.pool_of(name).and_then(|index| Some((index, self.pools.get_mut(&index)?)))
        else {
            return self.party(from).end(place, number, Verdict::Full);
        };
        match named.tasks.submit(request, deadline, Job { from, number, body, place }) {
            Ok(task) => drop(self.submissions.entry(from).or_default().insert(number, (index, task))),
            Err(overloaded) => {
                let place = overloaded.into_inner().place;
                self.party(from).end(place, number, Verdict::Full);
            }
        }
    }

    /// The bytes of all tasks that somebody has or waits for.
    fn kept(&self) -> u64 {
        self.pools.values().map(|named| named.tasks.weight()).sum()
    }

    /// The pool of a name; `None` if there are too many names.
    fn pool_of(&mut self, name: String) -> Option<u32> {
        if let Some(index) = self.names.get(&name) {
            return Some(*index);
        }
        if self.pools.len() >= NAMES || name.len() > LONGEST_NAME {
            let start: String = name.chars().take(64).collect();
            tracing::warn!(start, "there are too many names of tasks, or this one is too long");
            return None;
        }
        // It was resolved when the pool was built.
        let strategy = self.policy.resolve().ok()?;
        let tasks = Tasks::new(strategy, self.policy.queue).patience(self.policy.patience);
        // What all may have together is looked at when one is submitted.
        let tasks = tasks.max_weight(u64::MAX, |job: &Job<K>| job.body.len() as u64);
        // There are fewer pools than numbers.
        let index = loop {
            let index = self.next_pool;
            self.next_pool = index.wrapping_add(1);
            if !self.pools.contains_key(&index) {
                break index;
            }
        };
        self.names.insert(name.clone(), index);
        self.pools.insert(index, Named { name, tasks });
        // Its patience begins now.
        self.pass_time();
        Some(index)
    }

    fn admit(&mut self, from: Peer<K>, name: String, at_once: u16) {
        let Some((index, named)) =
            self.pool_of(name).and_then(|index| Some((index, self.pools.get_mut(&index)?)))
        else {
            return;
        };
        let of = self.at_once.entry(from).or_default();
        of.remove(&index);
        let others = of.values().fold(0, |sum: u16, more| sum.saturating_add(*more));
        let at_once = at_once.min(AT_ONCE).min(AT_ONCE_OF_ALL.saturating_sub(others)).max(1);
        of.insert(index, at_once);
        let limits = Limits::new().window(at_once).capacity(at_once.into());
        let standing = match from {
            Peer::Worker(worker) => self.roster.lock().get(&worker).copied(),
            Peer::Primary => None,
        };
        let limits = standing.map_or(limits, |standing| limits.identity(standing.slot.into()));
        named.tasks.admit(from, limits);
        named.tasks.set_healthy(from, standing.is_none_or(|standing| standing.is_well));
    }

    fn report(&mut self, from: Peer<K>, task: TaskRef, body: Bytes) {
        let named = self.pools.get(&task.pool).filter(|_| body.len() <= MAX_BODY);
        let Some(job) = named.and_then(|named| named.tasks.running(from, task.task())) else { return };
        let (to, number) = (job.from, job.number);
        self.party(to).report(number, body);
    }

    fn judge(&mut self, worker: K, well: bool) {
        self.pass_time();
        self.pools.values_mut().for_each(|named| named.tasks.set_healthy(Peer::Worker(worker), well));
    }

    /// Nobody waits for what this worker has submitted, and nobody runs what it was given.
    fn lose(&mut self, worker: K, heard: Heard) {
        self.pass_time();
        self.roster.lock().remove(&worker);
        let gone = Peer::Worker(worker);
        for (index, task) in self.submissions.remove(&gone).into_iter().flat_map(HashMap::into_values) {
            if let Some(named) = self.pools.get_mut(&index) {
                named.tasks.cancel(task);
            }
        }
        for named in self.pools.values_mut() {
            match heard {
                Heard::ToTheEnd => named.tasks.handle_gone(gone),
                Heard::Perhaps => named.tasks.handle_cut_off(gone),
            }
        }
        self.parties.remove(&gone);
        self.at_once.remove(&gone);
    }

    /// Carries out what the pools have decided, and gives back names that nobody uses.
    fn settle(&mut self) {
        let mut next = Some(0);
        while let Some((&index, _)) = next.and_then(|next| self.pools.range(next..).next()) {
            while let Some(action) = self.pools.get_mut(&index).and_then(|named| named.tasks.poll()) {
                self.apply(index, action);
            }
            if self.pools.get(&index).is_some_and(|named| named.tasks.is_idle())
                && let Some(named) = self.pools.remove(&index)
            {
                self.names.remove(&named.name);
            }
            next = index.checked_add(1);
        }
    }

    fn apply(&mut self, number: u32, action: Action<Peer<K>, Job<K>, Outcome>) {
        match action {
            Action::Give { to, task } => {
                let Some(named) = self.pools.get(&number) else { return };
                let Some(body) = named.tasks.item(task).map(|job| job.body.clone()) else { return };
                let word = ToParty::Give(TaskRef::new(number, task), named.name.clone(), body);
                if !self.party(to).order(word)
                    && let Some(named) = self.pools.get_mut(&number)
                {
                    named.tasks.handle_refused(to, task);
                }
            }
            Action::Recall { from, task } => {
                self.party(from).order(ToParty::Recall(TaskRef::new(number, task)));
            }
            Action::Cancel { on, task } => {
                self.party(on).order(ToParty::Cancel(TaskRef::new(number, task)));
            }
            Action::End { item: job, end, .. } => {
                let of = self.submissions.get_mut(&job.from);
                // Nobody is told who is gone.
                if of.is_some_and(|of| of.remove(&job.number).is_some()) {
                    self.party(job.from).end(job.place, job.number, end.into());
                }
            }
            _ => {}
        }
    }

    fn party(&mut self, to: Peer<K>) -> &Words {
        let (port, sending) = (&self.port, &mut self.sending);
        self.parties.entry(to).or_insert_with(|| Words::new(port.clone(), to, sending))
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        // A worker says how long its tasks may take, and the runtime's timers don't go as far as times do.
        Some(at) => tokio::time::sleep_until(at.min(Instant::now() + LONGEST)).await,
        None => std::future::pending().await,
    }
}
