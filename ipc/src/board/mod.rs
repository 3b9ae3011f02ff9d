//! A page of memory that one worker shares with its primary (feature `board`).
//!
//! ```text
//!   primary                                            worker
//!   offer(ticket)          ── ticket: Offered ──▶      take(ticket)   → Taken     exactly one of
//!   recall(ticket)         → Recalled                                             these two wins
//!   finished(), beats(), …  ◀── counters ──────        finish(), beat(), …
//!   want_doorbell(true)    ── flag ────────────▶       ring? → one byte on the socket
//! ```
//!
//! The page lives in a memfd that is sealed against resizing, so that neither side can make the other fault, and
//! each worker has its own, so that it can only harm itself. Every word is an atomic; the primary
//! believes none of them: the worst a worker can do with nonsense is to lose its own connections.
//!
//! Reading costs no system call and no message, and works while the worker hangs or after it died.

mod doorbell;
mod layout;
#[cfg(test)]
mod loom_tests;
mod map;
mod tally;
mod ticket;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use rustix::fs::{MemfdFlags, SealFlags};

pub use self::layout::{COUNTERS, TICKETS};
use self::layout::{LAYOUT_VERSION, MAGIC, PAGE_LEN};
use self::map::Mapping;
pub use self::ticket::{Ticket, TicketState};
use crate::Error;

/// Against resizing: reading beyond the end of a shortened file would raise `SIGBUS`.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// The primary's side of a board.
///
/// ```
/// # use cluster_ipc::board::{PrimaryBoard, Ticket, TicketState, WorkerBoard};
/// let (primary, memory) = PrimaryBoard::create()?;
/// let worker = WorkerBoard::open(memory)?;
/// let ticket = Ticket::new(0, 1);
/// primary.offer(ticket);
/// assert!(worker.take(ticket), "the worker was first");
/// assert_eq!(primary.recall(ticket), TicketState::Taken);
/// worker.beat();
/// assert_eq!(primary.figures().beats, 1);
/// # Ok::<(), cluster_ipc::Error>(())
/// ```
#[derive(Debug)]
pub struct PrimaryBoard {
    map: Mapping,
}

/// The worker's side of a board.
#[derive(Debug)]
pub struct WorkerBoard {
    map: Mapping,
}

/// A worker's live figures, as it states them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// Heartbeats since the worker began.
    pub beats: u64,
    /// Connections the application has taken since the worker began.
    pub taken: u64,
    /// Connections of these that the worker has accepted itself.
    pub accepted: u64,
    /// Tickets that were claimed back before the worker came to them.
    pub missed: u64,
    /// Connections the application is done with, out of `taken`.
    pub finished: u64,
    /// Requests answered.
    pub requests: u64,
    /// Requests answered with a server error.
    pub errors: u64,
    /// How late the last heartbeat came, in microseconds: the lag of the worker's event loop.
    pub lag_micros: u64,
}

impl Figures {
    /// Connections in the application's hands.
    pub fn active(&self) -> u64 {
        self.taken.saturating_sub(self.finished)
    }
}

impl PrimaryBoard {
    /// Makes a board. The descriptor is for the worker; this side can drop its copy once it was sent.
    ///
    /// # Errors
    ///
    /// [`Error::Os`].
    pub fn create() -> Result<(Self, OwnedFd), Error> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = rustix::fs::memfd_create("cluster-board", flags).map_err(Error::os("create a board"))?;
        rustix::fs::ftruncate(&memory, PAGE_LEN as u64).map_err(Error::os("size a board"))?;
        rustix::fs::fcntl_add_seals(&memory, SEALS).map_err(Error::os("seal a board"))?;
        let map = Mapping::new(memory.as_fd())?;
        map.page().magic.store(MAGIC, Ordering::Relaxed);
        map.page().version.store(LAYOUT_VERSION, Ordering::Release);
        Ok((Self { map }, memory))
    }

    /// Puts a ticket up for the worker. Do so before the connection is sent. A ticket whose index is not below
    /// [`TICKETS`] has no place on the board: nobody can take it.
    pub fn offer(&self, ticket: Ticket) {
        if let Some(cell) = self.map.page().tickets.get(usize::from(ticket.index())) {
            cell.offer(ticket.sequence());
        }
    }

    /// Claims a ticket back. [`TicketState::Recalled`] means that the connection is the primary's again and the
    /// worker can never take it; any other state that the worker was first, or has refused it.
    pub fn recall(&self, ticket: Ticket) -> TicketState {
        let cell = self.map.page().tickets.get(usize::from(ticket.index()));
        cell.map_or(TicketState::Taken, |cell| cell.recall(ticket.sequence()))
    }

    /// What became of a ticket so far.
    pub fn state(&self, ticket: Ticket) -> TicketState {
        let cell = self.map.page().tickets.get(usize::from(ticket.index()));
        cell.map_or(TicketState::Taken, |cell| cell.state(ticket.sequence()))
    }

    /// Asks the worker to ring (or not to) when it takes or finishes a connection. Each ring clears the wish.
    ///
    /// After asking, look at tickets and figures once more before sleeping: what happened before the
    /// worker could see the wish rings no bell.
    pub fn want_doorbell(&self, wanted: bool) {
        self.map.page().doorbell.want(wanted);
    }

    /// The worker's figures.
    pub fn figures(&self) -> Figures {
        let page = self.map.page();
        let (taken, finished) = page.tally.read();
        Figures {
            beats: page.beats.load(Ordering::Relaxed),
            taken,
            accepted: page.accepted.load(Ordering::SeqCst),
            missed: page.missed.load(Ordering::SeqCst),
            finished,
            requests: page.requests.load(Ordering::Relaxed),
            errors: page.errors.load(Ordering::Relaxed),
            lag_micros: page.lag_micros.load(Ordering::Relaxed),
        }
    }

    /// What the worker's application has counted, by the numbers that it gave its counters.
    pub fn counters(&self) -> [u64; COUNTERS] {
        self.map.page().counters.each_ref().map(|counter| counter.load(Ordering::Relaxed))
    }
}

impl WorkerBoard {
    /// Maps a board that the primary made, after checking its size, seals and layout.
    ///
    /// # Errors
    ///
    /// [`Error::Board`] or [`Error::Os`].
    pub fn open(memory: OwnedFd) -> Result<Self, Error> {
        Self::check(memory.as_fd())?;
        let map = Mapping::new(memory.as_fd())?;
        if map.page().magic.load(Ordering::Acquire) != MAGIC {
            return Err(Error::Board { reason: "it does not begin as one" });
        }
        if map.page().version.load(Ordering::Acquire) != LAYOUT_VERSION {
            return Err(Error::Board { reason: "its layout is of another version" });
        }
        Ok(Self { map })
    }

    fn check(memory: BorrowedFd<'_>) -> Result<(), Error> {
        let stat = rustix::fs::fstat(memory).map_err(Error::os("look at a board"))?;
        if u64::try_from(stat.st_size).ok() != Some(PAGE_LEN as u64) {
            return Err(Error::Board { reason: "its size is wrong" });
        }
        let seals = rustix::fs::fcntl_get_seals(memory).map_err(Error::os("read the seals of a board"))?;
        if !seals.contains(SEALS) {
            return Err(Error::Board { reason: "it is not sealed" });
        }
        Ok(())
    }

    /// Claims a connection. `true` means that it is this worker's for good; `false` that the primary has claimed it
    /// back: then close the descriptor, and do nothing else with it.
    ///
    /// Ring the doorbell afterwards if [`doorbell_wanted`](Self::doorbell_wanted).
    pub fn take(&self, ticket: Ticket) -> bool {
        let cell = self.map.page().tickets.get(usize::from(ticket.index()));
        let won = cell.is_some_and(|cell| cell.take(ticket.sequence()));
        if won {
            self.count_taken();
        }
        won
    }

    fn count_taken(&self) {
        self.map.page().tally.take();
    }

    /// Counts a ticket that was claimed back before this process came to it. So the primary learns that its work loop turns again.
    pub fn count_missed(&self) {
        self.map.page().missed.fetch_add(1, Ordering::SeqCst);
    }

    /// Counts a connection that the application took without a ticket, because this process accepted it itself.
    pub fn count_accepted(&self) {
        // First: whoever sees it finished has seen it accepted.
        self.map.page().accepted.fetch_add(1, Ordering::SeqCst);
        self.count_taken();
    }

    /// Gives a connection back that this worker cannot take.
    pub fn refuse(&self, ticket: Ticket) {
        if let Some(cell) = self.map.page().tickets.get(usize::from(ticket.index())) {
            cell.refuse(ticket.sequence());
        }
    }

    /// Whether the worker may still take this connection.
    pub fn is_offered(&self, ticket: Ticket) -> bool {
        let cell = self.map.page().tickets.get(usize::from(ticket.index()));
        cell.is_some_and(|cell| cell.state(ticket.sequence()) == TicketState::Offered)
    }

    /// Records that the application is done with a connection it had taken.
    pub fn finish(&self) {
        self.map.page().tally.finish();
    }

    /// Whether the primary waits to hear of a connection taken or finished; asking clears it, so that one of
    /// several threads rings.
    pub fn doorbell_wanted(&self) -> bool {
        self.map.page().doorbell.wanted()
    }

    /// Says that the work loop turns.
    pub fn beat(&self) {
        self.map.page().beats.fetch_add(1, Ordering::Relaxed);
    }

    /// States how late the work loop ran at the last beat, in microseconds.
    pub fn set_lag_micros(&self, micros: u64) {
        self.map.page().lag_micros.store(micros, Ordering::Relaxed);
    }

    /// Counts a request that was answered; `failed` for a server error.
    pub fn count_request(&self, outcome: Outcome) {
        let page = self.map.page();
        page.requests.fetch_add(1, Ordering::Relaxed);
        if outcome == Outcome::Error {
            page.errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Adds to a counter of the application. One whose number is not below [`COUNTERS`] has no place on the board.
    pub fn count(&self, counter: u8, by: u64) {
        if let Some(counter) = self.map.page().counters.get(usize::from(counter)) {
            counter.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// What the application has counted, by the numbers that it gave its counters.
    pub fn counters(&self) -> [u64; COUNTERS] {
        self.map.page().counters.each_ref().map(|counter| counter.load(Ordering::Relaxed))
    }

    /// This worker's own figures.
    pub fn figures(&self) -> Figures {
        let page = self.map.page();
        let (taken, finished) = page.tally.read();
        Figures {
            beats: page.beats.load(Ordering::Relaxed),
            taken,
            finished,
            accepted: page.accepted.load(Ordering::SeqCst),
            missed: page.missed.load(Ordering::SeqCst),
            requests: page.requests.load(Ordering::Relaxed),
            errors: page.errors.load(Ordering::Relaxed),
            lag_micros: page.lag_micros.load(Ordering::Relaxed),
        }
    }
}

/// How a request ended, for [`WorkerBoard::count_request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "complete by nature")]
pub enum Outcome {
    /// Answered.
    Success,
    /// Answered with a server error.
    Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recalled_ticket_cannot_be_taken_and_a_taken_one_not_recalled() {
        let (primary, memory) = PrimaryBoard::create().unwrap();
        let worker = WorkerBoard::open(memory).unwrap();
        let (first, second) = (Ticket::new(0, 1), Ticket::new(1, 2));
        primary.offer(first);
        primary.offer(second);
        assert_eq!(primary.recall(first), TicketState::Recalled);
        assert!(!worker.take(first));
        assert!(worker.take(second));
        assert_eq!(primary.recall(second), TicketState::Taken);
        assert!(!worker.take(second), "nobody takes a ticket twice");
    }

    #[test]
    fn a_stale_ticket_does_not_touch_its_successor() {
        let (primary, memory) = PrimaryBoard::create().unwrap();
        let worker = WorkerBoard::open(memory).unwrap();
        primary.offer(Ticket::new(0, 1));
        primary.recall(Ticket::new(0, 1));
        primary.offer(Ticket::new(0, 2));
        assert!(!worker.take(Ticket::new(0, 1)));
        worker.refuse(Ticket::new(0, 1));
        assert!(worker.take(Ticket::new(0, 2)));
    }

    #[test]
    fn tickets_beyond_the_board_are_nobodys() {
        let (primary, memory) = PrimaryBoard::create().unwrap();
        let worker = WorkerBoard::open(memory).unwrap();
        let beyond = Ticket::new(u16::MAX, 1);
        assert!(!worker.take(beyond));
        worker.refuse(beyond);
        assert_eq!(primary.state(beyond), TicketState::Taken);
    }

    #[test]
    fn counters_of_the_application_outlive_the_worker() {
        let (primary, memory) = PrimaryBoard::create().unwrap();
        let worker = WorkerBoard::open(memory).unwrap();
        worker.count(0, 2);
        worker.count(63, 1);
        worker.count(63, 4);
        worker.count(64, 9);
        assert_eq!(worker.counters(), primary.counters());
        drop(worker);
        let counters = primary.counters();
        assert_eq!((counters[0], counters[63], counters.iter().sum::<u64>()), (2, 5, 7));
    }

    #[test]
    fn a_memfd_that_could_be_resized_is_no_board() {
        let memory = rustix::fs::memfd_create("unsealed", MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&memory, PAGE_LEN as u64).unwrap();
        assert!(matches!(WorkerBoard::open(memory), Err(Error::Board { reason: "it is not sealed" })));
        let short = rustix::fs::memfd_create("short", MemfdFlags::CLOEXEC).unwrap();
        assert!(matches!(WorkerBoard::open(short), Err(Error::Board { reason: "its size is wrong" })));
    }

    #[test]
    fn exactly_one_side_wins_each_ticket_under_contention() {
        let (primary, memory) = PrimaryBoard::create().unwrap();
        let worker = WorkerBoard::open(memory).unwrap();
        let rounds = 20_000;
        let (mut recalled, mut taken) = (0, 0);
        std::thread::scope(|scope| {
            let (offer, offered) = std::sync::mpsc::channel::<Ticket>();
            let taker = scope.spawn(|| offered.into_iter().filter(|ticket| worker.take(*ticket)).count());
            for sequence in 1..=rounds {
                let ticket = Ticket::new((sequence % 8) as u16, sequence);
                primary.offer(ticket);
                offer.send(ticket).unwrap();
                recalled += usize::from(primary.recall(ticket) == TicketState::Recalled);
            }
            drop(offer);
            taken = taker.join().unwrap();
        });
        assert_eq!(recalled + taken, rounds as usize);
    }
}
