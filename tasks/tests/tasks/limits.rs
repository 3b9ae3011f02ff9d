//! How many tasks there may be, how large, and where.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cluster_ipc::events::{Call, Event};
use cluster_ipc::switch::Switch;
use cluster_tasks::{Pool, TaskError, TaskPolicy};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use crate::team::{Rare, Team, Work, begun, end, within};

#[tokio::test]
async fn no_worker_runs_more_at_a_time_than_it_said() {
    const AT_ONCE: u16 = 3;
    let team = Team::new(TaskPolicy::new());
    let member = team.join(0, 0);
    let (begins, mut begun) = mpsc::unbounded_channel();
    let (running, release) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let released = Arc::clone(&release);
    tokio::spawn(async move {
        let work = |_: Rare, _| {
            let (running, released) = (Arc::clone(&running), Arc::clone(&released));
            begins.send(running.fetch_add(1, Ordering::SeqCst) + 1).unwrap();
            async move {
                released.acquire().await.unwrap().forget();
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(0)
            }
        };
        member.desk.run(AT_ONCE, work, std::future::pending()).await
    });
    let tasks: Vec<_> = (0..30).map(|_| team.tasks().submit(&Rare(Vec::new())).start()).collect();
    let mut most = 0;
    for _ in &tasks {
        let beside = within(begun.recv()).await.unwrap();
        most = most.max(beside);
        if beside == AT_ONCE.into() {
            release.add_permits(1);
        }
    }
    assert_eq!(most, AT_ONCE.into());
    release.add_permits(tasks.len());
    for task in tasks {
        assert_eq!(end(task).await, Ok(0));
    }
}

#[tokio::test]
async fn beyond_the_queue_tasks_are_refused() {
    let team = Team::new(TaskPolicy::new().queue(1));
    let _worker = team.worker(0, 1);
    let mut endless = team.tasks().submit(&Work::Endless).start();
    begun(&mut endless).await;
    let waits = team.tasks().submit(&Work::Small).start();
    let refused = end(team.tasks().submit(&Work::Small).start()).await.unwrap_err();
    assert_eq!(refused, TaskError::Full);
    assert!(!refused.may_have_begun());
    drop(endless);
    assert_eq!(end(waits).await, Ok(0));
}

#[tokio::test]
async fn a_process_has_so_many_tasks_at_a_time() {
    let team = Team::new(TaskPolicy::new().queue(5_000));
    let mut tasks: Vec<_> = (0..1024).map(|_| team.tasks().submit(&Work::Small).start()).collect();
    assert_eq!(end(team.tasks().submit(&Work::Small).start()).await, Err(TaskError::Full));
    // Another process is another matter, and one that ended makes room.
    let other = team.join(3, 3);
    let others = other.desk.tasks().submit(&Work::Small).start();
    let _worker = team.worker(0, 100);
    assert_eq!(end(others).await, Ok(0));
    assert_eq!(end(tasks.pop().unwrap()).await, Ok(0));
    assert_eq!(end(team.tasks().submit(&Work::Small).start()).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_runs_ends_when_patience_does() {
    let team = Team::new(TaskPolicy::new().patience(Duration::from_secs(5)));
    let _worker = team.worker(0, 1);
    let started = Instant::now();
    assert_eq!(end(team.tasks().submit(&Rare(Vec::new())).start()).await, Err(TaskError::NoWorker));
    assert_eq!(started.elapsed().as_secs(), 5);
}

#[tokio::test]
async fn what_is_too_large_is_not_sent() {
    let (team, _workers) = Team::of(1, 1);
    let error = end(team.tasks().submit(&Rare(vec![0; 33 << 20])).start()).await.unwrap_err();
    assert!(matches!(error, TaskError::TooLarge { bytes } if bytes > 33 << 20), "{error}");
}

/// Others by the name of [`Work`].
#[derive(Serialize, Deserialize)]
struct Strange(u32);
impl Event for Strange {
    const NAME: &'static str = Work::NAME;
}
impl Call for Strange {
    type Reply = String;
}

#[tokio::test]
async fn different_types_by_one_name_are_told() {
    let team = Team::new(TaskPolicy::new());
    let _worker = team.worker(200, 1);
    let error = within(team.tasks().submit(&Strange(99)).start()).await.unwrap_err();
    assert!(
        matches!(&error, TaskError::Failed { reason } if reason.contains("could not be decoded")),
        "{error}"
    );
    // Read as a small task. Its reply is no text.
    let error = within(team.tasks().submit(&Strange(0)).start()).await.unwrap_err();
    assert!(matches!(error, TaskError::Encoding { .. }), "{error}");
    assert!(error.may_have_begun());
}

#[tokio::test]
async fn a_strategy_that_does_not_exist_is_an_error_at_once() {
    let policy = TaskPolicy::new().strategy("the-best");
    let error = Pool::new(Switch::<u32>::new(), policy).map(drop).unwrap_err();
    assert!(error.to_string().contains("the-best"), "{error}");
}

#[tokio::test]
async fn what_has_the_same_key_goes_to_the_same_slot_also_when_its_worker_is_another() {
    const KEYS: u32 = 40;
    let team = Team::new(TaskPolicy::new().strategy("maglev"));
    let mut workers: Vec<_> = (0..3).map(|slot| team.worker(slot, 10)).collect();
    // All three are there when each has done something.
    for slot in 0..3 {
        let all = async {
            let mut key = 0_u32;
            while end(team.tasks().submit(&Work::Small).key(key).start()).await != Ok(slot) {
                key = key.wrapping_add(1);
            }
        };
        within(all).await;
    }
    let by_slot = async |team: &Team| {
        let mut slots = BTreeMap::new();
        for key in 0..KEYS {
            slots.insert(key, end(team.tasks().submit(&Work::Small).key(key).start()).await.unwrap() % 10);
        }
        slots
    };
    let before = by_slot(&team).await;
    assert!((0..3).all(|slot| before.values().any(|found| *found == slot)), "{before:?}");
    workers.remove(1).member.die().await;
    let _successor = team.worker(11, 10);
    let back = async {
        while end(team.tasks().submit(&Work::Small).key(KEYS).start()).await.is_ok()
            && by_slot(&team).await.values().all(|slot| *slot != 1)
        {}
    };
    within(back).await;
    assert_eq!(by_slot(&team).await, before);
}
