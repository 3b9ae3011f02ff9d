//! What queueing theory knows exactly, to check the simulator by.

use cluster_balancer::strategy::Random;

use crate::queueing::{Decider, run};
use crate::scenario::all;

/// How far a simulated figure may be off. A quantile of busy single queues varies most: what happens in one of them
/// depends for hundreds of service times on what happened before.
const TOLERANCE: f64 = 0.08;

/// The mean time in an M/M/n queue with this load, in mean service times (Erlang C).
fn mean_of_central_queue(servers: usize, load: f64) -> f64 {
    let offered = servers as f64 * load;
    // Terms of the sum, each from the one before.
    let (mut term, mut sum) = (1.0, 1.0);
    for n in 1..servers {
        term *= offered / n as f64;
        sum += term;
    }
    let last = term * offered / servers as f64 / (1.0 - load);
    let waits = last / (sum + last);
    1.0 + waits / (servers as f64 * (1.0 - load))
}

/// Compares, prints, and says whether all is within the tolerance.
pub(crate) fn check(jobs: usize, seed: u64) -> bool {
    println!("### The simulator against theory\n\n| | theory | simulated |\n|---|---:|---:|");
    let mut good = true;
    let mut row = |name: &str, theory: f64, simulated: f64| {
        let off = (simulated / theory - 1.0).abs() > TOLERANCE;
        good &= !off;
        println!("| {name} | {theory:.2} | {simulated:.2}{} |", if off { " **off**" } else { "" });
    };
    for scenario in all().iter().filter(|scenario| scenario.is_homogeneous() && scenario.burst == 1.0) {
        let exponential = scenario.service == crate::scenario::Service::Exponential;
        if !exponential {
            continue;
        }
        let workers = scenario.speeds.len();
        if workers == 64 {
            // A random split of a Poisson process is one for each worker: M/M/1.
            let random =
                Decider::Pool { strategy: Box::new(Random::seeded(seed)), weighted: false, gauges: None };
            let simulated = run(scenario, random, jobs, seed);
            let theory = 100f64.ln() / (1.0 - scenario.load);
            row(&format!("M/M/1, load {}: p99", scenario.load), theory, simulated.quantile(0.99));
        }
        let simulated = run(scenario, Decider::Central, jobs, seed);
        let name = format!("M/M/{workers}, load {}: mean", scenario.load);
        row(&name, mean_of_central_queue(workers, scenario.load), simulated.mean);
    }
    println!();
    good
}
