//! Thousands of schedules of faults in virtual time.
//!
//! Spawns fail, workers are never ready, exit in any order and at any time, hang so that only SIGKILL ends them,
//! lose their channel; the user starts, stops, scales, rolls, pauses, aborts and shuts down at random; figures come in; the clock
//! jumps far ahead.
//! `rules` lists what holds all the same.
//!
//! `CLUSTER_TEST_LONG=1` runs a hundred times as many schedules, `CLUSTER_TEST_SEED=n` runs the one of that seed.

mod common;
mod journal;
mod machine;
mod rules;

use std::collections::BTreeSet;
use std::time::Duration;

use cluster_supervisor::Group;
use machine::Machine;

const SCHEDULES: u64 = 4000;
const STEPS: u32 = 150;

/// Every cause of an exit, what else may follow from a fault, and all that a roll can come to.
const TO_BE_MET: [&str; 27] = [
    "Aborted",
    "Asked",
    "BackingOff",
    "BootFailure",
    "Busy",
    "ChannelLost",
    "Completed",
    "Crash",
    "Ended",
    "Errors",
    "Failed",
    "GaveUp",
    "Left",
    "NoSlots",
    "Recalled",
    "Replaced",
    "SpawnFailed",
    "SpawnFailed, again: false",
    "SpawnFailed, again: true",
    "StartTimeout",
    "StartedAgain",
    "StartedInBackoff",
    "StopTimeout",
    "Unhealthy",
    "Vacated",
    "hopeless",
    "stranded",
];

/// Says how to repeat the schedule that failed.
struct Repeat(u64);

impl Drop for Repeat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "to repeat: CLUSTER_TEST_SEED={} cargo test -p cluster-supervisor --test simulation",
                self.0
            );
        }
    }
}

fn seeds() -> std::ops::Range<u64> {
    let seed = std::env::var("CLUSTER_TEST_SEED").ok();
    if let Some(seed) = seed {
        let seed = seed.parse().unwrap_or_else(|_| panic!("CLUSTER_TEST_SEED={seed} is no number"));
        return seed..seed + 1;
    }
    let is_long = std::env::var_os("CLUSTER_TEST_LONG").is_some_and(|long| long == "1");
    0..if is_long { 100 * SCHEDULES } else { SCHEDULES }
}

#[test]
fn the_rules_hold_under_random_faults_and_everything_ends_after_a_shutdown() {
    let base = common::base();
    let (seeds, mut met) = (seeds(), BTreeSet::new());
    for seed in seeds.clone() {
        let _repeat = Repeat(seed);
        let mut machine = Machine::new(seed, base);
        for _ in 0..STEPS {
            machine.command();
            machine.step();
        }
        // Where nobody has any time to become ready, and nobody is given up, a roll may wait for ever.
        let may_wait = machine.settings.start_timeout.is_zero() && machine.settings.budget.is_none();
        if seed % 3 == 0 && !may_wait {
            finish_roll(&mut machine);
        }
        end(&mut machine, seed % 2 == 0);
        met.append(&mut machine.rules.met);
    }
    if seeds.end - seeds.start > 1 {
        assert_eq!(
            met.iter().map(String::as_str).collect::<Vec<_>>(),
            TO_BE_MET,
            "the faults must reach all of it"
        );
    }
}

/// Lets time pass until the roll that goes on is over, if there is one.
fn finish_roll(machine: &mut Machine) {
    machine.calm = true;
    machine.resume();
    for _ in 0..20_000 {
        if machine.supervisor.current_roll().is_none() {
            return;
        }
        assert!(machine.step(), "a roll goes on and nothing will ever happen again");
    }
    panic!("the roll never ends");
}

/// Shuts down and checks that all ends within the deadlines, on a machine that has calmed down.
fn end(machine: &mut Machine, gracefully: bool) {
    machine.calm = true;
    let (drain, terminate) = machine.settings.stop;
    // A late answer to a spawn, and the time the kernel takes to carry out a SIGKILL.
    let slack = Duration::from_millis(80 + 50);
    let limit = if gracefully {
        machine.shutdown();
        // In a group that stops in order the deadlines add up.
        let turns =
            if machine.settings.group == Group::OneForOne { 1 } else { machine.supervisor.workers().count() };
        (drain + terminate + slack) * u32::try_from(turns).unwrap_or(u32::MAX)
    } else {
        machine.shutdown_now();
        slack
    };
    let begin = machine.now;
    for _ in 0..10_000 {
        if machine.supervisor.is_done() {
            let took = machine.now - begin;
            assert!(took <= limit, "the shutdown took {took:?}, more than {limit:?}");
            assert_eq!(machine.supervisor.poll_timeout(), None);
            assert_eq!(machine.supervisor.current_roll(), None, "a roll ends with the rest");
            return machine.rules.assert_quiet();
        }
        assert!(machine.step(), "somebody lives and nothing will ever happen again");
    }
    panic!("the shutdown never ends");
}

#[test]
fn equal_seeds_give_equal_schedules() {
    let run = |seed| {
        let mut machine = Machine::new(seed, common::base());
        let begin = machine.now;
        for _ in 0..STEPS {
            machine.command();
            machine.step();
        }
        let slots = machine.supervisor.slots().map(|slot| (slot.newest(), slot.state(), slot.restarts()));
        (machine.now - begin, slots.collect::<Vec<_>>())
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}
