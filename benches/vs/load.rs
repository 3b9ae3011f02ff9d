//! Load and what came of it: from wrk, or from a small client that needs nothing installed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::Kept;
use crate::figures::percentile;
use crate::interrupt::wait_for;
use crate::peers::Server;
use crate::process::{Process, find_program, version};
use crate::{Result, client};

/// Connections that wrk keeps open at a time.
pub(crate) const CONNECTIONS: u32 = 32;
/// Requests of the built-in client.
const REQUESTS: u32 = 200;
/// Its patience for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A way of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Load {
    PerRequest,
    KeepAlive,
}

impl Load {
    pub(crate) const ALL: [Self; 2] = [Self::PerRequest, Self::KeepAlive];

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::PerRequest => "A connection per request",
            Self::KeepAlive => "Keep-alive",
        }
    }
}

/// One measurement.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) requests: u64,
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// Connections that failed, and answers that were not 2xx or 3xx.
    pub(crate) errors: u64,
    /// How many processes answered, where the client looks.
    pub(crate) answered_by: Option<usize>,
}

/// Who asks.
#[derive(Debug)]
pub(crate) enum Generator {
    Wrk(PathBuf),
    BuiltIn,
}

impl Generator {
    /// wrk, if it is installed.
    pub(crate) fn wrk() -> Result<Self> {
        let program = find_program("wrk");
        let remedy = "wrk makes the load and is not installed: apt-get install wrk (or try --smoke, which needs nothing)";
        Ok(Self::Wrk(program.ok_or(remedy)?))
    }

    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Wrk(program) => format!("wrk {}", version(program, "-v")),
            Self::BuiltIn => format!("{REQUESTS} requests of the built-in client"),
        }
    }

    /// Long enough for Node to compile what it runs.
    pub(crate) fn warm_up(&self, server: &mut Server) -> Result<()> {
        match self {
            Self::Wrk(_) => self.run(server, Load::PerRequest, 1).map(drop),
            Self::BuiltIn => Ok(()),
        }
    }

    pub(crate) fn run(&self, server: &mut Server, load: Load, seconds: u32) -> Result<Sample> {
        let sample = match self {
            Self::Wrk(program) => {
                let mut command = Command::new(program);
                command.args(["-t1", "--latency", "-c", &CONNECTIONS.to_string(), "-d"]);
                command.arg(format!("{seconds}s"));
                if load == Load::PerRequest {
                    command.args(["-H", "Connection: close"]);
                }
                command.arg(format!("http://{}/", server.address()));
                command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
                let mut wrk = Process::start("wrk", &mut command)?;
                let patience = Duration::from_secs(u64::from(seconds) + 30);
                wait_for("wrk", patience, || wrk.exited())?;
                let output = wrk.into_output()?;
                parse(&output).ok_or_else(|| format!("wrk reported no figures for {server}:\n{output}"))?
            }
            Self::BuiltIn => ask_in_turn(server, load)?,
        };
        server.check()?;
        Ok(sample)
    }
}

fn ask_in_turn(server: &Server, load: Load) -> Result<Sample> {
    let (mut times, mut pids, mut errors) = (Vec::new(), BTreeSet::new(), 0);
    let mut kept = match load {
        Load::PerRequest => None,
        Load::KeepAlive => Some(Kept::open(server.address(), PATIENCE)?),
    };
    let begin = Instant::now();
    for _ in 0..REQUESTS {
        crate::interrupt::check()?;
        let asked = Instant::now();
        let answer = match &mut kept {
            None => client::get(server.address(), PATIENCE),
            Some(kept) => kept.ask("/"),
        };
        match answer {
            Ok(body) => pids.extend(client::pid(&body)),
            Err(error) => {
                eprintln!("a request failed: {error}");
                errors += 1;
            }
        }
        times.push(asked.elapsed());
    }
    let per_second = f64::from(REQUESTS) / begin.elapsed().as_secs_f64();
    times.sort_unstable();
    let (p50, p99) = (percentile(&times, 50), percentile(&times, 99));
    // One connection is one worker's.
    let answered_by = kept.is_none().then_some(pids.len());
    Ok(Sample { requests: REQUESTS.into(), per_second, p50, p99, errors, answered_by })
}

/// Reads what `wrk --latency` prints. A run without a single answer has no figures.
fn parse(output: &str) -> Option<Sample> {
    let value = |name: &str| output.lines().find_map(|line| line.trim_start().strip_prefix(name));
    let duration = |name: &str| parse_duration(value(name)?.trim());
    // `Socket errors: connect 0, read 12, write 0, timeout 0`, only if there were any.
    let broken = value("Socket errors:")
        .map_or(0, |counts| counts.split([' ', ',']).filter_map(|word| word.parse::<u64>().ok()).sum());
    let refused = value("Non-2xx or 3xx responses:").map_or(Some(0), |count| count.trim().parse().ok())?;
    let per_second = value("Requests/sec:")?.trim().parse().ok().filter(|rate| *rate > 0.0)?;
    // `18923 requests in 1.00s, 2.50MB read`
    let requests = output.lines().find_map(|line| line.split_once(" requests in ")?.0.trim().parse().ok())?;
    let (p50, p99) = (duration("50%")?, duration("99%")?);
    Some(Sample { requests, per_second, p50, p99, errors: broken + refused, answered_by: None })
}

/// `1.27ms`
fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit);
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: &str = "\
Running 1s test @ http://127.0.0.1:8080/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.31ms  412.10us   9.02ms   85.12%
    Req/Sec    19.02k     1.10k   21.00k    70.00%
  Latency Distribution
     50%  980.00us
     75%    1.40ms
     90%    1.71ms
     99%    2.52ms
  18923 requests in 1.00s, 2.50MB read
";

    #[test]
    fn figures_of_a_clean_run_are_read() {
        let sample = parse(&format!("{CLEAN}Requests/sec:  18923.11\nTransfer/sec:      2.50MB\n")).unwrap();
        let (p50, p99) = (Duration::from_micros(980), Duration::from_micros(2520));
        let expected =
            Sample { requests: 18923, per_second: 18923.11, p50, p99, errors: 0, answered_by: None };
        assert_eq!(sample, expected);
    }

    #[test]
    fn errors_of_all_kinds_are_summed() {
        let errors = "  Socket errors: connect 1, read 20, write 300, timeout 4000\n  Non-2xx or 3xx responses: 50000\n";
        let sample = parse(&format!("{CLEAN}{errors}Requests/sec:  18923.11\n")).unwrap();
        assert_eq!(sample.errors, 54321);
    }

    #[test]
    fn a_run_without_answers_has_no_figures() {
        assert_eq!(parse(&format!("{CLEAN}Requests/sec:      0.00\n")), None);
        assert_eq!(parse("unable to connect to 127.0.0.1:8080 Connection refused\n"), None);
    }
}
