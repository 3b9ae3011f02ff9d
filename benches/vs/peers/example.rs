//! Our example, on several processes and on one.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::scratch::Launch;
use super::{Server, free_port, server};
use crate::Result;
use crate::interrupt::wait_for;
use crate::process::Process;

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");

/// Builds it with this program's profile and says where it is.
pub(super) fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "-p", "examples", "--example", "http", "--manifest-path", MANIFEST]);
    command.arg("--message-format=json-render-diagnostics");
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("could not run cargo: {error}"))?;
    if !output.status.success() {
        return Err("the example does not build".into());
    }
    // One line for each artifact; the executable is named where there is one.
    let messages = String::from_utf8_lossy(&output.stdout);
    let executable = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_example = message["target"]["name"] == "http" && message["target"]["kind"][0] == "example";
        message["executable"].as_str().filter(|_| is_example).map(PathBuf::from)
    });
    executable.ok_or_else(|| "cargo does not say where the example is".into())
}

/// Says by itself where it listens, once all workers are ready.
pub(super) fn start(launch: Launch, program: &Path, workers: usize, options: &[&str]) -> Result<Server> {
    let mut command = launch.command(program)?;
    command.args(["--port", "0", "--workers", &workers.to_string()]).args(options);
    let mut process = Process::start(launch.peer.to_string(), &mut command)?;
    let address = wait_for(&format!("{} to listen", launch.peer), Duration::from_secs(30), || {
        server::check(&mut process, &launch)?;
        Ok(address(&std::fs::read_to_string(launch.stdout())?))
    })?;
    Ok(Server::new(launch, address, vec![process]))
}

/// `listening on ADDRESS (primary PID, N workers)`
fn address(stdout: &str) -> Option<SocketAddr> {
    let (line, _) = stdout.split_once('\n')?;
    line.strip_prefix("listening on ")?.split(' ').next()?.parse().ok()
}

pub(super) fn single(launch: Launch, program: &Path) -> Result<Server> {
    let port = free_port()?;
    let mut command = launch.command(program)?;
    command.args(["--workers", "0", "--port", &port.to_string()]);
    let process = Process::start("single process", &mut command)?;
    Ok(Server::new(launch, (Ipv4Addr::LOCALHOST, port).into(), vec![process]))
}
