//! What the pool keeps for workers that do with the wire what they like.

use bytes::Bytes;
use cluster_ipc::session::{Config, Window};
use cluster_tasks::{TaskError, TaskPolicy};

use crate::team::{Rare, Team, end, within};
use crate::words::{Task, ToParty, ToPool, Verdict, Words, order};

#[tokio::test]
async fn who_does_not_read_that_its_tasks_have_ended_may_submit_no_more() {
    const SUBMITTED: u64 = 3000;
    let team = Team::new(TaskPolicy::new());
    // Little lies between, so that what it does not read waits in the pool.
    let window = Window { bytes: 1 << 20, messages: 64, descriptors: 1 };
    let mut words = Words::new(team.join_with(0, 0, Config::new().window(window)));
    // It keeps to nothing.
    for number in 1..=SUBMITTED {
        words.say(order(number, "none", 1)).await;
        words.say(ToPool::Revoke(number)).await;
    }
    let (mut cancelled, mut refused) = (0, 0);
    while cancelled + refused < SUBMITTED {
        match words.told().await {
            (_, Verdict::Cancelled { may_have_begun: false }) => cancelled += 1,
            (_, Verdict::Full) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    // Beside those that have room some were on their way.
    assert!((1024..=1500).contains(&cancelled), "{cancelled} were accepted while it read nothing");
    words.say(order(SUBMITTED + 1, "none", 1)).await;
    words.say(ToPool::Revoke(SUBMITTED + 1)).await;
    let told = words.told().await;
    assert!(matches!(told, (_, Verdict::Cancelled { .. })), "now it may: {told:?}");
}

/// How many tasks of a name it is given before the pool answers what it says next.
async fn given(words: &mut Words, name: &str, tasks: u64) -> u64 {
    for number in 1..=tasks {
        words.say(order(number, name, 1)).await;
    }
    // It has that number already.
    words.say(order(1, name, 1)).await;
    let mut given = 0;
    loop {
        match words.hear().await {
            ToParty::Give(..) => given += 1,
            ToParty::Ended(1, Verdict::Full) => return given,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_worker_runs_so_many_at_a_time_of_all_names_and_one_of_each_in_any_case() {
    let team = Team::new(TaskPolicy::new());
    let mut words = Words::new(team.join(0, 0));
    for name in 0..4 {
        words.say(ToPool::Serve(format!("many {name}"), 1024)).await;
    }
    words.say(ToPool::Serve("late".to_owned(), 1024)).await;
    assert_eq!(given(&mut words, "late", 10).await, 1);

    // What it serves no more makes room for others.
    let mut words = Words::new(team.join(1, 1));
    for name in 0..4 {
        words.say(ToPool::Serve(format!("few {name}"), 1024)).await;
    }
    words.say(ToPool::Retire("few 3".to_owned())).await;
    words.say(ToPool::Serve("later".to_owned(), 5)).await;
    assert_eq!(given(&mut words, "later", 10).await, 5);
}

#[tokio::test]
async fn tasks_of_all_names_have_only_so_many_bytes_until_their_workers_let_them_go() {
    const KIB: usize = 1 << 10;
    let team = Team::new(TaskPolicy::new().bytes(100 << 10));
    let (mut submitter, mut worker) = (Words::new(team.join(0, 0)), Words::new(team.join(1, 1)));
    worker.say(ToPool::Serve("served".to_owned(), 8)).await;
    submitter.say(order(1, "served", 200 * KIB)).await;
    let large = worker.given().await;
    let error = end(team.tasks().submit(&Rare(Vec::new())).start()).await.unwrap_err();
    assert_eq!(error, TaskError::Overloaded { kept: 200 << 10, most: 100 << 10 });
    assert!(!error.may_have_begun());
    // Nobody waits for it, but its worker may have it yet.
    submitter.say(ToPool::Revoke(1)).await;
    assert!(matches!(submitter.told().await, (1, Verdict::Cancelled { .. })));
    submitter.say(order(3, "other", 1)).await;
    assert!(matches!(submitter.told().await, (3, Verdict::Overloaded { .. })));
    assert!(matches!(worker.hear().await, ToParty::Cancel(task) if task == large));
    worker.say(ToPool::Refused(large)).await;
    // What the worker has said is heard before it is asked for more.
    worker.say(ToPool::Serve("another".to_owned(), 8)).await;
    worker.say(order(1, "another", KIB)).await;
    let small = worker.given().await;
    for number in 4..6 {
        submitter.say(order(number, "other", 49 * KIB)).await;
    }
    submitter.say(order(6, "other", 2 * KIB)).await;
    let told = submitter.told().await;
    assert!(matches!(told, (6, Verdict::Overloaded { kept, .. }) if kept == 99 << 10), "{told:?}");
    worker.say(ToPool::Finished(small, Ok(Vec::new().into()))).await;
    assert!(matches!(worker.told().await, (1, Verdict::Done(_))));
    submitter.say(order(7, "other", 2 * KIB)).await;
    submitter.say(ToPool::Revoke(7)).await;
    let told = submitter.told().await;
    assert!(matches!(told, (7, Verdict::Cancelled { may_have_begun: false })), "{told:?}");
}

const MIB: usize = 1 << 20;

/// 1 MiB of progress, as postcard writes it: the length goes before it.
fn piece(number: u8) -> Bytes {
    [&[0x80, 0x80, 0x40][..], &vec![number; MIB]].concat().into()
}

/// Begins a task, tells its progress in so many pieces, and ends it.
async fn report(worker: &mut Words, task: Task, reports: u8) {
    worker.say(ToPool::Taken(task)).await;
    for number in 0..reports {
        worker.say(ToPool::Progress(task, piece(number))).await;
    }
    worker.say(ToPool::Finished(task, Ok(vec![0].into()))).await;
}

#[tokio::test]
async fn only_so_many_bytes_of_progress_are_kept_for_who_takes_none() {
    let team = Team::new(TaskPolicy::new());
    let mut worker = Words::new(team.join(0, 0));
    worker.say(ToPool::Serve("rare".to_owned(), 8)).await;
    let submit = || team.tasks().submit(&Rare(Vec::new())).start();
    let (mut first, mut second) = (submit(), submit());
    for task in [worker.given().await, worker.given().await] {
        report(&mut worker, task, 20).await;
    }
    // They have ended, so that all that there is of their progress is here.
    assert_eq!(within(&mut first).await, Ok(0));
    assert_eq!(within(&mut second).await, Ok(0));
    let (mut kept, mut streams) = (0, [first.progress::<Bytes>(), second.progress::<Bytes>()]);
    for stream in &mut streams {
        while let Some(body) = within(stream.next()).await {
            assert_eq!(body.len(), MIB);
            kept += 1;
        }
    }
    // Less where more than 4 MiB waited in the pool.
    assert!((1..=16).contains(&kept), "{kept} MiB were kept");
    // Taken, they make room for others.
    let mut third = submit();
    let task = worker.given().await;
    report(&mut worker, task, 1).await;
    assert_eq!(within(&mut third).await, Ok(0));
    assert!(within(third.progress::<Bytes>().next()).await.is_some());
}

#[tokio::test]
async fn progress_that_is_taken_takes_no_room() {
    const REPORTS: u8 = 40;
    let team = Team::new(TaskPolicy::new());
    let mut worker = Words::new(team.join(0, 0));
    worker.say(ToPool::Serve("rare".to_owned(), 8)).await;
    let mut task = team.tasks().submit(&Rare(Vec::new())).start();
    let mut progress = task.progress::<Bytes>();
    let given = worker.given().await;
    worker.say(ToPool::Taken(given)).await;
    for number in 0..REPORTS {
        worker.say(ToPool::Progress(given, piece(number))).await;
        let taken = within(progress.next()).await.unwrap();
        assert_eq!((taken.len(), taken[0]), (MIB, number));
    }
    // Who asks later hears of what comes then.
    let mut later = task.progress::<Bytes>();
    worker.say(ToPool::Progress(given, piece(REPORTS))).await;
    assert_eq!(within(later.next()).await.unwrap()[0], REPORTS);
    worker.say(ToPool::Finished(given, Ok(vec![0].into()))).await;
    assert_eq!(within(&mut task).await, Ok(0));
    assert!(within(later.next()).await.is_none());
    assert!(within(task.progress::<Bytes>().next()).await.is_none());
}
