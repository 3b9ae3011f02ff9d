//! Decides which workers live: restarts, back-off, restart budgets and graceful stops as one state machine.
//!
//! A server made of several processes needs somebody who starts them, notices when one dies, brings it back without
//! burning the CPU when it dies again and again, stops all of them in time, and knows when to give up.
//! [`Supervisor`] makes these decisions and nothing else: it has no clock, no process, no thread and no async.
//! What happened goes in together with the time, what to do comes out:
//!
//! ```text
//!  what happened                          ┌────────────┐
//!    handle_spawned, handle_spawn_failed  │            │   what to do
//!    handle_online, handle_ready       ──▶│            │──▶  poll_action    Spawn, Admit, Withdraw,
//!    handle_exit, handle_channel_lost     │            │                    AskStop, Signal
//!    handle_unhealthy, handle_timeout     │ Supervisor │   what to tell
//!                                         │            │──▶  poll_event     Ready, Exited, GaveUp, …
//!  what the user wants                    │            │   when to come back
//!    start, stop                       ──▶│            │──▶  poll_timeout
//!    shutdown, shutdown_now               │            │
//!                                         └────────────┘
//! ```
//!
//! So it fits into any event loop, and its tests run years of crashes in seconds.
//! Starting and reaping real processes is beside it, in `os`, behind the feature of that name (on by default).
//!
//! # Example
//!
//! A worker crashes and is replaced at once; then all is shut down.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use cluster_supervisor::{Action, Exit, Policy, Supervisor};
//!
//! let mut now = Instant::now();
//! let mut supervisor = Supervisor::new(Policy::new(), 7);
//!
//! let first = supervisor.start(now);
//! assert_eq!(supervisor.poll_action(), Some(Action::Spawn(first)));
//! supervisor.handle_spawned(first, now); // the driver has started a process
//! supervisor.handle_ready(first, now); // and heard from it
//! assert_eq!(supervisor.poll_action(), Some(Action::Admit(first)));
//!
//! now += Duration::from_secs(60);
//! supervisor.handle_exit(first, Exit::Signal(11), now);
//! assert_eq!(supervisor.poll_action(), Some(Action::Withdraw(first)));
//! let Some(Action::Spawn(second)) = supervisor.poll_action() else { panic!("no restart") };
//! assert_eq!((second.slot(), second.generation()), (first.slot(), 2));
//! supervisor.handle_spawned(second, now);
//!
//! supervisor.shutdown(now);
//! assert_eq!(supervisor.poll_action(), Some(Action::AskStop(second)));
//! supervisor.handle_exit(second, Exit::Code(0), now);
//! assert!(supervisor.is_done());
//!
//! while let Some(event) = supervisor.poll_event() {
//!     println!("{event}"); // worker 0.1 killed by signal 11 (SIGSEGV) after it was ready, ready for 60.0s …
//! }
//! ```
//!
//! # Words
//!
//! A *slot* is a place for a worker, a *generation* one life in it; together they are a [`WorkerId`].
//! A worker is *admitted* when it may get work and *withdrawn* when it may not get more.
//! It *drains* while it finishes what it has.

mod supervisor;

mod action;
mod event;
mod id;

mod exit;
mod exit_codes;
mod ledger;
mod policy;
mod status;

mod group;
mod roll;
mod rolling;

mod slot;
mod state;
mod worker;

mod backoff;
mod intensity;
mod outbox;

#[cfg(feature = "os")]
pub mod os;

pub use action::{Action, StopSignal};
pub use backoff::Backoff;
pub use event::Event;
pub use exit::{Exit, ExitCause};
pub use exit_codes::ExitCodes;
pub use group::Group;
pub use id::WorkerId;
pub use ledger::{Counted, Ledger, Totals};
pub use policy::{Budget, Policy, Restart, StopSequence};
pub use roll::{Figures, Judge, Release, Roll, RollId, RollOutcome, RollRefused, Unfit};
pub use status::{GiveUpReason, GivenUp, RollView, SlotView, Status, WorkerState, WorkerView};
pub use supervisor::Supervisor;

/// The examples of the README, compiled and run.
#[cfg(all(doctest, feature = "os"))]
#[doc = include_str!("../README.md")]
struct Readme;
