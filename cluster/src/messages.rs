//! Messages between workers, and between them and the primary.

use cluster_ipc::session::Config;
use cluster_ipc::tokio::Endpoint;
use cluster_ipc::{Connection, Socket, switch};
use cluster_supervisor::{Supervisor, WorkerId, WorkerState, WorkerView};
use std::os::fd::OwnedFd;

use crate::Result;
use crate::clock::now;

/// What a process sends messages with and has handlers for them on: [`Worker::messages`](crate::Worker::messages),
/// [`Handle::messages`](crate::Handle::messages).
///
/// A message is any serde type with a name: [`Message`](crate::Message), and [`Request`](crate::Request) if it is answered. Each goes to the
/// primary, to a worker by its id or slot, or to all others; descriptors (open sockets and files) may go with it.
///
/// ```no_run
/// use cluster::{Cluster, Message, Peer, Request, Role, To};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Greeting(String);
/// impl Message for Greeting {
///     const NAME: &'static str = "greeting";
/// }
///
/// #[derive(Serialize, Deserialize)]
/// struct Square(u64);
/// impl Message for Square {
///     const NAME: &'static str = "square";
/// }
/// impl Request for Square {
///     type Reply = u64;
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> cluster::Result<()> {
/// match Cluster::builder().workers(2).role()? {
///     Role::Primary(primary) => {
///         primary.handle().messages().on(|letter: cluster::Letter<Greeting>| {
///             println!("{} says {}", letter.from, letter.message.0);
///         });
///         primary.run().await
///     }
///     Role::Worker(worker) => {
///         let messages = worker.messages();
///         messages.answer(async |letter: cluster::Letter<Square>| {
///             letter.message.0.checked_mul(letter.message.0).ok_or_else(|| "too large".to_owned())
///         });
///         worker.ready().await;
///         messages.send(To::Primary, &Greeting("hello".to_owned())).await?;
///         if worker.slot() == 0 {
///             assert_eq!(messages.request(To::Slot(1), &Square(7)).await?, 49);
///         }
///         worker.draining().await;
///         Ok(())
///     }
/// }
/// # }
/// ```
pub type Messages = switch::Port<WorkerId>;

/// Who sent something.
pub type Peer = switch::Peer<WorkerId>;

/// Whom something is for.
pub type To = switch::To<WorkerId>;

/// A message as it arrives: who sent it, when, what it says, and the descriptors that came with it.
pub type Letter<M> = switch::Letter<M, WorkerId>;

/// Messages of one type, one after the other: [`Messages::stream`](switch::Port::stream).
pub type Letters<M> = switch::Letters<M, WorkerId>;

/// What became of a broadcast.
pub type Reached = switch::Reached<WorkerId>;

/// Spreads tasks over the workers, in the primary.
pub(crate) type Pool = cluster_tasks::Pool<WorkerId>;

/// What a process submits and runs tasks by.
pub(crate) type Desk = cluster_tasks::Desk<WorkerId>;

/// What connects all workers, in the primary.
pub(crate) type Switch = switch::Switch<WorkerId>;

/// A worker serves no more: what is for its slot goes to whoever does beside it, as the predecessor of one that is no good.
pub(crate) fn hand_back(switch: &Switch, supervisor: &Supervisor, id: WorkerId) {
    let slot = id.slot();
    let is_next =
        |view: &WorkerView| view.id().slot() == slot && view.id() != id && view.state() == WorkerState::Ready;
    if switch.holder(slot).is_none_or(|holder| holder == id)
        && let Some(next) = supervisor.workers().find(is_next)
    {
        switch.assign(slot, next.id());
    }
}

/// What one side may ask for that is not answered yet.
const REQUESTS: u32 = 256;

fn config() -> Config {
    Config::new().max_requests(REQUESTS)
}

/// The primary's end of a connection to a worker, whose end is watched too, by what becomes readable then.
pub(crate) fn primary_end(socket: Socket, end: OwnedFd) -> Result<Endpoint> {
    let connection = Connection::parent(socket, config(), &[], Vec::new(), now());
    Ok(Endpoint::new(connection.with_process(end))?)
}

/// The worker's end.
pub(crate) fn worker_end(socket: Socket) -> Result<Endpoint> {
    Ok(Endpoint::new(Connection::child(socket, config(), &[], now()))?)
}
