//! What is where in the memory of a ring, and the order in which its words are written and read.
//!
//! ```text
//! word 0        magic, with the version of this layout
//!      1, 2     slots, and words of messages: both powers of two
//!      8        head: the number of the newest message
//!     16        floor: the lowest number that may still be read
//!     24 …      slots: where the message of number n begins and how long it is, in slot n mod slots
//!        …      words of messages, used in a circle
//! ```
//!
//! One writes, many read, and nobody waits for anybody: a reader copies a message and looks afterwards whether it was
//! overwritten meanwhile. That is a seqlock (Boehm, "Can seqlocks get along with programming language memory models?",
//! 2012) with one word for all messages: before the writer overwrites any of it, it raises `floor` above all that it
//! will destroy. The fences make sure of both: who has read a word of a newer message sees the floor that goes with
//! it, and who sees a head sees the message. Words are read one by one as atomics, so that what is torn is only wrong,
//! not undefined.

use std::sync::atomic::Ordering;

use crate::word::Word;

/// "ring", and the version.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"ringv1\0\0");

const MAGIC_WORD: usize = 0;
const SLOTS_WORD: usize = 1;
const WORDS_WORD: usize = 2;
/// Apart, on cache lines of their own: readers look at them all the time.
const HEAD_WORD: usize = 8;
const FLOOR_WORD: usize = 16;
const FIRST_SLOT: usize = 24;

const BYTES: usize = size_of::<u64>();

/// The number of the newest message in these words. By itself: it is asked at each look at a state that follows.
#[inline]
pub(super) fn head_of<W: Word<u64>>(all: &[W]) -> u64 {
    all.get(HEAD_WORD).map_or(0, |word| word.load(Ordering::Relaxed))
}

/// How large a ring is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// How many messages it can hold, a power of two.
    pub(super) slots: usize,
    /// How many words of them, a power of two.
    pub(super) words: usize,
}

impl Shape {
    /// All words of a ring of this shape; `None` if there is none such.
    pub(super) fn total(self) -> Option<usize> {
        let is_one = self.slots.is_power_of_two() && self.words.is_power_of_two();
        let slots = self.slots.checked_mul(2).filter(|_| is_one)?;
        slots.checked_add(self.words)?.checked_add(FIRST_SLOT)
    }

    /// Bytes of the longest message. A longer one would leave no time to read it.
    pub(super) const fn longest(self) -> usize {
        self.words / 4 * BYTES
    }
}

/// What came of reading.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Copied {
    Whole,
    NotYet,
    Missed,
}

/// The words of a ring: those of the standard library, or loom's.
#[derive(Debug)]
pub(super) struct Words<'a, W> {
    all: &'a [W],
    shape: Shape,
}

impl<'a, W: Word<u64>> Words<'a, W> {
    /// Of that shape; `None` if there are not as many words.
    pub(super) fn new(all: &'a [W], shape: Shape) -> Option<Self> {
        (shape.total() == Some(all.len())).then_some(Self { all, shape })
    }

    /// The shape that these words say they have.
    pub(super) fn shape_of(all: &[W]) -> Option<Shape> {
        let word = |place: usize| all.get(place).map(|word| word.load(Ordering::Relaxed));
        let number = |place| usize::try_from(word(place)?).ok();
        let shape = Shape { slots: number(SLOTS_WORD)?, words: number(WORDS_WORD)? };
        (word(MAGIC_WORD) == Some(MAGIC) && shape.total() == Some(all.len())).then_some(shape)
    }

    /// Makes a ring of words that are all zero, with no message; the first may have any number but zero.
    pub(super) fn begin(&self) {
        self.store(SLOTS_WORD, self.shape.slots as u64);
        self.store(WORDS_WORD, self.shape.words as u64);
        self.store(FLOOR_WORD, 1);
        W::fence(Ordering::Release);
        self.store(MAGIC_WORD, MAGIC);
    }

    // The writer's.

    /// Nothing below that number can be read any more. Before anything of it is overwritten.
    pub(super) fn raise_floor(&self, floor: u64) {
        self.store(FLOOR_WORD, floor);
        W::fence(Ordering::Release);
    }

    /// Puts a message into its slot and its words. `len` is more than the message is if it has no words here.
    pub(super) fn write(&self, number: u64, start: u64, message: &[u8], len: u64) {
        let slot = self.slot(number);
        self.store(slot, start);
        self.store(slot + 1, len);
        for (place, bytes) in (start..).zip(message.chunks(BYTES)) {
            let mut word = [0; BYTES];
            if let Some(word) = word.get_mut(..bytes.len()) {
                word.copy_from_slice(bytes);
            }
            self.store(self.data(place), u64::from_le_bytes(word));
        }
    }

    /// Messages up to that number can be read.
    pub(super) fn raise_head(&self, head: u64) {
        W::fence(Ordering::Release);
        self.store(HEAD_WORD, head);
    }

    // The readers'.

    pub(super) fn head(&self) -> u64 {
        head_of(self.all)
    }

    /// Copies the message of that number to the end of `into`.
    pub(super) fn copy(&self, number: u64, into: &mut Vec<u8>) -> Copied {
        if self.head() < number {
            return Copied::NotYet;
        }
        // Who sees the head sees the message.
        W::fence(Ordering::Acquire);
        if self.load(FLOOR_WORD) > number {
            return Copied::Missed;
        }
        let slot = self.slot(number);
        let (start, len) = (self.load(slot), self.load(slot + 1));
        let Some(len) = usize::try_from(len).ok().filter(|len| *len <= self.shape.longest()) else {
            // It was too long for a ring, or this is not its slot any more.
            return Copied::Missed;
        };
        let before = into.len();
        let words = len.div_ceil(BYTES);
        into.reserve(words * BYTES);
        for place in (start..).take(words) {
            into.extend_from_slice(&self.load(self.data(place)).to_le_bytes());
        }
        into.truncate(before + len);
        // Who has read a word of a newer message sees the floor that goes with it.
        W::fence(Ordering::Acquire);
        if self.load(FLOOR_WORD) > number {
            into.truncate(before);
            return Copied::Missed;
        }
        Copied::Whole
    }

    const fn slot(&self, number: u64) -> usize {
        // A power of two, so the cut is harmless.
        FIRST_SLOT + 2 * (number as usize & (self.shape.slots - 1))
    }

    const fn data(&self, place: u64) -> usize {
        FIRST_SLOT + 2 * self.shape.slots + (place as usize & (self.shape.words - 1))
    }

    /// All places are within: `new` has seen how many words there are.
    fn load(&self, place: usize) -> u64 {
        self.all.get(place).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    fn store(&self, place: usize, value: u64) {
        if let Some(word) = self.all.get(place) {
            word.store(value, Ordering::Relaxed);
        }
    }
}
