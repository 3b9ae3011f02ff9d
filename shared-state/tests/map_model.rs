//! Random operations against a `BTreeMap`: the newest state, and every view that is still held.
//!
//! `CLUSTER_TEST_SEED` repeats a run, `CLUSTER_TEST_LONG=1` makes it a hundred times as long.
#![cfg(feature = "map")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says its seed")]

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;
use std::time::Duration;

use cluster_shared_state::map::{Reader, View, Writer};
use cluster_shared_state::{Cursor, Entry, Epoch, Key, KeyRange, Revision, State, View as _};

type Model = BTreeMap<Key, Entry>;

const KEYS: u64 = 60;
const STEPS: usize = 200;
const SEEDS: u64 = 20;

/// Short and long keys, some of them prefixes of others, one of them empty.
fn key(index: u64) -> Key {
    match index % 4 {
        0 => Key::from(format!("a/{}", index / 4)),
        1 => Key::from(vec![b'a'; index as usize / 4]),
        2 => Key::from(format!("b/{index:0>50}")),
        _ => Key::from(vec![0xff, index as u8]),
    }
}

struct Run {
    rng: fastrand::Rng,
    writer: Writer,
    reader: Reader,
    cursor: Cursor,
    model: Model,
    /// What readers see.
    published: (Cursor, Model),
    held: Vec<(View, Cursor, Model)>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let (writer, reader) = Writer::new();
        let (cursor, model) = (writer.cursor(), Model::new());
        let (rng, published) = (fastrand::Rng::with_seed(seed), (cursor, model.clone()));
        Self { rng, writer, reader, cursor, model, published, held: Vec::new() }
    }

    fn key(&mut self) -> Key {
        key(self.rng.u64(..KEYS))
    }

    fn range(&mut self) -> KeyRange {
        let (one, other) = (self.key(), self.key());
        match self.rng.u8(..4) {
            0 => KeyRange::Key(one),
            1 => KeyRange::All,
            2 => KeyRange::prefix(&one[..self.rng.usize(..=one.len())]),
            _ => KeyRange::Between(one, other),
        }
    }

    fn step(&mut self) {
        match self.rng.u8(..12) {
            0 => self.replace(),
            1 => {
                // A staged state that comes to nothing.
                let mut staged = self.writer.staging();
                staged.set(&self.key(), Some(Entry::new("lost", Revision::new(1))));
            }
            2 => {
                // Somebody is in the middle of a read, so one of the tables cannot be changed.
                let (reader, key) = (self.reader.clone(), self.key());
                reader.read(&key, |entry| {
                    let before = entry.map(|entry| Entry::clone(entry));
                    (0..self.rng.u8(1..4)).for_each(|_| self.write());
                    if self.rng.u8(..4) == 0 {
                        self.replace();
                    }
                    assert_eq!(entry.map(|entry| &**entry), before.as_ref(), "what a read shows stays");
                    self.check();
                });
            }
            _ => self.write(),
        }
    }

    /// Some commits, and perhaps their publication.
    fn write(&mut self) {
        for _ in 0..self.rng.u8(1..4) {
            let revision = self.cursor.revision.next();
            let changes = self.rng.u8(..6);
            for _ in 0..changes {
                let (key, entry) = self.change(revision);
                let previous = self.writer.set(&key, entry.clone());
                let expected = match entry {
                    Some(entry) => self.model.insert(key, entry),
                    None => self.model.remove(&key),
                };
                assert_eq!(previous, expected, "what was there before");
            }
            if changes > 0 && self.rng.u8(..8) == 0 {
                // Too early: nobody may see it.
                self.writer.publish();
                self.check_readers();
            }
            self.cursor = Cursor::new(self.cursor.epoch, revision);
            self.writer.commit(self.cursor);
            self.check_readers();
        }
        if self.rng.u8(..4) > 0 {
            self.writer.publish();
            self.published = (self.cursor, self.model.clone());
        }
    }

    fn change(&mut self, revision: Revision) -> (Key, Option<Entry>) {
        let key = self.key();
        if self.rng.u8(..3) == 0 {
            return (key, None);
        }
        let mut entry = Entry::new(self.rng.u64(..).to_be_bytes().to_vec(), revision);
        if let Some(old) = self.model.get(&key) {
            (entry.created, entry.version) = (old.created, old.version + 1);
        }
        entry.ttl = self.rng.bool().then(|| Duration::from_millis(self.rng.u64(..)));
        (key, Some(entry))
    }

    /// By a state of the same epoch or of a new one, where revisions may start anywhere again.
    fn replace(&mut self) {
        let revision = self.cursor.revision.get();
        self.cursor = if self.rng.bool() {
            Cursor::new(self.cursor.epoch, Revision::new(revision + self.rng.u64(..3)))
        } else {
            let epoch = Epoch::new(self.cursor.epoch.get() + 1);
            let anywhere =
                [0, revision / 2, revision.saturating_sub(1), revision, revision + 1, revision * 2];
            Cursor::new(epoch, Revision::new(*self.rng.choice(&anywhere).unwrap()))
        };
        let mut staged = self.writer.staging();
        let keeps = self.rng.u8(..4);
        self.model.retain(|_, _| self.rng.u8(..4) < keeps);
        for (key, entry) in &mut self.model {
            // No entry is newer than the state it is in.
            entry.modified = entry.modified.min(self.cursor.revision);
            staged.set(key, Some(entry.clone()));
        }
        // Deltas that came while the snapshot did.
        for _ in 0..self.rng.u8(..20) {
            let (key, entry) = self.change(self.cursor.revision);
            staged.set(&key, entry.clone());
            match entry {
                Some(entry) => drop(self.model.insert(key, entry)),
                None => drop(self.model.remove(&key)),
            }
        }
        self.check_readers();
        self.writer.replace(staged, self.cursor);
        self.published = (self.cursor, self.model.clone());
    }

    fn check(&mut self) {
        assert_eq!(self.writer.cursor(), self.cursor);
        assert_eq!(self.writer.len(), self.model.len());
        for index in 0..KEYS {
            let key = key(index);
            assert_eq!(self.writer.get(&key), self.model.get(&key).cloned(), "the writer's {key:?}");
        }
        let range = self.range();
        let (mut here, mut there) = (Vec::new(), Vec::new());
        self.writer.visit(&range, &mut |key, entry| {
            here.push((key.clone(), entry.clone()));
            true
        });
        self.model.visit(&range, &mut |key, entry| {
            there.push((key.clone(), entry.clone()));
            true
        });
        assert_eq!(here, there, "{range:?}");
        self.check_readers();
        let view = self.reader.view();
        self.agrees(&view, &self.published.1.clone());
    }

    fn check_readers(&self) {
        let (cursor, model) = &self.published;
        assert_eq!(self.reader.cursor(), *cursor);
        for index in 0..KEYS {
            let key = key(index);
            assert_eq!(self.reader.get(&key).map(Arc::unwrap_or_clone), model.get(&key).cloned(), "{key:?}");
        }
    }

    fn check_held(&mut self) {
        if self.rng.u8(..4) == 0 {
            self.held.push((self.reader.view(), self.published.0, self.published.1.clone()));
        }
        if self.rng.u8(..5) == 0 && !self.held.is_empty() {
            self.held.swap_remove(self.rng.usize(..self.held.len()));
        }
        let held = std::mem::take(&mut self.held);
        for (view, cursor, model) in &held {
            assert_eq!(view.cursor(), *cursor);
            self.agrees(view, model);
        }
        self.held = held;
    }

    fn agrees(&mut self, view: &View, model: &Model) {
        assert_eq!(view.len(), model.len());
        assert!(view.iter().map(|(key, entry)| (key, &**entry)).eq(model), "everything, in order");
        for index in 0..KEYS {
            let key = key(index);
            assert_eq!(view.get(&key).map(Arc::unwrap_or_clone), model.get(&key).cloned(), "{key:?}");
        }
        let range = self.range();
        let expected = model.keys().filter(|key| range.contains(key));
        assert!(view.range(&range).map(|(key, _)| key).eq(expected), "{range:?}");
        let prefix = self.key();
        let prefix = &prefix[..self.rng.usize(..=prefix.len())];
        let expected = model.keys().filter(|key| key.starts_with(prefix));
        assert!(view.prefix(prefix).map(|(key, _)| key).eq(expected), "{}", prefix.escape_ascii());
    }
}

fn run(seed: u64) {
    println!("CLUSTER_TEST_SEED={seed}");
    let mut run = Run::new(seed);
    for _ in 0..STEPS {
        run.step();
        run.check();
        run.check_held();
    }
    run.held.clear();
    assert_eq!(run.writer.reclaim(), 0, "nothing is kept that nobody views");
}

#[test]
fn any_sequence_of_writes_reads_like_a_btreemap() {
    if let Some(seed) = env::var("CLUSTER_TEST_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return run(seed);
    }
    let is_long = env::var_os("CLUSTER_TEST_LONG").is_some_and(|long| long == "1");
    (0..if is_long { SEEDS * 100 } else { SEEDS }).for_each(run);
}
