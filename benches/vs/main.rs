//! Our HTTP example side by side with its peers, on loopback.
//!
//! `cargo run --release -p benches --bin vs`; `--help` says what it measures, `benches/README.md` how to read it.
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

#[path = "../../examples/http/app.rs"]
mod app;
mod client;
mod interrupt;
mod load;
mod memory;
mod peers;
mod proc;
mod process;
mod recovery;
mod table;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

use crate::load::{Generator, Load};
use crate::memory::Footprint;
use crate::peers::{Peer, Peers};
use crate::recovery::Recovery;
use crate::table::Report;

/// Whatever goes wrong ends the run; the message says which step it was.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Workers in the recovery runs: one dies, one goes on.
const RECOVERY_WORKERS: usize = 2;

/// Runs our HTTP example side by side with its peers on loopback and prints how they compare.
///
/// Measures requests per second and latency under wrk (a connection per request, and keep-alive), the time from a
/// killed worker to its successor's first answer, and memory. The servers take turns within each round, and every
/// ratio is a median of ratios within a round, so that a machine that is busy at times distorts all alike.
///
/// Peers that are not installed are left out and named at the end. To have all of them:
/// apt-get install wrk nginx-light nodejs
#[derive(Parser, Debug)]
#[command(
    name = "vs",
    after_help = "The table goes to stdout, progress to stderr. Run it from a release build:\n  \
                  cargo run --release -p benches --bin vs -- --rounds 3 --only handoff,nginx"
)]
struct Args {
    /// Rounds of load; in each, every server is started, warmed up, measured and stopped once. 0: no load.
    #[arg(long, value_name = "R", default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement; there are two for each server and round.
    #[arg(long, value_name = "S", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Worker processes of each server that has workers; recoveries always have two.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Workers killed, for each of `handoff` and `node-rr`. 0: none.
    #[arg(long, value_name = "K", default_value_t = 10)]
    recoveries: usize,
    /// Only these servers; ratios need `handoff` among them.
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    only: Vec<Peer>,
    /// For CI: only our own servers, a few hundred requests from a built-in client, no wrk. Works in a debug build; the
    /// figures mean nothing, but any failure is an error.
    #[arg(long, conflicts_with_all = ["rounds", "seconds", "recoveries", "only"])]
    smoke: bool,
    /// Be a worker of `shared`, on the listening socket that is stdin.
    #[arg(long, hide = true, exclusive = true, value_name = "SLOT")]
    shared_worker: Option<u32>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match args.shared_worker {
        Some(slot) => peers::shared::work(slot),
        None => interrupt::watch().and_then(|()| run(args)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vs: {error}");
            if interrupt::check().is_err() { ExitCode::from(130) } else { ExitCode::FAILURE }
        }
    }
}

fn run(mut args: Args) -> Result<()> {
    let generator = if args.smoke {
        (args.rounds, args.recoveries) = (1, 2);
        args.only = vec![Peer::Handoff, Peer::Shared, Peer::Single];
        Generator::BuiltIn
    } else {
        Generator::wrk()?
    };
    let wanted = if args.only.is_empty() { Peer::ALL.to_vec() } else { args.only.clone() };
    // In our order and each once, whatever was typed.
    let wanted: Vec<Peer> = Peer::ALL.into_iter().filter(|peer| wanted.contains(peer)).collect();

    let peers = Peers::find()?;
    let (chosen, skipped): (Vec<Peer>, Vec<Peer>) =
        wanted.into_iter().partition(|peer| peers.is_installed(*peer));
    for peer in &skipped {
        eprintln!("skipping {peer}: not installed");
    }
    if chosen.is_empty() {
        return Err("none of these servers is installed: apt-get install nginx-light nodejs".into());
    }

    let mut report = Report::new(&args, &generator, &peers);
    load_rounds(&args, &generator, &peers, &chosen, &mut report)?;
    recoveries(&args, &peers, &chosen, &mut report)?;
    footprints(&args, &generator, &peers, &chosen, &mut report)?;
    report.print(&chosen, &skipped);
    if args.smoke { report.check() } else { Ok(()) }
}

/// The order rotates, so that no server always runs after the same one.
fn load_rounds(
    args: &Args,
    generator: &Generator,
    peers: &Peers,
    chosen: &[Peer],
    report: &mut Report,
) -> Result<()> {
    let mut order = chosen.to_vec();
    for round in 1..=args.rounds {
        for peer in &order {
            eprintln!("round {round} of {}: {peer}", args.rounds);
            let mut server = peers.start(*peer, args.workers.into())?;
            generator.warm_up(&mut server)?;
            for load in generator.loads() {
                report.add_sample(*peer, *load, generator.run(&mut server, *load, args.seconds)?);
            }
            server.stop()?;
        }
        order.rotate_left(1);
    }
    Ok(())
}

/// A server of its own for each: a second crash in a row is, rightly, restarted later.
fn recoveries(args: &Args, peers: &Peers, chosen: &[Peer], report: &mut Report) -> Result<()> {
    for nth in 1..=args.recoveries {
        for peer in chosen.iter().filter(|peer| matches!(peer, Peer::Handoff | Peer::NodeRr)) {
            eprintln!("recovery {nth} of {}: {peer}", args.recoveries);
            let mut server = peers.start(*peer, RECOVERY_WORKERS)?;
            report.add_recovery(*peer, Recovery::measure(&mut server, RECOVERY_WORKERS)?);
            server.stop()?;
        }
    }
    Ok(())
}

fn footprints(
    args: &Args,
    generator: &Generator,
    peers: &Peers,
    chosen: &[Peer],
    report: &mut Report,
) -> Result<()> {
    for peer in chosen.iter().filter(|peer| matches!(peer, Peer::Handoff | Peer::NodeRr | Peer::Nginx)) {
        eprintln!("memory: {peer}");
        let mut server = peers.start(*peer, args.workers.into())?;
        generator.run(&mut server, Load::PerRequest, 1)?;
        report.add_footprint(*peer, Footprint::of(server.primary())?);
        server.stop()?;
    }
    Ok(())
}
