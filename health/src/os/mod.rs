//! Processes, as Linux shows them (feature `os`).
//!
//! - [`Sampler`]: the figures of one process, again and again, for some microseconds each time; a [`Rollup`] for the
//!   one that is expensive.
//! - [`Report`]: what a sick process looks like, for people, before it is replaced.
//! - [`Prober`]: asks members by TCP, HTTP, a Unix socket or a program whether they are well, in threads of its own.
//! - [`Pressure`] and [`Cgroup`]: how much the machine, or a control group, lacks processors, memory and I/O.
//!
//! Nothing here needs privileges for children of the same user. What may not be read is left out; what makes
//! everything impossible (no `/proc`, no descriptor left) is an [`Error`] that names the remedy.
//!
//! A port to another system provides: [`Sampler`] (figures of a process, told from another one that got its pid),
//! [`Report`] and [`Prober`]; the others may always be empty.

mod cgroup;
mod error;
mod pressure;
mod probe;
mod report;
mod rollup;
mod roots;
mod sampler;

mod files;
mod text;

pub use self::cgroup::Cgroup;
pub use self::error::Error;
pub use self::pressure::{Pressure, Stall, Stalls};
pub use self::probe::{Answer, CommandLine, Due, HttpGet, Outcome, Prober, Schedule, Target, Ticket, Timing};
pub use self::report::{Condition, Report, State, Switches, SystemCall, ThreadReport};
pub use self::rollup::{Proportional, Rollup};
pub use self::roots::Roots;
pub use self::sampler::Sampler;
