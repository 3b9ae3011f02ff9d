//! Signals as values, and what of them a child inherits. Each of these runs in a process of its own.

use cluster_supervisor::os::{Signal, Signals};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::support::{Shell, field};

fn wait(signals: &mut Signals) -> Vec<Signal> {
    let deadline = Timespec { tv_sec: 60, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(signals, PollFlags::IN)], Some(&deadline)).unwrap();
    assert_eq!(ready, 1, "a signal makes the descriptor readable");
    signals.take()
}

fn is_readable(signals: &Signals) -> bool {
    poll(&mut [PollFd::new(signals, PollFlags::IN)], Some(&Timespec::default())).unwrap() == 1
}

pub(crate) fn signals_arrive_as_values() {
    let me = rustix::process::getpid();
    let number = |signal: Signal| rustix::process::Signal::from_named_raw(signal.number()).unwrap();
    let mut signals = Signals::new(Signal::ALL).unwrap();
    let mut others = Signals::new([Signal::Term]).unwrap();
    for signal in Signal::ALL {
        rustix::process::kill_process(me, number(signal)).unwrap();
        rustix::process::kill_process(me, number(signal)).unwrap();
        assert_eq!(wait(&mut signals), [signal], "once, if it came twice before it was taken");
        assert_eq!(signals.take(), []);
        assert!(!is_readable(&signals), "what was taken wakes nobody again");
    }
    assert_eq!(wait(&mut others), [Signal::Term], "each who watches gets it");
    drop(signals);
    rustix::process::kill_process(me, rustix::process::Signal::HUP).unwrap();
    rustix::process::kill_process(me, rustix::process::Signal::TERM).unwrap();
    assert_eq!(wait(&mut others), [Signal::Term]);
}

pub(crate) fn a_child_starts_with_no_signal_ignored_or_blocked() {
    let _signals = Signals::new(Signal::ALL).unwrap();
    let ignored = u64::from_str_radix(&field(std::process::id(), "SigIgn").unwrap(), 16).unwrap();
    let pipe = 1 << (13 - 1);
    assert_eq!(ignored & pipe, pipe, "Rust's runtime ignores SIGPIPE, else this shows nothing");
    let mut shell = Shell::run("grep -E '^Sig(Blk|Ign):' /proc/self/status >&3; exit");
    for what in ["SigBlk", "SigIgn"] {
        let line = shell.hears();
        let mask = line.strip_prefix(what).unwrap().trim_start_matches(':').trim();
        let mask = u64::from_str_radix(mask, 16).unwrap();
        let inherited = if what == "SigIgn" { ignored & !pipe } else { 0 };
        assert_eq!(mask, inherited, "{what}: what this process was started with, and nothing of ours");
    }
    shell.reap();
}
