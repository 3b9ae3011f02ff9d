//! Credit: how much may be on its way. Totals since the beginning travel, never differences, so that a frame of
//! credit can replace an earlier one.
//!
//! ```text
//!  sender                                             receiver
//!  used ≤ granted ───── messages ───────────────────▶ received
//!      ▲                                               handled   (by the application)
//!      └──────────────── Credit(handled + window) ◀──── announced when half a window is new,
//!                                                       or when the sender says what it waits for (Blocked)
//! ```
//!
//! Credit-based flow control as in HTTP/2 (RFC 9113 §5.2), per quota, in three currencies at once.

use crate::Error;
use crate::frame::{Kind, Lane};
use crate::settings::Window;

/// What is counted by itself, with a window of its own.
///
/// Replies are apart from the lane they travel in: they were asked for, and who waits for one may be the very
/// handler that keeps the messages before it from being handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quota {
    Control,
    Data,
    Replies,
}

impl Quota {
    pub(super) const ALL: [Self; 3] = [Self::Control, Self::Data, Self::Replies];

    /// What a message of this kind is counted in.
    pub(super) fn of(kind: Kind, lane: Lane) -> Self {
        match (kind, lane) {
            (Kind::Reply, _) => Self::Replies,
            (_, Lane::Control) => Self::Control,
            (_, Lane::Data) => Self::Data,
        }
    }

    pub(super) fn to_wire(self) -> u64 {
        match self {
            Self::Control => 0,
            Self::Data => 1,
            Self::Replies => 2,
        }
    }

    pub(super) fn from_wire(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|quota| quota.to_wire() == number)
    }
}

/// What a message costs, or a sum of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) bytes: u64,
    pub(super) messages: u64,
    pub(super) descriptors: u64,
}

impl Amount {
    pub(super) fn message(bytes: u64, descriptors: usize) -> Self {
        Self { bytes, messages: 1, descriptors: descriptors as u64 }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            messages: self.messages.saturating_add(other.messages),
            descriptors: self.descriptors.saturating_add(other.descriptors),
        }
    }

    fn most(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.max(other.bytes),
            messages: self.messages.max(other.messages),
            descriptors: self.descriptors.max(other.descriptors),
        }
    }

    /// The currency in which `self` exceeds `limit`, if any.
    fn exceeds(self, limit: Self) -> Option<&'static str> {
        if self.messages > limit.messages {
            Some("messages")
        } else if self.descriptors > limit.descriptors {
            Some("descriptors")
        } else if self.bytes > limit.bytes {
            Some("bytes")
        } else {
            None
        }
    }

    pub(super) fn encode(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.messages.to_le_bytes());
        bytes[16..].copy_from_slice(&self.descriptors.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (b, rest) = bytes.split_first_chunk()?;
        let (m, rest) = rest.split_first_chunk()?;
        let d = rest.first_chunk()?;
        Some(Self {
            bytes: u64::from_le_bytes(*b),
            messages: u64::from_le_bytes(*m),
            descriptors: u64::from_le_bytes(*d),
        })
    }
}

impl From<Window> for Amount {
    fn from(window: Window) -> Self {
        Self { bytes: window.bytes, messages: window.messages, descriptors: window.descriptors }
    }
}

/// Whether `cost` on top of `used` stays within `granted`, or is a message larger than the window that goes alone:
/// with nothing else on its way, its bytes may exceed the window.
fn allowed(used: Amount, cost: Amount, granted: Amount, window: Amount) -> Result<(), &'static str> {
    let after = used.plus(cost);
    match after.exceeds(granted) {
        None => Ok(()),
        Some("bytes") if used.plus(window) == granted && cost.bytes > window.bytes => Ok(()),
        Some(what) => Err(what),
    }
}

/// The sender's side of one quota: what it may send.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Allowance {
    window: Amount,
    granted: Amount,
    used: Amount,
    /// What the sender waits for, and whether the receiver has been told.
    wanted: Option<Amount>,
    told: bool,
}

impl Allowance {
    pub(super) fn new(window: Window) -> Self {
        let window = window.into();
        Self { window, granted: window, ..Self::default() }
    }

    /// Whether a message of this cost may ever go.
    pub(super) fn is_possible(&self, cost: Amount) -> bool {
        cost.messages <= self.window.messages && cost.descriptors <= self.window.descriptors
    }

    /// Uses credit for a message, or notes what is missing.
    pub(super) fn take(&mut self, cost: Amount) -> bool {
        if allowed(self.used, cost, self.granted, self.window).is_ok() {
            self.used = self.used.plus(cost);
            return true;
        }
        // A message larger than the window waits until all before it has been handled.
        let oversize = cost.bytes > self.window.bytes;
        let needed = self.used.plus(if oversize { self.window } else { cost });
        let wanted = self.wanted.map_or(needed, |wanted| wanted.most(needed));
        self.told &= self.wanted == Some(wanted);
        self.wanted = Some(wanted);
        false
    }

    /// Returns what the receiver has to be told that this side waits for, once.
    pub(super) fn poll_blocked(&mut self) -> Option<Amount> {
        if self.told {
            return None;
        }
        self.told = self.wanted.is_some();
        self.wanted
    }

    pub(super) fn wants_to_tell(&self) -> bool {
        self.wanted.is_some() && !self.told
    }

    /// Takes the receiver's word. `true` if somebody who waited may now try again.
    pub(super) fn handle_credit(&mut self, granted: Amount) -> bool {
        // Totals only grow; an older frame can't take credit away, and one that grants nothing new is no reason to try again:
        // with a peer that answers each question with it that would never end.
        let granted = self.granted.most(granted);
        if granted == self.granted {
            return false;
        }
        self.granted = granted;
        self.told = false;
        self.wanted.take().is_some()
    }
}

/// The receiver's side of one quota: what the peer may send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    window: Amount,
    received: Amount,
    handled: Amount,
    /// What the sender knows to be handled.
    announced: Amount,
    /// What the sender waits for.
    wanted: Option<Amount>,
}

impl Account {
    pub(super) fn new(window: Window) -> Self {
        let none = Amount::default();
        Self { window: window.into(), received: none, handled: none, announced: none, wanted: None }
    }

    /// Counts a message that begins to arrive.
    pub(super) fn receive(&mut self, cost: Amount) -> Result<(), Error> {
        allowed(self.received, cost, self.announced.plus(self.window), self.window)
            .map_err(|what| Error::CreditExceeded { what })?;
        self.received = self.received.plus(cost);
        Ok(())
    }

    /// Counts a message as handled.
    pub(super) fn release(&mut self, cost: Amount) {
        self.handled = self.handled.plus(cost);
    }

    pub(super) fn handle_blocked(&mut self, wanted: Amount) {
        self.wanted = Some(wanted);
    }

    /// Whether the sender has to be told how much was handled.
    pub(super) fn is_due(&self) -> bool {
        let (handled, announced) = (self.handled, self.announced);
        let half = |handled: u64, announced: u64, window: u64| handled - announced > window / 2;
        half(handled.bytes, announced.bytes, self.window.bytes)
            || half(handled.messages, announced.messages, self.window.messages)
            || half(handled.descriptors, announced.descriptors, self.window.descriptors)
            || self.wanted.is_some_and(|wanted| wanted.exceeds(handled.plus(self.window)).is_none())
    }

    /// Returns the total that the sender may use from now on, once per reason.
    pub(super) fn poll_credit(&mut self) -> Option<Amount> {
        if !self.is_due() {
            return None;
        }
        self.wanted = None;
        self.announced = self.handled;
        Some(self.handled.plus(self.window))
    }
}
