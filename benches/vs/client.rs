//! A small HTTP/1.1 client that waits: one connection at a time.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Asks for `/`.
///
/// Anything but a complete greeting is an error.
pub(crate) fn get(address: SocketAddr, patience: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") && is_greeting(body) => Ok(body.to_owned()),
        _ => Err(io::Error::other(format!("not the answer expected: {answer:?}"))),
    }
}

/// A connection that stays open.
#[derive(Debug)]
pub(crate) struct Kept(TcpStream);

impl Kept {
    /// `patience` is for the connection, and for each piece of an answer.
    pub(crate) fn open(address: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        Ok(Self(stream))
    }

    /// Anything but a complete answer with status 200 is an error, and the connection then of no use.
    pub(crate) fn ask(&mut self, path: &str) -> io::Result<String> {
        self.0.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
        let (mut answer, mut chunk) = (String::new(), [0; 4096]);
        loop {
            let read = match self.0.read(&mut chunk)? {
                0 => {
                    return Err(io::Error::new(ErrorKind::UnexpectedEof, format!("closed after {answer:?}")));
                }
                read => chunk.get(..read).unwrap_or_default(),
            };
            answer += &String::from_utf8_lossy(read);
            // All of ours end with a line feed and hold no other.
            match answer.split_once("\r\n\r\n") {
                Some((head, body)) if head.starts_with("HTTP/1.1 200 ") && body.ends_with('\n') => {
                    return Ok(body.to_owned());
                }
                Some((head, _)) if !head.starts_with("HTTP/1.1 200 ") => {
                    return Err(io::Error::other(format!("not the answer expected: {answer:?}")));
                }
                _ => {}
            }
        }
    }
}

/// Asks for `/` on a connection that stays open, and gives it back with the answer.
///
/// Anything but a complete greeting is an error.
pub(crate) fn keep(address: SocketAddr, patience: Duration) -> io::Result<(Kept, String)> {
    let mut kept = Kept::open(address, patience)?;
    let body = kept.ask("/")?;
    if !is_greeting(&body) {
        return Err(io::Error::other(format!("not the answer expected: {body:?}")));
    }
    Ok((kept, body))
}

fn is_greeting(body: &str) -> bool {
    body.starts_with("hello") && body.ends_with('\n')
}

/// The worker that answered `hello from worker … pid N`.
pub(crate) fn pid(body: &str) -> Option<u32> {
    body.split_once("pid ")?.1.trim().parse().ok()
}
