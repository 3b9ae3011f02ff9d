//! `cargo bench -p benches --bench balancer`: what a pick and its release cost, with everybody half busy.
//!
//! Beside a calibration of the same run (a read, an add and a write of memory that is not in order), so that figures of two
//! machines can be compared. How *good* the picks are is another question: `cargo run --release -p benches --bin simulate`.
#![allow(missing_docs, reason = "what criterion's macros make")]

use std::hint::black_box;

use cluster_balancer::strategy::{
    BoundedLoad, Maglev, PeakEwma, PowerOfTwoChoices, Random, Rendezvous, SmoothWeighted, WeightedRandom,
};
use cluster_balancer::{Dispatcher, LeastLoaded, Limits, Pool, Request, RoundRobin, SharedPool, Strategy};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const MEMBERS: [usize; 3] = [4, 64, 1024];

/// How many items each member has while picks are measured.
const EACH: usize = 3;

/// A pool in which everybody has something to do.
struct Busy<S> {
    pool: Pool<usize, S>,
    key: u64,
}

impl<S: Strategy> Busy<S> {
    fn new(strategy: S, members: usize, weight: impl Fn(usize) -> u32) -> Self {
        let mut pool = Pool::new(strategy);
        for member in 0..members {
            pool.add(member, Limits::new().weight(weight(member)));
        }
        for key in 0..members * EACH {
            pool.pick_for(Request::new().key(key as u64));
        }
        Self { pool, key: 0 }
    }

    fn step(&mut self) {
        if let Some(picked) = self.pool.pick() {
            self.pool.release(black_box(picked));
        }
    }

    fn step_with_key(&mut self) {
        self.key = self.key.wrapping_add(0x9e37_79b9_7f4a_7c15);
        if let Some(picked) = self.pool.pick_for(Request::new().key(self.key)) {
            self.pool.release(black_box(picked));
        }
    }
}

fn bench<S: Strategy>(
    c: &mut Criterion,
    name: &str,
    make: impl Fn() -> S,
    weight: fn(usize) -> u32,
    keyed: bool,
) {
    let mut group = c.benchmark_group("pick and release");
    for members in MEMBERS {
        group.bench_function(BenchmarkId::new(name, members), |b| {
            let mut busy = Busy::new(make(), members, weight);
            if keyed {
                b.iter(|| busy.step_with_key());
            } else {
                b.iter(|| busy.step());
            }
        });
    }
    group.finish();
}

fn strategies(c: &mut Criterion) {
    let equal = |_| 1;
    let mixed = |member| 1 + member as u32 % 4;
    bench(c, "round-robin", RoundRobin::new, equal, false);
    bench(c, "random", || Random::seeded(1), equal, false);
    bench(c, "power-of-two", || PowerOfTwoChoices::seeded(1), equal, false);
    bench(c, "least-loaded", LeastLoaded::new, equal, false);
    bench(c, "least-loaded, weighted", LeastLoaded::new, mixed, false);
    bench(c, "weighted-random", || WeightedRandom::seeded(1), mixed, false);
    bench(c, "smooth-weighted", SmoothWeighted::new, mixed, false);
    bench(c, "peak-ewma", || PeakEwma::seeded(1), equal, false);
    bench(c, "maglev", Maglev::new, equal, true);
    bench(c, "maglev, bounded", || BoundedLoad::new(Maglev::new()), equal, true);
    bench(c, "rendezvous", Rendezvous::new, equal, true);
    bench(c, "least-loaded, boxed", || Box::new(LeastLoaded::new()) as Box<dyn Strategy>, equal, false);
}

/// What the machine does in the meantime.
fn calibration(c: &mut Criterion) {
    let mut group = c.benchmark_group("calibration");
    for members in MEMBERS {
        group.bench_function(BenchmarkId::new("read, add, write", members), |b| {
            let mut counts = vec![0u32; members];
            let mut at = 0;
            b.iter(|| {
                at = (at + 7) % members;
                counts[at] = black_box(counts[at].wrapping_add(1));
            });
        });
    }
    group.finish();
}

fn shared(c: &mut Criterion) {
    let mut group = c.benchmark_group("shared pool");
    for members in [4, 64] {
        group.bench_function(BenchmarkId::new("least-loaded, one thread", members), |b| {
            let pool = SharedPool::new(LeastLoaded::new());
            for member in 0..members {
                pool.add(member, Limits::new());
            }
            b.iter(|| drop(black_box(pool.pick())));
        });
    }
    group.finish();
}

fn dispatcher(c: &mut Criterion) {
    let mut group = c.benchmark_group("dispatcher");
    for members in [4, 64] {
        group.bench_function(BenchmarkId::new("offer, poll, taken, finished", members), |b| {
            let mut dispatcher = Dispatcher::new(Box::new(LeastLoaded::new()), 16);
            (0..members).for_each(|member| dispatcher.admit(member, Limits::new()));
            let mut finished = vec![0u64; members];
            b.iter(|| {
                dispatcher.offer(7u32).ok();
                while let Some(batch) = dispatcher.poll_batch() {
                    for ticket in batch.tickets() {
                        dispatcher.handle_taken(batch.key(), *ticket);
                        finished[batch.key()] += 1;
                        dispatcher.handle_finished(batch.key(), finished[batch.key()]);
                    }
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, calibration, strategies, shared, dispatcher);
criterion_main!(benches);
