//! The way to one worker: its data channel and its board.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use cluster_ipc::board::{Figures, PrimaryBoard, Ticket, TicketState};
use cluster_ipc::{Channel, Handed, Kind};
use mio::{Interest, Registry, Token};

use crate::wire::{Batch, Offer};
use crate::{Address, Error};

/// How many bells are heard in one go, so that a worker that only rings cannot keep the acceptor from its work.
const BELLS: usize = 64;

/// An accepted connection that no worker has taken: the primary's copy of it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: OwnedFd,
    pub(super) peer: Address,
    pub(super) listener: u8,
}

/// What came of listening for the bell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bell {
    /// All was heard.
    Heard,
    /// There is more.
    More,
    /// The worker has closed its end, or broke the protocol; its exit will be reported, or it
    /// will be found hung.
    Gone,
}

#[derive(Debug)]
pub(super) struct Lane {
    channel: Channel,
    board: Arc<PrimaryBoard>,
}

impl Lane {
    pub(super) fn new(
        mut channel: Channel,
        board: Arc<PrimaryBoard>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        registry.register(&mut channel, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { channel, board })
    }

    /// Sends connections with their tickets. The tickets are put up first: the worker may look at once.
    pub(super) fn send(&mut self, batch: &[(Ticket, &Connection)]) -> Result<Handed, Error> {
        let offers = batch
            .iter()
            .map(|(ticket, connection)| Offer::new(connection.listener, *ticket, connection.peer.ip()));
        let payload = Batch { offers: offers.collect() }.encode()?;
        let descriptors: Vec<BorrowedFd<'_>> =
            batch.iter().map(|(_, connection)| connection.stream.as_fd()).collect();
        for (ticket, _) in batch {
            self.board.offer(*ticket);
        }
        Ok(self.channel.send_borrowed(Kind::Message, 0, &payload, &descriptors)?)
    }

    /// Finishes a frame that was sent in part. `true` when there is room for more.
    pub(super) fn flush(&mut self) -> bool {
        matches!(self.channel.flush(), Ok(true))
    }

    pub(super) fn listen_for_bell(&mut self) -> Bell {
        for _ in 0..BELLS {
            match self.channel.poll_frame() {
                Ok(Some(_)) => {}
                Ok(None) => return Bell::Heard,
                Err(_) => return Bell::Gone,
            }
        }
        Bell::More
    }

    pub(super) fn want_bell(&self, wanted: bool) {
        self.board.want_doorbell(wanted);
    }

    pub(super) fn recall(&self, ticket: Ticket) -> TicketState {
        self.board.recall(ticket)
    }

    pub(super) fn state(&self, ticket: Ticket) -> TicketState {
        self.board.state(ticket)
    }

    pub(super) fn figures(&self) -> Figures {
        self.board.figures()
    }
}
