//! PID 1 of a pid namespace of its own.

use cluster_supervisor::Exit;
use cluster_supervisor::os::{Reaper, Shutdown, Signal, Signals, Stop, Tree};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::support::{Shell, children, eventually, field};

pub(crate) fn init_gets_its_signals_and_reaps_orphans() {
    assert_eq!(std::process::id(), 1);
    let mut signals = Signals::new([Signal::Term, Signal::Child]).unwrap();
    let mut shell = Shell::run("(exec 0<&3; sh -c '(read go; exit 4) <&3 & kill -TERM 1'); read end; exit 2");
    let child = shell.child.pid();
    let (reaper, mut shutdown, mut orphans) = (Reaper::new(), Shutdown::default(), Vec::new());
    let mut told = false;
    // As a supervisor's loop does: nothing but the descriptor wakes it.
    while shutdown.asked().is_none() || orphans.is_empty() {
        match poll(&mut [PollFd::new(&signals, PollFlags::IN)], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => panic!("{errno}"),
        }
        for signal in signals.take() {
            match signal {
                Signal::Child => orphans.extend(reaper.reap(|pid| pid == child).unwrap()),
                other => assert_eq!(shutdown.handle_signal(other), Some(Stop::Graceful)),
            }
        }
        if shutdown.asked().is_some() && !told {
            told = true;
            eventually("the orphan to come to us", || (children().len() == 2).then_some(()));
            shell.say("go");
        }
    }
    assert_eq!(orphans.iter().map(|orphan| orphan.exit).collect::<Vec<_>>(), [Exit::Code(4)]);
    shell.say("end");
    assert_eq!(shell.reap(), Exit::Code(2));
    assert_eq!(children(), [0; 0]);
}

pub(crate) fn a_stranger_with_the_pid_of_a_member_is_left_alone() {
    let mut shell = Shell::run("sleep 1000 & echo $! >&3; wait; read end");
    let member: u32 = shell.hears().parse().unwrap();
    let mut tree = Tree::of(&shell.child).unwrap();
    assert_eq!(tree.look().unwrap(), 2);
    // The member ends, and its pid is given to somebody else. A start time has hundredths of a second.
    let started = std::time::Instant::now();
    eventually("the clock to go on", || (started.elapsed().as_millis() > 30).then_some(()));
    let pid = i32::try_from(member).ok().and_then(rustix::process::Pid::from_raw).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    eventually("the member to be gone", || field(member, "State").is_none().then_some(()));
    std::fs::write("/proc/sys/kernel/ns_last_pid", (member - 1).to_string()).unwrap();
    let mut stranger = Shell::run("while read word; do echo $word >&3; done");
    assert_eq!(stranger.child.pid(), member, "the pid is used again");

    shell.kill(&mut tree);
    assert_eq!(shell.reap(), Exit::Signal(9));
    stranger.say("well");
    assert_eq!(stranger.hears(), "well", "a stranger was hit");
    stranger.child.kill_and_reap().unwrap();
}
