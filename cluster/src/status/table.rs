//! The status as a table, for people.

use std::fmt;
use std::time::Duration;

use super::{ClusterStatus, WorkerStatus};

/// What stands over each column. Figures stand to the right of theirs, words to the left.
const HEADERS: [&str; 12] =
    ["slot", "gen", "pid", "state", "up", "restarts", "active", "requests", "errors", "memory", "cpu", "lag"];

/// The column of the one word.
const STATE: usize = 3;

/// Written as a table: a line about the cluster, one for each worker, the totals, and what the application counts.
///
/// ```text
/// 2 workers, 2 ready; up 3m 20s; pid 4711; on 127.0.0.1:3000
/// slot  gen   pid  state      up  restarts  active  requests  errors    memory    cpu    lag
///    0    2  4720  ready  1m 10s         1       3      8012       1  21.5 MiB  31.0%  0.1ms
///    1    1  4713  ready  3m 20s         0       2     23840       0  22.0 MiB  30.2%  0.2ms
/// created 3, died 1, restarted 1, replaced 0; 51200 requests (17066.7 a worker), 4 errors; 400 health checks
/// ```
impl fmt::Display for ClusterStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let living = self.workers.iter().filter(|worker| worker.pid.is_some()).count();
        let ready = self.workers.iter().filter(|worker| worker.state == "ready").count();
        let up = Age(self.uptime_ms);
        write!(f, "{living} workers, {ready} ready; up {up}; pid {}", self.primary_pid)?;
        for (nth, address) in self.listening.iter().enumerate() {
            write!(f, "{}{address}", if nth == 0 { "; on " } else { ", " })?;
        }
        writeln!(f)?;
        write_rows(f, &self.workers.iter().map(row).collect::<Vec<_>>())?;
        let totals = &self.totals;
        write!(
            f,
            "created {}, died {}, restarted {}, replaced {}; {} requests ({:.1} a worker), {} errors; {} health checks",
            totals.created,
            totals.died,
            totals.restarted,
            totals.replaced,
            totals.requests,
            totals.requests_per_worker(),
            totals.errors,
            totals.health_checks,
        )?;
        for (nth, (name, sum)) in self.counters.iter().enumerate() {
            write!(f, "{}{} {sum}", if nth == 0 { "\n" } else { ", " }, name.escape_debug())?;
        }
        Ok(())
    }
}

fn row(worker: &WorkerStatus) -> [String; HEADERS.len()] {
    let known = |figure: Option<String>| figure.unwrap_or_else(|| "-".to_owned());
    let lives = worker.pid.is_some();
    let own = |figure: String| known(lives.then_some(figure));
    [
        worker.slot.to_string(),
        own(worker.generation.to_string()),
        known(worker.pid.map(|pid| pid.to_string())),
        worker.state.clone(),
        own(Age(worker.uptime_ms).to_string()),
        worker.restarts.to_string(),
        own(worker.active.to_string()),
        own(worker.requests.to_string()),
        own(worker.errors.to_string()),
        known(worker.memory_bytes.map(|bytes| format!("{:.1} MiB", bytes as f64 / 1_048_576.0))),
        known(worker.cpu_permille.map(|permille| format!("{:.1}%", f64::from(permille) / 10.0))),
        own(format!("{:.1}ms", worker.lag_us as f64 / 1000.0)),
    ]
}

fn write_rows(f: &mut fmt::Formatter<'_>, rows: &[[String; HEADERS.len()]]) -> fmt::Result {
    let width = |(column, header): (usize, &&str)| {
        rows.iter().map(|row| row[column].len()).max().unwrap_or(0).max(header.len())
    };
    let widths: Vec<usize> = HEADERS.iter().enumerate().map(width).collect();
    write_row(f, &HEADERS, &widths)?;
    rows.iter().try_for_each(|row| write_row(f, &row.each_ref().map(String::as_str), &widths))
}

fn write_row(f: &mut fmt::Formatter<'_>, row: &[&str], widths: &[usize]) -> fmt::Result {
    for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
        let gap = if column == 0 { "" } else { "  " };
        match column {
            STATE => write!(f, "{gap}{cell:<width$}")?,
            _ => write!(f, "{gap}{cell:>width$}")?,
        }
    }
    writeln!(f)
}

/// A length of time in milliseconds, in its two largest units.
struct Age(u64);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = Duration::from_millis(self.0).as_secs();
        match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
            (0, 0, 0, seconds) => write!(f, "{seconds}s"),
            (0, 0, minutes, seconds) => write!(f, "{minutes}m {seconds}s"),
            (0, hours, minutes, _) => write!(f, "{hours}h {minutes}m"),
            (days, hours, _, _) => write!(f, "{days}d {hours}h"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_worker_and_the_totals() {
        let expected = "\
2 workers, 1 ready; up 3m 20s; pid 4711; on 127.0.0.1:3000, unix:/run/app.sock
slot  gen   pid  state         up  restarts  active  requests  errors    memory    cpu    lag
   0    2  4720  ready     1m 10s         1       3      8012       1  21.5 MiB  31.0%  0.1ms
   0    3  4799  starting      0s         1       0         0       0         -      -  0.0ms
   1    -     -  gave-up        -        10       -         -       -         -      -      -
created 14, died 12, restarted 11, replaced 0; 51200 requests (3657.1 a worker), 4 errors; 400 health checks
cache\\nhits 7, uploads 12";
        assert_eq!(samples::status().to_string(), expected);
    }

    #[test]
    fn ages_have_two_units() {
        let age = |seconds: u64| Age(seconds * 1000 + 999).to_string();
        let ages = [0, 59, 60, 3599, 3600, 86_399, 86_400, 100 * 86_400].map(age);
        assert_eq!(ages, ["0s", "59s", "1m 0s", "59m 59s", "1h 0m", "23h 59m", "1d 0h", "100d 0h"]);
        assert_eq!(Age(u64::MAX).to_string(), "213503982334d 14h");
    }
}
