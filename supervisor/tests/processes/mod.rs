//! Real processes: waiting for what they do, and finding those that a test has started.

#![allow(dead_code, reason = "each test file is its own crate and uses its own part")]

use std::time::{Duration, Instant};

/// How long a condition may take to come true. Generous: the machines are shared.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `condition` gives something.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for this: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// Waits until `is_so`.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    eventually(what, || is_so().then_some(()));
}

/// All processes of this machine, zombies too.
pub(crate) fn pids() -> Vec<u32> {
    let names = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).collect()
}

/// Those that were started with this variable in their environment, or by one of them, and are no zombies.
pub(crate) fn marked(variable: &str, mark: &str) -> Vec<u32> {
    let wanted = format!("{variable}={mark}");
    let is_marked = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    pids().into_iter().filter(is_marked).collect()
}

/// Whether it runs (a zombie doesn't).
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with(['Z', 'X']))
}
