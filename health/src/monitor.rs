//! The monitor: who has been silent for how long, and who is told about it.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

use crate::lateness::Lateness;
use crate::member::Member;
use crate::{Heartbeat, Liveness, Verdict};

/// Watches the heartbeats of its members.
///
/// `K` names a member and should name one *life* of it (a worker and its generation), so that a late beat
/// of a dead member finds nothing.
///
/// After any `insert`, `remove` or `handle_*`, poll [`poll_verdict`](Self::poll_verdict) until it returns
/// `None`, then wait until [`poll_timeout`](Self::poll_timeout) and call
/// [`handle_timeout`](Self::handle_timeout). A driver that reads beats off shared memory does so just
/// before that call.
///
/// # When the monitor itself was late
///
/// It announces a tick every half interval. If one comes more than half an interval late (the process was
/// stopped, the machine slept or was overloaded), it can't tell the silence of others from its own:
///
/// - Every member's deadlines move by the whole lateness: time in which the monitor stood still is no
///   silence.
/// - After that, every member has its full grace again: no verdict comes earlier than
///   [`suspect_after`](Heartbeat::suspect_after) from now without another heartbeat. This is given once
///   before each suspicion and once before each death, so that a monitor that is late every time still
///   finds a member that hangs, after as many ticks as ever and a little.
///
/// So a stall of any length, of the monitor alone or of everyone, raises no suspicion. Calls that come
/// early or more often than announced are free and change nothing of this.
#[derive(Debug)]
pub struct Monitor<K> {
    heartbeat: Heartbeat,
    lateness: Lateness,
    /// In no order; `place_of` finds them.
    members: Vec<Member<K>>,
    place_of: HashMap<K, usize>,
    verdicts: VecDeque<Verdict<K>>,
}

impl<K: Copy + Eq + Hash> Monitor<K> {
    /// A monitor without members, which expects them to beat like this.
    pub fn new(heartbeat: Heartbeat) -> Self {
        Self {
            heartbeat,
            lateness: Lateness::new(heartbeat.tick()),
            members: Vec::new(),
            place_of: HashMap::new(),
            verdicts: VecDeque::new(),
        }
    }

    // Verbs: what the user wants.

    /// Watches a member from now on, as if it had just beaten. A member that is there already starts anew:
    /// what was concluded about it and not polled is forgotten.
    pub fn insert(&mut self, key: K, now: Instant) {
        self.remove(key);
        self.place_of.insert(key, self.members.len());
        self.members.push(Member::new(key, now));
        self.lateness.start(now);
    }

    /// Watches a member no more, and forgets verdicts about it that were not polled. Idempotent.
    pub fn remove(&mut self, key: K) {
        let Some(place) = self.place_of.remove(&key) else { return };
        self.members.swap_remove(place);
        if let Some(moved) = self.members.get(place) {
            self.place_of.insert(moved.key(), place);
        }
        self.verdicts.retain(|verdict| verdict.key != key);
        if self.members.is_empty() {
            self.lateness.stop();
        }
    }

    // Inputs: what happened.

    /// The member gave a sign of life. Unknown members are ignored.
    pub fn handle_beat(&mut self, key: K, now: Instant) {
        let heartbeat = self.heartbeat;
        let verdict = self.member_mut(key).and_then(|member| member.beat(&heartbeat, now));
        self.verdicts.extend(verdict);
    }

    /// The member's own count of its beats reads so much now; if it changed, that is a beat.
    ///
    /// For counters in shared memory that a member raises without telling anyone. The first reading is
    /// only remembered, since it may be old. The value is not trusted: any change will do, backwards too.
    pub fn handle_counter(&mut self, key: K, value: u64, now: Instant) {
        if self.member_mut(key).is_some_and(|member| member.counted(value)) {
            self.handle_beat(key, now);
        }
    }

    /// Looks who has been silent for too long. Afterwards, [`poll_timeout`](Self::poll_timeout) is `None`
    /// or later than `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        let late = self.lateness.take(now);
        for member in &mut self.members {
            if late > Duration::ZERO {
                member.forgive(late, &self.heartbeat, now);
            }
            while let Some(verdict) = member.judge(&self.heartbeat, now) {
                self.verdicts.push_back(verdict);
            }
        }
    }

    // Outputs: what to do next.

    /// When to call [`handle_timeout`](Self::handle_timeout): every half interval while there are members.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.lateness.due()
    }

    /// What was concluded, oldest first.
    pub fn poll_verdict(&mut self) -> Option<Verdict<K>> {
        self.verdicts.pop_front()
    }

    // Getters.

    /// How a member stands; `None` if it is not watched.
    pub fn state(&self, key: K) -> Option<Liveness> {
        let place = self.place_of.get(&key)?;
        self.members.get(*place).map(Member::liveness)
    }

    /// What is expected of the members.
    pub fn heartbeat(&self) -> Heartbeat {
        self.heartbeat
    }

    fn member_mut(&mut self, key: K) -> Option<&mut Member<K>> {
        self.members.get_mut(*self.place_of.get(&key)?)
    }
}
