//! What can be asked for.

use std::time::Duration;

use clap::Parser;

use crate::job::{Case, Kind, Place};

/// Descriptors in a message.
const BATCHES: [usize; 2] = [1, 64];
/// The sizes of a smoke run: one below and one above what is written at a time.
const SMOKE_SIZES: [usize; 2] = [64, 128 << 10];

/// Runs our IPC side by side with its peers, between two processes, and prints how they compare.
///
/// ping-pong: a message goes to the child and comes back; time per round trip. one-way: messages go to the child,
/// which confirms the last; messages per second. descriptors: the same with open files. Every receiver checks the
/// length and number of what it got. Within each round the peers take turns in each case, and every ratio is a median
/// of ratios within a round, so that a machine that is busy at times distorts all alike.
///
/// Peers that are not installed are left out and named at the end.
#[derive(Parser, Debug)]
#[command(
    name = "vs_ipc",
    after_help = "The tables go to stdout, progress to stderr. Run it from a release build:\n  \
                  cargo run --release -p benches --bin vs_ipc -- --rounds 3 --only ours,raw --sizes 64,1M"
)]
pub(crate) struct Args {
    /// Rounds; in each, every peer is measured once in each case.
    #[arg(long, value_name = "R", default_value_t = 5, value_parser = positive)]
    rounds: usize,
    /// Seconds of each measurement, roughly; a warm-up precedes it.
    #[arg(long, value_name = "S", default_value_t = 0.3, value_parser = seconds)]
    seconds: f64,
    /// Only peers with one of these in their name.
    #[arg(long, value_name = "PART,PART", value_delimiter = ',')]
    only: Vec<String>,
    /// The peer that the ratios are of: the first with this in its name that does what the table is about.
    #[arg(long, value_name = "PART", default_value = "ours")]
    pub(crate) reference: String,
    /// Only these kinds of measurement.
    #[arg(long, value_name = "KIND,KIND", value_delimiter = ',')]
    kinds: Vec<Kind>,
    /// Bytes of a message.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "64,1K,64K,1M", value_parser = size)]
    sizes: Vec<usize>,
    /// Where the two processes of a ping-pong run.
    #[arg(long, value_name = "PLACE,PLACE", value_delimiter = ',', default_value = "same")]
    ping_pong_on: Vec<Place>,
    /// Where they run for all else.
    #[arg(long, value_name = "PLACE,PLACE", value_delimiter = ',', default_value = "cross")]
    one_way_on: Vec<Place>,
    /// For CI: only ours and raw sockets, a few messages, one round. Works in a debug build; the figures mean nothing, but
    /// any failure is an error.
    #[arg(long, conflicts_with_all = ["rounds", "seconds", "only", "sizes", "one_way_on", "ping_pong_on"])]
    pub(crate) smoke: bool,
    /// Be the child of a measurement; what is its channel, or leads to it, is stdin.
    #[arg(long, hide = true, exclusive = true, num_args = 2, value_names = ["PEER", "JOB"])]
    pub(crate) serve: Option<Vec<String>>,
}

impl Args {
    pub(crate) fn wants(&self, peer: &str) -> bool {
        if self.smoke {
            return peer.starts_with("ours") || peer.starts_with("raw");
        }
        self.only.is_empty() || self.only.iter().any(|part| peer.contains(part.as_str()))
    }

    pub(crate) const fn rounds(&self) -> usize {
        if self.smoke { 1 } else { self.rounds }
    }

    /// How long a measurement should take. None: as short as it gets.
    pub(crate) fn target(&self) -> Option<Duration> {
        (!self.smoke).then(|| Duration::from_secs_f64(self.seconds))
    }

    pub(crate) fn cases(&self) -> Vec<Case> {
        let sizes = if self.smoke { &SMOKE_SIZES[..] } else { &self.sizes };
        // A smoke run must do on a machine with one CPU.
        let anywhere = [Place::Free];
        let places = |asked: &[Place]| if self.smoke { anywhere.to_vec() } else { asked.to_vec() };
        let mut cases = Vec::new();
        for kind in [Kind::PingPong, Kind::OneWay, Kind::Descriptors] {
            if !self.kinds.is_empty() && !self.kinds.contains(&kind) {
                continue;
            }
            let (places, sizes) = match kind {
                Kind::PingPong => (places(&self.ping_pong_on), sizes),
                Kind::OneWay => (places(&self.one_way_on), sizes),
                Kind::Descriptors => (places(&self.one_way_on), &BATCHES[..]),
            };
            for place in places {
                cases.extend(sizes.iter().map(|size| Case { kind, place, size: *size }));
            }
        }
        cases
    }
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "not a number above 0".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.001..=10.0).contains(seconds));
    seconds.ok_or_else(|| "not a number from 0.001 to 10".to_owned())
}

/// `64`, `1K`, `1M`
fn size(text: &str) -> Result<usize, String> {
    let (number, shift) = match text.split_at_checked(text.len().saturating_sub(1)) {
        Some((number, "K" | "k")) => (number, 10),
        Some((number, "M" | "m")) => (number, 20),
        _ => (text, 0),
    };
    let size = number.parse::<usize>().ok().and_then(|number| number.checked_mul(1 << shift));
    // Room for a message's number; and all of it is in memory several times.
    size.filter(|size| (16..=64 << 20).contains(size)).ok_or_else(|| "not a size from 16 to 64M".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_suffixes_and_bounds() {
        assert_eq!(size("64"), Ok(64));
        assert_eq!(size("1K"), Ok(1024));
        assert_eq!(size("64m"), Ok(64 << 20));
        assert!(size("8").is_err() && size("65M").is_err() && size("K").is_err() && size("").is_err());
    }
}
