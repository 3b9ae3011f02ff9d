//! Who is compared.
//!
//! A peer is one file here and a line in [`all`].

mod batched;
mod descriptors;
mod framing;
mod ipc_channel;
mod message;
mod ours;
mod raw;
mod script;

use std::time::Duration;

use crate::Result;
use crate::job::{Case, Job};

/// A way to move messages between two processes.
pub(crate) trait Peer {
    /// One word, for tables, `--only`, and the child's command line.
    fn name(&self) -> &'static str;

    /// Why it cannot run on this machine.
    fn missing(&self) -> Option<&str> {
        None
    }

    /// Of what it runs on, if that isn't built with us.
    fn version(&self) -> Option<String> {
        None
    }

    /// Whether it has anything of the kind.
    fn can(&self, case: &Case) -> bool;

    /// How long it takes to get up to speed.
    fn warm_up(&self) -> Duration {
        Duration::from_millis(50)
    }

    /// The parent's side: starts the other process (`Child::of(self, job, stdin)`), does the job with [`Job::time`], and waits
    /// for the child, which exits by itself after both stretches.
    ///
    /// The calling thread is where the job wants the parent, and whatever it starts is, at first, there too. No environment
    /// variable tells the child anything: what it needs is in the job, or comes by its stdin.
    fn run(&self, job: &Job) -> Result<Duration>;

    /// The child's side, in the other process, on the CPU where the job wants it: answers or confirms each stretch
    /// (`Job::each_stretch`) and returns. It checks the length and number of what it receives.
    fn serve(&self, job: &Job) -> Result<()>;
}

/// All of them, in the order of the tables.
pub(crate) fn all() -> Vec<Box<dyn Peer>> {
    vec![
        Box::new(ours::Blocking),
        Box::new(ours::Typed),
        Box::new(ours::Tokio),
        Box::new(raw::Raw),
        Box::new(batched::Batched),
        Box::new(ipc_channel::Bytes),
        Box::new(ipc_channel::Typed),
        Box::new(script::NODE_JSON),
        Box::new(script::NODE_ADVANCED),
        Box::new(script::PYTHON_BYTES),
        Box::new(script::PYTHON_OBJECTS),
    ]
}

/// An error unless a message is as long, and comes in the order, that it should.
fn check(length: usize, nth: u64, expected: (usize, u64)) -> Result<()> {
    if (length, nth) == expected {
        return Ok(());
    }
    let (expected_length, expected_nth) = expected;
    Err(format!("message {nth} of {length} bytes where {expected_nth} of {expected_length} was due").into())
}
