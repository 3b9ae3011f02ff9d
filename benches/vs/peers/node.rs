//! Node: its cluster module, and one process without it.

use std::net::Ipv4Addr;
use std::path::Path;

use super::scratch::Launch;
use super::{Server, free_port};
use crate::Result;
use crate::process::Process;

/// Node's own way to keep workers running; at SIGTERM it waits for them, so that none is left. With no workers it serves
/// by itself. The routes are those of our example.
const SCRIPT: &str = r"
const cluster = require('node:cluster');
const http = require('node:http');
const [port, workers] = process.argv.slice(2).map(Number);

if (cluster.isPrimary && workers > 0) {
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
  const hello = `hello from worker ${cluster.worker?.id ?? 0} pid ${process.pid}\n`;
  const routes = {
    '/': () => hello,
    // Burns the one thread.
    '/block': (ms) => {
      const end = process.hrtime.bigint() + BigInt(ms) * 1000000n;
      while (process.hrtime.bigint() < end);
      return `blocked for ${ms} ms\n`;
    },
    // Keeps the one thread waiting.
    '/stall': (ms) => {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
      return `stalled for ${ms} ms\n`;
    },
    // Other work than ours for a round, but also always the same.
    '/hash': (rounds) => {
      let last = 0;
      for (let round = 0; round < rounds; round += 1) {
        last = Math.imul(last ^ round, 0x01000193);
        last ^= last >>> 15;
      }
      return `hashed to ${last}\n`;
    },
  };
  const server = http.createServer((request, response) => {
    const [path, query] = request.url.split('?');
    response.setHeader('Content-Type', 'text/plain; charset=utf-8');
    response.end(routes[path](Number(query?.split('=')[1])));
  });
  // As the others: a connection may be used for ever.
  server.keepAliveTimeout = 0;
  server.listen(port, '127.0.0.1');
}
";

/// `policy` is `rr` (the primary accepts) or `none` (the workers do); without workers it means nothing.
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
