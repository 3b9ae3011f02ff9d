//! Steering a runner that runs.

use std::time::Duration;

use cluster_supervisor::os::{Control, Error, Ready, Runner, Service, open_descriptors};
use cluster_supervisor::{Backoff, Budget, Event, Policy, Restart};

use crate::stage::{Scratch, Stage, policy, shell};

/// Ready when it says so, and then there until it is asked to stop.
fn server(name: &str) -> Service {
    shell(name, "echo >&5; exec sleep 1000").ready(Ready::Line(5))
}

fn runner(policy: Policy, services: impl IntoIterator<Item = Service>) -> (Runner, Control) {
    let mut runner = Runner::new(policy);
    // Some services are there before the control, some come after it.
    let mut services = services.into_iter();
    runner.add(services.next().unwrap()).unwrap();
    let control = runner.control().unwrap();
    for service in services {
        runner.add(service).unwrap();
    }
    (runner, control)
}

fn run(policy: Policy, services: impl IntoIterator<Item = Service>) -> (Stage, Control) {
    let (runner, control) = runner(policy, services);
    (Stage::run(runner), control)
}

pub(crate) fn by_default_the_new_child_is_ready_before_the_old_one_has_to_go() {
    let (stage, control) = run(policy(), [server("web"), server("other")]);
    stage.wait_for("web: worker 0.1 ready");
    stage.wait_for("other: worker 1.1 ready");
    control.restart("web").unwrap();
    let gone = stage.wait_for("web: worker 0.1 killed by signal 15 (SIGTERM) as asked");
    let ready = stage.wait_for("web: worker 0.2 ready");
    let stopping = stage.wait_for("web: worker 0.1 stopping");
    assert!(ready < stopping && stopping < gone, "{:?}", stage.news());
    assert_eq!(stage.place_of("other: worker 1.1 stopping"), None, "nobody else is touched");
    stage.terminate();
}

pub(crate) fn one_that_needs_its_place_alone_is_restarted_when_the_old_one_has_gone() {
    let scratch = Scratch::new();
    // The directory is what a port is to a real one.
    let script = format!(
        "mkdir {0} || exit 9; trap 'rmdir {0}; exit 0' TERM; echo >&5; while :; do sleep 0.01; done",
        scratch.path("port").display()
    );
    let policy = policy().max_surge(0).max_unavailable(1);
    let (stage, control) = run(policy, [shell("web", &script).ready(Ready::Line(5))]);
    for life in 1..=3 {
        stage.wait_for(&format!("web: worker 0.{life} ready"));
        control.restart("web").unwrap();
        let gone = stage.wait_for(&format!("web: worker 0.{life} exited with code 0 as asked"));
        let next = stage.wait_for(&format!("web: worker 0.{} starting", life + 1));
        assert!(gone < next, "{:?}", stage.news());
    }
    stage.wait_for("web: worker 0.4 ready");
    stage.terminate();
}

pub(crate) fn a_service_that_was_stopped_starts_again_even_if_it_was_the_only_one() {
    let (stage, control) = run(policy(), [server("web")]);
    for life in 1..=3 {
        stage.wait_for(&format!("web: worker 0.{life} ready"));
        control.stop("web").unwrap();
        stage.wait_for(&format!("web: worker 0.{life} killed by signal 15 (SIGTERM) as asked"));
        // To one that is down it makes no difference.
        control.stop("web").unwrap();
        if life % 2 == 0 { control.start("web") } else { control.restart("web") }.unwrap();
        // Nor does this to one that runs, or is about to.
        control.start("web").unwrap();
    }
    stage.wait_for("web: worker 0.4 ready");
    assert_eq!(stage.place_of("web: worker 0.5"), None);
    assert_eq!(stage.terminate(), []);
}

/// Stops when there is a file `go`.
fn lingering(scratch: &Scratch) -> Service {
    let script = format!(
        "cd {}; trap 'while [ ! -e go ]; do sleep 0.01; done; exit 0' TERM; echo >&5; while :; do sleep 0.01; done",
        scratch.as_ref().display()
    );
    shell("web", &script).ready(Ready::Line(5))
}

pub(crate) fn one_that_still_stops_is_started_when_it_has_gone() {
    let scratch = Scratch::new();
    // Its clean exit alone is no reason for another life.
    let policy = policy().restart(Restart::OnFailure);
    let (stage, control) = run(policy, [lingering(&scratch), server("other")]);
    stage.wait_for("web: worker 0.1 ready");
    stage.wait_for("other: worker 1.1 ready");
    control.stop("web").unwrap();
    control.start("web").unwrap();
    // These are carried out after those.
    control.stop("other").unwrap();
    stage.wait_for("other: worker 1.1 killed by signal 15");
    assert_eq!(stage.place_of("web: worker 0.2"), None, "never two of them");
    scratch.touch("go");
    let gone = stage.wait_for("web: worker 0.1 exited with code 0 as asked");
    assert!(gone < stage.wait_for("web: worker 0.2 ready"));
    stage.terminate();
}

pub(crate) fn one_that_is_stopped_before_it_could_be_started_again_stays_down() {
    let scratch = Scratch::new();
    let (stage, control) = run(policy(), [lingering(&scratch), server("other")]);
    stage.wait_for("web: worker 0.1 ready");
    stage.wait_for("other: worker 1.1 ready");
    control.stop("web").unwrap();
    control.start("web").unwrap();
    control.stop("web").unwrap();
    scratch.touch("go");
    stage.wait_for("web: worker 0.1 exited with code 0 as asked");
    control.stop("other").unwrap();
    stage.wait_for("other: worker 1.1 killed by signal 15");
    assert_eq!(stage.place_of("web: worker 0.2"), None, "{:?}", stage.news());
    stage.terminate();
}

/// Fails until there is a file `ok`.
fn failing(scratch: &Scratch) -> Service {
    let script = format!("[ -e {} ] || exit 3; echo >&5; exec sleep 1000", scratch.path("ok").display());
    shell("bad", &script).ready(Ready::Line(5))
}

pub(crate) fn one_that_was_given_up_starts_again_with_a_clean_record() {
    let scratch = Scratch::new();
    let once = policy().budget(Budget::new(1, Duration::from_secs(60)));
    let (stage, control) = run(once, [failing(&scratch), server("other")]);
    stage.wait_for("bad: gave up on slot 0 after 2 failures in 60s: worker 0.2");
    control.start("bad").unwrap();
    stage.wait_for("bad: gave up on slot 0 after 2 failures in 60s: worker 0.4");
    scratch.touch("ok");
    control.restart("bad").unwrap();
    stage.wait_for("bad: worker 0.5 ready");
    assert_eq!(stage.terminate(), [], "it is given up no more");
}

pub(crate) fn one_that_waits_out_its_back_off_is_started_at_once_or_stopped() {
    let scratch = Scratch::new();
    let for_ever = Backoff::new().base(Duration::from_secs(1000)).cap(Duration::from_secs(1000));
    let (stage, control) = run(policy().backoff(for_ever), [failing(&scratch)]);
    stage.wait_for("bad: slot 0 restarts in");
    control.stop("bad").unwrap();
    stage.wait_for("bad: slot 0 is not wanted any more");
    control.start("bad").unwrap();
    stage.wait_for("bad: worker 0.4 exited with code 3");
    scratch.touch("ok");
    control.start("bad").unwrap();
    stage.wait_for("bad: worker 0.5 ready");
    stage.terminate();
}

pub(crate) fn nobody_is_waited_for_who_could_start_nothing_more() {
    let (stage, control) = run(policy(), [server("web")]);
    let other = control.clone();
    stage.wait_for("web: worker 0.1 ready");
    control.stop("web").unwrap();
    stage.wait_for("web: worker 0.1 killed by signal 15");
    drop(control);
    other.start("web").unwrap();
    stage.wait_for("web: worker 0.2 ready");
    other.stop("web").unwrap();
    stage.wait_for("web: worker 0.2 killed by signal 15");
    // Nothing else will wake it.
    drop(other);
    assert_eq!(stage.end(), []);
    // And a control that stops nothing keeps nothing running.
    let (stage, control) = run(policy().restart(Restart::Never), [shell("job", "exit 0")]);
    assert_eq!(stage.end(), []);
    assert!(matches!(control.start("job"), Err(Error::Ended { .. })));
}

pub(crate) fn the_callback_may_steer_and_no_descriptor_is_left() {
    let before = open_descriptors().unwrap();
    let (mut runner, control) = runner(policy(), [server("web")]);
    let mut exits = 0;
    let given_up = runner.run(|news| {
        println!("{news}");
        match (news.event, news.service) {
            (Event::Ready { .. }, Some(name)) => control.stop(name).unwrap(),
            (Event::Exited { .. }, Some(name)) => {
                exits += 1;
                if exits < 3 { control.start(name) } else { control.shutdown() }.unwrap();
            }
            _ => {}
        }
    });
    assert_eq!((given_up.unwrap(), exits), (vec![], 3));
    drop((runner, control));
    assert_eq!(open_descriptors().unwrap(), before);
}

/// It has to be killed.
fn deaf() -> Service {
    shell("deaf", "trap '' TERM; echo >&5; while :; do sleep 0.01; done").ready(Ready::Line(5))
}

pub(crate) fn after_a_signal_to_stop_nothing_begins_any_more() {
    let (stage, control) = run(policy(), [deaf(), server("web")]);
    stage.wait_for("deaf: worker 0.1 ready");
    stage.wait_for("web: worker 1.1 ready");
    stage.signal();
    stage.wait_for("web: worker 1.1 killed by signal 15 (SIGTERM) as asked");
    assert!(matches!(control.start("web"), Err(Error::Ended { .. })));
    assert_eq!(stage.terminate(), []);
}

pub(crate) fn a_shutdown_ends_all_and_refuses_what_comes_after_it() {
    let (stage, control) = run(policy(), [deaf(), server("web")]);
    stage.wait_for("deaf: worker 0.1 ready");
    stage.wait_for("web: worker 1.1 ready");
    let error = control.restart("wbe").unwrap_err();
    assert_eq!(error.to_string(), "no service is named `wbe`");
    control.shutdown().unwrap();
    stage.wait_for("web: worker 1.1 killed by signal 15 (SIGTERM) as asked");
    for refused in [control.start("web"), control.restart("web")] {
        let error = refused.unwrap_err().to_string();
        assert!(error.ends_with("the runner is shutting down or has ended"), "{error}");
    }
    control.stop("deaf").unwrap();
    control.shutdown_now().unwrap();
    stage.wait_for("deaf: worker 0.1 killed by signal 9 (SIGKILL)");
    assert_eq!(stage.end(), []);
    for refused in [control.stop("web"), control.shutdown(), control.shutdown_now(), control.stop("wbe")] {
        assert!(matches!(refused, Err(Error::Ended { .. })), "{refused:?}");
    }
}

pub(crate) fn orders_wait_for_the_runner_to_run() {
    let (mut runner, control) = runner(policy(), [server("web"), server("other")]);
    control.stop("web").unwrap();
    while control.restart("other").is_ok() {}
    assert!(matches!(control.restart("other"), Err(Error::Busy { .. })), "it keeps so many and no more");
    control.shutdown().unwrap();
    assert_eq!(runner.run(|news| println!("{news}")).unwrap(), []);
    // Another time is as the first.
    runner.add(server("web")).unwrap();
    control.stop("web").unwrap_err();
    let stage = Stage::run(runner);
    stage.wait_for("web: worker 0.2 ready");
    control.stop("web").unwrap();
    stage.wait_for("web: worker 0.2 killed by signal 15");
    drop(control);
    assert_eq!(stage.end(), []);
    // One that is dropped has ended, too.
    let (runner, control) = self::runner(policy(), [server("web")]);
    drop(runner);
    assert!(matches!(control.stop("web"), Err(Error::Ended { .. })));
}

pub(crate) fn orders_of_many_threads_leave_nobody_behind() {
    let names = ["a", "b", "c"];
    let policy = policy().budget(Budget::unlimited());
    let (stage, control) = run(policy, names.map(server));
    let threads = (0..3_usize).map(|thread| {
        let control = control.clone();
        std::thread::spawn(move || {
            for turn in 0..150 {
                // At a pace at which children come and go in between; whatever comes of that is fine.
                std::thread::park_timeout(Duration::from_millis(2));
                let name = names[(turn + thread) % names.len()];
                let given = match (turn / 2 + thread) % 4 {
                    0 => control.stop(name),
                    1 => control.restart(name),
                    _ => control.start(name),
                };
                assert!(matches!(given, Ok(()) | Err(Error::Busy { .. })), "{given:?}");
            }
        })
    });
    threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
    // The last word counts.
    names.into_iter().for_each(|name| control.stop(name).unwrap());
    drop(control);
    assert_eq!(stage.end(), []);
}
