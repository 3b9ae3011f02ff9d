//! What the figures are held against. A gate that is missed fails nothing: machines differ.

use crate::figures::{Figures, What};
use crate::table::{digits, time};

pub(crate) fn print(figures: &Figures) {
    let of = |what| figures.of(what).map(|figure| figure.median);
    println!();
    if let Some(read) = of(What::LocalGet) {
        say("local read ≤ 60 ns", read <= 60.0, &time(read));
    }
    if let Some(faster) = figures.ratio(What::RedisGet, What::LocalGet) {
        say("local read ≥ 500 × as fast as Redis GET", faster >= 500.0, &format!("{} ×", digits(faster)));
    }
    let trips = [
        ("write acknowledged ≤ 2 × a bare round trip", What::Acknowledged, What::Bare, 2.0),
        ("the same, all on one CPU", What::AcknowledgedOneCpu, What::BareOneCpu, 2.0),
        (
            "visible on 8 workers (to 11 of 12 reads) ≤ 2 bare round trips later",
            What::ReadOnAll8,
            What::BarePaused,
            4.0,
        ),
    ];
    for (gate, what, bare, limit) in trips {
        if let Some(ratio) = figures.ratio(what, bare) {
            say(gate, ratio <= limit, &format!("{} × in all", digits(ratio)));
        }
    }
    if let (Some(median), Some(p99)) = (of(What::Acknowledged), of(What::AcknowledgedP99)) {
        let (is_met, value) = (median <= 60e3 && p99 <= 200e3, format!("{} and {}", time(median), time(p99)));
        say("write acknowledged ≤ 60 µs, p99 ≤ 200 µs", is_met, &value);
    }
    let enough = of(What::RedisPipelined).map_or(300e3, |redis| redis.min(300e3));
    let gate = "pipelined writes/s ≥ 300 k or Redis, whichever is lower";
    for (team, what) in [("", What::Pipelined1), (", to 4 workers", What::Pipelined4)] {
        if let Some(rate) = of(what) {
            say(&format!("{gate}{team}"), rate >= enough, &format!("{} k", digits(rate / 1e3)));
        }
    }
    if let Some(join) = of(What::Join) {
        say("join with 10 k keys ≤ 10 ms", join <= 10e6, &time(join));
    }
}

fn say(gate: &str, is_met: bool, value: &str) {
    println!("- {}: {gate} ({value})", if is_met { "met" } else { "missed" });
}
