//! A process's end of the wire: what it says to the pool, in order, and who gets what the pool says.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use cluster_ipc::codec::{Encode, Postcard};
use cluster_ipc::switch::{Letters, Peer, Port, To};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::wire::{Order, Outcome, TaskRef, ToParty, ToPool};
use super::words::take;
use crate::{TaskError, WorkerKey};

/// Tasks that a process may have submitted and that have not ended.
pub(super) const SUBMISSIONS: usize = 1024;

/// Reports of progress that may wait to be sent, and those that may wait for who submitted the task.
const REPORTS: usize = 64;

/// Bytes of progress that are kept for those who submitted tasks here and have not taken it yet, and what each report costs beside its own.
const PROGRESS: u32 = 16 << 20;
const REPORT: usize = 64;

/// The largest task, reply, or report of progress.
pub(super) const MAX_BODY: usize = 32 << 20;

/// A process that submits and runs tasks. Dropping it ends its part of the conversation.
#[derive(Debug)]
pub(super) struct Party {
    pub(super) link: Arc<Link>,
    _moving: JoinSet<()>,
}

/// What the tasks and the submissions of a process share.
#[derive(Debug)]
pub(super) struct Link {
    /// Unbounded, since what may lie in it is: a few words for each submission and each task, and [`REPORTS`].
    outgoing: mpsc::UnboundedSender<Outgoing>,
    reports: Arc<Semaphore>,
    /// Of [`PROGRESS`].
    progress: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// The primary is gone.
    is_over: bool,
    submissions: HashMap<u64, Open>,
    runners: HashMap<&'static str, mpsc::UnboundedSender<Given>>,
    /// Those that were given here and have not ended.
    tasks: HashMap<TaskRef, watch::Sender<Wish>>,
}

/// A submission that has not ended.
#[derive(Debug)]
struct Open {
    end: oneshot::Sender<Result<Bytes, TaskError>>,
    progress: broadcast::Sender<Report>,
}

/// How far a task is, and its room among all such.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) body: Bytes,
    _room: Arc<OwnedSemaphorePermit>,
}

#[derive(Debug)]
struct Outgoing {
    /// `None`: only to be told when all before it is sent.
    word: Option<ToPool>,
    /// Told when that is in the socket.
    sent: Option<oneshot::Sender<()>>,
    _report: Option<OwnedSemaphorePermit>,
}

/// What the pool wants of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Run,
    /// If it has not begun.
    GiveBack,
    Stop,
}

/// A task that was given to this process.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) task: TaskRef,
    pub(super) body: Bytes,
    pub(super) wish: watch::Receiver<Wish>,
}

/// What a submitter holds.
pub(super) struct Submitted {
    pub(super) number: u64,
    pub(super) end: oneshot::Receiver<Result<Bytes, TaskError>>,
    /// From the beginning.
    pub(super) progress: broadcast::Receiver<Report>,
    /// For who asks again. A receiver would keep what others have taken.
    pub(super) later: broadcast::WeakSender<Report>,
}

impl Party {
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub(super) fn new<K: WorkerKey>(port: &Port<K>) -> Self {
        let (link, queue) = Link::new();
        let mut moving = JoinSet::new();
        moving.spawn(receive(port.stream(), Arc::clone(&link)));
        moving.spawn(send(port.clone(), queue, Arc::clone(&link)));
        Self { link, _moving: moving }
    }

    /// One whom nobody hears.
    pub(super) fn silent() -> Self {
        Self { link: Link::new().0, _moving: JoinSet::new() }
    }

    /// Nobody answers any more.
    pub(super) fn give_up(&self) {
        self.link.give_up();
    }
}

impl Link {
    fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Outgoing>) {
        let (outgoing, queue) = mpsc::unbounded_channel();
        let reports = Arc::new(Semaphore::new(REPORTS));
        let progress = Arc::new(Semaphore::new(PROGRESS as usize));
        (Arc::new(Self { outgoing, reports, progress, state: Mutex::default() }), queue)
    }

    pub(super) fn submit(&self, mut order: Order) -> Result<Submitted, TaskError> {
        let (end, ended) = oneshot::channel();
        let (progress, reports) = broadcast::channel(REPORTS);
        let later = progress.downgrade();
        let mut state = self.state.lock();
        if state.is_over {
            return Err(TaskError::PrimaryGone);
        }
        if state.submissions.len() >= SUBMISSIONS {
            return Err(TaskError::Full);
        }
        state.next += 1;
        order.number = state.next;
        state.submissions.insert(order.number, Open { end, progress });
        let number = order.number;
        // Under the lock, so that numbers rise on the wire, too.
        self.say(ToPool::Submit(order));
        Ok(Submitted { number, end: ended, progress: reports, later })
    }

    /// Nobody wants this any more. The pool says how it ended all the same.
    pub(super) fn revoke(&self, number: u64) {
        if self.state.lock().submissions.contains_key(&number) {
            self.say(ToPool::Revoke(number));
        }
    }

    /// Has tasks of this name come here from now on, until nobody gives any more; `None` if they do already.
    pub(super) fn serve(&self, name: &'static str, at_once: u16) -> Option<mpsc::UnboundedReceiver<Given>> {
        let mut state = self.state.lock();
        if state.runners.contains_key(name) {
            return None;
        }
        // Bounded by what this process lets the pool give it.
        let (runner, given) = mpsc::unbounded_channel();
        if !state.is_over {
            state.runners.insert(name, runner);
            self.say(ToPool::Serve(name.to_owned(), at_once));
        }
        Some(given)
    }

    /// What comes of this name from now on is refused.
    pub(super) fn retire(&self, name: &'static str) {
        let mut state = self.state.lock();
        state.runners.remove(name);
        // Under the lock, so that whoever serves it next says so afterwards.
        self.say(ToPool::Retire(name.to_owned()));
    }

    /// Says that a task begins, and returns when that is in the socket: even if this process is killed the moment after, the primary
    /// reads it. `Err` if it never gets there.
    pub(super) async fn take(&self, task: TaskRef) -> Result<(), oneshot::error::RecvError> {
        self.say_and_wait(Some(ToPool::Taken(task))).await
    }

    pub(super) fn refuse(&self, task: TaskRef) {
        self.state.lock().tasks.remove(&task);
        self.say(ToPool::Refused(task));
    }

    /// Says what came of a task.
    pub(super) fn finish(&self, task: TaskRef, outcome: Outcome) {
        self.state.lock().tasks.remove(&task);
        self.say(ToPool::Finished(task, outcome));
    }

    /// Says how far a task is, unless too many such words wait already.
    pub(super) fn report(&self, word: ToPool) -> bool {
        let Ok(permit) = Arc::clone(&self.reports).try_acquire_owned() else { return false };
        self.outgoing.send(Outgoing { word: Some(word), sent: None, _report: Some(permit) }).is_ok()
    }

    /// Returns when all that was said is in the socket, or never will be.
    pub(super) async fn flush(&self) {
        let _ = self.say_and_wait(None).await;
    }

    async fn say_and_wait(&self, word: Option<ToPool>) -> Result<(), oneshot::error::RecvError> {
        let (sent, done) = oneshot::channel();
        // If nobody sends any more, `sent` is dropped with it.
        let _ = self.outgoing.send(Outgoing { word, sent: Some(sent), _report: None });
        done.await
    }

    fn say(&self, word: ToPool) {
        // Without a primary there is nobody to tell.
        let _ = self.outgoing.send(Outgoing { word: Some(word), sent: None, _report: None });
    }

    fn hear(&self, word: ToParty) {
        let mut state = self.state.lock();
        match word {
            ToParty::Give(task, name, body) => {
                let (wish, watched) = watch::channel(Wish::Run);
                let given = Given { task, body, wish: watched };
                let runner = state.runners.get(name.as_str());
                if runner.is_some_and(|runner| runner.send(given).is_ok()) {
                    state.tasks.insert(task, wish);
                } else {
                    drop(state);
                    self.refuse(task);
                }
            }
            ToParty::Recall(task) => state.wish(task, Wish::GiveBack),
            ToParty::Cancel(task) => state.wish(task, Wish::Stop),
            ToParty::Progress(number, body) => {
                if let Some(open) = state.submissions.get(&number)
                    && let Some(room) = take(&self.progress, body.len().saturating_add(REPORT), PROGRESS)
                {
                    // Nobody may listen.
                    let _ = open.progress.send(Report { body, _room: Arc::new(room) });
                }
            }
            ToParty::Ended(number, verdict) => {
                if let Some(open) = state.submissions.remove(&number) {
                    // Nobody may wait for it any more.
                    let _ = open.end.send(verdict.into());
                }
            }
        }
    }

    /// The primary is gone: nobody will answer, nobody gives, and for what runs here nobody waits.
    fn give_up(&self) {
        let mut state = self.state.lock();
        state.is_over = true;
        state.runners.clear();
        for wish in state.tasks.values() {
            wish.send_replace(Wish::Stop);
        }
        for (_, open) in state.submissions.drain() {
            let _ = open.end.send(Err(TaskError::PrimaryGone));
        }
    }
}

impl State {
    fn wish(&self, task: TaskRef, wish: Wish) {
        if let Some(known) = self.tasks.get(&task) {
            // Once it is to stop it stays so.
            known.send_modify(|now| {
                if *now != Wish::Stop {
                    *now = wish;
                }
            });
        }
    }
}

async fn receive<K: WorkerKey>(mut letters: Letters<ToParty, K>, link: Arc<Link>) {
    while let Some(letter) = letters.recv().await {
        // Workers can write to one another, too.
        if letter.from == Peer::Primary {
            link.hear(letter.message);
        }
    }
}

/// Sends what is said, one word after the other.
async fn send<K: WorkerKey>(port: Port<K>, mut queue: mpsc::UnboundedReceiver<Outgoing>, link: Arc<Link>) {
    while let Some(Outgoing { word, sent, _report }) = queue.recv().await {
        let posted = async {
            if let Some(word) = word {
                port.send(To::Primary, &word).await?;
            }
            if let Some(sent) = sent {
                port.flush().await?;
                // Whoever asked may have been dropped.
                let _ = sent.send(());
            }
            Ok::<_, cluster_ipc::Error>(())
        };
        if let Err(error) = posted.await {
            tracing::debug!(%error, "tasks can't be submitted or run any more");
            return link.give_up();
        }
    }
}

/// A value as it travels.
pub(super) fn encoded<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, TaskError> {
    let mut scratch = Vec::new();
    let encoded = Postcard::encode(value, &mut scratch).map(Bytes::copy_from_slice);
    let body = encoded.map_err(|error| TaskError::Encoding { reason: error.to_string() })?;
    if body.len() > MAX_BODY { Err(TaskError::TooLarge { bytes: body.len() }) } else { Ok(body) }
}
