//! What probes take of this process, and what they say when there is nothing left to take.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::time::Duration;

use cluster_health::Probe;
use cluster_health::os::{CommandLine, Error, Outcome, Prober, Target, Timing};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::sampling::{descriptors, open_of};

const LONG: Duration = Duration::from_secs(60);

pub(crate) fn a_prober_leaves_nothing_behind() {
    let before = open_of("self");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let targets = [
        Target::Tcp(listener.local_addr().unwrap()),
        Target::Command(CommandLine::new("/bin/sh").args(["-c", "echo no; exit 1"])),
    ];
    let prober = Prober::new().unwrap();
    let timing = Timing::new().period(Duration::from_millis(2)).timeout(LONG);
    for (key, target) in targets.into_iter().cycle().take(6).enumerate() {
        prober.insert(key, Probe::Liveness, target, timing);
    }
    for _ in 0..60 {
        prober.recv_timeout(LONG).unwrap();
    }
    drop(prober);
    drop(listener);
    assert_eq!(open_of("self"), before);
}

pub(crate) fn want_of_descriptors_is_nobodys_fault() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let by_tcp = Target::Tcp(listener.local_addr().unwrap());
    let by_program = Target::Command(CommandLine::new("/bin/true"));
    // The limit is one of their numbers: below it none may be free but `room` of them.
    let highest = descriptors("self").max().unwrap();
    let fill = || File::open("/dev/null").unwrap();
    let mut filled = vec![fill()];
    while filled.last().is_some_and(|last| last.as_raw_fd() < highest) {
        filled.push(fill());
    }
    let used = filled.last().map_or(0, AsRawFd::as_raw_fd) as u64 + 1;
    let limits = getrlimit(Resource::Nofile);
    // It takes a pipe, one end of it twice, and something to read nothing from.
    for room in 0..4 {
        let limit = Rlimit { current: Some(used + room), maximum: limits.maximum };
        setrlimit(Resource::Nofile, limit).unwrap();
        let (tcp, program, prober) = (by_tcp.ask(LONG), by_program.ask(LONG), Prober::<u32>::new());
        setrlimit(Resource::Nofile, limits).unwrap();
        assert!(
            matches!(&program, Outcome::Unasked(why) if why.contains("Too many open files")),
            "{program:?}"
        );
        assert_eq!(program.answer(), None);
        assert_eq!(tcp.answer(), (room > 0).then_some(Ok(())));
        assert!(matches!(prober, Err(Error::Start { .. })));
    }
    assert_eq!((by_tcp.ask(LONG), by_program.ask(LONG)), (Outcome::Good, Outcome::Good));
}
