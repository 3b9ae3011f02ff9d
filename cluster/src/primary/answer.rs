//! What workers say and ask, and the answers.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use cluster_acceptor::Command;
use cluster_balancer::Classes;
use cluster_ipc::{DEFAULT_MAX_FRAME, Frame, Kind, Online};
use cluster_supervisor::WorkerId;
use serde::Serialize;

use super::Core;
use super::apply::chain;
use crate::event::Event;
use crate::record::about;
use crate::wire::{self, LONGEST_NAME, ListenReply, Request, ToPrimary};
use crate::{Listen, Result};

impl Core {
    /// A worker that says nonsense is ignored, and told about in the log: it harms only itself.
    pub(super) fn handle_frame(&mut self, id: WorkerId, frame: &Frame<OwnedFd>, now: Instant) {
        let handled = match frame.kind() {
            Kind::Online | Kind::Reject => Online::parse(frame).map_err(crate::Error::from).map(|_| {
                self.supervisor.handle_online(id, now);
            }),
            Kind::Message => {
                wire::decode(frame.payload()).map(|message| self.handle_message(id, &message, now))
            }
            Kind::Request => {
                let answered = wire::decode(frame.payload())
                    .and_then(|request| self.handle_request(id, frame.id(), &request, now));
                if answered.is_err() {
                    // Each request has an answer, so that those under way can be counted.
                    self.send_reply(id, frame.id(), Vec::new(), None);
                }
                answered
            }
            other => {
                about!(warn, id, self.pid(id), kind = ?other, "worker {id} sent a frame of a kind it should not");
                return;
            }
        };
        if let Err(error) = handled {
            let error = format!("it sent what cannot be understood: {}", chain(&error));
            self.announce(Event::Error { id, error: error.into() });
        }
    }

    fn handle_message(&mut self, id: WorkerId, message: &ToPrimary, now: Instant) {
        let Some(link) = self.links.get_mut(&id) else { return };
        match message {
            ToPrimary::Accepting { listener, capacity } => {
                link.listeners = link.listeners.with(*listener);
                link.capacity = *capacity;
                self.readmit(id);
            }
            ToPrimary::Dropped { listener } => {
                link.listeners = link.listeners.without(*listener);
                if let Some(asked) = link.asked.get_mut(listener) {
                    *asked = asked.saturating_sub(1);
                    if *asked == 0 {
                        link.asked.remove(listener);
                    }
                }
                if link.listeners.is_empty() {
                    self.acceptor.command(Command::Withdraw { worker: id });
                } else {
                    self.readmit(id);
                }
                self.release_listeners(id.slot(), now);
            }
            ToPrimary::Ready => self.supervisor.handle_ready(id, now),
            ToPrimary::Readiness(is_ready) => self.handle_readiness(id, *is_ready, now),
            ToPrimary::Gauges(gauges) => self.handle_gauges(id, gauges, now),
            ToPrimary::Counter { number, name } if name.len() <= LONGEST_NAME => {
                self.ledger.name(id, *number, name);
            }
            ToPrimary::Counter { .. } => {}
            ToPrimary::Leaving => {
                self.registry.note_terminated(id);
                link.listeners = Classes::none();
                self.acceptor.command(Command::Withdraw { worker: id });
            }
        }
    }

    fn handle_request(
        &mut self,
        id: WorkerId,
        request_id: u64,
        request: &Request,
        now: Instant,
    ) -> Result<()> {
        match request {
            Request::Listen { listen, nth } => self.handle_listen(id, request_id, listen, *nth),
            Request::Leave => {
                self.supervisor.handle_leaving(id, now);
                self.reply(id, request_id, &(), None)
            }
            Request::Status => self.handle_status(id, request_id, now),
        }
    }

    fn handle_status(&mut self, id: WorkerId, request_id: u64, now: Instant) -> Result<()> {
        let mut status = self.status(now);
        let mut bytes = wire::encode(&status)?;
        if bytes.len() > DEFAULT_MAX_FRAME {
            status.workers.iter_mut().for_each(|worker| worker.gauges.clear());
            bytes = wire::encode(&status)?;
        }
        self.send_reply(id, request_id, bytes, None);
        Ok(())
    }

    fn handle_listen(&mut self, id: WorkerId, request_id: u64, listen: &Listen, nth: u32) -> Result<()> {
        let (reply, copy): (ListenReply, _) = match self.listeners.listen(listen, nth, id.slot()) {
            Ok(answer) => {
                let listener = answer.granted.listener;
                if let Some(link) = self.links.get_mut(&id) {
                    let asked = link.asked.entry(listener).or_default();
                    *asked = asked.saturating_add(1);
                }
                if let Some(socket) = answer.accept {
                    self.acceptor.command(Command::Listen { listener, socket });
                }
                self.announce(Event::Listening { id, address: answer.granted.address.clone() });
                (Ok(answer.granted), answer.copy)
            }
            Err(error) => (Err(error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error())), None),
        };
        self.reply(id, request_id, &reply, copy)
    }

    /// Gives up listeners that the slot's workers asked for and want no more. What one that died had asked for stays
    /// until its successor is ready, who may ask for it again.
    pub(super) fn release_listeners(&mut self, slot: u32, now: Instant) {
        let living = || self.links.iter().filter(|(id, _)| id.slot() == slot);
        if self.stopping || !living().any(|(id, _)| self.is_ready(*id)) {
            return;
        }
        let wanted: BTreeSet<u8> = living().flat_map(|(_, link)| link.asked.keys().copied()).collect();
        for listener in self.listeners.held_by(slot) {
            if !wanted.contains(&listener) {
                self.listeners.release(listener, slot, now);
            }
        }
    }

    /// Gives up all listeners that the slot's workers asked for: there will be none any more.
    pub(super) fn release_all_listeners(&mut self, slot: u32) {
        if self.stopping {
            return;
        }
        for listener in self.listeners.abandon(slot) {
            self.acceptor.command(Command::Unlisten { listener });
        }
    }

    /// Closes listeners that nobody has wanted for so long.
    pub(super) fn close_listeners(&mut self, linger: Duration, now: Instant) {
        for listener in self.listeners.expire(linger, now) {
            self.acceptor.command(Command::Unlisten { listener });
        }
    }

    fn reply(
        &self,
        id: WorkerId,
        request_id: u64,
        reply: &impl Serialize,
        descriptor: Option<OwnedFd>,
    ) -> Result<()> {
        self.send_reply(id, request_id, wire::encode(reply)?, descriptor);
        Ok(())
    }

    fn send_reply(&self, id: WorkerId, request_id: u64, bytes: Vec<u8>, descriptor: Option<OwnedFd>) {
        if let Some(link) = self.links.get(&id) {
            let frame = Frame::new(Kind::Reply, request_id, bytes);
            link.send(frame.with_descriptors(descriptor.into_iter().collect()));
        }
    }
}
