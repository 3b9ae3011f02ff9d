//! Figures of real children.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use cluster_health::os::{Error, Report, Roots, Sampler};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal, geteuid, getrlimit, pidfd_open, setrlimit};

use crate::children::{Child, eventually};
use crate::roles::{ALLOCATED, OPENED};

pub(crate) fn a_sleeping_child_has_figures() {
    let child = Child::playing("wait");
    let mut sampler = Sampler::open(child.pid()).unwrap();
    assert_eq!((sampler.pid(), sampler.last()), (child.pid(), None));
    let sample = sampler.sample().unwrap();
    assert_eq!(sampler.last(), Some(sample));
    assert_eq!(sample.thread_count(), Some(1));
    assert_eq!(sample.open_descriptors(), Some(open_of(&child.pid().to_string())));
    let resident = sample.resident_bytes().unwrap();
    assert!((100 << 10..64 << 20).contains(&resident), "{resident}");
    assert!(sample.processor_time().unwrap() > Duration::ZERO, "it has started, at least");

    let share = sampler.proportional().unwrap();
    assert_eq!(sample.proportional_bytes(), None, "nobody asked for it");
    assert!(share.bytes() > 0 && share.bytes() < resident + (1 << 20), "{share:?} of {resident}");
    let elsewhere = sampler.rollup().unwrap();
    let share = std::thread::spawn(move || elsewhere.read()).join().unwrap().unwrap();
    assert!(share.bytes() > 0);
}

pub(crate) fn processor_time_grows_while_it_spins() {
    let begun = Instant::now();
    let child = Child::playing("spin");
    let mut sampler = Sampler::open(child.pid()).unwrap();
    let first = sampler.sample().unwrap().processor_time().unwrap();
    eventually("it to use 50 ms", || {
        let used = sampler.sample().unwrap().processor_time().unwrap();
        assert!(used <= 2 * begun.elapsed(), "one thread can't use more than the time that there was");
        (used >= first + Duration::from_millis(50)).then_some(())
    });
}

pub(crate) fn resident_memory_grows_by_what_is_touched() {
    let mut child = Child::playing("allocate");
    let mut sampler = Sampler::open(child.pid()).unwrap();
    let before = sampler.sample().unwrap().resident_bytes().unwrap();
    let share = sampler.proportional().unwrap().bytes();
    child.tell();
    assert_eq!(child.hears(), "done");
    let grown = sampler.sample().unwrap().resident_bytes().unwrap() - before;
    // The kernel counts by processor, and sums up roughly.
    let expected = ALLOCATED as u64;
    assert!(grown.abs_diff(expected) < 4 << 20, "by {grown} instead of {expected}");
    let grown = sampler.proportional().unwrap().bytes() - share;
    assert!(grown.abs_diff(expected) < 4 << 20, "the share by {grown} instead of {expected}");
}

pub(crate) fn open_files_are_counted() {
    let mut child = Child::playing("open");
    let mut sampler = Sampler::open(child.pid()).unwrap();
    let before = sampler.sample().unwrap().open_descriptors().unwrap();
    child.tell();
    assert_eq!(child.hears(), "done");
    // Where they must be counted one by one, a new sampler counts at once.
    let mut sampler = Sampler::open(child.pid()).unwrap().count_descriptors_every(1);
    assert_eq!(sampler.sample().unwrap().open_descriptors(), Some(before + OPENED as u64));
}

pub(crate) fn a_child_that_is_not_reaped_is_gone() {
    let child = Child::playing("wait");
    let mut sampler = Sampler::open(child.pid()).unwrap();
    sampler.sample().unwrap();
    child.signal(Signal::KILL);
    let gone = eventually("it to end", || sampler.sample().err());
    assert!(gone.is_gone(), "{gone}");
    assert_eq!(gone.to_string(), format!("process {} has ended", child.pid()));
    assert!(sampler.proportional().unwrap_err().is_gone());
    let gone = Sampler::open(child.pid()).unwrap_err();
    assert!(gone.is_gone(), "nor does one begin with it: {gone}");
}

pub(crate) fn a_reaped_child_is_gone() {
    let mut child = Child::playing("wait");
    let mut sampler = Sampler::open(child.pid()).unwrap();
    let rollup = sampler.rollup().unwrap();
    let pidfd = pidfd(child.pid());
    child.kill_and_reap();
    assert!(sampler.sample().unwrap_err().is_gone());
    assert!(sampler.sample().unwrap_err().is_gone(), "for ever");
    assert!(sampler.proportional().unwrap_err().is_gone());
    assert!(rollup.read().unwrap_err().is_gone());
    assert!(sampler.report().unwrap_err().is_gone());
    assert!(Sampler::open(child.pid()).unwrap_err().is_gone());
    // Its pidfd, with the pid of one who lives.
    let other = Child::playing("wait");
    let stranger = Sampler::with_pidfd(&Roots::new(), other.pid(), pidfd).unwrap_err();
    assert!(stranger.is_gone(), "{stranger}");
}

pub(crate) fn a_sampler_keeps_four_descriptors() {
    let child = Child::playing("wait");
    let own = || open_of("self");
    let before = own();
    let mut sampler = Sampler::open(child.pid()).unwrap();
    assert_eq!(own(), before + 4);
    sampler.sample().unwrap();
    sampler.proportional().unwrap();
    sampler.report().unwrap();
    assert_eq!(own(), before + 4);
    drop(sampler);
    assert_eq!(own(), before);
}

pub(crate) fn the_limit_of_open_files_is_told() {
    let child = Child::playing("wait");
    let mut sampler = Sampler::open(child.pid()).unwrap();
    // The limit is one of their numbers: below it none may be free but `room` of them.
    let highest = descriptors("self").max().unwrap();
    let fill = || File::open("/dev/null").unwrap();
    let mut filled = vec![fill()];
    while filled.last().is_some_and(|last| last.as_raw_fd() < highest) {
        filled.push(fill());
    }
    let used = filled.last().map_or(0, AsRawFd::as_raw_fd) as u64 + 1;
    let limits = getrlimit(Resource::Nofile);
    for room in 0..4 {
        let limit = Rlimit { current: Some(used + room), maximum: limits.maximum };
        setrlimit(Resource::Nofile, limit).unwrap();
        let (opened, sample) = (Sampler::open(child.pid()), sampler.sample());
        setrlimit(Resource::Nofile, limits).unwrap();
        let error = opened.unwrap_err();
        assert!(matches!(error, Error::TooManyOpen { .. }), "with {room} left: {error}");
        assert!(error.to_string().contains("raise the limit"), "{error}");
        assert!(sample.is_ok(), "what is open needs no more");
    }
    Sampler::open(child.pid()).unwrap();
}

pub(crate) fn a_thread_is_no_process() {
    let child = Child::playing("threads");
    let tasks = std::fs::read_dir(format!("/proc/{}/task", child.pid())).unwrap();
    let mut tids = tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap());
    let thread: u32 = tids.find(|tid| *tid != child.pid()).unwrap();
    let error = Sampler::open(thread).unwrap_err();
    assert!(matches!(error, Error::NotAProcess { .. }), "{error}");
}

/// Its descriptors may be none of our business; everything else is not hidden.
pub(crate) fn a_child_of_another_user_has_figures() {
    if !geteuid().is_root() {
        println!("skipped: to start a child of another user takes root");
        return;
    }
    let child = Child::run(Command::new("/bin/cat").uid(65534).gid(65534));
    let mut sampler = Sampler::open(child.pid()).unwrap();
    eventually("it to be the program", || {
        let sample = sampler.sample().unwrap();
        assert!(sample.processor_time().is_some() && sample.thread_count() == Some(1));
        let named = Report::of(child.pid()).unwrap().name() == "cat";
        (named && sample.resident_bytes().is_some()).then_some(())
    });
}

/// The descriptors of a process; of this one, that of the folder too.
pub(crate) fn descriptors(process: &str) -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
}

pub(crate) fn open_of(process: &str) -> u64 {
    descriptors(process).count() as u64
}

fn pidfd(pid: u32) -> OwnedFd {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
    pidfd_open(pid, PidfdFlags::empty()).unwrap()
}
