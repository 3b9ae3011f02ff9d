//! What the parent has a worker do, and what it answers.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// What a worker has to know, in its Welcome.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) number: u64,
    /// Where Redis is.
    pub(crate) redis: Option<String>,
    pub(crate) keys: usize,
}

/// Something to do and to time. What is timed one by one is answered by two [stamps](stamp) each, its begin and its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Answers when the state is whole.
    Live,
    /// Stays on that CPU from now on.
    Place(Option<usize>),
    /// Reads that many keys, one after the other; a begin and an end.
    Get(u32),
    /// Writes, one after the other.
    Write { count: u32, pause: Option<Duration> },
    /// Sends 64 bytes over a bare channel, and waits for them to come back.
    PingPong { count: u32, pause: Option<Duration> },
    /// Writes, many under way; a begin and an end.
    Pipelined(u32),
    /// Follows anew, over the link that comes with this, until the state is whole; a begin and an end.
    Join,
    /// Notes when each write to [`TICK`] is seen here.
    Watch,
    /// Reads [`TICK`] whenever a byte comes over the socket that comes with this; notes when, and what revision it saw.
    ReadWhenAsked,
    /// What was noted; watches and reads no more.
    Seen,
    /// The same of so many messages over a blocking socket.
    Listen(u32),
    /// Sends messages over a blocking socket: the primary hands each to all.
    Speak { count: u32, pause: Duration },
    /// The same of so many messages over a channel that comes with this, on the runtime.
    Hear(u32),
    /// Sends messages over a channel that comes with this: the primary hands each to all.
    Say { count: u32, pause: Duration },
    /// The same, with Redis.
    Redis(RedisOrder),
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum RedisOrder {
    Get(u32),
    Set(u32),
    Pipelined(u32),
    /// All keys in one answer.
    GetAll,
    /// Subscribes; so many messages are to come.
    Subscribe(u32),
    /// Sets and publishes, in one write.
    Publish {
        count: u32,
        pause: Duration,
    },
}

/// The key that is watched.
pub(crate) const TICK: &str = "tick";
/// What is written, everywhere.
pub(crate) const VALUE: [u8; 64] = [b'7'; 64];
/// Commands under way, in a pipeline: as many as a primary allows.
pub(crate) const WINDOW: usize = 256;

/// All keys of this number have the same length.
pub(crate) fn key(number: usize) -> String {
    format!("session/{number:08}")
}

/// Nanoseconds on a clock that all processes share.
pub(crate) fn stamp() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
