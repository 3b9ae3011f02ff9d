//! Replacing all workers under load: nothing is lost, and a bad successor changes nothing.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cluster::supervisor::{ExitCause, Policy, Roll, RollOutcome, StopSequence, Unfit};
use cluster::{Builder, Mode, RollReport};
use rustix::process::Signal;

use crate::support::client::{self, Connection};
use crate::support::{eventually, process};
use crate::{QUICK, Running, builder};

const ROLLS: usize = 20;

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(600);

/// How many requests are answered during all rolls, at least.
fn requests() -> usize {
    let is_long = std::env::var_os("CLUSTER_TEST_LONG").is_some_and(|long| long == "1");
    if is_long { 1_000_000 } else { 50_000 }
}

/// Asks until it shall stop; each failure is one too many.
struct Load {
    address: SocketAddr,
    stop: AtomicBool,
    answered: AtomicUsize,
}

impl Load {
    /// A connection for each request.
    fn one_by_one(&self) -> Result<(), String> {
        while !self.stop.load(Ordering::SeqCst) {
            let answer = client::get(self.address, "/").map_err(|error| error.to_string())?;
            assert_eq!(answer.status, 200);
            self.answered.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    /// As many as the server answers on each connection.
    fn keep_alive(&self) -> Result<(), String> {
        while !self.stop.load(Ordering::SeqCst) {
            let mut connection = Connection::open(self.address).map_err(|error| error.to_string())?;
            loop {
                let answer = connection.request("GET", "/", true).map_err(|error| error.to_string())?;
                assert_eq!(answer.status, 200);
                self.answered.fetch_add(1, Ordering::SeqCst);
                if answer.closes || self.stop.load(Ordering::SeqCst) {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Rolls many times under load, which loses nothing. Returns what came of each.
fn roll_under_load(running: &Running, address: SocketAddr) -> Vec<RollReport> {
    let load = Load { address, stop: AtomicBool::new(false), answered: AtomicUsize::new(0) };
    let mut reports = Vec::new();
    std::thread::scope(|scope| {
        let one_by_one = (0..4).map(|_| scope.spawn(|| load.one_by_one()));
        let mut clients: Vec<_> = one_by_one.collect();
        clients.extend((0..4).map(|_| scope.spawn(|| load.keep_alive())));
        for roll in 1..=ROLLS {
            reports.push(running.block_on(running.handle.restart_all()).unwrap());
            eventually("load", || {
                let broken = clients.iter().any(|client| client.is_finished());
                let enough = load.answered.load(Ordering::SeqCst) >= requests() * roll / ROLLS;
                (broken || enough).then_some(())
            });
        }
        load.stop.store(true, Ordering::SeqCst);
        for client in clients {
            client.join().unwrap().unwrap();
        }
    });
    eprintln!("{} requests during {ROLLS} rolls, 0 lost", load.answered.load(Ordering::SeqCst));
    reports
}

/// Patient: what counts is what is lost, not what a busy machine makes of a client that was not let run for a second.
pub(crate) fn patient(app: &str) -> Builder {
    let policy = Policy::new().stop(StopSequence::new().drain(LONG));
    builder(app).workers(3).policy(policy).linger(LONG)
}

fn roll_in(mode: Mode) {
    let mut running = Running::start(patient("http").mode(mode));
    let address = running.wait_serving()[0];
    let reports = roll_under_load(&running, address);
    assert!(reports.iter().all(|report| report.is_complete() && report.replaced == 3), "{reports:?}");
    let status = running.status();
    assert!(status.workers.iter().all(|worker| worker.restarts == 0), "{status:?}");
    running.stop();
}

pub(crate) fn rolls_lose_no_request() {
    roll_in(Mode::Handoff);
}

pub(crate) fn nor_do_they_where_each_slot_has_a_socket() {
    roll_in(Mode::ReusePort);
}

pub(crate) fn nor_do_they_where_all_accept_from_one() {
    roll_in(Mode::Shared);
}

/// Each third life of a slot ends before it begins.
pub(crate) fn nor_do_rolls_that_fail() {
    let mut running = Running::start(patient("third-time-unlucky"));
    let address = running.wait_serving()[0];
    let reports = roll_under_load(&running, address);
    let (complete, failed): (Vec<_>, Vec<_>) = reports.iter().partition(|report| report.is_complete());
    assert!(!complete.is_empty() && failed.len() >= ROLLS / 4, "{reports:?}");
    for report in failed {
        let RollOutcome::Failed { id, reason: Unfit::Ended { cause, .. } } = &report.outcome else {
            panic!("{report:?}")
        };
        assert_eq!((id.generation() % 3, *cause), (0, ExitCause::BootFailure));
    }
    let status = running.status();
    assert!(status.workers.iter().all(|worker| worker.restarts == 0), "nobody was ever missing: {status:?}");
    running.stop();
}

/// A program that differs from another only in what is written at its end: how it is to behave.
struct Program {
    path: PathBuf,
    original: Vec<u8>,
}

impl Program {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cluster-{name}-{}", std::process::id()));
        let original = std::fs::read("/proc/self/exe").unwrap();
        let program = Self { path, original };
        program.replace("good");
        program
    }

    /// Another file takes its place, as a deployment does it; the one that was there is gone from the disk.
    fn replace(&self, behaviour: &str) {
        let next = self.path.with_extension("next");
        let mut bytes = self.original.clone();
        bytes.extend_from_slice(format!("{:>16}", format!("now:{behaviour}")).as_bytes());
        std::fs::write(&next, bytes).unwrap();
        std::fs::set_permissions(&next, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(&next, &self.path).unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// How the program that runs here is to behave.
pub(crate) fn behaviour() -> String {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open(Path::new("/proc/self/exe")).unwrap();
    file.seek(SeekFrom::End(-16)).unwrap();
    let mut end = String::new();
    file.read_to_string(&mut end).unwrap();
    end.trim().strip_prefix("now:").unwrap().to_owned()
}

fn deployed(program: &Program, bake: Duration) -> Builder {
    let policy = Policy::new()
        .start_timeout(Duration::from_secs(5))
        .backoff(cluster::supervisor::Backoff::new().base(QUICK));
    let rolling = Roll::same().canaries(1, bake);
    builder("behave").exec(&program.path).workers(3).policy(policy).rolling(rolling)
}

/// Which behaviour answers; asked until one comes through, as a client does whose worker just crashed.
fn who(address: SocketAddr) -> String {
    eventually("an answer", || {
        client::get(address, "/").ok().filter(|answer| answer.status == 200).map(|answer| answer.body)
    })
}

pub(crate) fn a_bad_executable_is_rolled_back_by_itself() {
    let program = Program::new("deployed");
    let mut running = Running::start(deployed(&program, LONG));
    let address = running.wait_serving()[0];
    for (behaviour, why) in [
        ("crash", "(SIGABRT) after it was ready"),
        ("mute", "because it was not ready in time"),
        ("errors", "while the others failed 0 of"),
        ("abort", "(SIGABRT) before it was ready"),
    ] {
        program.replace(behaviour);
        let over = AtomicBool::new(false);
        let report = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        while !over.load(Ordering::SeqCst) {
                            // Perhaps the canary.
                            who(address);
                        }
                    })
                })
                .collect();
            let report = running.block_on(running.handle.reload()).unwrap();
            over.store(true, Ordering::SeqCst);
            clients.into_iter().for_each(|client| client.join().unwrap());
            report
        });
        assert!(report.new_executable && report.replaced == 0, "{behaviour}: {report:?}");
        let outcome = report.outcome.to_string();
        assert!(outcome.contains(why), "{behaviour}: {outcome}");
        // The old executable is gone from the disk, and goes on: after a crash, too.
        let victim = running.status().workers.iter().find(|worker| worker.state == "ready").unwrap().pid;
        process::signal(victim.unwrap(), Signal::KILL);
        eventually("three good workers", || {
            let ready = running.status().workers.iter().filter(|worker| worker.state == "ready").count();
            (ready == 3).then_some(())
        });
        (0..20).for_each(|_| assert_eq!(who(address), "good"));
    }
    running.stop();
}

pub(crate) fn what_can_not_be_started_is_told() {
    let program = Program::new("forbidden");
    let mut running = Running::start(deployed(&program, QUICK));
    running.wait_serving();
    program.replace("better");
    std::fs::set_permissions(&program.path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let report = running.block_on(running.handle.reload()).unwrap();
    assert!(matches!(report.outcome, RollOutcome::Failed { reason: Unfit::SpawnFailed, .. }), "{report:?}");
    let error = report.error.unwrap();
    assert!(error.contains(program.path.to_str().unwrap()) && error.contains("Permission denied"), "{error}");
    running.stop();
}

pub(crate) fn a_good_executable_takes_over_and_a_crash_brings_no_other() {
    let program = Program::new("upgraded");
    let mut running = Running::start(deployed(&program, QUICK));
    let address = running.wait_serving()[0];
    // Without another file there is nothing to prove.
    let report = running.block_on(running.handle.reload()).unwrap();
    assert!(report.is_complete() && !report.new_executable && report.replaced == 3, "{report:?}");
    program.replace("better");
    // A crash respawns what ran before.
    process::signal(running.status().workers[0].pid.unwrap(), Signal::KILL);
    eventually("three workers", || {
        let ready = running.status().workers.iter().filter(|worker| worker.state == "ready").count();
        (ready == 3).then_some(())
    });
    (0..30).for_each(|_| assert_eq!(who(address), "good"));
    let report = running.block_on(running.handle.reload()).unwrap();
    assert!(report.is_complete() && report.new_executable, "{report:?}");
    (0..30).for_each(|_| assert_eq!(who(address), "better"));
    running.block_on(running.handle.scale(5)).unwrap();
    eventually("five workers", || (running.status().workers.len() == 5).then_some(()));
    (0..30).for_each(|_| assert_eq!(who(address), "better"));
    running.block_on(running.handle.scale(1)).unwrap();
    eventually("one worker", || {
        let left = running.status().workers.into_iter().filter(|worker| worker.pid.is_some());
        (left.map(|worker| worker.slot).collect::<Vec<_>>() == [0]).then_some(())
    });
    running.stop();
}
