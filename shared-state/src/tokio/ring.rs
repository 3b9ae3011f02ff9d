//! A ring of `cluster_ipc` as a broadcast, and how its memory and bells come to those who listen.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;
use cluster_ipc::ring::{Read, Reader, Writer};
use cluster_ipc::tokio::Hearing;
use cluster_ipc::{Error, Frame, Kind, Socket};

use super::broadcast::{self, Heard, Listen};
use super::ipc::{self, Pieces};
use crate::Revision;
use crate::map::Newest;

/// How many of the newest commits are there to be heard, and bytes of them: a tenth of a second of the fastest writes. Who was stopped
/// for longer gets what he missed over his link.
const MESSAGES: usize = 1 << 14;
const BYTES: usize = 4 << 20;

/// The id of the frame that brings memory and bell, before all others.
const OFFER: u64 = 2;

/// A broadcast in memory that all replicas on this machine read: the first is for [`Hub::broadcasting`](super::Hub::broadcasting), the
/// second for the link to each ([`offer`]). 4 MiB at most, used as it is written.
///
/// # Errors
///
/// [`Error::Os`].
///
/// ```
/// use cluster_shared_state::tokio::{Hub, SharedState, ipc};
/// use cluster_shared_state::{ClientId, Epoch, Limits, PublisherConfig, ReplicaConfig};
/// use cluster_ipc::Socket;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (broadcast, ring) = ipc::broadcast()?;
/// let hub = Hub::broadcasting(Epoch::new(1), PublisherConfig::new(), broadcast);
/// let (here, there) = Socket::pair()?; // `there` goes to another process.
/// let anna = ClientId::new(0, 1);
/// let (link, bell) = ipc::offer(here, ipc::max_request(&Limits::new()), &ring)?;
/// tokio::spawn(hub.serve_listening(anna, link, bell));
///
/// let (state, mut follower) = SharedState::new(anna, ReplicaConfig::new());
/// tokio::spawn(async move {
///     let (link, listening) = ipc::accept(there).await?;
///     follower.follow_listening(link, listening).await;
///     Ok::<_, cluster_ipc::Error>(())
/// });
/// state.live().await?;
///
/// hub.execute(cluster_shared_state::Command::put("greeting", "hello"))?;
/// // Read at once, and seen.
/// # let mut tuned = state.get("greeting").is_some();
/// # while !tuned { tokio::task::yield_now().await; tuned = state.get("greeting").is_some(); }
/// assert_eq!(state.get("greeting").expect("it was put").value, "hello");
/// # Ok(()) }
/// ```
pub fn broadcast() -> Result<(Broadcast, Ring), Error> {
    let writer = Writer::create(MESSAGES, BYTES)?;
    let memory = writer.memory()?;
    Ok((Broadcast { writer }, Ring { memory: Arc::new(memory) }))
}

/// A [link](super::Link) as [`ipc::link`] makes it, to a replica that listens to that ring and [accepts](accept) the other end; and what wakes
/// it.
///
/// # Errors
///
/// As [`ipc::link`]; too many files are open.
///
/// # Panics
///
/// Outside a tokio runtime.
pub fn offer(socket: Socket, max_message: usize, ring: &Ring) -> Result<(Pieces, Bell), Error> {
    let mut link = ipc::link(socket, max_message)?;
    let (bell, hearing) = cluster_ipc::ring::Bell::new()?;
    let memory = ring.memory.try_clone().map_err(|source| Error::Os {
        operation: "duplicate the memory of a ring",
        source: Arc::new(source),
    })?;
    let frame = Frame::new(Kind::Message, OFFER, Bytes::new());
    link.begin_with(frame.with_descriptors(vec![memory, hearing]))?;
    Ok((link, Bell { bell }))
}

/// The other end of an [offered](offer) link, and who listens. Waits for what the primary sends first. The primary is trusted: its
/// messages may have any length.
///
/// # Errors
///
/// As [`ipc::link`]; [`Error::OutOfPlace`] if nothing was offered; [`Error::PeerGone`].
///
/// # Panics
///
/// Outside a tokio runtime.
pub async fn accept(socket: Socket) -> Result<(Pieces, Listening), Error> {
    let mut link = ipc::link(socket, usize::MAX)?;
    let mut frame = link.first().await?;
    let descriptors: Result<[OwnedFd; 2], _> = frame.take_descriptors().try_into();
    match descriptors {
        Ok([memory, bell]) if frame.id() == OFFER => {
            let published = Arc::new(Published { reader: Reader::open(memory)? });
            Ok((link, Listening { published, hearing: Hearing::new(bell)? }))
        }
        _ => Err(Error::OutOfPlace { what: "something else, where memory and a bell should be offered" }),
    }
}

/// Writes to the ring.
#[derive(Debug)]
pub struct Broadcast {
    writer: Writer,
}

/// The memory of a ring, for those who will listen.
#[derive(Clone, Debug)]
pub struct Ring {
    memory: Arc<OwnedFd>,
}

/// Wakes one who listens.
#[derive(Debug)]
pub struct Bell {
    bell: cluster_ipc::ring::Bell,
}

/// Reads the ring, and hears the bell.
#[derive(Debug)]
pub struct Listening {
    published: Arc<Published>,
    hearing: Hearing,
}

/// What is in the ring.
#[derive(Debug)]
struct Published {
    reader: Reader,
}

impl broadcast::Broadcast for Broadcast {
    fn publish(&mut self, revision: Revision, message: &[u8]) {
        self.writer.publish(revision.get(), message);
    }
}

impl broadcast::Bell for Bell {
    fn ring(&self) {
        self.bell.ring();
    }
}

impl Newest for Published {
    fn newest(&self) -> Revision {
        Revision::new(self.reader.head())
    }
}

impl Listen for Listening {
    fn newest(&self) -> Arc<dyn Newest> {
        Arc::clone(&self.published) as _
    }

    fn read(&self, revision: Revision) -> Heard {
        let mut message = Vec::new();
        match self.published.reader.read(revision.get(), &mut message) {
            Read::Message => Heard::Message(Bytes::from(message)),
            Read::NotYet => Heard::NotYet,
            _ => Heard::Missed,
        }
    }

    fn wake_when_rung(&self, cx: &mut Context<'_>) {
        self.hearing.wake_when_rung(cx);
    }
}
