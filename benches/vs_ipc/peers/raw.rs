//! A blocking `AF_UNIX` stream, used as simply as can be: a `write` for each message.
//!
//! A ping-pong knows the size of what comes, so that it is one `write` and one `read` each way if the kernel permits:
//! what a wake-up costs, and the least that any IPC on sockets can take.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::framing::{await_confirmation, body, confirm, header, length, number, set_number};
use super::{Peer, check, descriptors};
use crate::Result;
use crate::child::{Child, stdin_socket};
use crate::job::{Case, Job, Kind};

#[derive(Debug)]
pub(super) struct Raw;

impl Peer for Raw {
    fn name(&self) -> &'static str {
        "raw"
    }

    fn can(&self, _: &Case) -> bool {
        true
    }

    fn run(&self, job: &Job) -> Result<Duration> {
        let (here, there) = UnixStream::pair()?;
        let child = Child::of(self, job, OwnedFd::from(there))?;
        let took = match job.case.kind {
            Kind::PingPong => ping(job, &here),
            Kind::OneWay => send(job, &here),
            Kind::Descriptors => descriptors::send(job, &here),
        }?;
        child.join()?;
        Ok(took)
    }

    fn serve(&self, job: &Job) -> Result<()> {
        let stream = stdin_socket()?;
        match job.case.kind {
            Kind::PingPong => pong(job, &stream),
            Kind::OneWay => receive(job, &stream),
            Kind::Descriptors => descriptors::receive(job, &stream),
        }
    }
}

fn ping(job: &Job, mut stream: &UnixStream) -> Result<Duration> {
    let size = job.case.size;
    let (mut sent, mut received) = (body(size), body(size));
    job.time(|count| {
        for nth in 0..count {
            set_number(&mut sent, nth);
            stream.write_all(&sent)?;
            stream.read_exact(&mut received)?;
            check(received.len(), number(&received), (size, nth))?;
        }
        Ok(())
    })
}

fn pong(job: &Job, mut stream: &UnixStream) -> Result<()> {
    let mut body = body(job.case.size);
    job.each_stretch(|count| {
        for nth in 0..count {
            stream.read_exact(&mut body)?;
            check(body.len(), number(&body), (job.case.size, nth))?;
            stream.write_all(&body)?;
        }
        Ok(())
    })
}

fn send(job: &Job, mut stream: &UnixStream) -> Result<Duration> {
    let size = job.case.size;
    let header = header(size)?;
    let mut message = [&header, body(size).as_slice()].concat();
    job.time(|count| {
        for nth in 0..count {
            if let Some(body) = message.get_mut(header.len()..) {
                set_number(body, nth);
            }
            stream.write_all(&message)?;
        }
        await_confirmation(stream)
    })
}

fn receive(job: &Job, mut stream: &UnixStream) -> Result<()> {
    let size = job.case.size;
    let mut body = body(size);
    job.each_stretch(|count| {
        for nth in 0..count {
            let mut header = [0; 4];
            stream.read_exact(&mut header)?;
            // Before there is a body to read, so that a false length does not leave us waiting.
            check(length(header)?, nth, (size, nth))?;
            stream.read_exact(&mut body)?;
            check(body.len(), number(&body), (size, nth))?;
        }
        confirm(stream)
    })
}
