#![doc = include_str!("../README.md")]
//!
//! # How it works
//!
//! ```text
//!   submitter                    primary                         worker
//!   Tasks::submit ──Submit──▶ Pool ─ cluster_balancer::tasks ──Give──▶ Desk::run
//!                                 ◀───────────────────────────Taken── before the handler begins
//!   TaskHandle ◀──Progress──      ◀────────────────────────Progress── TaskContext::progress
//!              ◀──Ended─────      ◀────────────────────────Finished── when it has returned
//! ```
//!
//! | part | what it is |
//! |------|------------|
//! | [`Pool`], [`PoolServer`] | the primary's part: the workers, and what spreads tasks over them as a [`TaskPolicy`] says |
//! | [`Desk`] | any process's part: what it submits, and what it runs |
//! | [`Tasks`], [`Submission`], [`TaskHandle`], [`Progress`] | submitting, and what becomes of it |
//! | [`TaskContext`] | what a handler knows of its task |
//! | [`TaskError`] | why there is no reply, and [whether it may have begun](TaskError::may_have_begun) |
//!
//! All goes by way of a [switch](cluster_ipc::switch), in order. A worker whose connection has ended has been heard to its end; where that can't
//! be said, what it had is lost, and nobody else gets it.

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
mod words;

pub use cluster_balancer::tasks::Begun;

pub use self::context::TaskContext;
pub use self::desk::Desk;
pub use self::error::{AlreadyRuns, TaskError};
pub use self::policy::TaskPolicy;
pub use self::pool::{Pool, PoolServer, WorkerKey};
pub use self::submit::{Progress, Submission, TaskHandle, Tasks};
