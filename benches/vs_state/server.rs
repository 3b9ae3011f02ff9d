//! A Redis of our own: on a private socket, without persistence; it ends with this.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Pid;

use crate::Result;
use crate::order::{VALUE, key};
use crate::redis::Redis;

const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    directory: PathBuf,
    pub(crate) socket: String,
    pub(crate) version: String,
}

impl Server {
    /// Starts it, with that many keys. `None` if it is not installed.
    pub(crate) async fn start(keys: usize) -> Result<Option<Self>> {
        let Ok(version) = Command::new("redis-server").arg("--version").output() else { return Ok(None) };
        let version = String::from_utf8_lossy(&version.stdout);
        let version =
            version.split_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or("?").to_owned();
        let directory = std::env::temp_dir().join(format!("vs_state-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&directory)?;
        let socket = directory.join("redis").to_string_lossy().into_owned();
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--unixsocket", &socket, "--save", "", "--appendonly", "no", "--dir"]);
        command.arg(&directory).stdin(Stdio::null()).stdout(Stdio::null());
        let process = match command.spawn() {
            Ok(process) => process,
            Err(error) => {
                std::fs::remove_dir_all(&directory)?;
                return Err(error.into());
            }
        };
        let server = Self { process, directory, socket, version };
        server.fill(keys).await?;
        Ok(Some(server))
    }

    async fn fill(&self, keys: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut redis = loop {
            match Redis::connect(&self.socket) {
                Ok(redis) => break redis,
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        for number in 0..keys {
            redis.set_key(&key(number), &VALUE)?;
        }
        Ok(())
    }

    pub(crate) fn pid(&self) -> Option<Pid> {
        i32::try_from(self.process.id()).ok().and_then(Pid::from_raw)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has nothing to save.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
