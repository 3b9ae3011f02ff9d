//! The name in a TLS ClientHello (RFC 8446, §4.1.2; RFC 6066, §3), complete or not.
//!
//! Written by hand: `tls-parser` (0.12) brings 29 other crates, two versions of `syn` among them, and leaves it to its user
//! to join a message that is spread over several records.
//!
//! ```text
//!   record    22, version 2, length 2 │ fragment ...        a message goes on in the next record's fragment
//!   message   1, length 3 │ version 2, random 32, session id <1>, cipher suites <2>, compression <1>, extensions <2>
//!   extension type 2, <2>             server_name is type 0: <2> of (type 1, name <2>)
//!                                     <n> is a vector: its length in n bytes, then so many bytes
//! ```
//!
//! It reads from left to right and holds nothing but where it is. Each length is held against what is left of the part
//! around it before anything is read: a length that doesn't fit is wrong at once, not a reason to wait.

use std::ops::RangeInclusive;

use super::{Found, LONGEST_NAME, key_of_name};

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: usize = 1;
const SERVER_NAME: usize = 0;
const HOST_NAME: usize = 0;

/// The largest fragment of a record that is not encrypted (RFC 8446, §5.1).
const LARGEST_FRAGMENT: usize = 1 << 14;
/// The largest ClientHello that is looked at, as much as rustls takes.
const LARGEST_HELLO: usize = 0xffff;

pub(super) fn server_name(bytes: &[u8]) -> Found {
    match read(bytes) {
        Ok(key) => Found::or_nothing(key),
        Err(Stop::Short) => Found::More,
        Err(Stop::Wrong) => Found::Nothing,
    }
}

/// Why reading ends before the answer.
enum Stop {
    /// The bytes end here.
    Short,
    /// This is no ClientHello.
    Wrong,
}

fn read(bytes: &[u8]) -> Result<Option<u64>, Stop> {
    let mut records = Records { rest: bytes, fragment: 0 };
    let mut message = Part { records: &mut records, left: 4 };
    if message.number::<1>()? != CLIENT_HELLO {
        return Err(Stop::Wrong);
    }
    let length = message.number::<3>()?;
    if length > LARGEST_HELLO {
        return Err(Stop::Wrong);
    }
    let mut hello = Part { records: &mut records, left: length };
    if hello.number::<1>()? != 3 {
        return Err(Stop::Wrong); // the version's first byte, whatever comes after SSL 3
    }
    hello.skip(1 + 32)?;
    hello.skip_vector::<1>(0..=32)?; // session id
    hello.skip_vector::<2>(2..=0xfffe)?; // cipher suites
    hello.skip_vector::<1>(1..=0xff)?; // compression methods
    // TLS 1.2 may leave the extensions out. Then there is not even a length, and no name either.
    if hello.number::<2>()? != hello.left {
        return Err(Stop::Wrong);
    }
    while hello.left > 0 {
        let kind = hello.number::<2>()?;
        let mut extension = hello.vector::<2>()?;
        if kind == SERVER_NAME {
            return host_name(&mut extension);
        }
        extension.skip(extension.left)?;
    }
    Ok(None)
}

/// The first name in the extension that is a host's. There are no others, but if ever there are they have a length too.
fn host_name(extension: &mut Part<'_, '_>) -> Result<Option<u64>, Stop> {
    if extension.number::<2>()? != extension.left {
        return Err(Stop::Wrong);
    }
    while extension.left > 0 {
        let kind = extension.number::<1>()?;
        let mut name = extension.vector::<2>()?;
        if kind != HOST_NAME {
            name.skip(name.left)?;
            continue;
        }
        let mut place = [0; LONGEST_NAME];
        let place = place.get_mut(..name.left).ok_or(Stop::Wrong)?;
        name.fill(place)?;
        return Ok(key_of_name(place));
    }
    Ok(None)
}

/// The handshake's bytes, in the fragments of one record after the other.
struct Records<'b> {
    rest: &'b [u8],
    /// What is left of the current record's fragment.
    fragment: usize,
}

impl<'b> Records<'b> {
    /// The next bytes that lie side by side: at least one, at most so many.
    fn piece(&mut self, most: usize) -> Result<&'b [u8], Stop> {
        if self.fragment == 0 {
            self.open()?;
        }
        let length = most.min(self.fragment).min(self.rest.len());
        let (piece, rest) = self.rest.split_at_checked(length).ok_or(Stop::Short)?;
        if piece.is_empty() {
            return Err(Stop::Short);
        }
        self.rest = rest;
        self.fragment -= length;
        Ok(piece)
    }

    /// Reads the header of the next record. Each byte is judged as soon as it is there.
    fn open(&mut self) -> Result<(), Stop> {
        let expected = [HANDSHAKE, 3]; // the second is the version's, for every version since SSL 3
        if self.rest.iter().zip(expected).any(|(byte, expected)| *byte != expected) {
            return Err(Stop::Wrong);
        }
        let ([_, _, _, high, low], rest) = self.rest.split_first_chunk().ok_or(Stop::Short)?;
        self.fragment = usize::from(u16::from_be_bytes([*high, *low]));
        // An empty fragment is forbidden for handshakes.
        if self.fragment == 0 || self.fragment > LARGEST_FRAGMENT {
            return Err(Stop::Wrong);
        }
        self.rest = rest;
        Ok(())
    }
}

/// A part of the message: so many bytes, and no more can be read of it.
struct Part<'r, 'b> {
    records: &'r mut Records<'b>,
    left: usize,
}

impl<'b> Part<'_, 'b> {
    /// Reads `length` bytes in pieces.
    fn pieces(&mut self, mut length: usize, mut each: impl FnMut(&[u8])) -> Result<(), Stop> {
        self.left = self.left.checked_sub(length).ok_or(Stop::Wrong)?;
        while length > 0 {
            let piece = self.records.piece(length)?;
            length -= piece.len();
            each(piece);
        }
        Ok(())
    }

    fn skip(&mut self, length: usize) -> Result<(), Stop> {
        self.pieces(length, |_| {})
    }

    fn fill(&mut self, mut place: &mut [u8]) -> Result<(), Stop> {
        self.pieces(place.len(), |piece| {
            if let Some((filled, rest)) = std::mem::take(&mut place).split_at_mut_checked(piece.len()) {
                filled.copy_from_slice(piece);
                place = rest;
            }
        })
    }

    /// Reads a number of `BYTES` bytes, at most three.
    fn number<const BYTES: usize>(&mut self) -> Result<usize, Stop> {
        let mut number = [0; BYTES];
        self.fill(&mut number)?;
        Ok(number.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// Reads the length of a vector; what is in it is to be read next.
    fn vector<const BYTES: usize>(&mut self) -> Result<Part<'_, 'b>, Stop> {
        let length = self.number::<BYTES>()?;
        self.left = self.left.checked_sub(length).ok_or(Stop::Wrong)?;
        Ok(Part { records: self.records, left: length })
    }

    fn skip_vector<const BYTES: usize>(&mut self, allowed: RangeInclusive<usize>) -> Result<(), Stop> {
        let mut vector = self.vector::<BYTES>()?;
        if !allowed.contains(&vector.left) {
            return Err(Stop::Wrong);
        }
        vector.skip(vector.left)
    }
}

#[cfg(test)]
mod tests {
    use crate::hash_of;

    use super::super::samples::{extension, hello, name, records, tls_1_2_without_name, tls_1_3, vector};
    use super::*;

    const WHOLE: &[usize] = &[LARGEST_FRAGMENT];

    fn key(name: &str) -> Found {
        Found::Key(hash_of(name.as_bytes()))
    }

    /// What is found in a ClientHello with these extensions.
    fn among(extensions: &[Vec<u8>]) -> Found {
        server_name(&records(&hello(&[], &[0x13, 1], &extensions.concat()), WHOLE))
    }

    #[test]
    fn the_name_in_a_real_hello_is_found_in_lower_case() {
        assert_eq!(server_name(&tls_1_3()), key("chat.example.org"));
        let padded = [tls_1_3(), vec![0xff; 100]].concat();
        assert_eq!(server_name(&padded), key("chat.example.org"), "what follows does not matter");
    }

    #[test]
    fn a_hello_without_a_name_has_no_key_and_says_so_at_its_end() {
        let bytes = tls_1_2_without_name();
        assert_eq!(server_name(&bytes), Found::Nothing);
        assert_eq!(server_name(&bytes[..bytes.len() - 1]), Found::More);
    }

    #[test]
    fn the_name_is_found_as_soon_as_it_is_complete() {
        let bytes = tls_1_3();
        let end = bytes.windows(3).position(|window| window == b"org").unwrap() + 3;
        assert_eq!(server_name(&bytes[..end - 1]), Found::More);
        assert_eq!(server_name(&bytes[..end]), key("chat.example.org"));
    }

    #[test]
    fn a_hello_may_be_spread_over_records_of_any_size() {
        let message = tls_1_3()[5..].to_vec();
        for size in (1..20).chain([64, 200, 335]) {
            assert_eq!(server_name(&records(&message, &[size])), key("chat.example.org"), "{size}");
        }
    }

    #[test]
    fn a_name_may_come_after_large_extensions() {
        // A key share of ML-KEM, and padding.
        let extensions =
            [extension(51, &[1; 1216]), extension(21, &[0; 40_000]), name(b"a.example")].concat();
        let message = hello(&[5; 32], &[0x13, 1, 0x13, 2], &extensions);
        assert_eq!(server_name(&records(&message, WHOLE)), key("a.example"));
        assert_eq!(server_name(&records(&message, &[100])), key("a.example"));
    }

    #[test]
    fn a_hello_without_extensions_has_no_name() {
        let mut message = hello(&[], &[0, 47], &[]);
        message.truncate(message.len() - 2);
        message[3] -= 2;
        assert_eq!(server_name(&records(&message, WHOLE)), Found::Nothing);
        assert_eq!(among(&[]), Found::Nothing, "an empty list of them");
    }

    #[test]
    fn of_several_names_the_first_of_a_host_counts() {
        let entry = |kind: u8, name: &[u8]| [&[kind][..], &vector::<2>(name)].concat();
        let list = [entry(9, b"other"), entry(0, b"a.example"), entry(0, b"b.example")].concat();
        assert_eq!(among(&[extension(0, &vector::<2>(&list))]), key("a.example"));
        assert_eq!(among(&[extension(0, &vector::<2>(&entry(9, b"other")))]), Found::Nothing);
        assert_eq!(among(&[name(b"a.example"), name(b"b.example")]), key("a.example"));
    }

    #[test]
    fn what_is_no_name_is_no_key() {
        for wrong in [&b""[..], b"a b", b"\xff.example", b"a\0", &[b'a'; LONGEST_NAME + 1]] {
            assert_eq!(among(&[name(wrong)]), Found::Nothing, "{wrong:?}");
        }
        assert_eq!(among(&[name(&[b'a'; LONGEST_NAME])]), key(&"a".repeat(LONGEST_NAME)));
        assert_eq!(among(&[name(b"a.example.")]), key("a.example"));
    }

    #[test]
    fn what_is_not_tls_is_refused_by_its_first_wrong_byte() {
        let good = tls_1_3();
        for (at, wrong) in [(0, b'G'), (0, 23), (0, 0x80), (1, 2), (5, 2), (9, 2)] {
            let mut bytes = good.clone();
            bytes[at] = wrong;
            assert_eq!(server_name(&bytes[..at]), Found::More);
            assert_eq!(server_name(&bytes[..=at]), Found::Nothing, "{wrong} at {at}");
        }
        assert_eq!(server_name(b""), Found::More);
    }

    #[test]
    fn something_else_between_the_records_is_refused() {
        let message = tls_1_3()[5..].to_vec();
        let (first, second) = (records(&message[..40], WHOLE), records(&message[40..], WHOLE));
        assert_eq!(server_name(&[first.clone(), second.clone()].concat()), key("chat.example.org"));
        let alert = [21, 3, 1, 0, 2, 1, 0].to_vec();
        assert_eq!(server_name(&[first.clone(), alert, second.clone()].concat()), Found::Nothing);
        let empty = [22, 3, 1, 0, 0].to_vec();
        assert_eq!(server_name(&[first, empty, second].concat()), Found::Nothing);
    }

    #[test]
    fn a_length_that_does_not_fit_is_refused_before_its_bytes_are_there() {
        // Of the real hello: where a length's bytes are, a wrong one, and how many bytes are enough to see it.
        let wrong: [(usize, &[u8], &str); 10] = [
            (3, &[0x40, 1], "a record larger than allowed"),
            (3, &[0, 0], "an empty record"),
            (6, &[1, 0, 0], "a message larger than any hello"),
            (6, &[0, 0, 30], "a message that ends in the random"),
            (43, &[33], "a session id longer than allowed"),
            (76, &[0xff, 0xff], "more cipher suites than the message has room for"),
            (140, &[0], "no compression method"),
            (142, &[0, 0xc5], "extensions longer than the message"),
            (142, &[0, 0xc3], "extensions shorter than the message"),
            (146, &[0, 0xc1], "an extension longer than what is left for extensions"),
        ];
        for (at, length, what) in wrong {
            let mut bytes = tls_1_3();
            let end = at + length.len();
            bytes[at..end].copy_from_slice(length);
            let enough = if what.ends_with("random") { 15 } else { end };
            assert_eq!(server_name(&bytes[..enough]), Found::Nothing, "{what}");
            assert_eq!(server_name(&bytes), Found::Nothing, "{what}");
        }
        for (at, length, what) in
            [(148, 0x14, "a list longer than its extension"), (151, 0x11, "a name longer than its list")]
        {
            let mut bytes = tls_1_3();
            bytes[at + 1] = length;
            assert_eq!(server_name(&bytes[..at + 2]), Found::Nothing, "{what}");
        }
        let trailing = [vector::<2>(&[&[0][..], &vector::<2>(b"a.example")].concat()), vec![0]].concat();
        assert_eq!(among(&[extension(0, &trailing)]), Found::Nothing, "a list shorter than its extension");
        assert_eq!(among(&[extension(0, &[])]), Found::Nothing, "only servers send an empty one");
        let without_suites = records(&hello(&[], &[], &name(b"a.example")), WHOLE);
        assert_eq!(server_name(&without_suites), Found::Nothing, "no cipher suite");
    }
}
