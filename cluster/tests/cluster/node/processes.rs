//! Forking, leaving, dying: Node's test-cluster-{basic, *-disconnect-*, worker-*, primary-*}, where no other test of ours states the same.

use std::io::Read;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use cluster::supervisor::{Event as Life, Exit, Policy, Restart, StopSequence, WorkerState};
use cluster::{Departure, Event, Fork, Mode, To, WorkerEvents, WorkerHandle, WorkerId};
use rustix::process::Signal;

use super::listening::{ask, taken};
use super::puppet::{Do, On, Stage};
use crate::support::{DEADLINE, eventually, process};
use crate::{Running, apps, builder};

fn stage(workers: usize) -> Stage {
    Stage::open(builder("puppet").workers(workers))
}

fn handle(stage: &Stage, slot: u32) -> WorkerHandle {
    stage.running.handle.worker_of_slot(slot).unwrap()
}

fn leave(stage: &Stage, slot: u32) -> Departure {
    stage.running.block_on(handle(stage, slot).disconnect()).unwrap()
}

/// How one left that was asked to, and did.
const IN_ORDER: Departure = Departure::Asked { exit: Exit::Code(0) };

/// How often a worker's channel has closed, and how it has ended.
fn ends(stage: &Stage, mut events: WorkerEvents) -> (usize, Vec<Exit>) {
    let (mut disconnects, mut exits) = (0, Vec::new());
    while let Some(event) = stage.running.block_on(events.recv()) {
        match event {
            Event::Disconnected { .. } => disconnects += 1,
            Event::Lifecycle { event: Life::Exited { exit, .. }, .. } => exits.push(exit),
            _ => {}
        }
    }
    (disconnects, exits)
}

/// Has the worker do what it may not live to answer.
fn last(stage: &Stage, slot: u32, what: Do) {
    let messages = stage.messages.clone();
    stage.running.runtime.spawn(async move { messages.request(To::Slot(slot), &what).await });
}

/// Has a worker spin, and waits until it does: from then on it hears nothing. What is returned ends with whether it has failed to answer.
fn spin(stage: &Stage, slot: u32) -> tokio::task::JoinHandle<bool> {
    let messages = stage.messages.clone();
    // Not for a short time only: what nobody waits for any more is not begun.
    let asked = async move { messages.request(To::Slot(slot), &Do::Spin).await.is_err() };
    let asked = stage.running.runtime.spawn(asked);
    let pid = handle(stage, slot).pid().unwrap();
    let before = process::ticks(pid);
    eventually("it to spin", || (process::ticks(pid) >= before + 10).then_some(()));
    asked
}

/// test-cluster-basic.js: the environment of a worker tells nothing (ours has no variable at all, so a grandchild can't take itself for a
/// worker); the first one is the first; fork, online, listening, ready and exit come in this order, and the address is the real one.
pub(crate) fn basic() {
    let running = Running::start(builder("puppet").workers(0));
    let mut stage = Stage { messages: running.handle.messages(), running };
    let forked = stage.running.block_on(stage.running.handle.fork()).unwrap();
    assert_eq!(forked.id(), WorkerId::new(0, 1));
    let mut events = forked.events();
    assert!(!forked.is_dead());
    let pid = stage.running.wait_ready(forked.id());
    assert_eq!((forked.state(), forked.pid()), (WorkerState::Ready, Some(pid)));
    let variables = stage.tell(0, &Do::Environment).unwrap();
    // Besides those that this test was started with.
    let is_new = |name: &&str| name.contains("CLUSTER") && std::env::var_os(name).is_none();
    let of_ours: Vec<_> = variables.lines().filter(is_new).collect();
    assert_eq!(of_ours, [apps::VARIABLE], "what this test sets");
    let address = stage.listen_ip(0, "a", &On::any());
    assert_eq!(leave(&stage, 0), IN_ORDER);
    assert_eq!((forked.state(), forked.is_dead()), (WorkerState::Stopped, true));
    let mut story = Vec::new();
    while let Some(event) = stage.running.block_on(events.recv()) {
        story.push(match event {
            Event::Lifecycle { event: Life::Starting { .. }, .. } => "fork".to_owned(),
            Event::Lifecycle { event: Life::Online { .. }, .. } => "online".to_owned(),
            Event::Lifecycle { event: Life::Ready { .. }, .. } => "ready".to_owned(),
            Event::Lifecycle { event: Life::Exited { .. }, .. } => "exit".to_owned(),
            Event::Listening { address, .. } => format!("listening {address}"),
            Event::Disconnected { .. } => "disconnect".to_owned(),
            _ => continue,
        });
    }
    let listening = format!("listening {address}");
    assert_eq!(story, ["fork", "online", "ready", &listening, "disconnect", "exit"]);
    stage.running.stop();
}

/// test-cluster-call-and-destroy.js, and twice: who has left can be told again, to no effect (in Node the second may crash the worker).
pub(crate) fn call_and_destroy() {
    let mut stage = stage(2);
    let gone = handle(&stage, 0);
    assert_eq!(leave(&stage, 0), IN_ORDER);
    assert!(!gone.is_connected() && gone.is_dead());
    assert!(!stage.running.block_on(gone.kill(Signal::TERM.as_raw())).unwrap(), "there is nobody");
    assert_eq!(stage.running.block_on(gone.disconnect()).unwrap(), IN_ORDER);
    assert!(handle(&stage, 1).is_connected());
    stage.running.stop();
}

/// test-cluster-concurrent-disconnect.js: eight workers, each told many times and at once: by the primary, and by itself to leave or to go.
pub(crate) fn concurrent_disconnect() {
    // Who has left by itself has no successor, as there.
    let policy = Policy::new().restart(Restart::Never);
    let mut stage = Stage::open(builder("puppet").workers(8).policy(policy));
    let handles: Vec<_> = (0..8).map(|slot| handle(&stage, slot)).collect();
    let events: Vec<_> = handles.iter().map(WorkerHandle::events).collect();
    for slot in 0..8 {
        last(&stage, slot, if slot % 2 == 0 { Do::Leave } else { Do::Destroy });
        last(&stage, slot, Do::Leave);
    }
    let told: Vec<_> = (0..4)
        .flat_map(|_| handles.clone())
        .map(|worker| stage.running.runtime.spawn(async move { worker.disconnect().await.unwrap() }))
        .collect();
    for departure in told {
        let departure = stage.running.block_on(departure).unwrap();
        let expected = departure.is_after_disconnect() && departure.exit() == Some(Exit::Code(0));
        assert!(expected, "{departure}");
    }
    for events in events {
        assert_eq!(ends(&stage, events), (1, vec![Exit::Code(0)]));
    }
    assert!(stage.running.handle.workers().is_empty());
    stage.running.stop();
}

/// test-cluster-disconnect.js: eight workers on two ports each; all leave, the ports are free, and it begins a second time.
pub(crate) fn disconnect() {
    let mut stage = stage(8);
    let addresses = [taken(), taken()].map(|(_, address)| address);
    for round in 1..=2 {
        for slot in 0..8 {
            for (name, address) in ["a", "b"].into_iter().zip(addresses) {
                assert_eq!(stage.listen_ip(slot, name, &On::tcp(address)), address);
            }
        }
        for address in addresses {
            assert!(ask(address).unwrap().contains(&format!(".{round} ")));
        }
        let left = stage.running.handle.workers();
        assert_eq!(left.len(), 8);
        stage.running.block_on(stage.running.handle.disconnect()).unwrap();
        assert!(stage.running.handle.workers().is_empty());
        assert!(left.iter().all(|worker| worker.departure() == Some(IN_ORDER)), "{left:?}");
        for address in addresses {
            drop(std::net::TcpListener::bind(address).expect("the port is free"));
        }
        if round == 1 {
            for _ in 0..8 {
                stage.running.block_on(stage.running.handle.fork()).unwrap();
            }
            stage.running.wait_for("all to be ready again", |event| match event {
                Event::Serving { workers: 8, .. } => Some(()),
                _ => None,
            });
        }
    }
    stage.running.stop();
}

/// test-cluster-disconnect-before-exit.js: all are to leave while one whose channel has closed may not have ended.
pub(crate) fn disconnect_before_exit() {
    let mut stage = stage(2);
    let (first, second) = (handle(&stage, 0), handle(&stage, 1));
    stage.running.block_on(first.stop()).unwrap();
    stage.running.wait_for("its channel to close", |event| match event {
        Event::Disconnected { id } => (*id == first.id()).then_some(()),
        _ => None,
    });
    stage.running.block_on(stage.running.handle.disconnect()).unwrap();
    assert_eq!([first, second].map(|worker| worker.departure()), [Some(IN_ORDER); 2]);
    assert!(stage.running.handle.workers().is_empty());
    stage.running.stop();
}

/// test-cluster-disconnect-leak.js: told right after the fork, alone or as all are, it tells once that its channel has closed and then once
/// that it has ended: to who watches it and to who watches all. Node's test says nothing of how; here that is sure: it was asked to, and ended in
/// order, or by the SIGTERM that one gets who is not up yet.
pub(crate) fn disconnect_leak() {
    for mode in [Mode::Shared, Mode::Handoff] {
        for alone in [true, false] {
            // However slow the machine is, it is not killed meanwhile.
            let policy = Policy::new().stop(StopSequence::new().drain(DEADLINE).terminate(DEADLINE));
            let running = Running::start(builder("echo").workers(0).mode(mode).policy(policy));
            let mut stage = Stage { messages: running.handle.messages(), running };
            let handle = stage.running.handle.clone();
            let forked = stage.running.block_on(handle.fork()).unwrap();
            let events = forked.events();
            if alone {
                stage.running.block_on(forked.disconnect()).unwrap();
            } else {
                stage.running.block_on(handle.disconnect()).unwrap();
            }
            let departure = forked.departure().unwrap();
            let Departure::Asked { exit: exit @ (Exit::Code(0) | Exit::Signal(15)) } = departure else {
                panic!("{departure:?}")
            };
            assert_eq!(ends(&stage, events), (1, vec![exit]));
            assert!(handle.workers().is_empty());
            stage.running.wait_for("its channel to close", |event| match event {
                Event::Disconnected { id } => (*id == forked.id()).then_some(()),
                Event::Lifecycle { event: Life::Exited { .. }, .. } => panic!("the exit comes last"),
                _ => None,
            });
            stage.running.wait_for("its exit", |event| match event {
                Event::Lifecycle { event: Life::Exited { id, .. }, .. } => (*id == forked.id()).then_some(()),
                _ => None,
            });
            stage.running.stop();
        }
    }
}

/// test-cluster-disconnect-race.js: one leaves while another has just been forked, which is told to when it has just come online.
pub(crate) fn disconnect_race() {
    for mode in [Mode::Shared, Mode::Handoff] {
        let mut stage = Stage::open(builder("puppet").workers(1).mode(mode));
        stage.listen_ip(0, "a", &On::any());
        let first = handle(&stage, 0);
        let forked = stage.running.block_on(stage.running.handle.fork()).unwrap();
        let (leaving, worker) = (first.clone(), forked.clone());
        let leaving = stage.running.runtime.spawn(async move { leaving.disconnect().await.unwrap() });
        stage.running.wait_for("it to be online", |event| match event {
            Event::Lifecycle { event: Life::Online { id }, .. } => (*id == forked.id()).then_some(()),
            _ => None,
        });
        assert_eq!(stage.running.block_on(worker.disconnect()).unwrap(), IN_ORDER);
        assert_eq!(stage.running.block_on(leaving).unwrap(), IN_ORDER);
        assert!(stage.running.handle.workers().is_empty());
        stage.running.stop();
    }
}

/// test-cluster-disconnect-unshared-tcp.js, test-cluster-disconnect-unshared-udp.js: one that has never listened leaves, another goes on; then all
/// leave.
pub(crate) fn disconnect_unshared() {
    let mut stage = stage(2);
    let address = stage.listen_ip(1, "tcp", &On::any());
    stage.bind(1, "udp", &On::any()).unwrap();
    assert_eq!(leave(&stage, 0), IN_ORDER);
    assert!(ask(address).unwrap().starts_with("1.1 "));
    let other = handle(&stage, 1);
    stage.running.block_on(stage.running.handle.disconnect()).unwrap();
    assert_eq!(other.departure(), Some(IN_ORDER));
    stage.running.stop();
}

/// test-cluster-kill-infinite-loop.js: one that is stuck can be ended. SIGTERM is a wish to leave here, so that nothing is lost by it, and one
/// that is stuck doesn't hear it; `disconnect` ends it at its deadline, SIGKILL at once, and if nobody does anything its silence is found.
pub(crate) fn kill_infinite_loop() {
    let quickly = |builder: cluster::Builder| builder.graceful_timeout(Duration::from_millis(100));
    let mut stage = Stage::open(quickly(builder("puppet").workers(2)));
    let asked = [0, 1].map(|slot| spin(&stage, slot));
    let departure = leave(&stage, 0);
    assert_eq!(departure, Departure::Overdue { exit: Exit::Signal(Signal::KILL.as_raw()) });
    let other = handle(&stage, 1);
    assert!(stage.running.block_on(other.kill(Signal::KILL.as_raw())).unwrap());
    let departure = stage.running.block_on(other.departed()).unwrap();
    assert_eq!(departure, Departure::Killed { exit: Exit::Signal(Signal::KILL.as_raw()) });
    for asked in asked {
        assert!(stage.running.block_on(asked).unwrap(), "it never answers");
    }
    stage.running.stop();
}

/// test-cluster-worker-exit.js, test-cluster-worker-death.js: with a code of its own, while it listens; each event once, to who watches it and
/// to who watches all, the process has gone by then, and nobody had asked.
pub(crate) fn worker_exit() {
    let mut stage = stage(1);
    stage.listen_ip(0, "a", &On::any());
    let worker = handle(&stage, 0);
    let (events, pid) = (worker.events(), worker.pid().unwrap());
    last(&stage, 0, Do::Exit(42));
    let departure = stage.running.block_on(worker.departed()).unwrap();
    assert_eq!(departure, Departure::Crashed { exit: Exit::Code(42) });
    assert!(!departure.is_after_disconnect());
    assert!(!process::is_alive(pid));
    assert_eq!((worker.state(), worker.is_connected()), (WorkerState::Stopped, false));
    assert_eq!(ends(&stage, events), (1, vec![Exit::Code(42)]));
    let exit = stage.running.wait_for("its exit", |event| match event {
        Event::Lifecycle { event: Life::Exited { id, exit, .. }, pid, .. } => Some((*id, *pid, *exit)),
        _ => None,
    });
    assert_eq!(exit, (worker.id(), Some(pid), Exit::Code(42)));
    stage.running.stop();
}

/// test-cluster-worker-destroy.js: one goes at once, whatever it waits for, also when it was about to leave; each event once.
pub(crate) fn worker_destroy() {
    let mut stage = stage(2);
    let theirs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // As long as this is open, its `main` doesn't end.
    stage.tell(0, &Do::ConnectAndWait(theirs.local_addr().unwrap())).unwrap();
    let (mut open, _) = theirs.accept().unwrap();
    for slot in 0..2 {
        let worker = handle(&stage, slot);
        let events = worker.events();
        if slot == 0 {
            stage.tell(slot, &Do::Leave).unwrap();
            let mut said = [0; 7];
            open.read_exact(&mut said).unwrap();
            assert_eq!(&said, b"leaving");
            assert!(worker.is_connected(), "it waits for us");
        }
        last(&stage, slot, Do::Destroy);
        let departure = stage.running.block_on(worker.departed()).unwrap();
        assert_eq!(departure, Departure::ByItself { exit: Exit::Code(0) });
        assert!(departure.is_after_disconnect());
        assert_eq!(ends(&stage, events), (1, vec![Exit::Code(0)]));
    }
    drop(open);
    stage.running.stop();
}

/// test-cluster-process-disconnect.js: a worker that listens leaves by itself, and ends in order; another goes on. The channel alone is nobody's to
/// close.
pub(crate) fn process_disconnect() {
    for mode in [Mode::Handoff, Mode::Shared] {
        let mut stage = stage(2);
        let on = On::any().mode(mode);
        let address = stage.listen_ip(0, "a", &on);
        assert_eq!(stage.listen_ip(1, "a", &on), address);
        let worker = handle(&stage, 0);
        stage.tell(0, &Do::Leave).unwrap();
        let departure = stage.running.block_on(worker.departed()).unwrap();
        assert_eq!(departure, Departure::ByItself { exit: Exit::Code(0) });
        assert!(ask(address).unwrap().starts_with("1.1 "));
        stage.running.stop();
    }
}

/// test-cluster-worker-forced-exit.js, test-cluster-worker-disconnect.js: one that leaves may choose its code, and has time for it.
pub(crate) fn worker_forced_exit() {
    let mut stage = stage(1);
    stage.tell(0, &Do::ExitOnceDraining(7)).unwrap();
    assert_eq!(leave(&stage, 0), Departure::Asked { exit: Exit::Code(7) });
    stage.running.stop();
}

/// test-cluster-worker-disconnect-on-error.js: who can't listen may leave at once.
pub(crate) fn worker_disconnect_on_error() {
    let mut stage = Stage::open(builder("puppet").workers(2).mode(Mode::Shared));
    let theirs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    stage.listen(0, "a", &On::tcp(theirs.local_addr().unwrap())).unwrap_err();
    let worker = handle(&stage, 0);
    stage.tell(0, &Do::Leave).unwrap();
    let departure = stage.running.block_on(worker.departed()).unwrap();
    assert_eq!(departure, Departure::ByItself { exit: Exit::Code(0) });
    stage.running.stop();
}

/// test-cluster-worker-no-exit.js: connections that a worker has made to others neither keep it from leaving nor are they cut: it ends
/// when its `main` does, which here waits for them.
pub(crate) fn worker_no_exit() {
    let mut stage = stage(1);
    let theirs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    stage.tell(0, &Do::ConnectAndWait(theirs.local_addr().unwrap())).unwrap();
    let (mut open, _) = theirs.accept().unwrap();
    let worker = handle(&stage, 0);
    stage.running.block_on(worker.stop()).unwrap();
    stage.running.wait_for("it to be told", |event| match event {
        Event::Lifecycle { event: Life::Stopping { id, .. }, .. } => (*id == worker.id()).then_some(()),
        _ => None,
    });
    // It says so on that connection, when it has heard of it.
    let mut said = [0; 7];
    open.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"leaving");
    assert!(!worker.is_dead());
    drop(open);
    assert_eq!(stage.running.block_on(worker.departed()).unwrap(), IN_ORDER);
    stage.running.stop();
}

/// test-cluster-worker-wait-server-close.js: its channel closes after its last connection.
pub(crate) fn worker_wait_server_close() {
    let mut stage = Stage::open(builder("puppet").workers(1).linger(Duration::ZERO));
    let address = stage.listen_ip(0, "a", &On::any());
    let mut open = TcpStream::connect(address).unwrap();
    std::io::Write::write_all(&mut open, b"k").unwrap();
    open.read_exact(&mut [0]).unwrap();
    let theirs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    stage.tell(0, &Do::ConnectAndWait(theirs.local_addr().unwrap())).unwrap();
    let (mut telling, _) = theirs.accept().unwrap();
    let worker = handle(&stage, 0);
    stage.running.block_on(worker.stop()).unwrap();
    telling.read_exact(&mut [0; 7]).unwrap();
    // It knows, and waits for nothing but the connection that it was handed.
    drop(telling);
    for _ in 0..50 {
        let asked = stage.messages.request(To::Worker(worker.id()), &Do::Ping);
        assert_eq!(stage.running.block_on(asked).unwrap().unwrap(), "0.1", "its channel is open");
    }
    assert!(worker.is_connected());
    drop(open);
    assert_eq!(stage.running.block_on(worker.departed()).unwrap(), IN_ORDER);
    assert!(!worker.is_connected());
    stage.running.stop();
}

/// test-cluster-primary-error.js, test-cluster-primary-kill.js: the primary panics, exits, or is killed: its workers go, also one that is
/// stuck.
pub(crate) fn primary_dies() {
    // What a process of Rust that panics exits with.
    for (how, code) in [("panic", Some(101)), ("exit", Some(0)), ("wait", None)] {
        let ledger = std::env::temp_dir().join(format!("cluster-primary-{how}-{}", std::process::id()));
        let mut primary = Command::new(std::env::current_exe().unwrap())
            .env(apps::VARIABLE, "dying-primary")
            .env(apps::LEDGER, &ledger)
            .env("CLUSTER_TEST_HOW", how)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pids: Vec<u32> = eventually("the pids of the workers", || {
            let pids = std::fs::read_to_string(&ledger).ok()?;
            let pids: Vec<_> = pids.lines().filter_map(|pid| pid.parse().ok()).collect();
            (pids.len() == 2).then_some(pids)
        });
        if code.is_none() {
            process::signal(primary.id(), Signal::KILL);
        }
        let exit = eventually("the primary to end", || primary.try_wait().unwrap());
        assert_eq!(exit.code(), code, "{exit}");
        for pid in pids {
            eventually("its workers to go", || (!process::is_alive(pid)).then_some(()));
        }
        std::fs::remove_file(ledger).unwrap();
    }
}

/// App: a primary one of whose workers is stuck, which says who they are, and then ends as it is to.
pub(crate) fn dying_primary() {
    let mut stage = stage(2);
    stage.listen_ip(0, "a", &On::any());
    drop(spin(&stage, 1));
    let workers = stage.running.handle.workers();
    let lines: String = workers.iter().filter_map(WorkerHandle::pid).map(|pid| format!("{pid}\n")).collect();
    std::fs::write(std::env::var_os(apps::LEDGER).unwrap(), lines).unwrap();
    match std::env::var("CLUSTER_TEST_HOW").unwrap().as_str() {
        "panic" => panic!("on purpose"),
        "exit" => std::process::exit(0),
        _ => stage.running.outcome().unwrap(),
    }
}

/// test-cluster-fork-env.js: a variable of a fork alone, over that of all.
pub(crate) fn fork_env() {
    let mut stage =
        Stage::open(builder("puppet").workers(1).env("CLUSTER_TEST_A", "all").env("CLUSTER_TEST_B", "all"));
    let fork = Fork::new().env("CLUSTER_TEST_B", "this").env("CLUSTER_TEST_C", "this");
    let forked = stage.running.block_on(stage.running.handle.fork_with(fork)).unwrap();
    stage.running.wait_ready(forked.id());
    let says = |slot, name: &str| stage.tell(slot, &Do::Env(name.to_owned()));
    assert_eq!(
        ["A", "B", "C"].map(|name| says(1, &format!("CLUSTER_TEST_{name}")).unwrap()),
        ["all", "this", "this"]
    );
    assert_eq!(says(0, "CLUSTER_TEST_B").unwrap(), "all");
    says(0, "CLUSTER_TEST_C").unwrap_err();
    stage.running.stop();
}

/// test-cluster-rr-handle-keep-loop-alive.js: a worker that listens lives, whatever else it does.
pub(crate) fn listening_keeps_alive() {
    let mut running = Running::start(builder("slot").env(apps::LISTEN, "127.0.0.1:0").workers(1));
    let address = running.wait_serving()[0];
    let pid = running.status().workers[0].pid;
    for _ in 0..3 {
        drop(TcpStream::connect(address).unwrap());
        assert_eq!(running.status().workers[0].pid, pid);
    }
    running.stop();
}
