//! Strategies that come in pairs: the same kind and seed make the same one.

use std::time::Duration;

use cluster_balancer::strategy::{
    BoundedLoad, Candidates, Fallback, LeastLoaded, Named, PanicThreshold, Rendezvous, RoundRobin, SlowStart,
    Sticky, Strategy, by_name_seeded, names,
};
use fastrand::Rng;

/// Answers anything, sensible or not. Two with one seed answer the same.
#[derive(Debug)]
struct Erratic(Rng);

impl Strategy for Erratic {
    fn name(&self) -> &'static str {
        "erratic"
    }

    fn pick(&mut self, among: &Candidates<'_>) -> Option<usize> {
        let index = self.0.usize(..among.len() + 3);
        (index < among.len() + 2).then_some(index)
    }
}

type Make = fn(u64) -> Box<dyn Strategy>;

const OTHERS: [Make; 7] = [
    |seed| Box::new(Erratic(Rng::with_seed(seed))),
    |_| Box::new(Sticky::new(LeastLoaded::new(), Duration::from_secs(20)).max_keys(4)),
    |_| Box::new(Named::new(LeastLoaded::new())),
    |_| Box::new(PanicThreshold::new(RoundRobin::new())),
    |seed| Box::new(SlowStart::seeded(LeastLoaded::new(), Duration::from_secs(10), seed)),
    |_| Box::new(BoundedLoad::new(Rendezvous::new())),
    |seed| Box::new(Fallback::new(Erratic(Rng::with_seed(seed)), LeastLoaded::new())),
];

/// How many kinds there are: all that have a name, and those above.
pub(crate) fn kinds() -> u64 {
    (names().count() + OTHERS.len()) as u64
}

pub(crate) fn strategy(kind: u64, seed: u64) -> Box<dyn Strategy> {
    let kind = kind as usize;
    match names().nth(kind) {
        Some(name) => by_name_seeded(name, seed).unwrap(),
        None => OTHERS[kind - names().count()](seed),
    }
}
