//! The example's worker code without our library: each worker accepts from one listening socket.
//!
//! The workers are this program again, started by [`start`] with the socket as stdin, running [`work`].

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::process::{Signal, set_parent_process_death_signal};

use super::Server;
use super::scratch::Launch;
use crate::process::Process;
use crate::{Result, app};

pub(super) fn start(launch: Launch, workers: usize) -> Result<Server> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let start = |slot: usize| {
        // Names this very program, even if a newer one has been built in its place.
        let mut command = launch.command(Path::new("/proc/self/exe"))?;
        command.args(["--shared-worker", &slot.to_string()]);
        command.stdin(OwnedFd::from(listener.try_clone()?));
        Process::start(format!("shared accept worker {slot}"), &mut command)
    };
    let processes = (0..workers).map(start).collect::<Result<Vec<_>>>()?;
    Ok(Server::new(launch, address, processes))
}

/// What a worker does.
pub(crate) fn work(slot: u32) -> Result<()> {
    // There is no primary whose end would be noticed.
    set_parent_process_death_signal(Some(Signal::TERM))?;
    let listener = TcpListener::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        axum::serve(listener, app::router(slot)).await?;
        Ok(())
    })
}
