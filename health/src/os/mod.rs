//! Processes, as Linux shows them (feature `os`).
//!
//! - [`Pressure`] and [`Cgroup`]: how much the machine, or a control group, lacks processors, memory and I/O.
//!
//! Nothing here needs privileges for children of the same user. What may not be read is left out; what makes
//! everything impossible (no `/proc`, no descriptor left) is an [`Error`] that names the remedy.

mod cgroup;
mod error;
mod pressure;
mod roots;

mod files;
mod text;

pub use self::cgroup::Cgroup;
pub use self::error::Error;
pub use self::pressure::{Pressure, Stall, Stalls};
pub use self::roots::Roots;
