//! Tasks that this worker runs, and those that it submits.

use cluster_acceptor::worker::Phase;

use super::Worker;
use crate::tasks::{TaskContext, Tasks};
use crate::{Request, Result};

impl Worker {
    /// Submits tasks, to whichever worker runs them: this one, too, if it does. In inline mode this process is all of them.
    pub fn tasks(&self) -> Tasks {
        self.inner.desk.tasks()
    }

    /// Runs tasks of one type by an asynchronous handler, up to `at_once` at a time (from 1 to 1,024, and 4,096 of all names), until this worker
    /// is asked to leave and those that have begun are done.
    ///
    /// Each runs in a task of its own on this runtime: what computes for long belongs into
    /// [`run_blocking_tasks`](Self::run_blocking_tasks). When nobody waits for it any more (it was cancelled, its deadline is over, or the primary is gone) it is
    /// dropped at its next await. `Err` is the reason that it failed for; a panic is another. Neither is tried again.
    ///
    /// If the future is dropped, no more tasks come; those that have begun are dropped at their next await, and have failed.
    ///
    /// A worker that doesn't listen says [`ready`](Self::ready) itself.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyRuns`](crate::Error::AlreadyRuns) while tasks of that name are run here.
    ///
    /// ```no_run
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Serialize, Deserialize)] struct Fetch(String);
    /// # impl cluster::Message for Fetch { const NAME: &'static str = "fetch"; }
    /// # impl cluster::Request for Fetch { type Reply = usize; }
    /// # async fn fetch(address: &str) -> std::io::Result<Vec<u8>> { Ok(Vec::new()) }
    /// # async fn example(worker: cluster::Worker) -> cluster::Result<()> {
    /// worker.ready().await;
    /// worker
    ///     .run_tasks(100, async |task: Fetch, context| {
    ///         context.progress("connecting");
    ///         fetch(&task.0).await.map(|page| page.len()).map_err(|error| error.to_string())
    ///     })
    ///     .await
    /// # }
    /// ```
    pub async fn run_tasks<C, F, Fut>(&self, at_once: u16, handler: F) -> Result<()>
    where
        C: Request + Send + 'static,
        F: Fn(C, TaskContext) -> Fut,
        Fut: Future<Output = std::result::Result<C::Reply, String>> + Send + 'static,
    {
        let gate = &self.inner.gate;
        Ok(self.inner.desk.run(at_once, handler, gate.reached(Phase::Leaving)).await?)
    }

    /// The same by a handler that may block and compute for as long as it likes, on tokio's threads for that: heartbeats and connections
    /// go on beside it. With at most one per processor that this worker may have, nothing is gained by more.
    ///
    /// When nobody waits for a task any more, its handler goes on until it looks: [`TaskContext::is_cancelled`]. So long it takes up its place.
    ///
    /// If the future is dropped, no more tasks come; those that have begun are finished.
    ///
    /// # Errors
    ///
    /// As [`run_tasks`](Self::run_tasks).
    pub async fn run_blocking_tasks<C, F>(&self, at_once: u16, handler: F) -> Result<()>
    where
        C: Request + Send + 'static,
        F: Fn(C, TaskContext) -> std::result::Result<C::Reply, String> + Send + Sync + 'static,
    {
        let gate = &self.inner.gate;
        Ok(self.inner.desk.run_blocking(at_once, handler, gate.reached(Phase::Leaving)).await?)
    }
}
