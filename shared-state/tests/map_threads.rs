//! What readers see while a writer writes.
//!
//! The writer goes on until it has written so often and every reader has looked so often, however long that takes.
//! `CLUSTER_TEST_LONG=1` makes it a hundred times as much.
#![cfg(feature = "map")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::env;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};

use cluster_shared_state::map::{Reader, Writer};
use cluster_shared_state::{Cursor, Entry, Epoch, Key, Revision, State};

const READERS: u64 = 3;
const ACCOUNTS: u64 = 8;
const SUM: u64 = 8000;

fn times(times: u64) -> u64 {
    let is_long = env::var_os("CLUSTER_TEST_LONG").is_some_and(|long| long == "1");
    if is_long { times * 100 } else { times }
}

fn at(epoch: u64, revision: u64) -> Cursor {
    Cursor::new(Epoch::new(epoch), Revision::new(revision))
}

fn key(kind: &str, index: u64) -> Key {
    Key::from(format!("{kind}/{index}"))
}

fn number(entry: &Entry) -> u64 {
    u64::from_be_bytes(entry.value[..].try_into().unwrap())
}

fn entry(number: u64, revision: Revision) -> Option<Entry> {
    Some(Entry::new(number.to_be_bytes().to_vec(), revision))
}

/// Readers that look over and over, and one who writes until all of that has happened often enough.
fn run(writes: u64, looks: u64, mut write: impl FnMut(u64), look: impl Fn(u64) -> Box<dyn FnMut()> + Sync) {
    let stop = AtomicBool::new(false);
    let looked: Vec<AtomicU64> = (0..READERS).map(|_| AtomicU64::new(0)).collect();
    thread::scope(|scope| {
        let readers: Vec<ScopedJoinHandle<'_, ()>> = (0..)
            .zip(&looked)
            .map(|(number, looked)| {
                let (look, stop) = (&look, &stop);
                scope.spawn(move || {
                    let mut look = look(number);
                    while !stop.load(Ordering::Relaxed) {
                        look();
                        looked.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let mut turn = 0;
        let is_enough = |turn| {
            turn >= writes && looked.iter().all(|looked| looked.load(Ordering::Relaxed) >= looks)
                // One that ends has failed.
                || readers.iter().any(ScopedJoinHandle::is_finished)
        };
        while !is_enough(turn) {
            turn += 1;
            write(turn);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// Moves money about. An account without money is closed: its key is deleted, the next transfer makes it again.
/// Every 50th time the whole state is replaced; every other time of those by one of a new epoch, of a lower revision or
/// the same.
struct Bank {
    writer: Writer,
    at: Cursor,
    amounts: Vec<u64>,
    rng: fastrand::Rng,
}

impl Bank {
    fn open() -> (Self, Reader) {
        let (mut writer, reader) = Writer::new();
        for index in 0..ACCOUNTS {
            writer.set(&key("account", index), entry(SUM / ACCOUNTS, Revision::new(1)));
        }
        let at = at(1, 1);
        writer.commit(at);
        writer.publish();
        let amounts = vec![SUM / ACCOUNTS; ACCOUNTS as usize];
        (Self { writer, at, amounts, rng: fastrand::Rng::with_seed(1) }, reader)
    }

    fn transfer(&mut self) {
        let (from, to) = (self.rng.u64(..ACCOUNTS), self.rng.u64(..ACCOUNTS));
        if from == to {
            return;
        }
        let all = self.amounts[from as usize];
        let sum = if self.rng.bool() { all } else { self.rng.u64(..=all) };
        self.amounts[from as usize] -= sum;
        self.amounts[to as usize] += sum;
        self.at.revision = self.at.revision.next();
        for index in [from, to] {
            let left = Some(self.amounts[index as usize]).filter(|left| *left > 0);
            let left = left.and_then(|left| entry(left, self.at.revision));
            self.writer.set(&key("account", index), left);
        }
        self.writer.commit(self.at);
    }

    fn turn(&mut self, turn: u64) {
        (0..self.rng.u8(1..4)).for_each(|_| self.transfer());
        if turn.is_multiple_of(50) {
            let revision = self.at.revision.get();
            self.at = match turn / 50 % 4 {
                0 => at(self.at.epoch.get() + 1, 1 + revision / 2),
                1 => at(self.at.epoch.get(), revision),
                2 => at(self.at.epoch.get() + 1, revision),
                _ => at(self.at.epoch.get(), revision + 1),
            };
            let mut staged = self.writer.staging();
            for (index, amount) in (0..).zip(&self.amounts).filter(|(_, amount)| **amount > 0) {
                staged.set(&key("account", index), entry(*amount, self.at.revision));
            }
            self.writer.replace(staged, self.at);
        }
        self.writer.publish();
    }
}

fn place(cursor: Cursor) -> (u64, u64) {
    (cursor.epoch.get(), cursor.revision.get())
}

#[test]
fn every_view_shows_whole_transactions_and_never_an_older_one() {
    let (mut bank, reader) = Bank::open();
    let keys: Vec<_> = (0..ACCOUNTS).map(|index| key("account", index)).collect();
    run(
        times(4000),
        times(1000),
        |turn| bank.turn(turn),
        |_| {
            let (reader, keys) = (reader.clone(), keys.clone());
            let (mut last, mut looks, mut kept) = (reader.cursor(), 0, Vec::new());
            Box::new(move || {
                let view = reader.view();
                assert!(place(last) <= place(view.cursor()), "{last} and then {}", view.cursor());
                last = view.cursor();
                kept.push(view);
                if kept.len() > 50 {
                    kept.swap_remove(looks % 50);
                }
                looks += 1;
                // The newest, and one that is old.
                for view in [kept.last().unwrap(), &kept[looks % kept.len()]] {
                    let revision = view.cursor().revision;
                    let scanned: u64 = view.prefix(b"account/").map(|(_, entry)| number(entry)).sum();
                    let read = keys.iter().filter_map(|key| view.get(key));
                    let read: u64 =
                        read.inspect(|it| assert!(it.modified <= revision)).map(|it| number(&it)).sum();
                    assert_eq!((scanned, read), (SUM, SUM), "money was lost or made at {}", view.cursor());
                }
                // If nothing was published between, single reads are of one state too.
                let before = reader.cursor();
                let read: u64 =
                    keys.iter().map(|key| reader.read(key, |it| it.map_or(0, |it| number(it)))).sum();
                // (A state of the same place may have come between, but it is the same.)
                assert!(reader.cursor() != before || read == SUM, "single reads at {before}");
            })
        },
    );
}

/// One transaction writes all keys. So a reader who has seen n under one key must from then on see at least n under
/// every other: reads of single keys are of one advancing state, not only each key for itself. Replacements, which may
/// set revisions back, are no exception.
#[test]
fn reads_of_single_keys_never_go_back_across_keys() {
    const KEYS: u64 = 64;
    let (mut writer, reader) = Writer::new();
    let keys: Vec<_> = (0..KEYS).map(|index| key("counter", index)).collect();
    // What any thread has seen: holds across threads too.
    static SEEN_BY_ANY: AtomicU64 = AtomicU64::new(0);
    let mut place = at(1, 0);
    let write = |turn: u64| {
        let is_replaced = turn.is_multiple_of(20);
        place = match turn {
            _ if turn.is_multiple_of(40) => at(place.epoch.get() + 1, turn % 7),
            _ => at(place.epoch.get(), place.revision.get() + 1),
        };
        let mut staged = is_replaced.then(|| writer.staging());
        let target = staged.as_mut().unwrap_or(&mut writer);
        for (index, key) in (0..).zip(&keys) {
            // One in four is not there; which, changes.
            let there = !(index + turn).is_multiple_of(4);
            target.set(key, entry(turn, place.revision).filter(|_| there));
        }
        match staged {
            Some(staged) => writer.replace(staged, place),
            None => {
                writer.commit(place);
                // Every third time with the next.
                if !turn.is_multiple_of(3) {
                    writer.publish();
                }
            }
        }
    };
    run(times(2000), times(20_000), write, |number_of_reader| {
        let (reader, keys) = (reader.clone(), keys.clone());
        let mut rng = fastrand::Rng::with_seed(number_of_reader);
        Box::new(move || {
            let before = SEEN_BY_ANY.load(Ordering::Acquire);
            let key = rng.choice(&keys).unwrap();
            let now = reader.read(key, |entry| entry.map(|entry| number(entry)));
            let now = now.unwrap_or(before);
            assert!(now >= before, "saw {now} after {before}");
            SEEN_BY_ANY.fetch_max(now, Ordering::AcqRel);
        })
    });
}

/// In state n there is `even` or `odd`, as n is: whether a key is there tells of which state it was read.
#[test]
fn absence_is_as_exact_as_presence() {
    let (mut writer, reader) = Writer::new();
    let (even, odd) = (Key::from_static("even"), Key::from_static("odd"));
    let mut staged = writer.staging();
    staged.set(&even, entry(0, Revision::ZERO));
    writer.replace(staged, at(1, 0));
    let write = |revision: u64| {
        let (comes, goes) = if revision.is_multiple_of(2) { (&even, &odd) } else { (&odd, &even) };
        writer.set(goes, None);
        writer.set(comes, entry(0, Revision::new(revision)));
        writer.commit(at(1, revision));
        writer.publish();
    };
    run(times(10_000), times(3000), write, |_| {
        let reader = reader.clone();
        Box::new(move || {
            let view = reader.view();
            let is_even = view.cursor().revision.get().is_multiple_of(2);
            assert_eq!((view.get("even").is_some(), view.get("odd").is_some()), (is_even, !is_even));
            // If the revision is the same before and after, what lies between is of that revision.
            let before = reader.cursor();
            let found = reader.get(b"even").is_some();
            if reader.cursor() == before {
                assert_eq!(found, before.revision.get().is_multiple_of(2), "at {before}");
            }
        })
    });
}

#[test]
fn who_reads_for_long_does_not_hold_the_writer_up() {
    let (mut bank, reader) = Bank::open();
    let held = reader.view();
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        // A reader in the middle of a read, for as long as it takes.
        let reading = scope.spawn(|| {
            reader.read(b"account/1", |entry| {
                barrier.wait();
                barrier.wait();
                number(entry.unwrap())
            })
        });
        barrier.wait();
        (1..1000).for_each(|turn| bank.turn(turn));
        assert_eq!(reader.cursor(), bank.at);
        let sum: u64 =
            (0..ACCOUNTS).filter_map(|index| reader.get(&key("account", index))).map(|it| number(&it)).sum();
        assert_eq!(sum, SUM, "the table that is in use is gone round");
        barrier.wait();
        assert_eq!(reading.join().unwrap(), SUM / ACCOUNTS, "what it was shown stayed as it was");
    });
    assert_eq!(held.iter().map(|(_, entry)| number(entry)).sum::<u64>(), SUM);
}
