//! `cargo bench -p benches --bench shared_state`: what the parts of `cluster-shared-state` cost, within one process.
//!
//! Between processes, and beside Redis: `cargo run --release -p benches --bin vs_state`.
#![allow(missing_docs, reason = "what criterion's macros make")]
#![allow(clippy::unwrap_used, reason = "a bench may panic")]

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::{Duration, Instant};

use cluster_shared_state::tokio::{Follower, Hub, LinkError, Pending, SharedState, Watching, ipc, memory};
use cluster_shared_state::{
    ClientId, Command, Epoch, Key, KeyRange, Limits, PublisherConfig, ReplicaConfig, Store, Watch,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

const FEW: usize = 10_000;
/// A debug build only shows that it runs.
const MANY: usize = if cfg!(debug_assertions) { 20_000 } else { 1_000_000 };
const VALUE: [u8; 64] = [7; 64];
/// Commands under way: as many as a primary allows.
const WINDOW: usize = 256;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn key(number: usize) -> String {
    format!("session/{number:08}")
}

fn client(number: usize) -> ClientId {
    ClientId::new(number as u64, 1)
}

/// How the replicas of a bench are connected.
#[derive(Clone, Copy)]
enum By {
    Memory,
    Socket,
}

impl By {
    const ALL: [(Self, &'static str); 2] = [(Self::Memory, "memory"), (Self::Socket, "socket pair")];

    /// A replica, and the task that keeps it up to date.
    fn join(self, hub: &Hub, client: ClientId) -> (SharedState, JoinHandle<LinkError>) {
        let (state, follower) = SharedState::new(client, ReplicaConfig::new());
        (state, self.connect(hub, client, follower))
    }

    fn connect(self, hub: &Hub, client: ClientId, mut follower: Follower) -> JoinHandle<LinkError> {
        let hub = hub.clone();
        match self {
            Self::Memory => {
                let (here, there) = memory();
                tokio::spawn(async move { hub.serve(client, there).await });
                tokio::spawn(async move { follower.follow(here).await })
            }
            Self::Socket => {
                let (here, there) = cluster_ipc::Socket::pair().unwrap();
                let here = ipc::link(here, usize::MAX).unwrap();
                let there = ipc::link(there, ipc::max_request(&Limits::new())).unwrap();
                tokio::spawn(async move { hub.serve(client, there).await });
                tokio::spawn(async move { follower.follow(here).await })
            }
        }
    }

    fn follow(self, hub: &Hub, client: ClientId) -> SharedState {
        self.join(hub, client).0
    }
}

/// A primary with so many keys, and replicas that have all of them.
fn start(runtime: &Runtime, by: By, keys: usize, replicas: usize) -> (Hub, Vec<SharedState>) {
    runtime.block_on(async {
        let hub = Hub::new(Epoch::new(1), PublisherConfig::new());
        for number in 0..keys {
            hub.execute(Command::put(key(number), &VALUE[..])).unwrap();
        }
        let states: Vec<_> = (0..replicas).map(|number| by.follow(&hub, client(number))).collect();
        for state in &states {
            state.live().await.unwrap();
        }
        (hub, states)
    })
}

fn reads(c: &mut Criterion) {
    let mut group = c.benchmark_group("local read");
    for keys in [FEW, MANY] {
        let runtime = runtime();
        let (_hub, states) = start(&runtime, By::Memory, keys, 1);
        let state = &states[0];
        // In another order than that in which they are in memory.
        let names: Vec<String> = (0..FEW).map(|number| key(number * 7919 % keys)).collect();
        let mut next = names.iter().cycle();
        group.bench_function(BenchmarkId::new("get", keys), |b| {
            b.iter(|| black_box(state.get(next.next().unwrap())));
        });
        group.bench_function(BenchmarkId::new("view, get", keys), |b| {
            b.iter(|| black_box(state.view().get(next.next().unwrap())));
        });
        let view = state.view();
        group.bench_function(BenchmarkId::new("get of a view", keys), |b| {
            b.iter(|| black_box(view.get(next.next().unwrap())));
        });
    }
    group.finish();
}

/// Times `count` operations in one stretch, as tasks need the runtime.
fn stretch(runtime: &Runtime, count: u64, mut operation: impl AsyncFnMut(u64)) -> Duration {
    runtime.block_on(async {
        let begin = Instant::now();
        for number in 0..count {
            operation(number).await;
        }
        begin.elapsed()
    })
}

fn writes(c: &mut Criterion) {
    let mut group = c.benchmark_group("write");
    for (by, name) in By::ALL {
        let runtime = runtime();
        let (_hub, states) = start(&runtime, by, FEW, 8);
        let lone = start(&runtime, by, FEW, 1).1.remove(0);
        let names: Vec<Key> = (0..FEW).map(|number| Key::from(key(number))).collect();
        let name_of = |number: u64| names[number as usize % FEW].clone();
        group.bench_function(BenchmarkId::new("round trip, one thread", name), |b| {
            b.iter_custom(|count| {
                stretch(&runtime, count, async |number| {
                    black_box(lone.set(name_of(number), &VALUE[..]).await.unwrap());
                })
            });
        });
        group.bench_function(BenchmarkId::new("visible in each of 8 replicas, one thread", name), |b| {
            b.iter_custom(|count| {
                stretch(&runtime, count, async |number| {
                    states[0].set(name_of(number), &VALUE[..]).await.unwrap();
                    let cursor = states[0].cursor().unwrap();
                    for state in &states {
                        state.at_least(cursor).await.unwrap();
                    }
                })
            });
        });
    }
    group.finish();
}

fn pipelined(c: &mut Criterion) {
    let mut group = c.benchmark_group("pipelined writes, one thread");
    group.throughput(Throughput::Elements(1));
    for (by, name) in By::ALL {
        for replicas in [1, 4] {
            let runtime = runtime();
            let (_hub, states) = start(&runtime, by, FEW, replicas);
            let state = &states[0];
            let names: Vec<Key> = (0..FEW).map(|number| Key::from(key(number))).collect();
            group.bench_function(BenchmarkId::new(name, format!("{replicas} replicas")), |b| {
                b.iter_custom(|count| {
                    let mut pending = VecDeque::<Pending>::with_capacity(WINDOW);
                    stretch(&runtime, count, async |number| {
                        if pending.len() == WINDOW
                            && let Some(oldest) = pending.pop_front()
                        {
                            black_box(oldest.await.unwrap());
                        }
                        let put = Command::put(names[number as usize % FEW].clone(), &VALUE[..]);
                        pending.push_back(state.submit(put).unwrap());
                        if number + 1 == count {
                            for last in pending.drain(..) {
                                last.await.unwrap();
                            }
                        }
                    })
                });
            });
        }
    }
    group.finish();
}

fn watches(c: &mut Criterion) {
    let mut group = c.benchmark_group("watch, one thread");
    let runtime = runtime();
    let (_hub, states) = start(&runtime, By::Memory, FEW, 2);
    let watch = |state: &SharedState, number: usize| -> Watching {
        state.watch(Watch::new(KeyRange::key(key(number)))).unwrap()
    };
    let mut different: Vec<_> = (0..1000).map(|number| watch(&states[0], number)).collect();
    group.bench_function("write to notice, 1000 watchers of different keys", |b| {
        b.iter_custom(|count| {
            stretch(&runtime, count, async |number| {
                let nth = number as usize % different.len();
                states[0].set(key(nth), &VALUE[..]).await.unwrap();
                black_box(different[nth].next().await.unwrap());
            })
        });
    });
    let mut same: Vec<_> = (0..100).map(|_| watch(&states[1], FEW)).collect();
    group.bench_function("write to the last notice, 100 watchers of one key", |b| {
        b.iter_custom(|count| {
            stretch(&runtime, count, async |_| {
                states[1].set(key(FEW), &VALUE[..]).await.unwrap();
                for watching in &mut same {
                    black_box(watching.next().await.unwrap());
                }
            })
        });
    });
    group.finish();
}

fn joins(c: &mut Criterion) {
    let mut group = c.benchmark_group("join, one thread, socket pair");
    group.sample_size(10);
    for keys in [FEW, MANY] {
        let runtime = runtime();
        let (hub, _) = start(&runtime, By::Socket, keys, 0);
        group.throughput(Throughput::Elements(keys as u64));
        group.bench_function(BenchmarkId::from_parameter(keys), |b| {
            b.iter_custom(|count| {
                let mut took = Duration::ZERO;
                for number in 0..count {
                    let begin = Instant::now();
                    let (state, following) = runtime.block_on(async {
                        let (state, following) = By::Socket.join(&hub, client(number as usize));
                        state.live().await.unwrap();
                        (state, following)
                    });
                    took += begin.elapsed();
                    assert_eq!(state.view().len(), keys);
                    following.abort();
                    assert!(runtime.block_on(following).is_err());
                    hub.gone(client(number as usize));
                }
                took
            });
        });
    }
    group.finish();
}

fn store(c: &mut Criterion) {
    let mut group = c.benchmark_group("store alone");
    group.throughput(Throughput::Elements(1));
    let now = Instant::now();
    for keys in [FEW, MANY] {
        let mut store = Store::new(Epoch::new(1), Limits::new());
        let names: Vec<Key> = (0..keys).map(|number| Key::from(key(number))).collect();
        let mut put = |name: &Key| {
            let command = Command::put(name.clone(), &VALUE[..]).into();
            let answer = store.execute(ClientId::PRIMARY, command, now).unwrap();
            (answer, store.poll_commit())
        };
        names.iter().for_each(|name| drop(put(name)));
        let mut next = (0..).map(|number: usize| &names[number * 7919 % keys]);
        group.bench_function(BenchmarkId::new("put", keys), |b| {
            b.iter(|| black_box(put(next.next().unwrap())));
        });
    }
    group.finish();
}

criterion_group!(benches, reads, writes, pipelined, watches, joins, store);
criterion_main!(benches);
