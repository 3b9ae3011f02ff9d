//! Processes, on Linux (feature `os`): a pinned executable, children with a pidfd, limits of open files,
//! and the output of children, captured line by line.
//!
//! A port to another system provides: [`Executable`] (start what was pinned, without running code of ours
//! between fork and exec), [`Child`] (one descriptor that becomes readable at the exit, signals that can't hit
//! a stranger), and the limit of open files.

mod child;
mod error;
mod executable;
mod limits;
mod output;

pub use self::child::Child;
pub use self::error::Error;
pub use self::executable::{Executable, Spawn};
pub use self::limits::{OpenFiles, open_descriptors, raise_open_files, set_open_files};
pub use self::output::{Capture, CaptureLimits, Line, Lines, Piece, Prefixed, Sink, Stream, Tail, TailLine};
