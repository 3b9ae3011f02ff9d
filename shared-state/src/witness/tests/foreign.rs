//! Another judge: short histories of one register, beside the linearizability tester of stateright, which knows
//! of no witness and searches all orders.
//!
//! Both are told the same: each answer carries value and revision. So they must agree on every history.

use std::time::Instant;

use fastrand::Rng;
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use super::seeds;
use crate::command::{Command, Condition, Put};
use crate::witness::{Came, Level, Log, Record, Seen, What, Who, judge};
use crate::{ClientId, Cursor, Entry, Epoch, Limits, Outcome, Revision, Store};

/// A register: its value, and how often it was written.
#[derive(Clone, Debug, Default)]
struct Register {
    value: Option<u8>,
    revision: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum Op {
    Put(u8),
    Cas(u8, u8),
    Read,
}

/// Whether a condition failed; the value that was there (if that is told), when it was written, and at which
/// revision that was said.
#[derive(Clone, Debug, PartialEq)]
struct Said {
    failed: bool,
    value: Option<(u8, u64)>,
    revision: u64,
}

impl SequentialSpec for Register {
    type Op = Op;
    type Ret = Said;

    fn invoke(&mut self, op: &Op) -> Said {
        let there = self.value.map(|value| (value, self.revision));
        let to = match op {
            Op::Put(value) => *value,
            Op::Cas(from, to) if self.value == Some(*from) => *to,
            Op::Cas(..) => return Said { failed: true, value: there, revision: self.revision },
            Op::Read => return Said { failed: false, value: there, revision: self.revision },
        };
        self.value = Some(to);
        self.revision += 1;
        Said { failed: false, value: None, revision: self.revision }
    }
}

struct Done {
    op: Op,
    invoked: u64,
    returned: Option<u64>,
    record: Record,
}

const EPOCH: Epoch = Epoch::new(1);

#[test]
fn two_judges_agree_on_short_histories() {
    let (mut good, mut bad, mut stricter) = (0, 0, 0);
    for seed in seeds(3_000, 100_000) {
        let (history, log) = history(&mut Rng::with_seed(seed));
        let records: Vec<Record> = history.iter().map(|done| done.record.clone()).collect();
        let verdict = judge(&records, Some(&log));
        let theirs = foreign(&history);
        // What the log says of a command in doubt is known to us alone, so we may be the stricter.
        let has_doubt = history.iter().any(|done| done.returned.is_none());
        if !(has_doubt && theirs) {
            assert_eq!(verdict.is_good(), theirs, "seed {seed}: {verdict}\n{records:?}");
        } else if !verdict.is_good() {
            stricter += 1;
        }
        if theirs { good += 1 } else { bad += 1 }
    }
    assert!(good > 500 && bad > 500, "{good} good, {bad} bad: too one-sided");
    eprintln!("{good} good ones and {bad} bad ones; {stricter} of the good ones are not what the log says");
}

/// Up to seven operations, each carried out at some moment between its invocation and its return; half of the
/// histories then lie about one of them.
fn history(rng: &mut Rng) -> (Vec<Done>, Log) {
    let mut planned: Vec<(u64, u64, u64, Op)> = Vec::new();
    for _ in 0..rng.usize(2..8) {
        let invoked = rng.u64(..1_000_000);
        let at = invoked + rng.u64(1..300_000);
        let returned = at + rng.u64(1..300_000);
        let (value, other) = (rng.u8(..3), rng.u8(..3));
        let op = match rng.u32(..3) {
            0 => Op::Put(value),
            1 => Op::Cas(value, other),
            _ => Op::Read,
        };
        planned.push((at, invoked, returned, op));
    }
    planned.sort_by_key(|(at, ..)| *at);
    let mut store = Store::new(EPOCH, Limits::new());
    let mut history = Vec::new();
    for (number, (_, invoked, returned, op)) in planned.into_iter().enumerate() {
        let client = ClientId::new(number as u64, 1);
        let is_killed = op != Op::Read && rng.u32(..8) == 0;
        let put = |value: u8| Put::new("r", vec![value]);
        let mut ask = |command: Command, is_done: bool| {
            let came = if is_done {
                let answer = store.execute(client, command.clone(), Instant::now()).unwrap();
                if is_killed { Came::InDoubt } else { Came::Answered { epoch: EPOCH, answer } }
            } else {
                Came::InDoubt
            };
            What::Command { command, came }
        };
        let is_done = !is_killed || rng.bool();
        let what = match &op {
            Op::Put(value) => ask(put(*value).into(), is_done),
            Op::Cas(from, to) => ask(put(*to).when(Condition::value(vec![*from])), is_done),
            Op::Read => {
                let seen = vec![Seen::Key("r".into(), store.get("r").cloned())];
                What::Read { level: Level::Linearizable, at: store.cursor(), seen }
            }
        };
        let returned = (!is_killed).then_some(returned);
        let record = Record { who: Who { client, thread: 0 }, invoked, returned, what };
        history.push(Done { op, invoked, returned, record });
    }
    let mut log = Log::new();
    log.begin(EPOCH);
    while let Some(commit) = store.poll_commit() {
        log.push(EPOCH, (*commit).clone());
    }
    if rng.bool() {
        lie(&mut history, rng);
    }
    (history, log)
}

fn lie(history: &mut [Done], rng: &mut Rng) {
    let Some(done) = rng.choice(history) else { return };
    if rng.bool() {
        // It took place at another time.
        done.invoked = rng.u64(..1_500_000);
        done.returned = done.returned.map(|_| done.invoked + rng.u64(1..300_000));
        (done.record.invoked, done.record.returned) = (done.invoked, done.returned);
        return;
    }
    let shift = |revision: Revision, up: bool| {
        Revision::new(if up { revision.get() + 1 } else { revision.get().saturating_sub(1) })
    };
    let (up, alters_value) = (rng.bool(), rng.bool());
    let alter = |entry: &mut Option<Entry>| {
        if let Some(entry) = entry {
            entry.value = vec![(entry.value[0] + 1) % 3].into();
        }
    };
    match &mut done.record.what {
        What::Read { seen, .. } if alters_value => {
            if let Seen::Key(_, entry) = &mut seen[0] {
                alter(entry);
            }
        }
        What::Read { at, .. } => *at = Cursor::new(EPOCH, shift(at.revision, up)),
        What::Command { came: Came::Answered { answer, .. }, .. } => match &mut answer.outcome {
            Outcome::Conflict(conflict) if alters_value => alter(&mut conflict.entry),
            _ => answer.revision = shift(answer.revision, up),
        },
        _ => {}
    }
}

/// What stateright says.
fn foreign(history: &[Done]) -> bool {
    let mut events: Vec<(u64, usize, bool)> = Vec::new();
    for (number, done) in history.iter().enumerate() {
        events.push((done.invoked, number, false));
        events.extend(done.returned.map(|at| (at, number, true)));
    }
    events.sort_unstable();
    let mut tester = LinearizabilityTester::new(Register::default());
    for (_, number, is_return) in events {
        let done = &history[number];
        let taken = if is_return {
            tester.on_return(number, said(&done.record)).map(|_| ())
        } else {
            tester.on_invoke(number, done.op.clone()).map(|_| ())
        };
        taken.unwrap();
    }
    tester.is_consistent()
}

fn said(record: &Record) -> Said {
    let of = |entry: &Option<Entry>| entry.as_ref().map(|it| (it.value[0], it.modified.get()));
    match &record.what {
        What::Read { at, seen, .. } => match &seen[0] {
            Seen::Key(_, entry) => Said { failed: false, value: of(entry), revision: at.revision.get() },
            Seen::Range(..) => unreachable!("keys are read"),
        },
        What::Command { came: Came::Answered { answer, .. }, .. } => match &answer.outcome {
            Outcome::Conflict(it) => {
                Said { failed: true, value: of(&it.entry), revision: answer.revision.get() }
            }
            _ => Said { failed: false, value: None, revision: answer.revision.get() },
        },
        _ => unreachable!("it did not return"),
    }
}
