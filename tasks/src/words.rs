//! Words on their way to one process: each kind is bounded by itself, so that none takes the place of one that must not be lost.

use std::sync::Arc;

use bytes::Bytes;
use cluster_ipc::switch::{Peer, Port, To};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use super::party::SUBMISSIONS;
use super::wire::{ToParty, Verdict};
use crate::WorkerKey;

/// Words about tasks that the process runs. Of each task there are three: have it, give it back, it is cancelled.
pub(super) const ORDERS: usize = 16 << 10;

/// Bytes of outcomes that may wait for a process that does not read them.
const OUTCOMES: u32 = 256 << 20;

/// Bytes of progress that may wait, and what each costs beside its own.
const PROGRESS: u32 = 4 << 20;
const REPORT: u32 = 64;

/// What the pool says to one process, in order.
#[derive(Debug)]
pub(super) struct Words {
    /// Unbounded, since all that lies in it has its room from one of those below.
    queue: mpsc::UnboundedSender<Said>,
    orders: Arc<Semaphore>,
    ends: Arc<Semaphore>,
    outcomes: Arc<Semaphore>,
    progress: Arc<Semaphore>,
}

/// A word, and its room until it is on its way.
#[derive(Debug)]
struct Said {
    word: ToParty,
    _room: OwnedSemaphorePermit,
    _bytes: Option<OwnedSemaphorePermit>,
}

/// Room for the word that a task has ended. Who submits gets it with the task, so that this word always finds room.
#[derive(Debug)]
pub(super) struct Place(OwnedSemaphorePermit);

impl Words {
    /// Words to this process; they are sent by a task of `sending`.
    pub(super) fn new<K: WorkerKey>(port: Port<K>, to: Peer<K>, sending: &mut JoinSet<()>) -> Self {
        let (queue, words) = mpsc::unbounded_channel();
        sending.spawn(send(port, to, words));
        let room = |most: usize| Arc::new(Semaphore::new(most));
        Self {
            queue,
            orders: room(ORDERS),
            // One more: the process may hear of an end before this side knows that it is on its way.
            ends: room(SUBMISSIONS + 1),
            outcomes: room(OUTCOMES as usize),
            progress: room(PROGRESS as usize),
        }
    }

    /// Room for one end more; `None` if as many tasks of this process have not ended, or ended without its reading so, as it may have.
    pub(super) fn place(&self) -> Option<Place> {
        Arc::clone(&self.ends).try_acquire_owned().ok().map(Place)
    }

    /// Says how a task ended. If too many bytes of outcomes wait already, it says that instead of this one.
    pub(super) fn end(&self, Place(_room): Place, number: u64, verdict: Verdict) {
        let bytes = match &verdict {
            Verdict::Done(Ok(reply)) => reply.len(),
            Verdict::Done(Err(reason)) => reason.len(),
            _ => 0,
        };
        let (verdict, _bytes) = match take(&self.outcomes, bytes, OUTCOMES) {
            Some(taken) => (verdict, Some(taken)),
            None => (Verdict::NotTaken, None),
        };
        // If nobody sends any more, the process is gone.
        let _ = self.queue.send(Said { word: ToParty::Ended(number, verdict), _room, _bytes });
    }

    /// Says something about a task that the process runs, or of one that it should not have submitted. Returns whether there was room for
    /// it: there is, for whoever keeps to what was agreed.
    pub(super) fn order(&self, word: ToParty) -> bool {
        let said = Arc::clone(&self.orders)
            .try_acquire_owned()
            .is_ok_and(|_room| self.queue.send(Said { word, _room, _bytes: None }).is_ok());
        if !said {
            tracing::warn!("a word about tasks was lost: a process does not read, or is gone");
        }
        said
    }

    /// Says how far a task is, if there is room.
    pub(super) fn report(&self, number: u64, body: Bytes) {
        if let Some(_room) = take(&self.progress, body.len().saturating_add(REPORT as usize), PROGRESS) {
            // If nobody sends any more, the process is gone.
            let _ = self.queue.send(Said { word: ToParty::Progress(number, body), _room, _bytes: None });
        }
    }
}

/// Room for so many bytes. What is larger than all of it needs all.
pub(super) fn take(room: &Arc<Semaphore>, bytes: usize, most: u32) -> Option<OwnedSemaphorePermit> {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(most);
    Arc::clone(room).try_acquire_many_owned(bytes).ok()
}

/// Sends words to a process, in order, as it has room for them.
async fn send<K: WorkerKey>(port: Port<K>, to: Peer<K>, mut queue: mpsc::UnboundedReceiver<Said>) {
    while let Some(Said { word, _room, _bytes }) = queue.recv().await {
        if let Err(error) = port.send(To::from(to), &word).await {
            // It is gone, and that will be told.
            return tracing::debug!(%to, %error, "nothing more is told about tasks");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cluster_balancer::tasks::TaskId;
    use cluster_ipc::session::Config;
    use cluster_ipc::switch::Switch;
    use cluster_ipc::tokio::Endpoint;

    use super::super::party::MAX_BODY;
    use super::super::wire::TaskRef;
    use super::*;

    /// For what has to happen, however busy the machine is.
    const DEADLINE: Duration = Duration::from_secs(120);

    #[tokio::test]
    async fn that_a_task_has_ended_is_told_however_much_else_waits() {
        let switch = Switch::new();
        let (here, there) = Endpoint::pair(Config::new()).unwrap();
        let mut running = JoinSet::new();
        let attached = switch.attach(0_u32, here);
        running.spawn(async move { drop(attached.await) });
        let (port, serving) = Port::<u32>::new(there);
        running.spawn(async move { drop(serving.await) });
        let mut heard = port.stream::<ToParty>();

        // Nothing is sent before this waits.
        let words = Words::new(switch.port(), Peer::Worker(0), &mut running);
        let mut ordered = 0_u64;
        while words.order(ToParty::Cancel(TaskRef::new(0, TaskId::new(ordered)))) {
            ordered += 1;
        }
        assert_eq!(ordered, ORDERS as u64);
        let (mut ended, largest) = (0, Bytes::from(vec![0; MAX_BODY]));
        while let Some(place) = words.place() {
            ended += 1;
            let reply = if ended <= 9 { largest.clone() } else { Bytes::new() };
            words.end(place, ended, Verdict::Done(Ok(reply)));
        }
        assert!(ended >= SUBMISSIONS as u64, "only {ended} have room");

        let mut hear =
            async || tokio::time::timeout(DEADLINE, heard.recv()).await.expect("in time").unwrap().message;
        for _ in 0..ordered {
            assert!(matches!(hear().await, ToParty::Cancel(_)));
        }
        for number in 1..=ended {
            match hear().await {
                ToParty::Ended(told, Verdict::Done(Ok(_))) if number != 9 => assert_eq!(told, number),
                // The one above 256 MiB.
                ToParty::Ended(told, Verdict::NotTaken) if number == 9 => assert_eq!(told, number),
                // Not the verdict: it may be 32 MiB.
                ToParty::Ended(told, _) => {
                    panic!("{told} ended otherwise than it should, or before {number}")
                }
                other => panic!("{number}: {other:?}"),
            }
        }
    }
}
