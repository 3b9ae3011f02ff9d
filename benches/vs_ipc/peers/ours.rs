//! This project's crate: raw bytes and serde's types, on threads and on tokio.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster_ipc::blocking::{Endpoint, Receiver, Sender};
use cluster_ipc::codec::{Postcard, Raw};
use cluster_ipc::session::Config;
use cluster_ipc::{Connection, Socket};

use super::descriptors::any_file;
use super::framing::{body, number, set_number};
use super::message::{Borrowed, KIND, Message};
use super::{Peer, check};
use crate::Result;
use crate::child::Child;
use crate::job::{Case, Job, Kind};

/// Starts the child with a connection.
fn start(peer: &dyn Peer, job: &Job) -> Result<(Child, Connection)> {
    let (here, there) = Socket::pair()?;
    let now = Instant::now();
    let mut connection = Connection::parent(here, Config::new(), &[], Vec::new(), now);
    connection.flush(now);
    Ok((Child::of(peer, job, there.into_fd())?, connection))
}

fn adopt() -> Result<Connection> {
    Ok(cluster_ipc::adopt()?.connect(Config::new(), &[])?)
}

/// Bytes as they are.
#[derive(Debug)]
pub(super) struct Blocking;

impl Peer for Blocking {
    fn name(&self) -> &'static str {
        "ours"
    }

    fn can(&self, _: &Case) -> bool {
        true
    }

    fn run(&self, job: &Job) -> Result<Duration> {
        let (child, connection) = start(self, job)?;
        let ends = Endpoint::new(connection)?.split();
        let (sender, mut receiver): (Sender<[u8], Raw>, Receiver<Bytes, Raw>) = ends;
        let (size, kind) = (job.case.size, job.case.kind);
        let (mut body, file) = (body(size), any_file()?);
        let took = job.time(|count| {
            for nth in 0..count {
                match kind {
                    Kind::PingPong => {
                        set_number(&mut body, nth);
                        sender.send(&body)?;
                        let answer = receiver.recv()?.ok_or("the child has finished")?;
                        check(answer.len(), number(&answer), (size, nth))?;
                    }
                    Kind::OneWay => {
                        set_number(&mut body, nth);
                        sender.feed(&body)?;
                    }
                    Kind::Descriptors => {
                        let copy = || file.as_fd().try_clone_to_owned();
                        let files: Vec<OwnedFd> =
                            (0..size).map(|_| copy()).collect::<std::io::Result<_>>()?;
                        sender.feed_with(b".", files)?;
                    }
                }
            }
            if kind != Kind::PingPong {
                sender.flush()?;
                receiver.recv()?.ok_or("the child has finished")?;
            }
            Ok(())
        })?;
        child.join()?;
        Ok(took)
    }

    fn serve(&self, job: &Job) -> Result<()> {
        let ends = Endpoint::new(adopt()?)?.split();
        let (sender, mut receiver): (Sender<[u8], Raw>, Receiver<Bytes, Raw>) = ends;
        job.each_stretch(|count| {
            for nth in 0..count {
                match job.case.kind {
                    Kind::Descriptors => {
                        let message = receiver.recv_raw()?.ok_or("the parent has finished")?;
                        check(message.descriptors().len(), nth, (job.case.size, nth))?;
                    }
                    kind => {
                        let body = receiver.recv()?.ok_or("the parent has finished")?;
                        check(body.len(), number(&body), (job.case.size, nth))?;
                        if kind == Kind::PingPong {
                            sender.send(&body)?;
                        }
                    }
                }
            }
            if job.case.kind != Kind::PingPong {
                sender.send(b".")?;
            }
            Ok(())
        })
    }
}

/// Types of serde's.
#[derive(Debug)]
pub(super) struct Typed;

impl Peer for Typed {
    fn name(&self) -> &'static str {
        "ours-typed"
    }

    fn can(&self, case: &Case) -> bool {
        case.kind != Kind::Descriptors
    }

    fn run(&self, job: &Job) -> Result<Duration> {
        // Before the sender, whose type names its lifetime.
        let (size, payload) = (job.case.size, body(job.case.size));
        let (child, connection) = start(self, job)?;
        let ends = Endpoint::new(connection)?.split();
        let (sender, mut receiver): (Sender<Borrowed<'_>, Postcard>, Receiver<Message, Postcard>) = ends;
        let took = job.time(|count| {
            for id in 0..count {
                let message = Borrowed { id, kind: KIND, payload: &payload };
                if job.case.kind == Kind::PingPong {
                    sender.send(&message)?;
                    let answer = receiver.recv()?.ok_or("the child has finished")?;
                    check(answer.payload.len(), answer.id, (size, id))?;
                } else {
                    sender.feed(&message)?;
                }
            }
            if job.case.kind == Kind::OneWay {
                sender.flush()?;
                receiver.recv()?.ok_or("the child has finished")?;
            }
            Ok(())
        })?;
        child.join()?;
        Ok(took)
    }

    fn serve(&self, job: &Job) -> Result<()> {
        let ends = Endpoint::new(adopt()?)?.split();
        let (sender, mut receiver): (Sender<Message, Postcard>, Receiver<Message, Postcard>) = ends;
        let confirmation = Message { id: 0, kind: KIND.to_owned(), payload: Vec::new() };
        job.each_stretch(|count| {
            for nth in 0..count {
                let message = receiver.recv()?.ok_or("the parent has finished")?;
                check(message.payload.len(), message.id, (job.case.size, nth))?;
                if message.kind != KIND {
                    return Err("a message of another kind".into());
                }
                if job.case.kind == Kind::PingPong {
                    sender.send(&message)?;
                }
            }
            if job.case.kind == Kind::OneWay {
                sender.send(&confirmation)?;
            }
            Ok(())
        })
    }
}

/// Bytes as they are, with tasks.
#[derive(Debug)]
pub(super) struct Tokio;

type TaskEnds = (cluster_ipc::tokio::Sender<[u8], Raw>, cluster_ipc::tokio::Receiver<Bytes, Raw>);

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

impl Peer for Tokio {
    fn name(&self) -> &'static str {
        "ours-tokio"
    }

    fn can(&self, case: &Case) -> bool {
        case.kind != Kind::Descriptors
    }

    fn run(&self, job: &Job) -> Result<Duration> {
        let (child, connection) = start(self, job)?;
        let runtime = runtime()?;
        let (sender, mut receiver): TaskEnds =
            runtime.block_on(async { cluster_ipc::tokio::Endpoint::new(connection) })?.split();
        let mut body = body(job.case.size);
        let took = job.time(|count| {
            runtime.block_on(async {
                for nth in 0..count {
                    set_number(&mut body, nth);
                    sender.send(&body).await?;
                    if job.case.kind == Kind::PingPong {
                        let answer = receiver.recv().await?.ok_or("the child has finished")?;
                        check(answer.len(), number(&answer), (job.case.size, nth))?;
                    }
                }
                if job.case.kind == Kind::OneWay {
                    receiver.recv().await?.ok_or("the child has finished")?;
                }
                Ok(())
            })
        })?;
        child.join()?;
        Ok(took)
    }

    fn serve(&self, job: &Job) -> Result<()> {
        let connection = adopt()?;
        let runtime = runtime()?;
        let (sender, mut receiver): TaskEnds =
            runtime.block_on(async { cluster_ipc::tokio::Endpoint::new(connection) })?.split();
        job.each_stretch(|count| {
            runtime.block_on(async {
                for nth in 0..count {
                    let body = receiver.recv().await?.ok_or("the parent has finished")?;
                    check(body.len(), number(&body), (job.case.size, nth))?;
                    if job.case.kind == Kind::PingPong {
                        sender.send(&body).await?;
                    }
                }
                if job.case.kind == Kind::OneWay {
                    sender.send(b".").await?;
                }
                Ok(sender.flush().await?)
            })
        })
    }
}
