//! Where a process submits tasks and runs them.

use std::sync::{Arc, OnceLock};

use cluster_ipc::events::Call;
use cluster_ipc::switch::Port;

use super::party::Party;
use super::run::{run, run_blocking};
use crate::{AlreadyRuns, TaskContext, Tasks, WorkerKey};

/// Where a process submits tasks and runs them, by its port. Cheap to clone.
///
/// A process has one: another on the same port would take what is meant for the first. It costs nothing until it is used. In the primary
/// it is the [pool's](crate::Pool::desk); in a worker it [watches](Self::watch) the connection.
#[derive(Debug)]
pub struct Desk<K> {
    inner: Arc<Inner<K>>,
}

#[derive(Debug)]
struct Inner<K> {
    port: Port<K>,
    /// From when somebody wants it on.
    party: OnceLock<Arc<Party>>,
}

/// Closes the desk when it is dropped.
struct Closing<K: WorkerKey>(Desk<K>);

impl<K: WorkerKey> Drop for Closing<K> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<K> Clone for Desk<K> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<K: WorkerKey> Desk<K> {
    /// Of the process that has this port.
    pub fn new(port: Port<K>) -> Self {
        Self { inner: Arc::new(Inner { port, party: OnceLock::new() }) }
    }

    /// Submits tasks to whoever runs them: this process, too, if it does.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn tasks(&self) -> Tasks {
        Tasks::new(Arc::clone(self.party()))
    }

    /// Runs tasks of one type by an asynchronous handler, up to `at_once` at a time (from 1 to 1,024, and 4,096 of all names), until `leaving`
    /// resolves, or nobody [gives](Self::close) any more, and those that have begun are done.
    ///
    /// Each runs in a task of its own on this runtime: what computes for long belongs into [`run_blocking`](Self::run_blocking). When nobody
    /// waits for it any more it is dropped at its next await. `Err` is the reason that it failed for; a panic is another. Neither is
    /// tried again.
    ///
    /// If the future is dropped, no more tasks come; those that have begun are dropped at their next await, and have failed.
    ///
    /// # Errors
    ///
    /// [`AlreadyRuns`] while tasks of that name are run here.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn run<C, F, Fut>(
        &self,
        at_once: u16,
        handler: F,
        leaving: impl Future<Output = ()>,
    ) -> Result<(), AlreadyRuns>
    where
        C: Call + Send + 'static,
        F: Fn(C, TaskContext) -> Fut,
        Fut: Future<Output = Result<C::Reply, String>> + Send + 'static,
    {
        run(self.party(), at_once, handler, leaving).await
    }

    /// The same by a handler that may block and compute for as long as it likes, on tokio's threads for that.
    ///
    /// When nobody waits for a task any more, its handler goes on until it looks: [`TaskContext::is_cancelled`]. So long it takes up its
    /// place.
    ///
    /// If the future is dropped, no more tasks come; those that have begun are finished.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn run_blocking<C, F>(
        &self,
        at_once: u16,
        handler: F,
        leaving: impl Future<Output = ()>,
    ) -> Result<(), AlreadyRuns>
    where
        C: Call + Send + 'static,
        F: Fn(C, TaskContext) -> Result<C::Reply, String> + Send + Sync + 'static,
    {
        run_blocking(self.party(), at_once, handler, leaving).await
    }

    /// The future that serves the port, after whose end this is [closed](Self::close). So it is if it is dropped.
    pub fn watch<F: Future>(&self, serving: F) -> impl Future<Output = F::Output> + use<K, F> {
        let closing = Closing(self.clone());
        async move {
            let _closing = closing;
            serving.await
        }
    }

    /// The connection to the primary has ended: what was submitted here ends with [`PrimaryGone`](crate::TaskError::PrimaryGone), for what is
    /// run here nobody waits, and no more comes.
    pub fn close(&self) {
        self.inner.party.get_or_init(|| Arc::new(Party::silent())).give_up();
    }

    fn party(&self) -> &Arc<Party> {
        self.inner.party.get_or_init(|| Arc::new(Party::new(&self.inner.port)))
    }
}
