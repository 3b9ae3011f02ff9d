//! A worker that hangs under load, and then doesn't.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cluster::Mode;
use cluster::health::Heartbeat;
use rustix::process::Signal;

use crate::support::{DEADLINE, eventually, process};
use crate::{Running, apps, builder};

/// Sends a request with this id on a connection of its own; reads the answer to the end of the stream.
fn ask(address: SocketAddr, id: usize) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(format!("{id}\n").as_bytes()).unwrap();
    let mut slot = String::new();
    stream.read_to_string(&mut slot).unwrap();
    assert!(!slot.is_empty(), "request {id} got no answer");
    slot
}

fn hang_under_load(mode: Mode) {
    let ledger = std::env::temp_dir().join(format!("cluster-ledger-{mode}-{}", std::process::id()));
    std::fs::write(&ledger, "").unwrap();
    // However long it takes until it is let go on, it is not replaced.
    let heartbeat = Heartbeat::new().dead_at_least(10 * DEADLINE);
    let builder = builder("record").env(apps::LEDGER, &ledger).workers(4).mode(mode).heartbeat(heartbeat);
    let mut running = Running::start(builder);
    let address = running.wait_serving()[0];
    let victim = running.status().workers[2].clone();
    let (next_id, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let next = || next_id.fetch_add(1, Ordering::SeqCst);
    // How many requests of each client have been answered.
    let done: [AtomicUsize; 8] = Default::default();
    let counts = || done.each_ref().map(|done| done.load(Ordering::SeqCst));
    std::thread::scope(|scope| {
        for done in &done {
            let (next, over) = (&next, &over);
            scope.spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    ask(address, next());
                    done.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for _ in 0..3 {
            let pid = victim.pid.unwrap();
            process::signal(pid, Signal::STOP);
            eventually("it to be suspected", || {
                (running.status().workers[2].state == "suspect").then_some(())
            });
            // From now on nobody waits for it but those whose connection it had taken, and perhaps one that it was just taking: it
            // counts what it took a moment later.
            let before = counts();
            eventually("all others to go on", || {
                let going_on = counts().iter().zip(&before).filter(|(now, before)| now > before).count();
                (going_on + running.status().workers[2].active as usize + 1 >= done.len()).then_some(())
            });
            for _ in 0..200 {
                assert_ne!(ask(address, next()), victim.slot.to_string());
            }
            assert!(process::is_stopped(pid));
            process::signal(pid, Signal::CONT);
            eventually("it to be trusted again", || {
                (running.status().workers[2].state == "ready").then_some(())
            });
        }
        over.store(true, Ordering::SeqCst);
    });
    assert_eq!(running.status().workers[2].pid, victim.pid, "it was not replaced");
    running.stop();
    let written = std::fs::read_to_string(&ledger).unwrap();
    std::fs::remove_file(&ledger).unwrap();
    let ids: Vec<usize> = written.lines().map(|id| id.parse().unwrap()).collect();
    let unique: BTreeSet<usize> = ids.iter().copied().collect();
    assert_eq!(ids.len(), unique.len(), "a request was served twice");
    assert!(unique.into_iter().eq(0..next()), "each request was answered, by who wrote it down");
}

pub(crate) fn nobody_waits_for_a_worker_that_hangs_and_nothing_is_served_twice() {
    hang_under_load(Mode::Handoff);
}

pub(crate) fn nor_does_anybody_where_each_slot_has_a_socket() {
    hang_under_load(Mode::ReusePort);
}
