//! Tickets, doorbell and tally in every order in which threads can meet, by loom.
//!
//! Here are threads where there are processes in earnest; a shared page is the same memory to both. A ticket reaches a
//! worker by a socket, which orders what was before it: here the thread that takes it is started after the offer.
//!
//! What loom shows, and what not (its README, "Unsupported features", and `rt/atomic.rs` of 0.7.2):
//!
//! - `SeqCst` fences mean what they should. `SeqCst` loads and stores are not ordered among each other, only as `AcqRel`
//!   is (but such a load sees the newest such store to its own word). So a test may fail where they would be enough:
//!   the fence in `Doorbell::want` is such a case while the look after it is `SeqCst`, that in `Doorbell::wanted` is
//!   not. The tests of tickets and doorbell also pass with all but the fences `Relaxed`; the tally needs `Release` and
//!   `Acquire`.
//! - A `compare_exchange` that fails reads the newest word. The language would allow an older one, but none older than
//!   the offer, which both sides know of. Such a word says what the newest says: a settled ticket stays as it is.
//! - A store that others see before an earlier load of its own thread is done ("load buffering") is not tried.
//!
//! A test names every outcome there is, so it also fails if loom does not get to one.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use loom::sync::atomic::{AtomicU32, AtomicU64};
use loom::sync::mpsc;
use loom::thread;

use super::TicketState::{Offered, Recalled, Refused, Taken};
use super::doorbell::Doorbell;
use super::tally::Tally;
use super::ticket::TicketCell;

/// A worker's page, as far as both sides write to it.
#[derive(Default)]
struct Board {
    tally: Tally<AtomicU64>,
    doorbell: Doorbell<AtomicU32>,
    ticket: TicketCell<AtomicU64>,
}

impl Board {
    fn offering(sequence: u64) -> Arc<Self> {
        let board = Self::default();
        board.ticket.offer(sequence);
        Arc::new(board)
    }
}

/// Runs `act` in a thread of the worker.
fn worker<T: 'static>(board: &Arc<Board>, act: impl FnOnce(&Board) -> T + 'static) -> thread::JoinHandle<T> {
    let board = Arc::clone(board);
    thread::spawn(move || act(&board))
}

/// Asserts that `model` has these outcomes in one order of events or another, and no others.
#[track_caller]
fn assert_outcomes<T: Debug + PartialEq + Send + 'static, const N: usize>(
    expected: [T; N],
    model: impl Fn() -> T + Send + Sync + 'static,
) {
    let found = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&found);
    loom::model(move || {
        let outcome = model();
        let mut all = all.lock().unwrap();
        if !all.contains(&outcome) {
            all.push(outcome);
        }
    });
    let found = found.lock().unwrap();
    let wrong: Vec<_> = found.iter().filter(|outcome| !expected.contains(outcome)).collect();
    let missing: Vec<_> = expected.iter().filter(|outcome| !found.contains(outcome)).collect();
    assert!(wrong.is_empty() && missing.is_empty(), "must not be: {wrong:?}; must be, too: {missing:?}");
}

#[test]
fn either_the_worker_takes_a_ticket_or_the_primary_recalls_it() {
    assert_outcomes([(true, Taken, Taken), (false, Recalled, Recalled)], || {
        let board = Board::offering(1);
        let taker = worker(&board, |board| board.ticket.take(1));
        let recalled = board.ticket.recall(1);
        (taker.join().unwrap(), recalled, board.ticket.state(1))
    });
}

#[test]
fn of_take_refuse_and_recall_one_settles_a_ticket() {
    assert_outcomes([(true, Taken, Taken), (false, Refused, Refused), (false, Recalled, Recalled)], || {
        let board = Board::offering(1);
        let taker = worker(&board, |board| board.ticket.take(1));
        let refuser = worker(&board, |board| board.ticket.refuse(1));
        let recalled = board.ticket.recall(1);
        refuser.join().unwrap();
        (taker.join().unwrap(), recalled, board.ticket.state(1))
    });
}

#[test]
fn two_threads_of_a_worker_and_a_recall_have_one_winner() {
    assert_outcomes([(true, false, Taken), (false, true, Taken), (false, false, Recalled)], || {
        let board = Board::offering(1);
        let [one, other] = [(); 2].map(|()| worker(&board, |board| board.ticket.take(1)));
        let recalled = board.ticket.recall(1);
        (one.join().unwrap(), other.join().unwrap(), recalled)
    });
}

#[test]
fn a_settled_ticket_stays_as_it_was_seen() {
    assert_outcomes([(Offered, Offered), (Offered, Taken), (Taken, Taken)], || {
        let board = Board::offering(1);
        let taker = worker(&board, |board| board.ticket.take(1));
        let seen = (board.ticket.state(1), board.ticket.state(1));
        assert!(taker.join().unwrap(), "nobody else wants it");
        seen
    });
}

/// The worker was stopped with the ticket in its hands, and goes on while its place on the board is used again.
#[test]
fn who_takes_a_stale_ticket_leaves_its_successor_alone() {
    let expected = [
        (true, Taken, true, Taken),
        (true, Taken, false, Recalled),
        (false, Recalled, true, Taken),
        (false, Recalled, false, Recalled),
    ];
    assert_outcomes(expected, || {
        let board = Board::offering(1);
        let stale = worker(&board, |board| board.ticket.take(1));
        let first = board.ticket.recall(1);
        board.ticket.offer(2);
        let taker = worker(&board, |board| board.ticket.take(2));
        let second = board.ticket.recall(2);
        (stale.join().unwrap(), first, taker.join().unwrap(), second)
    });
}

#[test]
fn who_refuses_a_stale_ticket_leaves_its_successor_alone() {
    let expected = [
        (Refused, true, Taken),
        (Refused, false, Recalled),
        (Recalled, true, Taken),
        (Recalled, false, Recalled),
    ];
    assert_outcomes(expected, || {
        let board = Board::offering(1);
        let stale = worker(&board, |board| board.ticket.refuse(1));
        let first = board.ticket.recall(1);
        board.ticket.offer(2);
        let taker = worker(&board, |board| board.ticket.take(2));
        let second = board.ticket.recall(2);
        stale.join().unwrap();
        (first, taker.join().unwrap(), second)
    });
}

/// Outcomes are (the primary sees it before it sleeps, the worker rings). Neither would be a lost wake-up.
#[test]
fn a_finished_connection_is_seen_or_rings() {
    assert_outcomes([(true, false), (false, true), (true, true)], || {
        let board = Arc::<Board>::default();
        let finisher = worker(&board, |board| {
            board.tally.finish();
            board.doorbell.wanted()
        });
        board.doorbell.want(true);
        let (_, finished) = board.tally.read();
        (finished == 1, finisher.join().unwrap())
    });
}

#[test]
fn a_taken_connection_is_seen_or_rings() {
    assert_outcomes([(true, false), (false, true), (true, true)], || {
        let board = Board::offering(1);
        let taker = worker(&board, |board| {
            assert!(board.ticket.take(1), "nobody else wants it");
            board.doorbell.wanted()
        });
        board.doorbell.want(true);
        (board.ticket.state(1) == Taken, taker.join().unwrap())
    });
}

/// Outcomes are (how many the primary sees before it sleeps, how many threads ring).
#[test]
fn of_two_threads_that_finish_one_rings_unless_both_are_seen() {
    assert_outcomes([(0, 1), (1, 1), (2, 1), (2, 0)], || {
        let board = Arc::<Board>::default();
        let finishers = [(); 2].map(|()| {
            worker(&board, |board| {
                board.tally.finish();
                board.doorbell.wanted()
            })
        });
        board.doorbell.want(true);
        let (_, finished) = board.tally.read();
        let rings = finishers.into_iter().map(|finisher| finisher.join().unwrap());
        (finished, rings.filter(|rang| *rang).count())
    });
}

/// The whole of it: wish, look, sleep until it rings, and again. If a ring is missing, loom finds everybody asleep.
#[test]
fn a_primary_that_sleeps_between_looks_hears_of_everything() {
    assert_outcomes([2], || {
        let board = Arc::<Board>::default();
        let (bell, rung) = mpsc::channel();
        let threads = [(); 2].map(|()| {
            let bell = bell.clone();
            worker(&board, move |board| {
                board.tally.finish();
                if board.doorbell.wanted() {
                    bell.send(()).unwrap();
                }
            })
        });
        let finished = loop {
            board.doorbell.want(true);
            let (_, finished) = board.tally.read();
            if finished == 2 {
                break finished;
            }
            rung.recv().unwrap();
        };
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        finished
    });
}

#[test]
fn no_more_is_finished_than_was_taken() {
    assert_outcomes([(0, 0), (1, 0), (2, 0), (1, 1), (2, 1), (2, 2)], || {
        let board = Arc::<Board>::default();
        let threads = [(); 2].map(|()| {
            worker(&board, |board| {
                board.tally.take();
                board.tally.finish();
            })
        });
        let figures = board.tally.read();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        figures
    });
}
