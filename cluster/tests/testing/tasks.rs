//! Tasks in a cluster within the test, and workers that do with them what they like.

use std::time::Duration;

use cluster::testing::TestCluster;
use cluster::{Message, Request, To, Worker};
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
    let tasks = cluster.tasks();
    let naps: Vec<_> = (0..6).map(|_| tasks.submit(&Nap(60)).start()).collect();
    cluster.advance(30 * SECOND).await;
    cluster.kill(0).unwrap();
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

/// Its first future of tasks is dropped while some wait here that have not begun; later it runs them after all.
async fn fickle(worker: Worker) -> cluster::Result<()> {
    worker.ready().await;
    {
        let mut running = std::pin::pin!(worker.run_tasks(8, async |_: Nap, _| Ok(0)));
        tokio::select! {
            biased;
            ended = &mut running => ended?,
            () = std::future::ready(()) => {}
        }
        sleep(SECOND).await;
    }
    sleep(SECOND).await;
    worker.run_tasks(8, async |_: Nap, _| Ok(1)).await
}

#[tokio::test(start_paused = true)]
async fn tasks_that_wait_in_a_worker_that_runs_no_more_are_given_back() {
    let cluster = TestCluster::start(workers(1), fickle).await.unwrap();
    let naps: Vec<_> = (0..4).map(|_| cluster.tasks().submit(&Nap(0)).start()).collect();
    for nap in naps {
        let slept = tokio::time::timeout(20 * SECOND, nap).await;
        assert_eq!(slept.expect("it was given back").unwrap(), 1);
    }
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
    let cluster = TestCluster::start(workers(1), sleeper).await.unwrap();
    let tasks = cluster.tasks();
    for step in 1..200 {
        let nap = tasks.submit(&Nap(0)).deadline(longest() - Duration::from_micros(5) * step);
        let slept = tokio::time::timeout(10 * SECOND, nap).await;
        assert_eq!(slept.expect("tasks are run").unwrap(), 0);
    }
}

// Workers that say what they like.

#[derive(Clone)]
struct Body(Vec<u8>);
impl Serialize for Body {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

/// As it is on the wire.
#[derive(Serialize)]
#[allow(dead_code, reason = "their places count")]
enum ToPool {
    Submit { number: u64, name: String, body: Body, within: Option<Duration>, key: Option<u64> },
    Revoke(u64),
    Serve(String, u16),
}
impl Message for ToPool {
    const NAME: &'static str = "cluster.tasks.pool";
}
impl<'de> Deserialize<'de> for ToPool {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("it is only written"))
    }
}

fn order(number: u64, name: impl Into<String>, body: usize) -> ToPool {
    ToPool::Submit { number, name: name.into(), body: Body(vec![0; body]), within: None, key: None }
}

/// What the pool says to who submits and runs nothing by our means.
#[derive(Serialize, Deserialize)]
enum ToParty {
    Give,
    Recall,
    Cancel,
    Progress,
    Ended(u64, Verdict),
}
impl Message for ToParty {
    const NAME: &'static str = "cluster.tasks.party";
}
#[derive(Serialize, Deserialize)]
enum Verdict {
    Done,
    Full,
}

async fn insatiable(worker: Worker) -> cluster::Result<()> {
    let messages = worker.messages();
    let mut words = messages.stream::<ToParty>();
    worker.ready().await;
    for number in 0..2_000 {
        messages.send(To::Primary, &order(number, format!("name {}", number % 10), 1)).await.unwrap();
    }
    let mut full = 0_u64;
    while let Ok(Some(letter)) = tokio::time::timeout(SECOND, words.recv()).await {
        full += u64::from(matches!(letter.message, ToParty::Ended(_, Verdict::Full)));
    }
    messages.send(To::Primary, &Count(full)).await.unwrap();
    worker.draining().await;
    Ok(())
}

#[derive(Serialize, Deserialize)]
struct Count(u64);
impl Message for Count {
    const NAME: &'static str = "count";
}

#[tokio::test(start_paused = true)]
async fn a_worker_may_have_submitted_so_many_tasks_whatever_it_sends() {
    let cluster = TestCluster::launch(workers(1), insatiable).unwrap();
    let mut counts = cluster.messages().stream::<Count>();
    assert_eq!(counts.recv().await.unwrap().message.0, 2_000 - 1024);
}

/// What the largest message may have.
const MESSAGE: usize = 64 << 20;

async fn one_and_another(worker: Worker) -> cluster::Result<()> {
    let messages = worker.messages();
    worker.ready().await;
    if worker.slot() == 1 {
        sleep(SECOND).await;
        return worker.run_tasks(1, async |nap: Nap, _| Ok(nap.0)).await;
    }
    // So that the number of the other's pool is a long one.
    for name in 0..200 {
        messages.send(To::Primary, &ToPool::Serve(format!("name {name}"), 1)).await.unwrap();
    }
    sleep(2 * SECOND).await;
    // Short numbers here, long ones there.
    for number in 1..=130 {
        messages.send(To::Primary, &order(number % 100 + 1, "nap", 1)).await.unwrap();
        sleep(SECOND / 100).await;
    }
    messages.send(To::Primary, &order(1, "nap", MESSAGE - 41)).await.unwrap();
    assert!(messages.send(To::Primary, &order(1, "nap", MESSAGE - 40)).await.is_err(), "the largest");
    messages.send(To::Primary, &Count(0)).await.unwrap();
    worker.draining().await;
    Ok(())
}

#[tokio::test]
async fn a_task_too_large_to_be_given_harms_nobody() {
    let cluster = TestCluster::launch(workers(2), one_and_another).unwrap();
    let mut counts = cluster.messages().stream::<Count>();
    counts.recv().await.unwrap();
    let nap = cluster.tasks().submit(&Nap(7)).start();
    let slept = tokio::time::timeout(20 * SECOND, nap).await;
    assert_eq!(slept.expect("the other is still given tasks").unwrap(), 7);
}

/// The clock of tasks is the runtime's.
#[tokio::test(start_paused = true)]
async fn a_tasks_deadline_takes_no_time_on_a_stopped_clock() {
    let cluster = TestCluster::start(workers(1), sleeper).await.unwrap();
    let begun = (std::time::Instant::now(), Instant::now());
    let error = cluster.tasks().submit(&Nap(600)).deadline(8 * SECOND).await.unwrap_err();
    assert!(matches!(error, cluster::TaskError::TimedOut { .. }), "{error}");
    assert_eq!(begun.1.elapsed().as_secs(), 8);
    assert!(begun.0.elapsed() < 4 * SECOND, "{:?}", begun.0.elapsed());
}
