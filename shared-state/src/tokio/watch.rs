//! Watching, as a stream or by a callback.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::task::coop;

use super::node::Node;
use crate::{Notice, WatchId};

/// What a watcher is told, in order and without a silent gap. A [`Stream`], which ends when nobody drives the replica any more.
/// Dropping it ends the watch.
#[derive(Debug)]
#[must_use = "the watch ends when this is dropped"]
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
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Notice>> {
        // There may always be something more, and others want their turn.
        let turn = ready!(coop::poll_proceed(cx));
        self.node.poll_notice(self.id, cx).map(|notice| {
            turn.made_progress();
            notice
        })
    }

    /// Calls back for each notice, on a task of the current runtime, until what is returned is dropped. A callback that panics is not
    /// called again.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn for_each(mut self, mut callback: impl FnMut(Notice) + Send + 'static) -> Callback {
        let (node, id) = (Arc::clone(&self.node), self.id);
        tokio::spawn(async move {
            while let Some(notice) = self.next().await {
                callback(notice);
            }
        });
        Callback { node, id }
    }
}

impl Stream for Watching {
    type Item = Notice;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Notice>> {
        self.poll(cx)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.node.unwatch(self.id);
    }
}

/// A callback that goes on until this is dropped: what it is being told then it is told, and nothing more.
#[derive(Debug)]
#[must_use = "it ends when this is dropped"]
pub struct Callback {
    node: Arc<Node>,
    id: WatchId,
}

impl Drop for Callback {
    fn drop(&mut self) {
        // Its task is told nothing more, and ends. (It could not be aborted while it has something to do.)
        self.node.unwatch(self.id);
    }
}
