//! Each check in a process of its own: the test binary starts itself again. So descriptors can be counted exactly, and
//! a limit, a signal's disposition or a user changed by one check is not another's.

use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Tells a copy of this test binary which part it plays; the library itself needs no such variable.
const ROLE: &str = "CLUSTER_IPC_TEST_ROLE";

/// Tells it in which test.
const TEST: &str = "CLUSTER_IPC_TEST_NAME";

/// What a check that has passed exits with. A copy that found nothing to run would exit with 0.
const PASSED: i32 = 42;

/// How long anything may take that happens at once on an idle machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a check may take in all before it is taken for stuck: far longer than one that only computes, beside many others.
const STUCK: Duration = Duration::from_secs(600);

/// Runs a check alone, and expects that it has as many descriptors open at its end as at its beginning.
///
/// It must be a closure written within the test function: its name tells the copy which test to run.
pub(crate) fn alone<F: FnOnce()>(check: F) {
    let name = name_of::<F>();
    if role().as_deref() == Some("check") {
        watch();
        // What a runtime opens once for the whole process, for signals, is nobody's leak.
        drop(tokio::runtime::Builder::new_current_thread().enable_all().build());
        let before = open_descriptors();
        check();
        let after = open_descriptors();
        assert_eq!(after.len(), before.len(), "the check leaks descriptors: {after:#?}");
        std::process::exit(PASSED);
    }
    let mut copy = copy_of_this_binary(&name, "check");
    let output = copy.stdin(Stdio::null()).output().expect("the test binary can be started");
    if output.status.code() != Some(PASSED) {
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        panic!("{name}, alone: {}\n{out}\n{err}", output.status);
    }
    // What a check has to say (a seed, say) is shown with the test's own output.
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
}

/// One more process within the test of the check that runs here, to play `role` in it.
pub(crate) fn copy(role: &str) -> Command {
    copy_of_this_binary(&std::env::var(TEST).expect("a check asks for it"), role)
}

/// The part that this process plays, if it is such a copy.
pub(crate) fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

fn copy_of_this_binary(test: &str, role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a process knows its program"));
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(TEST, test)
        .env("RUST_BACKTRACE", "0");
    command
}

/// `traps::reading::a_test::{{closure}}` is the closure in the test `reading::a_test`.
fn name_of<F>() -> String {
    let name = std::any::type_name::<F>();
    let name = name.split_once("::").map_or(name, |(_binary, rest)| rest);
    name.split("::{{closure}}").next().unwrap_or_default().to_owned()
}

/// Ends this process when it is stuck: a check that hangs is a failure, not a reason to wait for ever.
fn watch() {
    let limit = STUCK * if long() { 10 } else { 1 };
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        eprintln!("stuck: nothing has come of this for {limit:?}");
        std::process::abort();
    });
}

/// Whether to try harder than in everyday's runs.
pub(crate) fn long() -> bool {
    std::env::var_os("CLUSTER_TEST_LONG").is_some()
}

/// `rounds`, or ten times as many in a long run.
pub(crate) fn rounds(rounds: usize) -> usize {
    rounds * if long() { 10 } else { 1 }
}

/// When to give up.
pub(crate) fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

/// Waits until something is true.
pub(crate) fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = deadline();
    while !is_true() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Starts a thread that can be found by its name (of 15 bytes at most).
pub(crate) fn thread<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).expect("a thread can be started")
}

/// Whether the thread of this name sleeps in the kernel: it waits for something.
pub(crate) fn is_asleep(name: &str) -> bool {
    let tasks = std::fs::read_dir("/proc/self/task").expect("/proc is there");
    let mut stats = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    stats.any(|stat| stat.contains(&format!("({name}) S ")))
}

/// What is open in this process: number and target of each descriptor, less the one that reads the list.
pub(crate) fn open_descriptors() -> Vec<(i32, String)> {
    let mut open: Vec<(i32, String)> = std::fs::read_dir("/proc/self/fd")
        .expect("/proc is there")
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, std::fs::read_link(entry.path()).ok()?.display().to_string()))
        })
        .collect();
    let list = format!("/proc/{}/fd", std::process::id());
    open.retain(|(_, target)| *target != list);
    open.sort_unstable();
    open
}

/// Something to send.
pub(crate) fn null() -> OwnedFd {
    std::fs::File::open("/dev/null").expect("/dev/null can be opened").into()
}
