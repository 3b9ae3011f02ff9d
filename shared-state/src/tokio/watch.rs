//! Watching, as a stream or by a callback.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::task::AbortHandle;

use super::node::Node;
use crate::{Notice, WatchId};

/// What a watcher is told, in order and without a silent gap. A [`Stream`], which ends when nobody drives the replica any more.
/// Dropping it ends the watch.
#[derive(Debug)]
pub struct Watching {
    node: Arc<Node>,
    id: WatchId,
}

impl Watching {
    pub(super) fn new(node: Arc<Node>, id: WatchId) -> Self {
        Self { node, id }
    }

    /// Waits for what is told next; `None` when nobody drives the replica any more. Cancel safe.
    pub async fn next(&mut self) -> Option<Notice> {
        std::future::poll_fn(|cx| self.node.poll_notice(self.id, cx)).await
    }

    /// Calls back for each notice, on a task of the current runtime, until what is returned is dropped.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn for_each(mut self, mut callback: impl FnMut(Notice) + Send + 'static) -> Callback {
        let task = tokio::spawn(async move {
            while let Some(notice) = self.next().await {
                callback(notice);
            }
        });
        Callback { task: task.abort_handle() }
    }
}

impl Stream for Watching {
    type Item = Notice;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Notice>> {
        self.node.poll_notice(self.id, cx)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.node.unwatch(self.id);
    }
}

/// A callback that goes on until this is dropped.
#[derive(Debug)]
#[must_use = "it ends when this is dropped"]
pub struct Callback {
    task: AbortHandle,
}

impl Drop for Callback {
    fn drop(&mut self) {
        self.task.abort();
    }
}
