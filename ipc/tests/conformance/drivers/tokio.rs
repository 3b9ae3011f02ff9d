//! Tasks: both ends of a pair in one runtime of one thread, which runs while either is waited for.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use ::tokio::runtime::{Builder, Runtime};
use ::tokio::task::JoinHandle;
use ::tokio::time::timeout;
use bytes::Bytes;
use cluster_ipc::codec::Raw;
use cluster_ipc::tokio::{Endpoint, Receiver, Responder, Sender};
use cluster_ipc::{Connection, Error, Lane, TrySendError};
use rustix::net::Shutdown;

use crate::end::{Answer, Cancel, Driver, End, Opening, Received, Setup, describe};
use crate::stranger::Stranger;

pub(crate) struct Tokio;

pub(crate) struct TokioEnd {
    runtime: Rc<Runtime>,
    endpoint: Option<Endpoint>,
    halves: Option<Halves>,
    /// The same socket again, to end it as the death of this process would.
    socket: OwnedFd,
}

struct Halves {
    sender: Option<Sender<Vec<u8>, Raw>>,
    receiver: Receiver<Bytes, Raw>,
    jobs: Arc<Mutex<Jobs>>,
    worker: Option<JoinHandle<()>>,
}

/// What the task that sends has to do.
#[derive(Default)]
struct Jobs {
    queue: VecDeque<Job>,
    sleeper: Option<Waker>,
    /// There will be no more.
    ended: bool,
}

struct Job {
    lane: Lane,
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    done: std::sync::mpsc::Sender<Result<(), Error>>,
}

async fn work(jobs: Arc<Mutex<Jobs>>, sender: Sender<Vec<u8>, Raw>) {
    let next = || {
        poll_fn(|cx| {
            let mut jobs = jobs.lock().unwrap();
            match jobs.queue.pop_front() {
                Some(job) => Poll::Ready(Some(job)),
                None if jobs.ended => Poll::Ready(None),
                None => {
                    jobs.sleeper = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
    };
    while let Some(Job { lane, bytes, descriptors, done }) = next().await {
        let mut result = match lane {
            Lane::Data => sender.send_with(&bytes, descriptors).await,
            Lane::Control => sender.send_urgent(&bytes).await,
        };
        if result.is_ok() {
            result = sender.flush().await;
        }
        // The scenario may not care.
        done.send(result).ok();
    }
}

fn runtime() -> Rc<Runtime> {
    Rc::new(Builder::new_current_thread().enable_all().build().unwrap())
}

impl TokioEnd {
    fn new(runtime: &Rc<Runtime>, connection: Connection) -> Self {
        let socket = connection.as_fd().try_clone_to_owned().unwrap();
        let _inside = runtime.enter();
        let endpoint = Endpoint::new(connection).unwrap();
        Self { runtime: Rc::clone(runtime), endpoint: Some(endpoint), halves: None, socket }
    }

    fn halves(&mut self) -> &mut Halves {
        let (endpoint, runtime) = (self.endpoint.take(), &self.runtime);
        self.halves.get_or_insert_with(|| {
            let (sender, receiver) = endpoint.expect("it is split once").split::<Vec<u8>, Bytes, Raw>();
            let jobs = Arc::default();
            let worker = runtime.spawn(work(Arc::clone(&jobs), sender.clone()));
            Halves { sender: Some(sender), receiver, jobs, worker: Some(worker) }
        })
    }

    fn sender(&mut self) -> Sender<Vec<u8>, Raw> {
        self.halves().sender.clone().expect("it has not finished yet")
    }

    fn pause(&self) {
        self.runtime.block_on(async { ::tokio::time::sleep(Duration::from_millis(1)).await });
    }
}

impl End for TokioEnd {
    type Sending = std::sync::mpsc::Receiver<Result<(), Error>>;
    type Call = JoinHandle<Answer>;
    type Request = Responder<Raw>;

    fn opened(&mut self) -> Opening {
        self.runtime.block_on(self.endpoint.as_ref().expect("asked for first").opened())
    }

    fn begin_send(&mut self, lane: Lane, bytes: &[u8], descriptors: Vec<OwnedFd>) -> Self::Sending {
        let (done, sent) = std::sync::mpsc::channel();
        let mut jobs = self.halves().jobs.lock().unwrap();
        assert!(!jobs.ended, "it has not finished yet");
        jobs.queue.push_back(Job { lane, bytes: bytes.to_vec(), descriptors, done });
        if let Some(sleeper) = jobs.sleeper.take() {
            sleeper.wake();
        }
        sent
    }

    fn sent(&mut self, sending: Self::Sending) -> Result<(), Error> {
        loop {
            match sending.try_recv() {
                Ok(result) => return result,
                Err(std::sync::mpsc::TryRecvError::Empty) => self.pause(),
                Err(error) => panic!("the worker sends, or says why not: {error}"),
            }
        }
    }

    fn try_send(&mut self, bytes: &[u8]) -> Result<(), TrySendError<Vec<u8>>> {
        self.sender().try_send(bytes.to_vec())
    }

    fn turn(&mut self) {
        self.pause();
    }

    fn recv(&mut self) -> Received<Responder<Raw>> {
        let runtime = Rc::clone(&self.runtime);
        runtime.block_on(self.halves().receiver.next())
    }

    fn nothing_yet(&mut self) {
        let runtime = Rc::clone(&self.runtime);
        let next = self.halves().receiver.next();
        // Waiting for it can be given up without a loss.
        let next = runtime.block_on(async { timeout(Duration::from_millis(1), next).await });
        if let Ok(other) = next {
            panic!("{} while nothing was to come", describe(&other));
        }
    }

    fn recv_message(&mut self) -> Result<Option<Bytes>, Error> {
        let runtime = Rc::clone(&self.runtime);
        runtime.block_on(self.halves().receiver.recv())
    }

    fn begin_request(
        &mut self,
        bytes: &[u8],
        descriptors: Vec<OwnedFd>,
        timeout: Option<Duration>,
    ) -> JoinHandle<Answer> {
        let client = self.sender().client::<Bytes>().timeout(timeout);
        let bytes = bytes.to_vec();
        self.runtime.spawn(async move { client.request_with(&bytes, descriptors).await })
    }

    fn answer(&mut self, call: JoinHandle<Answer>) -> Answer {
        self.runtime.block_on(call).expect("a client doesn't panic")
    }

    fn reply(
        &mut self,
        request: Responder<Raw>,
        bytes: &[u8],
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Error> {
        self.runtime.block_on(request.reply_with(bytes, descriptors))
    }

    fn fail(&mut self, request: Responder<Raw>, reason: &str) {
        request.fail(reason);
    }

    fn let_go(&mut self, request: Responder<Raw>) {
        drop(request);
    }

    fn until_unwanted(&mut self, request: &Responder<Raw>) {
        self.runtime.block_on(request.cancelled());
    }

    fn finish(&mut self) {
        let runtime = Rc::clone(&self.runtime);
        let halves = self.halves();
        {
            let mut jobs = halves.jobs.lock().unwrap();
            jobs.ended = true;
            jobs.sleeper.take().into_iter().for_each(Waker::wake);
        }
        if let Some(worker) = halves.worker.take() {
            runtime.block_on(worker).expect("the worker doesn't panic");
        }
        drop(halves.sender.take());
    }

    fn leave(mut self) {
        self.finish();
    }

    fn die(mut self) {
        rustix::net::shutdown(&self.socket, Shutdown::Both).ok();
        self.finish();
    }
}

impl Cancel for TokioEnd {
    fn cancel(&mut self, call: JoinHandle<Answer>) {
        call.abort();
        assert!(self.runtime.block_on(call).is_err(), "an aborted task has no result");
    }
}

impl Driver for Tokio {
    type End = TokioEnd;

    fn pair(parent: Setup, child: Setup) -> (TokioEnd, TokioEnd) {
        let (one, other) = super::pair_of(parent, child);
        let runtime = runtime();
        (TokioEnd::new(&runtime, one), TokioEnd::new(&runtime, other))
    }

    fn parent(setup: Setup) -> (TokioEnd, Stranger) {
        let (one, stranger) = super::parent_and_stranger(setup);
        (TokioEnd::new(&runtime(), one), stranger)
    }

    fn child(setup: Setup) -> (TokioEnd, Stranger) {
        let (one, stranger) = super::child_and_stranger(setup);
        (TokioEnd::new(&runtime(), one), stranger)
    }
}
