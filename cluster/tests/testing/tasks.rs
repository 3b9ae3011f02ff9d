//! Tasks in a cluster within the test. What a pool promises is tested in its crate.

use cluster::testing::TestCluster;
use cluster::{Message, Request, Worker};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::{SECOND, workers};

#[derive(Serialize, Deserialize)]
struct Nap(u32);
impl Message for Nap {
    const NAME: &'static str = "nap";
}
impl Request for Nap {
    /// Who has slept.
    type Reply = u32;
}

async fn sleeper(worker: Worker) -> cluster::Result<()> {
    worker.ready().await;
    let slot = worker.slot();
    worker
        .run_tasks(1, move |nap: Nap, _| async move {
            sleep(nap.0 * SECOND).await;
            Ok(slot)
        })
        .await
}

/// With processes: `tasks::what_has_begun_is_lost_and_what_has_not_goes_elsewhere`.
#[tokio::test(start_paused = true)]
async fn a_task_that_had_begun_is_lost_with_its_worker_and_others_are_not() {
    let cluster = TestCluster::start(workers(2), sleeper).await.unwrap();
    let tasks = cluster.handle().tasks();
    let naps: Vec<_> = (0..6).map(|_| tasks.submit(&Nap(60)).start()).collect();
    cluster.advance(30 * SECOND).await;
    crate::kill(&cluster, 0).await;
    let mut lost = 0;
    for nap in naps {
        match nap.await {
            Ok(slot) => assert!(slot < 2),
            Err(cluster::TaskError::Lost) => lost += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(lost, 1, "the one that it slept");
}

/// The clock of tasks is the runtime's.
#[tokio::test(start_paused = true)]
async fn a_tasks_deadline_takes_no_time_on_a_stopped_clock() {
    let cluster = TestCluster::start(workers(1), sleeper).await.unwrap();
    let begun = (std::time::Instant::now(), Instant::now());
    let error = cluster.handle().tasks().submit(&Nap(6000)).deadline(600 * SECOND).await.unwrap_err();
    assert!(matches!(error, cluster::TaskError::TimedOut { .. }), "{error}");
    assert_eq!(begun.1.elapsed().as_secs(), 600);
    assert!(begun.0.elapsed() < 300 * SECOND, "{:?}", begun.0.elapsed());
}
