//! A pool for several threads.

use std::hash::Hash;
use std::time::Duration;

use super::{MemberId, Pool};
use crate::candidates::Request;
use crate::status::Status;
use crate::strategy::Ended;
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};
use crate::{Limits, Strategy};

/// A [`Pool`] behind a lock that is held for the time of a pick, some tens of nanoseconds. Clones share it.
///
/// A pick returns a [`Guard`], which owns the item: dropped it gives the count back.
///
/// ```
/// use cluster_balancer::{LeastLoaded, Limits, SharedPool};
///
/// let pool = SharedPool::new(LeastLoaded::new());
/// pool.add("anna", Limits::new());
/// pool.add("bert", Limits::new());
/// std::thread::scope(|scope| {
///     for _ in 0..2 {
///         scope.spawn(|| {
///             let guard = pool.pick().expect("both have room");
///             println!("{} does it", guard.key());
///         });
///     }
/// });
/// assert!(pool.status().members.iter().all(|member| member.outstanding == 0));
/// ```
#[derive(Debug)]
pub struct SharedPool<K, S = Box<dyn Strategy>> {
    pool: Arc<Mutex<Pool<K, S>>>,
}

impl<K, S> Clone for SharedPool<K, S> {
    fn clone(&self) -> Self {
        Self { pool: Arc::clone(&self.pool) }
    }
}

impl<K: Clone + Eq + Hash, S: Strategy> SharedPool<K, S> {
    /// A pool without members.
    pub fn new(strategy: S) -> Self {
        Pool::new(strategy).into()
    }

    /// Changes or looks at the pool, while nobody else does. Picks wait meanwhile, and so do [`Guard`]s that end: dropping one in
    /// `change` waits for ever.
    pub fn with<R>(&self, change: impl FnOnce(&mut Pool<K, S>) -> R) -> R {
        change(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Pool<K, S>> {
        // A strategy that panicked has picked nobody: the counts are what they were.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`Pool::add`].
    pub fn add(&self, key: K, limits: Limits) -> MemberId {
        self.lock().add(key, limits)
    }

    /// See [`Pool::remove`]. Guards live on.
    pub fn remove(&self, id: MemberId) -> Option<K> {
        self.lock().remove(id)
    }

    /// Picks a member. `None` when nobody has room.
    pub fn pick(&self) -> Option<Guard<K, S>> {
        self.pick_for(Request::new())
    }

    /// The same for a request with a key, a class, or a time.
    pub fn pick_for(&self, request: Request) -> Option<Guard<K, S>> {
        let mut pool = self.lock();
        let id = pool.pick_for(request)?;
        let key = pool.key(id)?.clone();
        drop(pool);
        Some(Guard { pool: self.clone(), id, key, ended: false })
    }

    /// See [`Pool::status`].
    pub fn status(&self) -> Status<K> {
        self.lock().status()
    }
}

impl<K, S> From<Pool<K, S>> for SharedPool<K, S> {
    fn from(pool: Pool<K, S>) -> Self {
        Self { pool: Arc::new(Mutex::new(pool)) }
    }
}

/// One item of a member. Dropping it says that the item has ended; [`succeed`](Self::succeed) and [`fail`](Self::fail) say
/// how, too.
#[derive(Debug)]
#[must_use = "the item counts as ended when this is dropped"]
pub struct Guard<K: Clone + Eq + Hash, S: Strategy> {
    pool: SharedPool<K, S>,
    id: MemberId,
    key: K,
    ended: bool,
}

impl<K: Clone + Eq + Hash, S: Strategy> Guard<K, S> {
    /// Who was picked.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// Who was picked, in this life of it.
    pub fn id(&self) -> MemberId {
        self.id
    }

    /// The item ended well, after so long, at this time (since the same moment as [`Request::at`]).
    pub fn succeed(self, took: Duration, at: Duration) {
        self.finish(Ended::well(at).after(took));
    }

    /// The item ended badly.
    pub fn fail(self, took: Duration, at: Duration) {
        self.finish(Ended::badly(at).after(took));
    }

    fn finish(mut self, ended: Ended) {
        self.ended = true;
        self.pool.lock().finish(self.id, ended);
    }
}

impl<K: Clone + Eq + Hash, S: Strategy> Drop for Guard<K, S> {
    fn drop(&mut self) {
        if !self.ended {
            self.pool.lock().release(self.id);
        }
    }
}
