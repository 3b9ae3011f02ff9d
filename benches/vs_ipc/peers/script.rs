//! Interpreters: one runs a script of `scripts/`, which starts its own child and reports what it measured.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;

use super::Peer;
use crate::Result;
use crate::child::Child;
use crate::job::{Case, Job, Kind};

/// A script as one of its variants.
#[derive(Debug)]
pub(super) struct Script {
    name: &'static str,
    program: &'static str,
    missing: &'static str,
    /// With it the program runs what follows.
    flag: &'static str,
    source: &'static str,
    variant: &'static str,
    warm_up: Duration,
    /// How many descriptors it can send in a message.
    most_descriptors: usize,
}

const NODE: Script = Script {
    name: "",
    program: "node",
    missing: "node is not installed: apt-get install nodejs",
    flag: "-e",
    source: include_str!("scripts/node.js"),
    variant: "",
    // Its compiler takes that long: after 0.1 s it's at half its speed.
    warm_up: Duration::from_millis(700),
    most_descriptors: 0,
};

const PYTHON: Script = Script {
    name: "",
    program: "python3",
    missing: "python3 is not installed: apt-get install python3",
    flag: "-c",
    source: include_str!("scripts/python.py"),
    variant: "",
    warm_up: Duration::from_millis(50),
    most_descriptors: 0,
};

/// `process.send`, as it is by default.
pub(super) const NODE_JSON: Script =
    Script { name: "node-json", variant: "json", most_descriptors: 1, ..NODE };
/// `process.send` with V8's serializer.
pub(super) const NODE_ADVANCED: Script = Script { name: "node-advanced", variant: "advanced", ..NODE };
/// `send_bytes` of multiprocessing's `Pipe`.
pub(super) const PYTHON_BYTES: Script =
    Script { name: "python-bytes", variant: "bytes", most_descriptors: 64, ..PYTHON };
/// `send`, which pickles.
pub(super) const PYTHON_OBJECTS: Script = Script { name: "python-objects", variant: "objects", ..PYTHON };

/// What a script prints.
#[derive(Debug, Deserialize)]
struct Report {
    seconds: f64,
}

impl Peer for Script {
    fn name(&self) -> &'static str {
        self.name
    }

    fn missing(&self) -> Option<&str> {
        find_program(self.program).is_none().then_some(self.missing)
    }

    fn version(&self) -> Option<String> {
        let output =
            Command::new(find_program(self.program)?).arg("--version").stdin(Stdio::null()).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        Some(format!("{} {}", self.program, text.split_whitespace().last()?))
    }

    fn can(&self, case: &Case) -> bool {
        case.kind != Kind::Descriptors || case.size <= self.most_descriptors
    }

    fn warm_up(&self) -> Duration {
        self.warm_up
    }

    fn run(&self, job: &Job) -> Result<Duration> {
        let program = find_program(self.program).ok_or(self.missing)?;
        let mut command = Command::new(program);
        command.args([self.flag, self.source, self.variant, &serde_json::to_string(job)?]);
        let child = Child::start(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let output = child.join()?;
        let report: Report = serde_json::from_str(&output)?;
        Ok(Duration::try_from_secs_f64(report.seconds)?)
    }

    fn serve(&self, _: &Job) -> Result<()> {
        Err("a script starts a child of its own".into())
    }
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
