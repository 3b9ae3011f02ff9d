//! What the crate promises, and whether it holds.

use crate::keys::Moved;
use crate::scenario::Service;
use crate::table::Row;

/// Prints each gate with what was measured. `true` if all are met.
pub(crate) fn print(rows: &[Row], moved: &Moved) -> bool {
    let most = |of: &mut dyn Iterator<Item = f64>| of.fold(0.0, f64::max);
    let poisson = || rows.iter().filter(|row| row.scenario.burst == 1.0);
    let equal = || poisson().filter(|row| row.scenario.is_homogeneous());
    // With a heavy tail two choices miss the long items more often: reported, not promised.
    let light = || equal().filter(|row| row.scenario.service == Service::Exponential);
    let unequal = || rows.iter().filter(|row| row.scenario.has_unequal_speeds());
    let over = |row: &Row, name: &str, other: &str| match (row.cell(name), row.cell(other)) {
        (Some(cell), Some(other)) => cell.p99 / other.p99,
        _ => f64::NAN,
    };
    let busy = rows.iter().find(|row| row.scenario.name == "16 workers, load 0.9");
    let spread = |name: &str| busy.and_then(|row| row.cell(name)).map_or(f64::NAN, |cell| cell.spread);
    let gates = [
        (
            "least-loaded, p99 over shortest queue's, equal workers",
            most(&mut equal().map(|row| row.ratio("least-loaded"))),
            1.02,
        ),
        (
            "power-of-two, the same, exponential service",
            most(&mut light().map(|row| row.ratio("power-of-two"))),
            1.9,
        ),
        (
            "least-loaded weighted over unweighted, unequal workers",
            most(&mut unequal().map(|row| over(row, "least-loaded, weighted", "least-loaded"))),
            0.9,
        ),
        (
            "least-memory on old figures over least-loaded, equal workers",
            most(&mut equal().map(|row| over(row, "least-memory", "least-loaded"))),
            1.5,
        ),
        (
            "spread of least-loaded over shortest queue's, 16 workers, load 0.9",
            spread("least-loaded") / busy.map_or(f64::NAN, |row| row.shortest.spread),
            1.02,
        ),
        ("spread of power-of-two, itself", spread("power-of-two"), 2.0),
        ("keys that maglev moves needlessly", moved.maglev, 0.01),
        ("keys that rendezvous moves needlessly", moved.rendezvous, 0.0),
    ];
    println!("### Gates\n\n| | measured | at most | |\n|---|---:|---:|---|");
    let mut all = true;
    for (what, measured, bound) in gates {
        let met = measured <= bound;
        all &= met;
        println!("| {what} | {measured:.3} | {bound} | {} |", if met { "met" } else { "**not met**" });
    }
    all
}
