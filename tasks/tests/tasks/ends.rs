//! How a task ends: done, failed, cancelled, too late.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster_tasks::{Begun, TaskContext, TaskError, TaskPolicy};
use tokio::time::Instant;

use crate::team::{Rare, Team, Work, begun, blocking, end, within};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn whoever_has_room_runs_a_task_and_its_reply_comes_back() {
    let (team, _workers) = Team::of(2, 1);
    let mut endless = team.tasks().submit(&Work::Endless).start();
    let busy = begun(&mut endless).await;
    for _ in 0..10 {
        assert_eq!(
            end(team.tasks().submit(&Work::Small).start()).await,
            Ok(1 - busy),
            "the other one is free"
        );
    }
}

#[tokio::test]
async fn a_worker_submits_and_the_primary_runs() {
    let (team, workers) = Team::of(1, 1);
    let desk = team.pool.desk().clone();
    tokio::spawn(async move { desk.run(1, async |rare: Rare, _| Ok(rare.0.len() as u32), pending()).await });
    let tasks = workers[0].member.desk.tasks();
    assert_eq!(end(tasks.submit(&Rare(vec![0; 7])).start()).await, Ok(7));
    assert_eq!(end(tasks.submit(&Work::Small).start()).await, Ok(0), "itself");
}

#[tokio::test]
async fn what_fails_says_why_and_is_not_tried_again() {
    let (team, _workers) = Team::of(2, 1);
    let failed = |reason: &str| Err(TaskError::Failed { reason: reason.to_owned() });
    assert_eq!(end(team.tasks().submit(&Work::Fail).start()).await, failed("no luck"));
    assert_eq!(end(team.tasks().submit(&Work::Panic).start()).await, failed("its handler panicked"));
}

#[tokio::test]
async fn progress_comes_in_order_from_the_beginning() {
    let (team, _workers) = Team::of(1, 1);
    let mut few = team.tasks().submit(&Work::Count(60)).start();
    let mut progress = few.progress::<u32>();
    // Fewer than are kept for who doesn't look.
    assert_eq!(end(few).await, Ok(60));
    for number in 1..=60 {
        assert_eq!(within(progress.next()).await, Some(number));
    }
    assert_eq!(within(progress.next()).await, None, "it ends with the task");

    let mut many = team.tasks().submit(&Work::Count(10_000)).start();
    let mut progress = many.progress::<u32>();
    let mut last = 0;
    while let Some(number) = within(progress.next()).await {
        assert!(number > last, "in order");
        last = number;
    }
    assert_eq!((last, end(many).await), (10_000, Ok(10_000)), "whatever is lost, it isn't the last");
}

#[tokio::test]
async fn who_cancels_is_heard_by_the_worker() {
    let (team, mut workers) = Team::of(1, 1);
    let maybe = Err(TaskError::Cancelled { begun: Begun::Maybe });
    let mut endless = team.tasks().submit(&Work::Endless).start();
    begun(&mut endless).await;
    let behind = team.tasks().submit(&Work::Small).start();
    behind.cancel();
    assert_eq!(end(behind).await, Err(TaskError::Cancelled { begun: Begun::No }), "it waits for its place");
    endless.cancel();
    assert_eq!(end(endless).await, maybe);
    within(workers[0].news.recv()).await.unwrap();

    // By dropping it, too; and its place is free again each time.
    let mut endless = team.tasks().submit(&Work::Endless).start();
    begun(&mut endless).await;
    drop(endless);
    within(workers[0].news.recv()).await.unwrap();
    assert_eq!(end(team.tasks().submit(&Work::Small).start()).await, Ok(0));
}

#[tokio::test]
async fn a_blocking_handler_sees_that_nobody_waits() {
    let team = Team::new(TaskPolicy::new());
    let member = team.join(0, 0);
    let desk = member.desk.clone();
    let has_ended = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&has_ended);
    let work = move |_: Rare, context: TaskContext| blocking(&context, 0, &ended);
    tokio::spawn(async move { desk.run_blocking(1, work, pending()).await });
    let mut endless = team.tasks().submit(&Rare(Vec::new())).start();
    begun(&mut endless).await;
    drop(endless);
    // Its place is free only when it has returned.
    let mut next = team.tasks().submit(&Rare(Vec::new())).start();
    begun(&mut next).await;
    assert!(has_ended.load(Ordering::SeqCst));
    drop(next);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_what_runs_and_what_waits() {
    let (team, mut workers) = Team::of(1, 1);
    let started = Instant::now();
    let mut endless = team.tasks().submit(&Work::Endless).deadline(20 * SECOND).start();
    begun(&mut endless).await;
    let behind = team.tasks().submit(&Work::Small).deadline(10 * SECOND).start();
    assert_eq!(end(behind).await, Err(TaskError::TimedOut { begun: Begun::No }));
    assert_eq!(started.elapsed().as_secs(), 10);
    assert_eq!(end(endless).await, Err(TaskError::TimedOut { begun: Begun::Maybe }));
    assert_eq!(started.elapsed().as_secs(), 20);
    within(workers[0].news.recv()).await.unwrap();
}

/// The longest time that may be added to this moment.
fn longest() -> Duration {
    let now = std::time::Instant::now();
    let mut longest = Duration::ZERO;
    for bit in (0..94_u32).rev() {
        let nanos = 1_u128 << bit;
        let more = Duration::new((nanos / 1_000_000_000) as u64, (nanos % 1_000_000_000) as u32);
        let tried = longest.checked_add(more).filter(|tried| now.checked_add(*tried).is_some());
        longest = tried.unwrap_or(longest);
    }
    longest
}

#[tokio::test]
async fn a_deadline_at_the_end_of_time_harms_nobody() {
    let (team, _workers) = Team::of(1, 1);
    for step in 1..200 {
        let at_the_end = longest() - Duration::from_micros(5) * step;
        assert_eq!(end(team.tasks().submit(&Work::Small).deadline(at_the_end).start()).await, Ok(0));
    }
}
