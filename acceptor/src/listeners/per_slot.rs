//! One socket per slot on one port.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::bind;
use crate::listen::Listen;
use crate::reuseport::{Group, Steering};
use crate::socket::ListeningSocket;

/// The sockets, and who accepts on each: the slot's worker, or the acceptor while that one is dead, hangs, backs off or leaves.
#[derive(Debug)]
pub(super) struct PerSlot {
    group: Group,
    slots: BTreeSet<u32>,
    /// Whose sockets the acceptor has.
    orphans: BTreeSet<u32>,
    /// Where new connections are steered, as far as anybody said.
    steered: Option<BTreeSet<u32>>,
    warned: bool,
}

/// A socket on which the acceptor shall accept, or no longer.
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, reason = "complete by nature; made to be matched")]
pub enum Orphan {
    /// Nobody else does.
    Adopt {
        /// Of which listener.
        listener: u8,
        /// Whose it is; `None` if it is all workers'.
        slot: Option<u32>,
        /// A copy of it.
        socket: ListeningSocket,
    },
    /// The slot's worker does again.
    Release {
        /// Of which listener.
        listener: u8,
        /// Whose.
        slot: u32,
    },
}

impl PerSlot {
    pub(super) fn bind(address: SocketAddr, listen: &Listen, slot: u32) -> io::Result<Self> {
        let group = Group::bind(address, bind::backlog(listen), listen.only_v6, [slot])?;
        let (slots, orphans) = (BTreeSet::from([slot]), BTreeSet::new());
        Ok(Self { group, slots, orphans, steered: None, warned: false })
    }

    /// The real one.
    pub(super) fn address(&self) -> SocketAddr {
        self.group.address()
    }

    /// A copy of the socket of a slot, for its worker. A successor gets the same socket as its predecessor.
    pub(super) fn copy(&mut self, slot: u32) -> io::Result<OwnedFd> {
        if self.slots.insert(slot)
            && let Err(error) = self.group.add(slot)
        {
            self.slots.remove(&slot);
            return Err(error);
        }
        self.group.socket(slot).ok_or(Errno::BADF)?.try_clone_to_owned()
    }

    /// Steers new connections to the slots whose worker `is_well`, if these are others than before. Returns the sockets that change
    /// hands.
    pub(super) fn steer(&mut self, listener: u8, is_well: impl Fn(u32) -> bool) -> Vec<Orphan> {
        let (well, rest): (BTreeSet<u32>, BTreeSet<u32>) =
            self.slots.iter().partition(|slot| is_well(**slot));
        if self.steered.as_ref() != Some(&well) {
            let steering = self.group.steer(well.iter().copied());
            self.report(steering);
            self.steered = Some(well);
        }
        let mut changes = Vec::new();
        for slot in rest.difference(&self.orphans) {
            // Without a descriptor for it connections wait for the slot's next worker.
            if let Some(socket) = self.group.socket(*slot).and_then(|socket| socket.try_clone_to_owned().ok())
            {
                changes.push(Orphan::Adopt { listener, slot: Some(*slot), socket: socket.into() });
            }
        }
        changes.extend(self.orphans.difference(&rest).map(|slot| Orphan::Release { listener, slot: *slot }));
        self.orphans = rest;
        changes
    }

    /// Where connections can't be steered, those for a slot without a worker make a detour by the acceptor.
    fn report(&mut self, steering: io::Result<Steering>) {
        let error = match steering {
            Ok(Steering::InForce) => return,
            Ok(Steering::Unsupported(error)) | Err(error) => error,
        };
        if !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(address = %self.address(), %error, "connections cannot be steered away from workers that are gone: the primary hands theirs to others");
        }
    }
}
