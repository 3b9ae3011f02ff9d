//! The threads that ask.

use std::collections::HashMap;
use std::io::Read;
use std::net::TcpListener;
use std::time::Duration;

use cluster_health::os::{HttpGet, Outcome, Prober, Target, Timing};
use cluster_health::{Checks, Heartbeat, InARow, Monitor, Probe, VerdictKind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::commands::{is_running, script};
use crate::servers::{answering, nobody, read_request};
use crate::{LONG, eventually};

fn often() -> Timing {
    Timing::new().period(Duration::from_millis(5)).timeout(LONG)
}

/// Waits so long until it is readable.
fn is_readable(prober: &Prober<u32>, timeout: Duration) -> bool {
    let mut fds = [PollFd::new(prober, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::try_from(timeout).unwrap())).unwrap() == 1
}

#[test]
fn everybody_is_asked_again_and_again() {
    let well = Target::Http(HttpGet::new(answering("HTTP/1.1 200 OK\r\n\r\n"), "/").unwrap());
    let (_taken, address) = nobody();
    let prober = Prober::new().unwrap();
    for key in 0..20 {
        let target = if key % 2 == 0 { well.clone() } else { Target::Tcp(address) };
        prober.insert(key, Probe::Readiness, target, often());
    }
    let mut answers: HashMap<u32, Vec<_>> = HashMap::new();
    while answers.len() < 20 || answers.values().any(|answers| answers.len() < 3) {
        let answer = prober.recv_timeout(LONG).expect("answers keep coming");
        assert_eq!(answer.outcome == Outcome::Good, answer.key % 2 == 0, "{answer:?}");
        assert!(answer.began <= answer.ended);
        let of_one = answers.entry(answer.key).or_default();
        assert!(of_one.last().is_none_or(|last| *last <= answer.began), "one at a time, in order");
        of_one.push(answer.ended);
    }
}

#[test]
fn the_descriptor_is_readable_exactly_while_answers_wait() {
    let (_taken, address) = nobody();
    let prober = Prober::new().unwrap();
    assert!(!is_readable(&prober, Duration::ZERO));
    for _ in 0..3 {
        prober.insert(1, Probe::Liveness, Target::Tcp(address), often());
        assert!(is_readable(&prober, LONG), "an answer comes");
        assert!(prober.try_recv().is_some());
        assert!(is_readable(&prober, LONG), "another one comes");
        prober.remove(1);
        assert_eq!(prober.try_recv(), None, "what was not received is forgotten");
        assert!(!is_readable(&prober, Duration::ZERO));
    }
}

#[test]
fn who_is_removed_is_asked_no_more_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hangs = Target::Http(HttpGet::new(listener.local_addr().unwrap(), "/").unwrap());
    let prober = Prober::with_threads(1).unwrap();
    prober.insert(1, Probe::Liveness, hangs, often());
    let (mut stream, _) = listener.accept().unwrap();
    read_request(&mut stream);
    prober.remove(1);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "it is broken off, long before its timeout");
    // The only thread is free again, and the next life has nothing to do with the last one.
    prober.insert(1, Probe::Liveness, script("exit 7"), often());
    let answer = prober.recv_timeout(LONG).unwrap();
    assert_eq!(answer.outcome, Outcome::Bad("exited with code 7".to_owned()));
}

#[test]
fn only_one_kind_of_probe_can_be_removed() {
    let prober = Prober::new().unwrap();
    prober.insert(1, Probe::Startup, script("exit 0"), often());
    assert_eq!(prober.recv_timeout(LONG).unwrap().probe, Probe::Startup);
    prober.insert(1, Probe::Liveness, script("exit 0"), often());
    prober.remove_probe(1, Probe::Startup);
    for _ in 0..3 {
        assert_eq!(prober.recv_timeout(LONG).unwrap().probe, Probe::Liveness);
    }
}

#[test]
fn as_many_are_asked_at_a_time_as_there_are_threads() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let hangs = Target::Http(HttpGet::new(listener.local_addr().unwrap(), "/").unwrap());
    let prober = Prober::with_threads(6).unwrap();
    for key in 0..6 {
        prober.insert(key, Probe::Liveness, hangs.clone(), often());
    }
    let connections = (0..6).map(|_| eventually("another one is asked", || listener.accept().ok()));
    let connections: Vec<_> = connections.collect();
    assert_eq!(prober.try_recv(), None, "none of them is answered yet");
    drop(connections);
}

#[test]
fn who_comes_later_may_be_asked_earlier() {
    let prober = Prober::new().unwrap();
    let seldom = often().period(Duration::from_secs(1_000_000));
    for key in 0..8 {
        prober.insert(key, Probe::Liveness, script("exit 0"), seldom);
    }
    prober.insert(8, Probe::Liveness, script("exit 0"), often());
    for _ in 0..3 {
        assert_eq!(prober.recv_timeout(LONG).expect("it is asked").key, 8);
    }
}

/// A program that hangs, with its pid, once it does.
fn hanging(prober: &Prober<u32>, name: &str) -> String {
    let path = std::env::temp_dir().join(format!("probes-{}-{name}", std::process::id()));
    let told = format!("echo $$ > {0}.new && mv {0}.new {0}; exec sleep 1000", path.display());
    prober.insert(1, Probe::Liveness, script(&told), often());
    let pid = eventually("it runs", || std::fs::read_to_string(&path).ok());
    std::fs::remove_file(path).unwrap();
    pid.trim().to_owned()
}

#[test]
fn a_program_is_killed_when_its_member_is_removed() {
    let prober = Prober::new().unwrap();
    let pid = hanging(&prober, "removed");
    assert!(is_running(&pid));
    prober.remove(1);
    eventually("it is killed", || (!is_running(&pid)).then_some(()));
    assert_eq!(prober.try_recv(), None);
}

#[test]
fn dropped_it_ends_all_it_has_begun() {
    let prober = Prober::new().unwrap();
    let pid = hanging(&prober, "dropped");
    drop(prober);
    assert!(!is_running(&pid), "it was killed and reaped before the threads ended");
}

#[test]
fn a_monitor_understands_the_answers() {
    let (_taken, address) = nobody();
    let checks = Checks::from(Heartbeat::new()).probe(Probe::Readiness, InARow::new(1, 2));
    let mut monitor = Monitor::new(checks);
    let prober = Prober::new().unwrap();
    monitor.insert(1, std::time::Instant::now());
    prober.insert(1, Probe::Readiness, Target::Tcp(address), often());
    let verdict = eventually("there is a verdict", || {
        let answer = prober.recv_timeout(LONG)?;
        let result = answer.outcome.answer()?;
        monitor.handle_probe(answer.key, answer.probe, result, answer.began, answer.ended);
        monitor.poll_verdict()
    });
    assert_eq!(verdict.kind(), VerdictKind::Suspect);
    let expected = format!("readiness probe failed 2 times: connection refused by {address}");
    assert_eq!(verdict.to_string(), expected);
}
