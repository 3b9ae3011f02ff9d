//! Processes with a mark, so that those left over are found without the code that is tested.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use cluster_supervisor::Exit;
use cluster_supervisor::os::{self, Child, ChildSpec, Executable, Tree, open_descriptors};

use crate::processes::{self, DEADLINE, eventually, pids};

/// The variable that makes this binary play a role.
pub(crate) const ROLE: &str = "CLUSTER_TREE_ROLE";
/// The variable that marks whom a test has started.
pub(crate) const MARK: &str = "CLUSTER_TREE_MARK";

/// Runs a role in a process of its own; those for PID 1 in a pid namespace of their own, which takes root.
pub(crate) fn run_role(role: &str) {
    let me = std::env::current_exe().unwrap();
    let mut command = match role {
        "init" | "reused-pid" => {
            let unshare = ["--pid", "--fork", "--mount-proc", "--kill-child"];
            let works = Command::new("unshare").args(unshare).arg("true").stderr(Stdio::null()).status();
            if !works.is_ok_and(|status| status.success()) {
                println!("skipped: {role} needs root and unshare(1), for a pid namespace");
                return;
            }
            let mut command = Command::new("unshare");
            command.args(unshare).arg(me);
            command
        }
        _ => Command::new(me),
    };
    let output = command.env(ROLE, role).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{role}: {}\n{said}", output.status);
}

/// A shell in a group of its own, marked with all that it starts, with a line to it: its descriptors 0 and 3.
pub(crate) struct Shell {
    pub(crate) child: Child,
    pub(crate) mark: String,
    line: BufReader<UnixStream>,
}

impl Shell {
    pub(crate) fn run(script: &str) -> Self {
        Self::run_as(script, |spec| spec)
    }

    pub(crate) fn run_as(script: &str, change: impl FnOnce(ChildSpec) -> ChildSpec) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(DEADLINE)).unwrap();
        let script = format!("exec 3>&0; {script}");
        let shell = ChildSpec::new(Executable::open("/bin/sh").unwrap()).args(["-c", &script]);
        let stdin = os::Stdio::from(OwnedFd::from(theirs));
        let child = change(shell.env(MARK, &mark).stdin(stdin)).spawn().unwrap();
        Self { child, mark, line: BufReader::new(ours) }
    }

    /// The next line that it, or somebody below it, writes to descriptor 3.
    pub(crate) fn hears(&mut self) -> String {
        let mut line = String::new();
        self.line.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.line.get_mut(), "{line}").unwrap();
    }

    pub(crate) fn reap(&mut self) -> Exit {
        let child = &mut self.child;
        eventually("the child to end", || child.try_reap().unwrap())
    }

    /// The pids of all whom it has started, and its own.
    pub(crate) fn marked(&self) -> Vec<u32> {
        processes::marked(MARK, &self.mark)
    }

    /// Kills all of its tree in rounds.
    pub(crate) fn kill(&self, tree: &mut Tree) {
        eventually("everybody to be killed", || tree.kill_round().unwrap().is_nobody().then_some(()));
        assert_eq!(self.marked(), [0; 0], "nobody is left");
    }
}

/// Somebody of the same session who has nothing to do with it, and must not notice anything.
pub(crate) struct Bystander(Shell);

impl Bystander {
    pub(crate) fn new() -> Self {
        Self(Shell::run("while read word; do echo $word >&3; done"))
    }

    /// That it was neither killed nor left stopped.
    pub(crate) fn must_be_well(mut self) {
        self.0.say("well");
        assert_eq!(self.0.hears(), "well", "a stranger was hit");
        self.0.child.kill_and_reap().unwrap();
    }
}

/// Runs a test beside a bystander; descriptors and zombies must be none left afterwards.
pub(crate) fn with_bystander(test: impl FnOnce()) {
    let before = open_descriptors().unwrap();
    let bystander = Bystander::new();
    test();
    bystander.must_be_well();
    assert_eq!(open_descriptors().unwrap(), before, "no descriptor is left");
    assert_eq!(children(), [0; 0], "no child and no zombie is left");
}

/// The children of this process, zombies too.
pub(crate) fn children() -> Vec<u32> {
    let me = std::process::id().to_string();
    pids().into_iter().filter(|pid| field(*pid, "PPid").is_some_and(|parent| parent == me)).collect()
}

/// A field of `/proc/PID/status`.
pub(crate) fn field(pid: u32, name: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Some(line?.trim().to_owned())
}

pub(crate) fn is_stopped(pid: u32) -> bool {
    field(pid, "State").is_some_and(|state| state.starts_with('T'))
}
