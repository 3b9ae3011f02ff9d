//! Messages, as the example sends them.

use std::collections::BTreeSet;

use crate::program::Program;

pub(crate) fn everybody_talks_to_everybody() {
    let program = Program::start("messages", &[]);
    let drawn = program.wait_for(4, |line| line.split_once(" drew number ").map(|(_, it)| it.to_owned()));
    let each_once: BTreeSet<String> = ["0", "1", "2", "3"].map(str::to_owned).into();
    assert_eq!(drawn.into_iter().collect::<BTreeSet<_>>(), each_once);
    for slot in 0..4 {
        program.wait_for_line(&format!("worker {slot} says that {slot} squared is {}", slot * slot));
    }
    program.wait_for_line("the rumour went by [0, 1, 2, 3]");
    for slot in 0..3 {
        program.wait_for_line(&format!("worker {slot} hears from worker 3.1: everybody knows"));
    }
    program.stop();
}
