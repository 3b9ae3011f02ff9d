//! A process that plays a scene: a runner in one thread, and a test that watches it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use cluster_supervisor::os::{ChildSpec, Error, Executable, Runner, Service};
use cluster_supervisor::{Backoff, GivenUp, Policy, StopSequence, StopSignal};
use rustix::process::{Signal, getpid, kill_process};

use crate::processes::{eventually, until};
use crate::supervised::Supervised;

/// The argument before the name of a scene. An argument, not a variable: children do not inherit it.
pub(crate) const SCENE: &str = "--play-scene";

/// The scene that this process is to play.
pub(crate) fn scene() -> Option<String> {
    let mut arguments = std::env::args().skip(1);
    (arguments.next()? == SCENE).then(|| arguments.next().unwrap_or_default())
}

/// Plays a scene in a process of its own.
pub(crate) fn play(name: &str) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([SCENE, name]);
    let (code, said) = Supervised::start(name, command).end();
    assert_eq!(code, Some(0), "{said}");
}

/// A service that runs a shell, and dies with this process.
pub(crate) fn shell(name: &str, script: &str) -> Service {
    Service::new(name, spec(script).death_signal(StopSignal::Kill))
}

/// A shell that needs no trampoline.
pub(crate) fn spec(script: &str) -> ChildSpec {
    ChildSpec::new(Executable::open("/bin/sh").unwrap()).args(["-c", script])
}

/// Short waits before a restart, long ones before a SIGKILL.
pub(crate) fn policy() -> Policy {
    let stop = StopSequence::new().drain(crate::processes::DEADLINE);
    Policy::new().backoff(Backoff::new().base(std::time::Duration::from_millis(20))).stop(stop)
}

/// A directory of this process's own, removed in the end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("cluster-runner-scratch-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn touch(&self, name: &str) {
        std::fs::write(self.path(name), "").unwrap();
    }

    pub(crate) fn wait_for(&self, name: &str) {
        until(name, || self.path(name).exists());
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}

impl AsRef<Path> for Scratch {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

type Outcome = Result<Vec<GivenUp>, Error>;

/// A runner that runs in a thread. Should the test fail, all of its children die with this process.
pub(crate) struct Stage {
    news: Arc<Mutex<Vec<String>>>,
    runs: JoinHandle<Outcome>,
}

impl Stage {
    pub(crate) fn run(mut runner: Runner) -> Self {
        let news: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = Arc::clone(&news);
        let runs = std::thread::spawn(move || {
            runner.run(|news| {
                println!("{news}");
                told.lock().unwrap().push(news.to_string());
            })
        });
        Self { news, runs }
    }

    /// All news so far.
    pub(crate) fn news(&self) -> Vec<String> {
        self.news.lock().unwrap().clone()
    }

    /// Waits for a piece of news that begins so, and returns its place.
    pub(crate) fn wait_for(&self, words: &str) -> usize {
        eventually(words, || self.place_of(words))
    }

    /// Where a piece of news stands that begins so.
    pub(crate) fn place_of(&self, words: &str) -> Option<usize> {
        self.news().iter().position(|line| line.starts_with(words))
    }

    /// Waits until it has ended by itself.
    pub(crate) fn end(self) -> Vec<GivenUp> {
        until("the runner to end", || self.runs.is_finished());
        self.runs.join().unwrap().unwrap()
    }

    /// Asks this process to stop, as a user would.
    pub(crate) fn signal(&self) {
        kill_process(getpid(), Signal::TERM).unwrap();
    }

    /// The same, and waits until it has ended.
    pub(crate) fn terminate(self) -> Vec<GivenUp> {
        self.signal();
        self.end()
    }

    /// The same, and how its children ended, in the order of their names and without the times.
    pub(crate) fn terminate_and_look(self) -> Vec<String> {
        let news = Arc::clone(&self.news);
        self.terminate();
        let news = news.lock().unwrap();
        let ends = news.iter().filter(|line| line.contains(" as asked"));
        let mut ends: Vec<String> =
            ends.filter(|line| !line.contains("stopping")).map(|line| untimed(line)).collect();
        ends.sort();
        ends
    }
}

/// A line without how long it had been ready.
fn untimed(line: &str) -> String {
    match line.split_once(", ready for ") {
        Some((before, after)) => {
            let rest = after.split_once(',').map_or(String::new(), |(_, rest)| format!(",{rest}"));
            format!("{before}{rest}")
        }
        None => line.to_owned(),
    }
}
