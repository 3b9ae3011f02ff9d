//! Watchers by the thousand, and one that never reads: what they are told, and what they cost.
#![allow(clippy::print_stdout, reason = "figures for who reads them")]
#![allow(clippy::expect_used, clippy::disallowed_methods, reason = "a test may panic, and begins some time")]

mod common;

use std::collections::BTreeSet;

use allocation_counter::measure;
use cluster_shared_state::{
    ClientId, Command, Cursor, KeyRange, Notice, Overflow, PublisherConfig, Put, ReplicaConfig, Revision,
    Start, Transaction, Watch, WatchId, WatchLimits,
};
use common::raw::{fill, key};
use common::wire::{End, Wire};

const MANY: usize = 1000;

/// One replica, live.
fn wire() -> Wire {
    let mut wire = Wire::new(PublisherConfig::new(), 1);
    wire.connect(0);
    wire.settle();
    wire
}

/// What waits for one of them.
fn notices(wire: &mut Wire, side: Side, id: WatchId) -> Vec<Notice> {
    std::iter::from_fn(|| side.poll_notice(wire, id)).collect()
}

/// Where one watches.
#[derive(Clone, Copy, Debug)]
enum Side {
    Primary,
    Replica,
}

impl Side {
    const BOTH: [Self; 2] = [Self::Primary, Self::Replica];

    fn watch(self, wire: &mut Wire, watch: Watch) -> WatchId {
        match self {
            Self::Primary => wire.publisher.watch(watch),
            Self::Replica => wire.replica(0).watch(watch),
        }
        .expect("there is room")
    }

    fn poll_ready(self, wire: &mut Wire) -> Option<WatchId> {
        match self {
            Self::Primary => wire.publisher.poll_ready(),
            Self::Replica => wire.replica(0).poll_ready(),
        }
    }

    fn poll_notice(self, wire: &mut Wire, id: WatchId) -> Option<Notice> {
        match self {
            Self::Primary => wire.publisher.poll_notice(id),
            Self::Replica => wire.replica(0).poll_notice(id),
        }
    }
}

fn keys(notice: &Notice) -> Vec<String> {
    let Notice::Changes(batch) = notice else { panic!("{notice:?}") };
    batch.events.iter().map(|event| event.key.to_string()).collect()
}

#[test]
fn of_a_thousand_watchers_of_different_keys_just_those_are_woken_whom_it_concerns() {
    for side in Side::BOTH {
        let mut wire = wire();
        let alone = side.watch(&mut wire, Watch::new(KeyRange::key(key(0))));
        let write = |wire: &mut Wire, number: usize| {
            let used = measure(|| drop(wire.put(&key(number), "value")));
            wire.settle();
            used.count_total
        };
        (0..=MANY).for_each(|number| {
            write(&mut wire, number);
        });
        while side.poll_notice(&mut wire, alone).is_some() {}
        write(&mut wire, 0);
        let before = write(&mut wire, 0);
        assert_eq!(notices(&mut wire, side, alone).len(), 2);
        let ids: Vec<_> =
            (1..=MANY).map(|number| side.watch(&mut wire, Watch::new(KeyRange::key(key(number))))).collect();
        while side.poll_ready(&mut wire).is_some() {}
        for number in (1..=MANY).rev() {
            // A commit costs what it did: nobody else is asked.
            let cost = write(&mut wire, number);
            assert!(cost <= before + 8, "{cost} allocations instead of {before}");
            let id = ids[number - 1];
            assert_eq!(side.poll_ready(&mut wire), Some(id));
            assert_eq!(side.poll_ready(&mut wire), None, "nobody else");
            let told = notices(&mut wire, side, id);
            assert_eq!(told.iter().map(keys).collect::<Vec<_>>(), [[key(number)]]);
        }
    }
}

#[test]
fn a_thousand_watchers_of_one_prefix_are_all_told_the_same() {
    for side in Side::BOTH {
        let mut wire = wire();
        let ids: Vec<_> =
            (0..MANY).map(|_| side.watch(&mut wire, Watch::new(KeyRange::prefix("key/")))).collect();
        let writes = Transaction::new().then(Put::new(key(1), "a")).then(Put::new(key(2), "b"));
        let now = wire.now;
        wire.publisher.execute(writes.then(Put::new("other", "c")), now).expect("it is short");
        wire.settle();
        let woken: BTreeSet<_> = std::iter::from_fn(|| side.poll_ready(&mut wire)).collect();
        assert!(woken.into_iter().eq(ids.iter().copied()), "each once");
        for id in ids {
            let told = notices(&mut wire, side, id);
            assert_eq!(told.iter().map(keys).collect::<Vec<_>>(), [[key(1), key(2)]]);
        }
    }
}

/// A range of keys goes in one commit, however many there are; who waits for it has a share in it, not a copy.
#[test]
fn a_long_commit_is_not_copied_for_each_of_a_thousand_watchers() {
    const KEYS: usize = 10_000;
    for overflow in [Overflow::Coalesce, Overflow::Tell] {
        let mut wire = wire();
        let now = wire.now;
        fill(&mut wire.publisher, KEYS, now);
        wire.put("other", "stays");
        let watch = Watch::new(KeyRange::prefix("key/")).overflow(overflow);
        let ids: Vec<_> =
            (0..MANY).map(|_| wire.publisher.watch(watch.clone()).expect("there is room")).collect();
        let delete = Command::delete_range(KeyRange::prefix("key/"));
        let used = measure(|| drop(wire.publisher.execute(delete, now).expect("it makes less")));
        println!("{KEYS} keys deleted before {MANY} watchers: {} bytes at most", used.bytes_max);
        assert!(used.bytes_max < 40 << 20, "{used:?}");
        for id in ids {
            let told = notices(&mut wire, Side::Primary, id);
            let [Notice::Changes(batch)] = &told[..] else { panic!("{} notices", told.len()) };
            assert_eq!(batch.events.len(), KEYS);
        }
    }
}

#[test]
fn a_watcher_that_never_reads_costs_what_its_policy_says_and_is_told() {
    const KEYS: usize = 100;
    for (side, overflow) in
        Side::BOTH.into_iter().flat_map(|it| [(it, Overflow::Tell), (it, Overflow::Coalesce)])
    {
        let mut wire = Wire::new(PublisherConfig::new().history(1000, 1 << 20), 1);
        wire.connect(0);
        let now = wire.now;
        fill(&mut wire.publisher, KEYS, now);
        wire.settle();
        let watch = Watch::new(KeyRange::prefix("key/")).overflow(overflow).capacity(64);
        let id = side.watch(&mut wire, watch);
        let first = wire.publisher.cursor().revision.next();
        let write = |wire: &mut Wire, rounds: usize| {
            measure(|| {
                for round in 0..rounds {
                    // Some keys come and go.
                    wire.put(&format!("key/{round}/brief"), "x");
                    wire.put(&key(round % KEYS), &round.to_string());
                    wire.delete(&format!("key/{round}/brief"));
                    wire.settle();
                }
            })
            .bytes_current
        };
        // Until the histories are full.
        write(&mut wire, 3_000);
        let more = write(&mut wire, 6_000);
        println!("{side:?}, {overflow:?}: {more} bytes more after 18,000 writes more");
        assert!(more < 16 << 10, "{more} bytes more");
        let told = notices(&mut wire, side, id);
        let last = wire.publisher.cursor();
        match overflow {
            Overflow::Tell => {
                let [Notice::Lagged { from, to }, Notice::Present { at, entries }] = &told[..] else {
                    panic!("{} notices", told.len())
                };
                assert_eq!(
                    (*from, *to, *at, entries.len()),
                    (Cursor::new(last.epoch, first), last, last, KEYS)
                );
            }
            Overflow::Coalesce => {
                let [Notice::Changes(batch)] = &told[..] else { panic!("{} notices", told.len()) };
                assert!(batch.is_coalesced() && batch.first == first && batch.last == last);
                assert_eq!(batch.events.len(), KEYS, "what came and went was seen by nobody");
            }
            _ => unreachable!(),
        }
        assert!(side.poll_ready(&mut wire) == Some(id) && side.poll_ready(&mut wire).is_none());
    }
}

/// Commits are kept for watchers that start after a revision. Many short keys take more than their bytes.
#[test]
fn commits_that_are_kept_for_watchers_take_little_more_than_the_limit() {
    const KEYS: usize = 10_000;
    let limits = WatchLimits::new();
    let mut wire = Wire::new(PublisherConfig::new().history(0, 0), 0);
    let now = wire.now;
    let kept = measure(|| {
        for _ in 0..20 {
            fill(&mut wire.publisher, KEYS, now);
            let delete = Command::delete_range(KeyRange::All);
            wire.publisher.execute(delete, now).expect("it makes less");
        }
    });
    println!("kept for watchers: {} bytes", kept.bytes_current);
    assert!(kept.bytes_current > 1 << 20, "something is kept");
    assert!(kept.bytes_current <= limits.history_bytes as i64 * 3 / 2, "{kept:?}");
    let _ = wire.publisher.watch(Watch::new(KeyRange::All).start(Start::Present));
}

#[test]
fn there_are_no_more_watchers_than_may_be() {
    let mut wire = wire();
    wire.ends[0] =
        End::new(ClientId::new(0, 2), ReplicaConfig::new().watch(WatchLimits::new().watchers(MANY)));
    wire.connect(0);
    wire.settle();
    let watch = Watch::new(KeyRange::All);
    let ids: Vec<_> = (0..MANY).map(|_| Side::Replica.watch(&mut wire, watch.clone())).collect();
    let error = wire.replica(0).watch(watch.clone()).expect_err("these are all there may be");
    assert_eq!(error.to_string(), "there are 1000 watchers, as many as there may be");
    wire.replica(0).unwatch(ids[500]);
    wire.replica(0).watch(watch).expect("one has gone");
    assert_ne!(wire.publisher.cursor().revision, Revision::new(1));
}
