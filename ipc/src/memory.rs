//! A transport within one process, for tests (feature `test-util`): no sockets, no kernel, no waiting.
//!
//! It behaves as a Unix stream socket may at its worst: it takes and gives as little at a time as it is told to,
//! a read stops after bytes that carry descriptors, and a full pipe takes nothing.
//!
//! ```
//! use cluster_ipc::session::{Config, Event};
//! use cluster_ipc::{Lane, memory};
//! use std::time::Instant;
//!
//! let now = Instant::now();
//! let (mut here, mut there) = memory::pair(Config::new());
//! memory::drive(&mut here, &mut there, now);
//! here.send(Lane::Data, b"hello", vec![]).expect("there is credit");
//! memory::drive(&mut here, &mut there, now);
//! assert!(matches!(there.poll_event(), Some(Event::Opened(_))));
//! assert!(matches!(there.poll_event(), Some(Event::Message(message)) if &message.bytes()[..] == b"hello"));
//! ```

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::clock::now;
use crate::session::Config;
use crate::{Connection, Error, Read, Received, Sent, Transport};

/// How much a pipe holds unless told otherwise: what a Unix socket does by default.
const CAPACITY: usize = 212_992;

/// One end of a pair. Dropping it is what the death of a process is: the other end reads what was written, then the
/// end.
#[derive(Debug)]
pub struct End {
    incoming: Arc<Mutex<Pipe>>,
    outgoing: Arc<Mutex<Pipe>>,
    step: usize,
}

#[derive(Debug)]
struct Pipe {
    bytes: VecDeque<u8>,
    /// Descriptors, and at which byte of the stream they come out.
    descriptors: VecDeque<(u64, Vec<OwnedFd>)>,
    read: u64,
    capacity: usize,
    closed: bool,
}

fn lock(pipe: &Mutex<Pipe>) -> MutexGuard<'_, Pipe> {
    pipe.lock().unwrap_or_else(PoisonError::into_inner)
}

impl End {
    /// The same end that takes and gives at most `bytes` at a time.
    #[must_use]
    pub fn step(mut self, bytes: usize) -> Self {
        self.step = bytes.max(1);
        self
    }

    /// The same end whose pipe to the other holds at most `bytes`.
    #[must_use]
    pub fn capacity(self, bytes: usize) -> Self {
        lock(&self.outgoing).capacity = bytes.max(1);
        self
    }
}

/// Two connected ends.
pub fn ends() -> (End, End) {
    let pipe = || {
        let (bytes, descriptors) = (VecDeque::new(), VecDeque::new());
        Arc::new(Mutex::new(Pipe { bytes, descriptors, read: 0, capacity: CAPACITY, closed: false }))
    };
    let (one, other) = (pipe(), pipe());
    let first = End { incoming: Arc::clone(&one), outgoing: Arc::clone(&other), step: usize::MAX };
    (first, End { incoming: other, outgoing: one, step: usize::MAX })
}

/// Two connected connections, the first as parent.
pub fn pair(config: Config) -> (Connection<End>, Connection<End>) {
    let (one, other) = ends();
    pair_over(one, other, config)
}

/// The same over ends that were made to be slow or narrow.
pub fn pair_over(one: End, other: End, config: Config) -> (Connection<End>, Connection<End>) {
    let now = now();
    (Connection::parent(one, config, &[], Vec::new(), now), Connection::child(other, config, &[], now))
}

/// Moves bytes both ways until nothing moves any more.
pub fn drive(one: &mut Connection<End>, other: &mut Connection<End>, now: Instant) {
    loop {
        let mut moved = false;
        for end in [&mut *one, &mut *other] {
            let unsent = end.session().unsent();
            end.flush(now);
            moved |= end.read(now) == Read::Some || end.session().unsent() != unsent;
        }
        if !moved {
            return;
        }
    }
}

impl Transport for End {
    fn send(&mut self, bytes: &[IoSlice<'_>], descriptors: &[BorrowedFd<'_>]) -> Result<Sent, Error> {
        let mut pipe = lock(&self.outgoing);
        if pipe.closed {
            return Err(Error::PeerGone);
        }
        let room = pipe.capacity.saturating_sub(pipe.bytes.len()).min(self.step);
        if room == 0 {
            return Ok(Sent::WouldBlock);
        }
        let copies = descriptors.iter().map(BorrowedFd::try_clone_to_owned).collect::<Result<Vec<_>, _>>();
        let copies = copies.map_err(Error::os("copy descriptors"))?;
        if !copies.is_empty() {
            let at = pipe.read + pipe.bytes.len() as u64;
            pipe.descriptors.push_back((at, copies));
        }
        let before = pipe.bytes.len();
        pipe.bytes.extend(bytes.iter().flat_map(|slice| slice.iter()).take(room));
        Ok(Sent::Bytes(pipe.bytes.len() - before))
    }

    fn receive(&mut self, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> Result<Received, Error> {
        let mut pipe = lock(&self.incoming);
        if pipe.bytes.is_empty() {
            return Ok(if pipe.closed { Received::PeerGone } else { Received::WouldBlock });
        }
        let mut most = buffer.len().min(self.step).min(pipe.bytes.len());
        let start = pipe.read;
        if let Some((_, first)) = pipe.descriptors.pop_front_if(|(at, _)| *at == start) {
            descriptors.extend(first);
        }
        // The next set of descriptors begins another read.
        if let Some((at, _)) = pipe.descriptors.front() {
            most = most.min(usize::try_from(*at - pipe.read).unwrap_or(usize::MAX));
        }
        for (place, byte) in buffer.iter_mut().zip(pipe.bytes.drain(..most)) {
            *place = byte;
        }
        pipe.read += most as u64;
        Ok(Received::Bytes(most))
    }

    fn close(&mut self) {
        lock(&self.outgoing).closed = true;
        let mut incoming = lock(&self.incoming);
        incoming.closed = true;
        // As with a socket: what nobody will read is dropped with its descriptors.
        incoming.bytes.clear();
        incoming.descriptors.clear();
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.close();
    }
}
