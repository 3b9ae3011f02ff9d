//! How a child says that it is ready: datagrams as to systemd ([`NotifySocket`]), or a line on a descriptor
//! ([`ReadyPipe`]).

mod ancestry;
mod fields;
mod ready_pipe;
mod socket;

pub use self::fields::Field;
pub use self::ready_pipe::{Readiness, ReadyPipe};
pub use self::socket::{Notification, NotifySocket, Senders};
