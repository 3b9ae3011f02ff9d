//! Former states are freed on a thread of their own: a million entries take a good fraction of a second, and who
//! drives a replica holds its lock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;

use crate::map::Garbage;

/// Frees what it is given: on a thread that lives for as long as there is something, or here if none can be had.
#[derive(Debug, Default)]
pub(super) struct Disposal {
    heap: Arc<Mutex<Heap>>,
}

#[derive(Debug, Default)]
struct Heap {
    waiting: VecDeque<Garbage>,
    /// Whether there is a thread that will look again.
    is_worked_on: bool,
}

impl Disposal {
    pub(super) fn free(&self, garbage: Garbage) {
        let mut heap = self.heap.lock();
        heap.waiting.push_back(garbage);
        if heap.is_worked_on {
            return;
        }
        heap.is_worked_on = true;
        drop(heap);
        let shared = Arc::clone(&self.heap);
        // It may be a limit of the process or of the user; what cannot be put off is done at once.
        if thread::Builder::new().name("state-garbage".into()).spawn(move || work(&shared)).is_err() {
            work(&self.heap);
        }
    }
}

fn work(heap: &Mutex<Heap>) {
    loop {
        let mut locked = heap.lock();
        let Some(garbage) = locked.waiting.pop_front() else {
            locked.is_worked_on = false;
            return;
        };
        // Whoever has more need not wait.
        drop(locked);
        drop(garbage);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::map::Writer;
    use crate::{Cursor, Entry, Epoch, Key, Revision, State};

    /// A value that says on which thread it was freed.
    struct Told(Sender<Option<String>>);

    impl AsRef<[u8]> for Told {
        fn as_ref(&self) -> &[u8] {
            b"value"
        }
    }

    impl Drop for Told {
        fn drop(&mut self) {
            // Who listens no longer has heard enough.
            let _ = self.0.send(thread::current().name().map(str::to_owned));
        }
    }

    #[test]
    fn large_former_states_are_freed_on_a_thread_of_their_own() {
        let (told, freed) = channel();
        let (mut writer, reader) = Writer::new();
        let disposal = Disposal::default();
        writer.on_garbage(move |garbage| disposal.free(garbage));
        for epoch in 1..=3 {
            let mut staged = writer.staging();
            for index in 0..5000 {
                let value = Bytes::from_owner(Told(told.clone()));
                staged.set(&Key::from(format!("key/{index}")), Some(Entry::new(value, Revision::new(1))));
            }
            writer.replace(staged, Cursor::new(Epoch::new(epoch), Revision::new(1)));
        }
        for _ in 0..10_000 {
            let thread = freed.recv_timeout(Duration::from_secs(60)).unwrap();
            assert_eq!(thread.as_deref(), Some("state-garbage"));
        }
        assert_eq!(reader.view().len(), 5000);
        assert!(freed.try_recv().is_err(), "the newest state is not garbage");
    }
}
