//! Bytes in, lines out. No I/O.

use std::mem;

/// Cuts a stream of bytes into lines of bounded length.
///
/// A line ends with LF or CR LF, which are not part of it.
/// One that is longer than the limit comes in pieces, each but the last marked as
/// [continued](Piece::is_continued); no piece ends within a character of UTF-8.
/// Bytes that are no UTF-8 stay as they are.
/// The result does not depend on how the bytes were split on their way, and it holds at most the limit and two bytes,
/// whatever comes in.
///
/// ```
/// use cluster_supervisor::os::Lines;
///
/// let mut lines = Lines::new();
/// let mut input = &b"one\r\ntwo\nthr"[..];
/// let mut seen = Vec::new();
/// while let Some(piece) = lines.next(&mut input) {
///     seen.push(piece.text().to_vec());
/// }
/// assert_eq!(seen, [b"one", b"two"]);
///
/// // The end of the stream: what is left is a line, too.
/// assert_eq!(lines.finish().unwrap().text(), b"thr");
/// assert!(lines.finish().is_none());
/// ```
#[derive(Clone, Debug)]
pub struct Lines {
    limit: usize,
    /// The beginning of the line that is not complete; it has no LF.
    partial: Vec<u8>,
    /// How much of it was handed out by the last call.
    spent: usize,
}

/// A line, or a piece of a long one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    text: &'a [u8],
    is_continued: bool,
}

impl<'a> Piece<'a> {
    pub(super) fn new(text: &'a [u8], is_continued: bool) -> Self {
        Self { text, is_continued }
    }

    /// Its bytes, without the end of the line.
    pub fn text(&self) -> &'a [u8] {
        self.text
    }

    /// Whether the line goes on in the next piece.
    pub fn is_continued(&self) -> bool {
        self.is_continued
    }
}

impl Default for Lines {
    fn default() -> Self {
        Self::new()
    }
}

impl Lines {
    /// The longest line that comes in one piece, unless [`limit`](Self::limit) says otherwise: 8 KiB.
    pub const LIMIT: usize = 8 * 1024;

    /// A character of UTF-8 has up to four bytes, and a piece must have room for one.
    const LEAST: usize = 4;

    /// Nothing has come in yet.
    pub fn new() -> Self {
        Self { limit: Self::LIMIT, partial: Vec::new(), spent: 0 }
    }

    /// Sets how many bytes a piece has at most, but no less than 4. Default: [`LIMIT`](Self::LIMIT).
    #[must_use]
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes.max(Self::LEAST);
        self
    }

    /// Takes bytes from the front of `input` until a piece is complete.
    ///
    /// `None` means that all of `input` was taken. So call it in a loop, and throw nothing of `input` away.
    pub fn next(&mut self, input: &mut &[u8]) -> Option<Piece<'_>> {
        self.forget_spent();
        // Beyond the limit there may be the CR and the LF of a line that just fits.
        let room = self.limit.saturating_add(2).saturating_sub(self.partial.len());
        let (window, _) = input.split_at(room.min(input.len()));
        let newline = window.iter().position(|&byte| byte == b'\n');
        let taken = newline.unwrap_or(window.len());
        self.partial.extend_from_slice(&window[..taken]);
        *input = &input[taken..];
        let line = without_cr(&self.partial);
        if newline.is_some() && line <= self.limit {
            *input = &input[1..];
            self.spent = self.partial.len();
            return Some(Piece::new(&self.partial[..line], false));
        }
        // With no newline yet, a CR in last place may be half of one.
        if line > self.limit { Some(self.cut()) } else { None }
    }

    /// What is left at the end of the stream: call it until it returns `None`.
    pub fn finish(&mut self) -> Option<Piece<'_>> {
        self.forget_spent();
        if self.partial.len() > self.limit {
            return Some(self.cut());
        }
        self.spent = self.partial.len();
        (!self.partial.is_empty()).then(|| Piece::new(&self.partial, false))
    }

    /// The first piece of a line that is longer than the limit.
    fn cut(&mut self) -> Piece<'_> {
        self.spent = boundary(&self.partial, self.limit);
        Piece::new(&self.partial[..self.spent], true)
    }

    fn forget_spent(&mut self) {
        self.partial.drain(..mem::take(&mut self.spent));
    }
}

/// How long `line` is without a CR at its end.
fn without_cr(line: &[u8]) -> usize {
    line.strip_suffix(b"\r").unwrap_or(line).len()
}

/// The last place up to `limit` that is not within a character of UTF-8; `limit` itself if that is no UTF-8.
///
/// There must be a byte at `limit`, and `limit` be at least 4: so the place is never 0.
fn boundary(bytes: &[u8], limit: usize) -> usize {
    let is_inner = |byte: u8| byte & 0b1100_0000 == 0b1000_0000;
    let start = (limit - 3..=limit).rev().find(|&at| !is_inner(bytes[at])).unwrap_or(limit);
    // Only what its first byte promises is a character: a stray inner byte may be cut from its neighbours.
    let length = match bytes[start] {
        0b1100_0000..=0b1101_1111 => 2,
        0b1110_0000..=0b1110_1111 => 3,
        0b1111_0000..=0b1111_0111 => 4,
        _ => 1,
    };
    if start + length > limit { start } else { limit }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Owned = (Vec<u8>, bool);

    /// All pieces of what comes in as `chunks`.
    fn pieces<'a>(limit: usize, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Owned> {
        let mut lines = Lines::new().limit(limit);
        let mut pieces = Vec::new();
        let own = |piece: Piece<'_>| (piece.text().to_vec(), piece.is_continued());
        for mut chunk in chunks {
            while let Some(piece) = lines.next(&mut chunk) {
                pieces.push(own(piece));
            }
            assert!(chunk.is_empty(), "none of the input may stay behind");
            assert!(lines.partial.len() <= limit + 2, "memory is bounded by the limit");
        }
        while let Some(piece) = lines.finish() {
            pieces.push(own(piece));
        }
        pieces
    }

    fn whole(text: &str) -> Owned {
        (text.as_bytes().to_vec(), false)
    }

    fn part(text: &str) -> Owned {
        (text.as_bytes().to_vec(), true)
    }

    #[test]
    fn a_line_ends_with_lf_or_cr_lf_or_the_stream() {
        assert_eq!(pieces(8, [&b"a\nb\r\n\n\r\nc"[..]]), ["a", "b", "", "", "c"].map(whole));
        assert_eq!(pieces(8, [&b"10%\r20%\n"[..]]), [whole("10%\r20%")], "a CR elsewhere is text");
        assert_eq!(pieces(8, [&b"a\r\r\n"[..]]), [whole("a\r")], "only one CR belongs to the end");
        assert_eq!(pieces(8, [&b"a\r"[..]]), [whole("a\r")], "a CR that no LF follows is text");
        assert_eq!(pieces(8, []), []);
        assert_eq!(pieces(8, [&b"a\n"[..]]), [whole("a")], "no empty line follows the last newline");
    }

    #[test]
    fn a_line_at_the_limit_is_whole_and_one_beyond_goes_on() {
        for end in ["\n", "\r\n", ""] {
            let fits = format!("abcd{end}");
            assert_eq!(pieces(4, [fits.as_bytes()]), [whole("abcd")], "{fits:?}");
            let long = format!("abcde{end}");
            assert_eq!(pieces(4, [long.as_bytes()]), [part("abcd"), whole("e")], "{long:?}");
        }
        assert_eq!(pieces(4, [&b"abcd\r"[..]]), [part("abcd"), whole("\r")], "half an end is text");
        assert_eq!(pieces(4, [&b"abcd\rx\n"[..]]), [part("abcd"), whole("\rx")]);
        assert_eq!(pieces(4, [&b"abcdefgh\n"[..]]), [part("abcd"), whole("efgh")]);
    }

    #[test]
    fn without_a_limit_every_line_is_whole() {
        let mut lines = Lines::new().limit(usize::MAX);
        let (mut first, mut second) = (&b"ab"[..], &b"c\r\nd"[..]);
        assert_eq!(lines.next(&mut first), None);
        assert_eq!(lines.next(&mut second).map(|piece| piece.text().to_vec()), Some(b"abc".to_vec()));
        assert_eq!(lines.next(&mut second), None);
        assert_eq!(lines.finish().map(|piece| piece.text().to_vec()), Some(b"d".to_vec()));
    }

    #[test]
    fn a_piece_does_not_end_within_a_character() {
        assert_eq!(pieces(4, ["abcä\n".as_bytes()]), [part("abc"), whole("ä")]);
        assert_eq!(pieces(4, ["ab€x\n".as_bytes()]), [part("ab"), whole("€x")]);
        assert_eq!(pieces(4, ["a😀b\n".as_bytes()]), [part("a"), part("😀"), whole("b")]);
        assert_eq!(pieces(4, ["a€b\n".as_bytes()]), [part("a€"), whole("b")], "one that just fits");
        let stray = [0x80; 6];
        assert_eq!(pieces(4, [&stray[..]]), [(vec![0x80; 4], true), (vec![0x80; 2], false)]);
    }

    /// Text with many ends of lines, characters of every length, and bytes that are none.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let word = prop_oneof![
            Just(&b"\n"[..]),
            Just(&b"\r\n"[..]),
            Just(&b"\r"[..]),
            Just(&b"a"[..]),
            Just("ä€😀".as_bytes()),
            Just(&b"\xff\x80\xc3"[..]),
            Just(&b"a long word"[..]),
        ];
        proptest::collection::vec(word, 0..60).prop_map(|words| words.concat())
    }

    /// What must come out, said in another way: whole lines first, then their pieces put together again.
    fn naive(text: &[u8]) -> Vec<Vec<u8>> {
        let mut lines: Vec<Vec<u8>> = text.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
        // The last one has no LF: then a CR is text, and nothing is no line.
        let last = lines.pop().filter(|last| !last.is_empty());
        for line in &mut lines {
            line.truncate(without_cr(line));
        }
        lines.into_iter().chain(last).collect()
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_doubled_and_no_piece_is_too_long(text in text(), limit in 4_usize..20) {
            let (mut joined, mut line) = (Vec::new(), Vec::new());
            for (piece, is_continued) in pieces(limit, [&text[..]]) {
                prop_assert!(piece.len() <= limit);
                prop_assert!(!is_continued || piece.len() + 3 >= limit, "a piece is as long as it may be");
                line.extend(piece);
                if !is_continued {
                    joined.push(mem::take(&mut line));
                }
            }
            prop_assert!(line.is_empty(), "a continued piece is followed by another");
            prop_assert_eq!(joined, naive(&text));
        }

        #[test]
        fn splitting_the_stream_anywhere_gives_the_same_pieces(
            text in text(),
            limit in 4_usize..20,
            mut cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..10),
        ) {
            let mut places: Vec<usize> = cuts.drain(..).map(|cut| cut.index(text.len() + 1)).collect();
            places.extend([0, text.len()]);
            places.sort_unstable();
            let chunks = places.windows(2).map(|pair| &text[pair[0]..pair[1]]);
            prop_assert_eq!(pieces(limit, chunks), pieces(limit, [&text[..]]));
        }

        #[test]
        fn pieces_of_utf8_are_utf8(text in "(\\PC|\n){0,40}", limit in 4_usize..20) {
            for (piece, _) in pieces(limit, [text.as_bytes()]) {
                prop_assert!(std::str::from_utf8(&piece).is_ok(), "{:?} of {:?}", piece, text);
            }
        }
    }
}
