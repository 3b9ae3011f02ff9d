//! A primary, which is this process, and workers, each a process of its own.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cluster_ipc::tokio::{Channel, Client, Endpoint, Receiver, Sender};
use cluster_ipc::{Frame, Kind, Socket, Spawn};
use cluster_shared_state::tokio::{Hub, ipc};
use cluster_shared_state::{ClientId, Epoch, Limits, PublisherConfig};
use tokio::task::JoinHandle;

use crate::Result;
use crate::order::{Order, Setup, VALUE, key};

/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Team {
    hub: Hub,
    ring: ipc::Ring,
    pub(crate) workers: Vec<Worker>,
}

impl Team {
    /// Starts so many workers, and waits until they have all keys.
    pub(crate) async fn start(size: u64, redis: Option<&str>, keys: usize) -> Result<Self> {
        let (broadcast, ring) = ipc::broadcast()?;
        let hub = Hub::broadcasting(Epoch::new(1), PublisherConfig::new(), broadcast);
        for number in 0..keys {
            hub.execute(cluster_shared_state::Command::put(key(number), &VALUE[..]))?;
        }
        let setup = |number| Setup { number, redis: redis.map(str::to_owned), keys };
        let workers =
            (0..size).map(|number| Worker::start(&hub, &ring, &setup(number))).collect::<Result<_>>()?;
        let team = Self { hub, ring, workers };
        team.all(&Order::Live).await?;
        Ok(team)
    }

    pub(crate) fn first(&self) -> Result<&Worker> {
        Ok(self.workers.first().ok_or("nobody is in the team")?)
    }

    /// The last revision.
    pub(crate) fn revision(&self) -> u64 {
        self.hub.cursor().revision.get()
    }

    /// What each worker answers.
    pub(crate) async fn all(&self, order: &Order) -> Result<Vec<Vec<u64>>> {
        let mut answers = Vec::with_capacity(self.workers.len());
        for worker in &self.workers {
            answers.push(worker.ask(order).await?);
        }
        Ok(answers)
    }

    /// Has all note when each of so many messages comes that the first one speaks, over blocking sockets: one system call for each
    /// process that hears it, so what follows a write cannot be much sooner.
    pub(crate) async fn listen(&self, count: u32) -> Result<()> {
        let mut from = self.first()?.blocking.try_clone()?;
        let to: Vec<_> =
            self.workers.iter().map(|worker| worker.blocking.try_clone()).collect::<std::io::Result<_>>()?;
        std::thread::spawn(move || -> std::io::Result<()> {
            let mut message = [0; VALUE.len()];
            for _ in 0..count {
                from.read_exact(&mut message)?;
                to.iter().try_for_each(|mut worker| worker.write_all(&message))?;
            }
            Ok(())
        });
        self.all(&Order::Listen(count)).await.map(drop)
    }

    /// The same over channels on a runtime, as ours are in a server: what a state could reach that costs nothing. Ends when all was said.
    pub(crate) async fn say(&self, count: u32, pause: Duration) -> Result<Vec<u64>> {
        let mut channels = Vec::with_capacity(self.workers.len());
        let (here, speaks) = Socket::pair()?;
        let mut speaker = channel(here)?;
        for worker in &self.workers {
            let (here, there) = Socket::pair()?;
            channels.push(channel(here)?);
            worker.ask_with(&Order::Hear(count), vec![there.into_fd()]).await?;
        }
        let passing = tokio::spawn(async move {
            while let Ok(frame) = speaker.recv().await {
                for channel in &mut channels {
                    let said = Frame::new(Kind::Message, frame.id(), frame.payload().clone());
                    if channel.try_send(said).is_err() || channel.flush().await.is_err() {
                        return;
                    }
                }
            }
        });
        let spoken = self.first()?.ask_with(&Order::Say { count, pause }, vec![speaks.into_fd()]).await;
        tokio::time::sleep(50 * pause).await;
        passing.abort();
        spoken
    }

    /// Has the first worker follow anew.
    pub(crate) async fn join(&self) -> Result<Vec<u64>> {
        let (here, there) = Socket::pair()?;
        let worker = self.first()?;
        // Of another life than that which goes on meanwhile.
        let client = ClientId::new(0, 2);
        let serving = serve(&self.hub, &self.ring, client, here)?;
        let stamps = worker.ask_with(&Order::Join, vec![there.into_fd()]).await;
        serving.abort();
        self.hub.gone(client);
        stamps
    }
}

/// One of them. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Worker {
    process: Child,
    orders: Client<Order, Vec<u64>>,
    /// What [`Team::listen`] hands messages over.
    blocking: UnixStream,
    /// Keeps the connection open.
    _connection: (Sender<Order>, Receiver<()>),
    tasks: [JoinHandle<()>; 2],
}

impl Worker {
    fn start(hub: &Hub, ring: &ipc::Ring, setup: &Setup) -> Result<Self> {
        let (here, there) = Socket::pair()?;
        let (echo_here, echo_there) = Socket::pair()?;
        let (blocking, blocking_there) = UnixStream::pair()?;
        let client = ClientId::new(setup.number, 1);
        // By this path also if it was built anew meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.arg("--worker").stdout(Stdio::null());
        let spawn = Spawn::from(command).greeting(serde_json::to_vec(setup)?);
        let spawn = spawn.descriptors(vec![there.into_fd(), echo_there.into_fd(), blocking_there.into()]);
        let (process, connection) = spawn.spawn()?;
        let (sender, receiver) = Endpoint::new(connection)?.split();
        let echo = channel(echo_here)?;
        Ok(Self {
            process,
            blocking,
            // How long is too long, we judge ourselves.
            orders: sender.client().timeout(None),
            _connection: (sender, receiver),
            tasks: [serve(hub, ring, client, here)?, tokio::spawn(answer(echo))],
        })
    }

    pub(crate) async fn ask(&self, order: &Order) -> Result<Vec<u64>> {
        self.ask_with(order, Vec::new()).await
    }

    pub(crate) async fn ask_with(&self, order: &Order, descriptors: Vec<OwnedFd>) -> Result<Vec<u64>> {
        let asked = tokio::time::timeout(PATIENCE, self.orders.request_with(order, descriptors)).await;
        let asked = asked.map_err(|_| format!("{order:?} took too long"))?;
        asked.map(|(stamps, _)| stamps).map_err(|error| format!("{order:?}: {error}").into())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn serve(hub: &Hub, ring: &ipc::Ring, client: ClientId, socket: Socket) -> Result<JoinHandle<()>> {
    let (link, bell) = ipc::offer(socket, ipc::max_request(&Limits::new()), ring)?;
    let serving = hub.serve_listening(client, link, bell);
    Ok(tokio::spawn(async move { drop(serving.await) }))
}

fn channel(socket: Socket) -> Result<Channel> {
    Ok(Channel::new(cluster_ipc::Channel::new(socket))?)
}

/// Sends back what comes.
async fn answer(mut channel: Channel) {
    while let Ok(frame) = channel.recv().await {
        // Written by the next turn.
        if channel.try_send(frame).is_err() {
            return;
        }
    }
}
