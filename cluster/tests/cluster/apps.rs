//! What the workers of these tests do.
#![allow(clippy::print_stdout, reason = "what workers print is captured")]

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::http::header::CONNECTION;
use axum::routing::get;
use cluster::{Address, Cluster, Listen, Role, Worker};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Names the app in a worker's environment.
pub(crate) const VARIABLE: &str = "CLUSTER_TEST_APP";

/// Names what an app listens on, if that is not any port.
pub(crate) const LISTEN: &str = "CLUSTER_TEST_LISTEN";

/// Names the file in which an app writes down what it did.
pub(crate) const LEDGER: &str = "CLUSTER_TEST_LEDGER";

/// Runs as a worker.
pub(crate) fn run(app: &str) {
    match app {
        "abort" => std::process::abort(),
        "nonsense" => return nonsense(),
        "primary" => return primary(),
        "dying-primary" => return crate::node::processes::dying_primary(),
        "datagram-primary" => return crate::node::datagrams::datagram_primary(),
        "reaping-primary" => return reaping_primary(),
        "failing-primary" => return failing_primary(),
        "primary-of-keepers" => return crate::stopping::primary(),
        "scheduled-primary" => return crate::parity_scheduling::primary(),
        // It can be told before anybody asks for the role, and as often as one likes.
        "asks-first" => assert!(Cluster::is_worker() && !Cluster::is_primary() && Cluster::is_worker()),
        "traced-primary" => return crate::records::traced_primary(),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let Role::Worker(worker) = Cluster::builder().role().unwrap() else {
            panic!("no primary started this")
        };
        match app {
            "http" => http(worker).await,
            "echo" => echo(worker).await,
            "never-ready" => std::future::pending().await,
            "two-ports" => two_ports(worker).await,
            "fickle" => fickle(worker).await,
            "lopsided" => lopsided(worker).await,
            "again" => again(worker).await,
            "greedy" => greedy(worker).await,
            "slot" => slot(worker).await,
            "session" => session(worker).await,
            "udp" => udp(worker).await,
            "keeper-of-clients" => crate::stopping::keeper_of_clients(worker).await,
            "record" => record(worker).await,
            "third-time-unlucky" => third_time_unlucky(worker).await,
            "second-never-ready" => second_never_ready(worker).await,
            "behave" => behave(worker).await,
            "daemon-maker" => daemon_maker(worker).await,
            "patient" => patient(worker).await,
            "traced" => crate::records::traced(worker).await,
            "metered" => crate::metrics::metered(worker).await,
            "keeper" => crate::state::keeper(worker).await,
            "puppet" => crate::node::puppet::puppet(worker).await,
            "talker" => crate::messages::talker(worker).await,
            "historian" => crate::history::historian(worker).await,
            "tasker" => crate::tasks::tasker(worker).await,
            "divided" => crate::tasks::divided(worker).await,
            "forsaken" => crate::tasks::forsaken(worker).await,
            "counting" => crate::state::counting(worker).await,
            "testator" => crate::state::testator(worker).await,
            "unready-early" => crate::suspects::unready_early(worker).await,
            "successors-unready" => crate::suspects::successors_unready(worker).await,
            "successors-never-ready" => crate::suspects::successors_never_ready(worker).await,
            "reporter" | "asks-first" => crate::parity_app::reporter(worker).await,
            "long-lived" => crate::long_lived::app(worker).await,
            "slow-first" => crate::better::slow_first(worker).await,
            "unlucky" => unlucky(worker).await,
            "parent" => parent(worker, "exec sleep 1000").await,
            "stubborn-parent" => stubborn_parent(worker).await,
            other => panic!("no such app: {other}"),
        }
    });
}

async fn http(worker: Worker) {
    let listener = worker.listen("127.0.0.1:0").await.unwrap();
    let id = format!("{} {}", worker.id(), std::process::id());
    let leaves = worker.clone();
    let app = axum::Router::new()
        .route("/", get(move || std::future::ready(id.clone())))
        .route("/spin", get(spin))
        .route("/slow", get(move || slow(leaves)))
        .route(
            "/upgrade",
            get(|| std::future::ready((StatusCode::SWITCHING_PROTOCOLS, [(CONNECTION, "upgrade")]))),
        )
        .layer(worker.layer());
    axum::serve(listener, app).with_graceful_shutdown(worker.draining()).await.unwrap();
}

/// Says something on both streams, is ready, and aborts.
async fn unlucky(worker: Worker) {
    println!("up");
    eprintln!("no luck");
    worker.ready().await;
    // Not before the primary knows that it was ready.
    worker.status().await.unwrap();
    std::process::abort();
}

/// Starts a shell that outlives it, and prints its pid.
async fn parent(worker: Worker, script: &str) {
    let mut shell = Command::new("sh").args(["-c", script]).stdin(Stdio::null()).spawn().unwrap();
    println!("{}", shell.id());
    worker.ready().await;
    worker.draining().await;
    // It is not waited for, if it lives.
    let _ = shell.try_wait();
}

/// The same, and neither it nor the shell, which is in a session of its own, obeys anybody.
async fn stubborn_parent(worker: Worker) {
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    let script = "trap '' TERM HUP; echo $$; while :; do sleep 1; done";
    let mut shell = Command::new("setsid").args(["sh", "-c", script]).stdin(Stdio::null()).spawn().unwrap();
    worker.ready().await;
    loop {
        terminated.recv().await;
        let _ = shell.try_wait();
    }
}

/// Does to itself what it is asked for.
pub(crate) async fn patient(worker: Worker) {
    let listener = worker.listen("127.0.0.1:0").await.unwrap();
    let id = format!("{} {}", worker.id(), std::process::id());
    let says = move || std::future::ready(id.clone());
    let (counts, readies) = (worker.clone(), worker.clone());
    let app = axum::Router::new()
        .route("/", get(says.clone()))
        .route("/spin", get(spin))
        .route("/deadlock", get(deadlock))
        .route(
            "/eat",
            get(|RawQuery(mebibytes): RawQuery| {
                let bytes = mebibytes.map_or(200, |mebibytes| mebibytes.parse().unwrap()) << 20;
                std::future::ready(std::hint::black_box(vec![1_u8; bytes].leak()).len().to_string())
            }),
        )
        .route("/open", get(|| std::future::ready(open_many())))
        .route(
            "/burn",
            get(move || {
                std::thread::spawn(|| {
                    loop {
                        std::hint::spin_loop()
                    }
                });
                says()
            }),
        )
        .route(
            "/gauge",
            get(move |RawQuery(value): RawQuery| {
                counts.gauge("queue", value.unwrap().parse().unwrap());
                std::future::ready("")
            }),
        )
        .route(
            "/ready",
            get(move |RawQuery(ready): RawQuery| async move {
                readies.set_ready(ready.unwrap() == "true").await;
            }),
        )
        .layer(worker.layer());
    axum::serve(listener, app).with_graceful_shutdown(worker.draining()).await.unwrap();
}

/// Locks what it holds.
async fn deadlock() {
    note("locked");
    let lock = std::sync::Mutex::new(());
    let _held = lock.lock().unwrap();
    drop(lock.lock());
}

/// Opens files and forgets them.
fn open_many() -> &'static str {
    for _ in 0..200 {
        std::mem::forget(std::fs::File::open("/dev/null").unwrap());
    }
    ""
}

/// Writes down what comes next, for a test that wants to know.
fn note(what: &str) {
    if let Ok(ledger) = std::env::var(LEDGER) {
        std::fs::write(ledger, what).unwrap();
    }
}

/// A handler that never yields.
async fn spin() -> &'static str {
    note("spinning");
    loop {
        std::hint::spin_loop();
    }
}

/// A request that is under way when its worker is told to leave, whenever that is.
pub(crate) async fn slow(worker: Worker) -> &'static str {
    worker.leaving().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    "slow"
}

/// Echoes lines; a server that keeps no account of its connections.
async fn echo(worker: Worker) {
    let listener = worker.listen("127.0.0.1:0").await.unwrap();
    while let Some((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut buffer = [0; 1024];
            while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                stream.write_all(&buffer[..n]).await.unwrap();
            }
        });
    }
    worker.drained().await;
}

/// Says on each of two ports which one it is.
async fn two_ports(worker: Worker) {
    let first = worker.listen("127.0.0.1:0").await.unwrap();
    let second = worker.listen("127.0.0.1:0").await.unwrap();
    assert!(worker.listen(second.local_addr().ip().unwrap()).await.is_err(), "that port is in use");
    tokio::join!(serve(first, b"first"), serve(second, b"second"));
}

/// Slot 0 stops listening after its first connection; the others go on.
async fn fickle(worker: Worker) {
    let listener = worker.listen("127.0.0.1:0").await.unwrap();
    while let Some((mut stream, _)) = listener.accept().await {
        stream.write_all(worker.slot().to_string().as_bytes()).await.unwrap();
        if worker.slot() == 0 {
            break;
        }
    }
    drop(listener);
    worker.draining().await;
}

/// All listen on one port, slot 0 also on another.
async fn lopsided(worker: Worker) {
    let first = worker.listen("127.0.0.1:0").await.unwrap();
    if worker.slot() > 0 {
        return serve(first, b"first").await;
    }
    let second = worker.listen("127.0.0.1:0").await.unwrap();
    tokio::join!(serve(first, b"first"), serve(second, b"second"));
}

/// Drops its listener after each connection, and listens anew on the same port.
async fn again(worker: Worker) {
    while !worker.is_leaving() {
        let listener = worker.listen("127.0.0.1:0").await.unwrap();
        let Some((mut stream, _)) = listener.accept().await else { return };
        stream.write_all(b"again").await.unwrap();
    }
}

/// Slot 0, in its first life, can open nothing more by the time it is ready.
async fn greedy(worker: Worker) {
    if worker.id() == cluster::WorkerId::new(0, 1) {
        // It needs descriptors of its own to begin with.
        worker.state().live().await.unwrap();
        // The standard streams are open, and no other number is allowed.
        cluster::supervisor::os::set_open_files(3).unwrap();
    }
    http(worker).await;
}

/// Each third life of a slot ends before it begins.
async fn third_time_unlucky(worker: Worker) {
    if worker.id().generation().is_multiple_of(3) {
        std::process::abort();
    }
    http(worker).await;
}

async fn second_never_ready(worker: Worker) {
    if worker.id().generation() > 1 {
        return std::future::pending().await;
    }
    http(worker).await;
}

/// Does what is written at the end of its executable.
async fn behave(worker: Worker) {
    let behaviour = crate::rolls::behaviour();
    if behaviour == "abort" {
        std::process::abort();
    }
    if behaviour == "mute" {
        return std::future::pending().await;
    }
    let listener = worker.listen("127.0.0.1:0").await.unwrap();
    if behaviour == "crash" {
        // Under traffic.
        tokio::spawn(async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            std::process::abort();
        });
    }
    let status = if behaviour == "errors" { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
    let answer = (status, behaviour);
    let app =
        axum::Router::new().route("/", get(move || std::future::ready(answer.clone()))).layer(worker.layer());
    axum::serve(listener, app).with_graceful_shutdown(worker.draining()).await.unwrap();
}

async fn serve(listener: cluster::Listener, name: &'static [u8]) {
    while let Some((mut stream, _)) = listener.accept().await {
        stream.write_all(name).await.unwrap();
    }
}

/// Says which worker it is, on what [`LISTEN`] names.
async fn slot(worker: Worker) {
    let listen = std::env::var(LISTEN).unwrap();
    let tcp = |address: &str| Listen::tcp(address.parse::<std::net::SocketAddr>().unwrap());
    let listen = match listen.split_once(' ') {
        Some(("inherited", name)) => Listen::inherited(name),
        Some(("v6", address)) => tcp(address).only_v6(true),
        Some(("both", address)) => tcp(address).only_v6(false),
        _ => match listen.parse().unwrap() {
            Address::Ip(address) => Listen::tcp(address),
            address => Listen::unix(address.path().unwrap()),
        },
    };
    let listener = worker.listen_on(listen).await.unwrap();
    let word = worker.id().to_string();
    while let Some((mut stream, _)) = listener.accept().await {
        // Who asks may have gone.
        let _ = stream.write_all(word.as_bytes()).await;
    }
    worker.drained().await;
}

/// Reads a request, and says which slot this is.
async fn session(worker: Worker) {
    let listener = worker.listen("127.0.0.1:0").await.unwrap();
    let slot = worker.slot().to_string();
    while let Some((mut stream, _)) = listener.accept().await {
        let slot = slot.clone();
        tokio::spawn(async move {
            let (mut request, mut buffer) = (Vec::new(), [0; 1024]);
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read(&mut buffer).await {
                    Ok(n @ 1..) => request.extend_from_slice(&buffer[..n]),
                    _ => return,
                }
            }
            // Who asks may have gone.
            let _ = stream.write_all(slot.as_bytes()).await;
        });
    }
    worker.drained().await;
}

/// Reads the id of a request, writes it down, and says which slot this is.
async fn record(worker: Worker) {
    let listener = worker.listen("127.0.0.1:0").await.unwrap();
    let ledger = std::env::var_os(LEDGER).unwrap();
    let ledger = std::fs::OpenOptions::new().append(true).open(ledger).unwrap();
    let ledger = std::sync::Arc::new(ledger);
    let slot = worker.slot().to_string();
    while let Some((mut stream, _)) = listener.accept().await {
        let (slot, ledger) = (slot.clone(), std::sync::Arc::clone(&ledger));
        tokio::spawn(async move {
            let (mut id, mut buffer) = (Vec::new(), [0; 32]);
            while !id.ends_with(b"\n") {
                match stream.read(&mut buffer).await {
                    Ok(n @ 1..) => id.extend_from_slice(&buffer[..n]),
                    _ => return,
                }
            }
            (&*ledger).write_all(&id).unwrap();
            stream.write_all(slot.as_bytes()).await.unwrap();
        });
    }
    worker.drained().await;
}

/// Answers each datagram with its slot.
async fn udp(worker: Worker) {
    let socket = worker.bind_udp("127.0.0.1:0").await.unwrap();
    worker.ready().await;
    let slot = worker.slot().to_string();
    let serve = async {
        loop {
            let (_, peer) = socket.recv_from(&mut [0; 16]).await.unwrap();
            socket.send_to(slot.as_bytes(), peer).await.unwrap();
        }
    };
    tokio::select! {
        () = serve => {}
        () = worker.draining() => {}
    }
}

/// A primary in a process of its own, whose workers listen on what it was started with.
fn primary() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let builder =
        Cluster::builder().workers(2).env(VARIABLE, "slot").env(LISTEN, "inherited web").args([""; 0]);
    runtime.block_on(builder.primary().unwrap().run()).unwrap();
}

/// A primary to which orphans come.
fn reaping_primary() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let builder = Cluster::builder().workers(1).env(VARIABLE, "daemon-maker").args([""; 0]).subreaper(true);
    runtime.block_on(builder.primary().unwrap().run()).unwrap();
}

/// A primary whose workers abort, and which prints what it says of that.
fn failing_primary() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let builder = Cluster::builder().workers(1).env(VARIABLE, "abort").args([""; 0]).max_restarts(1);
    println!("{}", runtime.block_on(builder.primary().unwrap().run()).unwrap_err());
}

/// Starts a daemon, which prints its pid.
async fn daemon_maker(worker: Worker) {
    let script = "setsid sh -c 'echo $$; exec sleep 1000' & exit 0";
    assert!(Command::new("sh").args(["-c", script]).stdin(Stdio::null()).status().unwrap().success());
    worker.ready().await;
    worker.draining().await;
}

/// Writes garbage to the primary, on the channel that it was given.
fn nonsense() {
    let (mut channel, _, _data) = cluster::ipc::adopt_stdin().unwrap().unwrap().into_parts();
    for kind in [
        cluster::ipc::Kind::Message,
        cluster::ipc::Kind::Request,
        cluster::ipc::Kind::Online,
        cluster::ipc::Kind::Welcome,
    ] {
        channel.try_send(cluster::ipc::Frame::new(kind, u64::MAX, vec![0xff; 100])).unwrap();
    }
    channel.flush().unwrap();
    // And then bytes that are no frames at all.
    let socket = std::os::fd::AsFd::as_fd(&channel).try_clone_to_owned().unwrap();
    std::fs::File::from(socket).write_all(&[0xff; 64]).unwrap();
    std::thread::park_timeout(Duration::from_secs(600));
}
