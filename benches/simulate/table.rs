//! One scenario, all who decide, and how they compare.

use cluster_balancer::strategy::{LeastUsed, by_name_seeded};

use crate::queueing::{Decider, Outcome, run};
use crate::scenario::Scenario;

/// One decider in one scenario.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) name: &'static str,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) spread: f64,
}

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) scenario: Scenario,
    pub(crate) shortest: Cell,
    pub(crate) others: Vec<Cell>,
}

/// Gauges are read so often, in mean service times.
pub(crate) const GAUGES: f64 = 10.0;

impl Cell {
    fn new(name: &'static str, outcome: &Outcome) -> Self {
        Self {
            name,
            p50: outcome.quantile(0.5),
            p99: outcome.quantile(0.99),
            p999: outcome.quantile(0.999),
            spread: outcome.spread,
        }
    }
}

fn deciders(seed: u64) -> Vec<(&'static str, Decider)> {
    let named = |name: &'static str| by_name_seeded(name, seed).ok();
    let pool = |strategy, weighted| Decider::Pool { strategy, weighted, gauges: None };
    let plain = ["least-loaded", "round-robin", "random", "power-of-two", "peak-ewma"];
    let weighted = [("least-loaded, weighted", "least-loaded"), ("smooth-weighted", "smooth-weighted")];
    let plain = plain.into_iter().filter_map(|name| Some((name, pool(named(name)?, false))));
    let weighted = weighted.into_iter().filter_map(|(shown, name)| Some((shown, pool(named(name)?, true))));
    let memory =
        Decider::Pool { strategy: Box::new(LeastUsed::memory()), weighted: false, gauges: Some(GAUGES) };
    let mut all: Vec<_> = plain.chain(weighted).collect();
    all.push(("least-memory", memory));
    all.push(("smallest of old figures", Decider::Stale(GAUGES)));
    all.push(("one queue for all", Decider::Central));
    all
}

impl Row {
    pub(crate) fn run(scenario: &Scenario, jobs: usize, seed: u64) -> Self {
        let shortest = Cell::new("shortest queue", &run(scenario, Decider::Shortest, jobs, seed));
        let others = deciders(seed)
            .into_iter()
            .map(|(name, decider)| Cell::new(name, &run(scenario, decider, jobs, seed)))
            .collect();
        Self { scenario: scenario.clone(), shortest, others }
    }

    pub(crate) fn cell(&self, name: &str) -> Option<&Cell> {
        self.others.iter().find(|cell| cell.name == name)
    }

    /// A strategy's p99 over that of the shortest queue.
    pub(crate) fn ratio(&self, name: &str) -> f64 {
        self.cell(name).map_or(f64::NAN, |cell| cell.p99 / self.shortest.p99)
    }
}

/// What grows without bound shows as a number that depends on how long one looks.
pub(crate) const UNSTABLE: f64 = 200.0;

fn shown(ratio: f64) -> String {
    match ratio {
        ratio if ratio > UNSTABLE => "unstable".to_owned(),
        ratio if ratio >= 10.0 => format!("{ratio:.0}"),
        ratio => format!("{ratio:.2}"),
    }
}

pub(crate) fn print(rows: &[Row]) {
    println!("### p50 / p99 / p99.9 as a ratio to exact join-the-shortest-queue\n");
    let Some(first) = rows.first() else { return };
    let names: Vec<_> = first.others.iter().map(|cell| cell.name).collect();
    println!("| | shortest queue, p99 | {} |", names.join(" | "));
    println!("|---|---:|{}", "---:|".repeat(names.len()));
    for row in rows {
        let base = &row.shortest;
        let cells: Vec<_> = row
            .others
            .iter()
            .map(|cell| {
                let ratios = [cell.p50 / base.p50, cell.p99 / base.p99, cell.p999 / base.p999];
                ratios.map(shown).join(" / ")
            })
            .collect();
        println!("| {} | {:.2} | {} |", row.scenario.name, base.p99, cells.join(" | "));
    }
    println!("\n### Spread: items at the fullest worker over the mean, averaged over time\n");
    println!("| | shortest queue | {} |", names.join(" | "));
    println!("|---|---:|{}", "---:|".repeat(names.len()));
    for row in rows {
        let cells: Vec<_> = row.others.iter().map(|cell| format!("{:.2}", cell.spread)).collect();
        println!("| {} | {:.2} | {} |", row.scenario.name, row.shortest.spread, cells.join(" | "));
    }
    println!();
}
