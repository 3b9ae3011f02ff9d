//! How a service starts: how it says that it is ready, and what becomes of one that can't be started.

use std::time::Duration;

use cluster_supervisor::os::{Error, Ready, Runner, Service};
use cluster_supervisor::{Budget, ExitCause, StopSignal};

use crate::processes::until;
use crate::stage::{Scratch, Stage, policy, shell};

pub(crate) fn a_line_on_a_descriptor_is_ready_and_what_comes_before_it_is_not() {
    let scratch = Scratch::new();
    let script = format!(
        "cd {}; printf starting >&5; : > begun; while [ ! -e go ]; do sleep 0.01; done; echo >&5; exec sleep 1000",
        scratch.as_ref().display()
    );
    let mut runner = Runner::new(policy());
    runner.add(shell("line", &script).ready(Ready::Line(5))).unwrap();
    let stage = Stage::run(runner);
    scratch.wait_for("begun");
    assert_eq!(stage.place_of("line: worker 0.1 ready"), None, "{:?}", stage.news());
    scratch.touch("go");
    stage.wait_for("line: worker 0.1 ready");
    assert_eq!(stage.terminate(), []);
}

pub(crate) fn one_that_closes_the_descriptor_without_a_line_ends_by_its_start_timeout() {
    let policy =
        policy().start_timeout(Duration::from_millis(300)).budget(Budget::new(0, Duration::from_secs(60)));
    let mut runner = Runner::new(policy);
    let script = "printf almost >&5; exec 5>&-; exec sleep 1000";
    runner.add(shell("mute", script).ready(Ready::Line(5))).unwrap();
    let given_up = Stage::run(runner).end();
    let causes: Vec<ExitCause> = given_up.iter().map(|given_up| given_up.cause()).collect();
    assert_eq!(causes, [ExitCause::StartTimeout]);
}

pub(crate) fn one_that_can_not_start_says_why_and_starts_when_it_can() {
    let scratch = Scratch::new();
    let home = scratch.path("home");
    let mut runner = Runner::new(policy());
    // On both ways to start a child.
    let script = "pwd >&2; exec sleep 1000";
    let spec = crate::stage::spec(script).directory(&home);
    runner.add(Service::new("fast", spec.clone())).unwrap();
    runner.add(Service::new("trampoline", spec.death_signal(StopSignal::Kill))).unwrap();
    let stage = Stage::run(runner);
    for (slot, name) in ["fast", "trampoline"].into_iter().enumerate() {
        // It costs nothing of the budget, so it may go on for long.
        let third = stage.wait_for(&format!("{name}: worker {slot}.3 could not be spawned, next try in "));
        let line = stage.news()[third].clone();
        assert!(line.contains(": could not enter the directory"), "{line}");
        assert!(line.ends_with(": No such file or directory (os error 2)"), "{line}");
    }
    std::fs::create_dir(&home).unwrap();
    for (slot, name) in ["fast", "trampoline"].into_iter().enumerate() {
        let is_ready =
            |line: &String| line.starts_with(&format!("{name}: worker {slot}.")) && line.ends_with(" ready");
        until("it to be started", || stage.news().iter().any(is_ready));
    }
    assert_eq!(stage.terminate(), []);
}

pub(crate) fn what_could_never_start_is_refused_at_once() {
    let mut runner = Runner::new(policy());
    let refused = |runner: &mut Runner, service| runner.add(service).unwrap_err().to_string();
    let standard = refused(&mut runner, shell("a", "true").ready(Ready::Line(2)));
    assert!(standard.contains("numbers below 3 are for standard streams"), "{standard}");
    let null = std::fs::File::open("/dev/null").unwrap();
    let spec = crate::stage::spec("true").descriptor(5, std::os::fd::OwnedFd::from(null));
    let twice = Service::new("a", spec).ready(Ready::Line(5));
    let twice = refused(&mut runner, twice);
    assert!(twice.contains("two descriptors have the same number"), "{twice}");
    // Nothing of it was added: the name is free, until it is not.
    runner.add(shell("a", "true")).unwrap();
    let error = runner.add(shell("a", "true")).unwrap_err();
    assert!(matches!(&error, Error::NameTaken { name } if name == "a"), "{error}");
}

/// Played before this process has a trampoline.
pub(crate) fn without_a_trampoline_a_line_is_refused() {
    let service = Service::new("line", crate::stage::spec("echo >&5"));
    let error = Runner::new(policy()).add(service.ready(Ready::Line(5))).unwrap_err();
    assert!(matches!(error, Error::NoTrampoline { .. }), "{error}");
    assert!(error.to_string().contains("first thing in `main`"), "{error}");
}
