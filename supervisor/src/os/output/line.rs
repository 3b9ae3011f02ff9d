//! What a child wrote, and who takes it.

use std::borrow::Cow;

use super::Stream;

/// What a line is: the child's own, or our word about lines that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A line, or the last piece of one.
    Ended,
    /// A piece of a line that goes on in the next one.
    Continued,
    /// Here so many lines are missing.
    Dropped(u64),
}

/// A line of a child, as a [`Sink`] gets it.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a, K> {
    pub(super) source: K,
    pub(super) stream: Stream,
    pub(super) text: &'a [u8],
    pub(super) kind: Kind,
}

impl<'a, K: Copy> Line<'a, K> {
    /// The child that wrote it.
    pub fn source(&self) -> K {
        self.source
    }

    /// The stream that it was written to.
    pub fn stream(&self) -> Stream {
        self.stream
    }

    /// Its bytes as the child wrote them, without the newline (and the carriage return before it).
    pub fn text(&self) -> &'a [u8] {
        self.text
    }

    /// Its text for people: what is no UTF-8 becomes `�`.
    pub fn to_text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.text)
    }

    /// Whether the line was too long for one piece and goes on in the next line of this stream.
    pub fn is_continued(&self) -> bool {
        self.kind == Kind::Continued
    }

    /// How many lines of this stream are missing here, if this line is our word about that.
    ///
    /// Its text then is "… 1234 lines dropped". Each piece of a long line counts as a line.
    pub fn dropped(&self) -> Option<u64> {
        match self.kind {
            Kind::Dropped(lines) => Some(lines),
            Kind::Ended | Kind::Continued => None,
        }
    }
}

/// Takes the lines of all children, on a thread of its own.
///
/// It may block: no child waits for it longer than [`CaptureLimits::patience`](super::CaptureLimits::patience) at a
/// time, and what finds no room meanwhile is dropped and counted.
/// If it panics, its thread ends: from then on lines are dropped and counted, and the children go on.
///
/// Any `FnMut(Line<'_, K>)` that can be sent to a thread is one.
pub trait Sink<K>: Send {
    /// Takes a line. Those of one stream come in order; those of different streams about as they were written.
    fn line(&mut self, line: Line<'_, K>);

    /// Nothing more is here at the moment: a sink that collects lines should write them now.
    fn flush(&mut self) {}
}

impl<K, F: FnMut(Line<'_, K>) + Send> Sink<K> for F {
    fn line(&mut self, line: Line<'_, K>) {
        self(line);
    }
}
