//! What a pool or a dispatcher looks like from outside, for people and for monitoring.

/// The strategy and every member of a pool at one moment. With feature `serde` it can be serialised.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Status<K> {
    /// The name of the strategy.
    pub strategy: &'static str,
    /// Each member, in order of place.
    pub members: Vec<MemberStatus<K>>,
}

/// A dispatcher at one moment. With feature `serde` it can be serialised.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct DispatcherStatus<K> {
    /// The name of the strategy.
    pub strategy: &'static str,
    /// Each member, in order of place.
    pub members: Vec<MemberStatus<K>>,
    /// Items that no member has.
    pub waiting: usize,
    /// How many may wait beyond those that the members have room for.
    pub queue_limit: usize,
    /// What has happened so far.
    pub totals: Totals,
}

/// What has happened to the items of a dispatcher in its whole life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Totals {
    /// Items accepted.
    pub offered: u64,
    /// Items given back at once, since too many waited.
    pub overloaded: u64,
    /// Items that a member took.
    pub taken: u64,
    /// Times that an item was claimed back from a member.
    pub recalled: u64,
    /// Times that a member refused an item.
    pub refused: u64,
    /// Items given back because they had waited too long.
    pub expired: u64,
    /// Items that who offered them took back.
    pub retracted: u64,
    /// Items given back with a member that was removed.
    pub returned: u64,
}

/// One member at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MemberStatus<K> {
    /// Who it is.
    pub key: K,
    /// Its share relative to the others.
    pub weight: u32,
    /// Items that are not finished.
    pub outstanding: u32,
    /// Of these, the items that it has not taken. Always 0 in a pool.
    pub untaken: u32,
    /// The most it may have, if there is a limit.
    pub capacity: Option<u32>,
    /// Whether it may be picked now.
    pub eligible: bool,
    /// Whether nobody thinks badly of it.
    pub healthy: bool,
    /// Whether it gets only what sticks to it.
    pub draining: bool,
    /// Whether it is skipped.
    pub paused: bool,
    /// Whether it gets nothing more. Always false in a pool.
    pub withdrawn: bool,
    /// Items it ever got.
    pub picked: u64,
    /// Items that ended badly.
    pub failed: u64,
    /// What it used of what is measured, when that was last reported.
    pub gauge: Option<u64>,
}
