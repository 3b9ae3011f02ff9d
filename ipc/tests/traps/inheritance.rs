//! Descriptors that a process started meanwhile must not inherit.
//!
//! On systems where a descriptor can only be marked after it was made, a fork between the two hands it on. Linux marks at
//! birth; what can go wrong here is that a call isn't asked to.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use cluster_ipc::session::{Config, Event};
use cluster_ipc::{Connection, Lane, Socket, Spawn, adopt, board};

use crate::alone::{alone, copy, null, open_descriptors, role, rounds, until};
use crate::wires::{Driver, End, expect_message, nulls, pair, wait_for_event};

/// A size above which messages travel as memory.
const LARGE: usize = 100_000;

fn config() -> Config {
    Config::new().memory_above(LARGE - 1)
}

/// Those of the descriptors opened since `before` that a child would inherit.
fn inheritable(before: &[(i32, String)]) -> Vec<(i32, String)> {
    let before: BTreeSet<&(i32, String)> = before.iter().collect();
    let open = open_descriptors().into_iter().filter(|open| !before.contains(open));
    open.filter(|(number, _)| {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        // O_CLOEXEC, in octal.
        u32::from_str_radix(flags, 8).unwrap() & 0o2_000_000 == 0
    })
    .collect()
}

/// Each descriptor that this crate makes or receives, by whatever way.
#[test]
fn everything_is_closed_on_exec_from_birth() {
    if role().as_deref() == Some("child") {
        let before = open_descriptors();
        let adopted = adopt().unwrap();
        // Stdin stays inheritable, as /dev/null.
        assert_eq!(std::fs::read_link("/proc/self/fd/0").unwrap().to_str(), Some("/dev/null"));
        let moved: Vec<_> = inheritable(&before).into_iter().filter(|(number, _)| *number > 2).collect();
        let mut connection = adopted.connect(config(), b"").unwrap();
        connection.send(Lane::Data, format!("{moved:?}").as_bytes(), vec![]).unwrap();
        assert!(connection.flush(Instant::now()));
        return;
    }
    alone(|| {
        let now = Instant::now();
        let before = open_descriptors();
        let none = |what: &str| {
            let found = inheritable(&before);
            assert!(found.is_empty(), "after {what} a child would inherit {found:?}");
        };
        let (mut here, mut there) = pair(config());
        none("making a socket pair");
        here.send(Lane::Data, &[1; LARGE], nulls(2)).unwrap();
        assert!(open_descriptors().iter().any(|(_, target)| target.contains("memfd")), "it is in memory");
        none("queueing a large message");
        here.flush(now);
        there.read(now);
        assert!(open_descriptors().iter().any(|(_, target)| target.contains("memfd")), "it has arrived");
        none("receiving descriptors, and memory");
        assert_eq!(expect_message(&mut there).1.len(), 2);
        for (driver, connection) in [(Driver::Blocking, here), (Driver::Tokio, there)] {
            let end = End::new(driver, connection);
            // tokio's own are its own business, but it is careful too.
            none(match driver {
                Driver::Blocking => "making a blocking endpoint",
                Driver::Tokio => "making a tokio endpoint",
            });
            drop(end);
        }
        let board = board::PrimaryBoard::create().unwrap();
        none("making a board");
        drop(board);

        let on_stdin = |command| Spawn::from(command);
        let on_seven = |command| Spawn::from(command).on_descriptor(7);
        for spawn in [on_stdin as fn(_) -> Spawn, on_seven] {
            let mut command = copy("child");
            command.stdin(Stdio::null()).stdout(Stdio::null());
            let (mut child, mut here) = spawn(command).descriptors(nulls(1)).spawn().unwrap();
            none("starting a child");
            assert!(matches!(wait_for_event(&mut here), Event::Opened(_)));
            assert_eq!(&expect_message(&mut here).0[..], b"[]", "what a grandchild would inherit");
            assert!(child.wait().unwrap().success());
        }
    });
}

/// Tells a child which descriptors are none of this test's.
const INHERITED: &str = "CLUSTER_IPC_TEST_INHERITED";

/// Processes are started all the time while others make and receive descriptors: none gets one of those.
#[test]
fn fork_at_any_moment_inherits_nothing() {
    if role().as_deref() == Some("child") {
        let known = std::env::var(INHERITED).unwrap();
        let known: Vec<i32> = known.split_whitespace().map(|number| number.parse().unwrap()).collect();
        let open: Vec<_> =
            open_descriptors().into_iter().filter(|(number, _)| !known.contains(number)).collect();
        assert!(open.is_empty(), "inherited {open:?}");
        std::process::exit(7);
    }
    alone(|| {
        // Whoever started this test may have left something open.
        let known: Vec<String> = inheritable(&[]).iter().map(|(number, _)| number.to_string()).collect();
        let known = known.join(" ");
        let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&made));
        let making = std::thread::spawn(move || {
            let now = Instant::now();
            let (mut here, mut there) = pair(config());
            while !stopped.load(Ordering::SeqCst) {
                drop(Socket::pair().unwrap());
                drop(End::new(Driver::Blocking, Connection::pair(config()).unwrap().0));
                here.send(Lane::Data, &[1; LARGE], vec![null()]).unwrap();
                here.flush(now);
                drop(expect_message(&mut there));
                here.read(now);
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        for _ in 0..rounds(60) {
            let before = made.load(Ordering::SeqCst);
            until("some more are made", || made.load(Ordering::SeqCst) > before);
            let mut command = copy("child");
            command.env(INHERITED, &known).stdin(Stdio::null()).stdout(Stdio::null());
            assert_eq!(command.status().unwrap().code(), Some(7), "see above what it inherited");
        }
        stop.store(true, Ordering::SeqCst);
        making.join().unwrap();
    });
}
