//! Keys, and sets of them.

use std::borrow::Borrow;
use std::fmt;
use std::ops::{Bound, Deref};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A key: a string of bytes, usually text, ordered byte by byte. Cheap to clone.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(Bytes);

impl Key {
    /// A key whose text is part of the program: nothing is allocated.
    pub const fn from_static(key: &'static str) -> Self {
        Self(Bytes::from_static(key.as_bytes()))
    }

    /// Its bytes, shared.
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

// Order, equality and hash are those of the bytes, as `Borrow` demands.
impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Key {
    fn from(key: &str) -> Self {
        Self(Bytes::copy_from_slice(key.as_bytes()))
    }
}

impl From<String> for Key {
    fn from(key: String) -> Self {
        Self(key.into())
    }
}

impl From<&[u8]> for Key {
    fn from(key: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(key))
    }
}

impl From<Vec<u8>> for Key {
    fn from(key: Vec<u8>) -> Self {
        Self(key.into())
    }
}

impl From<Bytes> for Key {
    fn from(key: Bytes) -> Self {
        Self(key)
    }
}

impl From<&Self> for Key {
    fn from(key: &Self) -> Self {
        key.clone()
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
        write!(f, "{}", self.0.escape_ascii())
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
