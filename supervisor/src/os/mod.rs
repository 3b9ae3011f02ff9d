//! Processes, on Linux (feature `os`): what a child is started as ([`ChildSpec`]), from a pinned executable, watched
//! by a pidfd; how it says that it is ready; its output, captured line by line; everybody below it ([`Tree`]), and why it
//! died ([`Autopsy`]); signals, orphans, limits of open files.
//!
//! A port to another system provides: [`Executable`] (start what was pinned, without running code of ours
//! between fork and exec), [`trampoline`] (apply settings in the child), [`Child`] (one descriptor that becomes
//! readable at the exit, signals that can't hit a stranger), [`Tree`], [`Signals`] and the limit of open files.

mod spec;

mod autopsy;
mod cgroup;
mod child;
mod executable;
mod settings;
mod stdio;

mod command_line;
mod trampoline;

mod notify;
mod orphans;

mod error;
mod family;
mod limits;
mod output;
mod procfs;
mod reaper;
mod runner;
mod shutdown;
mod signals;
mod tree;

pub use self::autopsy::{Autopsy, Death, Oom, Sender};
pub use self::child::Child;
pub use self::error::Error;
pub use self::executable::Executable;
pub use self::limits::{OpenFiles, open_descriptors, raise_open_files, set_open_files};
pub use self::notify::{Field, Notification, NotifySocket, Readiness, ReadyPipe, Senders};
pub use self::orphans::Orphans;
pub use self::output::{Capture, CaptureLimits, Line, Lines, Piece, Prefixed, Sink, Stream, Tail, TailLine};
pub use self::reaper::{Orphan, Reaper, become_subreaper};
pub use self::runner::{Control, News, Ready, Runner, Service};
pub use self::settings::{ProcessGroup, Resource, User};
pub use self::shutdown::{Shutdown, Stop};
pub use self::signals::{Signal, Signals};
pub use self::spec::ChildSpec;
pub use self::stdio::Stdio;
pub use self::trampoline::trampoline;
pub use self::tree::{Ask, Left, Tree};
