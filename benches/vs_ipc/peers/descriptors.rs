//! Open files over a raw stream: a byte and its descriptors in each `sendmsg`.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::framing::{await_confirmation, confirm};
use crate::Result;
use crate::job::Job;

/// The kernel's limit.
const MOST: usize = 253;

/// What the peers that can choose send again and again: a socket, like those that go to workers.
pub(super) fn any_file() -> Result<TcpListener> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?)
}

pub(super) fn send(job: &Job, stream: &UnixStream) -> Result<Duration> {
    let file = any_file()?;
    let files = vec![file.as_fd(); job.case.size];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    job.time(|count| {
        for _ in 0..count {
            control.clear();
            if !control.push(SendAncillaryMessage::ScmRights(&files)) {
                return Err("too many descriptors in a message".into());
            }
            loop {
                match sendmsg(stream, &[IoSlice::new(b".")], &mut control, SendFlags::empty()) {
                    Ok(_) => break,
                    Err(Errno::INTR) => {}
                    // Who is not root may only have so many on their way.
                    Err(Errno::TOOMANYREFS) => std::thread::yield_now(),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        await_confirmation(stream)
    })
}

pub(super) fn receive(job: &Job, stream: &UnixStream) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST))];
    let mut byte = [0];
    job.each_stretch(|count| {
        for nth in 0..count {
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let received =
                recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
            // Each is closed as it is counted.
            let files: usize = control
                .drain()
                .map(|message| match message {
                    RecvAncillaryMessage::ScmRights(files) => files.count(),
                    _ => 0,
                })
                .sum();
            if received.bytes == 0 || received.flags.contains(ReturnFlags::CTRUNC) || files != job.case.size {
                return Err(format!("message {nth} brought {files} descriptors of {}", job.case.size).into());
            }
        }
        confirm(stream)
    })
}
