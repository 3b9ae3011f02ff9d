//! Real processes: pinned executables, exits, signals, limits. One test, so that descriptors can be counted.
#![cfg(feature = "os")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use cluster_supervisor::os::{
    Child, ChildSpec, Executable, OpenFiles, Stdio, open_descriptors, set_open_files,
};
use cluster_supervisor::{Exit, StopSignal};
use rustix::event::{PollFd, PollFlags, poll};

/// Starts a shell that runs `script`, with a pipe as its stdin.
fn shell(script: &str) -> (Child, std::io::PipeWriter) {
    let (stdin, ours) = std::io::pipe().unwrap();
    let spec = ChildSpec::new(Executable::open("/bin/sh").unwrap()).args(["-c", script]);
    (spec.stdin(Stdio::from(OwnedFd::from(stdin))).spawn().unwrap(), ours)
}

fn wait(mut child: Child) -> Exit {
    poll(&mut [PollFd::new(&child.as_fd(), PollFlags::IN)], None).unwrap();
    child.try_reap().unwrap().unwrap()
}

#[test]
fn children_are_watched_signalled_and_reaped_without_a_descriptor_left_over() {
    let before = open_descriptors().unwrap();
    an_exit_code_is_reported();
    a_signal_reaches_the_child_and_is_reported();
    a_running_child_is_not_reaped();
    a_child_has_its_own_process_group_and_inherits_nothing_but_the_standard_streams();
    the_pinned_file_is_started_whatever_became_of_its_path();
    the_limit_of_open_files_can_be_lowered_and_raised();
    assert_eq!(open_descriptors().unwrap(), before);
}

fn an_exit_code_is_reported() {
    let (child, mut stdin) = shell("read code; exit $code");
    stdin.write_all(b"7\n").unwrap();
    assert_eq!(wait(child), Exit::Code(7));
}

fn a_signal_reaches_the_child_and_is_reported() {
    let (child, _stdin) = shell("read forever");
    child.signal(StopSignal::Term).unwrap();
    assert_eq!(wait(child), Exit::Signal(15));
    let (child, _stdin) = shell("read forever");
    assert_eq!(child.kill_and_reap().unwrap(), Exit::Signal(9));
}

fn a_running_child_is_not_reaped() {
    let (mut child, stdin) = shell("read forever");
    assert_eq!(child.try_reap().unwrap(), None);
    assert!(!child.is_traced());
    drop(stdin);
    assert_eq!(wait(child), Exit::Code(1), "read failed at the end of its input");
}

fn a_child_has_its_own_process_group_and_inherits_nothing_but_the_standard_streams() {
    let _cloexec = File::open("/dev/null").unwrap();
    let report = std::env::temp_dir().join(format!("cluster-os-{}", std::process::id()));
    let script =
        format!("{{ echo $$; cut -d' ' -f5 /proc/$$/stat; ls /proc/$$/fd; }} > {}", report.display());
    let (child, _stdin) = shell(&script);
    let pid = child.pid().to_string();
    assert_eq!(wait(child), Exit::Code(0));
    let text = std::fs::read_to_string(&report).unwrap();
    std::fs::remove_file(&report).unwrap();
    let mut lines = text.lines();
    assert_eq!((lines.next(), lines.next()), (Some(&*pid), Some(&*pid)), "pid and process group: {text}");
    // The shell itself keeps one or two above 9 for its redirections.
    let inherited: Vec<u32> = lines.map(|fd| fd.parse().unwrap()).filter(|fd| *fd < 10).collect();
    assert_eq!(inherited, [0, 1, 2], "{text}");
}

fn the_pinned_file_is_started_whatever_became_of_its_path() {
    let path = std::env::temp_dir().join(format!("cluster-pin-{}", std::process::id()));
    std::fs::copy("/bin/true", &path).unwrap();
    let pinned = Executable::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let spec = ChildSpec::new(pinned);
    assert_eq!(wait(spec.spawn().unwrap()), Exit::Code(0));
    assert_eq!(spec.executable().path(), path);
    let error = Executable::open(&path).unwrap_err();
    assert_eq!(error.to_string(), format!("could not open the executable {}", path.display()));
}

fn the_limit_of_open_files_can_be_lowered_and_raised() {
    let before = OpenFiles::current();
    set_open_files(before.soft().min(100)).unwrap();
    assert_eq!(OpenFiles::current().soft(), before.soft().min(100));
    set_open_files(u64::MAX).unwrap();
    assert_eq!(OpenFiles::current().soft(), before.hard(), "never above the hard limit");
    set_open_files(before.soft()).unwrap();
    let mut text = String::new();
    File::open("/proc/self/limits").unwrap().read_to_string(&mut text).unwrap();
    assert!(
        text.lines()
            .any(|line| line.starts_with("Max open files") && line.contains(&before.soft().to_string()))
    );
}
