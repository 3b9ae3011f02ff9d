//! Who runs tasks no more.

use std::future::{pending, ready};
use std::sync::Arc;
use std::time::Duration;

use cluster_tasks::{TaskContext, TaskPolicy};
use tokio::sync::{Semaphore, oneshot};

use crate::team::{Team, Work, begun, end, within};

#[tokio::test]
async fn who_leaves_finishes_what_it_has_begun_and_gets_no_more() {
    let team = Team::new(TaskPolicy::new());
    let member = team.join(0, 0);
    let (leave, leaving) = oneshot::channel::<()>();
    let release = Arc::new(Semaphore::new(0));
    let (desk, released) = (member.desk.clone(), Arc::clone(&release));
    let running = tokio::spawn(async move {
        let work = |_: Work, context: TaskContext| {
            let released = Arc::clone(&released);
            async move {
                context.progress(&0_u32);
                let _ = released.acquire().await;
                Ok(0)
            }
        };
        desk.run(1, work, async { drop(leaving.await) }).await
    });
    let mut task = team.tasks().submit(&Work::Small).start();
    begun(&mut task).await;
    leave.send(()).unwrap();
    let _other = team.worker(1, 1);
    assert_eq!(end(team.tasks().submit(&Work::Small).start()).await, Ok(1));
    release.add_permits(10);
    assert_eq!(end(task).await, Ok(0), "it had begun");
    within(running).await.unwrap().unwrap();
    for _ in 0..10 {
        assert_eq!(end(team.tasks().submit(&Work::Small).start()).await, Ok(1));
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_in_a_worker_that_runs_no_more_is_given_back() {
    let team = Team::new(TaskPolicy::new());
    let member = team.join(0, 0);
    let tasks: Vec<_> = (0..4).map(|_| team.tasks().submit(&Work::Small).start()).collect();
    {
        let mut running = std::pin::pin!(member.desk.run(8, async |_: Work, _| Ok(0), pending()));
        tokio::select! {
            biased;
            ended = &mut running => panic!("{ended:?}"),
            () = ready(()) => {}
        }
        // Time passes only when all of them have been given here.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::spawn(async move { member.desk.run(8, async |_: Work, _| Ok(1), pending()).await });
    for task in tasks {
        assert_eq!(end(task).await, Ok(1));
    }
}

#[tokio::test]
async fn tasks_of_a_name_are_run_once_in_a_process() {
    let (team, workers) = Team::of(1, 1);
    assert_eq!(end(team.tasks().submit(&Work::Small).start()).await, Ok(0));
    let desk = &workers[0].member.desk;
    let error = within(desk.run(1, async |_: Work, _| Ok(0), pending())).await.unwrap_err();
    assert_eq!(
        (error.name, error.to_string().as_str()),
        ("work", "this process already runs tasks named work")
    );
}
