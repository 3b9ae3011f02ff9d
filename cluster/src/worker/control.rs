//! The worker's end of the control channel.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cluster_acceptor::worker::{Deadlines, Gate, Intake};
use cluster_ipc::tokio::Channel;
use cluster_ipc::{Frame, Kind};
use cluster_supervisor::WorkerId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::Instrument;

use crate::wire::{self, ToPrimary, ToWorker};
use crate::{Error, Result};

/// Messages and requests that may wait for the control task.
const OUTGOING: usize = 64;

/// How long a request waits for the primary's answer.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// What the primary answered, and the descriptors that came with it.
type Answer = (Bytes, Vec<OwnedFd>);

/// Talks to the control task from anywhere in the worker.
#[derive(Clone, Debug)]
pub(super) struct Control {
    outgoing: mpsc::Sender<Outgoing>,
}

#[derive(Debug)]
enum Outgoing {
    Message(Vec<u8>),
    Request(Vec<u8>, oneshot::Sender<Answer>),
}

impl Control {
    /// Starts the task that owns the channel.
    pub(super) fn start(
        id: WorkerId,
        channel: Channel,
        gate: Arc<Gate>,
        intake: Arc<Intake>,
        deadlines: Deadlines,
    ) -> Self {
        let (outgoing, queue) = mpsc::channel(OUTGOING);
        tokio::spawn(attend(channel, queue, gate, intake, deadlines).instrument(super::span::span(id)));
        Self { outgoing }
    }

    /// Whether nothing gets to the primary any more.
    pub(super) fn is_closed(&self) -> bool {
        self.outgoing.is_closed()
    }

    pub(super) async fn send(&self, message: &ToPrimary) -> Result<()> {
        let bytes = wire::encode(message)?;
        self.outgoing.send(Outgoing::Message(bytes)).await.map_err(|_| Error::PrimaryGone)
    }

    /// The same from any thread, at once or not at all: returns whether the message is on its way.
    pub(super) fn try_send(&self, message: &ToPrimary) -> bool {
        wire::encode(message).is_ok_and(|bytes| self.outgoing.try_send(Outgoing::Message(bytes)).is_ok())
    }

    /// The same from where nothing can be awaited.
    pub(super) fn send_later(&self, message: &ToPrimary) {
        let (Ok(bytes), Ok(runtime)) = (wire::encode(message), tokio::runtime::Handle::try_current()) else {
            return tracing::debug!(?message, "not said: the runtime is gone");
        };
        // Otherwise it is said, in its turn; or the primary is gone, and need not know.
        let Err(TrySendError::Full(message)) = self.outgoing.try_send(Outgoing::Message(bytes)) else {
            return;
        };
        let outgoing = self.outgoing.clone();
        runtime.spawn(async move { outgoing.send(message).await });
    }

    pub(super) async fn request<T: DeserializeOwned>(&self, request: &impl Serialize) -> Result<T> {
        let answer = timeout(REQUEST_TIMEOUT, self.request_with_descriptors(request)).await;
        let answer = answer.map_err(|_| Error::Timeout { within: REQUEST_TIMEOUT })?;
        answer.map(|(reply, _)| reply)
    }

    /// The same, and waits for as long as it takes.
    pub(super) async fn request_with_descriptors<T: DeserializeOwned>(
        &self,
        request: &impl Serialize,
    ) -> Result<(T, Vec<OwnedFd>)> {
        let bytes = wire::encode(request)?;
        let (reply, answer) = oneshot::channel();
        self.outgoing.send(Outgoing::Request(bytes, reply)).await.map_err(|_| Error::PrimaryGone)?;
        let (bytes, descriptors) = answer.await.map_err(|_| Error::PrimaryGone)?;
        Ok((wire::decode(&bytes)?, descriptors))
    }
}

/// Runs until the primary is gone; then starts the drain, so that the application ends.
async fn attend(
    mut channel: Channel,
    mut queue: mpsc::Receiver<Outgoing>,
    gate: Arc<Gate>,
    intake: Arc<Intake>,
    deadlines: Deadlines,
) {
    let mut pending: HashMap<u64, oneshot::Sender<Answer>> = HashMap::new();
    let mut next_id = 1;
    loop {
        tokio::select! {
            Some(outgoing) = queue.recv() => {
                pending.retain(|_, reply| !reply.is_closed());
                send(&mut channel, outgoing, &mut pending, &mut next_id);
            }
            frame = channel.recv() => match frame {
                Ok(mut frame) if frame.kind() == Kind::Reply => {
                    if let Some(reply) = pending.remove(&frame.id()) {
                        // Whoever asked may have stopped waiting.
                        let _ = reply.send((frame.payload().clone(), frame.take_descriptors()));
                    }
                }
                Ok(frame) => match wire::decode(frame.payload()) {
                    Ok(ToWorker::Drain) => {
                        intake.withdraw();
                        let gate = Arc::clone(&gate);
                        tokio::spawn(async move { gate.leave_within(deadlines).await });
                    }
                    Err(error) => tracing::warn!(%error, "ignored a message of the primary"),
                },
                Err(error) => {
                    tracing::debug!(%error, "the control channel has ended");
                    break;
                }
            },
        }
    }
    // Whoever asks, or has asked, is told at once.
    drop((pending, queue));
    // What has arrived is still served: the copies here are the only ones now.
    gate.leave_within(deadlines).await;
}

fn send(
    channel: &mut Channel,
    outgoing: Outgoing,
    pending: &mut HashMap<u64, oneshot::Sender<Answer>>,
    next_id: &mut u64,
) {
    let frame = match outgoing {
        Outgoing::Message(bytes) => Frame::new(Kind::Message, 0, bytes),
        Outgoing::Request(bytes, reply) => {
            let id = *next_id;
            *next_id += 1;
            pending.insert(id, reply);
            Frame::new(Kind::Request, id, bytes)
        }
    };
    if let Err(error) = channel.try_send(frame) {
        tracing::warn!(%error, "a message to the primary was lost");
    }
}
