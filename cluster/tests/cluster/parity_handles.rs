//! One worker's handle: what it shows, how the worker is asked to leave, killed, and gone.

use cluster::supervisor::{Event as Life, Exit, WorkerState};
use cluster::{Departure, Error, Event, Settings, WorkerId};
use rustix::process::Signal;

use crate::Running;
use crate::parity_app::Facts;
use crate::support::{client, eventually, process};

/// test-cluster-worker-disconnect.js, test-cluster-worker-isconnected.js, test-cluster-worker-isdead.js.
pub(crate) fn a_handle_shows_its_worker_and_waits_for_its_real_end() {
    let facts = Facts::new("handle");
    let mut running = Running::start(facts.builder().workers(1));
    running.wait_serving();
    let worker = running.block_on(running.handle.fork()).unwrap();
    assert_eq!((worker.id(), worker.slot()), (WorkerId::new(1, 1), 1));
    assert!(!worker.is_dead() && worker.departure().is_none());
    let pid = running.wait_ready(worker.id());
    assert_eq!((worker.pid(), worker.state()), (Some(pid), WorkerState::Ready));
    assert!(worker.is_connected());
    let ids =
        |running: &Running| running.handle.workers().iter().map(|worker| worker.id()).collect::<Vec<_>>();
    assert_eq!(ids(&running), [WorkerId::new(0, 1), worker.id()]);
    assert_eq!(running.handle.worker_of_slot(1).unwrap().id(), worker.id());

    // Node crashes a worker that is disconnected twice quickly.
    let (first, second) = running.block_on(async { tokio::join!(worker.disconnect(), worker.disconnect()) });
    let asked = Departure::Asked { exit: Exit::Code(0) };
    assert_eq!((first.unwrap(), second.unwrap()), (asked, asked));
    assert!(!process::is_alive(pid), "it has really ended");
    assert!(worker.is_dead() && !worker.is_connected());
    assert_eq!(
        (worker.state(), worker.pid(), worker.departure()),
        (WorkerState::Stopped, Some(pid), Some(asked))
    );
    assert_eq!(ids(&running), [WorkerId::new(0, 1)], "it is gone from the table");
    assert!(running.handle.worker(worker.id()).is_none());
    assert_eq!(running.block_on(worker.disconnect()).unwrap(), asked, "once more is no error");
    assert!(!running.block_on(worker.kill(15)).unwrap(), "there is nobody to signal");
    running.stop();
    assert!(matches!(running.block_on(running.handle.fork()), Err(Error::Ended)));
    assert!(running.handle.workers().is_empty());
}

/// test-cluster-worker-kill.js, test-cluster-worker-kill-signal.js. Node's `kill` starts nobody else. Here who is killed comes back, as after any
/// crash.
pub(crate) fn who_is_killed_comes_back_and_who_was_asked_to_leave_does_not() {
    let facts = Facts::new("kill");
    let mut running = Running::start(facts.builder().workers(1));
    running.wait_serving();
    let of_slot = |running: &Running| running.handle.worker_of_slot(0).unwrap();

    let worker = of_slot(&running);
    let error = running.block_on(worker.kill(12345)).unwrap_err();
    assert!(error.to_string().contains("there is none of this number"), "{error}");
    assert!(running.block_on(worker.kill(9)).unwrap());
    let killed = running.block_on(worker.departed()).unwrap();
    assert_eq!(killed, Departure::Killed { exit: Exit::Signal(9) });
    assert!(!killed.is_after_disconnect());
    running.wait_ready(WorkerId::new(0, 2));

    // A worker takes SIGTERM for a wish to leave.
    let worker = of_slot(&running);
    running.block_on(worker.kill(15)).unwrap();
    assert_eq!(running.block_on(worker.departed()).unwrap(), Departure::Killed { exit: Exit::Code(0) });
    let pid = running.wait_ready(WorkerId::new(0, 3));

    let worker = of_slot(&running);
    process::signal(pid, Signal::ABORT);
    let crashed = Departure::Crashed { exit: Exit::Signal(6) };
    assert_eq!(running.block_on(worker.departed()).unwrap(), crashed, "somebody else's signal");
    let pid = running.wait_ready(WorkerId::new(0, 4));

    // A stopped process answers no wish; then it is killed.
    let worker = of_slot(&running);
    process::signal(pid, Signal::STOP);
    eventually("it to stand still", || process::is_stopped(pid).then_some(()));
    running.block_on(worker.stop()).unwrap();
    running.block_on(worker.kill(9)).unwrap();
    let asked = Departure::Asked { exit: Exit::Signal(9) };
    assert_eq!(running.block_on(worker.departed()).unwrap(), asked);
    assert!(running.handle.workers().is_empty(), "nobody comes after who was asked to leave");
    running.stop();
}

pub(crate) fn a_failed_spawn_is_an_event_and_the_primary_goes_on() {
    let facts = Facts::new("failed-spawn");
    let mut running = Running::start(facts.builder().workers(1));
    let address = running.wait_serving()[0];
    running.block_on(running.handle.setup(Settings::new().cwd("/nonexistent"))).unwrap();
    let worker = running.block_on(running.handle.fork()).unwrap();
    let mut events = worker.events();
    let mut told = Vec::new();
    running.block_on(async {
        while let Some(event) = events.recv().await {
            told.push(event);
        }
    });
    let [
        Event::Lifecycle { event: Life::Starting { .. }, .. },
        Event::Lifecycle { event: Life::SpawnFailed { retry_in: Some(_), .. }, error: Some(error), .. },
    ] = told.as_slice()
    else {
        panic!("{told:?}")
    };
    assert!(error.contains("enter the directory"), "{error}");
    assert_eq!(worker.departure(), Some(Departure::NeverStarted));
    assert_eq!(running.block_on(worker.disconnect()).unwrap(), Departure::NeverStarted);
    assert!(!worker.is_connected() && worker.pid().is_none());

    assert_eq!(client::get(address, "/").unwrap().status, 200, "the others serve");
    // It would be tried for as long as it takes.
    running.block_on(running.handle.scale(1)).unwrap();
    running.block_on(running.handle.setup(Settings::new().cwd("/"))).unwrap();
    let better = running.block_on(running.handle.fork()).unwrap();
    running.wait_ready(better.id());
    running.stop();
}

/// test-cluster-disconnect-exitedAfterDisconnect-race.js, test-cluster-kill-disconnect.js: `exitedAfterDisconnect` is true for a worker that
/// disconnects by itself, and its requests are finished.
pub(crate) fn who_leaves_by_itself_finishes_its_requests_and_is_followed_by_another() {
    let facts = Facts::new("leave");
    // No crash would be forgiven.
    let mut running = Running::start(facts.builder().workers(1).max_restarts(0));
    let address = running.wait_serving()[0];
    let worker = running.handle.worker_of_slot(0).unwrap();
    let mut slow = client::Connection::open(address).unwrap();
    slow.send("GET", "/slow", true).unwrap();
    // In its hands before it leaves.
    eventually("the slow request to arrive", || (running.status().workers[0].active >= 1).then_some(()));
    assert_eq!(client::get(address, "/leave").unwrap().body, "leaving");
    let answer = slow.receive().unwrap();
    assert_eq!((answer.status, answer.body.as_str(), answer.closes), (200, "slow", true));
    drop(slow);
    let departure = running.block_on(worker.departed()).unwrap();
    assert_eq!(departure, Departure::ByItself { exit: Exit::Code(0) });
    assert!(departure.is_after_disconnect());
    assert!(facts.was_leaving(worker.id()), "the first phase was told");
    running.wait_ready(WorkerId::new(0, 2));
    assert_eq!(client::get(address, "/").unwrap().body, "0.2 Handoff");
    running.stop();
}

/// `worker.kill()` in the worker, test-cluster-kill-disconnect.js: no waiting for anything, and yet no crash.
pub(crate) fn who_exits_says_so() {
    let facts = Facts::new("exit");
    let mut running = Running::start(facts.builder().workers(1).max_restarts(0));
    let address = running.wait_serving()[0];
    let worker = running.handle.worker_of_slot(0).unwrap();
    assert!(client::get(address, "/exit").is_err(), "nobody answers any more");
    let departure = running.block_on(worker.departed()).unwrap();
    assert_eq!(departure, Departure::ByItself { exit: Exit::Code(42) });
    assert!(departure.is_after_disconnect());
    running.wait_ready(WorkerId::new(0, 2));
    running.stop();
}
