//! A small HTTP/1.1 client for many connections at a time, each for one request.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Result;

/// For one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks for `path`, and reads until the server closes the connection.
///
/// Anything but a complete answer with status 200 is an error.
pub(crate) async fn ask(address: SocketAddr, path: &str) -> io::Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.1 200 ") && body.ends_with('\n') => {
                Ok(body.to_owned())
            }
            _ => Err(io::Error::other(format!("not the answer expected: {answer:?}"))),
        }
    };
    tokio::time::timeout(PATIENCE, exchange).await?
}

/// Runs a client to its end, on this thread.
pub(crate) fn block_on<T>(client: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(client)
}
