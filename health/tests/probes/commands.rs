//! By programs.

use std::time::Duration;

use cluster_health::os::{CommandLine, Outcome, Target};

use crate::{LONG, SHORT, eventually, reason};

/// A script.
pub(crate) fn script(script: &str) -> Target {
    Target::Command(CommandLine::new("/bin/sh").args(["-c", script]))
}

/// Whether a process runs. One that waits to be reaped, by whoever it came to, doesn't.
pub(crate) fn is_running(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|fields| !fields.is_empty() && !fields.starts_with(['Z', 'X']))
}

#[test]
fn exit_code_0_is_good() {
    assert_eq!(script("echo all is well").ask(LONG), Outcome::Good);
}

#[test]
fn another_exit_code_is_told_with_the_last_line() {
    assert_eq!(reason(script("exit 3").ask(LONG)), "exited with code 3");
    let told = reason(script("echo one; echo two >&2; echo; exit 2").ask(LONG));
    assert_eq!(told, "exited with code 2: two", "either output will do");
    let escaped = reason(script("printf '\\033[31mred\\a'; exit 1").ask(LONG));
    assert_eq!(escaped, "exited with code 1: \\u{1b}[31mred\\u{7}");
}

#[test]
fn a_signal_is_told() {
    assert_eq!(reason(script("echo so long; kill -9 $$").ask(LONG)), "was killed by signal 9: so long");
}

#[test]
fn what_can_not_be_run_is_told() {
    let missing = Target::Command(CommandLine::new("/does/not/exist"));
    assert!(reason(missing.ask(LONG)).starts_with("could not run /does/not/exist: No such file"));
}

#[test]
fn it_runs_as_it_was_told_to() {
    let line = CommandLine::new("sh").arg("-c").arg("test \"$GREETING $PWD\" = \"hello /\" && ! read line");
    let target = Target::Command(line.env("GREETING", "hello").folder("/"));
    assert_eq!(target.ask(LONG), Outcome::Good, "with its variable and folder, and nothing to read");
}

#[test]
fn a_program_that_hangs_is_killed_with_its_children() {
    let target = script("sleep 1000 & echo $!; wait");
    // A machine under load may not have come to the line before a short time is up.
    let mut timeout = SHORT;
    let pid = loop {
        let reason = reason(target.ask(timeout));
        assert!(reason.contains(", and was killed"), "{reason}");
        if let Some((_, pid)) = reason.split_once(": ") {
            break pid.to_owned();
        }
        timeout *= 2;
        assert!(timeout < LONG, "it never says a line");
    };
    eventually("its child is killed", || (!is_running(&pid)).then_some(()));
}

#[test]
fn what_a_program_leaves_behind_is_killed() {
    let reason = reason(script("sleep 1000 & echo $!; exit 1").ask(LONG));
    let pid = reason.strip_prefix("exited with code 1: ").unwrap();
    eventually("what was left is killed", || (!is_running(pid)).then_some(()));
}

#[test]
fn a_flood_of_output_is_read_and_forgotten() {
    let last = "head -c 10000000 /dev/zero; echo; echo the last line; exit 1";
    assert_eq!(reason(script(last).ask(LONG)), "exited with code 1: the last line");
    let endless = reason(script("exec yes yes").ask(SHORT));
    assert!(endless.starts_with("did not exit within 100 ms, and was killed"), "{endless}");
    let long = reason(script("head -c 100000 /dev/zero | tr '\\0' x; exit 1").ask(LONG));
    assert!(long.ends_with("xxx…") && long.chars().count() < 200, "{long}");
}

#[test]
fn a_program_that_closes_its_output_is_waited_for() {
    assert_eq!(
        reason(script("exec >&- 2>&-; read line < /dev/null; exit 4").ask(LONG)),
        "exited with code 4"
    );
    let hangs = reason(script("exec >&- 2>&-; exec sleep 1000").ask(Duration::from_millis(50)));
    assert_eq!(hangs, "did not exit within 50 ms, and was killed");
}
