//! What is asked for, in a form that the [`model`](super::model) can look into, and how it is drawn.

use std::time::Duration;

use bytes::Bytes;
use cluster_shared_state::{
    Append, ClientId, Command, Compare, Condition, Delete, Increment, Key, KeyRange, LeaseId, Operation, Put,
    Revision, Transaction, number,
};
use fastrand::Rng;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Life {
    pub(crate) lease: Option<LeaseId>,
    pub(crate) ttl: Option<Duration>,
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Put { key: Key, value: Bytes, life: Life, previous: bool },
    Delete { key: Key, previous: bool },
    DeleteRange(KeyRange),
    Add { key: Key, by: i64, initial: i64, min: i64, max: i64, life: Life },
    Append { key: Key, value: Bytes, life: Life },
}

type When = (Key, Condition);

#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Apply { when: Option<When>, op: Op },
    Transact { when: Vec<When>, then: Vec<Op>, otherwise: Vec<Op> },
    Grant(Option<Duration>),
    KeepAlive(LeaseId),
    Revoke(LeaseId),
}

macro_rules! lived {
    ($it:expr, $life:expr) => {{
        let it = match $life.lease {
            Some(lease) => $it.lease(lease),
            None => $it,
        };
        match $life.ttl {
            Some(ttl) => it.ttl(ttl),
            None => it,
        }
    }};
}

impl Op {
    fn operation(&self) -> Operation {
        match self.clone() {
            Self::Put { key, value, life, previous } => {
                let put = Put::new(key, value);
                let put = lived!(put, life);
                if previous { put.returning_previous() } else { put }.into()
            }
            Self::Delete { key, previous } => {
                let delete = Delete::new(key);
                if previous { delete.returning_previous() } else { delete }.into()
            }
            Self::DeleteRange(range) => range.into(),
            Self::Add { key, by, initial, min, max, life } => {
                let add = Increment::new(key, by).starting_at(initial).at_least(min).at_most(max);
                lived!(add, life).into()
            }
            Self::Append { key, value, life } => {
                let append = Append::new(key, value);
                lived!(append, life).into()
            }
        }
    }
}

impl Ask {
    pub(crate) fn command(&self) -> Command {
        match self {
            Self::Apply { when, op } => Command::Apply {
                when: when.clone().map(|(key, condition)| Compare::new(key, condition)),
                operation: op.operation(),
            },
            Self::Transact { when, then, otherwise } => {
                let mut it = Transaction::new();
                for (key, condition) in when {
                    it = it.when(key, condition.clone());
                }
                for op in then {
                    it = it.then(op.operation());
                }
                for op in otherwise {
                    it = it.otherwise(op.operation());
                }
                it.into()
            }
            Self::Grant(ttl) => Command::grant(*ttl),
            Self::KeepAlive(lease) => Command::keep_alive(*lease),
            Self::Revoke(lease) => Command::revoke(*lease),
        }
    }
}

/// What a command is drawn with.
pub(crate) struct Hand<'a> {
    pub(crate) rng: &'a mut Rng,
    /// Leases to use: mostly one's own.
    pub(crate) leases: &'a [LeaseId],
    /// About the last revision.
    pub(crate) revision: u64,
    pub(crate) clients: u64,
}

pub(crate) const KEYS: [&str; 14] =
    ["a", "a/0", "a/1", "a/2", "a/3", "ab", "b/0", "b/1", "b/2", "c", "c/0", "c/1", "n/0", "n/1"];

pub(crate) fn draw_range(rng: &mut Rng) -> KeyRange {
    match rng.u8(..10) {
        0..4 => KeyRange::key(draw_key(rng)),
        4..7 => KeyRange::prefix(["a", "a/", "b/", "c", "n/", ""][rng.usize(..6)]),
        7 => KeyRange::between(draw_key(rng), draw_key(rng)),
        _ => KeyRange::All,
    }
}

fn draw_key(rng: &mut Rng) -> Key {
    Key::from_static(KEYS[rng.usize(..KEYS.len())])
}

impl Hand<'_> {
    pub(crate) fn ask(&mut self) -> Ask {
        match self.rng.u8(..100) {
            0..55 => Ask::Apply { when: None, op: self.op() },
            55..68 => Ask::Apply { when: Some(self.when()), op: self.op() },
            68..84 => {
                let times = |it: &mut Self, up_to| it.rng.usize(..up_to);
                let whens = times(self, 3);
                let thens = times(self, 6);
                let others = times(self, 3);
                Ask::Transact {
                    when: (0..whens).map(|_| self.when()).collect(),
                    then: self.ops(thens),
                    otherwise: self.ops(others),
                }
            }
            84..92 => Ask::Grant(self.rng.bool().then(|| milliseconds(5 + self.rng.u64(..400)))),
            92..96 => self.lease().map_or(Ask::Grant(None), Ask::KeepAlive),
            _ => self.lease().map_or(Ask::Grant(None), Ask::Revoke),
        }
    }

    /// No more than two of them delete ranges: more might be refused for the work they are.
    fn ops(&mut self, count: usize) -> Vec<Op> {
        let mut ranges = 0;
        let mut ops = Vec::new();
        for _ in 0..count {
            let op = self.op();
            ranges += u32::from(matches!(op, Op::DeleteRange(_)));
            if ranges <= 2 || !matches!(op, Op::DeleteRange(_)) {
                ops.push(op);
            }
        }
        ops
    }

    fn op(&mut self) -> Op {
        let key = draw_key(self.rng);
        match self.rng.u8(..100) {
            0..50 => Op::Put { key, value: self.value(), life: self.life(), previous: self.rng.bool() },
            50..64 => Op::Delete { key, previous: self.rng.bool() },
            64..70 => Op::DeleteRange(draw_range(self.rng)),
            70..90 => {
                let key = Key::from_static(["n/0", "n/1"][self.rng.usize(..2)]);
                let (min, max) = [(i64::MIN, i64::MAX), (-5, 20)][self.rng.usize(..2)];
                let by = if self.rng.u8(..30) == 0 { i64::MAX } else { self.rng.i64(-3..9) };
                Op::Add { key, by, initial: self.rng.i64(..2), min, max, life: self.life() }
            }
            _ => Op::Append { key, value: self.value(), life: self.life() },
        }
    }

    fn value(&mut self) -> Bytes {
        match self.rng.u8(..20) {
            0 => Bytes::from(vec![b'x'; self.rng.usize(50..200)]),
            1..6 => number::encode(self.rng.i64(..30)),
            _ => Bytes::from(vec![self.rng.u8(b'a'..b'e'); self.rng.usize(..4)]),
        }
    }

    fn life(&mut self) -> Life {
        let lease = if self.rng.u8(..4) == 0 { self.lease() } else { None };
        let ttl = (self.rng.u8(..5) == 0).then(|| milliseconds(1 + self.rng.u64(..300)));
        Life { lease, ttl }
    }

    fn lease(&mut self) -> Option<LeaseId> {
        self.rng.choice(self.leases).copied()
    }

    fn when(&mut self) -> When {
        let revision = Revision::new(self.revision.saturating_sub(self.rng.u64(..6)));
        let condition = match self.rng.u8(..8) {
            0 => Condition::Present,
            1 => Condition::Value(self.value()),
            2 => Condition::Modified(revision),
            3 => Condition::ModifiedBefore(revision),
            4 => Condition::ModifiedAfter(revision),
            5 => self.lease().map_or(Condition::Absent, Condition::Lease),
            6 => Condition::Owner(ClientId::new(self.rng.u64(..self.clients), 1 + self.rng.u64(..2))),
            _ => Condition::Absent,
        };
        (draw_key(self.rng), condition)
    }
}

pub(crate) const fn milliseconds(n: u64) -> Duration {
    Duration::from_millis(n)
}
