//! A worker that does what the test says, and answers what came of it.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::task::Poll;

use cluster::{Address, Letter, Listen, Message, Messages, Mode, Request, To, Worker};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::Running;
use crate::support::DEADLINE;

/// What to listen on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct On {
    pub(super) tcp: Option<SocketAddr>,
    pub(super) unix: Option<PathBuf>,
    pub(super) inherited: Option<String>,
    pub(super) shared: bool,
    pub(super) reuseport: bool,
    pub(super) backlog: Option<u32>,
    pub(super) only_v6: Option<bool>,
    pub(super) permissions: Option<u32>,
}

impl On {
    pub(super) fn tcp(address: impl Into<SocketAddr>) -> Self {
        Self { tcp: Some(address.into()), ..Self::default() }
    }

    pub(super) fn any() -> Self {
        Self::tcp(([127, 0, 0, 1], 0))
    }

    pub(super) fn unix(path: impl Into<PathBuf>) -> Self {
        Self { unix: Some(path.into()), ..Self::default() }
    }

    pub(super) fn inherited(name: &str) -> Self {
        Self { inherited: Some(name.to_owned()), ..Self::default() }
    }

    pub(super) fn mode(self, mode: Mode) -> Self {
        Self { shared: mode == Mode::Shared, reuseport: mode == Mode::ReusePort, ..self }
    }

    fn listen(self, udp: bool) -> Listen {
        let mut listen = match (self.tcp, self.unix, self.inherited) {
            (Some(address), ..) if udp => Listen::udp(address),
            (Some(address), ..) => Listen::tcp(address),
            (_, Some(path), _) => Listen::unix(path),
            (_, _, Some(name)) if udp => Listen::inherited_udp(name),
            (_, _, Some(name)) => Listen::inherited(name),
            _ => panic!("listen on what?"),
        };
        if self.shared {
            listen = listen.mode(Mode::Shared);
        }
        if self.reuseport {
            listen = listen.mode(Mode::ReusePort);
        }
        if let Some(backlog) = self.backlog {
            listen = listen.backlog(backlog);
        }
        if let Some(only) = self.only_v6 {
            listen = listen.only_v6(only);
        }
        match self.permissions {
            Some(permissions) => listen.permissions(permissions),
            None => listen,
        }
    }
}

/// What to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Do {
    /// Listen, and answer whoever connects with who this is and what it said.
    Listen(String, On),
    /// Listen on a socket that this process binds itself, and answer likewise.
    ListenAlone(String, SocketAddr),
    /// Begin to listen, and close before the primary has answered.
    ListenAndForget(On),
    /// Stop listening.
    Close(String),
    /// Bind a UDP socket, and answer whoever sends with who this is.
    Bind(String, On),
    /// Send a datagram there from a socket bound before, and say what comes back.
    Send(String, SocketAddr),
    /// Bind a UDP socket, and note the numbers that come in; close it when there are so many.
    Receive(String, On, usize),
    /// The numbers that have come in.
    Received(String),
    /// Connect there, and give the connection to the primary.
    ConnectAndGive(SocketAddr),
    /// A variable.
    Env(String),
    /// The working directory.
    Directory,
    /// The arguments.
    Arguments,
    /// Only answer.
    Ping,
    /// The names of all variables.
    Environment,
    /// Bind a UDP socket, and close before the primary has answered.
    BindAndForget(On),
    /// Send the primary what looks like its own messages.
    Forge,
    /// Run tasks.
    Work,
    /// Never turn again.
    Spin,
    /// End at once.
    Exit(i32),
    /// Leave in order.
    Leave,
    /// Go at once, and say so.
    Destroy,
    /// End with this code when it is time to.
    ExitOnceDraining(i32),
    /// Connect there, say when this worker is told to leave, and wait for the other end before it ends.
    ConnectAndWait(SocketAddr),
}

impl Message for Do {
    const NAME: &'static str = "do";
}

impl Request for Do {
    /// What came of it, or the error with its sources.
    type Reply = Result<String, String>;
}

/// Comes back as it is, with the descriptors that came with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Parcel {
    pub(super) number: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) anything: BTreeMap<String, Vec<Option<(f64, char)>>>,
}

impl Message for Parcel {
    const NAME: &'static str = "parcel";
}

/// A listening socket comes with it: serve on that.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Given;

impl Message for Given {
    const NAME: &'static str = "given";
}

/// A task.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Double(pub(super) u64);

impl Message for Double {
    const NAME: &'static str = "double";
}

impl Request for Double {
    type Reply = u64;
}

/// Says what nobody expects, under any name.
struct Forged<const NAMED: usize>;

/// Of nobody; of a request, and of a message with another content; of this crate's own, for workers and for the primary.
const NAMES: [&str; 5] = ["nobody's", "do", "parcel", "cluster.tasks.party", "cluster.tasks.pool"];

impl<const NAMED: usize> Serialize for Forged<NAMED> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&[0xff; 64])
    }
}

impl<'de, const NAMED: usize> Deserialize<'de> for Forged<NAMED> {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("nobody reads this"))
    }
}

impl<const NAMED: usize> Message for Forged<NAMED> {
    const NAME: &'static str = NAMES[NAMED];
}

/// Sends one of each.
pub(super) async fn forge(messages: &Messages, to: To) -> Result<(), String> {
    messages.send(to, &Forged::<0>).await.map_err(told)?;
    messages.send(to, &Forged::<1>).await.map_err(told)?;
    messages.send(to, &Forged::<2>).await.map_err(told)?;
    messages.send(to, &Forged::<3>).await.map_err(told)?;
    messages.send(to, &Forged::<4>).await.map_err(told)
}

/// What has come in, as far as it has.
type Numbers = Arc<std::sync::Mutex<Vec<u32>>>;

#[derive(Default)]
struct Held {
    listeners: HashMap<String, JoinHandle<()>>,
    sockets: HashMap<String, (Arc<cluster::UdpSocket>, JoinHandle<()>)>,
    received: HashMap<String, Numbers>,
    /// What has to end before this worker does.
    waiting: Vec<JoinHandle<()>>,
}

/// App: a puppet, ready from the beginning.
pub(crate) async fn puppet(worker: Worker) {
    let held = Arc::new(Mutex::new(Held::default()));
    let messages = worker.messages();
    let (own, shared) = (worker.clone(), Arc::clone(&held));
    let port = messages.clone();
    messages.on(move |letter: Letter<Parcel>| {
        let port = port.clone();
        tokio::spawn(async move {
            // With what came with it.
            let sent = port.send_with(letter.from, &letter.message, letter.descriptors).await;
            sent.unwrap();
        });
    });
    let id = worker.id().to_string();
    messages.on(move |letter: Letter<Given>| {
        for listener in letter.descriptors {
            let listener = tokio::net::TcpListener::from_std(listener.into()).unwrap();
            tokio::spawn(serve_alone(listener, id.clone()));
        }
    });
    messages.answer(move |letter: Letter<Do>| {
        let (worker, held) = (own.clone(), Arc::clone(&shared));
        async move { Ok(act(worker, letter.message, &held).await) }
    });
    worker.ready().await;
    worker.draining().await;
    worker.drained().await;
    let waiting = std::mem::take(&mut held.lock().await.waiting);
    for waiting in waiting {
        waiting.await.unwrap();
    }
}

fn told<E: std::error::Error>(error: E) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |line, source| format!("{line}: {source}"))
}

async fn act(worker: Worker, what: Do, held: &Mutex<Held>) -> Result<String, String> {
    let mut held = held.lock().await;
    match what {
        Do::Listen(name, on) => {
            let listener = worker.listen_on(on.listen(false)).await.map_err(told)?;
            let address = listener.local_addr().to_string();
            let task = tokio::spawn(serve(listener, worker.id().to_string()));
            held.listeners.insert(name, task);
            Ok(address)
        }
        Do::ListenAlone(name, address) => {
            let listener = tokio::net::TcpListener::bind(address).await.map_err(told)?;
            let address = listener.local_addr().map_err(told)?.to_string();
            let task = tokio::spawn(serve_alone(listener, worker.id().to_string()));
            held.listeners.insert(name, task);
            Ok(address)
        }
        Do::ListenAndForget(on) => {
            let listening = worker.listen_on(on.listen(false));
            Ok(is_pending(listening).await.to_string())
        }
        Do::Close(name) => {
            if let Some(task) = held.listeners.remove(&name) {
                task.abort();
                // It is over when this says so.
                let _ = task.await;
            }
            if let Some((socket, task)) = held.sockets.remove(&name) {
                task.abort();
                let _ = task.await;
                drop(socket);
            }
            Ok(String::new())
        }
        Do::Bind(name, on) => {
            let socket = Arc::new(worker.bind_udp_on(on.listen(true)).await.map_err(told)?);
            let address = socket.local_addr().map_err(told)?.to_string();
            let task = tokio::spawn(answer(Arc::clone(&socket), worker.id().to_string()));
            held.sockets.insert(name, (socket, task));
            Ok(address)
        }
        Do::Send(name, to) => {
            let (socket, _) = held.sockets.get(&name).ok_or("no such socket")?;
            socket.send_to(b"from a worker", to).await.map_err(told)?;
            Ok(socket.local_addr().map_err(told)?.to_string())
        }
        Do::Receive(name, on, most) => {
            let socket = worker.bind_udp_on(on.listen(true)).await.map_err(told)?;
            let address = socket.local_addr().map_err(told)?.to_string();
            let numbers = Numbers::default();
            tokio::spawn(receive(socket, most, Arc::clone(&numbers)));
            held.received.insert(name, numbers);
            Ok(address)
        }
        Do::Received(name) => {
            let numbers = held.received.get(&name).ok_or("no such socket")?;
            let numbers = numbers.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(" "))
        }
        Do::ConnectAndGive(to) => {
            let stream = tokio::net::TcpStream::connect(to).await.map_err(told)?;
            let stream = stream.into_std().map_err(told)?;
            let parcel = Parcel { number: 0, bytes: Vec::new(), anything: BTreeMap::new() };
            let given = worker.messages().send_with(To::Primary, &parcel, vec![stream.into()]).await;
            given.map_err(told)?;
            Ok(String::new())
        }
        Do::Env(name) => std::env::var(name).map_err(told),
        Do::Directory => Ok(std::env::current_dir().map_err(told)?.display().to_string()),
        Do::Arguments => Ok(std::env::args().skip(1).collect::<Vec<_>>().join(" ")),
        Do::Ping => Ok(worker.id().to_string()),
        Do::Environment => {
            let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
            Ok(names.collect::<Vec<_>>().join("\n"))
        }
        Do::BindAndForget(on) => {
            let binding = worker.bind_udp_on(on.listen(true));
            Ok(is_pending(binding).await.to_string())
        }
        Do::Forge => {
            forge(&worker.messages(), To::Primary).await?;
            Ok(String::new())
        }
        Do::Work => {
            let double = |task: Double, _| std::future::ready(Ok(2 * task.0));
            tokio::spawn(async move { worker.run_tasks(1, double).await });
            Ok(String::new())
        }
        Do::Spin => loop {
            std::hint::spin_loop();
        },
        Do::Exit(code) => std::process::exit(code),
        Do::Leave => {
            worker.disconnect().await;
            Ok(String::new())
        }
        Do::Destroy => worker.exit(0).await,
        Do::ExitOnceDraining(code) => {
            let draining = worker.draining();
            tokio::spawn(async move {
                draining.await;
                std::process::exit(code);
            });
            Ok(String::new())
        }
        Do::ConnectAndWait(to) => {
            let mut stream = tokio::net::TcpStream::connect(to).await.map_err(told)?;
            let leaving = worker.leaving();
            let waiting = tokio::spawn(async move {
                leaving.await;
                // Who listens there may have gone.
                let _ = stream.write_all(b"leaving").await;
                while stream.read(&mut [0; 16]).await.is_ok_and(|read| read > 0) {}
            });
            held.waiting.push(waiting);
            Ok(String::new())
        }
    }
}

/// Begins it, and gives it up. Returns whether it was under way.
async fn is_pending(begun: impl Future) -> bool {
    let mut begun = pin!(begun);
    std::future::poll_fn(|cx| Poll::Ready(begun.as_mut().poll(cx).is_pending())).await
}

async fn serve(listener: cluster::Listener, id: String) {
    while let Some((mut stream, peer)) = listener.accept().await {
        let word = format!("{id} {peer}");
        tokio::spawn(async move {
            // Who asks may have gone; who says something is kept until it has gone.
            let _ = stream.write_all(word.as_bytes()).await;
            let mut first = [0];
            if stream.read(&mut first).await.is_ok_and(|read| read > 0) && first == *b"k" {
                while stream.read(&mut first).await.is_ok_and(|read| read > 0) {}
            }
        });
    }
}

async fn serve_alone(listener: tokio::net::TcpListener, id: String) {
    while let Ok((mut stream, peer)) = listener.accept().await {
        let word = format!("{id} {peer}");
        tokio::spawn(async move {
            // Who asks may have gone; what it said is read, so that it sees an end and no reset.
            let _ = stream.write_all(word.as_bytes()).await;
            let _ = stream.read(&mut [0; 16]).await;
        });
    }
}

async fn receive(socket: cluster::UdpSocket, most: usize, numbers: Numbers) {
    for _ in 0..most {
        let mut number = [0; 4];
        let Ok(_) = socket.recv_from(&mut number).await else { return };
        numbers.lock().unwrap_or_else(PoisonError::into_inner).push(u32::from_le_bytes(number));
    }
}

async fn answer(socket: Arc<cluster::UdpSocket>, id: String) {
    while let Ok((_, peer)) = socket.recv_from(&mut [0; 64]).await {
        let _ = socket.send_to(id.as_bytes(), peer).await;
    }
}

/// Puppets, and what moves them.
pub(super) struct Stage {
    pub(super) running: Running,
    pub(super) messages: Messages,
}

impl Stage {
    pub(super) fn open(builder: cluster::Builder) -> Self {
        let mut running = Running::start(builder);
        running.wait_for("all workers to be ready", |event| {
            matches!(event, cluster::Event::Serving { .. }).then_some(())
        });
        let messages = running.handle.messages().timeout(DEADLINE);
        Self { running, messages }
    }

    /// Has the worker of that slot do something.
    pub(super) fn tell(&self, slot: u32, what: &Do) -> Result<String, String> {
        self.running.block_on(self.messages.request(To::Slot(slot), what)).unwrap()
    }

    /// Has it listen, and returns the address.
    pub(super) fn listen(&self, slot: u32, name: &str, on: &On) -> Result<Address, String> {
        let address = self.tell(slot, &Do::Listen(name.to_owned(), on.clone()))?;
        Ok(address.parse().unwrap())
    }

    pub(super) fn listen_ip(&self, slot: u32, name: &str, on: &On) -> SocketAddr {
        self.listen(slot, name, on).unwrap().ip().unwrap()
    }

    pub(super) fn bind(&self, slot: u32, name: &str, on: &On) -> Result<SocketAddr, String> {
        Ok(self.tell(slot, &Do::Bind(name.to_owned(), on.clone()))?.parse().unwrap())
    }

    pub(super) fn close(&self, slot: u32, name: &str) {
        self.tell(slot, &Do::Close(name.to_owned())).unwrap();
    }
}
