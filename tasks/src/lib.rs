//! Tasks: work that is submitted in one process, and run by some worker, at most once.
//!
//! ```text
//!   submitter                    primary                         worker
//!   Tasks::submit ──Submit──▶ Pool ─ cluster_balancer::tasks ──Give──▶ run_tasks
//!                                 ◀───────────────────────────Taken── before the handler begins
//!   TaskHandle ◀──Progress──      ◀────────────────────────Progress── TaskContext::progress
//!              ◀──Ended─────      ◀────────────────────────Finished── when it has returned
//! ```
//!
//! `pool` is the primary's part, around the core of that name; `party` is any process's end of the wire, `submit` and `run` are
//! what users do with it. All goes by way of a [switch](cluster_ipc::switch), in order.

#![forbid(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("cluster-tasks needs Linux (5.10 or later)");

mod context;
mod desk;
mod error;
mod party;
mod policy;
mod pool;
mod run;
mod server;
mod submit;
mod wire;

pub use cluster_balancer::tasks::Begun;

pub use self::context::TaskContext;
pub use self::desk::Desk;
pub use self::error::{AlreadyRuns, TaskError};
pub use self::policy::TaskPolicy;
pub use self::pool::{Pool, PoolServer, WorkerKey};
pub use self::submit::{Progress, Submission, TaskHandle, Tasks};
