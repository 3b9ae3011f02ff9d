//! What a task knows of its surroundings while it runs.

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

use super::party::{Link, Wish, encoded};
use super::wire::{TaskRef, ToPool};

/// What a handler of tasks gets beside the task. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TaskContext {
    pub(super) task: TaskRef,
    pub(super) link: Arc<Link>,
    pub(super) wish: watch::Receiver<Wish>,
}

impl TaskContext {
    /// Tells who submitted the task how far it is, by a value of any type that both sides agree on. Never waits.
    ///
    /// Values arrive in order. They are for people: when 64 of this process wait to be sent already, another one is dropped, and so is one that
    /// can't be encoded. Returns whether it is on its way.
    pub fn progress<P: Serialize + ?Sized>(&self, value: &P) -> bool {
        let Ok(body) = encoded(value) else { return false };
        self.link.report(ToPool::Progress(self.task, body))
    }

    /// Whether nobody waits for the task any more: it was cancelled, its deadline is over, or the primary is gone. What it returns is
    /// thrown away then.
    ///
    /// A blocking handler looks from time to time, and returns.
    pub fn is_cancelled(&self) -> bool {
        *self.wish.borrow() == Wish::Stop
    }

    /// Resolves when nobody waits for the task any more. An asynchronous handler is dropped then anyway, at its next await.
    pub async fn cancelled(&self) {
        let mut wish = self.wish.clone();
        if wish.wait_for(|wish| *wish == Wish::Stop).await.is_err() {
            // Nobody can say it any more.
            std::future::pending().await
        }
    }
}
