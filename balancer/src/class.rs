//! Kinds of items, and who takes which.

/// A set of classes: kinds of items, numbered from 0 to 63.
///
/// Not every member can do everything: of several listening sockets a worker may have only some. An item has one
/// class ([`Request::class`](crate::Request::class)), a member a set of them
/// ([`Limits::classes`](crate::Limits::classes)).
///
/// ```
/// use cluster_balancer::Classes;
///
/// let classes = Classes::none().with(3);
/// assert!(classes.contains(3) && !classes.contains(0) && Classes::all().contains(63));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classes {
    bits: u64,
}

impl Classes {
    /// How many classes there are.
    pub const COUNT: u8 = 64;

    /// Every class.
    #[inline]
    pub const fn all() -> Self {
        Self { bits: u64::MAX }
    }

    /// No class.
    pub const fn none() -> Self {
        Self { bits: 0 }
    }

    /// These and `class`. A number from 64 on is no class and changes nothing.
    #[must_use]
    pub const fn with(self, class: u8) -> Self {
        Self { bits: self.bits | Self::bit(class) }
    }

    /// These without `class`.
    #[must_use]
    pub const fn without(self, class: u8) -> Self {
        Self { bits: self.bits & !Self::bit(class) }
    }

    /// Whether `class` is among them.
    #[inline]
    pub const fn contains(self, class: u8) -> bool {
        self.bits & Self::bit(class) != 0
    }

    /// Each of them, in order.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..Self::COUNT).filter(move |class| self.contains(*class))
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.bits == 0
    }

    #[inline]
    const fn bit(class: u8) -> u64 {
        if class < Self::COUNT { 1 << class } else { 0 }
    }
}
