//! A blocking `AF_UNIX` stream at its best: messages are gathered into writes of 64 KiB and read in such pieces.
//!
//! It gathers although nobody else has, or could have, something to send, and holds back what is short of 64 KiB: this is
//! a limit for what a library may reach, not a usable one.

use std::io::{IoSlice, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::framing::{HEADER, await_confirmation, body, confirm, header, length, number, set_number};
use super::{Peer, check};
use crate::Result;
use crate::child::{Child, stdin_socket};
use crate::job::{Case, Job, Kind};

/// What is written and read at a time.
const PIECE: usize = 64 << 10;
/// From here on a message is worth a system call of its own: copying it would cost more.
const LARGE: usize = 16 << 10;

#[derive(Debug)]
pub(super) struct Batched;

impl Peer for Batched {
    fn name(&self) -> &'static str {
        "raw-batched"
    }

    fn can(&self, case: &Case) -> bool {
        case.kind == Kind::OneWay
    }

    fn run(&self, job: &Job) -> Result<Duration> {
        let (here, there) = UnixStream::pair()?;
        let child = Child::of(self, job, OwnedFd::from(there))?;
        let took = send(job, &here)?;
        child.join()?;
        Ok(took)
    }

    fn serve(&self, job: &Job) -> Result<()> {
        let stream = stdin_socket()?;
        let mut input = Input::new(job.case.size);
        job.each_stretch(|count| {
            for nth in 0..count {
                let body = input.message(&stream)?;
                check(body.len(), number(body), (job.case.size, nth))?;
            }
            confirm(&stream)
        })
    }
}

fn send(job: &Job, stream: &UnixStream) -> Result<Duration> {
    let size = job.case.size;
    let (header, mut body) = (header(size)?, body(size));
    let mut gathered = Vec::with_capacity(PIECE);
    job.time(|count| {
        for nth in 0..count {
            set_number(&mut body, nth);
            if size < LARGE && gathered.len() + header.len() + size > PIECE {
                write(stream, &gathered, &[])?;
                gathered.clear();
            }
            gathered.extend_from_slice(&header);
            if size < LARGE {
                gathered.extend_from_slice(&body);
            } else {
                write(stream, &gathered, &body)?;
                gathered.clear();
            }
        }
        write(stream, &gathered, &[])?;
        gathered.clear();
        await_confirmation(stream)
    })
}

fn write(mut stream: &UnixStream, first: &[u8], second: &[u8]) -> Result<()> {
    let mut slices = [IoSlice::new(first), IoSlice::new(second)];
    let mut rest = &mut slices[..];
    // Takes the empty ones away, too.
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        let written = stream.write_vectored(rest)?;
        IoSlice::advance_slices(&mut rest, written);
    }
    Ok(())
}

/// What was read and not yet taken out.
#[derive(Debug)]
struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    /// With room for a message of this size.
    fn new(size: usize) -> Self {
        Self { buffer: vec![0; 2 * (HEADER + size).max(PIECE)], start: 0, end: 0 }
    }

    /// The body of the next message, in one piece.
    fn message(&mut self, stream: &UnixStream) -> Result<&[u8]> {
        self.fill(stream, HEADER)?;
        let header = self.buffer.get(self.start..).and_then(<[u8]>::first_chunk).ok_or("no header")?;
        let whole = HEADER + length(*header)?;
        self.fill(stream, whole)?;
        let message = self.start + HEADER..self.start + whole;
        self.start += whole;
        self.buffer.get(message).ok_or_else(|| "no body".into())
    }

    /// Reads until there are so many bytes.
    fn fill(&mut self, mut stream: &UnixStream, wanted: usize) -> Result<()> {
        while self.end - self.start < wanted {
            let missing = wanted - (self.end - self.start);
            // After a large message only the next one's header, or much would have to be moved within the buffer.
            let piece = if wanted >= LARGE { missing + HEADER } else { PIECE };
            if self.end + piece > self.buffer.len() {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            let room = self.buffer.get_mut(self.end..self.end + piece).ok_or("a message that is too long")?;
            match stream.read(room)? {
                0 => return Err("the stream ended".into()),
                read => self.end += read,
            }
        }
        Ok(())
    }
}
