//! A GET, of whose answer only the status is read.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::io::{Errno, read};
use rustix::net::{SendFlags, send};

use super::super::Error;
use super::connect;
use super::reason::{End, shown};
use super::wait::Wait;

/// A GET over plain TCP (HTTP/1.1, `Connection: close`), and the status that is to be answered.
///
/// Only the status line of the answer is read, at most 8 KiB, and redirects are not followed. An answer that is longer than what came
/// with its status line finds the connection closed.
///
/// | | default |
/// |---|---|
/// | [`host`](Self::host) | the address |
/// | [`expected`](Self::expected) | 200 to 299 |
///
/// ```
/// use cluster_health::os::HttpGet;
///
/// # fn main() -> Result<(), cluster_health::os::Error> {
/// let get = HttpGet::new(([127, 0, 0, 1], 3000), "/health?full")?.host("shop.example")?.expected(200..=399);
/// assert_eq!(get.to_string(), "GET /health?full from 127.0.0.1:3000");
/// assert!(HttpGet::new(([127, 0, 0, 1], 3000), "/ HTTP/1.0\r\nCookie: mine").is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct HttpGet {
    address: SocketAddr,
    host: String,
    path: String,
    expected: RangeInclusive<u16>,
}

impl HttpGet {
    /// Asks this address for this path, which may have a query.
    ///
    /// # Errors
    ///
    /// [`Error::MalformedRequest`] unless the path begins with `/` and consists of visible ASCII
    /// characters (escape others: `%20`), 4096 at most.
    pub fn new(address: impl Into<SocketAddr>, path: impl Into<String>) -> Result<Self, Error> {
        let (address, path) = (address.into(), path.into());
        if !path.starts_with('/') || !is_visible(&path, 4096) {
            return Err(Error::MalformedRequest { part: "path", given: shown(path.as_bytes()) });
        }
        Ok(Self { host: address.to_string(), address, path, expected: 200..=299 })
    }

    /// What it calls the server (`Host`).
    ///
    /// # Errors
    ///
    /// [`Error::MalformedRequest`] unless it consists of visible ASCII characters, 1 to 255.
    pub fn host(self, host: impl Into<String>) -> Result<Self, Error> {
        let host = host.into();
        if host.is_empty() || !is_visible(&host, 255) {
            return Err(Error::MalformedRequest { part: "host", given: shown(host.as_bytes()) });
        }
        Ok(Self { host, ..self })
    }

    /// Which status is a good answer. Of an empty range, none is.
    pub fn expected(self, status: RangeInclusive<u16>) -> Self {
        Self { expected: status, ..self }
    }
}

impl fmt::Display for HttpGet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GET {} from {}", self.path, self.address)
    }
}

fn is_visible(text: &str, most: usize) -> bool {
    text.len() <= most && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Asks, and reads until the status is known.
pub(super) fn get(get: &HttpGet, wait: &mut Wait<'_>) -> Result<(), End> {
    let socket = connect::tcp(get.address, wait)?;
    let HttpGet { address, host, path, expected } = get;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: cluster-health/{}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    write_all(&socket, request.as_bytes(), wait)
        .map_err(|end| end.or_late(|| format!("{address} took no request within {}", wait.timeout())))?;
    let (status, words) = read_status(&socket, *address, wait)?;
    if expected.contains(&status) {
        return Ok(());
    }
    let words = if words.is_empty() { words } else { format!(" {words}") };
    let (first, last) = (expected.start(), expected.end());
    let range = if first == last { first.to_string() } else { format!("{first}–{last}") };
    Err(End::Bad(format!("answered {status}{words}, expected {range}")))
}

/// Writes it, unless the other side takes no more: it may have answered all the same.
fn write_all(socket: &OwnedFd, mut bytes: &[u8], wait: &mut Wait<'_>) -> Result<(), End> {
    while !bytes.is_empty() {
        match send(socket, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait.until(socket.as_fd(), PollFlags::OUT)?,
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

/// So much of an answer is read at most.
const LONGEST: usize = 8 * 1024;

fn read_status(socket: &OwnedFd, address: SocketAddr, wait: &mut Wait<'_>) -> Result<(u16, String), End> {
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match Head::parse(&answer) {
            Head::Status(status, words) => return Ok((status, shown(words))),
            Head::Foreign => return Err(End::Bad(format!("answered no HTTP: {}", shown(&answer)))),
            Head::Partial if answer.len() >= LONGEST => {
                return Err(End::Bad(format!("answered no status in {} KiB", LONGEST / 1024)));
            }
            Head::Partial => {}
        }
        let late = |timeout| match answer.len() {
            0 => format!("no answer from {address} within {timeout}"),
            bytes => format!("no whole answer from {address} within {timeout}, only {bytes} bytes"),
        };
        wait.until(socket.as_fd(), PollFlags::IN).map_err(|end| end.or_late(|| late(wait.timeout())))?;
        let room = chunk.len().min(LONGEST - answer.len().min(LONGEST));
        match read(socket, chunk.get_mut(..room).unwrap_or_default()) {
            Ok(0) if answer.is_empty() => {
                return Err(End::Bad(format!("{address} closed the connection without an answer")));
            }
            Ok(0) => {
                let got = shown(&answer);
                return Err(End::Bad(format!("{address} closed the connection within its answer: {got}")));
            }
            Ok(got) => answer.extend_from_slice(chunk.get(..got).unwrap_or_default()),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::CONNRESET) => {
                return Err(End::Bad(format!("{address} reset the connection without an answer")));
            }
            Err(errno) => return Err(End::of(format_args!("could not read from {address}"), errno)),
        }
    }
}

/// What is known of an answer by its beginning.
#[derive(Debug, PartialEq, Eq)]
enum Head<'a> {
    /// More of it is needed.
    Partial,
    /// The status, and what it says beside.
    Status(u16, &'a [u8]),
    /// It is something else.
    Foreign,
}

impl<'a> Head<'a> {
    fn parse(mut answer: &'a [u8]) -> Self {
        loop {
            // Who speaks something else should not be waited for.
            if !answer.starts_with(VERSION) && !VERSION.starts_with(answer) {
                return Self::Foreign;
            }
            let Some(line) = line(answer) else { return Self::Partial };
            match Self::status(line) {
                // Informational: the real one follows after an empty line. But 101 is final.
                Some((100 | 102..200, _)) => match end_of_head(answer) {
                    Some(rest) => answer = rest,
                    None => return Self::Partial,
                },
                Some((status, words)) => return Self::Status(status, words),
                None => return Self::Foreign,
            }
        }
    }

    /// `HTTP/1.1 200 OK`.
    fn status(line: &'a [u8]) -> Option<(u16, &'a [u8])> {
        let [minor, b' ', hundreds, tens, ones, rest @ ..] = line.strip_prefix(VERSION)? else { return None };
        let is_number = [minor, hundreds, tens, ones].iter().all(|byte| byte.is_ascii_digit());
        let is_whole = rest.is_empty() || rest.starts_with(b" ");
        let status = [hundreds, tens, ones]
            .iter()
            .fold(0, |sum, digit| 10 * sum + u16::from(digit.wrapping_sub(b'0')));
        (is_number && is_whole && status >= 100).then_some((status, rest.trim_ascii()))
    }
}

const VERSION: &[u8] = b"HTTP/1.";

/// The first line, without its end; `None` if that hasn't come yet.
fn line(text: &[u8]) -> Option<&[u8]> {
    let line = text.get(..text.iter().position(|byte| *byte == b'\n')?)?;
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}

/// What comes after the first empty line.
fn end_of_head(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        let is_end = line(text)?.is_empty();
        text = text.get(text.iter().position(|byte| *byte == b'\n')? + 1..)?;
        if is_end {
            return Some(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_status_is_known_by_its_line_alone() {
        let parse = |text: &'static str| Head::parse(text.as_bytes());
        assert_eq!(parse("HTTP/1.1 200 OK\r\nServ"), Head::Status(200, b"OK"));
        assert_eq!(parse("HTTP/1.0 404\n"), Head::Status(404, b""));
        assert_eq!(parse("HTTP/1.1 503 Service Unavailable\r\n"), Head::Status(503, b"Service Unavailable"));
        for partial in ["", "H", "HTTP/1.", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r"] {
            assert_eq!(parse(partial), Head::Partial, "{partial:?}");
        }
        for foreign in [
            "SSH-2.0",
            "HTTP/2 200\r\n",
            "http/1.1 200 OK\r\n",
            "\r\nHTTP/1.1 200 OK\r\n",
            "HTTP/1.1 2000 OK\r\n",
            "HTTP/1.1 20 OK\r\n",
            "HTTP/1.1 099 OK\r\n",
            "HTTP/1.1  200 OK\r\n",
            "HTTP/1.1 200OK\r\n",
        ] {
            assert_eq!(parse(foreign), Head::Foreign, "{foreign:?}");
        }
    }

    #[test]
    fn informational_answers_are_passed_over() {
        let parse = |text: &'static str| Head::parse(text.as_bytes());
        let early =
            "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 Oh\r\n";
        assert_eq!(parse(early), Head::Status(500, b"Oh"));
        assert_eq!(parse("HTTP/1.1 103 Early Hints\r\nLink: a\r\n"), Head::Partial);
        assert_eq!(parse("HTTP/1.1 101 Switching Protocols\r\n"), Head::Status(101, b"Switching Protocols"));
    }

    #[test]
    fn nothing_can_be_put_into_a_request() {
        let address = ([127, 0, 0, 1], 80);
        for path in ["", "health", "/a b", "/a\r\nX: y", "/ü", "/\0"] {
            assert!(HttpGet::new(address, path).is_err(), "{path:?}");
        }
        for host in ["", "a b", "a\r\nX: y"] {
            assert!(HttpGet::new(address, "/").unwrap().host(host).is_err(), "{host:?}");
        }
        let error = HttpGet::new(address, "/a\r\n").unwrap_err().to_string();
        assert!(error.contains("the path /a"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60), at in 0..60_usize) {
            let _ = Head::parse(&bytes);
            let mut answer = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\n".to_vec();
            answer.splice(at.min(answer.len())..(at + 2).min(answer.len()), bytes);
            let _ = Head::parse(&answer);
        }

        #[test]
        fn more_of_an_answer_changes_nothing_that_is_known(cut in 0..60_usize) {
            let answer = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\n";
            let known = Head::parse(answer.get(..cut).unwrap_or(answer));
            prop_assert!(matches!(known, Head::Partial | Head::Status(200, b"OK")));
        }
    }
}
