//! What is known of a death, and who is left after it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use cluster::supervisor::os::{Sender, Stream};
use cluster::supervisor::{Event as Life, Exit, ExitCause, Policy};
use cluster::{Event, Output, PostMortem, WorkerId};
use rustix::process::Signal;

use crate::support::{eventually, process};
use crate::{Running, apps, builder};

const FIRST: WorkerId = WorkerId::new(0, 1);

/// The lines that workers print.
fn lines() -> (Output, Receiver<(WorkerId, Stream, String)>) {
    let (sender, lines) = channel();
    let output = Output::lines(move |line: cluster::Line<'_>| {
        // The test may be over.
        let _ = sender.send((line.source(), line.stream(), line.to_text().into_owned()));
    });
    (output, lines)
}

fn wait_for_death(running: &mut Running, worker: WorkerId) -> (String, PostMortem) {
    running.wait_for("a worker to die", |event| match event {
        Event::Lifecycle { event: Life::Exited { id, .. }, post_mortem, .. } if *id == worker => {
            Some((event.to_string(), post_mortem.as_deref().unwrap().clone()))
        }
        _ => None,
    })
}

pub(crate) fn the_last_words_come_with_a_death() {
    let (output, lines) = lines();
    let mut running = Running::start(builder("unlucky").workers(1).max_restarts(0).output(output));
    let (event, post_mortem) = wait_for_death(&mut running, FIRST);
    assert!(event.contains("killed by signal 6 (SIGABRT) after it was ready"), "{event}");
    assert!(event.contains("its last words:\n"), "{event}");
    assert!(post_mortem.last_words.contains("out: up\n"), "{post_mortem}");
    assert!(post_mortem.last_words.contains("err: no luck\n"), "{post_mortem}");
    assert_eq!(post_mortem.death.exit(), Exit::Signal(6));
    assert_eq!(post_mortem.death.sender(), None, "nobody here sent it");
    assert_eq!((post_mortem.figures.slot, post_mortem.figures.generation), (0, 1));
    assert!(post_mortem.figures.pid.is_some());
    running.outcome().unwrap_err();
    let lines: Vec<_> = lines.into_iter().collect();
    assert!(lines.contains(&(FIRST, Stream::Stdout, "up".to_owned())), "{lines:?}");
    assert!(lines.contains(&(FIRST, Stream::Stderr, "no luck".to_owned())), "{lines:?}");
}

pub(crate) fn a_death_by_our_hand_says_so() {
    let policy = Policy::new().start_timeout(crate::QUICK);
    let mut running = Running::start(
        builder("never-ready").workers(1).policy(policy).max_restarts(0).output(Output::discard()),
    );
    let (event, post_mortem) = wait_for_death(&mut running, FIRST);
    assert_eq!(post_mortem.death.sender(), Some(Sender::Supervisor));
    let expected =
        "worker 0.1 killed by signal 9 (SIGKILL) because it was not ready in time, sent by the supervisor";
    assert_eq!(event, expected);
    running.outcome().unwrap_err();
}

/// The pid of what an app started, which it prints.
fn started(lines: &Receiver<(WorkerId, Stream, String)>) -> u32 {
    let line = lines.recv_timeout(crate::support::DEADLINE).expect("it prints a pid");
    line.2.parse().expect("a pid")
}

/// Waits until one whom the worker left behind was killed.
fn wait_for_sweep(running: &mut Running, worker: WorkerId, left_behind: u32) {
    let (killed, left) = running.wait_for("whom it left behind to be killed", |event| match event {
        Event::LeftBehind { id, killed, left } if *id == worker => Some((*killed, *left)),
        _ => None,
    });
    // Whoever takes two seconds to die, on a busy machine, counts as left: it dies all the same.
    assert_eq!(killed + left, 1);
    eventually("it to be gone", || (!process::is_alive(left_behind)).then_some(()));
}

pub(crate) fn whom_a_worker_leaves_behind_is_killed() {
    let (output, lines) = lines();
    let mut running = Running::start(builder("parent").workers(1).output(output));
    let pid = running.wait_ready(FIRST);
    let left_behind = started(&lines);
    process::signal(pid, Signal::KILL);
    wait_for_sweep(&mut running, FIRST, left_behind);
    // So it is when all ends.
    let left_behind = started(&lines);
    running.block_on(running.handle.shutdown()).unwrap();
    wait_for_sweep(&mut running, WorkerId::new(0, 2), left_behind);
    running.outcome().unwrap();
}

pub(crate) fn whom_a_worker_leaves_behind_may_live_on() {
    let (output, lines) = lines();
    let mut running = Running::start(builder("parent").workers(1).output(output).kill_descendants(false));
    running.wait_ready(FIRST);
    let left_behind = started(&lines);
    running.stop();
    assert!(process::is_alive(left_behind));
    process::signal(left_behind, Signal::KILL);
    eventually("it is gone", || (!process::is_alive(left_behind)).then_some(()));
}

/// A worker that ignores SIGTERM and has started others that do, in a session of their own: nobody is left at the deadline.
pub(crate) fn a_stubborn_family_is_killed_at_its_deadline() {
    let (output, lines) = lines();
    let stop = cluster::supervisor::StopSequence::new().drain(crate::QUICK).terminate(crate::QUICK);
    let policy = Policy::new().stop(stop);
    let mut running = Running::start(builder("stubborn-parent").workers(1).policy(policy).output(output));
    let pid = running.wait_ready(FIRST);
    let below = started(&lines);
    running.block_on(running.handle.shutdown()).unwrap();
    let cause = running.wait_for("the worker to be killed", |event| match event {
        Event::Lifecycle { event: Life::Exited { cause, .. }, .. } => Some(*cause),
        _ => None,
    });
    assert_eq!(cause, ExitCause::StopTimeout);
    running.outcome().unwrap();
    assert!(!process::is_alive(pid));
    eventually("the other one to be gone", || (!process::is_alive(below)).then_some(()));
}

pub(crate) fn orphans_that_come_to_the_primary_are_reaped() {
    let mut primary = Command::new(std::env::current_exe().unwrap())
        .env(apps::VARIABLE, "reaping-primary")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(primary.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let daemon: u32 = line.trim().parse().unwrap();
    eventually("the daemon to come to the primary", || {
        (process::parent(daemon) == Some(primary.id())).then_some(())
    });
    process::signal(daemon, Signal::KILL);
    eventually("it to be reaped", || process::parent(daemon).is_none().then_some(()));
    process::signal(primary.id(), Signal::TERM);
    assert!(eventually("the primary to end", || primary.try_wait().unwrap()).success());
}

/// Whoever started the primary ignores SIGCHLD, which is inherited, and makes the kernel forget how children ended.
pub(crate) fn deaths_are_known_where_their_signal_was_ignored() {
    let output = Command::new("env")
        .arg("--ignore-signal=CHLD")
        .arg(std::env::current_exe().unwrap())
        .env(apps::VARIABLE, "failing-primary")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("worker 0.2 killed by signal 6 (SIGABRT) before it was ready"), "{said}");
}
