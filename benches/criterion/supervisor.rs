//! `cargo bench -p benches --bench supervisor`: what a decision costs.
//!
//! A *crash* is an exit, the decision, the spawn of the successor, and its being ready, with all that a driver polls in
//! between; a *roll* is the replacement of one worker, a share of a roll of all.
#![allow(missing_docs, reason = "what criterion's macros make")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use cluster_supervisor::{Action, Backoff, Budget, Exit, Policy, Roll, Supervisor, WorkerId};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const WORKERS: [u32; 3] = [4, 64, 1000];

/// A driver whose machine does everything at once.
struct Driver {
    supervisor: Supervisor,
    now: Instant,
}

impl Driver {
    fn serving(workers: u32) -> Self {
        let policy = Policy::new().budget(Budget::unlimited()).backoff(Backoff::new().base(Duration::ZERO));
        let mut driver = Self { supervisor: Supervisor::new(policy, 7), now: Instant::now() };
        for _ in 0..workers {
            driver.supervisor.start(driver.now);
        }
        driver.settle();
        driver
    }

    /// Carries out all that is to be done, until nothing is.
    fn settle(&mut self) {
        while let Some(action) = self.supervisor.poll_action() {
            match action {
                Action::Spawn(id) => {
                    self.supervisor.handle_spawned(id, self.now);
                    self.supervisor.handle_ready(id, self.now);
                }
                Action::AskStop(id) => self.supervisor.handle_exit(id, Exit::Code(0), self.now),
                Action::Admit(_) | Action::Withdraw(_) | Action::Signal(..) => {}
            }
        }
        while let Some(event) = self.supervisor.poll_event() {
            black_box(event);
        }
        black_box(self.supervisor.poll_timeout());
    }

    fn crash(&mut self, slot: u32) {
        // So long that it is the first failure again: no back-off.
        self.now += Duration::from_secs(60);
        let own = self.supervisor.slots().nth(slot as usize).map(|slot| slot.newest());
        self.supervisor.handle_exit(own.unwrap_or(WorkerId::new(0, 0)), Exit::Signal(11), self.now);
        self.settle();
    }
}

fn crashes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("crash and restart");
    for workers in WORKERS {
        let mut driver = Driver::serving(workers);
        let mut slot = 0;
        group.bench_function(BenchmarkId::from_parameter(workers), |bencher| {
            bencher.iter(|| {
                slot = (slot + 1) % workers;
                driver.crash(slot);
            });
        });
    }
    group.finish();
}

fn rolls(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("roll, per worker");
    group.sample_size(10);
    for workers in WORKERS {
        group.throughput(Throughput::Elements(u64::from(workers)));
        group.bench_function(BenchmarkId::from_parameter(workers), |bencher| {
            bencher.iter_batched(
                || Driver::serving(workers),
                |mut driver| {
                    let begun = driver.supervisor.roll(Roll::same(), driver.now);
                    driver.settle();
                    assert!(begun.is_ok() && driver.supervisor.current_roll().is_none());
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, crashes, rolls);
criterion_main!(benches);
