//! How evenly connections are spread over the workers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::closed_loop::Served;
use crate::figures::median;
use crate::peers::{Peer, Peers, Server};
use crate::table::Section;
use crate::{Args, Result, client, closed_loop, interrupt};

pub(crate) const PEERS: [Peer; 7] = [
    Peer::Handoff,
    Peer::HandoffRr,
    Peer::ClusterShared,
    Peer::ReusePort,
    Peer::Shared,
    Peer::NodeRr,
    Peer::NodeNone,
];
const WORKERS: usize = 4;
/// Connections that live for one request.
const SHORT: u64 = 4000;
/// How many of them at a time.
const AT_A_TIME: usize = 16;
/// Connections that stay.
const LASTING: u64 = 200;
/// For one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// One round with one server.
#[derive(Debug)]
struct Sample {
    short: Served,
    lasting: Served,
}

pub(crate) fn measure(args: &Args, peers: &Peers, chosen: &[Peer]) -> Result<Section> {
    let (short, lasting) = if args.smoke { (100, 20) } else { (SHORT, LASTING) };
    let mut samples: BTreeMap<Peer, Vec<Sample>> = BTreeMap::new();
    for round in 1..=args.rounds {
        for peer in chosen {
            eprintln!("fairness, round {round} of {}: {peer}", args.rounds);
            let mut server = peers.start(*peer, WORKERS)?;
            let short = closed_loop::run(&mut server, short, AT_A_TIME)?;
            let lasting = keep_open(&mut server, lasting)?;
            samples.entry(*peer).or_default().push(Sample { short, lasting });
            server.stop()?;
        }
    }
    Ok(section(args, (short, lasting), chosen, &samples))
}

/// Opens one after another; none is closed before the last is open.
fn keep_open(server: &mut Server, connections: u64) -> Result<Served> {
    let (mut served, mut open) = (Served::default(), Vec::new());
    for _ in 0..connections {
        interrupt::check()?;
        match client::keep(server.address(), PATIENCE) {
            Ok((stream, body)) => {
                open.push(stream);
                let worker = client::pid(&body).ok_or("an answer does not say who gave it")?;
                *served.by_worker.entry(worker).or_default() += 1;
            }
            Err(error) => {
                eprintln!("a connection failed: {error}");
                served.errors += 1;
            }
        }
    }
    server.check()?;
    Ok(served)
}

/// How many times its even share the worker with most has. A worker that served none counts.
fn unevenness(served: &Served) -> f64 {
    let total: u64 = served.by_worker.values().sum();
    let most = served.by_worker.values().max().copied().unwrap_or_default();
    (most as f64) * WORKERS as f64 / total.max(1) as f64
}

fn section(
    args: &Args,
    (short, lasting): (u64, u64),
    chosen: &[Peer],
    samples: &BTreeMap<Peer, Vec<Sample>>,
) -> Section {
    let mut text = format!(
        "### Connections of the busiest of {WORKERS} workers, as a multiple of the mean\n\n\
         {short} connections of one request, {AT_A_TIME} at a time; {lasting} that stay open, one after another. \
         Median (worst) of {}; what each worker had in the last round.\n\n\
         | server | one request | in the last round | staying open | in the last round | errors |\n\
         |---|---:|---|---:|---|---:|\n",
        args.rounds,
    );
    for (peer, its) in chosen.iter().filter_map(|peer| Some((*peer, samples.get(peer)?))) {
        let (short, lasting) =
            (its.iter().map(|sample| &sample.short), its.iter().map(|sample| &sample.lasting));
        let errors: u64 = its.iter().map(|sample| sample.short.errors + sample.lasting.errors).sum();
        let cells = format!("{} | {}", cells(short), cells(lasting));
        let _ = writeln!(text, "| {peer} | {cells} | {errors} |");
    }
    let all = samples.values().flatten();
    Section::new(text, all.map(|sample| sample.short.errors + sample.lasting.errors).sum())
}

/// `1.02 × (1.10) | 51 50 50 49`
fn cells<'a>(rounds: impl DoubleEndedIterator<Item = &'a Served> + Clone) -> String {
    let worst = rounds.clone().map(unevenness).fold(0.0, f64::max);
    let mut last: Vec<u64> = rounds.clone().next_back().map(shares).unwrap_or_default();
    last.sort_unstable_by(|one, other| other.cmp(one));
    let last: Vec<String> = last.iter().map(u64::to_string).collect();
    format!("{:.2} × ({worst:.2}) | {}", median(rounds.map(unevenness)), last.join(" "))
}

/// What each worker had, also if that is nothing.
fn shares(served: &Served) -> Vec<u64> {
    let mut shares: Vec<u64> = served.by_worker.values().copied().collect();
    shares.resize(shares.len().max(WORKERS), 0);
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(counts: &[u64]) -> Served {
        Served { by_worker: (1..).zip(counts.iter().copied()).collect(), errors: 0 }
    }

    #[test]
    fn a_worker_that_served_none_counts_in_the_mean() {
        assert_eq!(unevenness(&served(&[50, 50, 50, 50])), 1.0);
        assert_eq!(unevenness(&served(&[200])), 4.0);
        assert_eq!(shares(&served(&[200])), [200, 0, 0, 0]);
    }

    #[test]
    fn the_last_round_is_told_from_most_to_least() {
        let rounds = [served(&[60, 40]), served(&[40, 60, 60, 40])];
        assert_eq!(cells(rounds.iter()), "1.80 × (2.40) | 60 60 40 40");
    }
}
