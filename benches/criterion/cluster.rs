//! `cargo bench -p benches --bench cluster`: what the facade's paths cost, in one process and on one thread, over real sockets.
//!
//! Side by side with other servers: `cargo run --release -p benches --bin vs`.
#![allow(missing_docs, reason = "what criterion's macros make")]
#![allow(clippy::unwrap_used, reason = "a bench may panic")]

use std::future::poll_fn;
use std::hint::black_box;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use cluster::testing::TestCluster;
use cluster::{Builder, Cluster, Letter, Message, Request, To, Worker};
use cluster_acceptor::worker::{Gate, Intake, Listener};
use cluster_acceptor::{Acceptor, Address, Command, Dialer, Listen, Listeners, Settings, Turning};
use cluster_balancer::{Classes, LeastLoaded};
use cluster_ipc::board::{PrimaryBoard, WorkerBoard};
use cluster_ipc::tokio::Channel;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// Connections that come in at once.
const CONNECTIONS: [usize; 3] = [1, 16, 64];

/// How many may be on their way to a worker.
const WINDOW: u16 = 128;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn client() -> Address {
    Address::Ip(([192, 0, 2, 1], 4711).into())
}

/// An acceptor, and one worker that takes all it is given.
struct Way {
    _listeners: Listeners,
    dialer: Dialer,
    _acceptor: Acceptor<u32>,
    turning: Turning<u32>,
    listener: Listener,
}

impl Way {
    fn new() -> Self {
        let now = Instant::now();
        let (acceptor, turning) =
            Acceptor::turned(Settings::new(LeastLoaded::new()).window(WINDOW), now).unwrap();
        let (mut listeners, dialer) = Listeners::apart();
        let answer = listeners.listen(&Listen::tcp(([127, 0, 0, 1], 80)), 0, 0).unwrap();
        let (board, memory) = PrimaryBoard::create().unwrap();
        let (channel, workers_channel) = cluster_ipc::Channel::pair().unwrap();
        let (worker, capacity, listener) = (0, 10_000, answer.granted.listener);
        acceptor.command(Command::Listen { listener, socket: answer.accept.unwrap() });
        let (channel, board) = (Box::new(channel), Arc::new(board));
        acceptor.command(Command::Attach {
            worker,
            slot: 0,
            generation: 1,
            pid: std::process::id(),
            channel,
            board,
        });
        acceptor.command(Command::Admit { worker, capacity, listeners: Classes::none().with(listener) });
        let board = Arc::new(WorkerBoard::open(memory).unwrap());
        let intake = Arc::new(Intake::new(board, Arc::new(Gate::new()), None));
        let listener = Listener::new(Arc::clone(&intake), answer.granted, None).unwrap();
        tokio::spawn(intake.receive(Channel::new(workers_channel).unwrap()));
        Self { _listeners: listeners, dialer, _acceptor: acceptor, turning, listener }
    }

    /// Hands over so many connections; how long the acceptor took for it.
    fn hand_over(&mut self, runtime: &Runtime, connections: usize) -> Duration {
        let clients: Vec<OwnedFd> =
            (0..connections).map(|_| self.dialer.connect(None, &client()).unwrap()).collect();
        let begun = Instant::now();
        self.turning.turn(begun).unwrap();
        let taken = begun.elapsed();
        runtime.block_on(async {
            for _ in 0..connections {
                black_box(self.listener.accept().await);
            }
        });
        drop(clients);
        // It sees what was taken and finished.
        self.turning.turn(Instant::now()).unwrap();
        taken
    }
}

/// From the kernel's queue to the worker's socket, beside accepting alone.
fn hand_over(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("hand over");
    for connections in CONNECTIONS {
        group.throughput(Throughput::Elements(connections as u64));
        group.bench_function(BenchmarkId::new("accept, pick, send", connections), |b| {
            let _within = runtime.enter();
            let mut way = Way::new();
            b.iter_custom(|rounds| (0..rounds).map(|_| way.hand_over(&runtime, connections)).sum());
        });
        group.bench_function(BenchmarkId::new("accept alone", connections), |b| {
            let (mut listeners, dialer) = Listeners::apart();
            let listen = Listen::tcp(([127, 0, 0, 1], 80));
            let socket = listeners.listen(&listen, 0, 0).unwrap().accept.unwrap();
            b.iter_custom(|rounds| {
                let round = |_| {
                    let connect = |_| dialer.connect(None, &client()).unwrap();
                    let clients: Vec<_> = (0..connections).map(connect).collect();
                    let begun = Instant::now();
                    let accepted: Vec<_> =
                        clients.iter().map(|_| rustix::net::acceptfrom(&socket).unwrap()).collect();
                    let taken = begun.elapsed();
                    drop(accepted);
                    taken
                };
                (0..rounds).map(round).sum()
            });
        });
    }
    group.finish();
}

/// A cluster whose workers are in the caller's hands.
async fn workers(builder: Builder) -> (TestCluster, Vec<Worker>) {
    let (sender, mut started) = mpsc::unbounded_channel();
    let cluster = TestCluster::start(builder, move |worker: Worker| {
        let sender = sender.clone();
        async move {
            worker.messages().answer(async |letter: Letter<Echo>| Ok::<_, String>(letter.message.0));
            sender.send(worker.clone()).unwrap();
            worker.ready().await;
            worker.draining().await;
        }
    });
    let cluster = cluster.await.unwrap();
    let workers = std::iter::from_fn(|| started.try_recv().ok()).collect();
    (cluster, workers)
}

#[derive(Serialize, Deserialize)]
struct Echo(Vec<u8>);
impl Message for Echo {
    const NAME: &'static str = "echo";
}
impl Request for Echo {
    type Reply = Vec<u8>;
}

/// How everybody is, as the primary answers it.
fn status(c: &mut Criterion) {
    let runtime = runtime();
    let limit = cluster_supervisor::os::raise_open_files();
    let mut group = c.benchmark_group("status");
    for count in [4, 64, 1000] {
        // Both ends of four wires are in this process, with copies of one, and what tells of the worker's end.
        let needed = 17 * count as u64 + 100;
        if cluster_supervisor::os::OpenFiles::current().soft() < needed {
            eprintln!("status of {count} workers: left out, it needs {needed} open files");
            continue;
        }
        let (cluster, _workers) = runtime.block_on(workers(Cluster::builder().workers(count)));
        let handle = cluster.handle();
        let status = || runtime.block_on(handle.status()).unwrap();
        group.bench_function(BenchmarkId::new("snapshot", count), |b| b.iter(|| black_box(status())));
        let snapshot = status();
        group.bench_function(BenchmarkId::new("as JSON", count), |b| {
            b.iter(|| black_box(serde_json::to_vec(&snapshot).unwrap()));
        });
        let _within = runtime.enter();
        drop(cluster);
    }
    drop(limit);
    group.finish();
}

/// What one worker says, until all who listen have the event.
fn events(c: &mut Criterion) {
    let runtime = runtime();
    let (cluster, workers) = runtime.block_on(workers(Cluster::builder().workers(1)));
    let mut group = c.benchmark_group("event");
    for subscribers in [1, 16, 256] {
        let mut listening: Vec<_> = (0..subscribers).map(|_| cluster.handle().events()).collect();
        let mut ready = true;
        group.bench_function(BenchmarkId::new("subscribers", subscribers), |b| {
            b.iter(|| {
                ready = !ready;
                runtime.block_on(async {
                    workers[0].set_ready(ready).await;
                    for events in &mut listening {
                        black_box(events.recv().await);
                    }
                });
            });
        });
        // The next begin as these did.
        runtime.block_on(workers[0].set_ready(true));
        runtime.block_on(yield_a_little());
    }
    group.finish();
    let _within = runtime.enter();
    drop(cluster);
}

async fn yield_a_little() {
    let mut turns = 100;
    poll_fn(|cx| {
        turns -= 1;
        cx.waker().wake_by_ref();
        if turns == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// There and back: one worker asks the primary, or by way of it another worker.
fn messages(c: &mut Criterion) {
    let runtime = runtime();
    let (cluster, workers) = runtime.block_on(workers(Cluster::builder().workers(2)));
    cluster.handle().messages().answer(async |letter: Letter<Echo>| Ok::<_, String>(letter.message.0));
    let asks = workers.iter().find(|worker| worker.slot() == 0).unwrap().messages();
    let mut group = c.benchmark_group("request");
    for size in [64, 4096] {
        for (name, to) in [("of the primary", To::Primary), ("of another worker", To::Slot(1))] {
            let call = Echo(vec![7; size]);
            group.bench_function(BenchmarkId::new(name, size), |b| {
                b.iter(|| black_box(runtime.block_on(asks.request(to, &call)).unwrap()));
            });
        }
    }
    group.finish();
    let _within = runtime.enter();
    drop(cluster);
}

criterion_group!(benches, hand_over, status, events, messages);
criterion_main!(benches);
