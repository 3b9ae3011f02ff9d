//! The implementations that the suite runs against.

mod blocking;
mod polled;
mod tokio;

pub(crate) use self::blocking::Blocking;
pub(crate) use self::polled::{Memory, Mio};
pub(crate) use self::tokio::Tokio;

use std::time::Instant;

use cluster_ipc::{Connection, Socket};

use crate::end::Setup;
use crate::stranger::Stranger;

fn parent_of(socket: Socket, setup: Setup) -> Connection {
    let now = Instant::now();
    let mut parent = Connection::parent(socket, setup.config, &setup.greeting, setup.descriptors, now);
    // As `Spawn` does: the Welcome is there before the child is.
    parent.flush(now);
    parent
}

fn child_of(socket: Socket, setup: Setup) -> Connection {
    assert!(setup.descriptors.is_empty(), "only a parent has descriptors in its handshake");
    Connection::child(socket, setup.config, &setup.greeting, Instant::now())
}

fn pair_of(parent: Setup, child: Setup) -> (Connection, Connection) {
    let (one, other) = Socket::pair().unwrap();
    (parent_of(one, parent), child_of(other, child))
}

fn parent_and_stranger(setup: Setup) -> (Connection, Stranger) {
    let (one, other) = Socket::pair().unwrap();
    (parent_of(one, setup), Stranger::new(other))
}

fn child_and_stranger(setup: Setup) -> (Connection, Stranger) {
    let (one, other) = Socket::pair().unwrap();
    (child_of(one, setup), Stranger::new(other))
}
