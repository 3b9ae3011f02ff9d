//! The primary's part: who may have tasks, and who has gone.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use cluster_balancer::UnknownStrategy;
use cluster_ipc::Error;
use cluster_ipc::switch::{self, Letters, Switch};
use cluster_ipc::tokio::Endpoint;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::server::Server;
use super::wire::ToPool;
use crate::{Desk, TaskPolicy};

/// What the caller tells workers apart by. Everything suitable is one.
pub trait WorkerKey: switch::Key + Hash {}

impl<K: switch::Key + Hash> WorkerKey for K {}

/// Spreads tasks over the workers of a switch, by its [server](PoolServer). Dropping it ends that; workers learn of it by the end of their
/// connections.
#[derive(Debug)]
pub struct Pool<K: WorkerKey> {
    switch: Switch<K>,
    desk: Desk<K>,
    roster: Roster<K>,
    news: mpsc::UnboundedSender<News<K>>,
}

/// The workers that may say something about tasks: from before they can, until all that they said was heard.
pub(super) type Roster<K> = Arc<Mutex<HashMap<K, Standing>>>;

#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) slot: u32,
    /// As it was told last.
    pub(super) is_well: bool,
}

/// What happens to workers. Few of each worker's life, so that they are not bounded.
#[derive(Debug)]
pub(super) enum News<K> {
    Well(K, bool),
    Gone(K, Heard),
    /// There is no pool any more.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    ToTheEnd,
    Perhaps,
}

/// Stands for a worker that may send words. Dropped before its [end](Self::end), what the worker said may be unheard.
struct Attendance<K: WorkerKey> {
    worker: K,
    news: mpsc::UnboundedSender<News<K>>,
    heard: Heard,
}

impl<K: WorkerKey> Attendance<K> {
    /// The worker is gone, and all that it sent has been delivered.
    fn end(mut self) {
        self.heard = Heard::ToTheEnd;
    }
}

impl<K: WorkerKey> Drop for Attendance<K> {
    fn drop(&mut self) {
        // The pool may have ended.
        let _ = self.news.send(News::Gone(self.worker, self.heard));
    }
}

impl<K: WorkerKey> Pool<K> {
    /// A pool without workers. Nothing is spread before its server [runs](PoolServer::serve): what is submitted waits for that.
    ///
    /// There is one for each switch.
    ///
    /// # Errors
    ///
    /// When there is no [strategy](TaskPolicy::strategy) of that name.
    pub fn new(switch: Switch<K>, policy: TaskPolicy) -> Result<(Self, PoolServer<K>), UnknownStrategy> {
        policy.resolve()?;
        let port = switch.port();
        let (desk, roster) = (Desk::new(port.clone()), Roster::default());
        let (news, inputs) = mpsc::unbounded_channel();
        let server = PoolServer {
            // Before there is anybody who may send any.
            letters: port.stream(),
            news: inputs,
            server: Server::new(port.clone(), policy, Arc::clone(&roster)),
            desk: desk.clone(),
        };
        Ok((Self { switch, desk, roster, news }, server))
    }

    /// Where this process itself submits tasks, and runs them if it likes.
    pub fn desk(&self) -> &Desk<K> {
        &self.desk
    }

    /// Adds a worker: as [`Switch::attach`], with a place in this pool until its connection ends. By the number of its slot those strategies
    /// know it that remember: whoever has it next gets the same keys.
    ///
    /// What it has begun when its connection ends is [lost](crate::TaskError::Lost), and what it has not begun goes to others. If the future is
    /// dropped before that, or the connection fails for another reason than that the worker is gone, not all that it said may have been
    /// heard: all that it was given is lost then.
    pub fn attach(
        &self,
        worker: K,
        slot: u32,
        endpoint: Endpoint,
    ) -> impl Future<Output = Error> + Send + use<K> {
        self.roster.lock().insert(worker, Standing { slot, is_well: true });
        let attendance = Attendance { worker, news: self.news.clone(), heard: Heard::Perhaps };
        let attached = self.switch.attach(worker, endpoint);
        async move {
            let error = attached.await;
            // Otherwise not all that it sent could be read.
            if matches!(error, Error::PeerGone) {
                attendance.end();
            }
            error
        }
    }

    /// Says whether a worker is fit for tasks: at first it is. One that is not gets none, and what it was given and has not begun goes to others
    /// if it gives that back; it may have tasks again as soon as it is well.
    pub fn set_well(&self, worker: K, well: bool) {
        let mut roster = self.roster.lock();
        if let Some(known) = roster.get_mut(&worker)
            && known.is_well != well
        {
            known.is_well = well;
            // Under the lock, so that the last word is the last one. The pool may have ended.
            let _ = self.news.send(News::Well(worker, well));
        }
    }
}

impl<K: WorkerKey> Drop for Pool<K> {
    fn drop(&mut self) {
        self.desk.close();
        let _ = self.news.send(News::Over);
    }
}

/// Spreads the tasks of a [`Pool`]. Once it is dropped, nobody in this process waits for a task any more.
#[derive(Debug)]
pub struct PoolServer<K: WorkerKey> {
    server: Server<K>,
    letters: Letters<ToPool, K>,
    news: mpsc::UnboundedReceiver<News<K>>,
    desk: Desk<K>,
}

impl<K: WorkerKey> PoolServer<K> {
    /// Spreads tasks until the pool is dropped.
    pub async fn serve(mut self) {
        self.server.run(&mut self.letters, &mut self.news).await;
    }
}

impl<K: WorkerKey> Drop for PoolServer<K> {
    fn drop(&mut self) {
        self.desk.close();
    }
}
