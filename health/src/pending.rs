//! Verdicts that were not polled yet. Bounded, also if nobody ever polls them.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use crate::{Cause, Probe, Quantity, Verdict, VerdictKind};

/// Oldest first, each with the life of the member that it is about.
#[derive(Clone, Debug)]
pub(crate) struct Pending<K> {
    queue: VecDeque<(u64, Verdict<K>)>,
    /// With more than that it is gone through for what nobody needs any more.
    room: usize,
}

/// Before that, nothing is worth the trouble.
const LEAST_ROOM: usize = 64;

/// What a verdict is about. Verdicts about one thing follow from each other, those about two don't.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Topic {
    Silence,
    /// With the limit, since there may be several for one quantity.
    Limit(Quantity, u64),
    Failures,
    Probe(Probe),
    Requests,
    Lifetime,
}

impl<K: Copy + Eq + Hash> Pending<K> {
    pub(crate) fn new() -> Self {
        Self { queue: VecDeque::new(), room: LEAST_ROOM }
    }

    pub(crate) fn push(&mut self, life: u64, verdict: Verdict<K>) {
        self.queue.push_back((life, verdict));
    }

    /// The next one that is about somebody who lives.
    pub(crate) fn pop(&mut self, lives: impl Fn(K, u64) -> bool) -> Option<Verdict<K>> {
        loop {
            let (life, verdict) = self.queue.pop_front()?;
            if lives(verdict.key, life) {
                return Some(verdict);
            }
        }
    }

    /// Keeps it bounded: a few verdicts for each thing that can be said of those who live.
    ///
    /// What lies between the first recovery from a thing and the last one goes, with that last one; and of what is told again only
    /// the latest stays. So a recovery still has its beginning, and a beginning is still told once.
    pub(crate) fn bound(&mut self, lives: impl Fn(K, u64) -> bool) {
        if self.queue.len() <= self.room {
            return;
        }
        self.queue.retain(|(life, verdict)| lives(verdict.key, *life));
        let mut recoveries: HashMap<(K, Topic), (usize, usize)> = HashMap::new();
        for (at, (_, verdict)) in self.queue.iter().enumerate() {
            if verdict.kind == VerdictKind::Recovered {
                recoveries.entry((verdict.key, topic(verdict))).or_insert((at, at)).1 = at;
            }
        }
        let mut at = 0;
        self.queue.retain(|(_, verdict)| {
            let recovered = recoveries.get(&(verdict.key, topic(verdict)));
            let stays = recovered.is_none_or(|(first, last)| at <= *first || at > *last);
            at += 1;
            stays
        });
        // From the end, so that the latest is the one that is kept.
        let mut next: HashMap<(K, Topic), VerdictKind> = HashMap::new();
        let mut kept = VecDeque::with_capacity(self.queue.len());
        for (life, verdict) in self.queue.drain(..).rev() {
            if next.insert((verdict.key, topic(&verdict)), verdict.kind) != Some(verdict.kind) {
                kept.push_front((life, verdict));
            }
        }
        self.queue = kept;
        self.room = LEAST_ROOM.max(2 * self.queue.len());
    }
}

fn topic<K>(verdict: &Verdict<K>) -> Topic {
    match &verdict.cause {
        Cause::Silence(_) => Topic::Silence,
        Cause::Limit(excess) => Topic::Limit(excess.quantity.clone(), excess.limit.to_bits()),
        Cause::Failures(_) => Topic::Failures,
        Cause::Probe(failure) => Topic::Probe(failure.probe),
        Cause::Requests { .. } => Topic::Requests,
        Cause::Lifetime { .. } => Topic::Lifetime,
    }
}
