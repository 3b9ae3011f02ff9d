//! One worker of two is blocked for seconds: what the other's clients notice.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::Duration;

use crate::client::Kept;
use crate::figures::{median, milliseconds, percentile, times};
use crate::gates::{Bound, Gate};
use crate::open_loop::{self, Answers};
use crate::peers::{Peer, Peers, Server};
use crate::table::Section;
use crate::{Args, Result, client, closed_loop, http, interrupt};

pub(crate) const PEERS: [Peer; 5] =
    [Peer::Handoff, Peer::Single, Peer::NodeSingle, Peer::NodeRr, Peer::NodeNone];
const WORKERS: usize = 2;
/// How long the handler blocks its worker, and how long is measured without.
const BLOCKED: Duration = Duration::from_secs(5);
const BLOCKED_SMOKE: Duration = Duration::from_millis(400);
/// From sending the long request to the first short one, and at least from the last one to the end of the long one.
const MARGIN: Duration = Duration::from_millis(50);
/// Connections that stay open, beside the one with the long request.
const KEPT: usize = 7;
/// Requests a second on each of them.
const RATE_KEPT: u32 = 20;
/// Requests a second on connections of their own.
const RATE_NEW: u32 = 100;
/// For one answer; all wait for a single process, one after another.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the long handler does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Handler {
    /// Waits, as in a call that blocks: the core is free for others.
    Sleeps,
    Spins,
}

impl Handler {
    const ALL: [Self; 2] = [Self::Sleeps, Self::Spins];

    fn path(self, blocked: Duration) -> String {
        let route = if self == Self::Sleeps { "stall" } else { "block" };
        format!("/{route}?ms={}", blocked.as_millis())
    }
}

impl fmt::Display for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(if *self == Self::Sleeps { "sleeps" } else { "spins" })
    }
}

/// What clients noticed, for a while.
#[derive(Debug)]
struct Noticed {
    /// On a connection for each request.
    new: Answers,
    /// On connections that stay: those of workers that are not blocked, or all if there is no such worker.
    kept: Answers,
    /// Among all clients' requests.
    errors: u64,
}

/// One round with one server.
#[derive(Debug)]
struct Sample {
    idle: Noticed,
    beside: BTreeMap<Handler, Noticed>,
}

/// A connection that stays open, and whose it is.
#[derive(Debug)]
struct Connection {
    kept: Kept,
    worker: u32,
}

pub(crate) fn measure(args: &Args, peers: &Peers, chosen: &[Peer]) -> Result<Section> {
    let blocked = if args.smoke { BLOCKED_SMOKE } else { BLOCKED };
    let mut samples: BTreeMap<Peer, Vec<Sample>> = BTreeMap::new();
    let mut order = chosen.to_vec();
    for round in 1..=args.rounds {
        for peer in &order {
            eprintln!("blocked worker, round {round} of {}: {peer}", args.rounds);
            let mut server = peers.start(*peer, WORKERS)?;
            closed_loop::warm_up(&mut server)?;
            samples.entry(*peer).or_default().push(sample(&mut server, blocked, round as u64)?);
            server.stop()?;
        }
        order.rotate_left(1);
    }
    Ok(section(args, blocked, chosen, &samples))
}

fn sample(server: &mut Server, blocked: Duration, seed: u64) -> Result<Sample> {
    let mut culprit = connect(server)?;
    let mut kept = (0..KEPT).map(|_| connect(server)).collect::<Result<Vec<_>>>()?;
    let asking = blocked - 2 * MARGIN;
    // For Node's compiler.
    ask_all(server, &mut kept, None, asking / 5, seed)?;
    let idle = ask_all(server, &mut kept, None, asking, seed)?;
    let mut beside = BTreeMap::new();
    for handler in Handler::ALL {
        let noticed = std::thread::scope(|scope| {
            let long = scope.spawn(|| culprit.kept.ask(&handler.path(blocked)));
            std::thread::sleep(MARGIN);
            let noticed = ask_all(server, &mut kept, Some(culprit.worker), asking, seed);
            long.join().map_err(|_| "the client of the long request panicked")??;
            noticed
        })?;
        beside.insert(handler, noticed);
    }
    server.check()?;
    Ok(Sample { idle, beside })
}

fn connect(server: &Server) -> Result<Connection> {
    let (kept, body) = client::keep(server.address(), PATIENCE)?;
    Ok(Connection { kept, worker: client::pid(&body).ok_or("an answer does not say who gave it")? })
}

/// New connections, and all that are open, at the same time.
fn ask_all(
    server: &Server,
    kept: &mut [Connection],
    blocked: Option<u32>,
    duration: Duration,
    seed: u64,
) -> Result<Noticed> {
    let is_blocked = |worker: u32| blocked == Some(worker);
    let all_are = kept.iter().all(|connection| is_blocked(connection.worker));
    let (new, answers) = std::thread::scope(|scope| {
        let ask = |(nth, connection): (usize, &'_ mut Connection)| {
            let counts = all_are || !is_blocked(connection.worker);
            let seed = seed * 1000 + nth as u64;
            (counts, open_loop::ask_on(&mut connection.kept, RATE_KEPT, duration, seed))
        };
        let threads: Vec<_> =
            kept.iter_mut().enumerate().map(|each| scope.spawn(move || ask(each))).collect();
        let new = http::block_on(open_loop::ask(server.address(), RATE_NEW, duration, seed));
        let answers = threads.into_iter().map(|thread| thread.join().map_err(|_| "a client panicked"));
        (new, answers.collect::<std::result::Result<Vec<_>, _>>())
    });
    interrupt::check()?;
    let (mut new, answers) = (new?, answers?);
    let errors = new.errors + answers.iter().map(|(_, answers)| answers.errors).sum::<u64>();
    let mut kept = Answers::default();
    for (_, answers) in answers.into_iter().filter(|(counts, _)| *counts) {
        kept.times.extend(answers.times);
    }
    new.times.sort_unstable();
    kept.times.sort_unstable();
    Ok(Noticed { new, kept, errors })
}

/// NaN of none.
fn p50(answers: &Answers) -> f64 {
    if answers.times.is_empty() { f64::NAN } else { percentile(&answers.times, 50).as_secs_f64() }
}

fn slowest(answers: &Answers) -> f64 {
    answers.times.last().copied().unwrap_or_default().as_secs_f64()
}

/// The medians of the rounds' medians.
#[derive(Debug)]
struct Compared {
    idle: f64,
    blocked: f64,
    ratio: f64,
    slowest: f64,
}

impl Compared {
    fn of(samples: &[Sample], handler: Handler, clients: fn(&Noticed) -> &Answers) -> Self {
        let pairs = samples
            .iter()
            .filter_map(|sample| Some((clients(&sample.idle), clients(sample.beside.get(&handler)?))));
        Self {
            idle: median(pairs.clone().map(|(idle, _)| p50(idle))),
            blocked: median(pairs.clone().map(|(_, blocked)| p50(blocked))),
            ratio: median(pairs.clone().map(|(idle, blocked)| p50(blocked) / p50(idle))),
            slowest: median(pairs.map(|(_, blocked)| slowest(blocked))),
        }
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [idle, blocked, slowest] = [self.idle, self.blocked, self.slowest].map(milliseconds);
        write!(f, "{idle} | {blocked} | {} | {slowest}", times(Some(self.ratio)))
    }
}

fn section(
    args: &Args,
    blocked: Duration,
    chosen: &[Peer],
    samples: &BTreeMap<Peer, Vec<Sample>>,
) -> Section {
    let mut text = format!(
        "### While one of {WORKERS} workers is blocked for {blocked:?}\n\n\
         {RATE_NEW} requests a second on connections of their own, and {RATE_KEPT} on each of {KEPT} connections that stay, of \
         which those count that are not the blocked worker's (or all, if there are no others). Medians of {} rounds.\n\n\
         | server | its handler | new connections: idle | blocked | ratio | slowest | lasting ones: idle | blocked | ratio | slowest | errors |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        args.rounds,
    );
    let mut gates = Vec::new();
    for (peer, its) in chosen.iter().filter_map(|peer| Some((*peer, samples.get(peer)?))) {
        for handler in Handler::ALL {
            let new = Compared::of(its, handler, |noticed| &noticed.new);
            let kept = Compared::of(its, handler, |noticed| &noticed.kept);
            let errors: u64 = its.iter().filter_map(|sample| Some(sample.beside.get(&handler)?.errors)).sum();
            let _ = writeln!(text, "| {peer} | {handler} | {new} | {kept} | {errors} |");
            if peer == Peer::Handoff {
                let gate = |what: &str, measured, most| {
                    let what = format!("while a worker {handler}: {what}");
                    Gate { what, measured, bound: Bound::AtMost(most) }
                };
                gates.push(gate("median to idle, new connections", new.ratio, 2.0));
                gates.push(gate("median to idle, lasting connections", kept.ratio, 2.0));
                gates.push(gate("requests that failed", errors as f64, 0.0));
            }
        }
    }
    let noticed = samples.values().flatten().flat_map(|sample| sample.beside.values().chain([&sample.idle]));
    Section { text, errors: noticed.map(|noticed| noticed.errors).sum(), gates }
}
