//! What all who listen are told at once, beside their links.

use std::fmt::Debug;
use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;

use crate::Revision;
use crate::map::Newest;

/// Says the same to all who listen: keeps the newest messages where each can read them. Given to
/// [`Hub::broadcasting`](super::Hub::broadcasting).
pub trait Broadcast: Debug + Send {
    /// Whoever listens can read this from now on as the message of this revision. Revisions rise; where one is left out, those
    /// before it are of no use any more.
    ///
    /// The hub is locked meanwhile: be short. What is not kept (it may be too long) [was missed](Heard::Missed).
    fn publish(&mut self, revision: Revision, message: &[u8]);
}

/// Wakes one who listens. Each link to one has its own.
pub trait Bell: Debug + Send + Sync {
    /// There is something new. Never waits; rings that were not heard yet may be one.
    fn ring(&self);
}

/// One who listens: the other side of a [`Broadcast`], and of a [`Bell`].
pub trait Listen: Debug + Send + Sync {
    /// What knows the revision of the last message that was published. By itself: it is asked at each read, and states of the map have
    /// it for as long as somebody views them.
    fn newest(&self) -> Arc<dyn Newest>;

    /// The message of that revision.
    fn read(&self, revision: Revision) -> Heard;

    /// Has that task woken when the bell rings, from now on: each ring wakes the last task that was given here. (Nothing is locked
    /// meanwhile: the former one's waker may end here.)
    fn wake_when_rung(&self, cx: &mut Context<'_>);
}

/// What came of listening for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Heard {
    /// This.
    Message(Bytes),
    /// It was not published yet.
    NotYet,
    /// It can't be had any more.
    Missed,
}
