//! How a service is asked to stop.

use std::time::Duration;

use cluster_supervisor::StopSequence;
use cluster_supervisor::os::{Ready, Runner, Signal};

use crate::stage::{Scratch, Stage, policy, shell};

/// Notes each signal that would stop it, and ends by SIGQUIT alone.
fn noting(scratch: &Scratch) -> String {
    format!(
        "cd {}; trap 'echo term >> noted' TERM; trap 'echo int >> noted' INT; \
         trap 'echo quit >> noted; exit 0' QUIT; echo >&5; while :; do sleep 0.01; done",
        scratch.as_ref().display()
    )
}

pub(crate) fn a_service_is_asked_by_the_signal_that_its_program_wants() {
    let scratch = Scratch::new();
    let mut runner = Runner::new(policy());
    runner.add(shell("nginx", &noting(&scratch)).ready(Ready::Line(5)).stop_signal(Signal::Quit)).unwrap();
    let untrapped = shell("untrapped", "echo >&5; exec sleep 1000").stop_signal(Signal::Usr1);
    runner.add(untrapped.ready(Ready::Line(5))).unwrap();
    let stage = Stage::run(runner);
    for name in ["nginx: worker 0.1 ready", "untrapped: worker 1.1 ready"] {
        stage.wait_for(name);
    }
    assert_eq!(
        stage.terminate_and_look(),
        [
            "nginx: worker 0.1 exited with code 0 as asked",
            "untrapped: worker 1.1 killed by signal 10 (SIGUSR1) as asked, sent by the supervisor",
        ]
    );
    assert_eq!(scratch.read("noted"), "quit\n", "asked once, and by nothing else");
}

pub(crate) fn one_that_does_not_heed_its_signal_gets_sigterm() {
    let hasty = policy().stop(StopSequence::new().drain(Duration::from_millis(50)));
    let mut runner = Runner::new(hasty);
    let script = "trap '' QUIT; echo >&5; exec sleep 1000";
    runner.add(shell("deaf", script).ready(Ready::Line(5)).stop_signal(Signal::Quit)).unwrap();
    let stage = Stage::run(runner);
    stage.wait_for("deaf: worker 0.1 ready");
    assert_eq!(
        stage.terminate_and_look(),
        ["deaf: worker 0.1 killed by signal 15 (SIGTERM) as asked, sent by the supervisor"]
    );
}
