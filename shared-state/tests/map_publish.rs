//! What readers see of a publication, a replacement and a new epoch, one after the other.
#![cfg(feature = "map")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use cluster_shared_state::map::{Reader, Writer};
use cluster_shared_state::{Cursor, Entry, Epoch, Key, Revision, State};

fn at(epoch: u64, revision: u64) -> Cursor {
    Cursor::new(Epoch::new(epoch), Revision::new(revision))
}

fn put(writer: &mut Writer, key: &'static str, revision: u64) {
    let entry = Entry::new(format!("{key} at {revision}"), Revision::new(revision));
    writer.set(&Key::from_static(key), Some(entry));
}

fn delete(writer: &mut Writer, key: &'static str) {
    writer.set(&Key::from_static(key), None);
}

/// What is under a key, by all ways there are; they must agree.
fn seen(reader: &Reader, key: &str) -> Option<String> {
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
    let view = reader.view();
    let read = reader.get(key.as_bytes()).map(|entry| text(&entry.value));
    assert_eq!(view.get(key).map(|entry| text(&entry.value)), read, "a view and a read of one key");
    let found = view.prefix(key.as_bytes()).find(|(found, _)| found[..] == *key.as_bytes());
    assert_eq!(found.map(|(_, entry)| text(&entry.value)), read, "a scan and a read of one key");
    read
}

#[test]
fn a_state_of_the_same_revision_takes_the_place_of_what_was_there() {
    let (mut writer, reader) = Writer::new();
    put(&mut writer, "old", 1);
    writer.commit(at(7, 1));
    writer.publish();
    let before = reader.view();
    let mut staged = writer.staging();
    put(&mut staged, "new", 1);
    writer.replace(staged, at(7, 1));
    assert_eq!(seen(&reader, "new").as_deref(), Some("new at 1"), "it is what the state is now");
    assert_eq!(seen(&reader, "old"), None);
    assert!(before.get("old").is_some() && before.get("new").is_none(), "a view stays as it is");
    delete(&mut writer, "new");
    writer.commit(at(7, 2));
    writer.publish();
    assert_eq!(seen(&reader, "new"), None);
}

#[test]
fn nobody_sees_what_is_not_committed_yet() {
    let (mut writer, reader) = Writer::new();
    put(&mut writer, "a", 1);
    writer.commit(at(7, 1));
    put(&mut writer, "b", 2);
    // One commit is whole, the next is not.
    writer.publish();
    assert_eq!(seen(&reader, "b"), None, "a part of a transaction");
    delete(&mut writer, "a");
    writer.publish();
    assert_eq!((reader.view().get("a").is_some(), seen(&reader, "b")), (seen(&reader, "a").is_some(), None));
    writer.commit(at(7, 2));
    writer.publish();
    assert_eq!((seen(&reader, "a"), seen(&reader, "b").as_deref()), (None, Some("b at 2")));
}

#[test]
fn a_new_epoch_may_begin_at_any_revision() {
    for revision in [0, 1, 4, 5, 6, 100] {
        let (mut writer, reader) = Writer::new();
        put(&mut writer, "gone", 4);
        put(&mut writer, "kept", 4);
        writer.commit(at(7, 4));
        delete(&mut writer, "gone");
        writer.commit(at(7, 5));
        writer.publish();
        let before = reader.view();
        let mut staged = writer.staging();
        put(&mut staged, "new", revision);
        put(&mut staged, "kept", revision);
        // As a delta does that comes while a snapshot is under way.
        put(&mut staged, "short", revision);
        delete(&mut staged, "short");
        writer.replace(staged, at(8, revision));
        assert_eq!(reader.cursor(), at(8, revision));
        assert_eq!(seen(&reader, "kept"), Some(format!("kept at {revision}")));
        assert_eq!((seen(&reader, "short"), seen(&reader, "gone")), (None, None));
        delete(&mut writer, "kept");
        put(&mut writer, "gone", revision + 1);
        assert_eq!(seen(&reader, "kept"), Some(format!("kept at {revision}")), "not published yet");
        writer.commit(at(8, revision + 1));
        writer.publish();
        assert_eq!(seen(&reader, "kept"), None);
        assert_eq!(seen(&reader, "gone"), Some(format!("gone at {}", revision + 1)));
        assert_eq!(before.get("kept").unwrap().value, "kept at 4");
        assert!(before.get("gone").is_none() && before.get("new").is_none());
    }
}

/// A replica that joins in the middle: revisions before the first commit were other people's.
#[test]
fn the_first_commit_may_be_of_any_revision() {
    let (mut writer, reader) = Writer::new();
    put(&mut writer, "a", 1000);
    put(&mut writer, "b", 1000);
    delete(&mut writer, "b");
    assert_eq!(seen(&reader, "a"), None);
    writer.commit(at(7, 1000));
    assert_eq!(seen(&reader, "a"), None);
    writer.publish();
    assert_eq!((seen(&reader, "a").is_some(), seen(&reader, "b")), (true, None));
}

#[test]
fn a_read_under_way_keeps_its_entry_while_all_is_replaced() {
    let (mut writer, reader) = Writer::new();
    put(&mut writer, "a", 1);
    writer.commit(at(7, 1));
    writer.publish();
    reader.read(b"a", |entry| {
        // Its table is in use, so what is written meanwhile is missing there.
        put(&mut writer, "a", 2);
        writer.commit(at(7, 2));
        writer.publish();
        assert_eq!(seen(&reader, "a").as_deref(), Some("a at 2"));
        delete(&mut writer, "a");
        writer.commit(at(7, 3));
        writer.publish();
        assert_eq!(seen(&reader, "a"), None);
        let mut staged = writer.staging();
        put(&mut staged, "a", 2);
        writer.replace(staged, at(8, 2));
        assert_eq!(seen(&reader, "a").as_deref(), Some("a at 2"));
        assert_eq!(entry.unwrap().value, "a at 1");
    });
    assert_eq!(writer.reclaim(), 0);
}
