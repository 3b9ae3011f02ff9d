//! A worker: has a replica, does what it is told, and says how long it took.

use std::collections::VecDeque;
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cluster_ipc::codec::Postcard;
use cluster_ipc::session::Config;
use cluster_ipc::tokio::{Channel, Endpoint, Receiver, Sender};
use cluster_ipc::{Arrival, Frame, Kind, Socket};
use cluster_shared_state::tokio::{Pending, SharedState, ipc};
use cluster_shared_state::{ClientId, Command, Key, KeyRange, Notice, ReplicaConfig, Watch};
use rustix::process::{Signal, set_parent_process_death_signal};
use tokio::io::AsyncReadExt;
use tokio::task::JoinHandle;

use crate::Result;
use crate::cpus::Cpus;
use crate::order::{Order, RedisOrder, Setup, TICK, VALUE, WINDOW, key, stamp};
use crate::redis::Redis;

/// The incarnation of one that joins while its worker is there.
const SECOND: u64 = 2;

#[derive(Debug)]
struct Worker {
    setup: Setup,
    state: SharedState,
    bare: Channel,
    /// What [`Order::Listen`] is about.
    blocking: UnixStream,
    redis: Option<Redis>,
    seen: Arc<Mutex<Vec<u64>>>,
    watching: Option<JoinHandle<()>>,
    cpus: Cpus,
    /// Keys in an order that is not that of the memory.
    names: Vec<Key>,
}

/// What `main` does in a worker.
pub(crate) async fn run() -> Result<()> {
    // The end of its channel ends it too, but a parent that was killed leaves no time for that.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let endpoint = Endpoint::new(cluster_ipc::adopt()?.connect(Config::new(), &[])?)?;
    let mut opened = endpoint.opened().await?;
    let setup: Setup = serde_json::from_slice(opened.payload())?;
    let mut descriptors = opened.take_descriptors().into_iter();
    let (_sender, mut orders): (Sender<()>, Receiver<Order>) = endpoint.split::<_, _, Postcard>();
    let mut next = || descriptors.next().ok_or("a descriptor is missing");
    let (link, bare, blocking) = (next()?, next()?, next()?);
    let (state, following) = follow(ClientId::new(setup.number, 1), link)?;
    let mut names: Vec<Key> = (0..setup.keys).map(|number| Key::from(key(number))).collect();
    fastrand::Rng::with_seed(7).shuffle(&mut names);
    let mut worker = Worker {
        redis: setup.redis.as_deref().map(Redis::connect).transpose()?,
        setup,
        state,
        bare: Channel::new(cluster_ipc::Channel::new(Socket::from_fd(bare)))?,
        blocking: UnixStream::from(blocking),
        seen: Arc::default(),
        watching: None,
        cpus: Cpus::allowed()?,
        names,
    };
    while let Some(arrival) = orders.next().await? {
        let Arrival::Request(order, answer) = arrival else { return Err("something but an order".into()) };
        match worker.handle(order.value, order.descriptors).await {
            Ok(stamps) => answer.reply(&stamps).await?,
            Err(error) => answer.fail(error.to_string()),
        }
    }
    following.abort();
    Ok(())
}

fn follow(client: ClientId, link: OwnedFd) -> Result<(SharedState, JoinHandle<()>)> {
    let (state, mut follower) = SharedState::new(client, ReplicaConfig::new());
    let following = tokio::spawn(async move {
        if let Ok((link, listening)) = ipc::accept(Socket::from_fd(link)).await {
            drop(follower.follow_listening(link, listening).await);
        }
    });
    Ok((state, following))
}

async fn rest(pause: Option<Duration>) {
    if let Some(pause) = pause {
        tokio::time::sleep(pause).await;
    }
}

async fn say(count: u32, pause: Duration, channel: OwnedFd) -> Result<Vec<u64>> {
    let mut channel = Channel::new(cluster_ipc::Channel::new(Socket::from_fd(channel)))?;
    let mut stamps = Vec::with_capacity(2 * count as usize);
    for number in 0..count {
        tokio::time::sleep(pause).await;
        stamps.push(stamp());
        let said = Frame::new(Kind::Message, u64::from(number), &VALUE[..]);
        channel.try_send(said).map_err(|_| "no room for a message")?;
        channel.flush().await?;
        stamps.push(stamp());
    }
    Ok(stamps)
}

impl Worker {
    async fn handle(&mut self, order: Order, mut descriptors: Vec<OwnedFd>) -> Result<Vec<u64>> {
        match order {
            Order::Live => {
                self.state.live().await?;
                Ok(Vec::new())
            }
            Order::Place(cpu) => {
                self.cpus.place(None, cpu)?;
                Ok(Vec::new())
            }
            Order::Get(count) => self.get(count),
            Order::Write { count, pause } => self.write(count, pause).await,
            Order::PingPong { count, pause } => self.ping_pong(count, pause).await,
            Order::Pipelined(count) => self.pipelined(count).await,
            Order::Join => self.join(descriptors.pop().ok_or("no link to join by")?).await,
            Order::Watch => self.watch(),
            Order::ReadWhenAsked => self.read_when_asked(descriptors.pop().ok_or("nobody to ask")?),
            Order::Seen => {
                self.watching.take().inspect(JoinHandle::abort);
                Ok(std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner)))
            }
            Order::Listen(count) => {
                let mut stream = self.blocking.try_clone()?;
                self.note_each(count, move || Ok(stream.read_exact(&mut [0; VALUE.len()])?));
                Ok(Vec::new())
            }
            Order::Speak { count, pause } => self.speak(count, pause),
            Order::Hear(count) => self.hear(count, descriptors.pop().ok_or("nothing to hear by")?),
            Order::Say { count, pause } => {
                say(count, pause, descriptors.pop().ok_or("nothing to say it by")?).await
            }
            Order::Redis(order) => self.redis(order),
        }
    }

    fn get(&self, count: u32) -> Result<Vec<u64>> {
        let mut found = 0;
        let begin = stamp();
        for name in self.names.iter().cycle().take(count as usize) {
            found += u32::from(black_box(self.state.get(name)).is_some());
        }
        let end = stamp();
        if found == count { Ok(vec![begin, end]) } else { Err("keys are missing".into()) }
    }

    async fn write(&self, count: u32, pause: Option<Duration>) -> Result<Vec<u64>> {
        let tick = Key::from_static(TICK);
        let mut stamps = Vec::with_capacity(2 * count as usize);
        for _ in 0..count {
            rest(pause).await;
            stamps.push(stamp());
            let at = self.state.set(tick.clone(), &VALUE[..]).await?;
            stamps.push(stamp());
            if self.state.get(TICK).is_none_or(|entry| entry.modified < at) {
                return Err("who wrote does not read it".into());
            }
        }
        Ok(stamps)
    }

    async fn ping_pong(&mut self, count: u32, pause: Option<Duration>) -> Result<Vec<u64>> {
        let mut stamps = Vec::with_capacity(2 * count as usize);
        for number in 0..count {
            rest(pause).await;
            stamps.push(stamp());
            let ping = Frame::new(Kind::Message, u64::from(number), &VALUE[..]);
            self.bare.try_send(ping).map_err(|_| "no room for a ping")?;
            let pong = self.bare.recv().await?;
            stamps.push(stamp());
            if pong.id() != u64::from(number) {
                return Err("another pong".into());
            }
        }
        Ok(stamps)
    }

    async fn pipelined(&self, count: u32) -> Result<Vec<u64>> {
        let mut pending = VecDeque::<Pending>::with_capacity(WINDOW);
        let begin = stamp();
        for name in self.names.iter().cycle().take(count as usize) {
            if pending.len() == WINDOW
                && let Some(oldest) = pending.pop_front()
            {
                oldest.await?;
            }
            pending.push_back(self.state.submit(Command::put(name.clone(), &VALUE[..]))?);
        }
        for last in pending {
            last.await?;
        }
        Ok(vec![begin, stamp()])
    }

    async fn join(&self, link: OwnedFd) -> Result<Vec<u64>> {
        let begin = stamp();
        let (state, following) = follow(ClientId::new(self.setup.number, SECOND), link)?;
        state.live().await?;
        let end = stamp();
        following.abort();
        if state.view().len() < self.names.len() {
            return Err("keys are missing".into());
        }
        Ok(vec![begin, end])
    }

    fn watch(&mut self) -> Result<Vec<u64>> {
        let mut watching = self.state.watch(Watch::new(KeyRange::key(TICK)))?;
        let seen = Arc::clone(&self.seen);
        self.watching = Some(tokio::spawn(async move {
            while let Some(notice) = watching.next().await {
                let now = stamp();
                let Notice::Changes(batch) = notice else { continue };
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.extend(batch.events.iter().map(|_| now));
            }
        }));
        Ok(Vec::new())
    }

    fn read_when_asked(&mut self, asking: OwnedFd) -> Result<Vec<u64>> {
        let mut asking = tokio::net::UnixStream::from_std(UnixStream::from(asking))?;
        let (seen, state) = (Arc::clone(&self.seen), self.state.clone());
        self.watching = Some(tokio::spawn(async move {
            while asking.read_u8().await.is_ok() {
                let begin = stamp();
                let revision = state.get(TICK).map_or(0, |entry| entry.modified.get());
                seen.lock().unwrap_or_else(PoisonError::into_inner).extend([begin, revision]);
            }
        }));
        Ok(Vec::new())
    }

    fn speak(&mut self, count: u32, pause: Duration) -> Result<Vec<u64>> {
        let mut stamps = Vec::with_capacity(2 * count as usize);
        for _ in 0..count {
            std::thread::sleep(pause);
            stamps.push(stamp());
            self.blocking.write_all(&VALUE)?;
            stamps.push(stamp());
        }
        Ok(stamps)
    }

    fn hear(&mut self, count: u32, channel: OwnedFd) -> Result<Vec<u64>> {
        let mut channel = Channel::new(cluster_ipc::Channel::new(Socket::from_fd(channel)))?;
        let seen = Arc::clone(&self.seen);
        self.watching = Some(tokio::spawn(async move {
            for _ in 0..count {
                if channel.recv().await.is_err() {
                    return;
                }
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(stamp());
            }
        }));
        Ok(Vec::new())
    }

    /// Notes when each of so many messages has come, on a thread that does nothing else.
    fn note_each(&self, count: u32, mut next: impl FnMut() -> Result<()> + Send + 'static) {
        let seen = Arc::clone(&self.seen);
        std::thread::spawn(move || {
            for _ in 0..count {
                if next().is_err() {
                    return;
                }
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(stamp());
            }
        });
    }

    fn redis(&mut self, order: RedisOrder) -> Result<Vec<u64>> {
        let redis = self.redis.as_mut().ok_or("no Redis")?;
        match order {
            RedisOrder::Get(count) => redis.get(&self.names, count),
            RedisOrder::Set(count) => redis.set(count),
            RedisOrder::Pipelined(count) => redis.pipelined(&self.names, count),
            RedisOrder::GetAll => redis.get_all(&self.names),
            RedisOrder::Publish { count, pause } => redis.publish(count, pause),
            RedisOrder::Subscribe(count) => {
                let path = self.setup.redis.as_deref().ok_or("no Redis")?;
                let mut subscription = Redis::connect(path)?;
                subscription.subscribe()?;
                self.note_each(count, move || subscription.next_message());
                Ok(Vec::new())
            }
        }
    }
}
