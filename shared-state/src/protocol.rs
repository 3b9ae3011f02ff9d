//! What primary and replicas say to each other.
//!
//! ```text
//! replica                                         primary
//!    │ Hello { version, client, cursor }             │
//!    ├──────────────────────────────────────────────▶│  within history: deltas from there
//!    │             Welcome { epoch, resumes, knows } │  otherwise: a snapshot
//!    │◀──────────────────────────────────────────────┤
//!    │   Begin, then Chunks and Deltas interleaved   │  (only for a snapshot)
//!    │◀──────────────────────────────────────────────┤
//!    │                             Live { revision } │
//!    │◀──────────────────────────────────────────────┤
//!    │ Request { number, acknowledged, command }     │
//!    ├──────────────────────────────────────────────▶│
//!    │                Delta, and then (one lane) the │
//!    │◀──────────────────────────────────────────────┤
//!    │                Reply { number, at, result }   │
//!    │◀──────────────────────────────────────────────┤
//!    │                               Tune { from }   │  (only if it can hear the broadcast)
//!    │◀──────────────────────────────────────────────┤
//!    │   replies here, Deltas by the broadcast       │
//!    │◀──────────────────────────────────────────────┤
//!    │ Attend { wanted }                             │  (when somebody begins or ends to wait)
//!    ├──────────────────────────────────────────────▶│
//!    │ Missed { after }                              │  (only if it was too slow)
//!    ├──────────────────────────────────────────────▶│  Deltas here again; Live; Tune
//! ```
//!
//! Messages are encoded by postcard, one per frame of the transport, which keeps them whole and in order.
//! The enums only ever grow at their ends; what an older side must not misread raises [`VERSION`]. Lengths
//! are checked against what came before anything is allocated, and lists of a command have a length at which they
//! are not read on, so a message needs little more memory than its own size; what is left over at its end makes
//! it garbage.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    Answer, ClientId, Command, CommandError, Commit, Cursor, Entry, Epoch, Key, Misbehaviour, Revision,
};

/// The version of the protocol. The first field of the first message, so that others can be told apart.
pub const VERSION: u32 = 1;

/// What a replica says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ToPrimary {
    /// The first message of each connection.
    Hello {
        /// The [`VERSION`] it speaks.
        version: u32,
        /// Who it is.
        client: ClientId,
        /// What it has; `None` if it never had a whole state.
        cursor: Option<Cursor>,
    },
    /// Do this, once.
    Request {
        /// Its number; rising.
        number: u64,
        /// The answers to all requests below are no longer needed.
        acknowledged: u64,
        /// What to do.
        command: Command,
    },
    /// Say which revision is the last. (Not remembered: it changes nothing.)
    Sync {
        /// Its number, of the same sequence.
        number: u64,
    },
    /// A delta is missing: send the whole state.
    Resync,
    /// Whether it has to be woken for what is broadcast: somebody waits for it. If not, reads take it in, and it is woken when there is
    /// much. At first it need not.
    Attend {
        /// Whether it does.
        wanted: bool,
    },
    /// The broadcast has no longer what follows this revision: send it here.
    Missed {
        /// What it has.
        after: Revision,
    },
}

/// What the primary says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ToReplica {
    /// The answer to hello.
    Welcome {
        /// The primary's epoch.
        epoch: Epoch,
        /// What follows.
        join: Join,
        /// Whether it remembers what this client asked for earlier in this epoch. If not, what was sent and
        /// not answered is in doubt.
        memory: Memory,
        /// How many requests may be under way.
        window: u64,
        /// Bytes of the keys and values of a command at most: a longer one is not worth sending, and may be more than the link
        /// carries.
        command_bytes: u64,
    },
    /// What the next revision changed.
    Delta(#[serde(deserialize_with = "commit")] Arc<Commit>),
    /// The whole state follows.
    Begin {
        /// Of which revision it is the beginning: later ones come as deltas in between.
        revision: Revision,
    },
    /// The next keys of it, in their order, as they are now.
    Chunk {
        /// Keys, and what is under them.
        entries: Vec<(Key, Entry)>,
    },
    /// What was sent is the whole state as of this revision.
    Live {
        /// Which.
        revision: Revision,
    },
    /// What came of a request.
    Reply {
        /// Which request.
        number: u64,
        /// The last revision when it was answered: all deltas up to it came before.
        at: Revision,
        /// What came of it.
        result: Result<Answer, CommandError>,
    },
    /// The last revision when a [`ToPrimary::Sync`] was answered: all deltas up to it came before.
    Synced {
        /// Which request.
        number: u64,
        /// The revision.
        at: Revision,
    },
    /// Nothing more is said to this replica.
    CutOff {
        /// Why.
        reason: Misbehaviour,
    },
    /// Deltas are not sent here any more, but to all at once. All before came here.
    Tune {
        /// The first that is not sent here.
        from: Revision,
    },
}

/// How a replica comes to its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Join {
    /// By the deltas that it missed.
    Resume,
    /// By a snapshot.
    Snapshot,
}

/// Whether the primary knows a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Memory {
    /// It remembers its requests.
    Remembered,
    /// It never heard of it, or was told that it is gone.
    Unknown,
}

/// Where it stays: by itself serde would put it into a box first.
fn commit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Commit>, D::Error> {
    Commit::deserialize(deserializer).map(Arc::new)
}

/// A message as bytes.
pub fn encode<T: Serialize>(message: &T) -> Bytes {
    // Most are short: one allocation, of just their size, instead of one for each time a buffer grows.
    let mut short = [0; 512];
    if let Ok(bytes) = postcard::to_slice(message, &mut short) {
        return Bytes::copy_from_slice(bytes);
    }
    // Encoding into memory that grows cannot fail, and nothing here has a length that is not known.
    let bytes = postcard::to_stdvec(message).unwrap_or_default();
    // A buffer that grew may be twice as large as what is in it, and messages are kept.
    Bytes::from(bytes.into_boxed_slice())
}

/// Encodes messages that are kept, one behind the other: small ones share a block, instead of an allocation or two for
/// each. The block lives until the last of them is dropped.
#[derive(Debug)]
pub(crate) struct Packed {
    block: BytesMut,
    /// One message.
    short: Box<[u8]>,
}

/// Bytes of a block, and of a message that goes into one.
const BLOCK: usize = 16 << 10;
const SHORT: usize = 1 << 10;

impl Default for Packed {
    fn default() -> Self {
        Self { block: BytesMut::new(), short: vec![0; SHORT].into_boxed_slice() }
    }
}

impl Packed {
    pub(crate) fn encode<T: Serialize>(&mut self, message: &T) -> Bytes {
        let Ok(bytes) = postcard::to_slice(message, &mut self.short) else { return encode(message) };
        if self.block.capacity() < bytes.len() {
            self.block = BytesMut::with_capacity(BLOCK);
        }
        self.block.extend_from_slice(bytes);
        self.block.split().freeze()
    }
}

/// A message from bytes; `None` if they are none, or something follows it.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Some(message),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_messages_are_those_that_stand_alone_and_stay_so() {
        let mut packed = Packed::default();
        let entry = |length: usize| Entry::new(vec![length as u8; length], Revision::new(length as u64));
        let chunk = |length| ToReplica::Chunk { entries: vec![(Key::from(vec![7; length]), entry(length))] };
        let messages: Vec<_> = (0..3 * SHORT).step_by(5).map(chunk).collect();
        let encoded: Vec<_> = messages.iter().map(|message| packed.encode(message)).collect();
        assert!(encoded.iter().map(Bytes::len).sum::<usize>() > 4 * BLOCK, "it takes several blocks");
        for (message, encoded) in messages.iter().zip(encoded) {
            assert_eq!(encoded, encode(message));
            assert_eq!(decode(&encoded).as_ref(), Some(message));
        }
    }
}
