//! What a worker accepts connections from.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::direct::Direct;
use super::drain::Phase;
use super::intake::{Intake, Queue};
use super::stream::Stream;
use crate::{Address, Granted, Mode};

/// How long accepting pauses when the system has nothing left to accept with.
const PAUSE: Duration = Duration::from_millis(100);

/// A listening address of a worker, from which it takes connections: those that are handed over, and where the worker accepts itself,
/// those too.
///
/// Dropping it says that no more are wanted: those on their way go to other workers.
#[derive(Debug)]
pub struct Listener {
    granted: Granted,
    /// Connections that are handed over; absent where nobody does.
    handed: Option<Arc<Queue>>,
    /// A socket on which this process accepts by itself.
    direct: Option<Direct>,
    intake: Arc<Intake>,
}

impl Listener {
    /// One that the primary has granted, with the socket that came with it, if one did.
    ///
    /// # Errors
    ///
    /// When the runtime can't watch the socket.
    ///
    /// # Panics
    ///
    /// With a socket, outside a tokio runtime with I/O enabled.
    pub fn new(intake: Arc<Intake>, granted: Granted, socket: Option<OwnedFd>) -> io::Result<Self> {
        let direct = socket.map(|socket| Direct::new(socket, &granted.address)).transpose()?;
        let handed = Some(intake.open(granted.listener, granted.address.clone()));
        Ok(Self { granted, handed, direct, intake })
    }

    /// One of a process that has no primary: nothing is handed over, and it accepts until it [drains](Phase::Draining).
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    pub fn alone(intake: Arc<Intake>, granted: Granted, socket: OwnedFd) -> io::Result<Self> {
        let direct = Some(Direct::new(socket, &granted.address)?);
        Ok(Self { granted, handed: None, direct, intake })
    }

    /// The address, with the real port where 0 was asked for.
    pub fn local_addr(&self) -> &Address {
        &self.granted.address
    }

    /// How connections come here.
    pub fn mode(&self) -> Mode {
        self.granted.mode
    }

    /// Its number, the same for all workers.
    pub fn number(&self) -> u8 {
        self.granted.listener
    }

    /// Waits for the next connection and takes it. `None` once the worker drains. Cancel-safe: a connection is taken only when it is
    /// returned.
    pub async fn accept(&self) -> Option<(Stream, Address)> {
        let Some(handed) = &self.handed else {
            return tokio::select! {
                accepted = self.accept_directly(Phase::Draining) => Some(accepted),
                () = self.intake.gate().reached(Phase::Draining) => None,
            };
        };
        if self.direct.is_none() {
            return self.intake.accept(handed).await;
        }
        let accept_directly = async {
            tokio::select! {
                accepted = self.accept_directly(Phase::Leaving) => accepted,
                // From then on others accept, on the same socket.
                () = self.intake.gate().reached(Phase::Leaving) => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = accept_directly => Some(accepted),
            handed = self.intake.accept(handed) => handed,
        }
    }

    /// Accepts until the worker has come so far on its way out.
    async fn accept_directly(&self, until: Phase) -> (Stream, Address) {
        let Some(direct) = &self.direct else { return std::future::pending().await };
        let mut place = self.intake.place().await;
        loop {
            // Counted before it is accepted: a drain that begins in between would end a connection that nobody has read from.
            let accept = |cx: &mut Context<'_>| {
                let Some(pass) = self.intake.gate().enter_before(until) else { return Poll::Pending };
                direct.poll_accept(cx).map_ok(|(io, peer)| (io, peer, pass))
            };
            match poll_fn(accept).await {
                Ok((io, peer, pass)) => {
                    return (self.intake.take_accepted(io, pass, place.take()), peer);
                }
                Err(error) => {
                    // No descriptors, or a connection that ended before it was accepted.
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.handed.is_some() {
            self.intake.close(self.granted.listener);
        }
    }
}
