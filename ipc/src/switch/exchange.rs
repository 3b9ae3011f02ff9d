//! The primary's part: it passes on what is not for itself.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::budget::{Budget, Cost};
use super::envelope::{Errand, Refusal, open, seal};
use super::mailbox::{Mailbox, Sealed};
use super::routes::{Node, Routes, settled};
use super::{Key, Limits, Peer, Port, Reached, To};
use crate::clock::wall;
use crate::codec::Raw;
use crate::session::Failure;
use crate::tokio::{Endpoint, Receiver, Responder};
use crate::{Arrival, Error, Parcel};

/// What connects all workers, in the process that has a connection to each. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Switch<K> {
    exchange: Arc<Exchange<K>>,
}

impl<K: Key> Default for Switch<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Key> Switch<K> {
    /// Without workers, and with the [limits](Limits) that are the default.
    pub fn new() -> Self {
        Self::with_limits(Limits::new())
    }

    /// Without workers. What they can make this process keep is bounded by these limits.
    pub fn with_limits(limits: Limits) -> Self {
        let mailbox = Arc::new(Mailbox::new(&limits));
        let calls = Budget::new(limits.calls);
        Self { exchange: Arc::new(Exchange { routes: Mutex::default(), mailbox, calls, limits }) }
    }

    /// The primary's own port.
    pub fn port(&self) -> Port<K> {
        Port::of(Arc::clone(&self.exchange))
    }

    /// Adds a worker: it can be reached from now on, and is served by the future, which ends with its connection, after all that it had sent
    /// was brought to the handlers or on its way to others. Dropping the future takes the worker off as well.
    pub fn attach(&self, key: K, endpoint: Endpoint) -> impl Future<Output = Error> + Send + use<K> {
        let (sender, receiver) = endpoint.split::<[u8], Bytes, Raw>();
        let limits = &self.exchange.limits;
        let (node, outbox) = Node::new(&sender, limits);
        self.exchange.lock().insert(key, node);
        let attached = Attached {
            key,
            exchange: Arc::clone(&self.exchange),
            calls: Budget::new(limits.calls),
            answers: limits.unread(),
        };
        async move {
            let (mut read, mut pump) = (pin!(attached.read(receiver)), pin!(outbox.pump(sender)));
            poll_fn(|cx| {
                let _ = pump.as_mut().poll(cx);
                read.as_mut().poll(cx)
            })
            .await
        }
    }

    /// This worker has that number from now on, and who had it before can be reached by its key alone.
    pub fn assign(&self, slot: u32, key: K) {
        self.exchange.lock().assign(slot, key);
    }

    /// Who has that number.
    pub fn holder(&self, slot: u32) -> Option<K> {
        self.exchange.lock().holder(slot)
    }
}

/// Who there is, and the primary's own handlers.
#[derive(Debug)]
pub(super) struct Exchange<K> {
    routes: Mutex<Routes<K>>,
    pub(super) mailbox: Arc<Mailbox<K>>,
    /// Room for what the primary has asked and is not answered.
    pub(super) calls: Budget,
    limits: Limits,
}

impl<K: Key> Exchange<K> {
    /// A panic elsewhere leaves the routes whole: nothing calls out while they are being changed.
    fn lock(&self) -> MutexGuard<'_, Routes<K>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn find(&self, to: &To<K>) -> Result<Node<K>, Refusal> {
        self.lock().find(to).cloned().ok_or(Refusal::Unreachable)
    }

    /// Waits until the sockets have taken all that is on its way.
    pub(super) async fn flush(&self) {
        let senders = self.lock().senders();
        for sender in senders {
            // One that has gone needs nothing more.
            let _ = sender.flush().await;
        }
    }

    /// Puts a letter to all workers but its sender on its way.
    pub(super) fn broadcast(&self, from: Peer<K>, sealed: &Bytes) -> Reached<K> {
        let routes = self.lock();
        let mut reached = Reached { workers: 0, missed: Vec::new() };
        for (key, node) in routes.all().filter(|(key, _)| Peer::Worker(*key) != from) {
            match node.try_post(sealed.clone(), Vec::new()) {
                Ok(_) => reached.workers += 1,
                Err(Refusal::NotTaken) => reached.missed.push(key),
                // It has just gone.
                Err(_) => {}
            }
        }
        reached
    }
}

/// A worker while it is connected.
#[derive(Debug)]
struct Attached<K: Key> {
    key: K,
    exchange: Arc<Exchange<K>>,
    /// Room for what it has asked and is not answered.
    calls: Budget,
    /// Room for answers that it does not read.
    answers: Budget,
}

impl<K: Key> Drop for Attached<K> {
    fn drop(&mut self) {
        self.exchange.lock().remove(self.key);
    }
}

impl<K: Key> Attached<K> {
    /// Reads what the worker sends until its connection ends. What it has asked for and is not answered is dropped then.
    async fn read(&self, mut receiver: Receiver<Bytes, Raw>) -> Error {
        let mut running = JoinSet::new();
        loop {
            // Those that are done make room for others.
            while running.try_join_next().is_some() {}
            match receiver.next().await {
                Ok(Some(Arrival::Message(parcel))) => match open::<Errand<K>>(&parcel.value) {
                    Ok((_, sent_at, body)) => {
                        self.exchange.mailbox.deliver(self.sealed(sent_at, body, parcel.descriptors)).await;
                    }
                    Err(_) => self.exchange.mailbox.lose(),
                },
                Ok(Some(Arrival::Request(parcel, responder))) => {
                    self.run(parcel, responder, &mut running).await;
                }
                Ok(Some(Arrival::Gap { .. })) | Err(Error::Missed { .. }) => {}
                Ok(None) => return Error::PeerGone,
                Err(error) => return error,
            }
        }
    }

    fn sealed(&self, sent_at: SystemTime, body: Bytes, descriptors: Vec<std::os::fd::OwnedFd>) -> Sealed<K> {
        Sealed { from: Peer::Worker(self.key), sent_at, body, descriptors }
    }

    /// Begins what the worker wants to have done. Letters are queued before this returns, so that they stay in order.
    ///
    /// It waits while the calls that the worker has open take up their room: a port waits for that itself, so that only what comes from
    /// one that doesn't is held up here.
    async fn run(&self, parcel: Parcel<Bytes>, responder: Responder<Raw>, running: &mut JoinSet<()>) {
        let Parcel { value, descriptors } = parcel;
        let from = Peer::Worker(self.key);
        match open::<Errand<K>>(&value) {
            Ok((Errand::Letter(to), sent_at, body)) => {
                let posted = self.exchange.find(&to).and_then(|node| {
                    let sealed = seal(&from, sent_at, &body).map_err(|_| Refusal::NotTaken)?;
                    node.try_post(sealed, descriptors)
                });
                running.spawn(async move {
                    let posted = match posted {
                        Ok(posted) => settled(posted.await),
                        Err(refusal) => Err(refusal),
                    };
                    answer(responder, posted.err(), &[]).await;
                });
            }
            Ok((Errand::Broadcast, sent_at, body)) => {
                let sealed = seal(&from, sent_at, &body);
                let reached = sealed.map(|sealed| self.exchange.broadcast(from, &sealed));
                running.spawn(async move {
                    match reached.and_then(|reached| seal(&reached, wall(), &[])) {
                        Ok(reached) => drop(responder.reply(&reached).await),
                        Err(error) => responder.fail(error.to_string()),
                    }
                });
            }
            Ok((Errand::Call(To::Primary), sent_at, body)) => {
                let share = self.calls.take(Cost::of(&body, &descriptors)).await;
                let (mailbox, answers) = (Arc::clone(&self.exchange.mailbox), self.answers.clone());
                let call = self.sealed(sent_at, body, descriptors);
                running.spawn(async move {
                    let answered = responder.unless_cancelled(mailbox.call(call)).await;
                    drop(share);
                    match answered {
                        Some(Ok(reply)) => pass_answer(&answers, responder, &reply).await,
                        Some(Err(failure)) => responder.failure(failure),
                        None => {}
                    }
                });
            }
            Ok((Errand::Call(to), sent_at, body)) => {
                let share = self.calls.take(Cost::of(&body, &descriptors)).await;
                let (node, answers) = (self.exchange.find(&to), self.answers.clone());
                running.spawn(async move {
                    match (node, seal(&from, sent_at, &body)) {
                        (Ok(node), Ok(sealed)) => {
                            let asked = node.ask(from, &sealed, descriptors, None);
                            let answered = responder.unless_cancelled(asked).await;
                            drop(share);
                            match answered {
                                Some(Ok(reply)) => pass_answer(&answers, responder, &reply).await,
                                Some(Err(Error::Failed(failure))) => responder.failure(failure),
                                Some(Err(Error::PeerGone | Error::Closed)) => {
                                    answer(responder, Some(Refusal::Gone), &[]).await;
                                }
                                Some(Err(error)) => responder.fail(error.to_string()),
                                None => {}
                            }
                        }
                        (Err(refusal), _) => answer(responder, Some(refusal), &[]).await,
                        (_, Err(error)) => responder.fail(error.to_string()),
                    }
                });
            }
            Err(error) => responder.failure(Failure::Undecodable { reason: error.to_string() }),
        }
    }
}

/// Brings an answer to the worker that asked, if not too much of that waits for it already.
async fn pass_answer(answers: &Budget, responder: Responder<Raw>, reply: &[u8]) {
    match answers.try_take(Cost::of(reply, &[])) {
        // Kept until the worker has room for it.
        Some(_share) => answer(responder, None, reply).await,
        None => answer(responder, Some(Refusal::AnswerNotTaken), &[]).await,
    }
}

async fn answer(responder: Responder<Raw>, refusal: Option<Refusal>, body: &[u8]) {
    match seal(&refusal, wall(), body) {
        // Whoever asked may be gone: nobody needs it then.
        Ok(sealed) => drop(responder.reply(&sealed).await),
        Err(error) => responder.fail(error.to_string()),
    }
}
