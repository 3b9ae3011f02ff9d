//! The other process of a measurement: started, dispatched to its peer's code, ended for certain.

use std::io::{Read, stdin};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal};

use crate::job::Job;
use crate::peers::Peer;
use crate::{Result, cpus, peers};

/// The process groups of all children that have not been waited for, each with the time when it is overdue. Who waits
/// for one does so under this lock, so that nobody kills another process that was given the same number.
static RUNNING: Mutex<Vec<(Pid, Instant)>> = Mutex::new(Vec::new());

/// Nothing here is measured for so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often to see whether a child has exited, after its work is done and timed.
const STEP: Duration = Duration::from_micros(200);

/// A process and those that it started; they end when this is dropped, at the latest.
#[derive(Debug)]
pub(crate) struct Child {
    process: std::process::Child,
    group: Pid,
}

impl Child {
    /// Starts this program again, to do [`Peer::serve`] of this job.
    pub(crate) fn of(peer: &dyn Peer, job: &Job, stdin: impl Into<Stdio>) -> Result<Self> {
        // By this path also if it was built anew meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.args(["--serve", peer.name(), &serde_json::to_string(job)?]);
        Self::start(command.stdin(stdin).stdout(Stdio::null()))
    }

    /// Starts it in a process group of its own, so that Ctrl-C reaches only us and we end things in order.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let mut running = running();
        let process = command.process_group(0).spawn();
        let mut process = process.map_err(|error| format!("could not start {command:?}: {error}"))?;
        let Some(group) = i32::try_from(process.id()).ok().and_then(Pid::from_raw) else {
            process.kill()?;
            return Err("a process without a number".into());
        };
        running.push((group, Instant::now() + PATIENCE));
        Ok(Self { process, group })
    }

    /// What it wrote, once it has exited, which it should do by itself and without complaint.
    pub(crate) fn join(mut self) -> Result<String> {
        let mut output = String::new();
        if let Some(mut stdout) = self.process.stdout.take() {
            stdout.read_to_string(&mut output)?;
        }
        loop {
            let mut running = running();
            if let Some(status) = self.process.try_wait()? {
                running.retain(|(group, _)| *group != self.group);
                return if status.success() {
                    Ok(output)
                } else {
                    Err(format!("its child: {status}").into())
                };
            }
            drop(running);
            std::thread::park_timeout(STEP);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let mut running = running();
        if running.iter().any(|(group, _)| *group == self.group) {
            let _ = kill_process_group(self.group, Signal::KILL);
            let _ = self.process.wait();
            running.retain(|(group, _)| *group != self.group);
        }
    }
}

fn running() -> MutexGuard<'static, Vec<(Pid, Instant)>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills all children. They still have to be waited for.
pub(crate) fn end_all() {
    for (group, _) in running().iter() {
        let _ = kill_process_group(*group, Signal::KILL);
    }
}

/// Kills all children if one of them is overdue; whether there was one.
pub(crate) fn end_overdue() -> bool {
    let overdue = running().iter().any(|(_, deadline)| *deadline < Instant::now());
    if overdue {
        end_all();
    }
    overdue
}

/// What `main` does in the child.
pub(crate) fn serve(peer: &str, job: &str) -> Result<()> {
    // The end of its channel ends it too, but a parent that was killed leaves no time for that.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let job: Job = serde_json::from_str(job)?;
    if let Some(placement) = job.placement {
        cpus::pin(placement.child)?;
    }
    let peer = peers::all().into_iter().find(|known| known.name() == peer).ok_or("no such peer")?;
    peer.serve(&job).map_err(|error| format!("child of {}: {error}", peer.name()).into())
}

/// The child's end, when the parent gave it a stream socket as stdin.
pub(crate) fn stdin_socket() -> Result<UnixStream> {
    Ok(UnixStream::from(stdin().as_fd().try_clone_to_owned()?))
}
