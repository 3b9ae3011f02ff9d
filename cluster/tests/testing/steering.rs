//! What the primary knows of its workers, watches in them, and does for whoever steers it.

use std::io::{Read, Write};

use cluster::health::{Cause, Checks, Limit, Quantity, VerdictKind};
use cluster::supervisor::{Exit, Policy};
use cluster::testing::TestCluster;
use cluster::{Departure, Event, Fork, Worker, WorkerId};
use tokio::time::Instant;

use crate::{SECOND, counter, exit, kill, names, rest, worker, workers};

/// With processes: `metrics::totals_are_what_clients_got_over_all_lives`.
#[tokio::test(start_paused = true)]
async fn totals_are_those_of_all_lives() {
    let cluster = TestCluster::start(workers(2).strategy("round-robin"), async |worker: Worker| {
        worker.count("started", 1);
        worker.gauge("slot", worker.slot().into());
        counter(worker).await
    });
    let cluster = cluster.await.unwrap();
    for _ in 0..4 {
        rest(cluster.connect().unwrap()).await;
    }
    exit(kill(&cluster, 0).await).await;
    cluster.ready(WorkerId::new(0, 2)).await.unwrap();
    cluster.advance(SECOND).await;
    let status = cluster.handle().status().await.unwrap();
    let totals = &status.totals;
    assert_eq!((totals.created, totals.died, totals.restarted, totals.connections), (3, 1, 1, 4), "{status}");
    assert_eq!(status.counters["started"], 3);
    let [first, second] = &status.workers[..] else { panic!("{status}") };
    assert_eq!((first.taken, second.taken), (0, 2), "those of the dead are no worker's");
    assert_eq!((first.gauges["slot"], second.gauges["slot"]), (0.0, 1.0));
}

/// With processes: `metrics::a_workers_record_says_where_it_is_and_when_it_was_heard_of`.
#[tokio::test(start_paused = true)]
async fn workers_beat() {
    let cluster = TestCluster::start(workers(2), counter).await.unwrap();
    for _ in 0..10 {
        cluster.advance(SECOND).await;
        let status = cluster.handle().status().await.unwrap();
        for worker in &status.workers {
            assert!(worker.heard_ms_ago.is_some_and(|ago| ago <= 200), "{worker:?}");
            assert_eq!((worker.pid, worker.lag_us), (Some(std::process::id()), 0));
        }
    }
}

/// With processes: `wellbeing::gauges_and_readiness_steer`.
#[tokio::test(start_paused = true)]
async fn a_worker_beyond_a_limit_is_replaced_and_the_other_is_not() {
    let limit = Limit::over(100.0).lasting(10 * SECOND).recycle();
    let checks = Checks::new().limit(Quantity::gauge("queue"), limit);
    let cluster = TestCluster::start(workers(2).health(checks), async |worker: Worker| {
        worker.ready().await;
        worker.gauge("queue", if worker.id() == WorkerId::new(1, 1) { 101.0 } else { 99.0 });
        worker.draining().await;
    });
    let cluster = cluster.await.unwrap();
    let (begun, mut events) = (Instant::now(), cluster.handle().events());
    let departure = worker(&cluster, 1).departed().await.unwrap();
    assert_eq!(departure, Departure::Asked { exit: Exit::Code(0) });
    assert!((10..15).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    let (id, cause) = loop {
        if let Event::Health { id, kind: VerdictKind::Recycle, cause, .. } = events.recv().await.unwrap() {
            break (id, cause);
        }
    };
    assert!(id == WorkerId::new(1, 1) && matches!(cause, Cause::Limit { .. }), "{id}: {cause}");
    cluster.advance(60 * SECOND).await;
    assert_eq!([0, 1].map(|slot| worker(&cluster, slot).id().generation()), [1, 2]);
}

/// With processes: `parity_disconnect::all_leave_the_ports_are_free_and_others_may_begin_again`.
#[tokio::test(start_paused = true)]
async fn all_leave_and_others_may_begin_again() {
    let cluster = TestCluster::start(workers(2), counter).await.unwrap();
    let handle = cluster.handle();
    handle.disconnect().await.unwrap();
    assert!(handle.workers().is_empty() && cluster.connect().is_err());
    let forked = handle.fork().await.unwrap();
    cluster.ready(forked.id()).await.unwrap();
    assert_eq!(rest(cluster.connect().unwrap()).await, format!("{}: 1", forked.id()));
    cluster.shutdown().await.unwrap();
    assert_eq!(forked.departure(), Some(Departure::Asked { exit: Exit::Code(0) }));
}

/// With processes: `parity_settings::a_descriptor_by_name_works_both_ways_and_in_each_life`.
#[tokio::test(start_paused = true)]
async fn a_descriptor_goes_to_every_life_of_a_worker() {
    let (mut pipe, end) = std::io::pipe().unwrap();
    let cluster = TestCluster::start(workers(0), async |worker: Worker| {
        let mut pipe = std::fs::File::from(worker.take_descriptor("pipe").unwrap());
        pipe.write_all(worker.id().to_string().as_bytes()).unwrap();
        assert!(worker.take_descriptor("pipe").is_none());
        worker.ready().await;
        worker.draining().await;
    });
    let cluster = cluster.await.unwrap();
    let fork = Fork::new().descriptor("pipe", std::os::fd::OwnedFd::from(end));
    let forked = cluster.handle().fork_with(fork).await.unwrap();
    cluster.ready(forked.id()).await.unwrap();
    kill(&cluster, 0).await;
    cluster.ready(WorkerId::new(0, 2)).await.unwrap();
    let mut said = [0; 6];
    pipe.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"0.10.2");
}

/// With processes: `parity_handles::who_is_killed_comes_back_and_who_was_asked_to_leave_does_not`.
#[tokio::test(start_paused = true)]
async fn a_worker_leaves_in_order_when_it_is_told_to_by_a_signal() {
    let policy = Policy::new().restart(cluster::supervisor::Restart::Never);
    let cluster = TestCluster::start(workers(1).policy(policy), async |worker: Worker| {
        worker.ready().await;
        worker.draining().await;
    });
    let cluster = cluster.await.unwrap();
    let told = worker(&cluster, 0);
    assert!(told.kill(1).await.is_err(), "that would be the test's");
    assert!(told.kill(15).await.unwrap());
    assert_eq!(told.departed().await.unwrap(), Departure::Killed { exit: Exit::Code(0) });
    assert!(!told.kill(15).await.unwrap_or(false));
    cluster.ended().await.unwrap();
}

/// With processes: `limits::workers_may_have_limits_of_their_own`.
#[tokio::test(start_paused = true)]
async fn a_worker_has_no_more_connections_than_its_own_limit() {
    let cluster = TestCluster::start(workers(0).max_connections_per_worker(2), names).await.unwrap();
    let handle = cluster.handle();
    for limit in [Some(0), Some(1), None] {
        let fork = limit.map_or_else(Fork::new, |limit| Fork::new().max_connections(limit));
        let forked = handle.fork_with(fork).await.unwrap();
        cluster.ready(forked.id()).await.unwrap();
    }
    let clients: Vec<_> = (0..5).map(|_| cluster.connect().unwrap()).collect();
    cluster.advance(SECOND).await;
    let status = handle.status().await.unwrap();
    let active: Vec<_> = status.workers.iter().map(|worker| worker.active).collect();
    assert_eq!(active, [0, 1, 2], "{status}");
    drop(clients);
}
