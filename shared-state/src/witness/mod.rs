//! Judges whether a run kept its promises, from what its clients say they did and saw.
//!
//! Each commit has a revision, which clients are told: it bears witness to the order in which the primary carried
//! things out. So there is no order to be searched for, as there is for histories without: everything is carried
//! out again in that order, by the simplest map there is ([`Naive`]), and compared. That is `O(n log n)`.
//!
//! - Revisions of writes are unique and, by the [`Log`], dense.
//! - What returned before something was invoked has the lower revision. Together with the next this *is*
//!   linearizability, of writes, failed conditions, and linearizable reads.
//! - The replay gives every answer that was given; a failed condition is judged at the revision it names, a
//!   refusal somewhere between what was before it and what came after.
//! - Commands in doubt are in the log once or not at all. What ended by itself could.
//! - Each local read is the replay as of its cursor. Cursors of a process never fall, nor lie below what it had
//!   been told.
//! - Watchers were told the write order of what they watch: nothing left out without a word, nothing twice, no
//!   transaction split, previous values right.
//! - A new epoch begins anew. Nothing is in doubt but across one, or because the client ended.
//!
//! ```
//! use cluster_shared_state::witness::{Came, Fault, Log, Record, What, Who, judge};
//! use cluster_shared_state::{ClientId, Command, Epoch, Limits, Store};
//! use std::time::Instant;
//!
//! let (now, epoch, me) = (Instant::now(), Epoch::new(1), ClientId::new(0, 1));
//! let mut store = Store::new(epoch, Limits::new());
//! let mut log = Log::new();
//! log.begin(epoch);
//! let mut records = Vec::new();
//! for time in [10, 20] {
//!     let command: Command = Command::increment("hits", 1).into();
//!     let answer = store.execute(me, command.clone(), now)?;
//!     records.push(Record {
//!         who: Who { client: me, thread: 0 },
//!         invoked: time,
//!         returned: Some(time + 5),
//!         what: What::Command { command, came: Came::Answered { epoch, answer } },
//!     });
//! }
//! while let Some(commit) = store.poll_commit() {
//!     log.push(epoch, (*commit).clone());
//! }
//! assert!(judge(&records, Some(&log)).is_good());
//!
//! // A store that counts once more than it was asked to:
//! let twice = store.execute(me, Command::increment("hits", 1).into(), now)?;
//! log.push(epoch, (*store.poll_commit().expect("it was counted")).clone());
//! # let _ = twice;
//! assert!(judge(&records, Some(&log)).has(Fault::DoubleApply));
//! # Ok::<_, cluster_shared_state::CommandError>(())
//! ```
//!
//! # What it needs
//!
//! A [`Journal`] for each process, which notes commands before they are sent, so that those of a process that was
//! killed are known. And, from whoever survives, the [`Log`]: without it, what was in doubt or ended by itself is
//! not known, and from the first revision that nobody was told of, the replay (but not the order) goes
//! unjudged: see [`Judged::unjudged`].
//!
//! # What it cannot tell
//!
//! Whether something ended too early or too late: time to live is not judged, only that there was one. Whether a
//! refusal by limits was right. What a watcher was not told at the end, unless [`What::Quiet`] says that there
//! was nothing more. With [`Merging::Allowed`], whether what was made and deleted again was left out for a
//! reason.

mod compare;
mod court;
mod doubt;
mod journal;
mod log;
mod naive;
mod order;
mod place;
mod record;
mod refusals;
mod replay;
mod verdict;
mod watches;

pub use journal::{Journal, Ticket, read_journal};
pub use log::Log;
pub use naive::{Done, Naive};
pub use record::{Came, Level, Merging, Record, Seen, Since, What, Who};
pub use verdict::{Fault, Judged, Verdict, Violation};

/// Judges a run by the records of all its clients, in any order but that records of one watcher are in the order
/// in which it was told; and by the log of its primary, if there is one.
pub fn judge(records: &[Record], log: Option<&Log>) -> Verdict {
    let mut court = court::Court::new(records, log);
    let sights = order::Sights::of(&court);
    order::judge(&mut court, &sights);
    let wanted = watches::wanted(&court);
    let (pasts, pictures) = replay::replay(&mut court, &sights, &wanted);
    watches::judge(&mut court, &pasts, &pictures);
    court.verdict()
}

#[cfg(test)]
mod tests;
