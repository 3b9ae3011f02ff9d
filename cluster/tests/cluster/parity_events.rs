//! Which events there are of a worker, and in which order.

use cluster::supervisor::Event as Life;
use cluster::{Event, WorkerEvents, WorkerId};
use rustix::process::Signal;

use crate::Running;
use crate::parity_app::Facts;
use crate::support::process;

/// An event in a word.
fn word(event: &Event) -> &'static str {
    match event {
        Event::Lifecycle { event, .. } => match event {
            Life::Starting { .. } => "starting",
            Life::Spawned { .. } => "spawned",
            Life::Online { .. } => "online",
            Life::Ready { .. } => "ready",
            Life::Stopping { .. } => "stopping",
            Life::Exited { .. } => "exited",
            other => panic!("{other:?}"),
        },
        Event::Listening { .. } => "listening",
        Event::Disconnected { .. } => "disconnected",
        other => panic!("{other:?}"),
    }
}

fn words(running: &Running, mut events: WorkerEvents) -> Vec<&'static str> {
    running.block_on(async {
        let mut words = Vec::new();
        while let Some(event) = events.recv().await {
            words.push(word(&event));
        }
        words
    })
}

pub(crate) fn the_events_of_a_worker_come_in_order_and_the_exit_is_the_last() {
    let facts = Facts::new("events");
    let mut running = Running::start(facts.builder().workers(1));
    running.wait_for("the set-up before anything", |event| {
        assert!(matches!(event, Event::Setup(_)), "{event:?}");
        Some(())
    });
    running.wait_serving();
    let worker = running.block_on(running.handle.fork()).unwrap();
    running.wait_ready(worker.id());
    let (all, from_now_on) = (worker.events(), worker.events());
    running.block_on(worker.disconnect()).unwrap();
    let birth = ["starting", "spawned", "online", "listening", "ready"];
    let death = ["stopping", "disconnected", "exited"];
    assert_eq!(words(&running, all), [birth.as_slice(), &death].concat(), "none since the fork is missed");
    assert_eq!(words(&running, from_now_on), death);
    assert_eq!(words(&running, worker.events()), [""; 0], "of one that is gone there are no more");

    let worker = running.block_on(running.handle.fork()).unwrap();
    let events = worker.events();
    let pid = running.wait_ready(worker.id());
    process::signal(pid, Signal::KILL);
    assert_eq!(words(&running, events), [birth.as_slice(), &["disconnected", "exited"]].concat());
    running.stop();
}

/// Node removes a worker from `workers` before it emits the last of its two events.
pub(crate) fn who_hears_of_an_exit_finds_the_worker_gone() {
    let facts = Facts::new("gone");
    let mut running = Running::start(facts.builder().workers(1));
    running.wait_serving();
    let worker = running.handle.worker_of_slot(0).unwrap();
    process::signal(worker.pid().unwrap(), Signal::KILL);
    let handle = running.handle.clone();
    let id = WorkerId::new(0, 1);
    running.wait_for("its channel to close", |event| match event {
        Event::Disconnected { id: of } if *of == id => {
            assert!(!worker.is_connected());
            Some(())
        }
        Event::Lifecycle { event: Life::Exited { .. }, .. } => panic!("the exit comes last"),
        _ => None,
    });
    running.wait_for("its exit", |event| match event {
        Event::Lifecycle { event: Life::Exited { id: of, .. }, .. } if *of == id => {
            assert!(worker.is_dead() && handle.worker(id).is_none());
            Some(())
        }
        _ => None,
    });
    running.wait_ready(WorkerId::new(0, 2));
    running.stop();
}
