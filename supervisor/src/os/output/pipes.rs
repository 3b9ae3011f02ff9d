//! The pipes of all children, what was read from them, and what waits for the sink. It reads, but never waits.

use std::collections::HashMap;
use std::hash::Hash;
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::super::Error;
use super::batch::Batch;
use super::poller::Poller;
use super::queue::{Admission, Queue};
use super::{CaptureLimits, Lines, Stream, Tail};

/// How much is read from one pipe before it is another's turn, in bytes.
const TURN: usize = 16 * 1024;

/// When to try again what the kernel had no memory for.
const RETRY: Duration = Duration::from_millis(100);

/// What is known of all children.
#[derive(Debug)]
pub(super) struct Pipes<K> {
    /// Who tells which pipe can be read; `None` when all has ended.
    poller: Option<Arc<Poller>>,
    limits: CaptureLimits,
    children: HashMap<K, Child>,
    /// Which pipe a token names. Tokens are never used again, so that a late event finds nothing.
    tokens: HashMap<u64, (K, Stream)>,
    next_token: u64,
    /// Pipes that nobody waits for until then, because there is no room for what is in them.
    paused: Vec<(u64, Instant)>,
    queue: Queue<K>,
    buffer: Box<[u8; TURN]>,
}

#[derive(Debug)]
struct Child {
    pipes: [Option<Pipe>; 2],
    tail: Tail,
}

#[derive(Debug)]
struct Pipe {
    fd: OwnedFd,
    token: u64,
    lines: Lines,
}

/// What became of an attempt to read.
enum Outcome {
    /// So many bytes are in the buffer.
    Read(usize),
    /// Nothing is there now.
    Empty,
    /// Nothing will ever be there.
    Ended,
}

impl<K> Pipes<K> {
    /// Nobody will read any more: closes all pipes, and takes no others. The last lines until now are kept.
    pub(super) fn abandon(&mut self) {
        self.children.values_mut().for_each(|child| child.pipes = [None, None]);
        self.paused.clear();
        self.poller = None;
    }
}

impl<K: Copy + Eq + Hash> Pipes<K> {
    pub(super) fn new(limits: CaptureLimits, poller: Arc<Poller>) -> Self {
        Self {
            poller: Some(poller),
            queue: Queue::new(limits.clone()),
            limits,
            children: HashMap::new(),
            tokens: HashMap::new(),
            next_token: 0,
            paused: Vec::new(),
            buffer: Box::new([0; TURN]),
        }
    }

    /// Begins to read `pipe`, which is non-blocking.
    pub(super) fn watch(&mut self, (source, stream): (K, Stream), pipe: OwnedFd) -> Result<(), Error> {
        if self.children.get(&source).is_some_and(|child| child.pipes[stream.index()].is_some()) {
            return Err(Error::Captured { stream });
        }
        let token = self.next_token;
        self.listen(&pipe, token).map_err(Error::os("watch the output of a child"))?;
        self.next_token += 1;
        self.tokens.insert(token, (source, stream));
        let new = || Child { pipes: [None, None], tail: self.limits.new_tail() };
        let child = self.children.entry(source).or_insert_with(new);
        child.pipes[stream.index()] = Some(Pipe { fd: pipe, token, lines: self.limits.lines() });
        self.queue.welcome(source);
        Ok(())
    }

    /// A pipe can be read: reads a bounded part of it, unless there is no room.
    pub(super) fn handle_ready(&mut self, token: u64, now: Instant) {
        let Some(&(source, stream)) = self.tokens.get(&token) else { return };
        let admission = self.queue.admit(source, now);
        if let Admission::Wait(until) = admission {
            if let Some(pipe) = self.pipe(source, stream) {
                self.ignore(&pipe.fd);
                self.paused.push((token, until));
            }
            return;
        }
        match self.read(source, stream, TURN) {
            Outcome::Read(length) => self.hand_out(source, stream, length, admission),
            Outcome::Empty => {}
            Outcome::Ended => self.close((source, stream), admission),
        }
    }

    /// Waits again for the pipes whose pause is over at `now`.
    pub(super) fn resume(&mut self, now: Instant) {
        self.resume_until(Some(now));
    }

    /// When the next pause is over.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.paused.iter().map(|(_, until)| *until).min()
    }

    /// A child has ended: takes what is in its pipes, closes them, and returns its last lines.
    ///
    /// No more is read than is there now, for somebody else may go on to write: a grandchild.
    pub(super) fn finish(&mut self, source: K) -> Option<Tail> {
        if !self.children.contains_key(&source) {
            return None;
        }
        for stream in Stream::BOTH {
            let there = self.pipe(source, stream).map_or(0, |pipe| available(&pipe.fd));
            self.read_last(source, stream, there);
            let admission = self.queue.admit_last(source);
            self.close((source, stream), admission);
        }
        self.queue.forget(source);
        self.children.remove(&source).map(|child| child.tail)
    }

    /// All children have ended, as far as the owner cares, and no other will come.
    pub(super) fn end(&mut self) {
        let sources: Vec<K> = self.children.keys().copied().collect();
        for source in sources {
            self.finish(source);
        }
        // Not when the sink's thread lets go of all this: nobody knows when that will be.
        self.poller = None;
    }

    pub(super) fn tail(&self, source: K) -> Option<Tail> {
        self.children.get(&source).map(|child| child.tail.clone())
    }

    /// Takes all that waits for the sink, so that there is room again. `spare` must be empty.
    pub(super) fn take(&mut self, spare: Batch<K>) -> Batch<K> {
        let batch = self.queue.take(spare);
        self.resume_until(None);
        batch
    }

    pub(super) fn has_lines(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    fn listen(&self, pipe: &OwnedFd, token: u64) -> Result<(), Errno> {
        self.poller.as_ref().map_or(Err(Errno::BADF), |poller| poller.add(pipe, token))
    }

    fn ignore(&self, pipe: &OwnedFd) {
        if let Some(poller) = &self.poller {
            poller.remove(pipe);
        }
    }

    fn pipe(&self, source: K, stream: Stream) -> Option<&Pipe> {
        self.children.get(&source)?.pipes[stream.index()].as_ref()
    }

    /// Ends the pauses that are over at `now`, or all.
    fn resume_until(&mut self, now: Option<Instant>) {
        let mut paused = mem::take(&mut self.paused);
        paused.retain_mut(|(token, until)| {
            if now.is_some_and(|now| now < *until) {
                return true;
            }
            let Some(&(source, stream)) = self.tokens.get(token) else { return false };
            let is_watched =
                self.pipe(source, stream).is_none_or(|pipe| self.listen(&pipe.fd, *token).is_ok());
            if let (false, Some(now)) = (is_watched, now) {
                *until = now + RETRY;
            }
            !is_watched
        });
        self.paused = paused;
    }

    /// Reads up to `there` bytes of what a child left behind.
    fn read_last(&mut self, source: K, stream: Stream, there: u64) {
        let mut rest = there;
        while rest > 0 {
            let most = usize::try_from(rest).unwrap_or(TURN).min(TURN);
            let Outcome::Read(length) = self.read(source, stream, most) else { return };
            let admission = self.queue.admit_last(source);
            self.hand_out(source, stream, length, admission);
            rest -= length as u64;
        }
    }

    /// Reads once, up to `most` bytes into the buffer.
    fn read(&mut self, source: K, stream: Stream, most: usize) -> Outcome {
        let Some(pipe) = self.children.get(&source).and_then(|child| child.pipes[stream.index()].as_ref())
        else {
            return Outcome::Ended;
        };
        loop {
            match rustix::io::read(&pipe.fd, &mut self.buffer[..most]) {
                Ok(0) => return Outcome::Ended,
                Ok(length) => return Outcome::Read(length),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Outcome::Empty,
                // For example EIO, which is how a terminal says that it ended.
                Err(_) => return Outcome::Ended,
            }
        }
    }

    /// Cuts what is in the buffer into lines.
    fn hand_out(&mut self, source: K, stream: Stream, length: usize, admission: Admission) {
        let Some(child) = self.children.get_mut(&source) else { return };
        let Some(pipe) = &mut child.pipes[stream.index()] else { return };
        let mut input = &self.buffer[..length];
        while let Some(piece) = pipe.lines.next(&mut input) {
            child.tail.push(stream, piece);
            match admission {
                Admission::Take => self.queue.push(source, stream, piece),
                Admission::Wait(_) | Admission::Drop => self.queue.drop_line(source, stream),
            }
        }
    }

    /// Hands out what is left of a stream and closes its pipe.
    fn close(&mut self, (source, stream): (K, Stream), admission: Admission) {
        let taken = self.children.get_mut(&source).and_then(|child| child.pipes[stream.index()].take());
        let Some(mut pipe) = taken else { return };
        self.ignore(&pipe.fd);
        self.tokens.remove(&pipe.token);
        let Some(child) = self.children.get_mut(&source) else { return };
        while let Some(piece) = pipe.lines.finish() {
            child.tail.push(stream, piece);
            match admission {
                Admission::Take => self.queue.push(source, stream, piece),
                Admission::Wait(_) | Admission::Drop => self.queue.drop_line(source, stream),
            }
        }
    }
}

/// How many bytes are there to be read.
fn available(pipe: &OwnedFd) -> u64 {
    // What can't tell is read to its end, but not for ever: a pipe holds 64 KiB unless somebody made it larger.
    rustix::io::ioctl_fionread(pipe).unwrap_or(64 * 1024)
}
