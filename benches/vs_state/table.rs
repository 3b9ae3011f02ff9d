//! How figures are printed.

use crate::args::Args;
use crate::figures::{Figures, Summary, What};

/// A row: what it is, ours, and what stands beside it.
type Row = (&'static str, Unit, What, &'static [(&'static str, What)]);

#[derive(Clone, Copy)]
enum Unit {
    Time,
    Rate,
}

const ROWS: &[Row] = &[
    ("local read", Unit::Time, What::LocalGet, &[("Redis GET", What::RedisGet)]),
    (
        "write, acknowledged",
        Unit::Time,
        What::Acknowledged,
        &[("bare round trip", What::Bare), ("Redis SET", What::RedisSet)],
    ),
    (
        "write, acknowledged, p99",
        Unit::Time,
        What::AcknowledgedP99,
        &[("bare round trip", What::BareP99), ("Redis SET", What::RedisSetP99)],
    ),
    (
        "write, acknowledged, all on one CPU",
        Unit::Time,
        What::AcknowledgedOneCpu,
        &[("bare round trip", What::BareOneCpu), ("Redis SET", What::RedisSetOneCpu)],
    ),
    (
        "write, acknowledged, among 8 workers that watch",
        Unit::Time,
        What::AcknowledgedOf8,
        &[("bare round trip", What::BarePaused)],
    ),
    (
        "write, acknowledged, among 8 workers that only read",
        Unit::Time,
        What::AcknowledgedAsleep,
        &[("bare round trip", What::BarePaused)],
    ),
    (
        "write, visible to half of the reads on 8 workers",
        Unit::Time,
        What::ReadOn8,
        &[("bare round trip", What::BarePaused)],
    ),
    (
        "write, visible on all 8 workers (to 11 of 12 reads)",
        Unit::Time,
        What::ReadOnAll8,
        &[("bare round trip", What::BarePaused)],
    ),
    (
        "write, watchers told on all 8 workers",
        Unit::Time,
        What::ToldOn8,
        &[
            ("bare round trip", What::BarePaused),
            ("blocking sockets", What::SocketsOn8),
            ("channels on a runtime, no state", What::ChannelsOn8),
            ("Redis SET + PUBLISH", What::RedisOn8),
        ],
    ),
    (
        "write, watchers told on all 8 workers, p99",
        Unit::Time,
        What::ToldOn8P99,
        &[("Redis SET + PUBLISH", What::RedisOn8P99)],
    ),
    (
        "pipelined writes/s, 256 under way",
        Unit::Rate,
        What::Pipelined1,
        &[("Redis SET", What::RedisPipelined)],
    ),
    (
        "pipelined writes/s, to 4 workers",
        Unit::Rate,
        What::Pipelined4,
        &[("Redis SET", What::RedisPipelined)],
    ),
    ("join, 10 k keys", Unit::Time, What::Join, &[("Redis MGET of all", What::RedisGetAll)]),
];

pub(crate) fn print(args: &Args, figures: &Figures) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let redis = figures.redis.as_ref().map_or_else(String::new, |version| format!(" Redis {version}."));
    println!("Cores: {cores}. Rounds: {}.{redis}", args.rounds());
    if args.smoke || cfg!(debug_assertions) {
        println!("\n**The figures mean nothing**: this was a smoke run or a debug build.");
    }
    println!("\nMedian of the rounds (min–max); ×: ours to it, median within rounds.\n");
    println!("| | ours | beside | | × |");
    println!("|---|---:|---|---:|---:|");
    for (name, unit, ours, beside) in ROWS {
        let Some(figure) = figures.of(*ours) else { continue };
        let beside = beside.iter().filter_map(|(name, what)| Some((*name, *what, figures.of(*what)?)));
        let mut head = format!("| {name} | {} |", cell(*unit, figure));
        let mut rows = 0;
        for (other, what, its) in beside {
            let ratio = figures.ratio(*ours, what).unwrap_or_default();
            println!("{head} {other} | {} | {} |", cell(*unit, its), digits(ratio));
            "| | |".clone_into(&mut head);
            rows += 1;
        }
        if rows == 0 {
            println!("{head} | | |");
        }
    }
}

fn cell(unit: Unit, figure: Summary) -> String {
    let show = |value| match unit {
        Unit::Time => time(value),
        Unit::Rate => format!("{} k", digits(value / 1e3)),
    };
    format!("{} ({}–{})", show(figure.median), show(figure.least), show(figure.most))
}

pub(crate) fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        value if value >= 1e6 => format!("{} ms", digits(value / 1e6)),
        value if value >= 1e3 => format!("{} µs", digits(value / 1e3)),
        value => format!("{} ns", digits(value)),
    }
}

/// About three digits.
pub(crate) fn digits(value: f64) -> String {
    match value {
        value if value >= 99.95 => format!("{value:.0}"),
        value if value >= 9.995 => format!("{value:.1}"),
        value if value >= 0.0995 => format!("{value:.2}"),
        value => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_a_unit() {
        assert_eq!(time(41.23), "41.2 ns");
        assert_eq!(time(41_230.0), "41.2 µs");
        assert_eq!(time(4_123_000.0), "4.12 ms");
    }
}
