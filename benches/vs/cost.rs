//! What a request costs: one process, and a cluster of one worker and of two.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::figures::median;
use crate::load::{Generator, Load, Sample};
use crate::meter::{Meter, Spent};
use crate::peers::{Peer, Peers};
use crate::table::Section;
use crate::{Args, Result};

/// The servers, each with so many workers; 0 for those that have none.
pub(crate) const CONTENDERS: [(Peer, usize); 6] = [
    (Peer::Single, 0),
    (Peer::Handoff, 1),
    (Peer::Handoff, 2),
    (Peer::NodeSingle, 0),
    (Peer::NodeRr, 2),
    (Peer::NodeNone, 2),
];

type Contender = (Peer, usize);
/// One for each round.
type Samples = BTreeMap<(Load, Contender), Vec<(Sample, Spent)>>;

pub(crate) fn measure(args: &Args, generator: &Generator, peers: &Peers, chosen: &[Peer]) -> Result<Section> {
    let mut samples = Samples::new();
    let mut order: Vec<Contender> =
        CONTENDERS.into_iter().filter(|(peer, _)| chosen.contains(peer)).collect();
    for round in 1..=args.rounds {
        for contender in &order {
            let (peer, workers) = *contender;
            eprintln!("cost, round {round} of {}: {}", args.rounds, name(*contender));
            let mut server = peers.start(peer, workers)?;
            generator.warm_up(&mut server)?;
            for load in Load::ALL {
                let meter = Meter::start(&server)?;
                let sample = generator.run(&mut server, load, args.seconds)?;
                let spent = meter.stop(&server)?;
                samples.entry((load, *contender)).or_default().push((sample, spent));
            }
            server.stop()?;
        }
        order.rotate_left(1);
    }
    let errors = samples.values().flatten().map(|(sample, _)| sample.errors).sum();
    Ok(Section::new(table(args, generator, &samples), errors))
}

/// `handoff, 2 workers`
fn name((peer, workers): Contender) -> String {
    match workers {
        0 => peer.to_string(),
        1 => format!("{peer}, 1 worker"),
        workers => format!("{peer}, {workers} workers"),
    }
}

fn table(args: &Args, generator: &Generator, samples: &Samples) -> String {
    let mut text = format!(
        "### What a request costs\n\n\
         Processor time of all of a server's processes, by /proc; that of the client ({}) apart. \
         Medians; rounds: {} × {} s.\n\n\
         | | server | requests/s (min–max) | processor time per request | of which the primary | cores in use | the client's | errors |\n\
         |---|---|---:|---:|---:|---:|---:|---:|\n",
        generator.describe(),
        args.rounds,
        args.seconds
    );
    for load in Load::ALL {
        for contender in CONTENDERS {
            let Some(its) = samples.get(&(load, contender)) else { continue };
            let _ = writeln!(text, "| {} | {} | {} |", load.title(), name(contender), cells(its));
        }
    }
    text
}

fn cells(its: &[(Sample, Spent)]) -> String {
    let rates = its.iter().map(|(sample, _)| sample.per_second);
    let each = |time: fn(&Spent) -> f64| {
        median(its.iter().map(|(sample, spent)| time(spent) / sample.requests.max(1) as f64)) * 1e6
    };
    let cores =
        |time: fn(&Spent) -> f64| median(its.iter().map(|(_, spent)| time(spent) / spent.took.as_secs_f64()));
    let primary = if its.iter().all(|(_, spent)| spent.others.is_empty()) {
        "–".to_owned()
    } else {
        format!("{:.1} µs", each(|spent| spent.first.time.as_secs_f64()))
    };
    let (errors, requests) = its
        .iter()
        .fold((0, 0), |(errors, requests), (sample, _)| (errors + sample.errors, requests + sample.requests));
    format!(
        "{:.0} ({:.0}–{:.0}) | {:.1} µs | {primary} | {:.2} | {:.2} | {:.3} %",
        median(rates.clone()),
        rates.clone().fold(f64::INFINITY, f64::min),
        rates.fold(0.0, f64::max),
        each(|spent| spent.server().as_secs_f64()),
        cores(|spent| spent.server().as_secs_f64()),
        cores(|spent| spent.clients.as_secs_f64()),
        100.0 * errors as f64 / requests.max(1) as f64,
    )
}
