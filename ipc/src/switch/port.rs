//! What a process sends and is reached by.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::budget::{Budget, Cost};
use super::envelope::{Errand, Refusal, open, seal};
use super::exchange::Exchange;
use super::mailbox::{Answerer, Mailbox, Pending, Sealed};
use super::routes::until;
use super::{Key, Letter, Letters, Limits, Peer, Reached, To};
use crate::clock::wall;
use crate::codec::{Decode, Postcard, Raw};
use crate::events::{Call, Event, answer, named};
use crate::session::Failure;
use crate::tokio::{Endpoint, Receiver, Sender};
use crate::{Arrival, DEFAULT_REQUEST_TIMEOUT, Error};

/// Sends to the other processes, asks them, and has handlers for what they send. Cheap to clone; all clones share the handlers.
///
/// A worker's connection ends when its last port and the future that serves it are dropped.
#[derive(Debug)]
pub struct Port<K> {
    way: Way<K>,
    mailbox: Arc<Mailbox<K>>,
    /// Room for what is asked and not answered.
    calls: Budget,
    timeout: Option<Duration>,
}

/// How it gets to the others.
#[derive(Debug)]
enum Way<K> {
    /// By way of the primary.
    Worker(Sender<[u8], Raw>),
    /// Directly.
    Primary(Arc<Exchange<K>>),
}

impl<K> Clone for Way<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Worker(sender) => Self::Worker(sender.clone()),
            Self::Primary(exchange) => Self::Primary(Arc::clone(exchange)),
        }
    }
}

impl<K> Clone for Port<K> {
    fn clone(&self) -> Self {
        Self {
            way: self.way.clone(),
            mailbox: Arc::clone(&self.mailbox),
            calls: self.calls.clone(),
            timeout: self.timeout,
        }
    }
}

impl<K: Key> Port<K> {
    /// A worker's port, over its connection to the primary, with the [limits](Limits) that are the default. What comes is read by the future,
    /// which ends with the connection; nothing comes in while it is not polled.
    pub fn new(endpoint: Endpoint) -> (Self, impl Future<Output = Error> + Send + use<K>) {
        Self::with_limits(endpoint, Limits::new())
    }

    /// The same, with bounds of one's own for what the others can make this process keep. Calls wait here for their room by the same
    /// limits as in the [switch](super::Switch::with_limits): one with less room there stops reading instead.
    pub fn with_limits(
        endpoint: Endpoint,
        limits: Limits,
    ) -> (Self, impl Future<Output = Error> + Send + use<K>) {
        let (sender, receiver) = endpoint.split::<[u8], Bytes, Raw>();
        let mailbox = Arc::new(Mailbox::new(&limits));
        let serving = read(receiver, Arc::clone(&mailbox), limits.asked());
        let calls = Budget::new(limits.calls);
        (Self { way: Way::Worker(sender), mailbox, calls, timeout: DEFAULT_REQUEST_TIMEOUT }, serving)
    }

    pub(super) fn of(exchange: Arc<Exchange<K>>) -> Self {
        let (mailbox, calls) = (Arc::clone(&exchange.mailbox), exchange.calls.clone());
        Self { way: Way::Primary(exchange), mailbox, calls, timeout: DEFAULT_REQUEST_TIMEOUT }
    }

    /// How long requests wait for an answer, and a worker's letters for room at another one; `None`: until it comes, or whom it is for is gone.
    /// Default: 5 s. Other clones keep theirs.
    #[must_use]
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Sends a message, and waits until whom it is for has room for it.
    ///
    /// To another worker it goes once; if the future is dropped, or times out, it may or may not go.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`] when there is nobody of that name, [`Error::Gone`] when it ended meanwhile; from a worker to another one
    /// [`Error::NotTaken`] when as much waits for that one already as [may](Limits::outbox), and [`Error::TimedOut`] when it had no room
    /// in time; [`Error::PeerGone`] when the primary is gone; [`Error::Encode`], [`Error::TooLarge`].
    pub async fn send<E: Event>(&self, to: impl Into<To<K>>, message: &E) -> Result<(), Error> {
        self.send_with(to, message, Vec::new()).await
    }

    /// The same with descriptors attached: at most 253. They are closed here once they are on their way, and on an error.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn send_with<E: Event>(
        &self,
        to: impl Into<To<K>>,
        message: &E,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Error> {
        let (to, body, sent_at) = (to.into(), named(message)?, wall());
        match (&self.way, &to) {
            (Way::Worker(sender), To::Primary) => {
                sender.send_with(&seal(&Errand::Letter(to), sent_at, &body)?, descriptors).await
            }
            (Way::Worker(sender), _) => {
                let sealed = seal(&Errand::Letter(to), sent_at, &body)?;
                // The primary answers when the other worker has room.
                let client = sender.client::<Bytes>().timeout(self.timeout);
                let (reply, _) = client.request_with(&sealed, descriptors).await?;
                unless_refused(&reply, &to).map(drop)
            }
            (Way::Primary(_), To::Primary) => {
                self.mailbox.deliver(Sealed { from: Peer::Primary, sent_at, body, descriptors }).await;
                Ok(())
            }
            (Way::Primary(exchange), _) => {
                let sealed = seal(&Peer::<K>::Primary, sent_at, &body)?;
                let node = exchange.find(&to).map_err(|refusal| refusal.of(&to))?;
                node.post(sealed, descriptors).await.map_err(|refusal| refusal.of(&to))
            }
        }
    }

    /// Sends a message to all workers but this one, and returns who was passed over. It doesn't wait for those who are slow: for whom as much
    /// waits already as [may](Limits::outbox), does not get it.
    ///
    /// # Errors
    ///
    /// [`Error::PeerGone`] when the primary is gone, [`Error::TimedOut`]; [`Error::Encode`], [`Error::TooLarge`].
    pub async fn broadcast<E: Event>(&self, message: &E) -> Result<Reached<K>, Error> {
        let body = named(message)?;
        match &self.way {
            Way::Worker(sender) => {
                let sealed = seal(&Errand::<K>::Broadcast, wall(), &body)?;
                let client = sender.client::<Bytes>().timeout(self.timeout);
                open(&client.request(&sealed).await?).map(|(reached, ..)| reached)
            }
            Way::Primary(exchange) => {
                let sealed = seal(&Peer::<K>::Primary, wall(), &body)?;
                Ok(exchange.broadcast(Peer::Primary, &sealed))
            }
        }
    }

    /// Waits until the kernel has all that was sent from here: then it arrives even if this process dies at once. What goes to another worker
    /// by way of the primary arrives there if the primary lives.
    ///
    /// # Errors
    ///
    /// [`Error::PeerGone`] when the primary is gone.
    pub async fn flush(&self) -> Result<(), Error> {
        match &self.way {
            Way::Worker(sender) => sender.flush().await,
            Way::Primary(exchange) => {
                exchange.flush().await;
                Ok(())
            }
        }
    }

    /// Asks, and waits for the reply, for at most 5 s or as [set](Self::timeout). Waiting for [room](Limits::calls) is part of that time, where
    /// this process has asked much already. Dropping the future cancels: the handler is dropped at its next await.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when the handler answered with an error, or there is none; [`Error::TimedOut`]; [`Error::Unreachable`];
    /// [`Error::Gone`] when the worker ended before it answered; [`Error::AnswerNotTaken`] when it answered, and this process had too many
    /// answers to read; [`Error::PeerGone`] when the primary is gone; [`Error::TooLarge`], [`Error::Encode`], [`Error::Decode`].
    pub async fn request<C: Call>(&self, to: impl Into<To<K>>, call: &C) -> Result<C::Reply, Error> {
        let (to, body, sent_at) = (to.into(), named(call)?, wall());
        let cost = Cost::of(&body, &[]);
        let reply = match (&self.way, &to) {
            (Way::Worker(sender), _) => {
                let sealed = seal(&Errand::Call(to), sent_at, &body)?;
                let (_share, rest) = match self.calls.try_take(cost) {
                    Some(share) => (share, self.timeout),
                    None => {
                        let deadline = self.deadline();
                        (until(deadline, self.calls.take(cost)).await?, deadline.map(rest_until))
                    }
                };
                let reply = sender.client::<Bytes>().timeout(rest).request(&sealed).await?;
                unless_refused(&reply, &to)?
            }
            (Way::Primary(_), To::Primary) => {
                let call = Sealed { from: Peer::Primary, sent_at, body, descriptors: Vec::new() };
                let answered = until(self.deadline(), self.mailbox.call(call)).await?;
                answered.map_err(Error::Failed)?.into()
            }
            (Way::Primary(exchange), _) => {
                let node = exchange.find(&to).map_err(|refusal| refusal.of(&to))?;
                let sealed = seal(&Peer::<K>::Primary, sent_at, &body)?;
                let deadline = self.deadline();
                let _share = until(deadline, self.calls.take(cost)).await?;
                let asked = node.ask(Peer::Primary, &sealed, Vec::new(), deadline);
                asked.await.map_err(|error| match error {
                    Error::PeerGone | Error::Closed => Refusal::Gone.of(&to),
                    error => error,
                })?
            }
        };
        Postcard::decode(reply)
    }

    fn deadline(&self) -> Option<Instant> {
        self.timeout.and_then(|timeout| Instant::now().checked_add(timeout))
    }

    /// Calls `handler` for each message of this type, one after the other, in a task of its own. It replaces an earlier handler of the same
    /// name, and gets the letters that have waited for one.
    ///
    /// A handler that panics takes its task with it: the letters of that name wait for another handler then.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn on<E: Event + Send + 'static>(&self, mut handler: impl FnMut(Letter<E, K>) + Send + 'static) {
        let mut letters = self.stream::<E>();
        tokio::spawn(async move {
            while let Some(letter) = letters.recv().await {
                handler(letter);
            }
        });
    }

    /// The messages of this type, to be taken one by one. It replaces an earlier handler of the same name, and begins with the letters that have
    /// waited for one.
    pub fn stream<E: Event>(&self) -> Letters<E, K> {
        Letters::new(Arc::clone(&self.mailbox))
    }

    /// Answers each call of this type: `Ok` with the reply, `Err` with a reason. Each runs in a task of its own, which is dropped at its next
    /// await when who asked has given up. It replaces an earlier handler of the same name.
    pub fn answer<C: Call + Send + 'static>(&self, handler: impl AnswersCall<C, K>) {
        let answerer: Answerer<K> = Arc::new(move |sealed: Sealed<K>| {
            let letter = sealed.read().map_err(|error| Failure::Undecodable { reason: error.to_string() })?;
            let returned = handler.answer(letter);
            Ok(Box::pin(async move { answer(returned.await) }) as Pending)
        });
        self.mailbox.answer(C::NAME, answerer);
    }

    /// Says that all handlers are there: calls that nobody answers are refused at once from now on. Before they wait for their handler, as
    /// long as who asked does.
    pub fn settle(&self) {
        self.mailbox.settle();
    }

    /// How many letters were lost here: nobody handled them and others came, or they could not be read.
    pub fn lost(&self) -> u64 {
        self.mailbox.lost()
    }
}

/// What [`Port::answer`] calls: an async closure that takes a letter and gives `Result<Reply, String>`.
pub trait AnswersCall<C: Call, K>: Send + Sync + 'static {
    /// Answers one.
    fn answer(&self, letter: Letter<C, K>)
    -> impl Future<Output = Result<C::Reply, String>> + Send + 'static;
}

impl<C: Call, K, F, Fut> AnswersCall<C, K> for F
where
    F: Fn(Letter<C, K>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<C::Reply, String>> + Send + 'static,
{
    fn answer(
        &self,
        letter: Letter<C, K>,
    ) -> impl Future<Output = Result<C::Reply, String>> + Send + 'static {
        self(letter)
    }
}

fn rest_until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// The answer behind its head, unless that says why there is none.
fn unless_refused<K: Key>(reply: &Bytes, to: &To<K>) -> Result<Bytes, Error> {
    match open::<Option<Refusal>>(reply)? {
        (None, _, body) => Ok(body),
        (Some(refusal), ..) => Err(refusal.of(to)),
    }
}

/// Brings what the primary passes on to the handlers, until the connection ends.
async fn read<K: Key>(mut receiver: Receiver<Bytes, Raw>, mailbox: Arc<Mailbox<K>>, asked: Budget) -> Error {
    let sealed = |parcel: crate::Parcel<Bytes>| {
        let (from, sent_at, body) = open::<Peer<K>>(&parcel.value)?;
        Ok::<_, Error>(Sealed { from, sent_at, body, descriptors: parcel.descriptors })
    };
    let mut running = JoinSet::new();
    loop {
        // Those that are done make room for others.
        while running.try_join_next().is_some() {}
        match receiver.next().await {
            Ok(Some(Arrival::Message(parcel))) => match sealed(parcel) {
                Ok(letter) => mailbox.deliver(letter).await,
                Err(_) => mailbox.lose(),
            },
            Ok(Some(Arrival::Request(parcel, responder))) => match sealed(parcel) {
                Ok(call) => {
                    let mailbox = Arc::clone(&mailbox);
                    // The primary passes on no more than there is room for, unless its limits are others.
                    let share = asked.take(call.cost()).await;
                    running.spawn(async move {
                        let answered = responder.unless_cancelled(mailbox.call(call)).await;
                        drop(share);
                        match answered {
                            // The primary may be gone by now: the next turn will tell.
                            Some(Ok(reply)) => drop(responder.reply(&reply[..]).await),
                            Some(Err(failure)) => responder.failure(failure),
                            None => {}
                        }
                    });
                }
                Err(error) => responder.failure(Failure::Undecodable { reason: error.to_string() }),
            },
            Ok(Some(Arrival::Gap { .. })) | Err(Error::Missed { .. }) => {}
            Ok(None) => return Error::PeerGone,
            Err(error) => return error,
        }
    }
}
