//! `cargo run --release -p benches --bin health_sim`: how soon `cluster-health` finds who hangs, and how often it is wrong.
//!
//! ```text
//!  a worker's beats (quiet, loaded, pausing, hourly overload) ─▶ Monitor with one detector ─▶ suspicions while it lives: false
//!  stalls of the monitor, alone or with the worker ────────────▶        in virtual time        after it hangs: found so late
//! ```
//!
//! All detectors of a trace get the same delays. Where a rate is known in closed form, the simulator is held to it before it judges
//! anything.
#![allow(missing_docs, reason = "a binary")]
#![allow(clippy::print_stdout, reason = "it prints")]

mod contender;
mod gates;
mod plot;
mod table;
mod trace;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Simulates how the detectors of cluster-health do on beats of workers that live, and of those that hang.
///
/// Ends with 1 when a gate is not met.
#[derive(Debug, Parser)]
struct Args {
    /// Hours of each trace.
    #[arg(long, default_value_t = 100, value_name = "N")]
    hours: u32,

    /// Hangs on each trace.
    #[arg(long, default_value_t = 300, value_name = "N")]
    hangs: u32,

    /// What all randomness comes from.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,

    /// Writes a plot (SVG) into this folder.
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,

    /// A short run: that it works, not how good anything is.
    #[arg(long)]
    smoke: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let (hours, hangs) = if args.smoke { (1, 5) } else { (args.hours, args.hangs) };
    println!("{hours} hours and {hangs} hangs on each trace, seed {}.\n", args.seed);
    let rows: Vec<_> = contender::all()
        .into_iter()
        .map(|contender| {
            eprintln!("{}", contender.name);
            table::Row::run(contender, hours, hangs, args.seed)
        })
        .collect();
    table::print(&rows);
    let met = gates::print(&rows);
    if let Some(folder) = &args.plots
        && let Err(error) = plot::write(folder, &rows)
    {
        eprintln!("could not write the plot to {}: {error}", folder.display());
        return ExitCode::FAILURE;
    }
    // A short run shows nothing but that it runs.
    if args.smoke || met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
