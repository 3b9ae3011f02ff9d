//! What a connection costs the primary, with more workers and with more connections open meanwhile.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::client::Kept;
use crate::figures::{median, times};
use crate::peers::{Peer, Peers, Server};
use crate::table::Section;
use crate::{Args, Result, client, closed_loop, interrupt, proc};

pub(crate) const PEERS: [Peer; 1] = [Peer::Handoff];
const WORKERS: [usize; 3] = [2, 8, 32];
/// Open connections, from few to many.
const OPEN: [usize; 3] = [100, 1000, 10_000];
/// Over so many the primary's time is taken: enough for the kernel's clock, which goes in steps of 10 ms.
const CONNECTIONS: u64 = 20_000;
const AT_A_TIME: usize = 32;
/// Descriptors beside the open connections, in this process and in a worker.
const RESERVE: u64 = 500;
/// For one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// So many workers, so many open connections.
type Size = (usize, usize);

pub(crate) fn measure(args: &Args, peers: &Peers, chosen: &[Peer]) -> Result<Section> {
    let Some(peer) = chosen.first() else {
        return Ok(Section::note("Growth was not measured: it is only for `handoff`."));
    };
    let limit = raise_limit()?;
    let is_possible = |open: &&usize| **open as u64 + RESERVE <= limit;
    let (sizes, connections) = if args.smoke { (&WORKERS[..1], 200) } else { (&WORKERS[..], CONNECTIONS) };
    let open = if args.smoke { &OPEN[..1] } else { &OPEN[..] };
    let (possible, impossible): (Vec<usize>, Vec<usize>) = open.iter().partition(is_possible);

    let mut costs: BTreeMap<Size, Vec<f64>> = BTreeMap::new();
    let mut errors = 0;
    for round in 1..=args.rounds {
        for workers in sizes {
            eprintln!("growth, round {round} of {}: {workers} workers", args.rounds);
            let mut server = peers.start(*peer, *workers)?;
            errors += closed_loop::run(&mut server, connections / 10, AT_A_TIME)?.errors;
            let mut held = Vec::new();
            for open in &possible {
                hold(&mut server, &mut held, *open)?;
                let before = proc::processor_time(server.primary())?;
                errors += closed_loop::run(&mut server, connections, AT_A_TIME)?.errors;
                let spent = proc::processor_time(server.primary())?.saturating_sub(before);
                let cost = spent.as_secs_f64() / connections as f64;
                costs.entry((*workers, *open)).or_default().push(cost);
            }
            drop(held);
            server.stop()?;
        }
    }
    let mut text = table(args, connections, &possible, &costs);
    for open in impossible {
        let _ = writeln!(
            text,
            "\nSkipped: {open} open connections need a higher limit of open files (ulimit -n) than {limit}."
        );
    }
    Ok(Section::new(text, errors))
}

/// Lets this process, and those that it starts, open as many files as it may. How many that is.
fn raise_limit() -> Result<u64> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum.unwrap_or(u64::MAX))
}

/// Opens connections, each of which has been served once, until there are so many.
fn hold(server: &mut Server, held: &mut Vec<Kept>, open: usize) -> Result<()> {
    while held.len() < open {
        interrupt::check()?;
        let kept = client::keep(server.address(), PATIENCE);
        let (stream, _) =
            kept.map_err(|error| format!("connection {} of {open}: {error}", held.len() + 1))?;
        held.push(stream);
    }
    server.check()
}

fn table(args: &Args, connections: u64, open: &[usize], costs: &BTreeMap<Size, Vec<f64>>) -> String {
    let mut text = format!(
        "### The primary's processor time for a connection\n\n\
         Over {connections} connections of one request, {AT_A_TIME} at a time, with others open and idle. \
         Median of {}; the ratio is to the smallest size (within each round). One step of the kernel's clock is {:.1} µs.\n\n\
         | workers |",
        args.rounds,
        proc::tick().as_secs_f64() * 1e6 / connections as f64,
    );
    open.iter().for_each(|open| text += &format!(" {open} open | ratio |"));
    text += "\n|---:|";
    open.iter().for_each(|_| text += "---:|---:|");
    let smallest = costs.values().next().map_or(&[][..], Vec::as_slice);
    for workers in WORKERS {
        let rows: Vec<_> = open.iter().filter_map(|open| costs.get(&(workers, *open))).collect();
        if rows.is_empty() {
            continue;
        }
        let _ = write!(text, "\n| {workers} |");
        for costs in rows {
            let pairs = costs.iter().zip(smallest);
            // Within a few connections the kernel's clock may not have moved.
            let ratio = median(pairs.map(|(cost, least)| cost / least));
            let ratio = times(ratio.is_finite().then_some(ratio));
            let _ = write!(text, " {:.1} µs | {ratio} |", median(costs.iter().copied()) * 1e6);
        }
    }
    text + "\n"
}
