//! Watchers: order, whole revisions, coalescing, loss, resuming, another state.
#![allow(clippy::expect_used, clippy::disallowed_methods, reason = "a test may panic, and begins some time")]

mod common;

use std::collections::BTreeMap;

use std::time::{Duration, Instant};

use cluster_shared_state::{
    Batch, ChangeKind, ClientId, Command, Cursor, Delete, Epoch, KeyRange, Limits, Notice, Overflow, Put,
    Revision, Start, Store, Transaction, Watch, WatchId, WatchLimits, Watchers, differences,
};
use common::wire::{State, copy};

const EPOCH: Epoch = Epoch::new(1);

/// A store and its watchers.
struct Watched {
    store: Store,
    watchers: Watchers,
    now: Instant,
}

impl Watched {
    fn new(limits: WatchLimits) -> Self {
        let store = Store::new(EPOCH, Limits::new());
        Self { watchers: Watchers::new(store.cursor(), limits), store, now: Instant::now() }
    }

    fn does(&mut self, command: impl Into<Command>) {
        self.store.execute(ClientId::PRIMARY, command.into(), self.now).expect("it is allowed");
        self.feed();
    }

    fn feed(&mut self) {
        while let Some(commit) = self.store.poll_commit() {
            self.watchers.handle_commit(&commit);
        }
    }

    fn watch(&mut self, watch: Watch) -> WatchId {
        self.watchers.watch(watch).expect("there is room")
    }

    fn next(&mut self, id: WatchId) -> Option<Notice> {
        self.watchers.next(id, &self.store)
    }

    fn batch(&mut self, id: WatchId) -> Batch {
        match self.next(id) {
            Some(Notice::Changes(batch)) => batch,
            other => panic!("{other:?}"),
        }
    }
}

/// `key=previous>now`, in a line.
fn line(batch: &Batch) -> String {
    let text = |entry: &Option<cluster_shared_state::Entry>| {
        entry.as_ref().map_or_else(|| "-".to_owned(), |it| String::from_utf8_lossy(&it.value).into_owned())
    };
    let events =
        batch.events.iter().map(|it| format!("{}={}>{}", it.key, text(&it.previous), text(&it.entry)));
    let (first, last) = (batch.first, batch.last.revision);
    format!("{first}..{last} {}", events.collect::<Vec<_>>().join(" "))
}

#[test]
fn events_come_by_revision_with_what_was_there_before() {
    let mut it = Watched::new(WatchLimits::new());
    it.does(Put::new("a/1", "x"));
    let all = it.watch(Watch::new(KeyRange::prefix("a/")));
    it.does(Put::new("a/1", "y"));
    it.does(Put::new("b", "elsewhere"));
    it.does(Transaction::new().then(Delete::new("a/1")).then(Put::new("a/2", "z")).then(Put::new("b", "")));
    assert_eq!(it.watchers.poll_ready(), Some(all));
    assert_eq!(it.watchers.poll_ready(), None, "once until it has asked");
    assert_eq!(line(&it.batch(all)), "2..2 a/1=x>y");
    assert_eq!(line(&it.batch(all)), "4..4 a/1=y>- a/2=->z");
    assert_eq!(it.next(all), None);
}

#[test]
fn a_watcher_is_told_why_a_key_is_gone() {
    let mut it = Watched::new(WatchLimits::new());
    let id = it.watch(Watch::new(KeyRange::key("a")));
    it.does(Put::new("a", "").ttl(Duration::from_secs(1)));
    it.now += Duration::from_secs(1);
    it.store.handle_timeout(it.now);
    it.feed();
    assert_eq!(it.batch(id).events[0].kind, ChangeKind::Put);
    assert_eq!(it.batch(id).events[0].kind, ChangeKind::Expired);
}

#[test]
fn what_is_there_comes_first_and_then_what_changes() {
    let mut it = Watched::new(WatchLimits::new());
    it.does(Put::new("a", "1"));
    let id = it.watch(Watch::new(KeyRange::All).start(Start::Present));
    assert_eq!(it.watchers.poll_ready(), Some(id), "it has something to be told at once");
    it.does(Put::new("b", "2"));
    let Some(Notice::Present { at, entries }) = it.next(id) else { panic!("it is there") };
    assert_eq!((at.revision, entries.len()), (Revision::new(2), 2), "as of when it is asked for");
    it.does(Put::new("c", "3"));
    assert_eq!(line(&it.batch(id)), "3..3 c=->3");
}

#[test]
fn nothing_there_is_told_as_well() {
    let mut it = Watched::new(WatchLimits::new());
    let id = it.watch(Watch::new(KeyRange::key("a")).start(Start::Present));
    assert!(matches!(it.next(id), Some(Notice::Present { entries, .. }) if entries.is_empty()));
    it.does(Put::new("a", "1"));
    assert_eq!(line(&it.batch(id)), "1..1 a=->1", "and it goes on");
}

#[test]
fn a_slow_watcher_gets_the_difference_of_whole_revisions() {
    let mut it = Watched::new(WatchLimits::new());
    it.does(Put::new("a", "0"));
    let id = it.watch(Watch::new(KeyRange::All).capacity(3));
    for value in ["1", "2", "3", "4"] {
        it.does(Transaction::new().then(Put::new("a", value)).then(Put::new("b", value)));
    }
    it.does(Delete::new("b"));
    let batch = it.batch(id);
    assert!(batch.is_coalesced());
    assert_eq!(line(&batch), "2..6 a=0>4", "nobody saw b");
    it.does(Put::new("b", "5"));
    let batch = it.batch(id);
    assert!(!batch.is_coalesced(), "it has caught up");
    assert_eq!(line(&batch), "7..7 b=->5");
}

#[test]
fn a_watcher_that_wants_every_event_is_told_of_its_loss() {
    let mut it = Watched::new(WatchLimits::new());
    let id = it.watch(Watch::new(KeyRange::key("a")).overflow(Overflow::Tell).capacity(2));
    for value in ["1", "2", "3", "4"] {
        it.does(Put::new("a", value));
        it.does(Put::new("b", value));
    }
    let at = |revision| Cursor::new(EPOCH, Revision::new(revision));
    let lagged = Notice::Lagged { from: at(1), to: at(7) };
    assert_eq!(it.next(id), Some(lagged));
    it.does(Put::new("a", "5"));
    let Some(Notice::Present { at, entries }) = it.next(id) else { panic!("what is there follows") };
    assert_eq!((at.revision.get(), &entries[0].1.value[..]), (9, &b"5"[..]));
    assert_eq!(it.next(id), None, "it is in there already");
    it.does(Put::new("a", "6"));
    assert_eq!(line(&it.batch(id)), "10..10 a=5>6");
}

#[test]
fn a_transaction_longer_than_the_queue_is_not_split() {
    let mut it = Watched::new(WatchLimits::new());
    let id = it.watch(Watch::new(KeyRange::All).overflow(Overflow::Tell).capacity(0));
    it.does(Transaction::new().then(Put::new("a", "1")).then(Put::new("b", "2")));
    assert_eq!(line(&it.batch(id)), "1..1 a=->1 b=->2");
}

#[test]
fn a_watcher_goes_on_after_a_revision_as_long_as_that_is_kept() {
    let mut it = Watched::new(WatchLimits::new().history(3, usize::MAX));
    for value in ["1", "2", "3", "4", "5"] {
        it.does(Put::new("a", value));
    }
    let after =
        |revision| Watch::new(KeyRange::All).start(Start::After(Cursor::new(EPOCH, Revision::new(revision))));
    let kept = it.watch(after(2));
    for expected in ["3..3 a=2>3", "4..4 a=3>4", "5..5 a=4>5"] {
        assert_eq!(line(&it.batch(kept)), expected);
    }
    assert_eq!(it.next(kept), None);
    let lost = it.watch(after(1));
    assert_eq!(it.next(lost), Some(Notice::Gap { oldest: Revision::new(3) }));
    assert!(matches!(it.next(lost), Some(Notice::Present { .. })));
    let current = it.watch(after(5));
    let future = it.watch(after(6));
    assert_eq!((it.next(current), it.next(future)), (None, None));
    it.does(Put::new("a", "6"));
    it.does(Put::new("a", "7"));
    assert_eq!(line(&it.batch(current)), "6..6 a=5>6");
    assert_eq!(line(&it.batch(future)), "7..7 a=6>7", "it has seen the sixth already");
    let other = Cursor::new(Epoch::new(2), Revision::new(7));
    let other = it.watch(Watch::new(KeyRange::All).start(Start::After(other)));
    assert!(matches!(it.next(other), Some(Notice::Gap { .. })), "of another epoch nothing is kept");
}

#[test]
fn after_a_snapshot_a_watcher_is_told_and_gets_the_difference() {
    for (epoch, capacity) in [(EPOCH, 100), (EPOCH, 0), (Epoch::new(2), 100), (Epoch::new(2), 0)] {
        let mut it = Watched::new(WatchLimits::new());
        for key in ["same", "written", "deleted"] {
            it.does(Put::new(key, "old"));
        }
        let watching = it.watch(Watch::new(KeyRange::All).capacity(capacity));
        let quiet = it.watch(Watch::new(KeyRange::key("same")).capacity(capacity));
        it.does(Put::new("written", "waits"));
        let old: State = copy(&it.store);
        let from = it.store.cursor();
        it.store.execute(ClientId::PRIMARY, Put::new("written", "new").into(), it.now).expect("allowed");
        it.store.execute(ClientId::PRIMARY, Delete::new("deleted").into(), it.now).expect("allowed");
        it.store.execute(ClientId::PRIMARY, Put::new("made", "new").into(), it.now).expect("allowed");
        while it.store.poll_commit().is_some() {}
        let to = Cursor::new(epoch, it.store.cursor().revision);
        let changes = differences(&old, Some(from), &it.store, to);
        it.watchers.handle_replaced(to, changes);
        let told = Some(Notice::Resynchronised { from, to });
        if capacity == 0 {
            assert_eq!(it.next(watching), told);
            assert_eq!(line(&it.batch(watching)), "4..7 deleted=old>- made=->new written=old>new");
        } else {
            assert_eq!(line(&it.batch(watching)), "4..4 written=old>waits");
            assert_eq!(it.next(watching), told);
            assert_eq!(line(&it.batch(watching)), "7..7 deleted=old>- made=->new written=waits>new");
        }
        assert_eq!(it.next(quiet), told, "it is told, though nothing differs for it");
        assert_eq!((it.next(watching), it.next(quiet)), (None, None));
    }
}

#[test]
fn an_empty_state_of_another_epoch_is_told_as_deletes() {
    let mut it = Watched::new(WatchLimits::new());
    it.does(Put::new("a", "1"));
    let id = it.watch(Watch::new(KeyRange::All));
    let (old, from): (State, _) = (copy(&it.store), it.store.cursor());
    let to = Cursor::new(Epoch::new(2), Revision::ZERO);
    it.watchers.handle_replaced(to, differences(&old, Some(from), &State::new(), to));
    assert_eq!(it.next(id), Some(Notice::Resynchronised { from, to }));
    assert_eq!(line(&it.batch(id)), "0..0 a=1>-");
}

#[test]
fn what_waits_for_a_slow_watcher_is_bounded_by_its_keys() {
    let mut it = Watched::new(WatchLimits::new());
    let id = it.watch(Watch::new(KeyRange::prefix("a/")).capacity(10));
    for round in 0..100 {
        for key in 0..20 {
            it.does(Put::new(format!("a/{key}"), format!("{round}")));
        }
    }
    let batch = it.batch(id);
    assert_eq!((batch.events.len(), batch.first.get(), batch.last.revision.get()), (20, 1, 2000));
    assert_eq!(it.next(id), None);
}

#[test]
fn watchers_are_limited_and_forgotten() {
    let mut it = Watched::new(WatchLimits::new().watchers(1));
    let first = it.watch(Watch::new(KeyRange::All));
    assert!(it.watchers.watch(Watch::new(KeyRange::All)).is_err());
    it.does(Put::new("a", "1"));
    it.watchers.unwatch(first);
    it.watchers.unwatch(first);
    assert_eq!((it.watchers.poll_ready(), it.next(first)), (None, None));
    let second = it.watch(Watch::new(KeyRange::All));
    assert_ne!(first, second);
    it.does(Put::new("a", "2"));
    assert_eq!(line(&it.batch(second)), "2..2 a=1>2");
}

#[test]
fn a_commit_does_not_ask_those_who_watch_other_keys() {
    let mut few = Watched::new(WatchLimits::new());
    let mut many = Watched::new(WatchLimits::new());
    for key in 0..50_000 {
        let name = format!("key/{key:06}");
        many.watch(Watch::new(if key % 2 == 0 { KeyRange::key(name) } else { KeyRange::prefix(name) }));
    }
    let time = |it: &mut Watched| {
        let begin = Instant::now();
        for number in 0..1_000 {
            it.does(Put::new(format!("elsewhere/{}", number % 100), ""));
        }
        begin.elapsed()
    };
    // In turn, and the shortest of each: what others do on this machine is in most of them.
    let times: Vec<_> = (0..20).map(|_| (time(&mut few), time(&mut many))).collect();
    let (few, many) =
        (times.iter().map(|it| it.0).min().unwrap(), times.iter().map(|it| it.1).min().unwrap());
    assert!(many < 10 * few + Duration::from_millis(10), "{many:?} with 50,000 watchers, {few:?} without");
}

#[test]
fn index_finds_everyone_a_key_concerns() {
    let mut it = Watched::new(WatchLimits::new());
    let ranges = [
        KeyRange::All,
        KeyRange::prefix(""),
        KeyRange::prefix("a"),
        KeyRange::prefix("ab"),
        KeyRange::prefix("abcd"),
        KeyRange::key("abc"),
        KeyRange::key("ab"),
        KeyRange::between("abb", "abd"),
        KeyRange::between("b", "a"),
    ];
    let ids: BTreeMap<_, _> =
        ranges.iter().map(|range| (it.watch(Watch::new(range.clone())), range)).collect();
    it.does(Put::new("abc", ""));
    for (id, range) in ids {
        assert_eq!(it.next(id).is_some(), range.contains(b"abc"), "{range:?}");
    }
}
