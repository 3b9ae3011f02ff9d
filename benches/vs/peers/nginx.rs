//! nginx, answering from its configuration.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::scratch::Launch;
use super::{Server, free_port};
use crate::Result;
use crate::process::Process;

pub(super) fn start(launch: Launch, program: &Path, workers: usize) -> Result<Server> {
    let port = free_port()?;
    let config = launch.folder().join("nginx.conf");
    std::fs::write(&config, configuration(launch.folder(), &temporary_folders(program)?, port, workers))?;
    let mut command = launch.command(program)?;
    command.arg("-p").arg(launch.folder()).arg("-c").arg(config);
    let process = Process::start("nginx", &mut command)?;
    Ok(Server::new(launch, (Ipv4Addr::LOCALHOST, port).into(), vec![process]))
}

/// All in one folder, so that it runs without root and touches nothing of an nginx that is installed as a service.
fn configuration(folder: &Path, temporary: &[&str], port: u16, workers: usize) -> String {
    let folder = folder.display();
    let temporary: String =
        temporary.iter().map(|name| format!("  {name}_temp_path \"{folder}/{name}\";\n")).collect();
    format!(
        r#"worker_processes {workers};
daemon off;
pid "{folder}/pid";
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  # As the others: a connection may be used for ever.
  keepalive_requests 1000000000;
  default_type text/plain;
{temporary}  server {{
    listen 127.0.0.1:{port};
    location / {{ return 200 "hello\n"; }}
  }}
}}
"#
    )
}

/// Modules that want a folder, as far as they were built in: a name it does not know is an error.
fn temporary_folders(program: &Path) -> Result<Vec<&'static str>> {
    let output = Command::new(program).arg("-V").stdin(Stdio::null()).output()?;
    let built = String::from_utf8_lossy(&output.stderr).into_owned();
    let is_built = |name: &&str| !built.contains(&format!("--without-http_{name}_module"));
    Ok(["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].into_iter().filter(is_built).collect())
}
