//! What workers say and ask, and the answers.

use std::os::fd::OwnedFd;
use std::time::Instant;

use cluster_balancer::Classes;
use cluster_ipc::{Frame, Kind, Online};
use cluster_supervisor::WorkerId;
use serde::Serialize;

use super::Core;
use crate::acceptor::Command;
use crate::event::Event;
use crate::wire::{self, ListenReply, Request, ToPrimary};
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
                tracing::warn!(slot = id.slot(), kind = ?other, "worker {id} sent a frame of a kind it should not");
                return;
            }
        };
        if let Err(error) = handled {
            tracing::warn!(slot = id.slot(), %error, "worker {id} sent what cannot be understood");
        }
    }

    fn handle_message(&mut self, id: WorkerId, message: &ToPrimary, now: Instant) {
        let Some(link) = self.links.get_mut(&id) else { return };
        match message {
            ToPrimary::Accepting { listener, capacity } => {
                link.listeners = link.listeners.with(*listener);
                link.capacity = (*capacity).max(1);
                self.readmit(id);
            }
            ToPrimary::Dropped { listener } => {
                link.listeners = link.listeners.without(*listener);
                if link.listeners.is_empty() {
                    self.acceptor.command(Command::Withdraw { worker: id });
                } else {
                    self.readmit(id);
                }
            }
            ToPrimary::Ready => self.supervisor.handle_ready(id, now),
            ToPrimary::Readiness(is_ready) => self.handle_readiness(id, *is_ready, now),
            ToPrimary::Gauges(gauges) => self.handle_gauges(id, gauges, now),
            ToPrimary::Leaving => {
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
            Request::Status => self.reply(id, request_id, &self.status(now), None),
        }
    }

    fn handle_listen(&mut self, id: WorkerId, request_id: u64, listen: &Listen, nth: u32) -> Result<()> {
        let (reply, copy): (ListenReply, _) = match self.listeners.listen(listen, nth, id.slot()) {
            Ok(answer) => {
                let listener = answer.granted.listener;
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
