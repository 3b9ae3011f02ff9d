//! What a scenario needs of a driver: two ends that can be told what to do, one call after the other.
//!
//! A scenario is a script on one thread. What may have to wait for the other end is therefore begun by one call and
//! awaited by another; a driver sees to it that both ends go on while either is waited for.

use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::Bytes;
use cluster_ipc::session::{Config, Opened};
use cluster_ipc::{Arrival, Error, Lane, Parcel, TrySendError};

use crate::stranger::Stranger;

/// What one side begins with.
#[derive(Debug, Default)]
pub(crate) struct Setup {
    pub(crate) config: Config,
    pub(crate) greeting: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl From<Config> for Setup {
    fn from(config: Config) -> Self {
        Self { config, ..Self::default() }
    }
}

/// A way to move the bytes of a connection.
pub(crate) trait Driver {
    type End: End;

    /// Two connected ends: the parent and the child.
    fn pair(parent: Setup, child: Setup) -> (Self::End, Self::End);

    /// A parent, and somebody at the other end who writes bytes by hand.
    fn parent(setup: Setup) -> (Self::End, Stranger);

    /// A child, and the same.
    fn child(setup: Setup) -> (Self::End, Stranger);
}

/// Two ends with the same limits that know each other.
pub(crate) fn pair<D: Driver>(config: Config) -> (D::End, D::End) {
    pair_with::<D>(config, config)
}

/// Two ends with limits of their own.
pub(crate) fn pair_with<D: Driver>(parent: Config, child: Config) -> (D::End, D::End) {
    let (mut parent, mut child) = D::pair(parent.into(), child.into());
    let (one, other) = End::both_opened(&mut parent, &mut child);
    one.unwrap();
    other.unwrap();
    (parent, child)
}

pub(crate) type Opening = Result<Opened<OwnedFd>, Error>;
pub(crate) type Received<R> = Result<Option<Arrival<Bytes, R>>, Error>;
pub(crate) type Answer = Result<(Bytes, Vec<OwnedFd>), Error>;

/// One end of a connection.
pub(crate) trait End: Sized {
    /// A message on its way out.
    type Sending;
    /// A request of this end.
    type Call;
    /// A request of the other end.
    type Request;

    /// How often a scenario may try again when it matters which of two threads is first.
    const ROUNDS: u32 = 0;

    /// Waits for the handshake.
    fn opened(&mut self) -> Opening;

    /// Waits for the handshake at both ends of a pair.
    fn both_opened(parent: &mut Self, child: &mut Self) -> (Opening, Opening) {
        (parent.opened(), child.opened())
    }

    /// Begins to send; messages go out in the order in which this was called.
    fn begin_send(&mut self, lane: Lane, bytes: &[u8], descriptors: Vec<OwnedFd>) -> Self::Sending;

    /// Waits until the transport has taken the message, or refused it.
    fn sent(&mut self, sending: Self::Sending) -> Result<(), Error>;

    /// Sends only what can go now.
    fn try_send(&mut self, bytes: &[u8]) -> Result<(), TrySendError<Vec<u8>>>;

    /// Does what the driver does by itself while nobody waits: nothing, if it does nothing then.
    fn turn(&mut self);

    /// Waits for what comes next. Asking for it says that the one before has been handled.
    fn recv(&mut self) -> Received<Self::Request>;

    /// Asks for the next when nothing has arrived, and does not wait for it. So what came before has been handled.
    fn nothing_yet(&mut self);

    /// The same as `recv` for one who wants messages only: requests are answered as unhandled.
    fn recv_message(&mut self) -> Result<Option<Bytes>, Error>;

    /// Begins a request.
    fn begin_request(
        &mut self,
        bytes: &[u8],
        descriptors: Vec<OwnedFd>,
        timeout: Option<Duration>,
    ) -> Self::Call;

    /// Waits for the answer.
    fn answer(&mut self, call: Self::Call) -> Answer;

    /// Answers.
    fn reply(&mut self, request: Self::Request, bytes: &[u8], descriptors: Vec<OwnedFd>)
    -> Result<(), Error>;

    /// Answers with an error.
    fn fail(&mut self, request: Self::Request, reason: &str);

    /// Lets a request go without an answer.
    fn let_go(&mut self, request: Self::Request);

    /// Waits until the other end has given up on this request.
    fn until_unwanted(&mut self, request: &Self::Request);

    /// Sends nothing more, but goes on receiving and answering.
    fn finish(&mut self);

    /// Leaves in good order: what was sent is written, and that this was all.
    fn leave(self);

    /// Ends without a word, as a process does that is killed. What the transport has taken is still delivered.
    fn die(self);

    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.send_with(Lane::Data, bytes, Vec::new())
    }

    fn send_with(&mut self, lane: Lane, bytes: &[u8], descriptors: Vec<OwnedFd>) -> Result<(), Error> {
        let sending = self.begin_send(lane, bytes, descriptors);
        self.sent(sending)
    }

    /// Waits for what must be a message.
    fn message(&mut self) -> Parcel<Bytes> {
        match self.recv() {
            Ok(Some(Arrival::Message(message))) => message,
            Ok(Some(Arrival::Request(request, _))) => {
                panic!("a request instead of a message: {}", text(&request.value))
            }
            other => panic!("{} instead of a message", describe(&other)),
        }
    }

    /// Waits for what must be a request.
    fn request(&mut self) -> (Parcel<Bytes>, Self::Request) {
        match self.recv() {
            Ok(Some(Arrival::Request(request, id))) => (request, id),
            other => panic!("{} instead of a request", describe(&other)),
        }
    }

    /// Waits for what must be the end.
    fn end(&mut self) -> Result<(), Error> {
        match self.recv() {
            Ok(None) => Ok(()),
            Err(error) => Err(error),
            other => panic!("{} instead of the end", describe(&other)),
        }
    }
}

/// An end that can take a request back. A thread that waits for an answer can't.
pub(crate) trait Cancel: End {
    /// Gives up on a request.
    fn cancel(&mut self, call: Self::Call);
}

/// What arrived, for the message of a failed assertion.
pub(crate) fn describe<R>(received: &Received<R>) -> String {
    match received {
        Ok(Some(Arrival::Message(message))) => format!("the message {}", text(&message.value)),
        Ok(Some(Arrival::Request(request, _))) => format!("the request {}", text(&request.value)),
        Ok(Some(Arrival::Gap { missed })) => format!("a gap of {missed}"),
        Ok(Some(_)) => "something new".to_owned(),
        Ok(None) => "the end".to_owned(),
        Err(error) => format!("the error {error:?}"),
    }
}

/// The first bytes.
pub(crate) fn text(bytes: &[u8]) -> String {
    format!("{:?} ({} bytes)", String::from_utf8_lossy(&bytes[..bytes.len().min(40)]), bytes.len())
}
