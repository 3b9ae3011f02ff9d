//! Keys, and sets of them.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Bound, Deref};

use bytes::Bytes;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Up to this length a key lies in place: a lookup compares it without following a pointer, and a copy of it shares no
/// reference count with other threads. With length and tag it makes 40 bytes; `Bytes` alone are 32.
const IN_PLACE: usize = 38;

/// A key: a string of bytes, usually text, ordered byte by byte. Cheap to clone: short ones (38 bytes) are copied,
/// longer ones shared.
#[derive(Clone)]
pub struct Key(Repr);

#[derive(Clone)]
enum Repr {
    InPlace(InPlace),
    Shared(Bytes),
}

#[derive(Clone, Copy)]
struct InPlace {
    length: u8,
    bytes: [u8; IN_PLACE],
}

impl Key {
    /// A key whose text is part of the program: nothing is allocated.
    pub const fn from_static(key: &'static str) -> Self {
        match InPlace::new(key.as_bytes()) {
            Some(short) => Self(Repr::InPlace(short)),
            None => Self(Repr::Shared(Bytes::from_static(key.as_bytes()))),
        }
    }

    /// Its bytes: those of a short key copied, of a long one shared.
    pub fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Repr::InPlace(_) => Bytes::copy_from_slice(self),
            Repr::Shared(bytes) => bytes.clone(),
        }
    }
}

impl InPlace {
    #[inline]
    const fn new(key: &[u8]) -> Option<Self> {
        if key.len() > IN_PLACE {
            return None;
        }
        let mut bytes = [0; IN_PLACE];
        let (room, _) = bytes.split_at_mut(key.len());
        room.copy_from_slice(key);
        Some(Self { length: key.len() as u8, bytes })
    }
}

impl Deref for Key {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            // The length never exceeds the array; saying so with `get` costs less than a panic path.
            Repr::InPlace(InPlace { length, bytes }) => bytes.get(..usize::from(*length)).unwrap_or(bytes),
            Repr::Shared(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Key {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self
    }
}

// Order, equality and hash are those of the bytes, as `Borrow` demands.
impl Borrow<[u8]> for Key {
    #[inline]
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Key {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl Hash for Key {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl Default for Key {
    fn default() -> Self {
        Self::from_static("")
    }
}

impl From<&[u8]> for Key {
    #[inline]
    fn from(key: &[u8]) -> Self {
        match InPlace::new(key) {
            Some(short) => Self(Repr::InPlace(short)),
            None => Self(Repr::Shared(Bytes::copy_from_slice(key))),
        }
    }
}

impl From<&str> for Key {
    fn from(key: &str) -> Self {
        Self::from(key.as_bytes())
    }
}

impl From<Bytes> for Key {
    fn from(key: Bytes) -> Self {
        match InPlace::new(&key) {
            Some(short) => Self(Repr::InPlace(short)),
            None => Self(Repr::Shared(key)),
        }
    }
}

impl From<Vec<u8>> for Key {
    fn from(key: Vec<u8>) -> Self {
        Self::from(Bytes::from(key))
    }
}

impl From<String> for Key {
    fn from(key: String) -> Self {
        Self::from(key.into_bytes())
    }
}

impl From<&Self> for Key {
    fn from(key: &Self) -> Self {
        key.clone()
    }
}

/// As a byte string.
impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a byte string")
    }

    fn visit_bytes<E: Error>(self, key: &[u8]) -> Result<Key, E> {
        Ok(Key::from(key))
    }

    fn visit_byte_buf<E: Error>(self, key: Vec<u8>) -> Result<Key, E> {
        Ok(Key::from(key))
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Key, E> {
        Ok(Key::from(key))
    }

    fn visit_string<E: Error>(self, key: String) -> Result<Key, E> {
        Ok(Key::from(key))
    }

    // Formats without byte strings have sequences.
    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Key, A::Error> {
        let mut key = Vec::new();
        while let Some(byte) = sequence.next_element()? {
            key.push(byte);
        }
        Ok(Key::from(key))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// As text, what is not printable escaped.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.escape_ascii())
    }
}

/// From where to where a [`KeyRange`] goes.
pub type KeyBounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// A set of keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum KeyRange {
    /// This one.
    Key(Key),
    /// All that begin so. An empty prefix means all.
    Prefix(Key),
    /// All from the first (with it) to the second (without it). None, if that is not after the first.
    Between(Key, Key),
    /// All there are.
    All,
}

impl KeyRange {
    /// This one key.
    pub fn key(key: impl Into<Key>) -> Self {
        Self::Key(key.into())
    }

    /// All keys that begin so.
    pub fn prefix(prefix: impl Into<Key>) -> Self {
        Self::Prefix(prefix.into())
    }

    /// All keys from the first (with it) to the second (without it).
    pub fn between(from: impl Into<Key>, to: impl Into<Key>) -> Self {
        Self::Between(from.into(), to.into())
    }

    /// Whether the key is one of them.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::Key(this) => **this == *key,
            Self::Prefix(prefix) => key.starts_with(prefix),
            Self::Between(from, to) => **from <= *key && *key < **to,
            Self::All => true,
        }
    }

    /// What to hand to `BTreeMap::range::<[u8], _>`, so that it does not panic; `None` if nothing can be in it.
    /// For a prefix, the upper bound is left open: stop where [`contains`](Self::contains) says no.
    pub fn bounds(&self) -> Option<KeyBounds<'_>> {
        Some(match self {
            Self::Key(key) => (Bound::Included(key), Bound::Included(key)),
            Self::Prefix(prefix) => (Bound::Included(prefix), Bound::Unbounded),
            Self::Between(from, to) if from < to => (Bound::Included(from), Bound::Excluded(to)),
            Self::Between(..) => return None,
            Self::All => (Bound::Unbounded, Bound::Unbounded),
        })
    }

    /// How long the keys are by which it is given.
    pub(crate) fn length(&self) -> usize {
        match self {
            Self::Key(key) | Self::Prefix(key) => key.len(),
            Self::Between(from, to) => from.len().max(to.len()),
            Self::All => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What keys were, and still are on the wire.
    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Former(Bytes);

    #[test]
    fn keys_of_every_length_keep_their_bytes() {
        for length in 0..=2 * IN_PLACE {
            let bytes: Vec<u8> = (0..length).map(|it| it as u8).collect();
            let keys = [
                Key::from(&bytes[..]),
                Key::from(bytes.clone()),
                Key::from(Bytes::from(bytes.clone())),
                Key::from(Key::from(&bytes[..]).to_bytes()),
            ];
            for key in keys {
                assert_eq!((&*key, key.len()), (&bytes[..], length));
                assert_eq!(key, Key::from(String::from_utf8(bytes.clone()).unwrap()));
            }
        }
        const STATIC: Key = Key::from_static("a key that is somewhat longer than most of the others");
        assert_eq!(&*STATIC, b"a key that is somewhat longer than most of the others");
        assert!(Key::default().is_empty());
    }

    #[test]
    fn a_key_is_on_the_wire_what_it_was() {
        for length in 0..=2 * IN_PLACE {
            let bytes = Bytes::from(vec![b'x'; length]);
            let key = Key::from(bytes.clone());
            let (wire, former) =
                (postcard::to_stdvec(&key).unwrap(), postcard::to_stdvec(&Former(bytes)).unwrap());
            assert_eq!(wire, former, "length {length}");
            assert_eq!(postcard::from_bytes::<Key>(&former).unwrap(), key);
        }
        assert!(postcard::from_bytes::<Key>(&[5, b'x']).is_err(), "it is cut off");
    }

    #[test]
    fn a_short_key_is_looked_up_like_its_bytes() {
        use std::hash::{BuildHasher, RandomState};
        let hasher = RandomState::new();
        for bytes in [&b""[..], b"short", &[0xff; IN_PLACE], &[0; IN_PLACE + 1]] {
            assert_eq!(hasher.hash_one(Key::from(bytes)), hasher.hash_one(bytes));
        }
        let (short, long) = (Key::from(&[b'a'; IN_PLACE][..]), Key::from(&[b'a'; IN_PLACE + 1][..]));
        assert!(short < long && long < Key::from("b") && Key::default() < short);
    }

    #[test]
    fn a_key_takes_no_more_than_forty_bytes() {
        assert_eq!(size_of::<Key>(), 40);
    }
}
