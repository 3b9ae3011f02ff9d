//! Requests that are work for the processor: two workers beside one.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::Duration;

use crate::client::Kept;
use crate::figures::{median, milliseconds, times};
use crate::gates::{Bound, Gate};
use crate::meter::{Meter, Spent};
use crate::peers::{Peer, Peers, Server};
use crate::table::Section;
use crate::{Args, Result, client, closed_loop, interrupt};

pub(crate) const PEERS: [Peer; 2] = [Peer::Handoff, Peer::NodeRr];
const WORKERS: [usize; 2] = [1, 2];
/// Connections that stay open, opened one after another, so that each worker has its share of them.
const CONNECTIONS: usize = 8;
/// Requests on each of them, for each second asked for.
const EACH: u32 = 25;
/// For one answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The work of one request, about 5 ms.
fn path(peer: Peer) -> &'static str {
    match peer {
        Peer::NodeRr => "/hash?rounds=4000000",
        _ => "/hash?rounds=400000",
    }
}

/// A fixed number of requests, done as fast as possible.
#[derive(Debug)]
struct Sample {
    spent: Spent,
    requests: u32,
    errors: u32,
}

impl Sample {
    fn per_second(&self) -> f64 {
        f64::from(self.requests) / self.spent.took.as_secs_f64()
    }

    /// What it would be if each worker had a core to itself: all is done when the busiest has done its part. Every
    /// connection has the same number of requests, so this doesn't blame a worker for having been the faster one.
    fn per_second_undisturbed(&self) -> f64 {
        let busiest = self.spent.others.iter().map(|usage| usage.time).max().unwrap_or_default();
        f64::from(self.requests) / busiest.as_secs_f64()
    }

    /// What it would be without the time for which workers were ready to run and had no core. NaN if unknown.
    fn per_second_without_waits(&self) -> f64 {
        let waited: Option<Duration> = self.spent.others.iter().map(|usage| usage.waited).sum();
        let mean = waited.map_or(f64::NAN, |waited| waited.as_secs_f64() / self.spent.others.len() as f64);
        f64::from(self.requests) / (self.spent.took.as_secs_f64() - mean)
    }

    /// In use by the whole server.
    fn cores(&self) -> f64 {
        self.spent.server().as_secs_f64() / self.spent.took.as_secs_f64()
    }

    /// For one request, by the whole server.
    fn processor_time(&self) -> f64 {
        self.spent.server().as_secs_f64() / f64::from(self.requests)
    }
}

/// One for each round.
type Samples = BTreeMap<(Peer, usize), Vec<Sample>>;

pub(crate) fn measure(args: &Args, peers: &Peers, chosen: &[Peer]) -> Result<Section> {
    let each = if args.smoke { 2 } else { EACH * args.seconds };
    let mut samples = Samples::new();
    let mut order: Vec<(Peer, usize)> =
        chosen.iter().flat_map(|peer| WORKERS.map(|workers| (*peer, workers))).collect();
    for round in 1..=args.rounds {
        for (peer, workers) in &order {
            eprintln!("work for the processor, round {round} of {}: {peer}, workers: {workers}", args.rounds);
            let mut server = peers.start(*peer, *workers)?;
            closed_loop::warm_up(&mut server)?;
            samples.entry((*peer, *workers)).or_default().push(sample(&mut server, path(*peer), each)?);
            server.stop()?;
        }
        // Each comes first as often as the others, and one worker is never far from two.
        order.rotate_left(1);
    }
    Ok(section(args, each, chosen, &samples))
}

fn sample(server: &mut Server, path: &str, each: u32) -> Result<Sample> {
    let open = (0..CONNECTIONS).map(|_| Ok(client::keep(server.address(), PATIENCE)?.0));
    let mut open = open.collect::<Result<Vec<Kept>>>()?;
    // Once for what the first request costs more: pages, and Node's compiler.
    let mut errors = ask_on_all(&mut open, path, 1);
    let meter = Meter::start(server)?;
    errors += ask_on_all(&mut open, path, each);
    let spent = meter.stop(server)?;
    interrupt::check()?;
    server.check()?;
    Ok(Sample { spent, requests: each * CONNECTIONS as u32, errors })
}

/// At the same time on all connections, on each one after another. How many failed.
fn ask_on_all(open: &mut [Kept], path: &str, each: u32) -> u32 {
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            open.iter_mut().map(|connection| scope.spawn(|| ask_in_turn(connection, path, each))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(each)).sum()
    })
}

fn ask_in_turn(connection: &mut Kept, path: &str, each: u32) -> u32 {
    for nth in 0..each {
        if let Err(error) = interrupt::check().and_then(|()| Ok(connection.ask(path)?)) {
            eprintln!("a request failed: {error}");
            return each - nth;
        }
    }
    0
}

/// A server's rounds with one worker, and those with two.
#[derive(Clone, Copy, Debug)]
struct Compared<'a> {
    one: &'a [Sample],
    two: &'a [Sample],
}

impl<'a> Compared<'a> {
    fn of(samples: &'a Samples, peer: Peer) -> Option<Self> {
        Some(Self { one: samples.get(&(peer, 1))?, two: samples.get(&(peer, 2))? })
    }

    /// Two to one, in each round.
    fn ratios(self, figure: fn(&Sample) -> f64) -> impl Iterator<Item = f64> + Clone {
        self.one.iter().zip(self.two).map(move |(one, two)| figure(two) / figure(one))
    }

    fn errors(self) -> u32 {
        self.one.iter().chain(self.two).map(|sample| sample.errors).sum()
    }

    fn gates(self) -> [Gate; 2] {
        let gate = |what: &str, measured, bound| {
            let what = format!("work for the processor: {what}");
            Gate { what, measured, bound }
        };
        let ratio = median(self.ratios(Sample::per_second_undisturbed));
        [
            gate("two workers to one, by processor time", ratio, Bound::AtLeast(1.8)),
            gate("requests that failed", f64::from(self.errors()), Bound::AtMost(0.0)),
        ]
    }
}

impl fmt::Display for Compared<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |samples: &[Sample], figure: fn(&Sample) -> f64| median(samples.iter().map(figure));
        write!(
            f,
            "{:.0} | {:.0} | {:.2} | {} | {} | {} | {} | {} | {}",
            of(self.one, Sample::per_second),
            of(self.two, Sample::per_second),
            of(self.two, Sample::cores),
            spread(self.ratios(Sample::per_second)),
            spread(self.ratios(Sample::per_second_without_waits)),
            milliseconds(of(self.one, Sample::processor_time)),
            milliseconds(of(self.two, Sample::processor_time)),
            spread(self.ratios(Sample::per_second_undisturbed)),
            self.errors(),
        )
    }
}

fn section(args: &Args, each: u32, chosen: &[Peer], samples: &Samples) -> Section {
    let mut text = format!(
        "### Work for the processor: two workers beside one\n\n\
         {CONNECTIONS} connections, {each} requests on each, one after another. Two workers to one, in requests per second, \
         medians of {} rounds (min–max): by the clock; by the clock, without the time for which workers were ready to run \
         and had no core; and by processor time, as if the busiest worker had had a core to itself.\n\n\
         | server | requests/s: 1 worker | 2 workers | cores in use by 2 | by the clock | without waits for a core | processor time per request: 1 worker | 2 workers | by processor time | errors |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        args.rounds,
    );
    let mut gates = Vec::new();
    for (peer, its) in chosen.iter().filter_map(|peer| Some((*peer, Compared::of(samples, *peer)?))) {
        let _ = writeln!(text, "| {peer} | {its} |");
        if peer == Peer::Handoff {
            gates.extend(its.gates());
        }
    }
    Section { text, errors: samples.values().flatten().map(|sample| u64::from(sample.errors)).sum(), gates }
}

/// `1.96 × (1.90–2.01)`
fn spread(ratios: impl Iterator<Item = f64> + Clone) -> String {
    let (least, most) = (ratios.clone().fold(f64::INFINITY, f64::min), ratios.clone().fold(0.0, f64::max));
    let ratio = Some(median(ratios)).filter(|ratio| ratio.is_finite());
    ratio.map_or_else(|| times(None), |_| format!("{} ({least:.2}–{most:.2})", times(ratio)))
}
