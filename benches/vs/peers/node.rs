//! Node's cluster module.

use std::net::Ipv4Addr;
use std::path::Path;

use super::scratch::Launch;
use super::{Server, free_port};
use crate::Result;
use crate::process::Process;

/// Node's own way to keep workers running; at SIGTERM it waits for them, so that none is left.
const SCRIPT: &str = r"
const cluster = require('node:cluster');
const http = require('node:http');
const [port, workers] = process.argv.slice(2).map(Number);

if (cluster.isPrimary) {
  let stopping = false;
  let running = 0;
  const fork = () => { running += 1; cluster.fork(); };
  cluster.on('exit', () => {
    running -= 1;
    if (!stopping) fork();
    else if (running === 0) process.exit(0);
  });
  process.on('SIGTERM', () => {
    stopping = true;
    for (const worker of Object.values(cluster.workers)) worker.process.kill();
  });
  for (let n = 0; n < workers; n += 1) fork();
} else {
  const hello = `hello from worker ${cluster.worker.id} pid ${process.pid}\n`;
  // As in our example: /block?ms=N burns the worker's one thread.
  const block = (url) => {
    const milliseconds = Number(url.split('?ms=')[1]);
    const end = process.hrtime.bigint() + BigInt(milliseconds) * 1000000n;
    while (process.hrtime.bigint() < end);
    return `blocked for ${milliseconds} ms\n`;
  };
  http.createServer((request, response) => {
    response.setHeader('Content-Type', 'text/plain; charset=utf-8');
    response.end(request.url === '/' ? hello : block(request.url));
  }).listen(port, '127.0.0.1');
}
";

/// `policy` is `rr` (the primary accepts) or `none` (the workers do).
pub(super) fn start(launch: Launch, program: &Path, policy: &str, workers: usize) -> Result<Server> {
    let script = launch.folder().join("server.js");
    std::fs::write(&script, SCRIPT)?;
    let port = free_port()?;
    let mut command = launch.command(program)?;
    command.arg(script).args([port.to_string(), workers.to_string()]);
    command.env("NODE_CLUSTER_SCHED_POLICY", policy);
    let process = Process::start(launch.peer.to_string(), &mut command)?;
    Ok(Server::new(launch, (Ipv4Addr::LOCALHOST, port).into(), vec![process]))
}
