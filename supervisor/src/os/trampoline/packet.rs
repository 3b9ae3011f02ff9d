//! Packets between parent and trampoline, and the description in memory of its own.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::MemfdFlags;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::Refusal;
use super::description::{MAX_DESCRIPTORS, MAX_LEN, Malformed};

/// Before the descriptors of a description: its memory; after them nothing.
const DESCRIBE: &[u8] = b"describe\x01";

/// Memory, executable, stdin and stdout, besides those at given numbers.
const MAX_SENT: usize = MAX_DESCRIPTORS + 4;

/// Sends one packet without descriptors. A peer that is gone is an error, and no signal.
pub(super) fn send(socket: impl AsFd, bytes: &[u8]) -> Result<(), Errno> {
    send_with(socket, bytes, &[])
}

/// Receives one packet; an empty one is the end of file.
pub(super) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<&[u8], Errno> {
    let (_, length) = retry_on_intr(|| rustix::net::recv(socket.as_fd(), &mut *buffer, RecvFlags::empty()))?;
    // A longer packet is cut off: longer than any that makes sense, it stays nonsense.
    Ok(&buffer[..length.min(buffer.len())])
}

/// Sends a description. The bytes go in memory of their own, so that nobody waits for room in the socket.
pub(super) fn send_description(
    socket: impl AsFd,
    body: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let memory = File::from(rustix::fs::memfd_create("description", MemfdFlags::CLOEXEC)?);
    memory.write_all_at(body, 0).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let mut all = vec![memory.as_fd()];
    all.extend(descriptors);
    send_with(socket, DESCRIBE, &all)
}

fn send_with(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SENT))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::TOOMANYREFS);
    }
    let bytes = [IoSlice::new(bytes)];
    retry_on_intr(|| sendmsg(socket.as_fd(), &bytes, &mut control, SendFlags::NOSIGNAL)).map(|_| ())
}

/// Receives a description and what came with it, in order.
pub(super) fn receive_description(socket: impl AsFd) -> Result<(Vec<u8>, Vec<OwnedFd>), Refusal> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SENT))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffer = [0; 32];
    let received = retry_on_intr(|| {
        let mut bytes = [IoSliceMut::new(&mut buffer)];
        recvmsg(socket.as_fd(), &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut descriptors = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            descriptors.extend(received);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Refusal::Stranger(
            "descriptors were lost on the way: the limit of open files is too low",
        ));
    }
    if buffer.get(..received.bytes) != Some(DESCRIBE) || descriptors.is_empty() {
        return Err(Refusal::Stranger("the parent has not sent a description"));
    }
    let memory = File::from(descriptors.remove(0));
    Ok((read_all(&memory)?, descriptors))
}

fn read_all(memory: &File) -> Result<Vec<u8>, Refusal> {
    let failed = |error: std::io::Error| Refusal::Socket(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    let length = memory.metadata().map_err(failed)?.len();
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > MAX_LEN {
        return Err(Malformed("it is longer than 8 MiB").into());
    }
    let mut bytes = vec![0; length];
    memory.read_exact_at(&mut bytes, 0).map_err(failed)?;
    Ok(bytes)
}
