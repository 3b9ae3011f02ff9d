//! The last lines of a child, for whoever asks why it died.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;

use super::{Piece, Stream};

/// A piece of memory that is larger than this is not kept for the next line.
const KEPT: usize = 256;

/// The last lines that a child wrote, on both of its streams, in the order in which they were read.
///
/// Bounded in lines and in bytes, whatever the child writes; a new line takes over the memory of the oldest.
/// Half of both is for each stream if it needs it: so what it said on stderr as it died is here, however much stood in
/// its other pipe. Between streams the order is that of reading, which is about that of writing.
/// Shown to people it is a line of text for each, after the name of its stream.
///
/// ```
/// use cluster_supervisor::os::{Lines, Stream, Tail};
///
/// let mut tail = Tail::new().lines(2);
/// let (mut lines, mut input) = (Lines::new(), &b"starts\nloads\nfails\n"[..]);
/// while let Some(piece) = lines.next(&mut input) {
///     tail.push(Stream::Stderr, piece);
/// }
/// assert_eq!(tail.to_string(), "err: loads\nerr: fails\n");
/// ```
#[derive(Clone, Debug)]
pub struct Tail {
    max_lines: usize,
    max_bytes: usize,
    lines: VecDeque<TailLine>,
    /// What of it is whose.
    shares: [Share; 2],
}

/// What one stream has here.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    lines: usize,
    bytes: usize,
}

/// One of the last lines of a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailLine {
    stream: Stream,
    text: Vec<u8>,
    is_continued: bool,
}

impl TailLine {
    /// The stream that it was written to.
    pub fn stream(&self) -> Stream {
        self.stream
    }

    /// Its bytes, without the end of the line.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Its text for people: what is no UTF-8 becomes `�`.
    pub fn to_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.text)
    }

    /// Whether there was more of this line: in the next one of its stream, or cut off because it didn't fit in here.
    pub fn is_continued(&self) -> bool {
        self.is_continued
    }
}

impl fmt::Display for TailLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.is_continued { "…" } else { "" };
        write!(f, "{}: {}{more}", self.stream, self.to_text())
    }
}

impl Default for Tail {
    fn default() -> Self {
        Self::new()
    }
}

impl Tail {
    /// How many lines are kept, unless [`lines`](Self::lines) says otherwise.
    pub const LINES: usize = 32;

    /// How many bytes are kept, unless [`bytes`](Self::bytes) says otherwise: 16 KiB.
    pub const BYTES: usize = 16 * 1024;

    /// No lines yet.
    pub fn new() -> Self {
        Self {
            max_lines: Self::LINES,
            max_bytes: Self::BYTES,
            lines: VecDeque::new(),
            shares: [Share::default(); 2],
        }
    }

    /// Sets how many lines are kept. Default: [`LINES`](Self::LINES).
    #[must_use]
    pub fn lines(mut self, lines: usize) -> Self {
        self.max_lines = lines;
        self
    }

    /// Sets how many bytes are kept. Default: [`BYTES`](Self::BYTES).
    ///
    /// Of a line that is longer by itself the beginning is kept.
    #[must_use]
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Adds a line; the oldest ones make room for it.
    pub fn push(&mut self, stream: Stream, piece: Piece<'_>) {
        if self.max_lines == 0 {
            return;
        }
        let text = &piece.text()[..piece.text().len().min(self.max_bytes)];
        let mut memory = Vec::new();
        while let Some(oldest) = self.make_room(stream, text.len()) {
            memory = oldest;
        }
        if memory.capacity() > KEPT {
            memory = Vec::new();
        }
        memory.clear();
        memory.extend_from_slice(text);
        let share = &mut self.shares[stream.index()];
        (share.lines, share.bytes) = (share.lines + 1, share.bytes + text.len());
        let is_continued = piece.is_continued() || text.len() < piece.text().len();
        self.lines.push_back(TailLine { stream, text: memory, is_continued });
    }

    /// Removes a line if one more of `stream` would be too much, and returns its memory.
    fn make_room(&mut self, stream: Stream, bytes: usize) -> Option<Vec<u8>> {
        let other = self.shares[1 - stream.index()];
        let is_other_large = if self.lines.len() >= self.max_lines {
            other.lines > self.max_lines / 2
        } else if self.shares[0].bytes + self.shares[1].bytes + bytes > self.max_bytes {
            other.bytes > self.max_bytes / 2
        } else {
            return None;
        };
        let oldest = |is_other| self.lines.iter().position(|line| (line.stream != stream) == is_other);
        // A long line may need more than its half when there is nothing else to remove.
        let at = oldest(is_other_large).or_else(|| oldest(!is_other_large))?;
        let line = self.lines.remove(at)?;
        let share = &mut self.shares[line.stream.index()];
        (share.lines, share.bytes) = (share.lines - 1, share.bytes - line.text.len());
        Some(line.text)
    }

    /// The lines, the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &TailLine> + ExactSizeIterator {
        self.lines.iter()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(tail: &Tail) -> Vec<&[u8]> {
        tail.iter().map(TailLine::text).collect()
    }

    #[test]
    fn the_newest_lines_are_kept_with_their_stream() {
        let mut tail = Tail::new();
        for number in 0..100 {
            let stream = Stream::BOTH[number % 2];
            tail.push(stream, Piece::new(number.to_string().as_bytes(), false));
        }
        let kept: Vec<String> = tail.iter().map(ToString::to_string).collect();
        assert_eq!(kept.len(), Tail::LINES);
        assert_eq!((&*kept[0], &*kept[31]), ("out: 68", "err: 99"));
    }

    #[test]
    fn a_chatty_stream_does_not_push_out_the_last_words_of_the_other() {
        let mut tail = Tail::new().lines(4);
        for text in ["a", "b", "c"] {
            tail.push(Stream::Stderr, Piece::new(text.as_bytes(), false));
        }
        for number in 0..100 {
            tail.push(Stream::Stdout, Piece::new(number.to_string().as_bytes(), false));
        }
        assert_eq!(tail.to_string(), "err: b\nerr: c\nout: 98\nout: 99\n");
    }

    #[test]
    fn a_line_that_does_not_fit_leaves_its_beginning() {
        let mut tail = Tail::new().bytes(4);
        tail.push(Stream::Stdout, Piece::new(b"ab", false));
        tail.push(Stream::Stdout, Piece::new(b"abcdefgh", false));
        assert_eq!(tail.to_string(), "out: abcd…\n");
        tail.push(Stream::Stderr, Piece::new(b"", false));
        assert_eq!(tail.to_string(), "out: abcd…\nerr: \n", "an empty line takes no bytes");
    }

    #[test]
    fn what_is_no_utf8_is_kept_as_bytes_and_shown_as_replacement() {
        let mut tail = Tail::new();
        tail.push(Stream::Stdout, Piece::new(b"a\xff", false));
        assert_eq!(texts(&tail), [b"a\xff"]);
        assert_eq!(tail.to_string(), "out: a\u{fffd}\n");
    }

    #[test]
    fn a_tail_of_no_lines_or_no_bytes_keeps_no_text() {
        for mut tail in [Tail::new().lines(0), Tail::new().bytes(0)] {
            tail.push(Stream::Stdout, Piece::new(b"a", false));
            assert_eq!(texts(&tail).concat(), b"");
        }
    }

    proptest! {
        #[test]
        fn it_is_the_longest_end_that_keeps_both_bounds(
            lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 0..80),
            max_lines in 1_usize..40,
            max_bytes in 400_usize..2000,
        ) {
            let mut tail = Tail::new().lines(max_lines).bytes(max_bytes);
            for line in &lines {
                tail.push(Stream::Stdout, Piece::new(line, false));
            }
            let mut expected: Vec<&[u8]> = Vec::new();
            for line in lines.iter().rev() {
                let bytes: usize = expected.iter().map(|line| line.len()).sum();
                if expected.len() == max_lines || bytes + line.len() > max_bytes {
                    break;
                }
                expected.insert(0, line);
            }
            prop_assert_eq!(texts(&tail), expected);
            let memory: usize = tail.lines.iter().map(|line| line.text.capacity()).sum();
            prop_assert!(memory <= max_bytes + max_lines * KEPT, "{memory} bytes of memory");
        }

        #[test]
        fn of_each_stream_the_end_is_kept_and_half_of_all_is_its_own(
            lines in proptest::collection::vec((0_usize..2, 0_usize..40), 0..80),
            max_lines in 1_usize..20,
            max_bytes in 40_usize..400,
        ) {
            let mut tail = Tail::new().lines(max_lines).bytes(max_bytes);
            let texts: Vec<String> = lines.iter().map(|(_, length)| "x".repeat(*length)).collect();
            for ((stream, _), text) in lines.iter().zip(&texts) {
                tail.push(Stream::BOTH[*stream], Piece::new(text.as_bytes(), false));
            }
            let kept = |stream| tail.iter().filter(move |line| line.stream() == stream);
            let bytes: usize = tail.iter().map(|line| line.text().len()).sum();
            prop_assert!(tail.iter().len() <= max_lines && bytes <= max_bytes);
            for stream in Stream::BOTH {
                let all: Vec<usize> =
                    lines.iter().filter(|line| line.0 == stream.index()).map(|line| line.1).collect();
                let own: Vec<usize> = kept(stream).map(|line| line.text().len()).collect();
                prop_assert!(all.ends_with(&own), "{own:?} is no end of {all:?}");
                // The longest end within half of both bounds, unless one line was longer than half of the bytes.
                let mut sum = 0;
                let half = all.iter().rev().take(max_lines / 2).take_while(|length| {
                    sum += **length;
                    sum <= max_bytes / 2
                });
                let is_short = lines.iter().all(|line| line.1 <= max_bytes / 2);
                prop_assert!(!is_short || own.len() >= half.count(), "{own:?} of {all:?}");
            }
        }
    }
}
