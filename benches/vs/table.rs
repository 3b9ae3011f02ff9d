//! All that was measured, and how it is printed.

use std::collections::BTreeMap;

use crate::figures::{mebibytes, median, milliseconds, times};
use crate::gates::Gate;
use crate::load::{CONNECTIONS, Generator, Load, Sample};
use crate::memory::Footprint;
use crate::peers::{Peer, Peers};
use crate::recovery::{PATIENCE, Recovery};
use crate::{Args, Result};

/// What one measurement found.
#[derive(Debug)]
pub(crate) struct Section {
    /// Markdown.
    pub(crate) text: String,
    /// Requests that failed.
    pub(crate) errors: u64,
    pub(crate) gates: Vec<Gate>,
}

impl Section {
    /// Without gates.
    pub(crate) fn new(text: String, errors: u64) -> Self {
        Self { text, errors, gates: Vec::new() }
    }

    /// Only something to say.
    pub(crate) fn note(text: &str) -> Self {
        Self::new(format!("{text}\n"), 0)
    }
}

/// All that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    setting: String,
    /// How the load was made.
    load: String,
    workers: usize,
    meaningless: bool,
    /// One for each round.
    samples: BTreeMap<(Load, Peer), Vec<Sample>>,
    recoveries: BTreeMap<Peer, Vec<Recovery>>,
    footprints: BTreeMap<Peer, Footprint>,
    sections: Vec<Section>,
}

impl Report {
    pub(crate) fn new(args: &Args, generator: Option<&Generator>, peers: &Peers) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (workers, rounds) = (args.workers, args.rounds);
        let load = match generator {
            Some(Generator::Wrk(_)) => format!(" × {} s, {CONNECTIONS} connections", args.seconds),
            _ => String::new(),
        };
        let versions = generator.map(Generator::describe).into_iter().chain(peers.versions());
        let versions = versions.map(|version| format!(" {version}.")).collect::<String>();
        Self {
            setting: format!("Cores: {cores}, of which the clients take one.{versions}"),
            load: format!("Workers: {workers}. Rounds: {rounds}{load}."),
            workers: workers.into(),
            meaningless: args.smoke || cfg!(debug_assertions),
            samples: BTreeMap::new(),
            recoveries: BTreeMap::new(),
            footprints: BTreeMap::new(),
            sections: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, section: Section) {
        self.sections.push(section);
    }

    pub(crate) fn add_sample(&mut self, peer: Peer, load: Load, sample: Sample) {
        self.samples.entry((load, peer)).or_default().push(sample);
    }

    pub(crate) fn add_recovery(&mut self, peer: Peer, recovery: Recovery) {
        self.recoveries.entry(peer).or_default().push(recovery);
    }

    pub(crate) fn add_footprint(&mut self, peer: Peer, footprint: Footprint) {
        self.footprints.insert(peer, footprint);
    }

    /// What a smoke run promises: no request failed, and all of our workers had a part.
    pub(crate) fn check(&self) -> Result<()> {
        for ((_, peer), samples) in &self.samples {
            let errors: u64 = samples.iter().map(|sample| sample.errors).sum();
            if errors > 0 {
                return Err(format!("{peer}: {errors} requests failed").into());
            }
            let idle = |sample: &Sample| sample.answered_by.is_some_and(|pids| pids != self.workers);
            if *peer == Peer::Handoff && samples.iter().any(idle) {
                return Err("handoff: not every worker was given requests".into());
            }
        }
        match self.sections.iter().map(|section| section.errors).sum::<u64>() {
            0 => Ok(()),
            errors => Err(format!("{errors} requests failed").into()),
        }
    }

    /// Whether all is as promised; true of figures that mean nothing.
    pub(crate) fn gates_are_met(&self) -> bool {
        self.meaningless || self.gates().all(Gate::is_met)
    }

    fn gates(&self) -> impl Iterator<Item = &Gate> {
        self.sections.iter().flat_map(|section| &section.gates)
    }

    pub(crate) fn print(&self, chosen: &[Peer], skipped: &[Peer]) {
        println!("{}", self.setting);
        if self.meaningless {
            println!("\n**The figures mean nothing**: this was a smoke run or a debug build.");
        }
        for load in Load::ALL {
            self.print_load(load, chosen);
        }
        self.print_recoveries();
        self.print_footprints();
        for section in &self.sections {
            print!("\n{}", section.text);
        }
        self.print_gates();
        for peer in skipped {
            println!("\nSkipped: {peer} is not installed ({}).", peer.remedy());
        }
    }

    fn print_load(&self, load: Load, chosen: &[Peer]) {
        let rows: Vec<_> = chosen
            .iter()
            .filter_map(|peer| Some((*peer, self.samples.get(&(load, *peer))?.as_slice())))
            .collect();
        if rows.is_empty() {
            return;
        }
        println!("\n### {}\n\n{}\n", load.title(), self.load);
        println!("| server | requests/s: median (min–max) | handoff serves | p50 | p99 | errors |");
        println!("|---|---:|---:|---:|---:|---:|");
        let ours = self.samples.get(&(load, Peer::Handoff));
        for (peer, samples) in rows {
            let rates = samples.iter().map(|sample| sample.per_second);
            let errors: u64 = samples.iter().map(|sample| sample.errors).sum();
            let ratio = ours.map(|ours| {
                median(ours.iter().zip(samples).map(|(ours, its)| ours.per_second / its.per_second))
            });
            println!(
                "| {peer} | {:.0} ({:.0}–{:.0}) | {} | {} | {} | {errors} |",
                median(rates.clone()),
                rates.clone().fold(f64::INFINITY, f64::min),
                rates.fold(0.0, f64::max),
                times(ratio),
                milliseconds(median(samples.iter().map(|sample| sample.p50.as_secs_f64()))),
                milliseconds(median(samples.iter().map(|sample| sample.p99.as_secs_f64()))),
            );
        }
    }

    fn print_recoveries(&self) {
        if self.recoveries.is_empty() {
            return;
        }
        println!("\n### From SIGKILL of a worker to its successor's first answer\n");
        println!("A request that got no answer within {PATIENCE:?} counts as lost.\n");
        println!("| server | median | max | as long as handoff | requests lost | kills |");
        println!("|---|---:|---:|---:|---:|---:|");
        let ours = self.recoveries.get(&Peer::Handoff);
        for (peer, recoveries) in &self.recoveries {
            let took = recoveries.iter().map(|recovery| recovery.took.as_secs_f64());
            let ratio = ours.map(|ours| {
                median(ours.iter().zip(took.clone()).map(|(ours, its)| its / ours.took.as_secs_f64()))
            });
            println!(
                "| {peer} | {} | {} | {} | {} | {} |",
                milliseconds(median(took.clone())),
                milliseconds(took.fold(0.0, f64::max)),
                times(ratio),
                recoveries.iter().map(|recovery| recovery.lost).sum::<u64>(),
                recoveries.len(),
            );
        }
    }

    fn print_footprints(&self) {
        if self.footprints.is_empty() {
            return;
        }
        println!("\n### Resident memory after some load\n");
        println!("| server | primary | worker |");
        println!("|---|---:|---:|");
        for (peer, footprint) in &self.footprints {
            println!("| {peer} | {} | {} |", mebibytes(footprint.primary), mebibytes(footprint.worker));
        }
    }

    fn print_gates(&self) {
        if self.gates().next().is_none() {
            return;
        }
        println!("\n### Gates\n\n| | measured | | |\n|---|---:|---|---|");
        self.gates().for_each(|gate| println!("{gate}"));
    }
}
