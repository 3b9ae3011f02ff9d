//! `cargo run --release -p benches --bin simulate`: how good the picks of `cluster-balancer` are, in a queueing simulation.
//!
//! ```text
//!  arrivals (Poisson, bursts) ─▶ Pool::pick by the strategy ─▶ a queue per worker ─▶ service (exponential, heavy-tailed;
//!                                        ▲                                          slow, stalling, unequal workers)
//!                                        └── counts exact, gauges old ◀── ends
//! ```
//!
//! Times are in mean service times. All strategies of a scenario get the same arrivals and the same work. Before it judges
//! anything, the simulator is compared with what theory says of M/M/1 and M/M/n.
#![allow(missing_docs, reason = "a binary")]
#![allow(clippy::print_stdout, reason = "it prints")]

mod gates;
mod keys;
mod plot;
mod queueing;
mod scenario;
mod table;
mod theory;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Simulates how cluster-balancer's strategies spread work, and prints how long items took as a ratio to exact
/// join-the-shortest-queue.
///
/// Ends with 1 when a gate is not met.
#[derive(Debug, Parser)]
struct Args {
    /// Items in each run.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    jobs: usize,

    /// What all randomness comes from.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,

    /// Writes plots (SVG) into this folder.
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,

    /// A short run: that it works, not how good anything is.
    #[arg(long)]
    smoke: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let jobs = if args.smoke { 5_000 } else { args.jobs };
    println!("{jobs} items per run, seed {}. Times in mean service times.\n", args.seed);
    let checked = theory::check(jobs, args.seed);
    let rows: Vec<_> = scenario::all()
        .iter()
        .map(|scenario| {
            eprintln!("{}", scenario.name);
            table::Row::run(scenario, jobs, args.seed)
        })
        .collect();
    table::print(&rows);
    let moved = keys::print(args.seed);
    let met = gates::print(&rows, &moved);
    if let Some(folder) = &args.plots
        && let Err(error) = plot::write(folder, &rows)
    {
        eprintln!("could not write the plots to {}: {error}", folder.display());
        return ExitCode::FAILURE;
    }
    // A short run shows nothing but that it runs.
    if args.smoke || (checked && met) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
