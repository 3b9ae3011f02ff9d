//! Our IPC side by side with its peers, between two processes.
//!
//! `cargo run --release -p benches --bin vs_ipc`; `--help` says what it measures.
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

mod args;
mod child;
mod cpus;
mod interrupt;
mod job;
mod measure;
mod peers;
mod table;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

use crate::args::Args;
use crate::cpus::Cpus;
use crate::job::{Case, Job};
use crate::peers::Peer;
use crate::table::Report;

/// Whatever goes wrong ends the run; the message says which step it was.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match args.serve.as_deref() {
        Some([peer, job]) => child::serve(peer, job),
        _ => interrupt::watch().and_then(|()| run(&args)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vs_ipc: {error}");
            if interrupt::check().is_err() { ExitCode::from(130) } else { ExitCode::FAILURE }
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let (chosen, skipped): (Vec<_>, Vec<_>) = peers::all()
        .into_iter()
        .filter(|peer| args.wants(peer.name()))
        .partition(|peer| peer.missing().is_none());
    for peer in &skipped {
        eprintln!("skipping {}: {}", peer.name(), peer.missing().unwrap_or_default());
    }
    if chosen.is_empty() {
        return Err("none of these peers is here".into());
    }
    let mut report = Report::new(args, &chosen);
    let plan = calibrate(args, &chosen)?;
    for round in 1..=args.rounds() {
        for (case, jobs) in &plan {
            eprintln!("round {round} of {}: {case}", args.rounds());
            // The order rotates, so that no peer always runs after the same one.
            let first = round % jobs.len();
            for (peer, job) in jobs.iter().cycle().skip(first).take(jobs.len()) {
                report.add(*case, peer.name(), measure::speed(*peer, job)?);
            }
        }
    }
    report.print(&skipped);
    Ok(())
}

/// What is measured in each round: for each case the peers that can do it, each with as many operations as
/// take it the time asked for.
type Plan<'a> = Vec<(Case, Vec<(&'a dyn Peer, Job)>)>;

fn calibrate<'a>(args: &Args, chosen: &'a [Box<dyn Peer>]) -> Result<Plan<'a>> {
    let cpus = Cpus::allowed()?;
    let mut plan = Plan::new();
    for case in args.cases() {
        let at = cpus.place(case.place)?;
        let mut jobs = Vec::new();
        for peer in chosen.iter().map(Box::as_ref).filter(|peer| peer.can(&case)) {
            eprintln!("finding the number of operations: {case}, {}", peer.name());
            let mut job = Job::new(case, at);
            if let Some(target) = args.target() {
                job = measure::calibrate(peer, job, target)?;
            }
            jobs.push((peer, job));
        }
        if !jobs.is_empty() {
            plan.push((case, jobs));
        }
    }
    Ok(plan)
}
