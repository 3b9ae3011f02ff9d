use std::fmt;
use std::sync::Arc;

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

pub(super) type Hook = Box<dyn FnMut(Garbage) + Send>;

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
    pub(super) fn new() -> Self {
        Self { retired: Vec::new(), next: 0, hook: None }
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
        match &mut self.hook {
            // What it shares with no newer state is at most what was changed since.
            Some(hook) if now.saturating_sub(changes) >= HEAVY => hook(Garbage { _state: state }),
            _ => drop(state),
        }
        true
    }
}

impl fmt::Debug for Garbage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Garbage").finish_non_exhaustive()
    }
}
