//! Bytes of a known total length that arrive in pieces. No I/O.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// What is allocated at first, whatever total was announced: the peer is not believed.
const FIRST: usize = 1 << 20;

/// Memory that grows with what has arrived, at most doubling, to exactly the announced total.
#[derive(Debug)]
pub(crate) struct Growing {
    bytes: Vec<u8>,
    total: usize,
    pool: Option<Pool>,
}

/// So much memory is kept for the next large messages.
const KEPT: usize = 2 << 20;

/// Smaller ones are the allocator's business.
const LARGE: usize = 32 << 10;

/// Memory of large messages that have been dropped, to be used again: the allocator would give it back to the system, and
/// getting a page from there costs more than filling it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

impl Pool {
    fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give(&self, mut bytes: Vec<u8>) {
        bytes.clear();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.iter().map(Vec::capacity).sum::<usize>() + bytes.capacity() <= KEPT {
            kept.push(bytes);
        }
    }
}

/// Goes back to the pool when the last who holds its bytes drops them.
struct Pooled {
    bytes: Vec<u8>,
    pool: Pool,
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.bytes));
    }
}

impl Growing {
    pub(crate) fn new(total: usize) -> Self {
        Self { bytes: Vec::new(), total, pool: None }
    }

    /// The same in memory of the pool, if it is large.
    pub(crate) fn in_pool(total: usize, pool: &Pool) -> Self {
        if total < LARGE {
            return Self::new(total);
        }
        Self { bytes: pool.take(), total, pool: Some(pool.clone()) }
    }

    /// Takes from the front of `bytes` what is still missing. Returns how much.
    pub(crate) fn take_from(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.total - self.bytes.len());
        let needed = self.bytes.len() + taken;
        if needed > self.bytes.capacity() {
            let capacity = needed.max(self.bytes.len() * 2).max(FIRST).min(self.total);
            // Exactly: the vector's own growth would go up to twice the limit.
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        taken
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.bytes.len() == self.total
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        match self.pool {
            Some(pool) => Bytes::from_owner(Pooled { bytes: self.bytes, pool }),
            None => self.bytes.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announced_total_allocates_nothing_and_growth_ends_at_it() {
        let mut growing = Growing::new(1 << 30);
        assert_eq!(growing.bytes.capacity(), 0);
        growing.take_from(&[1; 100]);
        assert!(growing.bytes.capacity() <= FIRST);
        let mut growing = Growing::new(FIRST + 10);
        assert_eq!(growing.take_from(&vec![1; FIRST]), FIRST);
        assert_eq!(growing.take_from(&[2; 100]), 10);
        assert!(growing.is_whole());
        assert_eq!((growing.bytes.capacity(), growing.into_bytes().len()), (FIRST + 10, FIRST + 10));
    }
}
