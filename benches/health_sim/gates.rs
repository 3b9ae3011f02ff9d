//! What the default promises, and whether it holds.

use std::time::Duration;

use cluster_health::Heartbeat;

use crate::contender::{DEFAULT, FIXED_3, INTERVAL};
use crate::table::Row;
use crate::trace::{LOADED, Trace};
use crate::watch::Found;

/// Prints each gate with what was measured. `true` if all are met.
pub(crate) fn print(rows: &[Row]) -> bool {
    let row = |name: &str| rows.iter().find(|row| row.contender.name == name);
    let rate = |name: &str, trace: Trace| {
        row(name).and_then(|row| row.cell(trace)).map_or(f64::NAN, |cell| cell.suspicions_per_hour())
    };
    let deaths = |trace: Trace| {
        row(DEFAULT).and_then(|row| row.cell(trace)).map_or(f64::NAN, |cell| cell.alarms.deaths as f64)
    };
    let longest = |time: &dyn Fn(&Found) -> Duration| {
        let cells = row(DEFAULT).into_iter().flat_map(|row| &row.cells);
        // Where the monitor is stopped too, it is that much later.
        let found = cells.filter(|cell| cell.trace != Trace::Stalls).flat_map(|cell| &cell.found);
        // Nothing found is not found in time.
        found.map(time).max().map_or(f64::NAN, |time| time.as_secs_f64())
    };
    let missed =
        row(DEFAULT).and_then(|row| row.cell(Trace::Stalls)).map_or(f64::NAN, |cell| cell.missed as f64);
    let heartbeat = Heartbeat::new();
    let bound = |timeout: Duration| (timeout + heartbeat.beats_every()).as_secs_f64();
    let expected = expected();
    let gates = [
        ("false suspicions per hour, quiet", rate(DEFAULT, Trace::Quiet), 0.0),
        ("the same, loaded", rate(DEFAULT, Trace::Loaded), 1.0),
        ("the same, stalls of the monitor", rate(DEFAULT, Trace::Stalls), 0.0),
        ("declared dead, pauses of 0.2 to 1 s", deaths(Trace::Pauses), 0.0),
        ("declared dead, pauses of 5 s", deaths(Trace::LongPauses), 0.0),
        (
            "from last beat to suspicion, longest, s",
            longest(&|found| found.suspect_since_beat),
            bound(heartbeat.suspect_after()),
        ),
        (
            "from last beat to death, longest, s",
            longest(&|found| found.dead_since_beat),
            bound(heartbeat.dead_after()),
        ),
        ("hangs not found, stalls of the monitor", missed, 0.0),
        (
            "the simulator: rate of fixed, 3 missed, loaded, against theory, off by a part of",
            (rate(FIXED_3, Trace::Loaded) / expected - 1.0).abs(),
            0.2,
        ),
    ];
    println!("### Gates of the default\n\n| | measured | at most | |\n|---|---:|---:|---|");
    let mut all = true;
    for (what, measured, bound) in gates {
        let met = measured <= bound;
        all &= met;
        println!("| {what} | {measured:.3} | {bound} | {} |", if met { "met" } else { "**not met**" });
    }
    all
}

/// How often per hour a loaded worker's silence lasts for 3 intervals, and still does at the next tick.
///
/// Of its beats a part is late, by X, exponential: more than by two intervals with probability e^(-2I/m), and then again by X; a tick
/// falls into that with probability min(1, X / t), which is (m / t) (1 - e^(-t/m)) in the mean.
fn expected() -> f64 {
    let (part, mean) = LOADED;
    let interval = INTERVAL.as_secs_f64();
    let tick = interval / 2.0;
    let beats = 3600.0 / (interval + part * mean);
    beats * part * (-2.0 * interval / mean).exp() * (mean / tick) * (1.0 - (-tick / mean).exp())
}
