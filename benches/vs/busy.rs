//! Short requests while one of two workers burns its processor in long handlers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::figures::{median, milliseconds, percentile, times};
use crate::peers::{Peer, Peers, Server};
use crate::table::Section;
use crate::{Args, Result, closed_loop, http, open_loop};

pub(crate) const PEERS: [Peer; 7] = [
    Peer::Handoff,
    Peer::HandoffRr,
    Peer::ClusterShared,
    Peer::ReusePort,
    Peer::Shared,
    Peer::NodeRr,
    Peer::NodeNone,
];
const WORKERS: usize = 2;
/// What one long handler takes.
const LONG: Duration = Duration::from_millis(50);
/// Connections before it begins.
const WARM_UP: u64 = 500;

/// One measurement.
#[derive(Debug)]
struct Sample {
    p50: Duration,
    p99: Duration,
    /// Which part of the short requests took half a long handler or more: they waited behind one.
    behind: f64,
    /// Which part of the time a long handler ran.
    burning: f64,
    errors: u64,
}

pub(crate) fn measure(args: &Args, peers: &Peers, chosen: &[Peer]) -> Result<Section> {
    let mut samples: BTreeMap<Peer, Vec<Sample>> = BTreeMap::new();
    let mut order = chosen.to_vec();
    for round in 1..=args.rounds {
        for peer in &order {
            eprintln!("busy worker, round {round} of {}: {peer}", args.rounds);
            let mut server = peers.start(*peer, WORKERS)?;
            closed_loop::run(&mut server, if args.smoke { 20 } else { WARM_UP }, WORKERS)?;
            let seconds = Duration::from_secs(args.seconds.into());
            samples.entry(*peer).or_default().push(sample(&mut server, args.rate, seconds, round as u64)?);
            server.stop()?;
        }
        order.rotate_left(1);
    }
    Ok(section(args, chosen, &samples))
}

fn sample(server: &mut Server, rate: u32, duration: Duration, seed: u64) -> Result<Sample> {
    let address = server.address();
    let long = Arc::new(Long::default());
    let (mut answers, took) = http::block_on(async {
        let background = tokio::spawn(Arc::clone(&long).keep_one_running(address));
        let begin = Instant::now();
        let answers = open_loop::ask(address, rate, duration, seed).await?;
        let took = begin.elapsed();
        background.abort();
        Ok((answers, took))
    })?;
    server.check()?;
    let ended = long.ended.load(Ordering::Relaxed);
    let errors = long.failed.load(Ordering::Relaxed) + answers.errors;
    answers.times.sort_unstable();
    let behind = answers.times.len() - answers.times.partition_point(|time| *time < LONG / 2);
    Ok(Sample {
        p50: percentile(&answers.times, 50),
        p99: percentile(&answers.times, 99),
        behind: behind as f64 / answers.times.len().max(1) as f64,
        burning: LONG.as_secs_f64() * ended as f64 / took.as_secs_f64(),
        errors,
    })
}

/// How the long requests go.
#[derive(Debug, Default)]
struct Long {
    ended: AtomicU64,
    failed: AtomicU64,
}

impl Long {
    /// The next as soon as one has been answered, each on a connection of its own.
    async fn keep_one_running(self: Arc<Self>, address: SocketAddr) {
        let path = format!("/block?ms={}", LONG.as_millis());
        loop {
            match http::ask(address, &path).await {
                Ok(_) => self.ended.fetch_add(1, Ordering::Relaxed),
                Err(error) => {
                    eprintln!("a long request failed: {error}");
                    self.failed.fetch_add(1, Ordering::Relaxed)
                }
            };
        }
    }
}

fn section(args: &Args, chosen: &[Peer], samples: &BTreeMap<Peer, Vec<Sample>>) -> Section {
    let mut text = format!(
        "### While one of {WORKERS} workers burns its processor\n\n\
         {} short requests a second, each on a connection of its own, beside one handler of {LONG:?} after another. \
         Rounds: {} × {} s.\n\n\
         | server | p50 | p99 | handoff's p99 is | behind a long one | a long one ran | errors |\n\
         |---|---:|---:|---:|---:|---:|---:|\n",
        args.rate, args.rounds, args.seconds
    );
    let ours = samples.get(&Peer::Handoff);
    for (peer, its) in chosen.iter().filter_map(|peer| Some((*peer, samples.get(peer)?))) {
        let ratio = ours.map(|ours| {
            median(ours.iter().zip(its).map(|(ours, its)| ours.p99.as_secs_f64() / its.p99.as_secs_f64()))
        });
        let _ = writeln!(
            text,
            "| {peer} | {} | {} | {} | {:.2} % | {:.0} % | {} |",
            milliseconds(median(its.iter().map(|sample| sample.p50.as_secs_f64()))),
            milliseconds(median(its.iter().map(|sample| sample.p99.as_secs_f64()))),
            times(ratio),
            100.0 * median(its.iter().map(|sample| sample.behind)),
            100.0 * median(its.iter().map(|sample| sample.burning)),
            its.iter().map(|sample| sample.errors).sum::<u64>(),
        );
    }
    if let (Some(ours), Some(shared)) = (ours, samples.get(&Peer::Shared)) {
        let pairs = ours.iter().zip(shared);
        let ratio = median(pairs.map(|(ours, its)| ours.p99.as_secs_f64() / its.p99.as_secs_f64()));
        let _ = writeln!(text, "\nhandoff / shared accept at p99: {ratio:.2}; the target is at most 0.5.");
    }
    Section::new(text, samples.values().flatten().map(|sample| sample.errors).sum())
}
