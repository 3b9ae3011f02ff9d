//! The store beside a naive model that predicts every answer and every commit.
//!
//! `CLUSTER_TEST_LONG=1` runs a hundred times as many schedules, `CLUSTER_TEST_SEED=n` the one of that seed.
#![allow(clippy::expect_used, clippy::disallowed_methods, reason = "a test may panic, and begins some time")]

#[path = "../common/mod.rs"]
mod common;
mod generate;
mod model;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cluster_shared_state::{Answer, CommandError, Epoch, Limits, Misbehaviour, Store};
use common::{Repeat, seeds};
use generate::{Step, step};
use model::Model;

const SCHEDULES: u64 = 1000;
const STEPS: u32 = 300;

/// Every answer and every error there is, so that none goes untested.
const TO_BE_MET: [&str; 26] = [
    "Appended",
    "Conflict",
    "Deleted",
    "Error AnswerForgotten",
    "Error AnswerTooLong",
    "Error CommandTooLong",
    "Error EmptyKey",
    "Error ForeignLease",
    "Error KeyTooLong",
    "Error NoSuchLease",
    "Error NotANumber",
    "Error OutOfBounds",
    "Error Overflow",
    "Error StoreFull",
    "Error TooManyKeys",
    "Error TooManyLeases",
    "Error TooManyOperations",
    "Error TtlTooLong",
    "Error ValueTooLong",
    "Granted",
    "KeptAlive",
    "Misbehaviour OldRequest",
    "Number",
    "Put",
    "Revoked",
    "Transaction",
];

pub(crate) fn limits() -> Limits {
    Limits::new()
        .key_bytes(8)
        .value_bytes(24)
        .keys(12)
        .total_bytes(120)
        .operations(4)
        .command_bytes(60)
        .answer_bytes(30)
        .leases(3)
        .requests(4)
        .remembered_bytes(600)
}

#[test]
fn every_answer_and_every_commit_are_those_of_the_model() {
    let base = Instant::now();
    let mut met = BTreeSet::new();
    let seeds = seeds(SCHEDULES);
    let is_one = seeds.end - seeds.start == 1;
    for seed in seeds {
        let _repeat = Repeat { test: "store_model", seed };
        run(seed, base, &mut met);
    }
    if !is_one {
        let missing: Vec<_> = TO_BE_MET.iter().filter(|it| !met.contains(**it)).collect();
        assert!(missing.is_empty(), "no schedule met {missing:?}, only {met:?}");
    }
}

fn run(seed: u64, base: Instant, met: &mut BTreeSet<String>) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let epoch = Epoch::new(seed);
    let mut store = Store::new(epoch, limits());
    let mut model = Model::new(epoch, limits());
    let mut millis = 0;
    for _ in 0..STEPS {
        let now = base + Duration::from_millis(millis);
        let step = step(&mut rng, &model);
        let expected = model.step(&step, millis);
        let got = match step {
            Step::Wait(by) => {
                millis += by;
                store.handle_timeout(base + Duration::from_millis(millis));
                model.expire(millis);
                let next = store.poll_timeout();
                assert!(
                    next.is_none_or(|next| next > base + Duration::from_millis(millis)),
                    "a deadline stays"
                );
                None
            }
            Step::Gone(client) => {
                store.handle_owner_gone(client, now);
                None
            }
            Step::Execute(client, command) => Some(Ok(store.execute(client, command.build(), now))),
            Step::Request { client, number, acknowledged, command } => {
                Some(store.handle_request(client, number, acknowledged, command.build(), now))
            }
        };
        assert_eq!(got, expected, "the answer differs");
        if let Some(got) = &got {
            met.insert(name(got));
        }
        let commits: Vec<_> = std::iter::from_fn(|| store.poll_commit()).map(|it| (*it).clone()).collect();
        assert_eq!(commits.len(), model.commits.len(), "{commits:#?} differs from {:#?}", model.commits);
        for (commit, (revision, changes)) in commits.iter().zip(model.commits.drain(..)) {
            assert_eq!(commit.revision.get(), revision);
            let got: Vec<_> = commit
                .changes
                .iter()
                .map(|it| (it.key.to_vec(), it.kind, it.entry.clone(), it.previous.clone()))
                .collect();
            assert_eq!(got, changes, "revision {revision} differs");
        }
        assert_eq!(common::wire::copy(&store), model.entries(), "the state differs");
        let bytes: usize = model.entries().iter().map(|(key, entry)| key.len() + entry.value.len()).sum();
        assert_eq!(store.bytes(), bytes, "bytes are counted wrongly");
        assert_eq!(store.leases(), model.leases.len());
        let next = model.next_deadline().map(|millis| base + Duration::from_millis(millis));
        assert_eq!(store.poll_timeout(), next, "the next deadline differs");
    }
}

/// The name of the variant.
fn name(got: &Result<Result<Answer, CommandError>, Misbehaviour>) -> String {
    let (kind, text) = match got {
        Ok(Ok(answer)) => ("", format!("{:?}", answer.outcome)),
        Ok(Err(error)) => ("Error ", format!("{error:?}")),
        Err(misbehaviour) => ("Misbehaviour ", format!("{misbehaviour:?}")),
    };
    let end = text.find(|it: char| !it.is_alphanumeric()).unwrap_or(text.len());
    format!("{kind}{}", &text[..end])
}
