//! The crate ipc-channel: its channels of bytes, and its channels of serde's types.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ipc_channel::ipc::{
    self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcReceiver, IpcSender, bytes_channel,
};
use serde::{Deserialize, Serialize};

use super::framing::{body, number, set_number};
use super::message::{Borrowed, KIND, Message};
use super::{Peer, check};
use crate::Result;
use crate::child::{Child, stdin_socket};
use crate::job::{Case, Job, Kind};

#[derive(Debug)]
pub(super) struct Bytes;

impl Peer for Bytes {
    fn name(&self) -> &'static str {
        "ipc-channel-bytes"
    }

    fn can(&self, case: &Case) -> bool {
        case.kind != Kind::Descriptors
    }

    fn run(&self, job: &Job) -> Result<Duration> {
        let size = job.case.size;
        let mut body = body(size);
        with_child(self, job, |to: &IpcBytesSender, from: &IpcBytesReceiver| {
            job.time(|count| {
                for nth in 0..count {
                    set_number(&mut body, nth);
                    to.send(&body)?;
                    if job.case.kind == Kind::PingPong {
                        let answer = from.recv()?;
                        check(answer.len(), number(&answer), (size, nth))?;
                    }
                }
                if job.case.kind == Kind::OneWay {
                    from.recv()?;
                }
                Ok(())
            })
        })
    }

    fn serve(&self, job: &Job) -> Result<()> {
        let (to, here) = bytes_channel()?;
        let (there, from) = bytes_channel()?;
        introduce((to, from))?;
        job.each_stretch(|count| {
            for nth in 0..count {
                let body = here.recv()?;
                check(body.len(), number(&body), (job.case.size, nth))?;
                if job.case.kind == Kind::PingPong {
                    there.send(&body)?;
                }
            }
            if job.case.kind == Kind::OneWay {
                there.send(b".")?;
            }
            Ok(())
        })
    }
}

#[derive(Debug)]
pub(super) struct Typed;

/// A descriptor, to ipc-channel: a sender, which is a socket.
type Descriptor = IpcSender<()>;

impl Peer for Typed {
    fn name(&self) -> &'static str {
        "ipc-channel-typed"
    }

    fn can(&self, _: &Case) -> bool {
        true
    }

    fn run(&self, job: &Job) -> Result<Duration> {
        match job.case.kind {
            Kind::PingPong => {
                with_child(self, job, |to: &IpcSender<Message>, from: &IpcReceiver<Message>| {
                    let first = Message { id: 0, kind: KIND.to_owned(), payload: body(job.case.size) };
                    let mut message = Some(first);
                    job.time(|count| {
                        for id in 0..count {
                            // Sends what came back, so that nothing needs to be copied first.
                            let next = message.take().map(|message| Message { id, ..message });
                            to.send(next.ok_or("no message")?)?;
                            let answer = from.recv()?;
                            check(answer.payload.len(), answer.id, (job.case.size, id))?;
                            message = Some(answer);
                        }
                        Ok(())
                    })
                })
            }
            Kind::OneWay => with_child(self, job, |to: &IpcSender<Message>, from: &IpcReceiver<Message>| {
                let payload = body(job.case.size);
                let to = to.clone().to_opaque().to::<Borrowed<'_>>();
                job.time(|count| {
                    for id in 0..count {
                        to.send(Borrowed { id, kind: KIND, payload: &payload })?;
                    }
                    from.recv()?;
                    Ok(())
                })
            }),
            Kind::Descriptors => {
                with_child(self, job, |to: &IpcSender<Vec<Descriptor>>, from: &IpcReceiver<Message>| {
                    let (descriptor, _receiver) = ipc::channel()?;
                    job.time(|count| {
                        for _ in 0..count {
                            to.send(vec![descriptor.clone(); job.case.size])?;
                        }
                        from.recv()?;
                        Ok(())
                    })
                })
            }
        }
    }

    fn serve(&self, job: &Job) -> Result<()> {
        let (there, from) = ipc::channel::<Message>()?;
        let confirmation = Message { id: 0, kind: KIND.to_owned(), payload: Vec::new() };
        if job.case.kind == Kind::Descriptors {
            let (to, here) = ipc::channel::<Vec<Descriptor>>()?;
            introduce((to, from))?;
            return job.each_stretch(|count| {
                for nth in 0..count {
                    check(here.recv()?.len(), nth, (job.case.size, nth))?;
                }
                Ok(there.send(confirmation.clone())?)
            });
        }
        let (to, here) = ipc::channel::<Message>()?;
        introduce((to, from))?;
        job.each_stretch(|count| {
            for nth in 0..count {
                let message = here.recv()?;
                check(message.payload.len(), message.id, (job.case.size, nth))?;
                if message.kind != KIND {
                    return Err("a message of another kind".into());
                }
                if job.case.kind == Kind::PingPong {
                    there.send(message)?;
                }
            }
            if job.case.kind == Kind::OneWay {
                there.send(confirmation.clone())?;
            }
            Ok(())
        })
    }
}

/// Starts the child, tells it where to find us, and gets its two ends: to send to it, and to receive from it.
fn with_child<S, R>(
    peer: &dyn Peer,
    job: &Job,
    measure: impl FnOnce(&S, &R) -> Result<Duration>,
) -> Result<Duration>
where
    (S, R): Serialize + for<'de> Deserialize<'de>,
{
    let (server, name) = IpcOneShotServer::<(S, R)>::new()?;
    let (mut here, there) = UnixStream::pair()?;
    let child = Child::of(peer, job, OwnedFd::from(there))?;
    writeln!(here, "{name}")?;
    let (_, (to, from)) = server.accept()?;
    let took = measure(&to, &from)?;
    child.join()?;
    Ok(took)
}

/// The child's side of that.
fn introduce<T: Serialize>(ends: T) -> Result<()> {
    let mut name = String::new();
    BufReader::new(stdin_socket()?).read_line(&mut name)?;
    Ok(IpcSender::connect(name.trim_end().to_owned())?.send(ends)?)
}
