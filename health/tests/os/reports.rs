//! What sick children look like.

use std::os::unix::process::CommandExt;
use std::process::Command;

use cluster_health::os::{Condition, Report, Sampler, State};
use rustix::process::Signal;

use crate::children::{Child, eventually};
use crate::roles::THREADS;

/// Waits until it looks so. A child is still on its way when it has said its word.
fn looking(child: &Child, wanted: Condition) -> Report {
    let mut last = String::new();
    let found = eventually(&format!("it to look {wanted:?}"), || {
        let report = Report::of(child.pid()).unwrap();
        last = report.to_string();
        (report.condition() == wanted).then_some(report)
    });
    assert_eq!(found.to_string(), last);
    found
}

fn first_line(report: &Report) -> String {
    report.to_string().lines().next().unwrap().to_owned()
}

/// Whether system calls may be read: where yama or a container forbids tracing, they are left out.
fn may_trace(report: &Report) -> bool {
    let may = report.threads().iter().any(|thread| thread.system_call().is_some());
    if !may {
        println!("skipped in part: system calls of a child may not be read here");
    }
    may
}

pub(crate) fn a_stopped_child_is_told() {
    let child = Child::playing("wait");
    let mut sampler = Sampler::open(child.pid()).unwrap();
    let sample = sampler.sample().unwrap();
    child.signal(Signal::STOP);
    looking(&child, Condition::Stopped);
    let report = sampler.report().unwrap();
    assert_eq!((report.pid(), report.last_sample()), (child.pid(), Some(sample)));
    assert_eq!((report.state(), report.state().letter()), (State::Stopped, 'T'));
    assert_eq!(first_line(&report), "stopped by a signal");
    assert!(report.to_string().contains(" descriptors"), "{report}");
    assert!(report.switches().is_some_and(|switches| switches.voluntary() > 0), "{report}");
    assert!(sampler.sample().is_ok(), "a stopped process has figures");
}

pub(crate) fn a_spinning_child_is_told() {
    let child = Child::playing("spin");
    let report = looking(&child, Condition::Spinning { threads: 1 });
    assert_eq!(first_line(&report), "spinning: 1 of 1 threads runs");
    assert_eq!(report.threads()[0].system_call(), None);
}

pub(crate) fn a_child_that_reads_is_told() {
    let child = Child::playing("wait");
    let report = eventually("it to read", || {
        let report = Report::of(child.pid()).unwrap();
        (report.state() == State::Sleeping).then_some(report)
    });
    assert_eq!(report.tracer(), None);
    if may_trace(&report) {
        assert_eq!(report.condition(), Condition::Blocked { threads: 1 });
        assert!(first_line(&report).starts_with("blocked in read"), "{report}");
        assert_eq!(report.threads()[0].system_call().unwrap().name(), Some("read"));
    }
}

pub(crate) fn a_deadlock_is_told() {
    let child = Child::playing("deadlock");
    let report = eventually("all to sleep", || {
        let report = Report::of(child.pid()).unwrap();
        let asleep = report.threads().iter().all(|thread| thread.state() == State::Sleeping);
        (asleep && report.threads().len() == 3).then_some(report)
    });
    if may_trace(&report) {
        let report = looking(&child, Condition::Locked);
        assert_eq!(first_line(&report), "waiting for a lock (futex) in all threads");
        // The two are alike, and the first thread waits for them by a futex too.
        assert!(report.to_string().contains("3 threads like"), "{report}");
    }
}

pub(crate) fn a_zombie_is_told() {
    let child = Child::start("exit");
    let report = looking(&child, Condition::Ended);
    assert_eq!(report.state(), State::Zombie);
    assert_eq!(first_line(&report), "has ended, and waits to be reaped");
}

pub(crate) fn more_than_64_threads_are_counted() {
    let child = Child::playing("threads");
    let report = Report::of(child.pid()).unwrap();
    assert_eq!((report.threads().len(), report.thread_count()), (64, THREADS as u64 + 1));
    assert_eq!(report.threads()[0].tid(), child.pid(), "the first one first");
    let text = report.to_string();
    assert!(text.ends_with("\n17 more threads"), "{text}");
    assert!(text.lines().count() <= 15, "it is short: {text}");
    assert_eq!(Sampler::open(child.pid()).unwrap().sample().unwrap().thread_count(), Some(81));
}

pub(crate) fn names_are_escaped() {
    let child = Child::playing("name");
    let named = |report: &Report| report.threads().iter().any(|thread| thread.name() == "\x1b[31m\"\n)");
    let report = eventually("the thread to have its name", || {
        let report = Report::of(child.pid()).unwrap();
        named(&report).then_some(report)
    });
    let text = report.to_string();
    assert!(text.contains(r#""\u{1b}[31m\"\n)""#), "{text}");

    // The name of a process is what it was started by, or what it likes.
    let evil = Child::run(Command::new("/bin/cat").arg0("evil"));
    assert!(Report::of(evil.pid()).is_ok());
}
