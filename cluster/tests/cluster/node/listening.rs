//! Listening: Node's test-cluster-{accept-fail, bind-*, eaccess, eaddrinuse, http-pipe, listen-*, net-*, server-restart-*, shared-*, …}.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use cluster::supervisor::{Event as Life, Exit};
use cluster::{Address, Event, Mode, To};
use rustix::thread::CapabilitySet;

use super::puppet::{Do, Given, On, Stage};
use crate::builder;
use crate::support::{DEADLINE, eventually};

const BOTH: [Mode; 2] = [Mode::Handoff, Mode::Shared];
const ALL: [Mode; 3] = [Mode::Handoff, Mode::Shared, Mode::ReusePort];

fn stage(workers: usize) -> Stage {
    Stage::open(builder("puppet").workers(workers))
}

/// What a worker says to who connects: who it is, and who we are.
pub(super) fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(b".")?;
    said(stream)
}

fn said(mut stream: impl Read) -> std::io::Result<String> {
    let mut word = String::new();
    stream.read_to_string(&mut word)?;
    Ok(word)
}

fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("cluster-node-{name}-{}", std::process::id()))
}

/// A port of ours: nobody else gets it while the listener lives.
pub(super) fn taken() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// test-cluster-bind-twice.js, test-cluster-shared-handle-bind-error.js
pub(crate) fn bind_twice() {
    for mode in ALL {
        let (first, second) = (stage(1), stage(1));
        let address = first.listen_ip(0, "a", &On::any().mode(mode));
        let error = second.listen(0, "a", &On::tcp(address).mode(mode)).unwrap_err();
        assert!(error.contains("Address already in use"), "{mode}: {error}");
        // Both go on.
        assert!(ask(address).is_ok());
        second.listen_ip(0, "b", &On::any());
        [first, second].into_iter().for_each(|mut stage| stage.running.stop());
    }
}

/// test-cluster-eaddrinuse.js: the failure is not remembered.
pub(crate) fn eaddrinuse() {
    for mode in ALL {
        let mut stage = stage(1);
        let (theirs, address) = taken();
        let on = On::tcp(address).mode(mode);
        let error = stage.listen(0, "a", &on).unwrap_err();
        assert_eq!(
            error,
            format!("could not listen on {address}: Address already in use (os error 98)"),
            "names what was asked for, and why"
        );
        drop(theirs);
        assert_eq!(stage.listen_ip(0, "a", &on), address);
        assert!(ask(address).unwrap().starts_with("0.1 "));
        stage.running.stop();
    }
}

/// test-cluster-eaccess.js: a Unix socket that somebody else listens on.
pub(crate) fn eaccess() {
    let mut stage = stage(1);
    let path = path("eaccess");
    let theirs = UnixListener::bind(&path).unwrap();
    let error = stage.listen(0, "a", &On::unix(&path)).unwrap_err();
    assert!(error.contains("Address already in use"), "{error}");
    drop(theirs);
    // Better than there: what nobody listens on any more is in nobody's way.
    stage.listen(0, "a", &On::unix(&path)).unwrap();
    stage.running.stop();
    assert!(!path.exists());
}

/// test-cluster-bind-privileged-port.js, test-cluster-shared-handle-bind-privileged-port.js: the error comes to the worker, which goes on.
///
/// The primary is who binds. Where it is root, it lacks what makes root more here: the capability for such ports. Threads inherit that, so all
/// of it runs in one of its own. Its workers have the capability, as processes of root, which is of no use to them.
pub(crate) fn bind_privileged_port() {
    let without_capability = || {
        let mut sets = rustix::thread::capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::NET_BIND_SERVICE);
        rustix::thread::set_capabilities(None, sets).unwrap();
        BOTH.into_iter().for_each(nobody_binds_a_privileged_port);
    };
    std::thread::spawn(without_capability).join().unwrap();
}

fn nobody_binds_a_privileged_port(mode: Mode) {
    let mut stage = stage(1);
    let nobodys = SocketAddr::from(([203, 0, 113, 1], 80));
    let error = stage.listen(0, "a", &On::tcp(nobodys).mode(mode)).unwrap_err();
    assert!(error.ends_with("Cannot assign requested address (os error 99)"), "{error}");
    // Node's test takes 42; a container's network may have no such ports at all.
    let first_for_all = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if first_for_all.trim().parse::<u16>().unwrap() > 42 {
        let privileged = SocketAddr::from((Ipv4Addr::LOCALHOST, 42));
        let error = stage.listen(0, "a", &On::tcp(privileged).mode(mode)).unwrap_err();
        let expected = format!("could not listen on {privileged}: Permission denied (os error 13)");
        assert_eq!(error, expected);
    } else {
        eprintln!("no port is privileged here: from {} on they are for all", first_for_all.trim());
    }
    assert!(ask(stage.listen_ip(0, "b", &On::any().mode(mode))).is_ok());
    stage.running.stop();
}

/// test-cluster-child-index-net.js: ports 0 in any order, one after the other.
pub(crate) fn child_index_net() {
    let mut stage = stage(2);
    for slot in 0..2 {
        for _ in 0..3 {
            let address = stage.listen_ip(slot, "a", &On::any());
            assert!(ask(address).unwrap().starts_with(&format!("{slot}.1 ")));
            stage.close(slot, "a");
        }
    }
    let addresses = ["a", "b", "c"].map(|name| stage.listen_ip(0, name, &On::any()));
    // The n-th of each worker are one.
    assert_eq!(["a", "b", "c"].map(|name| stage.listen_ip(1, name, &On::any())), addresses);
    stage.running.stop();
}

/// test-cluster-listening-port.js, test-cluster-net-listen.js
pub(crate) fn listening_port() {
    let mut stage = stage(1);
    let address = stage.listen_ip(0, "a", &On::any());
    assert_ne!(address.port(), 0);
    let heard = stage.running.wait_for("the listening", |event| match event {
        Event::Listening { address, .. } => address.ip(),
        _ => None,
    });
    assert_eq!(heard, address);
    stage.running.stop();
}

/// test-cluster-net-listen-backlog.js: the worker's backlog is the kernel's, which tells it as the send queue of a listening socket.
pub(crate) fn net_listen_backlog() {
    for mode in ALL {
        let mut stage = stage(1);
        let address = stage.listen_ip(0, "a", &On { backlog: Some(37), ..On::any().mode(mode) });
        let output = std::process::Command::new("ss")
            .args(["-Hltn", &format!("sport = :{}", address.port())])
            .output();
        match output {
            Ok(output) => {
                let table = String::from_utf8(output.stdout).unwrap();
                let limits: Vec<_> =
                    table.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
                assert_eq!(limits, ["37"], "{table}");
            }
            Err(error) => eprintln!("`ss` can't be asked (install iproute2): {error}"),
        }
        stage.running.stop();
    }
}

/// test-cluster-net-listen-ipv6only-false.js, test-cluster-net-listen-ipv6only-none.js, test-cluster-net-listen-ipv6only-rr.js
pub(crate) fn net_listen_ipv6only() {
    if let Err(error) = TcpListener::bind("[::1]:0") {
        return eprintln!("there is no IPv6 here: {error}");
    }
    for mode in BOTH {
        for only in [true, false] {
            let mut stage = stage(2);
            let on = On { only_v6: Some(only), ..On::tcp((Ipv6Addr::UNSPECIFIED, 0)).mode(mode) };
            let address = stage.listen_ip(0, "a", &on);
            assert_eq!(stage.listen_ip(1, "a", &on), address, "all workers say the same");
            let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
            if only {
                // That port is free, for anybody.
                drop(TcpListener::bind(v4).unwrap());
                assert_eq!(stage.listen_ip(0, "b", &On::tcp(v4).mode(mode)), v4);
            }
            assert!(ask(v4).is_ok());
            assert!(ask((Ipv6Addr::LOCALHOST, address.port()).into()).is_ok());
            stage.running.stop();
        }
    }
}

/// test-cluster-net-listen-relative-path.js: relative to the worker's directory, which is not the primary's; with a path that is longer than a
/// socket's name may be, unless it is taken from where the primary is; and removed at the end.
pub(crate) fn net_listen_relative_path() {
    let folder = Folder::below_here();
    let absolute = std::env::current_dir().unwrap().join(&folder.0);
    for name in ["short".to_owned(), "A".repeat(80)] {
        let mut stage = Stage::open(builder("puppet").workers(2).cwd(&absolute));
        let expected = absolute.join(&name);
        assert!(name == "short" || expected.as_os_str().len() > 107, "{expected:?}");
        for slot in 0..2 {
            assert_eq!(stage.tell(slot, &Do::Directory).unwrap(), absolute.display().to_string());
            let address = stage.listen(slot, "a", &On::unix(&name)).unwrap();
            assert_eq!(address, Address::Unix(Some(expected.clone())));
        }
        let error = stage.listen(0, "b", &On::unix("A".repeat(200))).unwrap_err();
        assert!(error.ends_with("File name too long (os error 36)"), "{error}");
        // By the shorter name, as clients have to.
        let here = folder.0.join(&name);
        assert!(!said(UnixStream::connect(&here).map(quiet).unwrap()).unwrap().is_empty());
        stage.running.block_on(stage.running.handle.disconnect()).unwrap();
        assert!(!here.exists(), "it is removed when the workers have gone");
        stage.running.stop();
    }
}

/// An empty folder below the primary's, by its relative path. Removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn below_here() -> Self {
        let path = PathBuf::from(format!("cluster-node-cwd-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn quiet(mut stream: UnixStream) -> UnixStream {
    stream.write_all(b".").unwrap();
    stream
}

/// test-cluster-listen-pipe-readable-writable.js
pub(crate) fn listen_pipe_readable_writable() {
    let mut stage = stage(1);
    let path = path("permissions");
    stage.listen(0, "a", &On { permissions: Some(0o777), ..On::unix(&path) }).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o777);
    stage.running.stop();
}

/// test-cluster-http-pipe.js: the client of a Unix socket has no name.
pub(crate) fn http_pipe() {
    let mut stage = stage(1);
    let path = path("pipe");
    stage.listen(0, "a", &On::unix(&path)).unwrap();
    let word = said(UnixStream::connect(&path).map(quiet).unwrap()).unwrap();
    let (worker, peer) = word.split_once(' ').unwrap();
    assert_eq!(worker, "0.1");
    assert_eq!(peer.parse::<Address>().unwrap(), Address::Unix(None), "{word}");
    stage.running.stop();
}

/// test-cluster-net-reuseport.js, and twice the same otherwise: an error that says so.
pub(crate) fn net_reuseport() {
    let mut stage = stage(2);
    let on = On::any().mode(Mode::ReusePort);
    let address = stage.listen_ip(0, "a", &on);
    assert_eq!(stage.listen_ip(1, "a", &on), address);
    for _ in 0..20 {
        assert!(ask(address).is_ok());
    }
    let error = stage.listen(0, "b", &On::tcp(address).mode(Mode::ReusePort)).unwrap_err();
    // Other than there, one worker has a port once.
    assert!(error.contains("Address already in use"), "{error}");
    stage.running.stop();
}

/// test-cluster-server-restart-none.js, test-cluster-server-restart-rr.js
pub(crate) fn server_restart() {
    for mode in ALL {
        let mut stage = stage(2);
        let address = stage.listen_ip(0, "a", &On::any().mode(mode));
        let on = On::tcp(address).mode(mode);
        let other = stage.listen_ip(1, "a", &On::any().mode(mode));
        assert_eq!(other, address);
        for _ in 0..5 {
            stage.close(0, "a");
            for _ in 0..3 {
                assert!(ask(address).unwrap().starts_with("1.1 "), "who is left serves all");
            }
            assert_eq!(stage.listen_ip(0, "a", &On::any().mode(mode)), address);
            eventually("the first one to serve again", || {
                ask(address).unwrap().starts_with("0.1 ").then_some(())
            });
        }
        // The same by its number is another claim on the same port.
        let error = stage.listen(0, "b", &on).unwrap_err();
        assert!(error.contains("Address already in use"), "{mode}: {error}");
        stage.running.stop();
    }
}

/// test-cluster-port-reuse-between-workers.js, and that the last who closes a port gives it back.
pub(crate) fn port_reuse_between_workers() {
    for mode in ALL {
        let mut stage = stage(2);
        let address = stage.listen_ip(0, "a", &On::any().mode(mode));
        let on = On::tcp(address).mode(mode);
        let error = stage.listen(0, "b", &on).unwrap_err();
        assert!(error.contains("Address already in use"), "{mode}: {error}");
        stage.close(0, "a");
        // Who asks by the number has it then, each in turn.
        for _ in 0..3 {
            for slot in [1, 0] {
                assert_eq!(eventually("the port to be free", || stage.listen(slot, "a", &on).ok()), address);
                assert!(ask(address).unwrap().starts_with(&format!("{slot}.1 ")));
                stage.close(slot, "a");
            }
        }
        // And when nobody has it, others may.
        eventually("the port to be free", || TcpListener::bind(address).ok());
        stage.running.stop();
    }
}

/// test-cluster-shared-leak.js: a connection is open while all workers leave; they end when it does, nothing is left.
pub(crate) fn shared_leak() {
    for mode in BOTH {
        let mut stage = Stage::open(builder("puppet").workers(2).linger(std::time::Duration::ZERO));
        let on = On::any().mode(mode);
        let address = stage.listen_ip(0, "a", &on);
        stage.listen_ip(1, "a", &on);
        let mut open = TcpStream::connect(address).unwrap();
        // "k": keep it.
        open.write_all(b"k").unwrap();
        let mut first = [0];
        open.read_exact(&mut first).unwrap();
        stage.running.block_on(stage.running.handle.shutdown()).unwrap();
        drop(open);
        for _ in 0..2 {
            let exit = stage.running.wait_for("an exit", |event| match event {
                Event::Lifecycle { event: Life::Exited { exit, cause, .. }, .. } => {
                    Some((*exit, cause.is_asked()))
                }
                _ => None,
            });
            assert_eq!(exit, (Exit::Code(0), true));
        }
        stage.running.outcome().unwrap();
    }
}

/// test-cluster-worker-handle-close.js: connections on their way to a worker that closes its listener go to another, or wait for one.
pub(crate) fn worker_handle_close() {
    let mut stage = stage(2);
    let address = stage.listen_ip(0, "a", &On::any());
    assert_eq!(stage.listen_ip(1, "a", &On::any()), address);
    let clients: Vec<_> = (0..4)
        .map(|_| std::thread::spawn(move || (0..50).map(|_| ask(address)).collect::<Vec<_>>()))
        .collect();
    for _ in 0..10 {
        stage.close(0, "a");
        stage.listen_ip(0, "a", &On::any());
    }
    for client in clients {
        for word in client.join().unwrap() {
            assert!(!word.unwrap().is_empty());
        }
    }
    stage.running.stop();
}

/// test-net-listen-handle-in-cluster-1.js, test-net-listen-handle-in-cluster-2.js: a worker serves on a whole listening socket that the primary
/// sends it, and on one that it binds itself. The primary has nothing to do with either: it tells of none, and nobody shares them.
pub(crate) fn net_listen_handle() {
    let mut stage = stage(2);
    let (listener, given) = taken();
    listener.set_nonblocking(true).unwrap();
    let sent = stage.messages.send_with(To::Slot(1), &Given, vec![listener.into()]);
    stage.running.block_on(sent).unwrap();
    let alone = |slot, address| stage.tell(slot, &Do::ListenAlone("a".to_owned(), address));
    let own: SocketAddr = alone(0, ([127, 0, 0, 1], 0).into()).unwrap().parse().unwrap();
    for _ in 0..3 {
        assert!(ask(given).unwrap().starts_with("1.1 "));
        assert!(ask(own).unwrap().starts_with("0.1 "));
    }
    // It is bound like any socket of any process.
    for taken in [alone(1, own), stage.listen(1, "a", &On::tcp(own)).map(|address| address.to_string())] {
        let error = taken.unwrap_err();
        assert!(error.contains("Address already in use"), "{error}");
    }
    assert!(stage.running.status().listening.is_empty());
    // With its worker it ends, and nobody has heard of it.
    let worker = stage.running.handle.worker_of_slot(0).unwrap();
    stage.running.block_on(worker.disconnect()).unwrap();
    assert!(TcpListener::bind(own).is_ok());
    stage.running.wait_for("the worker's exit", |event| match event {
        Event::Listening { .. } => panic!("{event}"),
        Event::Lifecycle { event: Life::Exited { id, .. }, .. } => (*id == worker.id()).then_some(()),
        _ => None,
    });
    stage.running.stop();
}

/// As test-dgram-cluster-close-during-bind.js, for streams: a listener that nobody waits for any more harms nobody.
pub(crate) fn close_during_listen() {
    let mut stage = stage(1);
    for _ in 0..5 {
        stage.tell(0, &Do::ListenAndForget(On::any())).unwrap();
    }
    let address = stage.listen_ip(0, "a", &On::any());
    assert!(ask(address).is_ok());
    stage.running.stop();
}

/// test-cluster-accept-fail.js: the primary has no descriptor left for a connection; it survives, and goes on when there is one.
pub(crate) fn accept_fail() {
    let mut stage = stage(1);
    let address = stage.listen_ip(0, "a", &On::any());
    assert!(ask(address).is_ok());
    let limit = cluster::supervisor::os::OpenFiles::current().soft();
    let open = cluster::supervisor::os::open_descriptors().unwrap();
    cluster::supervisor::os::set_open_files(open + 50).unwrap();
    // All that there are but one, which is for the client here; none for who accepts.
    let mut taken: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    taken.pop();
    let mut waiting = TcpStream::connect(address).unwrap();
    waiting.write_all(b".").unwrap();
    eventually("the acceptor to have paused", || (stage.running.status().accept.backoffs > 0).then_some(()));
    drop(taken);
    cluster::supervisor::os::set_open_files(limit).unwrap();
    assert!(said(waiting).unwrap().starts_with("0.1 "));
    stage.close(0, "a");
    stage.running.stop();
}
