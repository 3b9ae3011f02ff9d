//! Tasks: each ends once and runs at most once, whoever is killed, stopped or replaced.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cluster::{
    Begun, Builder, Cluster, Message, Request, Role, TaskContext, TaskError, TaskHandle, TaskPolicy, Tasks,
    Worker,
};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::apps::LEDGER;
use crate::state::policy;
use crate::support::{DEADLINE, eventually, process};
use crate::{Running, builder};

/// How many of each kind a worker runs at a time.
const AT_ONCE: u16 = 2;

/// Computes, on a thread of its own.
#[derive(Serialize, Deserialize)]
enum Compute {
    /// Writes down that it has begun, and takes a while.
    Square(u64),
    /// Tells of its progress up to this.
    Count(u32),
    /// Goes on until nobody waits for it, and writes that down.
    Forever,
    /// Writes down that it has begun, and kills its worker.
    Die(u64),
    Fail,
    Panic,
}

impl Message for Compute {
    const NAME: &'static str = "compute";
}

impl Request for Compute {
    type Reply = u64;
}

/// Waits, asynchronously.
#[derive(Serialize, Deserialize)]
enum Wait {
    /// Says how many run beside it, when there are more or nobody else is to come.
    Crowd,
    /// Until it is dropped, and writes that down.
    Forever,
    /// Has a square computed by another worker.
    Square(u64),
    /// Has something computed that never ends.
    ForeverElsewhere,
}

impl Message for Wait {
    const NAME: &'static str = "wait";
}

impl Request for Wait {
    type Reply = u64;
}

/// Nobody runs it.
#[derive(Serialize, Deserialize)]
struct Unknown;

impl Message for Unknown {
    const NAME: &'static str = "unknown";
}

impl Request for Unknown {
    type Reply = ();
}

fn note(line: &str) {
    if let Some(path) = std::env::var_os(LEDGER) {
        let mut ledger = OpenOptions::new().append(true).create(true).open(path).unwrap();
        // One write, so that lines of several processes stay whole.
        ledger.write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

/// App: runs both kinds.
pub(crate) async fn tasker(worker: Worker) {
    worker.ready().await;
    let waiting = worker.run_tasks(AT_ONCE, |task: Wait, context| wait(worker.clone(), task, context));
    let (computed, waited) = tokio::join!(worker.run_blocking_tasks(AT_ONCE, compute), waiting);
    computed.unwrap();
    waited.unwrap();
}

/// App: the first slot waits, the others compute.
pub(crate) async fn divided(worker: Worker) {
    worker.ready().await;
    let run = async {
        match worker.slot() {
            0 => worker.run_tasks(AT_ONCE, |task: Wait, context| wait(worker.clone(), task, context)).await,
            _ => worker.run_blocking_tasks(AT_ONCE, compute).await,
        }
    };
    run.await.unwrap();
}

/// App: waits for something that nobody runs, and writes down how that ends, and that it runs nothing any more.
pub(crate) async fn forsaken(worker: Worker) {
    worker.ready().await;
    let waiting = async { note(&worker.tasks().submit(&Unknown).await.unwrap_err().to_string()) };
    let running = worker.run_tasks(AT_ONCE, |task: Wait, context| wait(worker.clone(), task, context));
    let (ran, ()) = tokio::join!(running, waiting);
    ran.unwrap();
    note("it runs nothing");
}

fn compute(task: Compute, context: TaskContext) -> Result<u64, String> {
    match task {
        Compute::Square(number) => {
            note(&number.to_string());
            std::thread::sleep(Duration::from_millis(3));
            Ok(number * number)
        }
        Compute::Count(to) => {
            for number in 1..=to {
                // More than may wait to be sent are dropped.
                while !context.progress(&number) {
                    std::thread::yield_now();
                }
            }
            Ok(to.into())
        }
        Compute::Forever => {
            context.progress(&std::process::id());
            while !context.is_cancelled() {
                std::thread::sleep(Duration::from_millis(1));
            }
            note("cancelled");
            Ok(0)
        }
        Compute::Die(number) => {
            note(&number.to_string());
            process::signal(std::process::id(), Signal::KILL);
            Ok(0)
        }
        Compute::Fail => Err("no luck".to_owned()),
        Compute::Panic => panic!("as it was told"),
    }
}

async fn wait(worker: Worker, task: Wait, context: TaskContext) -> Result<u64, String> {
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    match task {
        Wait::Crowd => {
            RUNNING.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
            let beside = RUNNING.fetch_sub(1, Ordering::SeqCst);
            Ok(beside as u64)
        }
        Wait::Forever => {
            struct Noted;
            impl Drop for Noted {
                fn drop(&mut self) {
                    note("cancelled");
                }
            }
            let _noted = Noted;
            context.progress(&std::process::id());
            std::future::pending().await
        }
        Wait::Square(number) => {
            let squared = worker.tasks().submit(&Compute::Square(number)).await;
            squared.map_err(|error| error.to_string())
        }
        Wait::ForeverElsewhere => {
            let mut elsewhere = worker.tasks().submit(&Compute::Forever).start();
            let mut progress = elsewhere.progress::<u32>();
            progress.next().await;
            context.progress(&std::process::id());
            elsewhere.await.map_err(|error| error.to_string())
        }
    }
}

/// A ledger of its own, for the workers of one test.
struct Ledger(PathBuf);

impl Ledger {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cluster-tasks-{name}-{}", std::process::id()));
        std::fs::remove_file(&path).ok();
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn lines(&self) -> Vec<String> {
        std::fs::read_to_string(&self.0).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|found| *found == line).count()
    }

    fn wait_for(&self, line: &str, times: usize) {
        eventually("the ledger to say so", || (self.count(line) == times).then_some(()));
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

fn workers(app: &str, workers: usize, ledger: &Ledger) -> Builder {
    let builder = builder(app).workers(workers).policy(policy()).max_restarts(1_000);
    builder.env(LEDGER, ledger.path())
}

fn tasks(running: &Running) -> Tasks {
    running.block_on(async { running.handle.tasks() })
}

/// The pid of the worker that has begun this.
fn begun(running: &Running, handle: &mut TaskHandle<u64>) -> u32 {
    let mut progress = handle.progress::<u32>();
    running.block_on(async { tokio::time::timeout(DEADLINE, progress.next()).await.unwrap().unwrap() })
}

/// As many as one worker runs at a time, and all have begun.
fn keep_busy(running: &Running, tasks: &Tasks) -> Vec<TaskHandle<u64>> {
    let mut busy: Vec<_> = (0..AT_ONCE).map(|_| tasks.submit(&Compute::Forever).start()).collect();
    for handle in &mut busy {
        begun(running, handle);
    }
    busy
}

fn end<R: serde::de::DeserializeOwned>(running: &Running, handle: TaskHandle<R>) -> Result<R, TaskError> {
    running.block_on(async { tokio::time::timeout(DEADLINE, handle).await.expect("it ends") })
}

pub(crate) fn each_of_a_thousand_ends_once_though_workers_are_killed() {
    const TASKS: u64 = 1_000;
    const KILLS: usize = 12;
    let ledger = Ledger::new("kills");
    let mut running = Running::start(workers("tasker", 3, &ledger));
    running.wait_serving();
    let tasks = tasks(&running);
    let handles: Vec<_> = (0..TASKS).map(|number| tasks.submit(&Compute::Square(number)).start()).collect();
    for kill in 1..=KILLS {
        // Now and then, while they run.
        eventually("more to be begun", || (ledger.lines().len() >= kill * 50).then_some(()));
        let workers = running.status().workers;
        let living: Vec<u32> = workers.iter().filter_map(|worker| worker.pid).collect();
        if let Some(pid) = living.get(kill % living.len().max(1)) {
            process::signal(*pid, Signal::KILL);
        }
    }
    let ends: Vec<_> = handles.into_iter().map(|handle| end(&running, handle)).collect();
    let mut ran: Vec<u64> = ledger.lines().iter().map(|line| line.parse().unwrap()).collect();
    ran.sort_unstable();
    assert!(ran.is_sorted_by(|one, next| one < next), "a task was run twice");
    let mut lost = 0;
    for (number, end) in (0..).zip(ends) {
        match end {
            Ok(square) => {
                assert_eq!(square, number * number);
                assert!(ran.binary_search(&number).is_ok(), "somebody has run it");
            }
            Err(TaskError::Lost) => lost += 1,
            Err(other) => panic!("{number}: {other}"),
        }
    }
    assert!(lost <= KILLS * usize::from(AT_ONCE), "{lost} are lost: some that had not begun");
    running.stop();
}

pub(crate) fn what_has_begun_is_lost_and_what_has_not_goes_elsewhere() {
    let ledger = Ledger::new("stopped");
    let mut running = Running::start(workers("tasker", 2, &ledger));
    running.wait_serving();
    let tasks = tasks(&running);
    let mut begun_there = tasks.submit(&Compute::Forever).start();
    let pid = begun(&running, &mut begun_there);
    process::signal(pid, Signal::STOP);
    eventually("it to be stopped", || process::is_stopped(pid).then_some(()));
    // One of these is for the one that is stopped, and waits there.
    let handles: Vec<_> = (0..8).map(|number| tasks.submit(&Compute::Square(number)).start()).collect();
    process::signal(pid, Signal::KILL);
    assert_eq!(end(&running, begun_there), Err(TaskError::Lost));
    for (number, handle) in (0..).zip(handles) {
        assert_eq!(end(&running, handle), Ok(number * number));
    }
    let mut ran = ledger.lines();
    ran.sort_unstable();
    assert_eq!(ran, ["0", "1", "2", "3", "4", "5", "6", "7"]);
    running.stop();
}

pub(crate) fn what_kills_its_worker_at_once_is_not_tried_again() {
    let ledger = Ledger::new("deadly");
    let mut running = Running::start(workers("tasker", 2, &ledger));
    running.wait_serving();
    let tasks = tasks(&running);
    let handles: Vec<_> = (0..40).map(|number| tasks.submit(&Compute::Die(number)).start()).collect();
    for handle in handles {
        assert_eq!(end(&running, handle), Err(TaskError::Lost));
    }
    let mut ran: Vec<u64> = ledger.lines().iter().map(|line| line.parse().unwrap()).collect();
    ran.sort_unstable();
    assert!(ran.is_sorted_by(|one, next| one < next), "a task was run twice");
    // Of two in one worker one may not have come far enough to write.
    assert!(ran.len() >= 20, "{ran:?}");
    running.stop();
}

pub(crate) fn who_cancels_is_heard_by_the_worker() {
    let ledger = Ledger::new("cancel");
    let mut running = Running::start(workers("tasker", 1, &ledger));
    running.wait_serving();
    let tasks = tasks(&running);
    let maybe = Err(TaskError::Cancelled { begun: Begun::Maybe });

    let mut blocking = tasks.submit(&Compute::Forever).start();
    begun(&running, &mut blocking);
    blocking.cancel();
    assert_eq!(end(&running, blocking), maybe);
    ledger.wait_for("cancelled", 1);

    let mut waiting = tasks.submit(&Wait::Forever).start();
    begun(&running, &mut waiting);
    drop(waiting);
    ledger.wait_for("cancelled", 2);

    // Its places are free again, each of them.
    let squares = |running: &Running| {
        let squares: Vec<_> = (0..4).map(|number| tasks.submit(&Compute::Square(number)).start()).collect();
        squares.into_iter().for_each(|square| assert!(end(running, square).is_ok()));
    };
    squares(&running);

    // What waits behind two that go on is cancelled without having begun.
    let busy = keep_busy(&running, &tasks);
    let behind = tasks.submit(&Compute::Square(77)).start();
    behind.cancel();
    assert_eq!(end(&running, behind), Err(TaskError::Cancelled { begun: Begun::No }));
    drop(busy);
    squares(&running);
    assert!(!ledger.lines().contains(&"77".to_owned()));
    running.stop();
}

pub(crate) fn a_deadline_ends_what_runs_and_what_waits() {
    let ledger = Ledger::new("deadline");
    let mut running = Running::start(workers("tasker", 1, &ledger));
    running.wait_serving();
    let tasks = tasks(&running);
    let busy = keep_busy(&running, &tasks);
    let behind = tasks.submit(&Compute::Square(77)).deadline(Duration::from_millis(50)).start();
    assert_eq!(end(&running, behind), Err(TaskError::TimedOut { begun: Begun::No }));
    drop(busy);
    ledger.wait_for("cancelled", 2);
    // Twice as long each time, until it is long enough to begin.
    let mut deadline = Duration::from_millis(250);
    let (before, ended) = eventually("one to begin in time", || {
        deadline *= 2;
        let before = ledger.count("cancelled");
        let mut late = tasks.submit(&Compute::Forever).deadline(deadline).start();
        let mut progress = late.progress::<u32>();
        let has_begun = running.block_on(async { progress.next().await.is_some() });
        let ended = end(&running, late);
        has_begun.then_some((before, ended))
    });
    assert_eq!(ended, Err(TaskError::TimedOut { begun: Begun::Maybe }));
    eventually("it to hear of that", || (ledger.count("cancelled") > before).then_some(()));
    assert!(!ledger.lines().contains(&"77".to_owned()));
    running.stop();
}

pub(crate) fn progress_comes_in_order() {
    let ledger = Ledger::new("progress");
    let mut running = Running::start(workers("tasker", 1, &ledger));
    running.wait_serving();
    let tasks = tasks(&running);
    let (few, all, many) = running.block_on(async {
        let mut counting = tasks.submit(&Compute::Count(60)).start();
        let mut progress = counting.progress::<u32>();
        // Fewer than are kept for who doesn't look.
        assert_eq!(counting.await, Ok(60));
        let mut few = Vec::new();
        while let Some(number) = progress.next().await {
            few.push(number);
        }
        let mut counting = tasks.submit(&Compute::Count(10_000)).start();
        let mut progress = counting.progress::<u32>();
        let mut many = Vec::new();
        while let Some(number) = progress.next().await {
            many.push(number);
        }
        (few, counting.await, many)
    });
    assert!(few.into_iter().eq(1..=60));
    assert_eq!(all, Ok(10_000));
    assert!(many.is_sorted_by(|one, next| one < next), "in order");
    assert_eq!(many.last(), Some(&10_000), "whatever is lost, it isn't the last");
    running.stop();
}

pub(crate) fn no_worker_runs_more_than_it_said() {
    let ledger = Ledger::new("crowd");
    let mut running = Running::start(workers("tasker", 2, &ledger));
    running.wait_serving();
    let tasks = tasks(&running);
    let handles: Vec<_> = (0..60).map(|_| tasks.submit(&Wait::Crowd).start()).collect();
    let beside: Vec<u64> = handles.into_iter().map(|handle| end(&running, handle).unwrap()).collect();
    assert!(beside.iter().all(|beside| *beside <= AT_ONCE.into()), "{beside:?}");
    running.stop();
}

pub(crate) fn a_worker_may_submit() {
    let ledger = Ledger::new("submit");
    let mut running = Running::start(workers("divided", 2, &ledger));
    running.wait_serving();
    let tasks = tasks(&running);
    let squares: Vec<_> = (0..10).map(|number| tasks.submit(&Wait::Square(number)).start()).collect();
    for (number, square) in (0..).zip(squares) {
        assert_eq!(end(&running, square), Ok(number * number));
    }
    // Who has submitted dies: nobody waits for it any more, and the other worker hears that.
    let mut elsewhere = tasks.submit(&Wait::ForeverElsewhere).start();
    let pid = begun(&running, &mut elsewhere);
    process::signal(pid, Signal::KILL);
    assert_eq!(end(&running, elsewhere), Err(TaskError::Lost));
    ledger.wait_for("cancelled", 1);
    running.stop();
}

pub(crate) fn what_can_t_be_run_is_told() {
    let ledger = Ledger::new("unrun");
    let policy = TaskPolicy::new().queue(1).patience(Duration::from_millis(100));
    let mut running = Running::start(workers("tasker", 1, &ledger).tasks(policy));
    running.wait_serving();
    let tasks = tasks(&running);
    // It is ready a moment before it runs any: a moment that may be longer than this patience.
    eventually("it to run tasks", || {
        running.block_on(async { tasks.submit(&Compute::Square(0)).await.ok() })
    });
    running.block_on(async {
        assert_eq!(tasks.submit(&Unknown).await, Err(TaskError::NoWorker));
        let failed = |reason: &str| Err(TaskError::Failed { reason: reason.to_owned() });
        assert_eq!(tasks.submit(&Compute::Fail).await, failed("no luck"));
        assert_eq!(tasks.submit(&Compute::Panic).await, failed("its handler panicked"));
    });
    let busy = keep_busy(&running, &tasks);
    let waits = tasks.submit(&Compute::Square(1)).start();
    let refused = tasks.submit(&Compute::Square(2)).start();
    assert_eq!(end(&running, refused), Err(TaskError::Full));
    drop(busy);
    assert_eq!(end(&running, waits), Ok(1));
    running.stop();
    running.block_on(async { assert_eq!(tasks.submit(&Unknown).await, Err(TaskError::PrimaryGone)) });
}

pub(crate) fn what_a_worker_waits_for_and_runs_ends_with_the_primary() {
    let ledger = Ledger::new("forsaken");
    // Nobody else is to end it before.
    let mut running = Running::start(workers("forsaken", 1, &ledger).orphan_timeout(2 * DEADLINE));
    running.wait_serving();
    let mut endless = tasks(&running).submit(&Wait::Forever).start();
    begun(&running, &mut endless);
    running.primary.take().unwrap().abort();
    ledger.wait_for("the primary is gone", 1);
    ledger.wait_for("cancelled", 1);
    ledger.wait_for("it runs nothing", 1);
    assert_eq!(end(&running, endless), Err(TaskError::PrimaryGone));
}

pub(crate) fn replacing_all_workers_loses_no_task() {
    let ledger = Ledger::new("roll");
    let mut running = Running::start(workers("tasker", 2, &ledger));
    running.wait_serving();
    let tasks = tasks(&running);
    let handles: Vec<_> = (0..800).map(|number| tasks.submit(&Compute::Square(number)).start()).collect();
    let report = running.block_on(running.handle.restart_all()).unwrap();
    assert!(report.is_complete(), "{report:?}");
    for (number, handle) in (0..).zip(handles) {
        assert_eq!(end(&running, handle), Ok(number * number));
    }
    assert_eq!(ledger.lines().len(), 800);
    running.stop();
}

pub(crate) fn one_process_may_be_all_of_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let Role::Worker(worker) = Cluster::builder().workers(0).handle_signals(false).role().unwrap() else {
            panic!("there is no primary")
        };
        let (tasks, twice) = (worker.tasks(), worker.clone());
        let running = tokio::spawn(async move { worker.run_blocking_tasks(AT_ONCE, compute).await });
        assert_eq!(tasks.submit(&Compute::Square(7)).await, Ok(49));
        let again = twice.run_blocking_tasks(AT_ONCE, compute).await;
        assert_eq!(again.unwrap_err().to_string(), "this worker already runs tasks named compute");
        running.abort();
        running.await.unwrap_err();
        let at_most = Duration::from_millis(100);
        let nobody = tasks.submit(&Compute::Square(7)).deadline(at_most).await;
        assert_eq!(nobody, Err(TaskError::TimedOut { begun: Begun::No }));
    });
}
