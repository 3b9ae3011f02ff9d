//! Keeps commands running, with nothing but this crate.
//!
//! `cargo run -p cluster-supervisor --example supervise_only -- 'web=python3 -m http.server 8000' 'tick=while sleep 1; do date; done'`
//!
//! Each argument is a name and a line for the shell. Ctrl-C stops all, a second one at once. Restarts are told on stderr, with
//! the last words of whoever died. The exit code is 70 if one of them was given up.
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use cluster_supervisor::os::{ChildSpec, Error, Executable, Runner, Service};
use cluster_supervisor::{Backoff, Budget, Event, Policy, Restart, StopSequence, StopSignal};

fn main() -> ExitCode {
    // For settings that need code between fork and exec: here, to die with this process.
    cluster_supervisor::os::trampoline();
    let commands: Vec<String> = std::env::args().skip(1).collect();
    if commands.is_empty() || commands.iter().any(|command| !command.contains('=')) {
        eprintln!("usage: supervise_only NAME=COMMAND...");
        return ExitCode::from(2);
    }
    match supervise(&commands) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(70),
        Err(error) => {
            eprintln!("supervise_only: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether none of them was given up.
fn supervise(commands: &[String]) -> Result<bool, Error> {
    let policy = Policy::new()
        .restart(Restart::OnFailure)
        .budget(Budget::new(3, Duration::from_secs(60)))
        .backoff(Backoff::new().base(Duration::from_millis(100)))
        .stop(StopSequence::new().drain(Duration::from_secs(1)).terminate(Duration::from_secs(1)));
    let mut runner = Runner::new(policy);
    for (name, line) in commands.iter().filter_map(|command| command.split_once('=')) {
        let shell = Executable::find("sh")?;
        // A SIGKILL of this process ends the shell, too (not what that has started).
        let spec = ChildSpec::new(shell).args(["-c", line]).death_signal(StopSignal::Kill);
        runner.add(Service::new(name, spec))?;
    }
    let given_up = runner.run(|news| {
        // The rest is for the curious.
        if !matches!(news.event, Event::Starting { .. } | Event::Online { .. }) {
            // In one piece: `eprintln` writes several, and a line of a child's could come between. Without stderr nobody listens.
            let _ = std::io::stderr().write_all(format!("{news}\n").as_bytes());
        }
    })?;
    Ok(given_up.is_empty())
}
