//! A million records.

use std::time::Instant;

use crate::command::{Command, Condition, Increment, Put};
use crate::witness::{Came, Level, Log, Record, Seen, What, Who, judge};
use crate::{ClientId, Epoch, Key, Limits, Store, View};

#[test]
fn many_records_are_judged_in_time_that_grows_with_them() {
    let is_long = std::env::var_os("CLUSTER_TEST_LONG").is_some();
    let count = if is_long { 1_000_000 } else { 50_000 };
    let (now, epoch) = (Instant::now(), Epoch::new(1));
    let mut store = Store::new(epoch, Limits::new());
    let mut log = Log::new();
    log.begin(epoch);
    let mut records = Vec::with_capacity(count);
    for turn in 0..count as u64 {
        let who = Who { client: ClientId::new(turn % 8, 1), thread: turn % 3 };
        let key = Key::from(format!("key/{}", turn * 7919 % 10_000));
        let invoked = turn * 100;
        let returned = Some(invoked + 750);
        let what = if turn % 2 == 0 {
            let at = store.cursor();
            What::Read {
                level: Level::Local,
                at,
                seen: vec![Seen::Key(key.clone(), View::get(&store, &key))],
            }
        } else {
            let command: Command = match turn % 5 {
                0 => Put::new(key, "a value").when(Condition::Absent),
                1 => Increment::new("hits", 1).into(),
                _ => Put::new(key, format!("value {turn}")).into(),
            };
            let answer = store.execute(who.client, command.clone(), now).unwrap();
            // Some are never heard of.
            let came = if turn % 1001 == 0 { Came::InDoubt } else { Came::Answered { epoch, answer } };
            What::Command { command, came }
        };
        let returned =
            if matches!(what, What::Command { came: Came::InDoubt, .. }) { None } else { returned };
        // Reads of one client follow its writes: what is invoked later returns later.
        records.push(Record { who, invoked, returned, what });
    }
    while let Some(commit) = store.poll_commit() {
        log.push(epoch, (*commit).clone());
    }
    let start = Instant::now();
    let verdict = judge(&records, Some(&log));
    let took = start.elapsed();
    assert!(verdict.is_good(), "{verdict}");
    eprintln!("{count} records in {took:?}: {:?}", verdict.judged);
    assert!(took.as_secs() < 60, "{count} records took {took:?}");
}
