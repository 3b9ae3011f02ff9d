//! What workers did to the shared state and what they saw of it, written down by each while they are killed and stopped, and judged
//! afterwards: linearizable writes, reads that never go back, watches in the order of writes.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use cluster::health::Heartbeat;
use cluster::state::tokio::{SharedState, StateError};
use cluster::state::witness::{
    Came, Journal, Level, Log, Merging, Record, Seen, Since, What, Who, judge, read_journal,
};
use cluster::state::{
    ClientId, Command, Condition, Increment, Key, KeyRange, LeaseId, Overflow, Put, Start, Transaction, Watch,
};
use cluster::supervisor::Event as Life;
use cluster::{Event, Worker, WorkerId};
use rustix::process::Signal;

use crate::support::{DEADLINE, eventually, process};
use crate::{Running, builder, state};

/// Where each worker's journal lies.
const JOURNALS: &str = "CLUSTER_TEST_JOURNALS";

/// Nanoseconds of a clock that all processes of a host share.
fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap()
}

fn client(id: WorkerId) -> ClientId {
    ClientId::new(u64::from(id.slot()), u64::from(id.generation()))
}

/// One of a worker's tasks, and what it writes down.
#[derive(Clone)]
struct Scribe {
    who: Who,
    state: SharedState,
    journal: Arc<Mutex<Journal<File>>>,
}

impl Scribe {
    fn note(&self, invoked: u64, what: What) {
        let record = Record { who: self.who, invoked, returned: Some(now()), what };
        self.journal.lock().unwrap().append(record).unwrap();
    }

    async fn command(&self, command: Command) -> Option<LeaseId> {
        let ticket = self.journal.lock().unwrap().invoked(self.who, now(), &command).unwrap();
        let came = match self.state.execute(command).await {
            Ok(answer) => Ok(answer),
            Err(StateError::Request(error)) => Err(error),
            // The primary is gone, and with it this run.
            Err(_) => return None,
        };
        let lease = came.as_ref().ok().and_then(|answer| match answer.outcome {
            cluster::state::Outcome::Granted(lease) => Some(lease),
            _ => None,
        });
        let epoch = self.state.cursor().unwrap().epoch;
        self.journal.lock().unwrap().returned(ticket, now(), Came::of(came, epoch)).unwrap();
        lease
    }

    async fn read(&self, linearizable: bool) {
        let invoked = now();
        let level = if linearizable {
            if self.state.sync().await.is_err() {
                return;
            }
            Level::Linearizable
        } else {
            Level::Local
        };
        let view = self.state.view();
        let mut seen: Vec<Seen> = ["a/0", "a/1", "n/0"]
            .map(|key| Seen::Key(Key::from(key), view.get(key).map(|entry| (*entry).clone())))
            .into();
        let range = KeyRange::prefix("sum/");
        let all = view.range(&range).map(|(key, entry)| (key.clone(), (**entry).clone()));
        seen.push(Seen::Range(range.clone(), all.collect()));
        self.note(invoked, What::Read { level, at: view.cursor(), seen });
    }

    /// Does one thing after the other until the worker is to leave.
    async fn work(self, mut rng: fastrand::Rng) {
        let mut lease = None;
        loop {
            let key = format!("a/{}", rng.u8(..6));
            let number = format!("n/{}", rng.u8(..3));
            let value = rng.u32(..).to_string();
            let there = self.state.get(&key);
            let command: Command = match rng.u8(..14) {
                0..=2 => Put::new(key, value).into(),
                3 => Put::new(key, value).returning_previous().into(),
                4 => {
                    let condition =
                        there.map_or(Condition::Absent, |entry| Condition::Modified(entry.modified));
                    Put::new(key, value).when(condition)
                }
                5 => {
                    let condition =
                        there.map_or(Condition::Absent, |entry| Condition::value(entry.value.clone()));
                    Put::new(key, value).when(condition)
                }
                6..=7 => Increment::new(number, rng.i64(-3..8)).at_least(0).at_most(500).into(),
                8 => Command::delete(if rng.bool() { key } else { number }).into(),
                9 => {
                    let (from, to) = (rng.u8(..3), rng.u8(3..5));
                    let by = rng.i64(1..5);
                    Transaction::new()
                        .then(Increment::new(format!("sum/{from}"), -by))
                        .then(Increment::new(format!("sum/{to}"), by))
                        .into()
                }
                10 if rng.u8(..8) == 0 => Command::delete_range(KeyRange::prefix("a/")),
                10 => match lease {
                    None => {
                        lease = self.command(Command::grant(None)).await;
                        continue;
                    }
                    Some(lease) => Put::new(format!("held/{}", rng.u8(..4)), value).lease(lease).into(),
                },
                11 => {
                    self.read(true).await;
                    continue;
                }
                _ => {
                    self.read(false).await;
                    // What is local does not wait: others get their turn.
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            self.command(command).await;
        }
    }

    async fn watch(self, number: u64, range: KeyRange, overflow: Overflow) {
        let invoked = now();
        let watch = Watch::new(range.clone()).start(Start::Present).overflow(overflow);
        let mut watching = self.state.watch(watch).unwrap();
        let merging = if overflow == Overflow::Tell { Merging::Never } else { Merging::Allowed };
        self.note(invoked, What::Watch { watch: number, range, since: Since::Present, merging });
        while let Some(notice) = watching.next().await {
            self.note(now(), What::Told { watch: number, notice });
        }
    }
}

/// App: works on the state, and writes down all it does and sees.
pub(crate) async fn historian(worker: Worker) {
    let path = Path::new(&std::env::var(JOURNALS).unwrap()).join(worker.id().to_string());
    let file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    let journal = Arc::new(Mutex::new(Journal::new(file)));
    worker.ready().await;
    let client = client(worker.id());
    let scribe =
        |thread| Scribe { who: Who { client, thread }, state: worker.state(), journal: Arc::clone(&journal) };
    scribe(0).note(now(), What::Started);
    let unique = client.client() * 1_000_000 + client.incarnation() * 10;
    tokio::spawn(scribe(10).watch(unique, KeyRange::All, Overflow::Coalesce));
    tokio::spawn(scribe(11).watch(unique + 1, KeyRange::prefix("sum/"), Overflow::Tell));
    for thread in 1..=3 {
        tokio::spawn(scribe(thread).work(fastrand::Rng::with_seed(unique + thread)));
    }
    worker.draining().await;
}

/// What became of the workers, as the primary tells it.
struct Chronicle {
    folder: PathBuf,
    log: Arc<Mutex<Log>>,
    /// When somebody began to end this worker, as far as it was us.
    ended: Vec<(WorkerId, u64)>,
    records: Vec<Record>,
}

impl Chronicle {
    fn died(&mut self, id: WorkerId, ended_at: u64) {
        let who = Who { client: client(id), thread: 0 };
        self.records.push(Record { who, invoked: ended_at, returned: Some(now()), what: What::Died });
    }

    fn commits(&self) -> usize {
        self.log.lock().unwrap().len()
    }

    fn read_journals(&mut self) {
        for file in std::fs::read_dir(&self.folder).unwrap() {
            self.records.extend(read_journal(&std::fs::read(file.unwrap().path()).unwrap()));
        }
    }
}

#[expect(clippy::print_stdout, reason = "it says how much was judged")]
pub(crate) fn a_history_is_linearizable_though_workers_are_killed_and_stopped() {
    let is_long = std::env::var_os("CLUSTER_TEST_LONG").is_some();
    let (rounds, commits) = if is_long { (300, 2000) } else { (24, 400) };
    let folder = std::env::temp_dir().join(format!("cluster-journals-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let builder = builder("historian").env(JOURNALS, &folder).workers(4);
    // Nobody dies but by our hand, so that all deaths are known.
    let heartbeat = Heartbeat::new().dead_at_least(10 * DEADLINE);
    let mut running =
        Running::start(builder.policy(state::policy()).max_restarts(10_000).heartbeat(heartbeat));
    let own = running.handle.state();
    let log = Arc::new(Mutex::new(Log::new()));
    let notices = Arc::clone(&log);
    let all = Watch::new(KeyRange::All).start(Start::Present).overflow(Overflow::Tell).capacity(usize::MAX);
    let mut watching = own.watch(all).unwrap();
    let written = running.runtime.spawn(async move {
        while let Some(notice) = watching.next().await {
            notices.lock().unwrap().handle_notice(&notice);
        }
    });
    let mut chronicle = Chronicle { folder, log, ended: Vec::new(), records: Vec::new() };
    running.wait_for("all workers", |event| matches!(event, Event::Serving { .. }).then_some(()));
    // A seed would not repeat what processes do.
    let mut rng = fastrand::Rng::new();
    for _ in 0..rounds {
        let progress = |chronicle: &Chronicle, more: usize| {
            let goal = chronicle.commits() + more;
            eventually("some progress", || (chronicle.commits() >= goal).then_some(()));
        };
        progress(&chronicle, commits);
        let workers = running.status().workers;
        let chosen = &workers[rng.usize(..workers.len())];
        let Some(pid) = chosen.pid.filter(|_| chosen.state == "ready") else { continue };
        let id = WorkerId::new(chosen.slot, chosen.generation);
        if rng.u8(..3) > 0 {
            let killed = now();
            process::signal(pid, Signal::KILL);
            running.wait_for("its end", |event| {
                matches!(event, Event::Lifecycle { event: Life::Exited { id: ended, .. }, .. } if *ended == id).then_some(())
            });
            chronicle.died(id, killed);
        } else {
            // The others go on; then it has a lot to catch up with.
            process::signal(pid, Signal::STOP);
            progress(&chronicle, commits);
            process::signal(pid, Signal::CONT);
        }
    }
    chronicle.ended =
        running.status().workers.iter().map(|it| (WorkerId::new(it.slot, it.generation), now())).collect();
    running.stop();
    running.block_on(async { written.await.unwrap() });
    for (id, ended) in std::mem::take(&mut chronicle.ended) {
        chronicle.died(id, ended);
    }
    chronicle.read_journals();
    // The primary's own replica ended a moment before the primary.
    chronicle.log.lock().unwrap().cut_short();
    let verdict = judge(&chronicle.records, Some(&chronicle.log.lock().unwrap()));
    assert!(verdict.is_good(), "{verdict}");
    println!("{} commits, {} records: {verdict}", chronicle.commits(), chronicle.records.len());
    assert!(chronicle.commits() >= rounds * commits);
    std::fs::remove_dir_all(&chronicle.folder).unwrap();
}
