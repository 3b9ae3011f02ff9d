//! The calls that are open at one process, and whose they are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::budget::{Budget, Cost, Share};
use super::limits::capacity;
use super::{Key, Limits, Peer};

/// What may be open at one process: so many calls of each other one, so many bytes and descriptors of all.
#[derive(Debug)]
pub(super) struct Callee<K> {
    /// Room of all callers.
    all: Budget,
    /// What each caller has left: of those that have something open, and some others.
    callers: Mutex<BTreeMap<Peer<K>, Arc<Semaphore>>>,
    each: usize,
}

/// A call that is open, until it is dropped.
#[derive(Debug)]
#[must_use = "dropping it says that the call has ended"]
pub(super) struct Open {
    _place: Option<OwnedSemaphorePermit>,
    _share: Share,
}

impl<K: Key> Callee<K> {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { all: limits.asked(), callers: Mutex::default(), each: capacity(limits.calls) }
    }

    /// Waits until this caller may have one call more open here. Cancel-safe.
    pub(super) async fn open(&self, caller: Peer<K>, cost: Cost) -> Open {
        let caller = self.caller(caller);
        // Its own turn first: who has too many open doesn't stand in the way of others.
        let _place = match Arc::clone(&caller).try_acquire_owned() {
            Ok(place) => Some(place),
            // It fails when the semaphore is closed, and nobody does that.
            Err(_) => caller.acquire_owned().await.ok(),
        };
        Open { _place, _share: self.all.take(cost).await }
    }

    fn caller(&self, caller: Peer<K>) -> Arc<Semaphore> {
        // A panic elsewhere leaves it whole: nothing calls out meanwhile.
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = callers.get(&caller) {
            return Arc::clone(known);
        }
        // Callers come and go. Nobody else holds one that is not in use: it is lent out under this lock.
        callers.retain(|_, known| Arc::strong_count(known) > 1);
        let new = Arc::new(Semaphore::new(self.each));
        callers.insert(caller, Arc::clone(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::session::Window;

    fn callee(each: u64) -> Callee<u32> {
        Callee::new(&Limits::new().calls(Window { bytes: 10, messages: each, descriptors: 1 }))
    }

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn cost(bytes: usize) -> Cost {
        Cost { bytes, descriptors: 0 }
    }

    fn now(callee: &Callee<u32>, caller: u32, bytes: usize) -> Option<Open> {
        match poll(pin!(callee.open(Peer::Worker(caller), cost(bytes)))) {
            Poll::Ready(open) => Some(open),
            Poll::Pending => None,
        }
    }

    #[test]
    fn who_has_too_many_calls_open_waits_and_nobody_else_does() {
        let callee = callee(3);
        let mut open: Vec<_> = (0..3).map(|_| now(&callee, 1, 0).expect("it has a share")).collect();
        let mut fourth = pin!(callee.open(Peer::Worker(1), cost(40)));
        assert!(poll(fourth.as_mut()).is_pending(), "its share is used up");
        // It waits for its own turn, and takes up no room of all.
        let other = now(&callee, 2, 40).expect("another one has a share of its own");
        drop(open.pop());
        assert!(poll(fourth.as_mut()).is_pending(), "there is no room for its bytes");
        drop(other);
        assert!(poll(fourth.as_mut()).is_ready());
    }

    #[test]
    fn callers_that_have_nothing_open_are_forgotten() {
        let callee = callee(1);
        let open = now(&callee, 0, 0).expect("it has a share");
        for caller in 1..1000 {
            drop(now(&callee, caller, 0).expect("it has a share"));
        }
        let known = callee.callers.lock().unwrap().len();
        assert!(known <= 2, "{known} are known, one has a call open");
        assert!(now(&callee, 0, 0).is_none(), "whoever has one open is still known");
        drop(open);
        assert!(now(&callee, 0, 0).is_some());
    }
}
