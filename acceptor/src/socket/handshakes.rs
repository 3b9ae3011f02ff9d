//! Whether handshakes are under way on a port: sock_diag(7).
//!
//! A client is connected, as far as he knows, a round trip before he is in the queue of the socket. Only the kernel's list of
//! connections shows who is between these two. It is asked for those in state SYN_RECV alone, and the answer is ready when the question
//! has been asked: the kernel makes it in the same system call.
//!
//! Such a connection leaves that state only when it is in the queue already (`inet_csk_complete_hashdance`, then `tcp_child_process`). So if
//! there is none, the queue has all.

use std::io;
use std::net::SocketAddr;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// `SOCK_DIAG_BY_FAMILY`, both the question and each part of the answer.
const BY_FAMILY: u16 = 20;
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// `NLM_F_REQUEST | NLM_F_DUMP`.
const ALL: u16 = 0x301;

const HEADER: usize = 16;

/// `inet_diag_req_v2`.
const QUESTION: usize = 56;

/// `IPPROTO_TCP`.
const TCP: u8 = 6;

/// `SYN_RECV`, before and after the client's last step (`NEW_SYN_RECV` is what it is called before).
const HALF_OPEN: u32 = 1 << 3 | 1 << 12;

/// A port of a family, on whichever address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    family: AddressFamily,
    number: u16,
}

impl Port {
    pub(super) fn of(address: &SocketAddr) -> Self {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        Self { family, number: address.port() }
    }

    /// Whether a client has begun to connect to it and is not in a queue yet.
    ///
    /// # Errors
    ///
    /// This system does not tell.
    pub(crate) fn has_half_open(self) -> io::Result<bool> {
        let kind = SocketType::DGRAM;
        let socket =
            socket_with(AddressFamily::NETLINK, kind, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG))?;
        send(&socket, &self.question(), SendFlags::empty())?;
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let (length, _) = recv(&socket, &mut buffer[..], RecvFlags::DONTWAIT)?;
            if let Some(is_any) = read(buffer.get(..length).unwrap_or_default())? {
                return Ok(is_any);
            }
        }
    }

    fn question(self) -> Vec<u8> {
        let mut question = Vec::with_capacity(HEADER + QUESTION);
        question.extend(((HEADER + QUESTION) as u32).to_ne_bytes());
        question.extend(BY_FAMILY.to_ne_bytes());
        question.extend(ALL.to_ne_bytes());
        // Which question it is, and whose: there is one, and one who asks.
        question.extend([0; 8]);
        question.extend([self.family.as_raw() as u8, TCP, 0, 0]);
        question.extend(HALF_OPEN.to_ne_bytes());
        question.extend(self.number.to_be_bytes());
        // Whatever the other port, the addresses, the interface.
        question.resize(HEADER + QUESTION, 0);
        question
    }
}

/// What a part of the answer says: whether there are any, if that can be known by now.
fn read(mut part: &[u8]) -> io::Result<Option<bool>> {
    loop {
        let Some((length, kind)) = header(part) else { return Ok(None) };
        match kind {
            BY_FAMILY => return Ok(Some(true)),
            DONE => return Ok(Some(false)),
            ERROR => return Err(error(part)),
            _ => {}
        }
        // Each begins at a multiple of four.
        part = part.get(length.next_multiple_of(4).max(HEADER)..).unwrap_or_default();
    }
}

/// The length of a message, and what it is.
fn header(part: &[u8]) -> Option<(usize, u16)> {
    let length = u32::from_ne_bytes(*part.first_chunk()?);
    let kind = u16::from_ne_bytes(*part.get(4..)?.first_chunk()?);
    Some((length as usize, kind))
}

/// Behind the header stands the negative number of the error.
fn error(part: &[u8]) -> io::Error {
    let number = part.get(HEADER..).and_then(|rest| rest.first_chunk()).copied().map(i32::from_ne_bytes);
    io::Error::from_raw_os_error(number.map_or(0, i32::wrapping_neg))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut message = Vec::from(((HEADER + body.len()) as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.resize(HEADER, 0);
        message.extend(body);
        message.resize(message.len().next_multiple_of(4), 0);
        message
    }

    #[test]
    fn the_first_that_says_something_counts() {
        let (noise, one, done) =
            (message(1, b"whatever"), message(BY_FAMILY, &[0; 72]), message(DONE, &[0; 4]));
        assert_eq!(read(&[noise.clone(), one.clone(), done.clone()].concat()).unwrap(), Some(true));
        assert_eq!(read(&[noise.clone(), done, one].concat()).unwrap(), Some(false));
        assert_eq!(read(&noise).unwrap(), None, "more comes");
        // -EPERM
        let denied = message(ERROR, &(-1_i32).to_ne_bytes());
        assert_eq!(read(&denied).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn garbage_ends() {
        for byte in [0, 1, 0xff] {
            for length in 0..64 {
                drop(read(&vec![byte; length]));
            }
        }
        assert!(read(&message(ERROR, &[])).is_err());
    }
}
