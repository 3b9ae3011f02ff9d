//! What says in records which worker they are of.

use cluster_supervisor::WorkerId;
use tracing::Span;

use super::Worker;

impl Worker {
    /// A span that gives each record within it this worker's `slot`, `generation` and `pid`. The [`layer`](Self::layer) handles each request in
    /// such a span. For the rest of an application:
    ///
    /// ```no_run
    /// use tracing::Instrument;
    ///
    /// # async fn housekeeping() {}
    /// # async fn serve(_: &cluster::Worker) {}
    /// # async fn example(worker: cluster::Worker) {
    /// // A task has the span that it is given, not that of whoever starts it.
    /// tokio::spawn(housekeeping().instrument(worker.span()));
    /// serve(&worker).instrument(worker.span()).await;
    /// # }
    /// ```
    ///
    /// The span has the name `worker`, the target `cluster` and the level error, so that it is there wherever anything of this crate
    /// is let through: a filter such as `app=info` has to be `app=info,cluster=error` at least.
    pub fn span(&self) -> Span {
        span(self.inner.id)
    }
}

pub(super) fn span(id: WorkerId) -> Span {
    let (slot, generation, pid) = (id.slot(), id.generation(), std::process::id());
    tracing::error_span!(target: "cluster", "worker", slot, generation, pid)
}
