//! What Node's own tests of its `cluster` state, on ours: one test for each of theirs, named after it. `docs/from-node.md` has the table.

pub(crate) mod datagrams;
pub(crate) mod given_up;
pub(crate) mod listening;
pub(crate) mod messages;
pub(crate) mod processes;
pub(crate) mod puppet;
pub(crate) mod table;
