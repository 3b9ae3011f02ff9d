//! A report as people read it.

use std::fmt;
use std::time::Duration;

use super::condition::Condition;
use super::thread::ThreadReport;
use super::{Report, State};

/// So many lines about threads at most: those that look alike share one.
const LINES: usize = 12;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_condition(f)?;
        self.write_figures(f)?;
        self.write_threads(f)
    }
}

impl Report {
    fn write_condition(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let condition = self.condition();
        let of_all = self.thread_count();
        let shown_by = condition.shown_by(self.threads());
        match condition {
            Condition::Ended => f.write_str("has ended, and waits to be reaped"),
            Condition::Traced => f.write_str("stopped by a debugger"),
            Condition::Stopped => f.write_str("stopped by a signal"),
            Condition::Uninterruptible { threads } => {
                write!(f, "in an uninterruptible wait{}", What(shown_by, ": "))?;
                write_share(f, threads, of_all)
            }
            Condition::Spinning { threads: 1 } => write!(f, "spinning: 1 of {of_all} threads runs"),
            Condition::Spinning { threads } => write!(f, "spinning: {threads} of {of_all} threads run"),
            Condition::Running { threads: 1 } => write!(f, "running: 1 of {of_all} threads ran just now"),
            Condition::Running { threads } => {
                write!(f, "running: {threads} of {of_all} threads ran just now")
            }
            Condition::Locked if of_all <= 1 => f.write_str("waiting for a lock (futex)"),
            // Of those beyond the limit nothing is known.
            Condition::Locked => f.write_str("waiting for a lock (futex) in all threads"),
            Condition::Blocked { threads } => {
                write!(f, "blocked{}", What(shown_by, " in "))?;
                write_share(f, threads, of_all)
            }
            Condition::Events => write!(f, "waiting for events{}", What(shown_by, " in ")),
            Condition::Pausing => write!(f, "letting time pass{}", What(shown_by, " in ")),
            Condition::Sleeping => f.write_str("sleeping"),
        }
    }

    fn write_figures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names in quotes, and nothing in them that a terminal would obey.
        write!(f, "\nprocess {} {:?}: {} thread", self.pid(), self.name(), self.thread_count())?;
        f.write_str(if self.thread_count() == 1 { "" } else { "s" })?;
        let sample = self.last_sample().unwrap_or_default();
        // What was read now is newer, if coarser; of a process that ended some of its last ticks are missing.
        let processor = self.processor_time().max(sample.processor_time().unwrap_or_default());
        write!(f, ", {} of processor time", Seconds(processor))?;
        if let Some(bytes) = sample.resident_bytes() {
            write!(f, ", {} resident", Mebibytes(bytes))?;
        }
        if let Some(bytes) = sample.proportional_bytes() {
            write!(f, " ({} proportionally)", Mebibytes(bytes))?;
        }
        if let Some(open) = sample.open_descriptors() {
            write!(f, ", {open} descriptors")?;
        }
        if let Some(switches) = self.switches() {
            let (voluntary, forced) = (switches.voluntary(), switches.forced());
            write!(f, "; context switches: {voluntary} voluntary, {forced} forced")?;
        }
        self.tracer().map_or(Ok(()), |tracer| write!(f, "; traced by process {tracer}"))
    }

    fn write_threads(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut groups: Vec<Group<'_>> = Vec::new();
        for thread in self.threads() {
            match groups.iter_mut().find(|group| group.is_like(thread)) {
                Some(group) => group.add(thread),
                None => groups.push(Group { first: thread, threads: 1, processor: thread.processor_time() }),
            }
        }
        for group in groups.iter().take(LINES) {
            write!(f, "\n{group}")?;
        }
        let shown: u64 = groups.iter().take(LINES).map(|group| group.threads).sum();
        match self.thread_count().saturating_sub(shown) {
            left if left == 0 || self.threads().is_empty() => Ok(()),
            left => write!(f, "\n{left} more threads"),
        }
    }
}

fn write_share(f: &mut fmt::Formatter<'_>, threads: usize, of_all: u64) -> fmt::Result {
    if of_all <= 1 { Ok(()) } else { write!(f, " ({threads} of {of_all} threads)") }
}

/// Threads that look alike.
struct Group<'a> {
    first: &'a ThreadReport,
    threads: u64,
    processor: Duration,
}

impl Group<'_> {
    fn is_like(&self, thread: &ThreadReport) -> bool {
        let looks = |thread: &ThreadReport| (thread.state(), thread.system_call());
        looks(self.first) == looks(thread) && self.first.wait_channel() == thread.wait_channel()
    }

    fn add(&mut self, thread: &ThreadReport) {
        self.threads += 1;
        self.processor = self.processor.saturating_add(thread.processor_time());
    }
}

impl fmt::Display for Group<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.first;
        if self.threads > 1 {
            write!(f, "{} threads like ", self.threads)?;
        }
        write!(f, "{} {:?}: {}", first.tid(), first.name(), first.state())?;
        if first.state() != State::Running {
            write!(f, "{}", What(Some(first), " in "))?;
        }
        write!(f, ", {}", Seconds(self.processor))
    }
}

/// What a thread waits in, after the text given, if that is known: ` in futex (futex_do_wait)`.
struct What<'a>(Option<&'a ThreadReport>, &'static str);

impl fmt::Display for What<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Some(thread), before) = *self else { return Ok(()) };
        match (thread.system_call(), thread.wait_channel()) {
            (None, None) => Ok(()),
            (None, Some(function)) => write!(f, "{before}{function}"),
            (Some(call), function) => {
                f.write_str(before)?;
                match call.name() {
                    Some(name) => f.write_str(name)?,
                    None => write!(f, "system call {}", call.number())?,
                }
                function.map_or(Ok(()), |function| write!(f, " ({function})"))
            }
        }
    }
}

struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} s", self.0.as_secs_f64())
    }
}

struct Mebibytes(u64);

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MiB", self.0 as f64 / f64::from(1 << 20))
    }
}

#[cfg(test)]
mod tests {
    use super::super::stat::Stat;
    use super::super::system_call::Call;
    use super::super::thread::Switches;
    use super::*;
    use crate::Sample;
    use proptest::prelude::*;

    const SWITCHES: &[u8] = b"voluntary_ctxt_switches: 3\nnonvoluntary_ctxt_switches: 4\n";

    fn stat(name: &str, letter: u8) -> Stat {
        let state = State::from_letter(letter);
        Stat { name: name.to_owned(), state, processor: Duration::from_millis(1500), threads: 4 }
    }

    fn thread(tid: u32, name: &str, letter: u8, call: &[u8], function: &str) -> ThreadReport {
        ThreadReport {
            tid,
            stat: stat(name, letter),
            wait_channel: (!function.is_empty()).then(|| function.to_owned()),
            call: Call::parse(call),
            switches: None,
            still: true,
        }
    }

    fn report(name: &str, threads: Vec<ThreadReport>) -> Report {
        let letter = threads.first().map_or('S', |thread| thread.state().letter());
        Report { pid: 7, stat: stat(name, letter as u8), tracer: None, threads, sample: None }
    }

    #[test]
    fn it_reads_from_the_whole_to_the_parts() {
        let nr = nix::libc::SYS_futex.to_string();
        let waits = |tid| thread(tid, "pool", b'S', nr.as_bytes(), "futex_do_wait");
        let mut threads = vec![thread(7, "main", b'R', b"running", ""), waits(8), waits(9), waits(10)];
        threads[0].switches = Switches::parse(SWITCHES);
        let report = report("worker", threads).sample(Sample::new().resident(3 << 19).descriptors(14));
        assert_eq!(
            report.to_string(),
            "spinning: 1 of 4 threads runs\n\
             process 7 \"worker\": 4 threads, 1.50 s of processor time, 1.5 MiB resident, 14 descriptors; \
             context switches: 3 voluntary, 4 forced\n\
             7 \"main\": running, 1.50 s\n\
             3 threads like 8 \"pool\": sleeping in futex (futex_do_wait), 4.50 s"
        );
    }

    #[test]
    fn what_a_network_file_system_does_is_told() {
        let nr = nix::libc::SYS_read.to_string();
        let stuck = thread(7, "main", b'D', nr.as_bytes(), "nfs_wait_bit_killable");
        let text = report("worker", vec![stuck]).to_string();
        let line = "in an uninterruptible wait: read (nfs_wait_bit_killable) (1 of 4 threads)\n";
        assert!(text.starts_with(line), "{text}");
        assert!(text.ends_with("\n3 more threads"), "{text}");
    }

    #[test]
    fn what_may_not_be_read_is_left_out() {
        let text = report("worker", vec![]).to_string();
        assert_eq!(text, "sleeping\nprocess 7 \"worker\": 4 threads, 1.50 s of processor time");
    }

    proptest! {
        #[test]
        fn no_name_reaches_the_terminal_as_it_is(name in "\\PC*|[\u{0}-\u{1f}\u{202e}\"]{0,15}", letter: u8) {
            let text = report(&name, vec![thread(7, &name, letter, b"-1", "")]).to_string();
            prop_assert_eq!(text.lines().count(), 4, "{}", text);
            prop_assert!(!text.contains(['\u{1b}', '\u{202e}', '\r', '\0']), "{}", text);
        }
    }
}
