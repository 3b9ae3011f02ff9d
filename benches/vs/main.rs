//! Our HTTP example side by side with its peers, on loopback.
//!
//! `cargo run --release -p benches --bin vs`; `--help` says what it measures, `benches/README.md` how to read it.
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

#[path = "../../examples/http/app.rs"]
mod app;
mod blocked;
mod busy;
mod client;
mod closed_loop;
mod cost;
mod cpu;
mod fairness;
mod figures;
mod gates;
mod growth;
mod http;
mod interrupt;
mod load;
mod memory;
mod meter;
mod open_loop;
mod peers;
mod proc;
mod process;
mod recovery;
mod strace;
mod syscalls;
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
/// killed worker to its successor's first answer, and memory; or, if any of --blocked, --busy, --cost, --cpu, --fairness,
/// --growth and --syscalls is given, only these, with clients of its own (--cost: with wrk). The servers take turns within
/// each round, and every ratio is a median of ratios within a round, so that a machine that is busy at times distorts all
/// alike. Where a gate is not met, it says so and fails (in a release build).
///
/// Peers that are not installed are left out and named at the end. To have all of them:
/// apt-get install wrk nginx-light nodejs strace
#[derive(Parser, Debug)]
#[command(
    name = "vs",
    after_help = "The tables go to stdout, progress to stderr. Run it from a release build:\n  \
                  cargo run --release -p benches --bin vs -- --rounds 3 --only handoff,nginx\n  \
                  cargo run --release -p benches --bin vs -- --busy --fairness"
)]
struct Args {
    /// Rounds of load; in each, every server is started, warmed up, measured and stopped once. 0: no load. Also the
    /// rounds of --blocked, --busy, --cost, --cpu, --fairness and --growth.
    #[arg(long, value_name = "R", default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement; under load and for --cost there are two for each server and round, for --busy one. For
    /// --cpu, what one worker takes, roughly.
    #[arg(long, value_name = "S", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Worker processes of each server that has workers, under load; what else is measured has numbers of its own.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Workers killed, for each of `handoff` and `node-rr`. 0: none.
    #[arg(long, value_name = "K", default_value_t = 10)]
    recoveries: usize,
    /// Only these servers, wherever they take part; ratios need `handoff` among them. `handoff-rr` takes part in the load
    /// only if it is named here.
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    only: Vec<Peer>,
    /// Requests per second, processor time per request, cores in use and errors: one process, one worker and two, and Node.
    /// Needs wrk.
    #[arg(long)]
    cost: bool,
    /// Latency of short requests while one of two workers is blocked for five seconds, to that before.
    #[arg(long)]
    blocked: bool,
    /// Requests that are work for the processor, by two workers and by one.
    #[arg(long)]
    cpu: bool,
    /// Latency of short requests while one of two workers burns its processor in long handlers.
    #[arg(long)]
    busy: bool,
    /// Short requests a second under --busy.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 500, requires = "busy", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// How evenly connections, short and lasting, are spread over four workers.
    #[arg(long)]
    fairness: bool,
    /// The primary's processor time for a connection with 2, 8 and 32 workers, and 100, 1,000 and 10,000 idle connections
    /// (for which the limit of open files, ulimit -Hn, must be high enough).
    #[arg(long)]
    growth: bool,
    /// System calls for a connection, in the primary and in a worker. Needs strace and the right to attach it.
    #[arg(long)]
    syscalls: bool,
    /// For CI: a little of everything, only with our own servers and a few hundred requests from built-in clients, no wrk.
    /// Works in a debug build; the figures mean nothing, but any failure is an error.
    #[arg(long, conflicts_with_all = ["rounds", "seconds", "recoveries", "only", "cost", "blocked", "cpu", "busy", "fairness", "growth", "syscalls"])]
    smoke: bool,
    /// Be a worker of `shared`, on the listening socket that is stdin.
    #[arg(long, hide = true, exclusive = true, value_name = "SLOT")]
    shared_worker: Option<u32>,
}

impl Args {
    /// Whether to measure what it measures unless asked for something else.
    fn wants_load(&self) -> bool {
        let others =
            [self.cost, self.blocked, self.cpu, self.busy, self.fairness, self.growth, self.syscalls];
        !others.contains(&true)
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match args.shared_worker {
        Some(slot) => peers::shared::work(slot).map(|()| true),
        None => interrupt::watch().and_then(|()| run(args)),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("vs: {error}");
            if interrupt::check().is_err() { ExitCode::from(130) } else { ExitCode::FAILURE }
        }
    }
}

/// Whether all gates are met.
fn run(mut args: Args) -> Result<bool> {
    let generator = if args.smoke {
        (args.rounds, args.seconds, args.recoveries) = (1, 1, 2);
        args.only = vec![Peer::Handoff, Peer::ClusterShared, Peer::ReusePort, Peer::Shared, Peer::Single];
        Some(Generator::BuiltIn)
    } else if args.wants_load() || args.cost {
        Some(Generator::wrk()?)
    } else {
        None
    };
    let is_wanted = |peer: &Peer| args.only.is_empty() || args.only.contains(peer);
    // In our order and each once, whatever was typed.
    let wanted: Vec<Peer> = Peer::ALL.into_iter().filter(is_wanted).collect();

    let peers = Peers::find()?;
    let (chosen, skipped): (Vec<Peer>, Vec<Peer>) =
        wanted.into_iter().partition(|peer| peers.is_installed(*peer));
    for peer in &skipped {
        eprintln!("skipping {peer}: not installed");
    }
    if chosen.is_empty() {
        return Err("none of these servers is installed: apt-get install nginx-light nodejs".into());
    }

    let mut report = Report::new(&args, generator.as_ref(), &peers);
    if let Some(generator) = generator.as_ref().filter(|_| args.wants_load()) {
        load_rounds(&args, generator, &peers, &chosen, &mut report)?;
        recoveries(&args, &peers, &chosen, &mut report)?;
        footprints(&args, generator, &peers, &chosen, &mut report)?;
    }
    if let Some(generator) = generator.as_ref().filter(|_| args.cost || args.smoke) {
        report.add(cost::measure(&args, generator, &peers, &chosen)?);
    }
    special_measurements(&args, &peers, &chosen, &mut report)?;
    report.print(&chosen, &skipped);
    if args.smoke {
        report.check()?;
    }
    Ok(report.gates_are_met())
}

/// Those with clients of their own.
fn special_measurements(args: &Args, peers: &Peers, chosen: &[Peer], report: &mut Report) -> Result<()> {
    let of = |those: &[Peer]| those.iter().copied().filter(|peer| chosen.contains(peer)).collect::<Vec<_>>();
    if args.blocked || args.smoke {
        report.add(blocked::measure(args, peers, &of(&blocked::PEERS))?);
    }
    if args.cpu || args.smoke {
        report.add(cpu::measure(args, peers, &of(&cpu::PEERS))?);
    }
    if args.busy || args.smoke {
        report.add(busy::measure(args, peers, &of(&busy::PEERS))?);
    }
    if args.fairness || args.smoke {
        report.add(fairness::measure(args, peers, &of(&fairness::PEERS))?);
    }
    if args.growth || args.smoke {
        report.add(growth::measure(args, peers, &of(&growth::PEERS))?);
    }
    if args.syscalls || args.smoke {
        report.add(syscalls::measure(args, peers, &of(&syscalls::PEERS))?);
    }
    Ok(())
}

/// The order rotates, so that no server always runs after the same one.
fn load_rounds(
    args: &Args,
    generator: &Generator,
    peers: &Peers,
    chosen: &[Peer],
    report: &mut Report,
) -> Result<()> {
    // Under load it is as least-loaded is; only who asks for it shall wait for it.
    let takes_part = |peer: &Peer| *peer != Peer::HandoffRr || args.only.contains(peer);
    let mut order: Vec<Peer> = chosen.iter().copied().filter(takes_part).collect();
    for round in 1..=args.rounds {
        for peer in &order {
            eprintln!("round {round} of {}: {peer}", args.rounds);
            let mut server = peers.start(*peer, args.workers.into())?;
            generator.warm_up(&mut server)?;
            for load in Load::ALL {
                report.add_sample(*peer, load, generator.run(&mut server, load, args.seconds)?);
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
