//! Threads: the scenario's own receives and answers, another sends, and each request has one to wait for its answer.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster_ipc::blocking::{Endpoint, Receiver, Responder, Sender};
use cluster_ipc::codec::Raw;
use cluster_ipc::{Connection, Error, Lane, TrySendError};
use rustix::net::Shutdown;

use crate::end::{Answer, Driver, End, Opening, Received, Setup, describe};
use crate::stranger::Stranger;

pub(crate) struct Blocking;

type Job = Box<dyn FnOnce(&Sender<Vec<u8>, Raw>) + Send>;

pub(crate) struct BlockingEnd {
    /// Until the first call that needs it split.
    endpoint: Option<Endpoint>,
    halves: Option<Halves>,
    /// The same socket again, to end it as the death of this process would.
    socket: OwnedFd,
}

struct Halves {
    sender: Option<Sender<Vec<u8>, Raw>>,
    receiver: Receiver<Bytes, Raw>,
    /// Sends one message after the other.
    jobs: Option<mpsc::Sender<Job>>,
    worker: Option<JoinHandle<()>>,
}

impl BlockingEnd {
    fn new(connection: Connection) -> Self {
        let socket = connection.as_fd().try_clone_to_owned().unwrap();
        let endpoint = Endpoint::new(connection).unwrap();
        Self { endpoint: Some(endpoint), halves: None, socket }
    }

    fn halves(&mut self) -> &mut Halves {
        let endpoint = self.endpoint.take();
        self.halves.get_or_insert_with(|| {
            let (sender, receiver) = endpoint.expect("it is split once").split::<Vec<u8>, Bytes, Raw>();
            let (jobs, queue) = mpsc::channel::<Job>();
            let own = sender.clone();
            let worker = std::thread::spawn(move || queue.iter().for_each(|job| job(&own)));
            Halves { sender: Some(sender), receiver, jobs: Some(jobs), worker: Some(worker) }
        })
    }

    fn sender(&mut self) -> Sender<Vec<u8>, Raw> {
        self.halves().sender.clone().expect("it has not finished yet")
    }
}

impl End for BlockingEnd {
    type Sending = mpsc::Receiver<Result<(), Error>>;
    type Call = JoinHandle<Answer>;
    type Request = Responder<Raw>;

    const ROUNDS: u32 = 200;

    fn opened(&mut self) -> Opening {
        self.endpoint.as_ref().expect("asked for first").opened()
    }

    fn both_opened(parent: &mut Self, child: &mut Self) -> (Opening, Opening) {
        // One that nobody waits for does nothing.
        std::thread::scope(|scope| {
            let parent = scope.spawn(|| parent.opened());
            let child = child.opened();
            (parent.join().expect("it doesn't panic"), child)
        })
    }

    fn begin_send(&mut self, lane: Lane, bytes: &[u8], descriptors: Vec<OwnedFd>) -> Self::Sending {
        let (done, sent) = mpsc::channel();
        let bytes = bytes.to_vec();
        let job = move |sender: &Sender<Vec<u8>, Raw>| {
            let result = match lane {
                Lane::Data => sender.send_with(&bytes, descriptors),
                Lane::Control => sender.send_urgent(&bytes),
            };
            // The scenario may not care.
            done.send(result).ok();
        };
        let jobs = self.halves().jobs.as_ref().expect("it has not finished yet");
        jobs.send(Box::new(job)).expect("the worker works as long as there may be jobs");
        sent
    }

    fn sent(&mut self, sending: Self::Sending) -> Result<(), Error> {
        sending.recv().expect("the worker sends, or says why not")
    }

    fn try_send(&mut self, bytes: &[u8]) -> Result<(), TrySendError<Vec<u8>>> {
        self.sender().try_send(bytes.to_vec())
    }

    fn turn(&mut self) {
        std::thread::yield_now();
    }

    fn recv(&mut self) -> Received<Responder<Raw>> {
        self.halves().receiver.next()
    }

    fn nothing_yet(&mut self) {
        let soon = Instant::now() + Duration::from_millis(1);
        match self.halves().receiver.next_before(soon) {
            Err(Error::TimedOut) => {}
            other => panic!("{} while nothing was to come", describe(&other)),
        }
    }

    fn recv_message(&mut self) -> Result<Option<Bytes>, Error> {
        self.halves().receiver.recv()
    }

    fn begin_request(
        &mut self,
        bytes: &[u8],
        descriptors: Vec<OwnedFd>,
        timeout: Option<Duration>,
    ) -> JoinHandle<Answer> {
        let client = self.sender().client::<Bytes>().timeout(timeout);
        let bytes = bytes.to_vec();
        std::thread::spawn(move || client.request_with(&bytes, descriptors))
    }

    fn answer(&mut self, call: JoinHandle<Answer>) -> Answer {
        call.join().expect("a client doesn't panic")
    }

    fn reply(
        &mut self,
        request: Responder<Raw>,
        bytes: &[u8],
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Error> {
        request.reply_with(bytes, descriptors)
    }

    fn fail(&mut self, request: Responder<Raw>, reason: &str) {
        request.fail(reason);
    }

    fn let_go(&mut self, request: Responder<Raw>) {
        drop(request);
    }

    fn until_unwanted(&mut self, request: &Responder<Raw>) {
        // It is as recent as what some thread that waits has read.
        while request.is_wanted() {
            self.nothing_yet();
        }
    }

    fn finish(&mut self) {
        let halves = self.halves();
        drop(halves.jobs.take());
        if let Some(worker) = halves.worker.take() {
            worker.join().expect("the worker doesn't panic");
        }
        drop(halves.sender.take());
    }

    fn leave(mut self) {
        // The last words wait for the peer, which this thread may be.
        std::thread::spawn(move || self.finish());
    }

    fn die(mut self) {
        rustix::net::shutdown(&self.socket, Shutdown::Both).ok();
        self.finish();
    }
}

impl Driver for Blocking {
    type End = BlockingEnd;

    fn pair(parent: Setup, child: Setup) -> (BlockingEnd, BlockingEnd) {
        let (one, other) = super::pair_of(parent, child);
        (BlockingEnd::new(one), BlockingEnd::new(other))
    }

    fn parent(setup: Setup) -> (BlockingEnd, Stranger) {
        let (one, stranger) = super::parent_and_stranger(setup);
        (BlockingEnd::new(one), stranger)
    }

    fn child(setup: Setup) -> (BlockingEnd, Stranger) {
        let (one, stranger) = super::child_and_stranger(setup);
        (BlockingEnd::new(one), stranger)
    }
}
