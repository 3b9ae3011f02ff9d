//! `cargo bench -p benches --bench health`: what it costs to know how the workers are.
//!
//! A *round* takes a sample of every worker: real children that sleep. Gate: at most 5 µs a worker and round, so that 64
//! workers, each looked at every second, take less than 0.04 % of a processor. *Bare* is what nobody can go below: only
//! reading `statm` of each, kept open, on the same machine in the same run. A sample is two to three of
//! these. A *beat* is what a worker pays each time on its board (gate: 50 ns), a *tick* what the monitor pays to look at 64 members.
//! What is expensive beside it, of one child that sleeps, is for comparison: a report, and the share of the
//! memory, which grows with the memory.
#![allow(missing_docs, reason = "what criterion's macros make")]

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cluster_health::os::{Pressure, Report, Sampler};
use cluster_health::{Heartbeat, Monitor};
use cluster_ipc::board::{PrimaryBoard, WorkerBoard};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const WORKERS: [usize; 3] = [1, 16, 64];

/// Children that sleep: they read from a pipe, and end with it, so at the latest when this process does.
struct Workers(Vec<Child>);

impl Workers {
    fn start(number: usize) -> Self {
        let start = |_| {
            let mut command = Command::new("/bin/cat");
            command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()
        };
        let children: Result<_, _> = (0..number).map(start).collect();
        Self(children.unwrap_or_else(|error| panic!("could not start /bin/cat: {error}")))
    }

    fn statm_files(&self) -> Vec<File> {
        let open = |child: &Child| File::open(format!("/proc/{}/statm", child.id()));
        let files: Result<_, _> = self.0.iter().map(open).collect();
        files.unwrap_or_else(|error| panic!("could not open statm of a child: {error}"))
    }

    fn samplers(&self) -> Vec<Sampler> {
        let open = |child: &Child| Sampler::open(child.id()).unwrap_or_else(|error| panic!("{error}"));
        self.0.iter().map(open).collect()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn rounds(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("round");
    for number in WORKERS {
        let workers = Workers::start(number);
        let mut samplers = workers.samplers();
        group.throughput(Throughput::Elements(number as u64));
        group.bench_function(BenchmarkId::new("samples", number), |bencher| {
            bencher.iter(|| {
                for sampler in &mut samplers {
                    assert!(black_box(sampler.sample()).is_ok());
                }
            });
        });
        let files = workers.statm_files();
        group.bench_function(BenchmarkId::new("bare", number), |bencher| {
            bencher.iter(|| {
                for file in &files {
                    assert!(file.read_at(black_box(&mut [0; 160]), 0).is_ok());
                }
            });
        });
    }
    group.finish();
}

fn beside(criterion: &mut Criterion) {
    let workers = Workers::start(1);
    let samplers = workers.samplers();
    let mut group = criterion.benchmark_group("beside the loop");
    for sampler in &samplers {
        group
            .bench_function("share of the memory", |bencher| bencher.iter(|| sampler.proportional().is_ok()));
        group.bench_function("report", |bencher| bencher.iter(|| Report::of(sampler.pid()).is_ok()));
    }
    let pressure = Pressure::of_machine();
    group.bench_function("pressure of memory", |bencher| bencher.iter(|| pressure.memory()));
    group.finish();
}

fn beats(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("beat");
    let (_primary, memory) = PrimaryBoard::create().unwrap_or_else(|error| panic!("{error}"));
    let worker = WorkerBoard::open(memory).unwrap_or_else(|error| panic!("{error}"));
    group.bench_function("on the board", |bencher| bencher.iter(|| worker.beat()));
    let mut monitor = Monitor::new(Heartbeat::new());
    let mut now = Instant::now();
    (0..64_u32).for_each(|member| monitor.insert(member, now));
    let mut beats = 0;
    group.bench_function("a tick of 64 members", |bencher| {
        bencher.iter(|| {
            now += Duration::from_millis(100);
            beats += 1;
            (0..64_u32).for_each(|member| monitor.handle_counter(member, beats, now));
            monitor.handle_timeout(now);
            assert!(monitor.poll_verdict().is_none());
        });
    });
    group.finish();
}

criterion_group!(benches, rounds, beside, beats);
criterion_main!(benches);
