//! How much the store takes.

/// How much the store takes: what would go beyond is refused with an error that names the limit, and changes
/// nothing.
///
/// ```
/// # use cluster_shared_state::Limits;
/// let limits = Limits::new().keys(10_000).total_bytes(64 << 20);
/// assert_eq!(limits.value_bytes, 1 << 20);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of a key. Default 1 KiB.
    pub key_bytes: usize,
    /// Bytes of a value. Default 1 MiB.
    pub value_bytes: usize,
    /// How many keys there may be. Default 1,048,576.
    pub keys: usize,
    /// Bytes of all keys and values. Default 256 MiB.
    pub total_bytes: usize,
    /// Conditions, operations and else-operations of a transaction, each; at most 4,096. Default 128.
    pub operations: usize,
    /// Bytes of all keys and values of a command. Default 2 MiB.
    pub command_bytes: usize,
    /// Bytes of the values that a command returns. Default 2 MiB.
    pub answer_bytes: usize,
    /// Leases of one owner. Default 1,024.
    pub leases: usize,
    /// Requests of a client that it has not acknowledged, whose answers are remembered. Default 256.
    pub requests: usize,
    /// Bytes of the answers that are remembered for a client. Beyond, a repeated request learns that it was
    /// carried out, and at which revision, but no more. Default 4 MiB.
    pub remembered_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}

impl Limits {
    /// The defaults.
    pub const fn new() -> Self {
        Self {
            key_bytes: 1 << 10,
            value_bytes: 1 << 20,
            keys: 1 << 20,
            total_bytes: 256 << 20,
            operations: 128,
            command_bytes: 2 << 20,
            answer_bytes: 2 << 20,
            leases: 1 << 10,
            requests: 256,
            remembered_bytes: 4 << 20,
        }
    }

    /// Sets [`key_bytes`](Self::key_bytes).
    #[must_use]
    pub const fn key_bytes(self, key_bytes: usize) -> Self {
        Self { key_bytes, ..self }
    }

    /// Sets [`value_bytes`](Self::value_bytes).
    #[must_use]
    pub const fn value_bytes(self, value_bytes: usize) -> Self {
        Self { value_bytes, ..self }
    }

    /// Sets [`keys`](Self::keys).
    #[must_use]
    pub const fn keys(self, keys: usize) -> Self {
        Self { keys, ..self }
    }

    /// Sets [`total_bytes`](Self::total_bytes).
    #[must_use]
    pub const fn total_bytes(self, total_bytes: usize) -> Self {
        Self { total_bytes, ..self }
    }

    /// Sets [`operations`](Self::operations).
    #[must_use]
    pub const fn operations(self, operations: usize) -> Self {
        let most = crate::command::MOST_OPERATIONS;
        Self { operations: if operations > most { most } else { operations }, ..self }
    }

    /// Sets [`command_bytes`](Self::command_bytes).
    #[must_use]
    pub const fn command_bytes(self, command_bytes: usize) -> Self {
        Self { command_bytes, ..self }
    }

    /// Sets [`answer_bytes`](Self::answer_bytes).
    #[must_use]
    pub const fn answer_bytes(self, answer_bytes: usize) -> Self {
        Self { answer_bytes, ..self }
    }

    /// Sets [`leases`](Self::leases).
    #[must_use]
    pub const fn leases(self, leases: usize) -> Self {
        Self { leases, ..self }
    }

    /// Sets [`requests`](Self::requests); at least 1.
    #[must_use]
    pub const fn requests(self, requests: usize) -> Self {
        Self { requests: if requests == 0 { 1 } else { requests }, ..self }
    }

    /// Sets [`remembered_bytes`](Self::remembered_bytes).
    #[must_use]
    pub const fn remembered_bytes(self, remembered_bytes: usize) -> Self {
        Self { remembered_bytes, ..self }
    }
}
