//! PID 1 of a pid namespace of its own.

use cluster_supervisor::os::{Reaper, Shutdown, Signal, Signals, Stop, Tree};
use cluster_supervisor::{Exit, StopSignal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::processes::eventually;
use crate::support::{Shell, children, field};

pub(crate) fn init_gets_its_signals_and_reaps_orphans() {
    assert_eq!(std::process::id(), 1);
    let mut signals = Signals::new([Signal::Term, Signal::Child]).unwrap();
    let orphan = "sh -c '(read go; exit 4) <&3 & kill -TERM 1'";
    let mut shell = Shell::run(&format!("{orphan}; exec sleep 1000"));
    let child = shell.child.pid();
    let (reaper, mut shutdown) = (Reaper::new(), Shutdown::default());
    let (mut asked, mut orphans) = (Vec::new(), Vec::new());
    // As a supervisor's loop does: nothing but the descriptor wakes it.
    while asked.is_empty() || orphans.is_empty() {
        wait(&signals);
        for signal in signals.take() {
            match signal {
                Signal::Child => orphans.extend(reaper.reap(|pid| pid == child).unwrap()),
                other => asked.extend(shutdown.handle_signal(other)),
            }
        }
        if !asked.is_empty() && orphans.is_empty() {
            eventually("the orphan to come to us", || (children().len() == 2).then_some(()));
            shell.say("go");
        }
    }
    assert_eq!(asked, [Stop::Graceful]);
    assert_eq!(orphans.iter().map(|orphan| orphan.exit).collect::<Vec<_>>(), [Exit::Code(4)]);
    shell.child.signal(StopSignal::Kill).unwrap();
    assert_eq!(shell.reap(), Exit::Signal(9));
    // The shell may have left somebody unreaped, who is ours now.
    eventually("all orphans to be reaped", || {
        reaper.reap(|_| false).unwrap();
        children().is_empty().then_some(())
    });
}

fn wait(signals: &Signals) {
    let deadline = Timespec { tv_sec: 60, tv_nsec: 0 };
    match poll(&mut [PollFd::new(signals, PollFlags::IN)], Some(&deadline)) {
        // The signal itself may interrupt it.
        Ok(1) | Err(Errno::INTR) => {}
        other => panic!("waited in vain for a signal: {other:?}"),
    }
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
