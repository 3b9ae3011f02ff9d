//! A key-value map that one thread writes and many threads read without ever waiting.
//!
//! ```text
//!   Writer ── set, commit, publish ──────┐  (changes both halves, then publishes)
//!          ── replace(staged) ───────────┤
//!                                        ▼
//!                 the state, one atomic pointer: epoch, revision
//!                   ├── points   hash tables, shared by all states of a generation
//!                   └── ordered  a search tree, and how much of a log of what was changed since it was made
//!                                        ▲
//!   Reader ── get, read: one key ────────┤
//!   Reader ── view: one state, for long ─┘   View ── get, read, prefix, range, iter
//! ```
//!
//! - A transaction becomes visible at once, whole: in views and in reads of single keys alike.
//! - Nobody sees an older revision after a newer one, whichever way he reads.
//! - Nobody waits: a reader not for the writer, the writer neither for a read nor for a [`View`] held for an hour.
//! - Reads of single keys and views allocate nothing (but for a little state on a thread's first read).
//! - Memory of old states is freed by the writer: a reader that lets go of a view never pays for it.
//!
//! # How a read is both fast and exact
//!
//! The hash tables are changed in place, so they run ahead of the published state for as long as a batch is being
//! applied. But every entry says at which revision it was written. A reader who is at revision R takes what the table
//! has if that is not newer than R: nothing was written to this key in between, so it is exact. If it is newer, he
//! asks log and tree of his own state, where nothing that he sees is changed. The same goes for a key that is not there: the table
//! remembers the newest revision that removed anything.
//!
//! Each of the 256 tables has a lock that both sides only try. A reader who does not get it asks the tree as well. If
//! the writer does not get it, the table is stale from that revision on, whoever is there asks the tree, and the
//! writer makes up for it when he publishes next. So the fallback is slower, never wrong, and seldom needed.
//!
//! # How a write is cheap although views stay as they are
//!
//! A write appends to a log that all states since the tree was made share: a state is a tree and a length. Once there are
//! some hundred changes, the tree is made anew with all of them together; the nodes that none of them concerns, it
//! shares with the former one. Who goes through a view sees tree and log merged; while somebody does, the writer keeps the
//! log in order.
//!
//! # Example
//!
//! ```
//! use cluster_shared_state::map::Writer;
//! use cluster_shared_state::{Cursor, Entry, Epoch, Key, Revision, State};
//!
//! let entry = |value: &'static str, at| Some(Entry::new(value, Revision::new(at)));
//! let (anna, bert) = (Key::from("account/anna"), Key::from("account/bert"));
//! let (mut writer, reader) = Writer::new();
//! let epoch = Epoch::new(7);
//! writer.set(&anna, entry("100", 1));
//! writer.set(&bert, entry("0", 1));
//! writer.commit(Cursor::new(epoch, Revision::new(1)));
//! writer.publish();
//!
//! let before = reader.view();
//! writer.set(&anna, entry("40", 2));
//! writer.set(&bert, entry("60", 2));
//! writer.commit(Cursor::new(epoch, Revision::new(2)));
//! writer.publish();
//!
//! // The view stays at its revision; the reader sees the newest.
//! assert_eq!(before.get("account/bert").unwrap().value, "0");
//! assert_eq!(reader.get(b"account/bert").unwrap().value, "60");
//! assert_eq!(reader.view().prefix(b"account/").count(), 2);
//! ```

mod log;
mod newest;
mod points;
mod range;
mod reader;
mod reclaim;
mod state;
mod tree;
mod view;
mod writer;

use std::sync::Arc;

use crate::Entry;

pub use newest::Newest;
pub use reader::Reader;
pub use reclaim::Garbage;
pub use view::{Range, View};
pub use writer::Writer;

/// What is under a key, shared with the map: it stays as it is whatever happens there.
pub type Held = Arc<Entry>;
