//! A cluster within the test: first as a user tests a server of his own, then what it promises to be like.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod steering;
mod tasks;

use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use cluster::health::Heartbeat;
use cluster::supervisor::{Event as Life, Exit, Policy, Roll};
use cluster::testing::TestCluster;
use cluster::{
    Builder, Cluster, Departure, Error, Event, Letter, Message, NotReplaced, Peer, Request, To, Worker,
    WorkerHandle, WorkerId,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

fn workers(workers: usize) -> Builder {
    Cluster::builder().workers(workers)
}

fn worker(cluster: &TestCluster, slot: u32) -> WorkerHandle {
    cluster.handle().worker_of_slot(slot).unwrap()
}

/// As the kernel does when it is out of memory.
async fn kill(cluster: &TestCluster, slot: u32) -> WorkerHandle {
    let killed = worker(cluster, slot);
    assert!(killed.kill(9).await.unwrap());
    killed
}

/// Asks it to leave for good.
async fn leave(cluster: &TestCluster, slot: u32) -> WorkerHandle {
    let leaving = worker(cluster, slot);
    leaving.stop().await.unwrap();
    leaving
}

async fn exit(worker: WorkerHandle) -> Exit {
    worker.departed().await.unwrap().exit().unwrap()
}

/// What comes until the connection ends.
async fn rest(mut client: UnixStream) -> String {
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    text
}

// A server that finishes requests when its worker leaves.

async fn slow_pages(worker: Worker) -> cluster::Result<()> {
    let listener = worker.listen("127.0.0.1:80").await?;
    let slow = || async {
        sleep(3 * SECOND).await;
        "slow"
    };
    let app = Router::new().route("/slow", get(slow)).layer(worker.layer());
    axum::serve(listener, app).with_graceful_shutdown(worker.draining()).await.ok();
    Ok(())
}

/// With processes: `drain::a_worker_terminated_by_somebody_else_finishes_its_requests`.
#[tokio::test(start_paused = true)]
async fn a_server_finishes_its_requests_before_it_leaves() {
    let cluster = TestCluster::start(workers(1), slow_pages).await.unwrap();
    let mut client = cluster.connect().unwrap();
    client.write_all(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    cluster.advance(SECOND).await;
    let leaving = leave(&cluster, 0).await;
    let answer = rest(client).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("slow"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert_eq!(exit(leaving).await, Exit::Code(0));
}

// A worker that finds its state again when it was restarted.

async fn counter(worker: Worker) -> cluster::Result<()> {
    let listener = worker.listen("127.0.0.1:80").await?;
    while let Some((mut stream, _)) = listener.accept().await {
        let visits = worker.state().increment("visits", 1).await.unwrap();
        stream.write_all(format!("{}: {visits}", worker.id()).as_bytes()).await.ok();
    }
    Ok(())
}

/// With processes: `state::a_counter_is_exact_though_workers_are_killed`.
#[tokio::test(start_paused = true)]
async fn a_worker_that_was_killed_counts_on() {
    let cluster = TestCluster::start(workers(1), counter).await.unwrap();
    assert_eq!(rest(cluster.connect().unwrap()).await, "0.1: 1");
    assert_eq!(rest(cluster.connect().unwrap()).await, "0.1: 2");
    let killed = kill(&cluster, 0).await;
    assert_eq!(exit(killed).await, Exit::Signal(9));
    // It waits for the successor.
    assert_eq!(rest(cluster.connect().unwrap()).await, "0.2: 3");
    let state = cluster.handle().state();
    state.live().await.unwrap();
    assert!(state.get("visits").is_some());
}

// A leader that steps down when its worker leaves.

/// From now on you lead.
#[derive(Serialize, Deserialize)]
struct Lead;
impl Message for Lead {
    const NAME: &'static str = "lead";
}

/// This worker leads now.
#[derive(Serialize, Deserialize)]
struct Leads;
impl Message for Leads {
    const NAME: &'static str = "leads";
}

async fn leader(worker: Worker) -> cluster::Result<()> {
    let messages = worker.messages();
    let mut turns = messages.stream::<Lead>();
    worker.ready().await;
    if worker.slot() != 0 {
        tokio::select! {
            _ = turns.recv() => {}
            () = worker.draining() => return Ok(()),
        }
    }
    messages.send(To::Primary, &Leads).await?;
    worker.draining().await;
    messages.send(To::Slot(worker.slot() + 1), &Lead).await?;
    Ok(())
}

/// With processes: `messages::what_a_worker_sent_comes_before_its_end`.
#[tokio::test(start_paused = true)]
async fn a_leader_that_leaves_names_the_next() {
    let cluster = TestCluster::launch(workers(3), leader).unwrap();
    let mut leads = cluster.handle().messages().stream::<Leads>();
    let first = leads.recv().await.unwrap();
    assert_eq!(first.from, Peer::Worker(WorkerId::new(0, 1)));
    let leaving = leave(&cluster, 0).await;
    assert_eq!(leads.recv().await.unwrap().from, Peer::Worker(WorkerId::new(1, 1)));
    assert_eq!(exit(leaving).await, Exit::Code(0));
}

// What it promises to be like.

/// Says who it is to every client, and holds the connection.
async fn names(worker: Worker) -> cluster::Result<()> {
    let listener = worker.listen("127.0.0.1:0").await?;
    while let Some((mut stream, peer)) = listener.accept().await {
        assert_eq!(peer, stream.peer_addr().unwrap());
        assert_eq!(listener.local_addr(), stream.local_addr().unwrap());
        stream.set_nodelay(true).unwrap();
        let name = worker.id().to_string();
        tokio::spawn(async move {
            stream.write_all(name.as_bytes()).await.ok();
            stream.read_exact(&mut [0]).await.ok();
        });
    }
    worker.drained().await;
    Ok(())
}

/// The worker that a connection went to.
async fn name(client: &mut UnixStream) -> String {
    let mut name = [0; 3];
    client.read_exact(&mut name).await.unwrap();
    String::from_utf8(name.to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn connections_are_spread_by_the_strategy() {
    let cluster = TestCluster::start(workers(3).strategy("round-robin"), names).await.unwrap();
    let mut clients: Vec<_> = (0..6).map(|_| cluster.connect().unwrap()).collect();
    let mut names = Vec::new();
    for client in &mut clients {
        names.push(name(client).await);
    }
    names.sort();
    assert_eq!(names, ["0.1", "0.1", "1.1", "1.1", "2.1", "2.1"]);
    let active: Vec<_> =
        cluster.handle().status().await.unwrap().workers.iter().map(|worker| worker.active).collect();
    assert_eq!(active, [2, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn clients_of_one_address_go_to_one_worker() {
    let cluster = TestCluster::start(workers(3).strategy("rendezvous"), names).await.unwrap();
    for host in 0..8 {
        let mut first = cluster.dial(None, ([10, 0, 0, host], 1).into()).unwrap();
        let mut second = cluster.dial(None, ([10, 0, 0, host], 2).into()).unwrap();
        assert_eq!(name(&mut first).await, name(&mut second).await);
    }
}

#[tokio::test(start_paused = true)]
async fn no_time_passes_while_there_is_something_to_do() {
    let cluster = TestCluster::start(workers(2), names).await.unwrap();
    let timer = tokio::spawn(sleep(60 * SECOND));
    let started = Instant::now();
    for _ in 0..100 {
        let mut client = cluster.connect().unwrap();
        name(&mut client).await;
        cluster.handle().state();
    }
    // The acceptor looks at its tickets every few milliseconds.
    assert!(started.elapsed() < SECOND, "{:?}", started.elapsed());
    assert!(!timer.is_finished());
}

/// With processes: `lifecycle::a_worker_that_aborts_at_start_is_given_up`.
#[tokio::test(start_paused = true)]
async fn workers_that_panic_at_start_are_given_up() {
    let started = Instant::now();
    let outcome =
        TestCluster::start(workers(1).max_restarts(3), async |_| -> () { panic!("as it should") }).await;
    let Error::GaveUp { reason } = outcome.unwrap_err() else { panic!("another error") };
    assert!(reason.contains("exited with code 101"), "{reason}");
    assert!(started.elapsed() > SECOND / 10, "it has backed off between");
}

/// With processes: `lifecycle::a_worker_that_is_never_ready_is_replaced`.
#[tokio::test(start_paused = true)]
async fn a_worker_that_is_never_ready_is_replaced() {
    let started = Instant::now();
    let policy = Policy::new().start_timeout(60 * SECOND);
    let cluster = TestCluster::start(workers(1).policy(policy), async |worker: Worker| {
        if worker.id().generation() > 1 {
            worker.ready().await;
        }
        worker.draining().await;
    });
    let cluster = cluster.await.unwrap();
    assert!(started.elapsed() >= 60 * SECOND);
    assert_eq!(cluster.handle().status().await.unwrap().workers[0].generation, 2);
}

/// With processes: `deaths::a_stubborn_family_is_killed_at_its_deadline`.
#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_leave_is_killed_at_its_deadline() {
    let cluster = TestCluster::start(workers(1), async |worker: Worker| {
        worker.ready().await;
        std::future::pending::<()>().await;
    });
    let cluster = cluster.await.unwrap();
    let (started, leaving) = (Instant::now(), leave(&cluster, 0).await);
    assert_eq!(exit(leaving).await, Exit::Signal(9));
    // By default 10 s to drain, and 2 s after SIGTERM.
    assert_eq!(started.elapsed().as_secs(), 12);
}

/// With processes: `deaths::a_death_by_our_hand_says_so`, and `history` for what others take over.
#[tokio::test(start_paused = true)]
async fn what_a_killed_worker_had_taken_is_lost_and_the_rest_goes_to_others() {
    // It takes one connection and no more.
    let cluster = TestCluster::start(workers(1), async |worker: Worker| {
        let listener = worker.listen("127.0.0.1:80").await?;
        let taken = listener.accept().await;
        if worker.id().generation() == 1 {
            std::future::pending::<()>().await;
        }
        if let Some((mut stream, _)) = taken {
            stream.write_all(b"served").await.ok();
        }
        worker.draining().await;
        Ok::<_, Error>(())
    });
    let cluster = cluster.await.unwrap();
    let (taken, waiting) = (cluster.connect().unwrap(), cluster.connect().unwrap());
    cluster.advance(SECOND).await;
    assert_eq!(cluster.handle().status().await.unwrap().workers[0].taken, 1);
    kill(&cluster, 0).await;
    assert_eq!(rest(taken).await, "");
    assert_eq!(rest(waiting).await, "served");
}

/// What spawned tasks have of a worker that is killed is cut off as well.
#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_worker_that_was_killed() {
    let (told, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let cluster = TestCluster::start(workers(1), move |worker: Worker| {
        let told = told.clone();
        async move {
            let listener = worker.listen("127.0.0.1:80").await?;
            while let Some((mut stream, _)) = listener.accept().await {
                let (worker, told) = (worker.clone(), told.clone());
                tokio::spawn(async move {
                    stream.write_all(b"x").await.unwrap();
                    let read = stream.read(&mut [0]).await.unwrap_or(0);
                    let written = stream.write_all(b"more").await;
                    let state = worker.state().set("key", "value").await;
                    let message = worker.messages().send(To::Primary, &Leads).await;
                    told.send((read, written.is_ok(), state.is_ok(), message.is_ok())).unwrap();
                });
            }
            Ok::<_, Error>(())
        }
    });
    let cluster = cluster.await.unwrap();
    let mut client = cluster.connect().unwrap();
    client.read_exact(&mut [0]).await.unwrap();
    kill(&cluster, 0).await;
    assert_eq!(rest(client).await, "");
    assert_eq!(ends.recv().await.unwrap(), (0, false, false, false));
}

/// With processes: `restarts::one_worker_is_replaced_and_its_successor_told`, `restarts::a_worker_that_is_not_replaced_is_told_why`.
#[tokio::test(start_paused = true)]
async fn a_worker_is_replaced_and_its_successor_told() {
    let cluster = TestCluster::start(workers(2), names).await.unwrap();
    let handle = cluster.handle();
    let (first, second) = tokio::join!(handle.restart(1), handle.restart(1));
    assert_eq!((first.unwrap(), second.unwrap()), (WorkerId::new(1, 2), WorkerId::new(1, 2)));
    assert_eq!(handle.restart(1).await.unwrap(), WorkerId::new(1, 3));
    let error = handle.restart(7).await.unwrap_err();
    assert!(matches!(error, Error::NotReplaced { slot: 7, reason: NotReplaced::NoWorker }), "{error}");
}

/// With processes: `rolls::rolls_lose_no_request`.
#[tokio::test(start_paused = true)]
async fn a_reload_replaces_all_and_refuses_nobody() {
    let cluster = TestCluster::start(workers(3), names).await.unwrap();
    let clients = async {
        for _ in 0..50 {
            let mut client = cluster.connect().unwrap();
            name(&mut client).await;
            cluster.advance(SECOND / 100).await;
        }
    };
    let handle = cluster.handle();
    let (report, ()) = tokio::join!(handle.reload(), clients);
    let report = report.unwrap();
    assert!(report.is_complete() && report.replaced == 3, "{report:?}");
    let mut client = cluster.connect().unwrap();
    assert!(name(&mut client).await.ends_with(".2"));
}

/// With processes: `drain::what_has_connected_is_served_when_the_cluster_stops`.
#[tokio::test(start_paused = true)]
async fn what_has_connected_is_served_when_the_cluster_stops() {
    let cluster = TestCluster::start(workers(1), counter).await.unwrap();
    let waiting: Vec<_> = (0..20).map(|_| cluster.connect().unwrap()).collect();
    let mut events = cluster.handle().events();
    cluster.handle().shutdown().await.unwrap();
    while events.recv().await.is_some() {}
    for client in waiting {
        assert!(rest(client).await.starts_with("0.1: "));
    }
    assert!(cluster.connect().is_err());
    cluster.ended().await.unwrap();
}

#[derive(Serialize, Deserialize)]
struct Square(u64);
impl Message for Square {
    const NAME: &'static str = "square";
}
impl Request for Square {
    type Reply = u64;
}

/// With processes: `messages::everybody_talks_to_everybody`, `messages::a_slots_messages_go_to_its_successor`.
#[tokio::test(start_paused = true)]
async fn messages_go_everywhere_also_after_a_day() {
    let hour = 3600 * SECOND;
    let slow = workers(2).heartbeat(Heartbeat::new().interval(hour)).sample_every(hour);
    let cluster = TestCluster::start(slow, async |worker: Worker| {
        worker.messages().answer(async |letter: Letter<Square>| Ok::<_, String>(letter.message.0.pow(2)));
        worker.ready().await;
        worker.draining().await;
    });
    let cluster = cluster.await.unwrap();
    assert_eq!(cluster.handle().messages().request(To::Slot(1), &Square(7)).await.unwrap(), 49);
    cluster.advance(24 * hour).await;
    let killed = kill(&cluster, 1).await;
    cluster.ready(WorkerId::new(1, killed.id().generation() + 1)).await.unwrap();
    assert_eq!(cluster.handle().messages().request(To::Slot(1), &Square(8)).await.unwrap(), 64);
}

#[tokio::test(start_paused = true)]
async fn an_exit_code_is_the_workers_own() {
    let policy = Policy::new().restart(cluster::supervisor::Restart::Never);
    let cluster = TestCluster::start(workers(1).policy(policy), async |worker: Worker| {
        worker.ready().await;
        sleep(SECOND).await;
        ExitCode::from(42)
    });
    let cluster = cluster.await.unwrap();
    let mut events = cluster.handle().events();
    let departure = worker(&cluster, 0).departed().await.unwrap();
    assert_eq!(departure, Departure::Crashed { exit: Exit::Code(42) });
    let told = loop {
        let event = events.recv().await.unwrap();
        if let Event::Lifecycle { event: Life::Exited { exit, .. }, post_mortem, .. } = event {
            break (exit, post_mortem);
        }
    };
    assert_eq!((told.0, told.1.unwrap().figures.slot), (Exit::Code(42), 0));
}

/// With processes: `suspects::somebody_serves_though_all_are_suspect`; `listening::a_worker_that_stops_listening_gets_no_connections`.
#[tokio::test(start_paused = true)]
async fn a_worker_that_takes_no_work_gets_no_connections() {
    let cluster = TestCluster::start(workers(2).strategy("round-robin"), async |worker: Worker| {
        worker.set_ready(worker.slot() != 0).await;
        names(worker).await
    });
    let cluster = cluster.await.unwrap();
    for _ in 0..4 {
        assert_eq!(name(&mut cluster.connect().unwrap()).await, "1.1");
    }
    assert_eq!(cluster.handle().status().await.unwrap().workers[0].state, "unready");
}

/// Without a pause all is the same, in real time.
#[tokio::test]
async fn the_clock_may_go_on() {
    let cluster = TestCluster::start(workers(2), counter).await.unwrap();
    kill(&cluster, 0).await;
    assert!(rest(cluster.connect().unwrap()).await.ends_with(": 1"));
    let second = worker(&cluster, 1);
    cluster.handle().scale(1).await.unwrap();
    exit(second).await;
    cluster.shutdown().await.unwrap();
}

// A slot whose new worker fails.

#[tokio::test(start_paused = true)]
async fn a_slots_messages_go_to_its_old_worker_again_when_the_new_one_is_no_good() {
    let cluster =
        TestCluster::start(workers(1).rolling(Roll::same().bake(5 * SECOND)), async |worker: Worker| {
            worker.messages().answer(async |letter: Letter<Square>| Ok::<_, String>(letter.message.0.pow(2)));
            worker.ready().await;
            if worker.id().generation() > 1 {
                return sleep(SECOND).await;
            }
            worker.draining().await;
        });
    let cluster = cluster.await.unwrap();
    assert!(!cluster.handle().reload().await.unwrap().is_complete());
    assert_eq!(cluster.handle().messages().request(To::Slot(0), &Square(7)).await.unwrap(), 49);
}
