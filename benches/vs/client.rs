//! A small HTTP/1.1 client: one request on a connection of its own.

use std::io::{self, Read, Write};
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

fn is_greeting(body: &str) -> bool {
    body.starts_with("hello") && body.ends_with('\n')
}

/// The worker that answered `hello from worker … pid N`.
pub(crate) fn pid(body: &str) -> Option<u32> {
    body.split_once("pid ")?.1.trim().parse().ok()
}
