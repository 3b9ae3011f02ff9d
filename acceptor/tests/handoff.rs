//! An acceptor and workers in one process: who gets a connection, and what becomes of those that nobody has taken.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake};
use std::time::Duration;

use cluster_acceptor::worker::{Deadlines, Gate, Intake, Listener, Phase};
use cluster_acceptor::{
    Acceptor, Address, Command, Granted, Listen, Listeners, ListeningSocket, Mode, Settings, WhenFull,
};
use cluster_balancer::{Classes, LeastLoaded};
use cluster_ipc::Channel;
use cluster_ipc::board::{PrimaryBoard, WorkerBoard};
use socket2::{SockFilter, SockRef};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Only makes a test fail that would hang.
const PATIENCE: Duration = Duration::from_secs(120);

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(3600);

struct Site {
    acceptor: Acceptor<u32>,
    granted: Granted,
}

struct Worker {
    intake: Arc<Intake>,
    gate: Arc<Gate>,
    receiving: JoinHandle<()>,
}

impl Site {
    fn open(settings: Settings) -> Self {
        let (site, socket) = Self::bind(settings);
        site.listen(socket);
        site
    }

    /// The same, and nobody accepts yet.
    fn bind(settings: Settings) -> (Self, ListeningSocket) {
        let answer = Listeners::new(Mode::Handoff).listen(&Listen::tcp(([127, 0, 0, 1], 0)), 0, 0).unwrap();
        let (acceptor, _) = Acceptor::start(settings).unwrap();
        (Self { acceptor, granted: answer.granted }, answer.accept.unwrap())
    }

    fn listen(&self, socket: ListeningSocket) {
        self.acceptor.command(Command::Listen { listener: self.granted.listener, socket });
    }

    /// Closes. So long nobody is given up who waits, unless there is no worker.
    fn close(&self, within: Duration) -> oneshot::Receiver<()> {
        let (done, closed) = oneshot::channel();
        let linger = within.min(PATIENCE);
        self.acceptor.command(Command::Close { linger, within: within.max(LONG), done });
        closed
    }

    fn address(&self) -> SocketAddr {
        self.granted.address.ip().unwrap()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A worker that may have so many connections.
    fn admit(&self, worker: u32, capacity: u32) -> Worker {
        let (ours, theirs) = Channel::pair().unwrap();
        let (board, memory) = PrimaryBoard::create().unwrap();
        let (channel, board) = (Box::new(ours), Arc::new(board));
        self.acceptor.command(Command::Attach {
            worker,
            slot: worker,
            generation: 1,
            pid: std::process::id(),
            channel,
            board,
        });
        let listeners = Classes::none().with(self.granted.listener);
        self.acceptor.command(Command::Admit { worker, capacity, listeners });
        let gate = Arc::new(Gate::new());
        let board = Arc::new(WorkerBoard::open(memory).unwrap());
        let intake = Arc::new(Intake::new(board, Arc::clone(&gate), None));
        let data = cluster_ipc::tokio::Channel::new(theirs).unwrap();
        let receiving = Arc::clone(&intake);
        let receiving = tokio::spawn(async move { drop(receiving.receive(data).await) });
        Worker { intake, gate, receiving }
    }

    fn listener(&self, worker: &Worker) -> Listener {
        Listener::new(Arc::clone(&worker.intake), self.granted.clone(), None).unwrap()
    }

    /// Waits until the acceptor has done what is asked for.
    async fn until(&self, holds: impl Fn(cluster_acceptor::AcceptStatus) -> bool) {
        let turns = async {
            while !holds(self.acceptor.status()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, turns).await.unwrap();
    }
}

async fn accepted_from(listener: &Listener) -> Address {
    timeout(PATIENCE, listener.accept()).await.unwrap().unwrap().1
}

fn is_end(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0]), Ok(0) | Err(_))
}

#[tokio::test]
async fn a_connection_is_handed_to_a_worker_which_ends_it_for_all() {
    let site = Site::open(Settings::new(LeastLoaded::new()));
    let worker = site.admit(0, 10);
    let listener = site.listener(&worker);
    let mut client = site.connect();
    let (stream, peer) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    assert_eq!(stream.peer_addr().unwrap(), peer);
    assert_eq!(stream.local_addr().unwrap(), site.address());
    drop(stream);
    assert!(is_end(&mut client), "no other copy of it keeps it open");
}

#[tokio::test]
async fn what_a_worker_has_not_taken_when_it_goes_is_another_ones() {
    let site = Site::open(Settings::new(LeastLoaded::new()));
    let gone = site.admit(0, 10);
    let never_accepts = site.listener(&gone);
    let clients = [site.connect(), site.connect()];
    site.until(|status| status.handed >= 2).await;
    gone.receiving.abort();
    let _ = gone.receiving.await;
    let worker = site.admit(1, 10);
    let listener = site.listener(&worker);
    let mut served = [accepted_from(&listener).await, accepted_from(&listener).await];
    served.sort_by_key(Address::ip);
    let mut expected = clients.map(|client| Address::from(client.local_addr().unwrap()));
    expected.sort_by_key(Address::ip);
    assert_eq!(served, expected);
    drop(never_accepts);
}

#[tokio::test]
async fn who_does_not_listen_any_more_refuses() {
    let site = Site::open(Settings::new(LeastLoaded::new()));
    let deaf = site.admit(0, 10);
    let _client = site.connect();
    site.until(|status| status.refused > 0).await;
    let worker = site.admit(1, 10);
    let listener = site.listener(&worker);
    accepted_from(&listener).await;
    drop(deaf);
}

#[tokio::test]
async fn who_is_one_too_many_waits_or_is_rejected() {
    let site = Site::open(Settings::new(LeastLoaded::new()).max_connections(1));
    let worker = site.admit(0, 10);
    let listener = site.listener(&worker);
    let (_first, second) = (site.connect(), site.connect());
    let (taken, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    assert_eq!(site.acceptor.status().accepted, 1);
    drop(taken);
    assert_eq!(accepted_from(&listener).await, second.local_addr().unwrap());

    let site = Site::open(Settings::new(LeastLoaded::new()).when_full(WhenFull::Reject));
    let worker = site.admit(0, 1);
    let listener = site.listener(&worker);
    let _first = site.connect();
    let _taken = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let mut second = site.connect();
    // It may take the client a moment to hear of it, and the system another to send a byte.
    let _ = second.write_all(b"x");
    assert!(is_end(&mut second));
    assert_eq!(site.acceptor.status().rejected, 1);
}

#[tokio::test]
async fn what_has_connected_when_the_acceptor_closes_is_still_handed_out() {
    let site = Site::open(Settings::new(LeastLoaded::new()));
    let client = site.connect();
    let (done, closed) = oneshot::channel();
    site.acceptor.command(Command::Close { linger: PATIENCE, within: PATIENCE, done });
    let worker = site.admit(0, 10);
    let listener = site.listener(&worker);
    assert_eq!(accepted_from(&listener).await, client.local_addr().unwrap());
    timeout(PATIENCE, closed).await.unwrap().unwrap();
    assert!(TcpStream::connect(site.address()).is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_worker_that_drains_accepts_no_more() {
    let site = Site::open(Settings::new(LeastLoaded::new()));
    let worker = site.admit(0, 10);
    let listener = site.listener(&worker);
    let _client = site.connect();
    let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let none = Deadlines::new(Duration::ZERO, Duration::ZERO, None);
    worker.gate.leave_within(none).await;
    assert!(worker.gate.is_leaving());
    assert!(timeout(PATIENCE, listener.accept()).await.unwrap().is_none());
    drop(stream);
    timeout(PATIENCE, worker.gate.reached(Phase::Draining)).await.unwrap();
    timeout(PATIENCE, worker.gate.idle()).await.unwrap();
}

#[tokio::test]
async fn dropping_the_acceptor_ends_the_data_channels() {
    let site = Site::open(Settings::new(LeastLoaded::new()));
    let worker = site.admit(0, 10);
    drop(site);
    timeout(PATIENCE, worker.receiving).await.unwrap().unwrap();
}

/// Lets only bare SYNs through: whoever connects believes that he is connected, and the server does not know it yet.
fn keep_half_open(socket: &ListeningSocket) {
    use nix::libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET};
    let statement = |code: u32, k| SockFilter::new(code as u16, 0, 0, k);
    let program = [
        statement(BPF_LD | BPF_B | BPF_ABS, 13),
        statement(BPF_ALU | BPF_AND | BPF_K, 0x12),
        SockFilter::new((BPF_JMP | BPF_JEQ | BPF_K) as u16, 1, 0, 0x02),
        statement(BPF_RET | BPF_K, 0),
        statement(BPF_RET | BPF_K, u32::MAX),
    ];
    SockRef::from(socket).attach_filter(&program).unwrap();
}

#[tokio::test]
async fn who_is_half_in_when_the_acceptor_closes_is_still_handed_out() {
    let (site, socket) = Site::bind(Settings::new(LeastLoaded::new()));
    keep_half_open(&socket);
    site.listen(socket);
    let worker = site.admit(0, 10);
    let listener = site.listener(&worker);
    let mut client = site.connect();
    client.write_all(b"x").unwrap();
    let closed = site.close(PATIENCE);
    assert_eq!(accepted_from(&listener).await, client.local_addr().unwrap());
    timeout(PATIENCE, closed).await.unwrap().unwrap();
    assert!(TcpStream::connect(site.address()).is_err(), "nobody listens any more");
}

#[tokio::test]
async fn closing_waits_for_nobody_where_there_is_no_room_and_nobody_waits() {
    let site = Site::open(Settings::new(LeastLoaded::new()).max_connections(1));
    let worker = site.admit(0, 10);
    let listener = site.listener(&worker);
    let _first = site.connect();
    let (_taken, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    timeout(PATIENCE, site.close(LONG)).await.unwrap().unwrap();
}

#[tokio::test]
async fn closing_waits_for_room_for_those_who_wait() {
    let site = Site::open(Settings::new(LeastLoaded::new()).max_connections(1));
    let worker = site.admit(0, 10);
    let listener = site.listener(&worker);
    let (_first, second, third) = (site.connect(), site.connect(), site.connect());
    let (taken, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let closed = site.close(Duration::ZERO);
    // It has looked whether there is one more, and may hand it to nobody.
    site.until(|status| status.accepted >= 2).await;
    assert_eq!(site.acceptor.status().handed, 1);
    drop(taken);
    assert_eq!(accepted_from(&listener).await, second.local_addr().unwrap());
    assert_eq!(accepted_from(&listener).await, third.local_addr().unwrap());
    timeout(PATIENCE, closed).await.unwrap().unwrap();
}

#[tokio::test]
async fn closing_does_not_wait_long_where_nobody_takes_anything() {
    let site = Site::open(Settings::new(LeastLoaded::new()));
    let mut client = site.connect();
    timeout(PATIENCE, site.close(Duration::ZERO)).await.unwrap().unwrap();
    assert!(is_end(&mut client));
}

/// Counts how often it is woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn closing_ends_a_socket_for_the_workers_that_accept_on_it_too() {
    let path = std::env::temp_dir().join(format!("cluster-closing-{}", std::process::id()));
    for listen in [Listen::tcp(([127, 0, 0, 1], 0)), Listen::unix(&path)] {
        let mut listeners = Listeners::new(Mode::Shared);
        let answer = listeners.listen(&listen, 0, 0).unwrap();
        let (acceptor, _) = Acceptor::start(Settings::new(LeastLoaded::new())).unwrap();
        let address = answer.granted.address.clone();
        let site = Site { acceptor, granted: answer.granted };
        let worker = site.admit(0, 10);
        let listener = Listener::new(Arc::clone(&worker.intake), site.granted.clone(), answer.copy).unwrap();
        let connect = || match address.ip() {
            Some(address) => TcpStream::connect(address).map(drop),
            None => UnixStream::connect(address.path().unwrap()).map(drop),
        };
        connect().unwrap();
        timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        for leftover in listeners.leftovers() {
            site.acceptor.command(Command::Orphan(leftover));
        }
        timeout(PATIENCE, site.close(LONG)).await.unwrap().unwrap();
        let refused = connect().unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{address}");
        // The worker goes on, and is at rest: it is no error, and no reason to look again and again.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut accept = std::pin::pin!(listener.accept());
        let wakes = Arc::new(Wakes::default());
        let waker = Arc::clone(&wakes).into();
        assert!(accept.as_mut().poll(&mut Context::from_waker(&waker)).is_pending(), "{address}");
        // Who has used up his share of tokio's time is woken at the next turn.
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(wakes.0.load(Ordering::SeqCst), 0, "{address}");
    }
}
