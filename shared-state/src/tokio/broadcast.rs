//! What all who listen are told at once, beside their links.

use std::fmt::Debug;
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

/// One who listens: the other side of a [`Broadcast`], and of a [`Bell`]. The [newest](Newest::newest) revision is that of the last
/// message that was published.
pub trait Listen: Newest {
    /// The message of that revision.
    fn read(&self, revision: Revision) -> Heard;

    /// Has that task woken when the bell rings, from now on: each ring wakes the last task that was given here.
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
