//! What a client says it did and saw.

use serde::{Deserialize, Serialize};

use crate::{
    Answer, ClientId, Command, CommandError, Cursor, Entry, Epoch, Key, KeyRange, Notice, RequestError,
};

/// Something a client did or saw, and when.
///
/// Times are nanoseconds of a clock that all clients share: `CLOCK_MONOTONIC` is the same for all processes of
/// one host.
/// They must enclose what happened: `invoked` is read before, `returned` after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "users make them")]
pub struct Record {
    /// Who.
    pub who: Who,
    /// Not earlier than this.
    pub invoked: u64,
    /// Not later than this; `None` if it never returned, because the process was killed.
    pub returned: Option<u64>,
    /// What.
    pub what: What,
}

/// Who did or saw something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "users make them")]
pub struct Who {
    /// The process: one life of one worker. All its threads share one replica.
    pub client: ClientId,
    /// The thread or task in it. It only makes messages readable.
    pub thread: u64,
}

/// What a client did or saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "most are commands")]
#[non_exhaustive]
pub enum What {
    /// It asked for something.
    Command {
        /// What for.
        command: Command,
        /// What came of it.
        came: Came,
    },
    /// It read its replica, at this level. All that was read at once is one record.
    Read {
        /// How.
        level: Level,
        /// What the replica was as of when it was read.
        at: Cursor,
        /// What was read; nothing, if it only waited.
        seen: Vec<Seen>,
    },
    /// It began to watch.
    Watch {
        /// Its name for the watcher, never repeated.
        watch: u64,
        /// What it watches.
        range: KeyRange,
        /// From where.
        since: Since,
        /// Whether changes may become one.
        merging: Merging,
    },
    /// A watcher was told something. Records of a watcher must be in the order in which it was told.
    Told {
        /// Which watcher.
        watch: u64,
        /// What.
        notice: Notice,
    },
    /// A watcher had been told all there was to tell of its replica's state as of then.
    Quiet {
        /// Which watcher.
        watch: u64,
        /// As of when the state was.
        at: Cursor,
    },
    /// The process started.
    Started,
    /// The process is known to have ended, or was cut off by the primary.
    Died,
    /// The primary was told that this client is gone, and afterwards its store was as of then.
    Gone {
        /// As of when.
        at: Cursor,
    },
    /// A primary started, with this epoch.
    Primary {
        /// Which.
        epoch: Epoch,
    },
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Came {
    /// It was answered.
    Answered {
        /// By a primary of this epoch.
        epoch: Epoch,
        /// So.
        answer: Answer,
    },
    /// It was refused, and changed nothing.
    Refused(CommandError),
    /// It was carried out when the store was as of then, but its answer is forgotten.
    Forgotten {
        /// As of when.
        at: Cursor,
    },
    /// Nobody knows: it was carried out once, or not at all.
    InDoubt,
    /// It was never sent, and changed nothing.
    NotSent,
}

impl Came {
    /// The completion of a request, in this epoch: that of the replica's cursor when it completed.
    pub fn of(completion: Result<Answer, RequestError>, epoch: Epoch) -> Self {
        match completion {
            Ok(answer) => Self::Answered { epoch, answer },
            Err(RequestError::Refused(CommandError::AnswerForgotten { revision })) => {
                Self::Forgotten { at: Cursor::new(epoch, revision) }
            }
            Err(RequestError::Refused(error)) => Self::Refused(error),
            Err(RequestError::InDoubt) => Self::InDoubt,
            Err(RequestError::NewEpoch | RequestError::CutOff(_)) => Self::NotSent,
        }
    }
}

/// How a replica was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Level {
    /// As it was.
    Local,
    /// After it had come so far.
    AtLeast(Cursor),
    /// After a sync that was asked for after `invoked`.
    Linearizable,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Seen {
    /// One key, and what was there.
    Key(Key, Option<Entry>),
    /// Several, in their order.
    Range(KeyRange, Vec<(Key, Entry)>),
}

/// From where somebody watches: see [`Start`](crate::Start).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Since {
    /// From then on: the cursor of the replica when it began. `None` if there was none yet, or if it is not
    /// known.
    Now(Option<Cursor>),
    /// What is there, first.
    Present,
    /// What changed after that.
    After(Cursor),
}

/// What may be done with changes if a watcher is slow: see [`Overflow`](crate::Overflow).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Merging {
    /// Several may become one, and what was made and deleted in between may be left out.
    Allowed,
    /// Each must be told by itself, or the watcher be told of the loss.
    Never,
}
