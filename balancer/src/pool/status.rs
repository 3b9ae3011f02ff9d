//! What a pool looks like from outside.

/// The strategy and every member at one moment. With feature `serde` it can be serialised.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Status<K> {
    /// The name of the strategy.
    pub strategy: &'static str,
    /// Each member, in order of place.
    pub members: Vec<MemberStatus<K>>,
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
    /// Items it ever got.
    pub picked: u64,
    /// Items that ended badly.
    pub failed: u64,
    /// What it used of what is measured, when that was last reported.
    pub gauge: Option<u64>,
}
