//! Servers that behave as servers do when they are sick.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread::{park_timeout, spawn};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};

/// Serves each connection with this, for as long as the test lives.
pub(crate) fn server(serve: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    spawn(move || listener.incoming().for_each(|stream| serve(stream.unwrap())));
    address
}

/// Answers every request with this.
pub(crate) fn answering(answer: &'static str) -> SocketAddr {
    server(move |mut stream| {
        read_request(&mut stream);
        // Whoever asked may have gone.
        let _ = stream.write_all(answer.as_bytes());
    })
}

/// Answers every request with this and then the other, again and again, every so often.
pub(crate) fn endless(first: &'static str, then: &'static str, pause: Duration) -> SocketAddr {
    server(move |mut stream| {
        read_request(&mut stream);
        let mut written = stream.write_all(first.as_bytes());
        while written.is_ok() {
            if !pause.is_zero() {
                park_timeout(pause);
            }
            written = stream.write_all(then.as_bytes());
        }
    })
}

/// Reads until the empty line, and returns what was asked.
pub(crate) fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|got| got == 1) {
        request.extend(byte);
    }
    String::from_utf8(request).unwrap()
}

/// An address where nobody listens, and nobody will.
pub(crate) fn nobody() -> (OwnedFd, SocketAddr) {
    let taken = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&taken, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = getsockname(&taken).unwrap().try_into().unwrap();
    (taken, address)
}

/// A listener with room for one connection or so, which it never accepts.
pub(crate) fn narrow() -> (OwnedFd, SocketAddr) {
    let (listener, address) = nobody();
    listen(&listener, 0).unwrap();
    (listener, address)
}
