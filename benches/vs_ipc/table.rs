//! Medians, ratios, and how they are printed.

use std::collections::BTreeMap;

use crate::args::Args;
use crate::job::{Case, Kind, Place};
use crate::peers::Peer;

/// All that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    setting: String,
    meaningless: bool,
    reference: String,
    /// In the order of the tables.
    peers: Vec<&'static str>,
    /// Operations per second, one for each round.
    speeds: BTreeMap<(Case, &'static str), Vec<f64>>,
}

impl Report {
    pub(crate) fn new(args: &Args, chosen: &[Box<dyn Peer>]) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut versions: Vec<String> = chosen.iter().filter_map(|peer| peer.version()).collect();
        versions.dedup();
        let versions = versions.iter().map(|version| format!(" {version}.")).collect::<String>();
        let time = args.target().map_or_else(String::new, |target| format!(" × {target:?}"));
        Self {
            setting: format!("Cores: {cores}. Rounds: {}{time} for each figure.{versions}", args.rounds()),
            meaningless: args.smoke || cfg!(debug_assertions),
            reference: args.reference.clone(),
            peers: chosen.iter().map(|peer| peer.name()).collect(),
            speeds: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, case: Case, peer: &'static str, speed: f64) {
        self.speeds.entry((case, peer)).or_default().push(speed);
    }

    pub(crate) fn print(&self, skipped: &[Box<dyn Peer>]) {
        println!("{}", self.setting);
        if self.meaningless {
            println!("\n**The figures mean nothing**: this was a smoke run or a debug build.");
        }
        let mut tables: BTreeMap<(Kind, Place), Vec<Case>> = BTreeMap::new();
        for (case, _) in self.speeds.keys() {
            let columns = tables.entry((case.kind, case.place)).or_default();
            if !columns.contains(case) {
                columns.push(*case);
            }
        }
        for ((kind, place), columns) in &tables {
            println!("\n### {}, {}\n", title(*kind), place_in_words(*place));
            self.print_table(columns);
        }
        for peer in skipped {
            println!("\nSkipped: {} ({}).", peer.name(), peer.missing().unwrap_or_default());
        }
    }

    fn print_table(&self, columns: &[Case]) {
        let rows: Vec<&'static str> =
            self.peers.iter().copied().filter(|peer| self.has(columns, peer)).collect();
        let reference = rows.iter().copied().find(|peer| peer.contains(self.reference.as_str()));
        if let Some(reference) = reference {
            println!("Median (min–max); ×: how much faster {reference} is, median within rounds.\n");
        } else {
            println!("Median (min–max).\n");
        }
        let ratio_head = if reference.is_some() { " × |" } else { "" };
        let ratio_line = if reference.is_some() { "---:|" } else { "" };
        let head = columns.iter().map(|case| format!(" {} |{ratio_head}", case.amount())).collect::<String>();
        println!("| peer |{head}");
        println!("|---|{}", format!("---:|{ratio_line}").repeat(columns.len()));
        for peer in rows {
            let cells = columns.iter().map(|case| {
                let Some(speeds) = self.speeds.get(&(*case, peer)) else {
                    return if reference.is_some() { " – | – |" } else { " – |" }.to_owned();
                };
                let ratio =
                    reference.map_or_else(String::new, |reference| self.ratio(case, reference, speeds));
                format!(" {} |{ratio}", figure(case.kind, speeds))
            });
            println!("| {peer} |{}", cells.collect::<String>());
        }
    }

    fn has(&self, columns: &[Case], peer: &'static str) -> bool {
        columns.iter().any(|case| self.speeds.contains_key(&(*case, peer)))
    }

    fn ratio(&self, case: &Case, reference: &'static str, speeds: &[f64]) -> String {
        let Some(its) = self.speeds.get(&(*case, reference)) else { return " – |".to_owned() };
        format!(" {} × |", digits(median(its.iter().zip(speeds).map(|(its, speed)| its / speed))))
    }
}

const fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::PingPong => "Ping-pong: µs per round trip",
        Kind::OneWay => "One way: messages per second",
        Kind::Descriptors => "Open files, one way: descriptors per second",
    }
}

const fn place_in_words(place: Place) -> &'static str {
    match place {
        Place::Same => "both processes on one CPU",
        Place::Cross => "each process on a CPU of its own",
        Place::Free => "wherever the scheduler puts the processes",
    }
}

fn figure(kind: Kind, speeds: &[f64]) -> String {
    let values = speeds.iter().map(|speed| if kind == Kind::PingPong { 1e6 / speed } else { *speed });
    let (least, most) =
        values.clone().fold((f64::INFINITY, 0.0), |(least, most): (f64, f64), v| (least.min(v), most.max(v)));
    format!("{} ({}–{})", scaled(median(values)), scaled(least), scaled(most))
}

/// `1.23 M`
fn scaled(value: f64) -> String {
    match value {
        value if value >= 999_500.0 => format!("{} M", digits(value / 1e6)),
        value if value >= 9_995.0 => format!("{} k", digits(value / 1e3)),
        value => digits(value),
    }
}

/// About three digits.
fn digits(value: f64) -> String {
    match value {
        value if value >= 99.95 => format!("{value:.0}"),
        value if value >= 9.995 => format!("{value:.1}"),
        value if value >= 0.0995 => format!("{value:.2}"),
        value => format!("{value:.4}"),
    }
}

/// The middle one, or the mean of the two in the middle. 0 of none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.len() % 2, values.get(middle), middle.checked_sub(1).and_then(|below| values.get(below))) {
        (1, Some(value), _) => *value,
        (0, Some(above), Some(below)) => f64::midpoint(*above, *below),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        assert_eq!(scaled(0.0125), "0.0125");
        assert_eq!(scaled(9.2), "9.20");
        assert_eq!(scaled(999.0), "999");
        assert_eq!(scaled(12_345.0), "12.3 k");
        assert_eq!(scaled(58_000_000.0), "58.0 M");
        assert_eq!(scaled(1_009.6), "1010");
    }

    #[test]
    fn a_round_trip_is_shown_as_its_time() {
        assert_eq!(figure(Kind::PingPong, &[1e5, 5e4, 2e5]), "10.0 (5.00–20.0)");
        assert_eq!(figure(Kind::OneWay, &[1e5, 5e4, 2e5]), "100 k (50.0 k–200 k)");
    }
}
