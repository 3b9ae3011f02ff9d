//! Handles dropped in any order, and what becomes of memory.
#![cfg(feature = "map")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::collections::VecDeque;
use std::sync::mpsc;
use std::thread;

use cluster_shared_state::map::{Garbage, Held, Reader, View, Writer};
use cluster_shared_state::{Cursor, Entry, Epoch, Key, Revision, State};

fn key(index: u64) -> Key {
    Key::from(format!("key/{index:06}"))
}

fn at(epoch: u64, revision: u64) -> Cursor {
    Cursor::new(Epoch::new(epoch), Revision::new(revision))
}

fn put(writer: &mut Writer, index: u64, revision: u64) {
    writer.set(&key(index), Some(Entry::new(vec![1; 64], Revision::new(revision))));
}

fn publish(writer: &mut Writer, at: Cursor) {
    writer.commit(at);
    writer.publish();
}

fn filled(entries: u64) -> (Writer, Reader) {
    let (mut writer, reader) = Writer::new();
    let mut staged = writer.staging();
    (0..entries).for_each(|index| put(&mut staged, index, 1));
    writer.replace(staged, at(1, 1));
    (writer, reader)
}

#[test]
fn handles_are_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<Reader>();
    check::<View>();
    check::<Held>();
    fn send<T: Send>() {}
    send::<Writer>();
    send::<Garbage>();
}

#[test]
fn handles_may_be_dropped_in_any_order() {
    enum Handle {
        Writer(#[expect(dead_code, reason = "it is only dropped")] Box<Writer>),
        Reader(Reader),
        View(View),
        Entry(Held),
    }
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut writer, reader) = filled(50);
        let mut handles = vec![Handle::Reader(reader.clone()), Handle::View(reader.view())];
        for revision in 2..20 {
            for _ in 0..5 {
                match rng.u8(..3) {
                    0 => drop(writer.set(&key(rng.u64(..50)), None)),
                    _ => put(&mut writer, rng.u64(..50), revision),
                }
            }
            publish(&mut writer, at(1, revision));
            if revision == 10 {
                let staged = writer.staging();
                writer.replace(staged, at(1, 10));
            }
            handles.push(Handle::View(reader.view()));
            handles.extend(reader.get(&key(rng.u64(..50))).map(Handle::Entry));
        }
        handles.push(Handle::Writer(Box::new(writer)));
        handles.push(Handle::Reader(reader));
        rng.shuffle(&mut handles);
        while let Some(handle) = handles.pop() {
            drop(handle);
            // Whatever is left still reads.
            for handle in &handles {
                match handle {
                    Handle::Writer(_) => {}
                    Handle::Reader(reader) => assert_eq!(reader.cursor(), at(1, 19), "seed {seed}"),
                    Handle::View(view) => {
                        assert_eq!(view.iter().count(), view.len());
                        assert!(view.iter().all(|(key, entry)| view.get(key).as_ref() == Some(entry)));
                    }
                    Handle::Entry(entry) => assert!(!entry.value.is_empty()),
                }
            }
        }
    }
}

#[test]
fn a_replaced_state_goes_to_the_hook_once_its_last_view_is_gone() {
    let (mut writer, reader) = filled(10_000);
    let (sender, garbage) = mpsc::channel();
    writer.on_garbage(move |heavy| drop(sender.send(heavy)));
    let view = reader.view();
    let staged = writer.staging();
    writer.replace(staged, at(2, 1));
    put(&mut writer, 1, 2);
    publish(&mut writer, at(2, 2));
    assert!(garbage.try_recv().is_err(), "it is still viewed");
    assert_eq!(writer.reclaim(), 1);
    let freed = allocation_counter::measure(|| drop(view));
    assert_eq!((freed.count_total, freed.count_current), (0, 0), "a reader frees nothing");
    assert_eq!(writer.reclaim(), 0);
    let heavy = garbage.try_recv().expect("the former state");
    let freed = allocation_counter::measure(|| drop(heavy));
    // Of each key an entry and its value, and what holds them.
    assert!(freed.count_current < -20_000, "all of it: {freed:?}");
}

#[test]
fn who_has_garbage_freed_elsewhere_frees_next_to_nothing_himself() {
    let (mut writer, _reader) = filled(10_000);
    // As fast as another thread can be: it is done before the writer does anything else.
    writer.on_garbage(|heavy| {
        thread::scope(|scope| _ = scope.spawn(move || drop(heavy)));
    });
    let staged = writer.staging();
    let freed = allocation_counter::measure(|| writer.replace(staged, at(2, 1)));
    assert!(freed.count_current > -1_000, "the former state is freed by the hook: {freed:?}");
}

#[test]
fn a_view_that_was_dropped_is_freed_although_nobody_writes() {
    let (mut writer, reader) = filled(100);
    let view = reader.view();
    let staged = writer.staging();
    writer.replace(staged, at(2, 1));
    drop(view);
    let freed = allocation_counter::measure(|| writer.publish());
    assert!(freed.count_current < -200, "there was nothing new, but time for that: {freed:?}");
    assert_eq!(writer.reclaim(), 0);
}

#[test]
fn a_snapshot_that_came_to_nothing_is_garbage_too() {
    let (mut writer, _reader) = filled(10);
    let (sender, garbage) = mpsc::channel();
    writer.on_garbage(move |heavy| drop(sender.send(heavy)));
    let mut staged = writer.staging();
    (0..10_000).for_each(|index| put(&mut staged, index, 1));
    let freed = allocation_counter::measure(|| drop(staged));
    assert!(freed.count_current > -1_000, "the connection broke, and who reads must not wait: {freed:?}");
    assert!(garbage.try_recv().is_ok());
}

#[test]
fn memory_does_not_grow_with_the_number_of_revisions() {
    let (mut writer, reader) = filled(100);
    // A view taken at every revision, the newest ten kept: retired states come and go.
    let mut views = VecDeque::new();
    let mut turn = |from: u64, to: u64| {
        for revision in from..to {
            let (one, other) = (revision % 100, (revision * 7) % 100);
            writer.set(&key(one), None);
            put(&mut writer, other, revision);
            put(&mut writer, one, revision);
            publish(&mut writer, at(1, revision));
            views.push_back(reader.view());
            if views.len() > 10 {
                views.pop_front();
            }
        }
    };
    turn(2, 2_000);
    let used = allocation_counter::measure(|| turn(2_000, 15_000));
    assert!(used.count_current.abs() < 1_000, "{used:?}");
    drop(views);
    assert_eq!(writer.reclaim(), 0);
}

#[test]
fn a_map_outlives_its_writer_on_every_thread() {
    let (writer, reader) = filled(1_000);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let reader = reader.clone();
                scope.spawn(move || (0..1_000).filter(|index| reader.get(&key(*index)).is_some()).count())
            })
            .collect();
        drop(writer);
        drop(reader);
        for thread in threads {
            assert_eq!(thread.join().unwrap(), 1_000);
        }
    });
}
