//! A client of Redis that is as fast as it gets: blocking, on a unix socket, and it knows how long each answer is.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use cluster_shared_state::Key;

use crate::Result;
use crate::order::{TICK, VALUE, WINDOW, stamp};

const OK: &[u8] = b"+OK\r\n";

#[derive(Debug)]
pub(crate) struct Redis {
    stream: UnixStream,
    answer: Vec<u8>,
}

impl Redis {
    pub(crate) fn connect(path: &str) -> Result<Self> {
        let stream = UnixStream::connect(path)?;
        // A worker that waits for what never comes is ended by its parent, but says nothing.
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { stream, answer: Vec::new() })
    }

    /// Reads as many bytes as the answer has, and compares.
    fn expect(&mut self, answer: &[u8]) -> Result<()> {
        self.answer.resize(answer.len(), 0);
        self.stream.read_exact(&mut self.answer)?;
        if self.answer == answer {
            return Ok(());
        }
        Err(format!("Redis answered {:?}", String::from_utf8_lossy(&self.answer)).into())
    }

    pub(crate) fn set_key(&mut self, name: &str, value: &[u8]) -> Result<()> {
        self.stream.write_all(&command(&[b"SET", name.as_bytes(), value]))?;
        self.expect(OK)
    }

    pub(crate) fn get(&mut self, names: &[Key], count: u32) -> Result<Vec<u64>> {
        let requests: Vec<Vec<u8>> = names.iter().map(|name| command(&[b"GET", name])).collect();
        let answer = bulk(&VALUE);
        let mut stamps = Vec::with_capacity(2 * count as usize);
        for request in requests.iter().cycle().take(count as usize) {
            stamps.push(stamp());
            self.stream.write_all(request)?;
            self.expect(&answer)?;
            stamps.push(stamp());
        }
        Ok(stamps)
    }

    pub(crate) fn set(&mut self, count: u32) -> Result<Vec<u64>> {
        let request = command(&[b"SET", TICK.as_bytes(), &VALUE]);
        let mut stamps = Vec::with_capacity(2 * count as usize);
        for _ in 0..count {
            stamps.push(stamp());
            self.stream.write_all(&request)?;
            self.expect(OK)?;
            stamps.push(stamp());
        }
        Ok(stamps)
    }

    /// Two halves of a window take turns: while one is answered the other is on its way.
    pub(crate) fn pipelined(&mut self, names: &[Key], count: u32) -> Result<Vec<u64>> {
        let half = WINDOW / 2;
        let batch = |names: &[Key]| {
            let mut requests = Vec::new();
            names.iter().for_each(|name| append(&mut requests, &[b"SET", name, &VALUE]));
            requests
        };
        let batches: Vec<Vec<u8>> = names.chunks_exact(half).map(batch).collect();
        let answers = OK.repeat(half);
        let rounds = count as usize / half;
        let begin = stamp();
        for (nth, requests) in batches.iter().cycle().take(rounds).enumerate() {
            self.stream.write_all(requests)?;
            if nth > 0 {
                self.expect(&answers)?;
            }
        }
        self.expect(&answers)?;
        Ok(vec![begin, stamp()])
    }

    pub(crate) fn get_all(&mut self, names: &[Key]) -> Result<Vec<u64>> {
        let mut parts: Vec<&[u8]> = vec![b"MGET"];
        parts.extend(names.iter().map(|name| &name[..]));
        let request = command(&parts);
        let mut answer = format!("*{}\r\n", names.len()).into_bytes();
        answer.extend_from_slice(&bulk(&VALUE).repeat(names.len()));
        let begin = stamp();
        self.stream.write_all(&request)?;
        self.expect(&answer)?;
        Ok(vec![begin, stamp()])
    }

    pub(crate) fn publish(&mut self, count: u32, pause: Duration) -> Result<Vec<u64>> {
        let mut request = command(&[b"SET", TICK.as_bytes(), &VALUE]);
        append(&mut request, &[b"PUBLISH", TICK.as_bytes(), &VALUE]);
        let mut stamps = Vec::with_capacity(2 * count as usize);
        for _ in 0..count {
            std::thread::sleep(pause);
            stamps.push(stamp());
            self.stream.write_all(&request)?;
            self.expect(OK)?;
            stamps.push(stamp());
            // How many got it: one digit.
            self.expect(b":8\r\n")?;
        }
        Ok(stamps)
    }

    pub(crate) fn subscribe(&mut self) -> Result<()> {
        self.stream.write_all(&command(&[b"SUBSCRIBE", TICK.as_bytes()]))?;
        let mut answer = b"*3\r\n".to_vec();
        [&b"subscribe"[..], TICK.as_bytes()].iter().for_each(|part| answer.extend(bulk(part)));
        answer.extend_from_slice(b":1\r\n");
        self.expect(&answer)
    }

    pub(crate) fn next_message(&mut self) -> Result<()> {
        self.expect(&command(&[b"message", TICK.as_bytes(), &VALUE]))
    }
}

/// An array of strings: a request, or what a subscriber gets.
fn command(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    append(&mut bytes, parts);
    bytes
}

fn append(bytes: &mut Vec<u8>, parts: &[&[u8]]) {
    bytes.extend_from_slice(format!("*{}\r\n", parts.len()).as_bytes());
    parts.iter().for_each(|part| bytes.extend(bulk(part)));
}

fn bulk(part: &[u8]) -> Vec<u8> {
    let mut bytes = format!("${}\r\n", part.len()).into_bytes();
    bytes.extend_from_slice(part);
    bytes.extend_from_slice(b"\r\n");
    bytes
}
