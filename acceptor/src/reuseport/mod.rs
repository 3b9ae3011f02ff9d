//! One listening socket per worker slot on one address, and which of them get the new connections.
//!
//! The primary binds all sockets (SO_REUSEPORT) and keeps them open; workers get copies. So a crash loses nothing:
//! what the kernel has queued on a socket waits there for the slot's next worker. But the kernel would go on queueing
//! there, so [`Group::steer`] says which slots get new connections, and takes out those whose worker died, hangs,
//! backs off or retires.
//!
//! # What steering does and does not do
//!
//! It decides where a *SYN* goes. The first three were tried (Linux 6.18, the tests of [`group`]), the last is read in
//! the kernel's source:
//!
//! * What is queued on a socket stays there and can be accepted.
//! * A handshake under way (SYN_RECV) belongs to the socket that got its SYN. When that one is steered away, the
//!   handshake still ends in *its* queue, so connections go on arriving there for a round trip, or longer when
//!   packets are lost. Who retires a slot without a successor has to wait and accept to EAGAIN before it lets go.
//! * When the socket is closed instead, the client of such a handshake is reset, like those in the queue (unless
//!   `net.ipv4.tcp_migrate_req` is on, which needs root and is off by default).
//! * With SYN cookies (the SYN queue was full) the last packet of the handshake chooses again, by the program of then.

mod group;
mod program;

pub(crate) use self::group::{Group, Steering};
