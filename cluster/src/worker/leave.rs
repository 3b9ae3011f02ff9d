//! How a worker leaves of its own accord.

use std::sync::Arc;
use std::task::Poll;

use super::Worker;
use crate::wire::Request;

impl Worker {
    /// Leaves: this worker gets no more connections, finishes its requests, and is expected to end. Returns as soon as the primary
    /// knows and the drain has begun, so it may be called while a request is answered; [`draining`](Self::draining) and
    /// [`drained`](Self::drained) tell how it goes on. (Node's `worker.disconnect()` in the worker.)
    ///
    /// That is no crash. But its slot stays wanted: unless the restart policy says otherwise another worker comes once this one has ended. It
    /// costs nothing of the restart budget; if workers leave again and again soon after they were ready, the pauses before the next grow. Who
    /// leaves before it was ready has failed to start. For leaving for good the primary has
    /// [`WorkerHandle::disconnect`](crate::WorkerHandle::disconnect).
    ///
    /// A worker that does not end within the [time for a stop](crate::supervisor::StopSequence) is ended. Any number of calls is one;
    /// without a primary it drains all the same.
    pub async fn disconnect(&self) {
        self.say_leaving().await;
        let (gate, deadlines) = (Arc::clone(&self.inner.gate), self.inner.deadlines);
        // Once, so that the drain has begun when this returns.
        let mut leaving = Box::pin(async move { gate.leave_within(deadlines).await });
        if std::future::poll_fn(|cx| Poll::Ready(leaving.as_mut().poll(cx))).await.is_pending() {
            tokio::spawn(leaving);
        }
    }

    /// Ends this process at once with this code, and tells the primary first that it does so by itself: no crash, and otherwise as
    /// [`disconnect`](Self::disconnect). Requests under way are lost; destructors don't run. (Node's `worker.kill()` in the worker.)
    pub async fn exit(&self, code: i32) -> ! {
        self.say_leaving().await;
        std::process::exit(code)
    }

    async fn say_leaving(&self) {
        if let Some(control) = &self.inner.control {
            // Without a primary there is nobody to know.
            let _ = control.request::<()>(&Request::Leave).await;
        }
    }
}
