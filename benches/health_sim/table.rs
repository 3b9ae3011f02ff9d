//! One contender on all traces.

use std::time::Duration;

use crate::contender::Contender;
use crate::trace::Trace;
use crate::watch::{Alarms, Found, alarms, hang};

/// A contender on one trace.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) trace: Trace,
    hours: u32,
    pub(crate) alarms: Alarms,
    pub(crate) found: Vec<Found>,
    /// Hangs that were not found, or of a worker that was suspect already.
    pub(crate) missed: usize,
}

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) contender: Contender,
    pub(crate) cells: Vec<Cell>,
}

impl Cell {
    pub(crate) fn suspicions_per_hour(&self) -> f64 {
        self.alarms.suspicions as f64 / f64::from(self.hours)
    }

    /// From hang to suspicion.
    pub(crate) fn mean(&self) -> Duration {
        let sum: Duration = self.found.iter().map(|found| found.suspect).sum();
        sum / (self.found.len() as u32).max(1)
    }

    fn max(&self) -> Duration {
        self.found.iter().map(|found| found.suspect).max().unwrap_or_default()
    }
}

impl Row {
    pub(crate) fn run(contender: Contender, hours: u32, hangs: u32, seed: u64) -> Self {
        let cell = |trace| {
            let found: Vec<_> =
                (0..u64::from(hangs)).filter_map(|at| hang(&contender, trace, seed + at)).collect();
            let missed = hangs as usize - found.len();
            Cell { trace, hours, alarms: alarms(&contender, trace, hours, seed), found, missed }
        };
        let cells = Trace::ALL.map(cell).into();
        Self { contender, cells }
    }

    pub(crate) fn cell(&self, trace: Trace) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.trace == trace)
    }
}

/// Prints two tables: false suspicions per hour, and how long hangs took to be found.
pub(crate) fn print(rows: &[Row]) {
    let head = |cells: &[Trace]| {
        let names: Vec<_> = cells.iter().map(|trace| trace.name()).collect();
        println!("| | {} |\n|---|{}", names.join(" | "), "---:|".repeat(names.len()));
    };
    println!("### False suspicions per hour\n");
    head(&Trace::ALL);
    for row in rows {
        let cells: Vec<_> = row.cells.iter().map(|cell| rate(cell.suspicions_per_hour())).collect();
        println!("| {} | {} |", row.contender.name, cells.join(" | "));
    }
    // A hang is a hang whether the monitor was stopped before it or not.
    let traces = &Trace::ALL[..4];
    println!("\n### From hang to suspicion, ms: mean, longest\n");
    head(traces);
    for row in rows {
        let cells = row.cells.iter().filter(|cell| traces.contains(&cell.trace));
        let cells: Vec<_> =
            cells.map(|cell| format!("{}, {}", cell.mean().as_millis(), cell.max().as_millis())).collect();
        println!("| {} | {} |", row.contender.name, cells.join(" | "));
    }
    println!();
}

fn rate(per_hour: f64) -> String {
    match per_hour {
        0.0 => "0".to_owned(),
        rate if rate < 10.0 => format!("{rate:.2}"),
        rate => format!("{rate:.0}"),
    }
}
