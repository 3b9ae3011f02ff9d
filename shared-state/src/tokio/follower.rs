//! Who keeps a replica up to date, over one link after the other.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use super::broadcast::Listen;
use super::link::{Inbox, Link, LinkError, receive, send};
use super::node::Node;
use crate::Revision;

/// Keeps a replica up to date: made with its handle by [`SharedState::new`](super::SharedState::new).
///
/// When it is dropped the replica is gone for good: handles go on reading what is there, requests and watches end.
#[derive(Debug)]
pub struct Follower {
    node: Arc<Node>,
}

impl Follower {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    /// Follows the primary at the other end of this link, until it ends. Then the state stays as it is and can be read;
    /// follow again over another link. Requests that were not answered are sent again, and carried out once.
    ///
    /// Cancel safe: dropping the future ends the link.
    ///
    /// # Errors
    ///
    /// Always says why the link is of no use any more; [`LinkError::CutOff`] means that another one will not help.
    pub async fn follow<L: Link>(&mut self, link: L) -> LinkError {
        self.follow_with(link, None).await
    }

    /// The same, where the primary broadcasts besides, and rings this one's bell
    /// ([`Hub::serve_listening`](super::Hub::serve_listening)). A read then takes in first what was broadcast: it sees what was written
    /// anywhere before, also if this follower has had no turn since.
    ///
    /// # Errors
    ///
    /// As [`follow`](Self::follow).
    pub async fn follow_listening<L: Link>(&mut self, link: L, listen: impl Listen + 'static) -> LinkError {
        self.follow_with(link, Some(Arc::new(listen))).await
    }

    async fn follow_with<L: Link>(&mut self, link: L, listen: Option<Arc<dyn Listen>>) -> LinkError {
        let mut connected = Connected::new(&self.node, listen);
        let mut link = pin!(link);
        let mut inbox = Inbox::default();
        poll_fn(|cx| connected.poll(link.as_mut(), cx, &mut inbox)).await
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.node.close();
    }
}

/// The replica has a link for as long as this lives.
struct Connected<'a> {
    node: &'a Node,
    ear: Option<Arc<dyn Listen>>,
    /// The newest revision that was broadcast when the link had ended.
    last: Option<Revision>,
}

impl<'a> Connected<'a> {
    fn new(node: &'a Node, listen: Option<Arc<dyn Listen>>) -> Self {
        node.handle_connected(listen.clone());
        Self { node, ear: listen, last: None }
    }

    fn poll<L: Link>(
        &mut self,
        mut link: Pin<&mut L>,
        cx: &mut Context<'_>,
        inbox: &mut Inbox,
    ) -> Poll<LinkError> {
        let may_be_more = receive(link.as_mut(), cx, inbox);
        if let Some(ear) = &self.ear {
            // First, so that it wakes us for what is broadcast after we looked.
            ear.wake_when_rung(cx);
        }
        let unheard = match self.node.handle_messages(&mut inbox.messages) {
            Ok(unheard) => unheard,
            Err(error) => return Poll::Ready(error),
        };
        // Also the last words of a link count, and what was broadcast before them.
        if inbox.end.is_some() && unheard.is_some_and(|next| Some(next) <= self.last()) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(end) = inbox.end.take() {
            return Poll::Ready(end);
        }
        let has_more = match send(link, cx, |cx| Ok(self.node.poll_transmit(cx))) {
            Poll::Ready(Err(error)) => return Poll::Ready(error),
            Poll::Ready(Ok(has_more)) => has_more,
            Poll::Pending => false,
        };
        if may_be_more || unheard.is_some() || has_more {
            // Others had no turn meanwhile.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Connected<'_> {
    /// Whoever broadcasts may live on.
    fn last(&mut self) -> Option<Revision> {
        let newest = || self.ear.as_ref().map(|ear| ear.newest().newest());
        self.last = self.last.or_else(newest);
        self.last
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.node.handle_disconnected();
    }
}
