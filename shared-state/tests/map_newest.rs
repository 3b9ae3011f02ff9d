//! Readers that can tell whether there is something newer than what they see.
#![cfg(feature = "map")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cluster_shared_state::map::{Newest, Writer};
use cluster_shared_state::{Cursor, Entry, Epoch, Key, Revision, State};

#[derive(Debug, Default)]
struct Elsewhere(AtomicU64);

impl Newest for Elsewhere {
    fn newest(&self) -> Revision {
        Revision::new(self.0.load(Ordering::Relaxed))
    }
}

fn write(writer: &mut Writer, at: u64) {
    writer.set(&Key::from("key"), Some(Entry::new(at.to_string(), Revision::new(at))));
    writer.commit(Cursor::new(Epoch::new(1), Revision::new(at)));
}

#[test]
fn a_reader_is_told_when_its_state_is_outdated_and_only_while_somebody_knows() {
    let (mut writer, reader) = Writer::new();
    let elsewhere = Arc::<Elsewhere>::default();
    let seen = || reader.get_newest(b"key").map(|held| held.map(|entry| entry.modified.get()));
    write(&mut writer, 1);
    writer.publish();
    elsewhere.0.store(2, Ordering::Relaxed);
    assert_eq!(seen(), Some(Some(1)), "nobody knows better");

    writer.set_newest(Some(Arc::clone(&elsewhere) as Arc<dyn Newest>));
    assert_eq!(seen(), Some(Some(1)), "not before it is published");
    writer.publish();
    assert_eq!((seen(), reader.view().is_outdated()), (None, true));
    assert_eq!(reader.get(b"key").unwrap().modified.get(), 1, "it can be read nevertheless");
    let old = reader.view();
    write(&mut writer, 2);
    writer.publish();
    assert_eq!((seen(), reader.view().is_outdated(), old.is_outdated()), (Some(Some(2)), false, true));

    elsewhere.0.store(9, Ordering::Relaxed);
    writer.set_newest(None);
    writer.publish();
    assert_eq!((seen(), reader.view().is_outdated()), (Some(Some(2)), false));
}

#[test]
fn in_the_middle_of_a_commit_nothing_of_it_is_shown() {
    let (mut writer, reader) = Writer::new();
    write(&mut writer, 1);
    writer.publish();
    writer.set(&Key::from("other"), Some(Entry::new("half", Revision::new(2))));
    writer.set_newest(Some(Arc::<Elsewhere>::default()));
    writer.publish();
    assert!(reader.get(b"other").is_none() && reader.view().len() == 1);
    writer.commit(Cursor::new(Epoch::new(1), Revision::new(2)));
    writer.publish();
    assert!(reader.get(b"other").is_some());
}
