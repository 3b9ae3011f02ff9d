//! The state that all workers share, while they come and go.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::routing::get;
use cluster::state::tokio::StateError;
use cluster::state::{ChangeKind, KeyRange, Notice, Put, Start, Watch};
use cluster::supervisor::Event as Life;
use cluster::{Event, SharedState, Worker};
use rustix::process::Signal;

use crate::apps::LEDGER;
use crate::support::{client, eventually, process};
use crate::{QUICK, Running, builder};
use cluster::supervisor::{Backoff, Policy};

/// Where workers of [`counting`] write down what they do: a file for each slot.
const LEDGERS: &str = "CLUSTER_TEST_LEDGERS";

/// How often each slot counts.
const COUNTS: usize = 10_000;

pub(crate) fn policy() -> Policy {
    Policy::new().backoff(Backoff::new().base(QUICK).cap(QUICK))
}

/// App: reads and writes what it is asked for. Says at `/started` who it is, and what it saw as soon as it was ready.
pub(crate) async fn keeper(worker: Worker) {
    let state = worker.state();
    let listener = worker.listen("127.0.0.1:0").await.unwrap();
    worker.ready().await;
    let seen = format!("{} {} {}", worker.id(), state.is_live(), state.view().len());
    let lease = state.grant(None).await.unwrap();
    state.execute(Put::new(format!("alive/{}", worker.id()), "").lease(lease)).await.unwrap();
    let (sets, gets, fresh, id) = (state.clone(), state.clone(), state.clone(), worker.id().to_string());
    let app = axum::Router::new()
        .route("/", get(move || std::future::ready(id)))
        .route("/started", get(move || std::future::ready(seen)))
        .route(
            "/set",
            get(move |RawQuery(query): RawQuery| async move {
                let query = query.unwrap();
                let (key, value) = query.split_once('=').unwrap();
                sets.set(key, value.to_owned()).await.unwrap().to_string()
            }),
        )
        .route(
            "/get",
            get(move |RawQuery(key): RawQuery| {
                let entry = gets.get(key.unwrap());
                std::future::ready(match entry {
                    Some(entry) => (StatusCode::OK, String::from_utf8_lossy(&entry.value).into_owned()),
                    None => (StatusCode::NOT_FOUND, String::new()),
                })
            }),
        )
        .route("/get_when", get(move |RawQuery(path): RawQuery| get_when(fresh.clone(), path.unwrap())))
        .route(
            "/increment",
            get(move || async move { state.increment("hits", 1).await.unwrap().to_string() }),
        )
        .layer(worker.layer());
    axum::serve(listener, app).with_graceful_shutdown(worker.draining()).await.unwrap();
}

/// What is under `told` once there is a file at this path. Meanwhile the thread waits, which is all that this process has: nothing that
/// follows the state gets a turn.
async fn get_when(state: SharedState, path: String) -> String {
    state.sync().await.unwrap();
    File::create(format!("{path}.waits")).unwrap();
    while !Path::new(&path).exists() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let told = state.get("told");
    told.map_or_else(|| "nothing".to_owned(), |told| String::from_utf8_lossy(&told.value).into_owned())
}

pub(crate) fn a_read_sees_what_another_worker_was_told_is_written() {
    let mut running = Running::start(builder("keeper").workers(2).policy(policy()));
    let address = running.wait_serving()[0];
    let directory = std::env::temp_dir().join(format!("cluster-fresh-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    for round in 0..5 {
        let path = directory.join(round.to_string());
        let request = format!("/get_when?{}", path.display());
        let waiting = std::thread::spawn(move || client::get(address, &request).unwrap().body);
        eventually("one to wait", || path.with_extension("waits").exists().then_some(()));
        // The other one does this: the first does nothing.
        client::get(address, &format!("/set?told={round}")).unwrap();
        File::create(&path).unwrap();
        assert_eq!(waiting.join().unwrap(), round.to_string());
    }
    std::fs::remove_dir_all(&directory).unwrap();
    running.stop();
}

pub(crate) fn what_one_worker_writes_all_have() {
    let mut running = Running::start(builder("keeper").workers(4).policy(policy()).max_restarts(100));
    let address = running.wait_serving()[0];
    let state = running.handle.state();
    client::get(address, "/set?color=blue").unwrap();
    eventually("all workers to have it", || {
        let answers: Vec<_> = (0..12).map(|_| client::get(address, "/get?color").unwrap().body).collect();
        answers.iter().all(|answer| answer == "blue").then_some(())
    });
    for hit in 1..=20 {
        assert_eq!(client::get(address, "/increment").unwrap().body, hit.to_string());
    }
    running.block_on(async {
        state.sync().await.unwrap();
        assert_eq!(state.get("hits").unwrap().number(), Some(20), "the primary has it, too");
        state.set("many", "1").await.unwrap();
        for number in 0..10_000 {
            state.set(format!("many/{number}"), vec![7; 64]).await.unwrap();
        }
    });
    // A successor has all of it before it is ready.
    let killed = running.status().workers[0].pid.unwrap();
    process::signal(killed, Signal::KILL);
    running.wait_for("its successor", |event| {
        matches!(event, Event::Lifecycle { event: Life::Ready { id }, .. } if id.generation() == 2)
            .then_some(())
    });
    let (is_live, keys) = eventually("the successor to answer", || {
        let seen = client::get(address, "/started").unwrap().body;
        let (is_live, keys) = seen.strip_prefix("0.2 ")?.split_once(' ')?;
        Some((is_live == "true", keys.parse::<usize>().unwrap()))
    });
    assert!(is_live, "it was ready before it had the state");
    assert!(keys > 10_000, "it had {keys} keys when it was ready");
    running.stop();
    running.block_on(async {
        assert_eq!(state.set("late", "1").await.unwrap_err(), StateError::Gone);
        assert_eq!(state.get("color").unwrap().value, "blue", "it can still be read");
    });
}

pub(crate) fn what_a_worker_holds_ends_with_it() {
    let mut running = Running::start(builder("keeper").workers(2).policy(policy()).max_restarts(100));
    running.wait_serving();
    let state = running.handle.state();
    let pid = running.status().workers[1].pid.unwrap();
    eventually("the other one to hold something, too", || state.get("alive/0.1"));
    running.block_on(async {
        let watch = Watch::new(KeyRange::prefix("alive/1.1")).start(Start::Present);
        let mut watching = state.watch(watch).unwrap();
        let mut is_there = false;
        loop {
            match watching.next().await.unwrap() {
                Notice::Present { entries, .. } => is_there |= !entries.is_empty(),
                Notice::Changes(batch) if batch.events[0].kind == ChangeKind::Put => is_there = true,
                Notice::Changes(batch) => {
                    assert_eq!(batch.events[0].kind, ChangeKind::LeaseGone);
                    break;
                }
                other => panic!("{other:?}"),
            }
            if is_there {
                process::signal(pid, Signal::KILL);
            }
        }
        assert!(is_there);
        assert!(state.get("alive/0.1").is_some(), "the other one lives");
    });
    running.stop();
}

/// App: leaves a last word in the state while it drains, and writes down what came of it.
pub(crate) async fn testator(worker: Worker) {
    let path = std::env::var(LEDGER).unwrap();
    let state = worker.state();
    worker.ready().await;
    let mut watching = state.watch(Watch::new(KeyRange::All)).unwrap();
    state.set("first", worker.id().to_string()).await.unwrap();
    worker.draining().await;
    let last = state.set("last", worker.id().to_string()).await;
    let mut word = format!("set {last:?}");
    if worker.status().await.is_err() {
        // All there was is told, and then nothing waits for what can't come any more.
        while watching.next().await.is_some() {}
        let there = state.get("first").is_some();
        write!(word, ", sync {:?}, live {:?}, there {there}", state.sync().await, state.live().await)
            .unwrap();
    }
    std::fs::write(path, word).unwrap();
}

fn with_ledger(name: &str) -> (cluster::Builder, PathBuf) {
    let ledger = std::env::temp_dir().join(format!("cluster-{name}-{}", std::process::id()));
    (builder("testator").env(LEDGER, &ledger).workers(1), ledger)
}

pub(crate) fn what_a_draining_worker_writes_counts() {
    let (builder, ledger) = with_ledger("draining");
    let mut running = Running::start(builder);
    running.wait_for("it to be ready", |event| matches!(event, Event::Serving { .. }).then_some(()));
    let state = running.handle.state();
    running.block_on(state.live()).unwrap();
    running.stop();
    let word = std::fs::read_to_string(&ledger).unwrap();
    std::fs::remove_file(&ledger).unwrap();
    assert!(word.starts_with("set Ok("), "{word}");
    assert_eq!(state.get("last").unwrap().value, "0.1", "the primary's replica had it before it was over");
}

pub(crate) fn without_a_primary_the_state_can_be_read_and_nothing_waits() {
    let (builder, ledger) = with_ledger("bereaved");
    let mut running = Running::start(builder);
    running.wait_for("it to be ready", |event| matches!(event, Event::Serving { .. }).then_some(()));
    let state = running.handle.state();
    eventually("its first word", || state.get("first"));
    running.primary.take().unwrap().abort();
    let word =
        eventually("its last word", || std::fs::read_to_string(&ledger).ok().filter(|it| !it.is_empty()));
    std::fs::remove_file(&ledger).unwrap();
    // The state may end a moment after the rest does: what is written in between is done, or in doubt.
    let is_known =
        ["set Ok(", "set Err(Request(InDoubt))", "set Err(Gone)"].iter().any(|it| word.starts_with(it));
    assert!(is_known && word.ends_with("sync Err(Gone), live Err(Gone), there true"), "{word}");
    running.block_on(async {
        assert_eq!(state.set("late", "1").await.unwrap_err(), StateError::Gone);
    });
}

/// App: counts until its slot has counted often enough, and writes down each attempt and what came of it.
pub(crate) async fn counting(worker: Worker) {
    let path = Path::new(&std::env::var(LEDGERS).unwrap()).join(worker.slot().to_string());
    let mut ledger: File = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    let state = worker.state();
    worker.ready().await;
    for _ in count(&std::fs::read(&path).unwrap(), b'+')..COUNTS {
        ledger.write_all(b"?").unwrap();
        match state.increment("count", 1).await {
            Ok(_) => ledger.write_all(b"+").unwrap(),
            Err(error) => panic!("the primary lives: {error}"),
        }
    }
    worker.draining().await;
}

fn count(ledger: &[u8], what: u8) -> usize {
    ledger.iter().filter(|byte| **byte == what).count()
}

/// Eight workers count while they are killed: nothing that was acknowledged is lost, and nothing is counted twice.
pub(crate) fn a_counter_is_exact_though_workers_are_killed() {
    let folder = std::env::temp_dir().join(format!("cluster-ledgers-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let builder = builder("counting").env(LEDGERS, &folder).workers(8).policy(policy()).max_restarts(10_000);
    let mut running = Running::start(builder);
    let state = running.handle.state();
    running.wait_for("all workers to be ready", |event| matches!(event, Event::Serving { .. }).then_some(()));
    let read = |what: u8| -> usize {
        let all = (0..8).map(|slot| std::fs::read(folder.join(slot.to_string())).unwrap_or_default());
        all.map(|ledger| count(&ledger, what)).sum()
    };
    let mut rng = fastrand::Rng::with_seed(7);
    let mut killed = 0;
    for round in 0..24 {
        eventually("some progress", || (read(b'+') >= round * 8 * COUNTS / 30).then_some(()));
        let workers = running.status().workers;
        if let Some(pid) = workers[rng.usize(..workers.len())].pid {
            process::signal(pid, Signal::KILL);
            killed += 1;
        }
    }
    eventually("all to have counted", || {
        let done = (0..8).all(|slot| {
            count(&std::fs::read(folder.join(slot.to_string())).unwrap_or_default(), b'+') >= COUNTS
        });
        done.then_some(())
    });
    let total = running.block_on(async {
        state.sync().await.unwrap();
        state.get("count").unwrap().number().unwrap()
    });
    running.stop();
    let (asked, done) = (read(b'?'), read(b'+'));
    std::fs::remove_dir_all(&folder).unwrap();
    let total = usize::try_from(total).unwrap();
    assert_eq!(done, 8 * COUNTS);
    assert!((done..=asked).contains(&total), "{total} counted, {done} acknowledged, {asked} asked for");
    assert!(killed >= 20, "{killed} killed");
    assert!(
        asked - done <= killed,
        "{asked} asked for, {done} done: at most one in doubt for each of {killed} killed"
    );
}
