//! Lines on their way to the sink, in one piece of memory.

use super::line::{Kind, Line};
use super::{Piece, Stream};

/// Memory beyond this is given back when a batch was a large one.
const KEPT: usize = 1024 * 1024;

/// Lines of all children, in the order in which they were read. A line takes no memory of its own.
#[derive(Debug)]
pub(super) struct Batch<K> {
    bytes: Vec<u8>,
    entries: Vec<Entry<K>>,
}

#[derive(Debug)]
struct Entry<K> {
    source: K,
    stream: Stream,
    kind: Kind,
    length: usize,
}

impl<K: Copy> Batch<K> {
    pub(super) const fn new() -> Self {
        Self { bytes: Vec::new(), entries: Vec::new() }
    }

    /// What a line of so many bytes takes here.
    pub(super) const fn cost(length: usize) -> usize {
        length + size_of::<Entry<K>>()
    }

    /// What is in here takes.
    pub(super) fn size(&self) -> usize {
        self.bytes.len() + self.entries.len() * size_of::<Entry<K>>()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn push(&mut self, source: K, stream: Stream, piece: Piece<'_>) {
        let kind = if piece.is_continued() { Kind::Continued } else { Kind::Ended };
        self.bytes.extend_from_slice(piece.text());
        self.entries.push(Entry { source, stream, kind, length: piece.text().len() });
    }

    /// Adds our word that lines are missing.
    pub(super) fn push_dropped(&mut self, source: K, stream: Stream, lines: u64) {
        let text = format!("… {lines} {} dropped", if lines == 1 { "line" } else { "lines" });
        self.bytes.extend_from_slice(text.as_bytes());
        self.entries.push(Entry { source, stream, kind: Kind::Dropped(lines), length: text.len() });
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = Line<'_, K>> {
        let mut rest = &self.bytes[..];
        self.entries.iter().map(move |entry| {
            // The lengths add up to the bytes: each was added together with so many.
            let (text, after) = rest.split_at(entry.length);
            rest = after;
            Line { source: entry.source, stream: entry.stream, text, kind: entry.kind }
        })
    }

    /// Makes it empty for the next lines.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.entries.clear();
        self.entries.shrink_to(KEPT / size_of::<Entry<K>>());
    }
}
