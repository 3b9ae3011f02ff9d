//! What boards and rings ask of an atomic word. It is a trait so that loom's words, which try every order of events, can
//! stand in for the standard library's in tests.

#![cfg_attr(not(feature = "board"), allow(dead_code, reason = "a ring needs less of it than a board"))]

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// An atomic word that holds a `T`. The methods are those of the standard library's atomics.
pub(crate) trait Word<T> {
    fn load(&self, order: Ordering) -> T;
    fn store(&self, value: T, order: Ordering);
    fn swap(&self, value: T, order: Ordering) -> T;
    fn fetch_add(&self, value: T, order: Ordering) -> T;
    fn compare_exchange(&self, current: T, new: T, success: Ordering, failure: Ordering) -> Result<T, T>;

    /// The fence that goes with words of this kind.
    fn fence(order: Ordering);
}

macro_rules! word {
    ($atomic:ty, $value:ty, $fence:path) => {
        impl Word<$value> for $atomic {
            fn load(&self, order: Ordering) -> $value {
                self.load(order)
            }

            fn store(&self, value: $value, order: Ordering) {
                self.store(value, order);
            }

            fn swap(&self, value: $value, order: Ordering) -> $value {
                self.swap(value, order)
            }

            fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                self.fetch_add(value, order)
            }

            fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(current, new, success, failure)
            }

            fn fence(order: Ordering) {
                $fence(order);
            }
        }
    };
}

word!(AtomicU32, u32, fence);
word!(AtomicU64, u64, fence);

#[cfg(test)]
word!(loom::sync::atomic::AtomicU32, u32, loom::sync::atomic::fence);
#[cfg(test)]
word!(loom::sync::atomic::AtomicU64, u64, loom::sync::atomic::fence);
