//! Who dies, with what it had begun and what it had not; and with what it had submitted.

use std::future::pending;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, mpsc};
use std::thread;

use cluster_ipc::session::Config;
use cluster_ipc::switch::{Letter, Port, Switch, To};
use cluster_ipc::tokio::Endpoint;
use cluster_tasks::{Begun, Pool, TaskError, TaskHandle, TaskPolicy};
use tokio::sync::oneshot;

use crate::team::{Rare, Team, Work, begun, connect, end, within};
use crate::words::{Task, ToPool, Words};

#[tokio::test]
async fn what_has_begun_is_lost_with_its_worker_and_the_rest_is_done_by_others() {
    let (team, mut workers) = Team::of(2, 1);
    let mut endless = team.tasks().submit(&Work::Endless).start();
    let busy = begun(&mut endless).await;
    let others: Vec<_> = (0..20).map(|_| team.tasks().submit(&Work::Small).start()).collect();
    workers.remove(busy as usize).member.die().await;
    assert_eq!(end(endless).await, Err(TaskError::Lost));
    for other in others {
        assert_eq!(end(other).await, Ok(1 - busy));
    }
}

/// A task that was given to a worker that says what it likes.
async fn given(team: &Team) -> (Words, TaskHandle<u32>, Task) {
    let mut words = Words::new(team.join(9, 9));
    words.say(ToPool::Serve("work".to_owned(), 4)).await;
    let task = team.tasks().submit(&Work::Small).start();
    let given = words.given().await;
    (words, task, given)
}

#[tokio::test]
async fn a_task_that_was_given_and_not_taken_goes_elsewhere() {
    let team = Team::new(TaskPolicy::new());
    let (words, task, _) = given(&team).await;
    let _other = team.worker(1, 1);
    words.member.die().await;
    assert_eq!(end(task).await, Ok(1));
}

#[tokio::test]
async fn the_last_word_of_one_who_dies_counts() {
    let team = Team::new(TaskPolicy::new());
    let (mut words, task, given) = given(&team).await;
    let _other = team.worker(1, 1);
    words.say(ToPool::Taken(given)).await;
    words.member.die().await;
    assert_eq!(end(task).await, Err(TaskError::Lost), "it may have run");
}

/// Nothing goes out any more from where the handler runs: it blocks the only thread at its first step.
#[tokio::test]
async fn that_a_task_begins_is_known_before_it_does() {
    let team = Team::new(TaskPolicy::new());
    let (attached, end_of_worker) = team.attach(0, 0);
    let wire = UnixStream::from(end_of_worker.try_clone().unwrap());
    let (begins, begun) = oneshot::channel();
    let (release, released) = mpsc::channel::<()>();
    let worker = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_port, desk) = connect(end_of_worker);
            let once = Mutex::new(Some((begins, released)));
            let work = move |_: Work, _| {
                let (begins, released) = once.lock().unwrap().take().unwrap();
                async move {
                    begins.send(()).unwrap();
                    // Until the test drops the other end.
                    let _ = released.recv();
                    Ok(0)
                }
            };
            desk.run(1, work, pending()).await.unwrap();
        });
    });
    let task = team.tasks().submit(&Work::Small).start();
    within(begun).await.unwrap();
    wire.shutdown(Shutdown::Both).unwrap();
    within(attached).await.unwrap();
    let _other = team.worker(1, 1);
    assert_eq!(end(task).await, Err(TaskError::Lost));
    drop(release);
    worker.join().unwrap();
}

#[tokio::test]
async fn of_one_who_is_not_listened_to_any_more_all_is_lost() {
    let team = Team::new(TaskPolicy::new());
    let (words, task, _) = given(&team).await;
    let _other = team.worker(1, 1);
    // It may just be saying that it has taken it.
    words.member.attached.abort();
    assert_eq!(end(task).await, Err(TaskError::Lost));
}

#[tokio::test]
async fn what_is_given_back_goes_elsewhere() {
    let team = Team::new(TaskPolicy::new());
    let (mut words, task, given) = given(&team).await;
    let _other = team.worker(1, 1);
    words.say(ToPool::Refused(given)).await;
    assert_eq!(end(task).await, Ok(1));
}

#[tokio::test]
async fn for_one_who_has_died_nothing_is_run() {
    let (team, mut workers) = Team::of(1, 1);
    let submitter = team.join(5, 5);
    let mut endless = submitter.desk.tasks().submit(&Work::Endless).start();
    assert_eq!(begun(&mut endless).await, 0);
    // Dropped, it would say itself that nobody waits for it.
    std::mem::forget(endless);
    submitter.die().await;
    within(workers[0].news.recv()).await.expect("it is told that nobody waits for it");
}

#[tokio::test]
async fn the_end_of_its_connection_ends_what_a_worker_waits_for_and_what_it_runs() {
    let (team, mut workers) = Team::of(1, 1);
    let mut worker = workers.remove(0);
    let mut endless = team.tasks().submit(&Work::Endless).start();
    begun(&mut endless).await;
    let desk = worker.member.desk.clone();
    let waits = desk.tasks().submit(&Work::Small).start();
    worker.member.attached.abort();
    assert_eq!(end(waits).await, Err(TaskError::PrimaryGone));
    within(worker.news.recv()).await.expect("nobody waits for what it runs");
    within(worker.running).await.expect("nobody gives it any more");
    assert_eq!(end(desk.tasks().submit(&Work::Small).start()).await, Err(TaskError::PrimaryGone));
    within(desk.run(1, async |_: Work, _| Ok(0), pending())).await.expect("it ends at once");
}

#[tokio::test]
async fn without_a_pool_nobody_waits() {
    let (team, _workers) = Team::of(1, 1);
    let tasks = team.tasks();
    let endless = tasks.submit(&Work::Endless).start();
    drop(team);
    assert_eq!(end(endless).await, Err(TaskError::PrimaryGone));
    assert_eq!(end(tasks.submit(&Work::Small).start()).await, Err(TaskError::PrimaryGone));

    // Nor without what would serve it.
    let (pool, server) = Pool::new(Switch::<u32>::new(), TaskPolicy::new()).unwrap();
    let waits = pool.desk().tasks().submit(&Work::Small).start();
    drop(server);
    assert_eq!(end(waits).await, Err(TaskError::PrimaryGone));
}

#[tokio::test]
async fn who_is_unwell_gives_back_what_it_has_not_begun_and_gets_no_more() {
    let team = Team::new(TaskPolicy::new());
    let (mut words, task, given) = given(&team).await;
    let _other = team.worker(1, 1);
    team.pool.set_well(9, false);
    assert_eq!(words.recalled().await, given);
    words.say(ToPool::Refused(given)).await;
    assert_eq!(end(task).await, Ok(1));
    let mut endless = team.tasks().submit(&Work::Endless).start();
    assert_eq!(begun(&mut endless).await, 1);
    // The only one who has room is unwell, now also for what it serves only from here on.
    words.say(ToPool::Serve("rare".to_owned(), 4)).await;
    let rare = team.tasks().submit(&Rare(Vec::new())).start();
    let waits = team.tasks().submit(&Work::Small).start();
    waits.cancel();
    assert_eq!(end(waits).await, Err(TaskError::Cancelled { begun: Begun::No }));
    rare.cancel();
    assert_eq!(end(rare).await, Err(TaskError::Cancelled { begun: Begun::No }));
    team.pool.set_well(9, true);
    let well = team.tasks().submit(&Work::Small).start();
    let again = words.given().await;
    words.say(ToPool::Finished(again, Ok(vec![9].into()))).await;
    assert_eq!(end(well).await, Ok(9));
}

#[tokio::test]
async fn one_who_is_not_attached_to_the_pool_is_not_heard() {
    let team = Team::new(TaskPolicy::new());
    let (here, there) = Endpoint::pair(Config::new()).unwrap();
    tokio::spawn(team.switch.attach(7, here));
    let (port, serving) = Port::<u32>::new(there);
    tokio::spawn(serving);
    port.send(To::Primary, &ToPool::Serve("work".to_owned(), 1)).await.unwrap();
    // That has arrived when this has.
    team.switch.port().answer(async |_: Letter<Rare, u32>| Ok(0));
    within(port.request(To::Primary, &Rare(Vec::new()))).await.unwrap();
    let task = team.tasks().submit(&Work::Small).start();
    let _worker = team.worker(1, 1);
    assert_eq!(end(task).await, Ok(1), "nobody would tell of the end of the other");
}
