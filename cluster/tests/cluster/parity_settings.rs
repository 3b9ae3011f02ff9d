//! What workers are started with: changed at run time, for later forks only.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cluster::supervisor::Roll;
use cluster::{Cluster, Event, Fork, Line, Output, Settings, WorkerId};
use rustix::process::Signal;

use crate::parity_app::{Facts, MARK};
use crate::support::process;
use crate::{Running, apps};

/// The settings that the next event of a set-up tells.
fn set_up(running: &mut Running) -> Arc<Settings> {
    running.wait_for("a set-up", |event| match event {
        Event::Setup(settings) => Some(Arc::clone(settings)),
        _ => None,
    })
}

/// `isPrimary`, `isWorker`: asked as often as one likes.
pub(crate) fn roles_are_known_before_and_after_the_builder_is_asked() {
    assert!(Cluster::is_primary() && !Cluster::is_worker());
    let facts = Facts::new("roles");
    let mut running = Running::start(facts.builder().workers(1).env(apps::VARIABLE, "asks-first"));
    running.wait_serving();
    assert_eq!(facts.of(WorkerId::new(0, 1), "worker"), "true", "afterwards");
    assert!(Cluster::is_primary(), "the primary still is one");
    running.stop();
}

/// `setupPrimary` with `cwd`, `args`, `env`; `setup` is emitted each time; each call adds to the ones before. test-cluster-cwd.js,
/// test-cluster-setup-primary-cumulative.js, test-cluster-setup-primary-emit.js.
pub(crate) fn settings_are_cumulative_and_for_later_forks_only() {
    let facts = Facts::new("settings");
    let builder = facts.builder().workers(1).args(["first"]).rolling(Roll::same());
    let mut running = Running::start(builder);
    let at_start = set_up(&mut running);
    assert_eq!(at_start.args.as_deref(), Some(["first".into()].as_slice()));
    assert_eq!(at_start.exec.as_deref(), Some(std::env::current_exe().unwrap().as_path()), "a default shows");
    let here = std::env::current_dir().unwrap().display().to_string();
    let first = WorkerId::new(0, 1);
    let pid = running.wait_ready(first);
    assert_eq!((facts.of(first, "cwd"), facts.of(first, "args")), (here.clone(), "first".to_owned()));

    let changes = Settings::new().cwd("/").args(["a", "b"]).env(MARK, "one");
    let answered = running.block_on(running.handle.setup(changes)).unwrap();
    assert_eq!(set_up(&mut running), answered);
    assert_eq!(running.handle.settings(), answered);
    let forked = running.block_on(running.handle.fork()).unwrap().id();
    running.wait_ready(forked);
    let of = |id, fact| facts.of(id, fact);
    assert_eq!(
        (of(forked, "cwd"), of(forked, "args"), of(forked, "mark")),
        ("/".into(), "a b".into(), "one".into())
    );

    running.block_on(running.handle.setup(Settings::new().env(MARK, "two"))).unwrap();
    let cumulative = set_up(&mut running);
    assert_eq!(
        (cumulative.cwd.clone(), cumulative.args.clone()),
        (answered.cwd.clone(), answered.args.clone())
    );
    let second = running.block_on(running.handle.fork()).unwrap().id();
    running.wait_ready(second);
    assert_eq!(
        (of(second, "cwd"), of(second, "args"), of(second, "mark")),
        ("/".into(), "a b".into(), "two".into())
    );

    assert!(process::is_alive(pid), "who lives is not touched");
    process::signal(pid, Signal::KILL);
    let again = WorkerId::new(0, 2);
    running.wait_ready(again);
    assert_eq!(
        (of(again, "cwd"), of(again, "args")),
        (here, "first".to_owned()),
        "a crash changes no settings"
    );

    assert!(running.block_on(running.handle.reload()).unwrap().is_complete());
    let last = running.handle.worker_of_slot(0).unwrap().id();
    assert_eq!(
        (of(last, "cwd"), of(last, "args"), of(last, "mark")),
        ("/".into(), "a b".into(), "two".into())
    );
    running.stop();
}

/// A roll that completes makes its settings those of all; what was changed meanwhile is for those that are forked afterwards.
pub(crate) fn a_change_during_a_roll_outlasts_it() {
    let facts = Facts::new("setup-roll");
    let roll = Roll::same().canaries(1, Duration::from_secs(1));
    let mut running = Running::start(facts.builder().workers(1).rolling(roll));
    running.wait_ready(WorkerId::new(0, 1));
    let handle = running.handle.clone();
    running.block_on(handle.setup(Settings::new().cwd("/"))).unwrap();
    let rolling = handle.clone();
    let rolled = running.runtime.spawn(async move { rolling.reload().await });
    running.wait_ready(WorkerId::new(0, 2));
    let answered = running.block_on(handle.setup(Settings::new().env(MARK, "later"))).unwrap();
    assert!(running.block_on(rolled).unwrap().unwrap().is_complete());
    assert_eq!(running.handle.settings(), answered);
    let forked = running.block_on(handle.fork()).unwrap().id();
    running.wait_ready(forked);
    assert_eq!((facts.of(forked, "cwd"), facts.of(forked, "mark")), ("/".into(), "later".into()));
    let replaced = WorkerId::new(0, 2);
    assert_eq!((facts.of(replaced, "cwd"), facts.of(replaced, "mark")), ("/".into(), String::new()));
    running.stop();
}

/// `exec`: what is named is opened at once, and kept. test-cluster-setup-primary-multiple.js: each set-up tells its own.
pub(crate) fn another_program_is_for_later_forks_too() {
    let facts = Facts::new("exec");
    let mut running = Running::start(facts.builder().workers(1));
    running.wait_serving();
    let me = std::env::current_exe().unwrap();
    let error = running.block_on(running.handle.setup(Settings::new().exec("/nonexistent"))).unwrap_err();
    assert_eq!(error.to_string(), "could not open the executable /nonexistent");
    assert_eq!(running.handle.settings().exec.as_ref(), Some(&me), "nothing has changed");

    let copy = facts.path().join("copy");
    std::fs::copy(&me, &copy).unwrap();
    running.block_on(running.handle.setup(Settings::new().exec(&copy))).unwrap();
    assert_eq!(running.handle.settings().exec.as_ref(), Some(&copy));
    assert_eq!(set_up(&mut running).exec.as_ref(), Some(&copy), "the one that failed was none");
    let forked = running.block_on(running.handle.fork()).unwrap();
    let pid = running.wait_ready(forked.id());
    assert_eq!(facts.of(forked.id(), "exe"), copy.display().to_string());
    assert_eq!(facts.of(WorkerId::new(0, 1), "exe"), me.display().to_string());
    // Its slot keeps it, whatever becomes of the path and of the settings.
    running.block_on(running.handle.setup(Settings::new().exec(&me))).unwrap();
    assert_eq!(set_up(&mut running).exec.as_ref(), Some(&me));
    std::fs::remove_file(&copy).unwrap();
    process::signal(pid, Signal::KILL);
    let again = WorkerId::new(forked.slot(), 2);
    running.wait_ready(again);
    assert!(facts.of(again, "exe").starts_with(&copy.display().to_string()));
    running.stop();
}

/// `silent`, and test-cluster-setup-primary.js: an argument reaches the workers, and the settings say all of it.
pub(crate) fn what_silent_workers_print_goes_nowhere() {
    let facts = Facts::new("silent");
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    let output = Output::lines(move |line: Line<'_>| sink.lock().unwrap().push(line.to_text().to_string()));
    let mut running = Running::start(facts.builder().workers(1).output(output));
    running.wait_serving();
    for silent in [true, false] {
        let changes = Settings::new().silent(silent).args(["custom argument"]);
        running.block_on(running.handle.setup(changes)).unwrap();
        let told = set_up(&mut running);
        assert_eq!(
            (told.silent, told.args.as_deref()),
            (Some(silent), Some(["custom argument".into()].as_slice()))
        );
        assert_eq!(told.exec.as_deref(), Some(std::env::current_exe().unwrap().as_path()));
        let forked = running.block_on(running.handle.fork()).unwrap().id();
        running.wait_ready(forked);
        assert_eq!(facts.of(forked, "args"), "custom argument");
    }
    running.stop();
    let mut said = lines.lock().unwrap().clone();
    said.sort();
    assert_eq!(said, ["worker 0.1 is up", "worker 2.1 is up"]);
}

/// `uid`, `gid`
pub(crate) fn workers_may_run_as_somebody_else() {
    if !rustix::process::geteuid().is_root() {
        // Nobody else may: the tests of the supervisor tell how that fails.
        return;
    }
    let facts = Facts::new("user");
    let mut running = Running::start(facts.builder().workers(1));
    running.wait_serving();
    running.block_on(running.handle.setup(Settings::new().uid(65534).gid(65533))).unwrap();
    let forked = running.block_on(running.handle.fork()).unwrap();
    running.wait_ready(forked.id());
    assert_eq!(facts.of(forked.id(), "user"), "65534 65533");
    assert_eq!(facts.of(WorkerId::new(0, 1), "user"), "0 0");
    let departure = running.block_on(forked.disconnect()).unwrap();
    assert!(departure.is_after_disconnect(), "it can be led as any other: {departure}");
    running.stop();
}

/// `fork(env)`
pub(crate) fn an_environment_of_its_own_stays_with_a_slot_until_that_is_free() {
    let facts = Facts::new("fork-env");
    let mut running = Running::start(facts.builder().workers(1).env(MARK, "all"));
    running.wait_serving();
    let fork = Fork::new().env(MARK, "own");
    let forked = running.block_on(running.handle.fork_with(fork)).unwrap();
    let pid = running.wait_ready(forked.id());
    assert_eq!(facts.of(WorkerId::new(0, 1), "mark"), "all");
    assert_eq!(facts.of(forked.id(), "mark"), "own", "it overrides what the settings say");
    process::signal(pid, Signal::KILL);
    let again = WorkerId::new(1, 2);
    running.wait_ready(again);
    assert_eq!(facts.of(again, "mark"), "own", "over a crash");
    let second = running.handle.worker(again).unwrap();
    let third = running.block_on(running.handle.restart(1)).unwrap();
    assert_eq!(facts.of(third, "mark"), "own", "over a replacement");
    let third = running.handle.worker(third).unwrap();
    running.block_on(third.disconnect()).unwrap();
    // Its predecessor may still have been about to leave.
    running.block_on(second.departed()).unwrap();
    let plain = running.block_on(running.handle.fork()).unwrap().id();
    running.wait_ready(plain);
    assert_eq!(
        (plain.slot(), facts.of(plain, "mark")),
        (1, "all".to_owned()),
        "another worker there has none"
    );
    running.stop();
}

/// An extra pipe in `stdio`, both ways: test-cluster-fork-stdio.js.
pub(crate) fn a_descriptor_by_name_works_both_ways_and_in_each_life() {
    let facts = Facts::new("descriptors");
    let mut running = Running::start(facts.builder().workers(1));
    running.wait_serving();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let fork = Fork::new().descriptor("extra", OwnedFd::from(theirs));
    let forked = running.block_on(running.handle.fork_with(fork)).unwrap();
    let mut answers = BufReader::new(ours.try_clone().unwrap()).lines();
    for generation in 1..=2 {
        ours.write_all(b"ping").unwrap();
        let id = WorkerId::new(forked.slot(), generation);
        assert_eq!(answers.next().unwrap().unwrap(), format!("ping {id}"));
        let pid = running.wait_ready(id);
        process::signal(pid, Signal::KILL);
    }
    running.stop();
}
