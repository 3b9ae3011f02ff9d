//! The other end, by hand: bytes as a stranger may send them.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cluster_ipc::{Received, Sent, Transport};

use crate::end::End;
use crate::frames::{GENEROUS, RawFrame, WELCOME, online, welcome};

/// One end of a stream, and nothing that understands it.
pub struct Stranger {
    transport: Box<dyn Transport>,
    heard: Vec<u8>,
    pub descriptors: Vec<OwnedFd>,
}

impl Stranger {
    pub fn new(transport: impl Transport + 'static) -> Self {
        Self { transport: Box::new(transport), heard: Vec::new(), descriptors: Vec::new() }
    }

    /// Writes bytes; few enough that they fit.
    pub fn say(&mut self, bytes: &[u8]) {
        self.say_with(bytes, &[]);
    }

    pub fn say_with(&mut self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
        let sent = self.transport.send(&[IoSlice::new(bytes)], descriptors).unwrap();
        assert_eq!(sent, Sent::Bytes(bytes.len()), "a stranger says little at a time");
    }

    pub fn frame(&mut self, frame: &RawFrame) {
        self.say(&frame.bytes());
    }

    /// Waits for the next frame of the end it talks to.
    pub fn hear(&mut self, end: &mut impl End) -> RawFrame {
        self.hear_or_end(end).expect("a frame, not the end")
    }

    /// The same; `None` when the other end has closed.
    pub fn hear_or_end(&mut self, end: &mut impl End) -> Option<RawFrame> {
        loop {
            if let Some(frame) = RawFrame::take(&mut self.heard) {
                return Some(frame);
            }
            let mut buffer = [0; 4096];
            match self.transport.receive(&mut buffer, &mut self.descriptors).unwrap() {
                Received::Bytes(bytes) => self.heard.extend(&buffer[..bytes]),
                Received::PeerGone => return None,
                _ => end.turn(),
            }
        }
    }

    /// The same, past frames of other kinds.
    pub fn hear_kind(&mut self, end: &mut impl End, kind: u8) -> RawFrame {
        loop {
            let frame = self.hear(end);
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Answers the Welcome like a child that takes a lot.
    pub fn join(&mut self, end: &mut impl End) {
        self.hear_kind(end, WELCOME);
        self.frame(&online(&GENEROUS, b""));
        end.opened().unwrap();
    }

    /// Welcomes like a parent that takes a lot.
    pub fn invite(&mut self, end: &mut impl End) {
        self.frame(&welcome(&GENEROUS, b""));
        end.opened().unwrap();
    }

    /// Whether the other end has closed. Throws away what it said before.
    pub fn until_end(&mut self, end: &mut impl End) {
        while self.hear_or_end(end).is_some() {}
    }
}

impl AsRef<[OwnedFd]> for Stranger {
    fn as_ref(&self) -> &[OwnedFd] {
        &self.descriptors
    }
}

/// Descriptors to lend.
pub fn lend(descriptors: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    descriptors.iter().map(AsFd::as_fd).collect()
}
