//! Faults that were found, by the simulator or by looking for limits.
#![allow(clippy::expect_used, clippy::disallowed_methods, reason = "a test may panic, and begins some time")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use cluster_shared_state::{
    ClientId, Command, Commit, Cursor, Entry, Epoch, Key, KeyRange, Limits, Notice, PublisherConfig, Put,
    ReplicaConfig, Revision, Start, Store, Watch, WatchLimits, Watchers, differences,
};
use common::wire::{End, Wire};

type State = BTreeMap<Key, Entry>;

/// The commits of a store, one for each command, and the state after each of them.
fn history(epoch: Epoch, commands: impl IntoIterator<Item = Command>) -> Vec<(Arc<Commit>, State)> {
    let mut store = Store::new(epoch, Limits::new());
    let now = Instant::now();
    let mut all = Vec::new();
    for command in commands {
        store.execute(ClientId::PRIMARY, command, now).expect("it is allowed");
        let commit = store.poll_commit().expect("it changes something");
        let state = store.range(&KeyRange::All).map(|(key, entry)| (key.clone(), entry.clone())).collect();
        all.push((commit, state));
    }
    all
}

const fn at(epoch: u64, revision: u64) -> Cursor {
    Cursor::new(Epoch::new(epoch), Revision::new(revision))
}

/// A replica at revision 1 gets a snapshot of 4; its watcher had seen 3 elsewhere, where there was a key that is
/// neither in the one nor in the other.
#[test]
fn a_watcher_ahead_of_its_replica_is_told_of_the_gap_that_a_snapshot_leaves() {
    let commands: [Command; 4] = [
        Put::new("a", "1").into(),
        Put::new("b", "1").into(),
        Put::new("a", "2").into(),
        Command::delete("b").into(),
    ];
    let history = history(Epoch::new(1), commands);
    let ((_, first), (_, last)) = (&history[0], &history[3]);
    let mut watchers = Watchers::new(at(1, 1), WatchLimits::new());
    let watch = |after| Watch::new(KeyRange::All).start(Start::After(at(1, after)));
    let ahead = watchers.watch(watch(3)).expect("there is room");
    let just_there = watchers.watch(watch(4)).expect("there is room");
    let here = watchers.watch(watch(1)).expect("there is room");
    watchers.handle_replaced(at(1, 4), differences(first, Some(at(1, 1)), last, at(1, 4)));
    assert_eq!(watchers.next(ahead, last), Some(Notice::Gap { oldest: Revision::new(5) }));
    assert!(
        matches!(watchers.next(ahead, last), Some(Notice::Present { entries, .. }) if entries.len() == 1)
    );
    assert_eq!(watchers.next(just_there, last), None, "it has seen exactly that");
    assert!(matches!(watchers.next(here, last), Some(Notice::Resynchronised { .. })));
}

/// What a watcher is told last says where it is, also if the last of several replacements changed nothing.
#[test]
fn merged_changes_are_as_of_the_state_that_replaced_the_others() {
    let full = history(Epoch::new(1), [Put::new("a", "1").into(), Put::new("b", "1").into()]);
    let ((_, state), empty) = (&full[1], State::new());
    let mut watchers = Watchers::new(at(1, 0), WatchLimits::new());
    let id = watchers.watch(Watch::new(KeyRange::All).capacity(1)).expect("there is room");
    full.iter().for_each(|(commit, _)| watchers.handle_commit(commit));
    watchers.handle_replaced(at(2, 0), differences(state, Some(at(1, 2)), &empty, at(2, 0)));
    watchers.handle_commit(&history(Epoch::new(2), [Put::new("c", "1").into()])[0].0);
    let state = &history(Epoch::new(2), [Put::new("c", "1").into()])[0].1;
    // Nothing is different but the epoch.
    watchers.handle_replaced(at(3, 1), differences(state, Some(at(2, 1)), state, at(3, 1)));
    assert!(matches!(watchers.next(id, state), Some(Notice::Resynchronised { to, .. }) if to == at(3, 1)));
    let Some(Notice::Changes(batch)) = watchers.next(id, state) else { panic!("there are some") };
    assert_eq!(batch.last, at(3, 1));
}

/// Between any two messages to it there is another write: Live does not wait until there is none.
#[test]
fn a_replica_becomes_live_however_much_is_written() {
    for snapshot in [true, false] {
        let mut wire = Wire::new(PublisherConfig::new().chunk_bytes(100), 1);
        wire.connect(0);
        wire.settle();
        wire.disconnect(0);
        (0..100).for_each(|number| drop(wire.put(&format!("key/{number:03}"), "value")));
        if snapshot {
            wire.ends[0] = End::new(ClientId::new(0, 2), ReplicaConfig::new());
        }
        wire.connect(0);
        let request = wire.replica(0).submit(Command::put("mine", "1")).expect("it is the first");
        for round in 0.. {
            assert!(round < 2000, "it never becomes live");
            wire.say(0, 9);
            wire.hear(0, 9);
            wire.put("other", &round.to_string());
            wire.send(0, 1);
            wire.read(0, 1, |_| ()).expect("it makes sense");
            if wire.ends[0].completion(request).is_some() {
                break;
            }
        }
        assert!(wire.replica(0).is_live());
        wire.settle();
        wire.assert_equal();
    }
}
