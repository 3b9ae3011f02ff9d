//! Work for the processor.

use rustix::process::Signal;

use crate::program::Program;
use crate::support::process;

pub(crate) fn primes_are_counted_also_when_a_worker_dies() {
    let program = Program::start("tasks", &["500000"]);
    let pids =
        program.wait_for(4, |line| line.split_once(" is process ").map(|(_, pid)| pid.parse().unwrap()));
    // Somebody is at it: perhaps this one.
    program.wait_for(1, |line| line.ends_with(": 25 %").then_some(()));
    process::signal(pids[0], Signal::KILL);
    program.wait_for_line("41538 primes below 500000");
    let told = program.lines().iter().filter(|line| line.ends_with(": 100 %")).count();
    assert!(told >= 8, "each part has told of its progress to the end");
    program.wait_for_end();
}
