//! System calls that a connection costs the primary and the worker.

use std::fmt::{self, Write};
use std::time::Duration;

use crate::peers::{Peer, Peers, Server};
use crate::strace::{Calls, Strace};
use crate::table::Section;
use crate::{Args, Result, closed_loop};

pub(crate) const PEERS: [Peer; 2] = [Peer::Handoff, Peer::NodeRr];
const WORKERS: usize = 2;
/// While strace counts.
const CONNECTIONS: u64 = 2000;
/// Without and with others to share a wake-up or a message with.
const AT_A_TIME: [usize; 2] = [1, 32];
/// For what follows the last answer: the primary closes its copy a little later.
const AFTERMATH: Duration = Duration::from_millis(50);
/// Calls rarer than this are only in the sum.
const RARE: f64 = 0.05;

/// Whom strace watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Primary,
    Worker,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(if *self == Self::Primary { "primary" } else { "worker" })
    }
}

pub(crate) fn measure(args: &Args, peers: &Peers, chosen: &[Peer]) -> Result<Section> {
    let strace = match Strace::find() {
        Ok(strace) => strace,
        Err(reason) => return Ok(skipped(reason)),
    };
    let connections = if args.smoke { 100 } else { CONNECTIONS };
    let mut text = format!(
        "### System calls for a connection\n\n\
         Counted by strace, which slows down what it watches, over {connections} connections of one request; {WORKERS} workers.\n\n\
         | server | process | at a time | calls | of which |\n\
         |---|---|---:|---:|---|\n"
    );
    let subjects = [
        (Peer::Handoff, Subject::Primary),
        (Peer::Handoff, Subject::Worker),
        (Peer::NodeRr, Subject::Primary),
    ];
    let mut errors = 0;
    for (peer, subject) in subjects.into_iter().filter(|(peer, _)| chosen.contains(peer)) {
        eprintln!("system calls: {peer}, {subject}");
        let mut server = peers.start(peer, WORKERS)?;
        errors += closed_loop::run(&mut server, connections / 10, WORKERS)?.errors;
        let pid = match subject {
            Subject::Primary => server.primary(),
            Subject::Worker => *server.workers()?.first().ok_or("the server has no workers")?,
        };
        for at_a_time in AT_A_TIME {
            let counted = match count(&strace, &mut server, pid, subject, connections, at_a_time) {
                Ok(counted) => counted,
                Err(Failed::Attach(reason)) => return Ok(skipped(&reason)),
                Err(Failed::Other(error)) => return Err(error),
            };
            errors += counted.errors;
            let _ = writeln!(text, "| {peer} | {subject} | {at_a_time} | {counted} |");
        }
        server.stop()?;
    }
    Ok(Section::new(text, errors))
}

fn skipped(reason: &str) -> Section {
    eprintln!("system calls are not counted: {reason}");
    Section::note(&format!("System calls were not counted: {reason}"))
}

/// What one process did for so many connections.
#[derive(Debug)]
struct Counted {
    calls: Vec<Calls>,
    connections: u64,
    errors: u64,
}

enum Failed {
    /// strace is not permitted.
    Attach(String),
    Other(Box<dyn std::error::Error>),
}

impl<E: Into<Box<dyn std::error::Error>>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

fn count(
    strace: &Strace,
    server: &mut Server,
    pid: u32,
    subject: Subject,
    connections: u64,
    at_a_time: usize,
) -> std::result::Result<Counted, Failed> {
    let attached = strace.attach(pid, server.folder());
    crate::interrupt::check()?;
    let attached = attached.map_err(|error| Failed::Attach(error.to_string()))?;
    let served = closed_loop::run(server, connections, at_a_time)?;
    std::thread::sleep(AFTERMATH);
    let calls = attached.detach()?;
    let connections = match subject {
        Subject::Primary => connections,
        Subject::Worker => served.by(pid),
    };
    Ok(Counted { calls, connections, errors: served.errors })
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = |calls: u64| calls as f64 / self.connections.max(1) as f64;
        let sum = self.calls.iter().map(|row| row.calls).sum();
        let frequent = self.calls.iter().filter(|row| each(row.calls) >= RARE);
        let frequent: Vec<String> =
            frequent.map(|row| format!("{} {:.2}", row.name, each(row.calls))).collect();
        write!(f, "{:.2} | {}", each(sum), frequent.join(", "))
    }
}
