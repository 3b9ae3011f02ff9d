//! How many keys move although their member stays, when another leaves.

use cluster_balancer::strategy::{Maglev, Rendezvous};
use cluster_balancer::{Limits, Pool, Request, Strategy, hash_of};

const KEYS: u64 = 200_000;

/// The worst of each strategy.
#[derive(Debug)]
pub(crate) struct Moved {
    pub(crate) maglev: f64,
    pub(crate) rendezvous: f64,
}

fn homes(strategy: impl Strategy, members: impl Iterator<Item = u64>, seed: u64) -> Vec<u64> {
    let mut pool = Pool::new(strategy);
    for member in members {
        pool.add(member, Limits::new());
    }
    let home = |key: u64| {
        let picked = pool.pick_for(Request::new().key(hash_of((seed, key))))?;
        pool.release(picked);
        pool.key(picked).copied()
    };
    (0..KEYS).filter_map(home).collect()
}

pub(crate) fn print(seed: u64) -> Moved {
    println!(
        "### Keys that move needlessly when one of n members leaves, and the fullest member's keys over the mean\n"
    );
    println!("| members | maglev | | rendezvous | |\n|---:|---:|---:|---:|---:|");
    let mut worst = Moved { maglev: 0.0, rendezvous: 0.0 };
    for count in [4u64, 16, 64] {
        let gone = count / 2;
        let measure = |make: &dyn Fn() -> Box<dyn Strategy>| {
            let before = homes(make(), 0..count, seed);
            let after = homes(make(), (0..count).filter(|member| *member != gone), seed);
            let moved = before.iter().zip(&after).filter(|(home, now)| **home != gone && home != now).count();
            let most = (0..count).map(|member| before.iter().filter(|home| **home == member).count()).max();
            let fullest = most.unwrap_or(0) as f64 * count as f64 / KEYS as f64;
            (moved as f64 / KEYS as f64, fullest)
        };
        let (maglev, full) = measure(&|| Box::new(Maglev::new()));
        let (rendezvous, full_too) = measure(&|| Box::new(Rendezvous::new()));
        println!(
            "| {count} | {:.2} % | {full:.3} | {:.2} % | {full_too:.3} |",
            100.0 * maglev,
            100.0 * rendezvous
        );
        worst.maglev = worst.maglev.max(maglev);
        worst.rendezvous = worst.rendezvous.max(rendezvous);
    }
    println!();
    worst
}
