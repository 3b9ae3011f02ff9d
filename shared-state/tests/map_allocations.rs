//! What reads allocate: nothing.
#![cfg(feature = "map")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::thread;

use allocation_counter::measure;
use cluster_shared_state::map::{Reader, Writer};
use cluster_shared_state::{Cursor, Entry, Epoch, Key, KeyRange, Revision, State};

fn key(index: u64) -> Key {
    Key::from(format!("key/{index:06}"))
}

fn put(writer: &mut Writer, index: u64, revision: u64) {
    writer.set(&key(index), Some(Entry::new(vec![7; 64], Revision::new(revision))));
}

fn publish(writer: &mut Writer, revision: u64) {
    writer.commit(Cursor::new(Epoch::new(1), Revision::new(revision)));
    writer.publish();
}

fn filled() -> (Writer, Reader) {
    let (mut writer, reader) = Writer::new();
    (0..10_000).for_each(|index| put(&mut writer, index, 1));
    publish(&mut writer, 1);
    (writer, reader)
}

fn reads_allocate_nothing(reader: &Reader, rounds: u64) {
    // A thread's first read sets up what arc-swap keeps for each thread.
    assert_ne!(reader.cursor().revision, Revision::ZERO);
    for round in 0..rounds {
        let keys: Vec<_> = (0..100).map(|index| key((round * 100 + index) % 11_000)).collect();
        let mut found = 0;
        let used = measure(|| {
            for key in &keys {
                found += reader.get(key).map_or(0, |entry| entry.value.len());
                found += reader.read(key, |entry| usize::from(entry.is_some()));
            }
            let view = reader.view();
            for key in &keys {
                found += usize::from(view.get(key).is_some());
            }
            found += usize::from(view.cursor() != reader.cursor());
        });
        assert_eq!(used.count_total, 0, "{used:?}");
        // Nor do readers free what the writer discarded. (`get` may: the entry that it gave out.)
        let used = measure(|| {
            for key in &keys {
                found += reader.read(key, |entry| usize::from(entry.is_some()));
                found += reader.view().len();
            }
        });
        assert_eq!((used.count_total, used.count_current), (0, 0), "{used:?}");
        assert!(found > 0);
    }
}

#[test]
fn reads_of_a_quiet_map_allocate_nothing() {
    let (_writer, reader) = filled();
    reads_allocate_nothing(&reader, 100);
}

#[test]
fn reads_allocate_nothing_while_a_writer_writes() {
    let (mut writer, reader) = filled();
    thread::scope(|scope| {
        let reading = scope.spawn(|| reads_allocate_nothing(&reader, 1_000));
        let mut revision = 1;
        while !reading.is_finished() {
            revision += 1;
            for index in 0..100 {
                match index % 3 {
                    0 => drop(writer.set(&key((revision * 31 + index) % 10_000), None)),
                    _ => put(&mut writer, (revision * 17 + index) % 10_000, revision),
                }
            }
            publish(&mut writer, revision);
            if revision % 64 == 0 {
                let mut staged = writer.staging();
                (0..10_000).for_each(|index| put(&mut staged, index, revision));
                writer.replace(staged, Cursor::new(Epoch::new(1), Revision::new(revision)));
            }
        }
        reading.join().unwrap();
    });
}

#[test]
fn a_scan_allocates_no_more_than_its_stack() {
    let (_writer, reader) = filled();
    let (view, range) = (reader.view(), KeyRange::prefix("key/0001"));
    let used = measure(|| assert_eq!(view.prefix(b"key/0001").count(), 100));
    assert!(used.count_total <= 2, "{used:?}");
    let used = measure(|| assert_eq!(view.range(&range).count(), 100));
    assert!(used.count_total <= 2, "{used:?}");
}

/// What was overwritten is kept for a while, for views, but not much of it.
#[test]
fn a_long_value_that_is_overwritten_again_and_again_takes_a_few_megabytes() {
    let (mut writer, _reader) = Writer::new();
    let at = |revision| Cursor::new(Epoch::new(1), Revision::new(revision));
    for key in 0..10_000 {
        writer.set(&Key::from(format!("{key:05}")), Some(Entry::new("short", Revision::new(1))));
    }
    writer.commit(at(1));
    writer.publish();
    let long = Key::from("05000");
    let used = measure(|| {
        for revision in 2..2000 {
            writer.set(&long, Some(Entry::new(vec![7; 64 << 10], Revision::new(revision))));
            writer.commit(at(revision));
            writer.publish();
        }
    });
    assert!(used.bytes_max < 8 << 20, "{} bytes at a time", used.bytes_max);
}
