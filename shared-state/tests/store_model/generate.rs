//! Random steps, and commands as plain data, so that the model needs not look into ours.

use std::time::Duration;

use cluster_shared_state::{
    Append, ClientId, Command, Condition, Delete, Increment, KeyRange, LeaseId, Operation, Put, Revision,
    Transaction,
};
use fastrand::Rng;

use super::model::Model;

pub(crate) enum Step {
    Wait(u64),
    Gone(ClientId),
    Execute(ClientId, Order),
    Request { client: ClientId, number: u64, acknowledged: u64, command: Order },
}

#[derive(Clone, Debug)]
pub(crate) enum Order {
    One(Option<(String, Condition)>, Op),
    Many { when: Vec<(String, Condition)>, then: Vec<Op>, otherwise: Vec<Op> },
    Grant(Option<Duration>),
    KeepAlive(LeaseId),
    Revoke(LeaseId),
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Put {
        key: String,
        value: Vec<u8>,
        lease: Option<LeaseId>,
        ttl: Option<Duration>,
        returns: bool,
    },
    Delete {
        key: String,
        returns: bool,
    },
    DeleteRange(KeyRange),
    Increment {
        key: String,
        by: i64,
        initial: i64,
        min: i64,
        max: i64,
        lease: Option<LeaseId>,
        ttl: Option<Duration>,
    },
    Append {
        key: String,
        value: Vec<u8>,
        lease: Option<LeaseId>,
        ttl: Option<Duration>,
    },
}

impl Order {
    pub(crate) fn build(self) -> Command {
        match self {
            Self::One(None, op) => op.build().into(),
            Self::One(Some((_, condition)), Op::DeleteRange(range)) => {
                let _ = condition;
                Command::delete_range(range)
            }
            Self::One(Some((_, condition)), op) => match op.build() {
                Operation::Put(it) => it.when(condition),
                Operation::Delete(it) => it.when(condition),
                Operation::Increment(it) => it.when(condition),
                Operation::Append(it) => it.when(condition),
                other => other.into(),
            },
            Self::Many { when, then, otherwise } => {
                let mut it = Transaction::new();
                for (key, condition) in when {
                    it = it.when(key, condition);
                }
                for op in then {
                    it = it.then(op.build());
                }
                for op in otherwise {
                    it = it.otherwise(op.build());
                }
                it.into()
            }
            Self::Grant(ttl) => Command::grant(ttl),
            Self::KeepAlive(lease) => Command::keep_alive(lease),
            Self::Revoke(lease) => Command::revoke(lease),
        }
    }
}

impl Op {
    pub(crate) fn build(self) -> Operation {
        match self {
            Self::Put { key, value, lease, ttl, returns } => {
                let mut it = Put::new(key, value);
                if let Some(lease) = lease {
                    it = it.lease(lease);
                }
                if let Some(ttl) = ttl {
                    it = it.ttl(ttl);
                }
                if returns { it.returning_previous().into() } else { it.into() }
            }
            Self::Delete { key, returns } => {
                let it = Delete::new(key);
                if returns { it.returning_previous().into() } else { it.into() }
            }
            Self::DeleteRange(range) => range.into(),
            Self::Increment { key, by, initial, min, max, lease, ttl } => {
                let mut it = Increment::new(key, by).starting_at(initial).at_least(min).at_most(max);
                if let Some(lease) = lease {
                    it = it.lease(lease);
                }
                if let Some(ttl) = ttl {
                    it = it.ttl(ttl);
                }
                it.into()
            }
            Self::Append { key, value, lease, ttl } => {
                let mut it = Append::new(key, value);
                if let Some(lease) = lease {
                    it = it.lease(lease);
                }
                if let Some(ttl) = ttl {
                    it = it.ttl(ttl);
                }
                it.into()
            }
        }
    }

    pub(crate) fn key(&self) -> Option<String> {
        match self {
            Self::Put { key, .. }
            | Self::Delete { key, .. }
            | Self::Increment { key, .. }
            | Self::Append { key, .. } => Some(key.clone()),
            Self::DeleteRange(_) => None,
        }
    }
}

pub(crate) fn step(rng: &mut Rng, model: &Model) -> Step {
    let client = ClientId::new(rng.u64(0..3), 1);
    match rng.u32(0..100) {
        0..10 => Step::Wait(rng.u64(0..40)),
        10..13 => Step::Gone(client),
        13..50 => Step::Execute(client, order(rng, model)),
        _ => {
            // Most rise, some are repeated, some were forgotten.
            let next = model.highest(client).map_or(1, |it| it + 1 + rng.u64(0..2));
            let number = match rng.u32(0..10) {
                0..7 => next,
                _ => rng.u64(next.saturating_sub(6)..=next),
            };
            let acknowledged = match rng.u32(0..10) {
                0..7 => number.saturating_sub(rng.u64(0..3)),
                7..9 => 0,
                _ => rng.u64(0..=number),
            };
            Step::Request { client, number, acknowledged, command: order(rng, model) }
        }
    }
}

fn order(rng: &mut Rng, model: &Model) -> Order {
    match rng.u32(0..100) {
        0..50 => {
            let op = op(rng, model);
            let when = op.key().filter(|_| rng.bool()).map(|key| (key, condition(rng, model)));
            Order::One(when, op)
        }
        50..80 => {
            let count = |rng: &mut Rng| if rng.u32(0..20) == 0 { 5 } else { rng.usize(0..4) };
            let when =
                (0..count(rng).min(rng.usize(0..6))).map(|_| (key(rng), condition(rng, model))).collect();
            let then = (0..count(rng)).map(|_| op(rng, model)).collect();
            let otherwise = (0..count(rng)).map(|_| op(rng, model)).collect();
            Order::Many { when, then, otherwise }
        }
        80..90 => Order::Grant(ttl(rng)),
        90..97 => Order::KeepAlive(lease(rng, model)),
        _ => Order::Revoke(lease(rng, model)),
    }
}

fn op(rng: &mut Rng, model: &Model) -> Op {
    let lease = (rng.u32(0..4) == 0).then(|| lease(rng, model));
    let ttl = ttl(rng);
    match rng.u32(0..100) {
        0..45 => Op::Put { key: key(rng), value: value(rng), lease, ttl, returns: rng.bool() },
        45..60 => Op::Delete { key: key(rng), returns: rng.bool() },
        60..67 => Op::DeleteRange(match rng.u32(0..8) {
            0..3 => KeyRange::prefix(["a", "b", "ab"][rng.usize(0..3)]),
            3..5 => KeyRange::key(key(rng)),
            5..7 => KeyRange::between(key(rng), key(rng)),
            _ => KeyRange::All,
        }),
        67..87 => {
            let big = [i64::MAX, i64::MIN, 1, -1, 5, 100];
            let (min, max) =
                if rng.bool() { (i64::MIN, i64::MAX) } else { (rng.i64(-20..0), rng.i64(0..20)) };
            let by = if rng.u32(0..5) == 0 { big[rng.usize(0..6)] } else { rng.i64(-9..9) };
            Op::Increment { key: key(rng), by, initial: rng.i64(-2..3), min, max, lease, ttl }
        }
        _ => Op::Append { key: key(rng), value: value(rng), lease, ttl },
    }
}

fn condition(rng: &mut Rng, model: &Model) -> Condition {
    let revision = Revision::new(model.revision.saturating_sub(rng.u64(0..6)));
    match rng.u32(0..8) {
        0 => Condition::Absent,
        1 => Condition::Present,
        2 => Condition::value(value(rng)),
        3 => Condition::Modified(revision),
        4 => Condition::ModifiedBefore(revision),
        5 => Condition::ModifiedAfter(revision),
        6 => Condition::Lease(lease(rng, model)),
        _ => Condition::Owner(ClientId::new(rng.u64(0..3), 1)),
    }
}

fn key(rng: &mut Rng) -> String {
    match rng.u32(0..60) {
        0 => String::new(),
        1 => "much too long".to_owned(),
        _ => {
            let names = ["a", "ab", "abc", "b", "ba", "c", "d"];
            let name = names[rng.usize(0..names.len())].to_owned();
            if rng.bool() { name } else { format!("{name}{}", rng.u32(0..3)) }
        }
    }
}

fn value(rng: &mut Rng) -> Vec<u8> {
    let length = if rng.u32(0..40) == 0 { 25 } else { rng.usize(0..16) };
    // Few different ones, so that conditions on them hold now and then.
    vec![b"0 x\xff"[rng.usize(0..4)]; if rng.bool() { length.min(2) } else { length }]
}

fn ttl(rng: &mut Rng) -> Option<Duration> {
    match rng.u32(0..40) {
        0 => Some(Duration::MAX),
        1 => Some(Duration::ZERO),
        2..14 => Some(Duration::from_millis(rng.u64(1..60))),
        _ => None,
    }
}

/// Mostly one that is there.
fn lease(rng: &mut Rng, model: &Model) -> LeaseId {
    let all: Vec<_> = model.leases.keys().chain(&model.ended).copied().collect();
    if all.is_empty() { model.foreign } else { all[rng.usize(0..all.len())] }
}
