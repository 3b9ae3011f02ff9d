//! Who is left when a service has ended, and how its end is known.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use cluster_supervisor::Restart;
use cluster_supervisor::os::{ChildSpec, Executable, Ready, Runner, Service};
use rustix::process::{Pid, Signal, getpid, kill_process};

use crate::processes::{is_alive, until};
use crate::stage::{SCENE, Scratch, Stage, policy, shell};

/// It was in a session of its own, and has lost its parent: it is known from when it had one.
pub(crate) fn nobody_is_left_of_one_that_crashed() {
    let scratch = Scratch::new();
    let script = format!(
        "cd {}; setsid sleep 1000 & echo $! > below; echo $$ > own; echo >&5; wait; sleep 1000",
        scratch.as_ref().display()
    );
    let mut runner = Runner::new(policy().restart(Restart::Never));
    runner.add(shell("crashes", &script).ready(Ready::Line(5))).unwrap();
    let stage = Stage::run(runner);
    stage.wait_for("crashes: worker 0.1 ready");
    // It is noted then who belongs to it, before anything can be told of what follows.
    let (own, below) = (pid(&scratch, "own"), pid(&scratch, "below"));
    assert!(is_alive(below));
    kill_process(Pid::from_raw(own.cast_signed()).unwrap(), Signal::KILL).unwrap();
    assert_eq!(stage.end(), []);
    assert!(!is_alive(below));
}

fn pid(scratch: &Scratch, name: &str) -> u32 {
    scratch.read(name).trim().parse().unwrap()
}

/// A program may go on saying things, and takes a closed socket for a fault.
pub(crate) fn one_that_is_ready_may_go_on_to_notify() {
    let spec = ChildSpec::new(Executable::current().unwrap()).args([SCENE, NOTIFIER]);
    let mut runner = Runner::new(policy().restart(Restart::Never));
    runner.add(Service::new("talks", spec).ready(Ready::Notify)).unwrap();
    let stage = Stage::run(runner);
    stage.wait_for("talks: worker 0.1 ready");
    stage.wait_for("talks: worker 0.1 exited with code 0 after it was ready");
    assert_eq!(stage.end(), []);
}

/// The child of that scene.
pub(crate) const NOTIFIER: &str = "notifier";

pub(crate) fn notify() {
    let address = std::env::var("NOTIFY_SOCKET").unwrap();
    let address = match address.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name).unwrap(),
        None => SocketAddr::from_pathname(&address).unwrap(),
    };
    let socket = UnixDatagram::unbound().unwrap();
    // More than a queue holds.
    for word in ["READY=1"].into_iter().chain(std::iter::repeat_n("STATUS=at work", 1000)) {
        socket.send_to_addr(word.as_bytes(), &address).unwrap();
    }
}

pub(crate) fn that_the_terminal_has_gone_is_a_wish_to_stop() {
    let mut runner = Runner::new(policy());
    runner.add(shell("server", "echo >&5; exec sleep 1000").ready(Ready::Line(5))).unwrap();
    let stage = Stage::run(runner);
    stage.wait_for("server: worker 0.1 ready");
    kill_process(getpid(), Signal::HUP).unwrap();
    until("it to be asked", || stage.place_of("server: worker 0.1 stopping as asked").is_some());
    assert_eq!(stage.end(), []);
}
