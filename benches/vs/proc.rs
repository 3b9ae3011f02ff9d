//! What `/proc` says about processes.

use std::time::Duration;

use crate::Result;

/// The fields of `/proc/PID/stat` after the name: state, parent, …
fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Whether it runs (a zombie doesn't).
pub(crate) fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

pub(crate) fn parent(pid: u32) -> Option<u32> {
    stat(pid).map(|(_, parent)| parent)
}

pub(crate) fn children(pid: u32) -> Result<Vec<u32>> {
    let names = std::fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| name.parse().ok()).filter(|child| parent(*child) == Some(pid)).collect())
}

/// Processor time of all its threads so far, in user mode and in the kernel. Counted in steps of [`tick`].
pub(crate) fn processor_time(pid: u32) -> Result<Duration> {
    spent(&pid.to_string(), 2)
}

/// The same of this process, and of those that it started and has seen the end of.
pub(crate) fn own_processor_time() -> Result<Duration> {
    spent("self", 4)
}

/// How long its main thread, ready to run, has waited for a core. Nothing where the kernel doesn't count it.
pub(crate) fn waited(pid: u32) -> Option<Duration> {
    let schedstat = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    // It ran so long, waited so long (nanoseconds), and was put on a core so many times.
    let mut fields = schedstat.split_whitespace().map(|field| field.parse::<u64>().ok());
    let (ran, waited) = (fields.next()??, fields.next()??);
    (ran > 0).then_some(Duration::from_nanos(waited))
}

/// In user mode and in the kernel: its own time are two fields, that of its ended children the two that follow.
fn spent(pid: &str, fields: usize) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // From the 14th field of the line on; the second is the name, in brackets.
    let counts = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().skip(11).take(fields));
    let ticks = counts.and_then(|counts| counts.map(|count| count.parse::<u32>().ok()).sum::<Option<u32>>());
    Ok(tick() * ticks.ok_or_else(|| format!("process {pid} has no processor time"))?)
}

/// The step in which the kernel tells processor time.
pub(crate) fn tick() -> Duration {
    Duration::from_secs(1) / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100)
}

/// Whether a tracer has all of its threads.
pub(crate) fn is_traced(pid: u32) -> Result<bool> {
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = std::fs::read_to_string(thread?.path().join("status"))?;
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
        if tracer.is_none_or(|pid| pid.trim() == "0") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Resident memory in KiB.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let size = line.and_then(|line| line.split_whitespace().next()).and_then(|size| size.parse().ok());
    size.ok_or_else(|| format!("process {pid} has no resident memory").into())
}
