use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::state::State;

/// A state with so many changes since it was the newest is left to the hook: 4096 entries take about a millisecond.
const HEAVY: u64 = 4096;

/// States looked at after each publication. One is added at a time, so two would keep pace; four catch up.
const LOOKS: usize = 4;

/// States that readers may still hold.
///
/// The writer keeps a reference to each, so that no reader is ever the last to let go of one: freeing a state of a
/// million keys takes a good fraction of a second.
pub(super) struct Reclaim {
    retired: Vec<Retired>,
    next: usize,
    hook: Option<Hook>,
}

/// Shared with the states that are built apart: the one who writes calls it, so nobody waits for the lock.
pub(super) type Hook = Arc<Mutex<dyn FnMut(Garbage) + Send>>;

struct Retired {
    state: Arc<State>,
    /// The writer's count of changes when it was the newest state.
    changes: u64,
}

/// A state that nobody can see any more, and that is expensive to free: dropping it does so.
///
/// See [`Writer::on_garbage`](super::Writer::on_garbage).
pub struct Garbage {
    _state: Arc<State>,
}

impl Reclaim {
    pub(super) fn new(hook: Option<Hook>) -> Self {
        Self { retired: Vec::new(), next: 0, hook }
    }

    pub(super) fn hook(&self) -> Option<&Hook> {
        self.hook.as_ref()
    }

    pub(super) fn set_hook(&mut self, hook: Hook) {
        self.hook = Some(hook);
    }

    /// Takes the state that was the newest until now. `changes` is how many there had been then, `now` how many since.
    pub(super) fn retire(&mut self, state: Arc<State>, changes: u64, now: u64) {
        self.retired.push(Retired { state, changes });
        // The common case, that nobody looked at it: it goes at once.
        self.try_free(self.retired.len() - 1, now);
        self.some(now);
    }

    /// Looks at some states, and frees those that can be freed.
    pub(super) fn some(&mut self, now: u64) {
        for _ in 0..LOOKS.min(self.retired.len()) {
            if self.next >= self.retired.len() {
                self.next = 0;
            }
            if !self.try_free(self.next, now) {
                self.next += 1;
            }
        }
    }

    /// Frees all that can be freed. Returns how many states are still held by views.
    pub(super) fn all(&mut self, now: u64) -> usize {
        for index in (0..self.retired.len()).rev() {
            self.try_free(index, now);
        }
        self.retired.len()
    }

    /// Frees the state at this index, and puts the last one in its place, if there is one and nobody views it.
    fn try_free(&mut self, index: usize, now: u64) -> bool {
        // Where ours is the only reference it stays so, since new ones come only from existing ones. (The pointer to
        // the newest state moved on before the state came here, and accounted for the readers who had just come by.)
        if self.retired.get(index).is_none_or(|retired| Arc::strong_count(&retired.state) > 1) {
            return false;
        }
        let Retired { state, changes } = self.retired.swap_remove(index);
        // What it shares with no newer state is at most what was changed since, and once for each time that the tree
        // was made anew, a log and the nodes that took part: so much at most as one log has room for.
        self.discard(state, now.saturating_sub(changes));
        true
    }

    /// Frees a state that nobody sees, here or by the hook. So much of it is shared with no other.
    pub(super) fn discard(&self, state: Arc<State>, changes: u64) {
        match &self.hook {
            Some(hook) if self.hands_over(changes) => {
                let mut hook = hook.lock().unwrap_or_else(PoisonError::into_inner);
                hook(Garbage { _state: state });
            }
            _ => drop(state),
        }
    }

    /// Whether a state is for the hook, of which so much is shared with no other.
    pub(super) fn hands_over(&self, changes: u64) -> bool {
        self.hook.is_some() && changes >= HEAVY
    }
}

impl fmt::Debug for Garbage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Garbage").finish_non_exhaustive()
    }
}
