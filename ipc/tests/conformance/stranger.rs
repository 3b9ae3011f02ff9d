//! The other end, by hand: bytes as a stranger may send them.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cluster_ipc::{Error, Received, Sent, Transport};

use crate::end::End;
use crate::frames::{GENEROUS, RawFrame, WELCOME, online};

/// One end of a stream, and nothing that understands it.
pub(crate) struct Stranger {
    transport: Box<dyn Transport>,
    heard: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Stranger {
    pub(crate) fn new(transport: impl Transport + 'static) -> Self {
        Self { transport: Box::new(transport), heard: Vec::new(), descriptors: Vec::new() }
    }

    /// Writes bytes; few enough that they fit.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.say_with(bytes, &[]);
    }

    pub(crate) fn say_with(&mut self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
        let sent = self.transport.send(&[IoSlice::new(bytes)], descriptors).unwrap();
        assert_eq!(sent, Sent::Bytes(bytes.len()), "a stranger says little at a time");
    }

    pub(crate) fn frame(&mut self, frame: &RawFrame) {
        self.say(&frame.bytes());
    }

    /// The same, for one who may not be listened to any more.
    pub(crate) fn try_frame(&mut self, frame: &RawFrame) -> Result<Sent, Error> {
        self.transport.send(&[IoSlice::new(&frame.bytes())], &[])
    }

    /// Waits for the next frame of the end it talks to.
    pub(crate) fn hear(&mut self, end: &mut impl End) -> RawFrame {
        self.hear_or_end(end).expect("a frame, not the end")
    }

    /// The same; `None` when the other end has closed.
    pub(crate) fn hear_or_end(&mut self, end: &mut impl End) -> Option<RawFrame> {
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
    pub(crate) fn hear_kind(&mut self, end: &mut impl End, kind: u8) -> RawFrame {
        loop {
            let frame = self.hear(end);
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Answers the Welcome like a child that takes a lot.
    pub(crate) fn join(&mut self, end: &mut impl End) {
        self.hear_kind(end, WELCOME);
        self.frame(&online(&GENEROUS, b""));
        end.opened().unwrap();
    }

    /// Whether the other end has closed. Throws away what it said before.
    pub(crate) fn until_end(&mut self, end: &mut impl End) {
        while self.hear_or_end(end).is_some() {}
    }
}

/// Descriptors to lend.
pub(crate) fn lend(descriptors: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    descriptors.iter().map(AsFd::as_fd).collect()
}
