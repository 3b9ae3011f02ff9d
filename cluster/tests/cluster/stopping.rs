//! A stop under load: whoever is let in is answered, and everybody else is refused, however connections come to the workers.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cluster::health::Heartbeat;
use cluster::{Address, Builder, Cluster, Listen, Mode, Worker};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::apps::{self, LISTEN};
use crate::support::{DEADLINE, eventually, process};
use crate::{Running, builder};

const CLIENTS: usize = 8;
const WORKERS: usize = 3;

/// Names how connections come to the workers of a primary in a process of its own.
const MODE: &str = "CLUSTER_TEST_MODE";

const ALL: [Mode; 3] = [Mode::Handoff, Mode::Shared, Mode::ReusePort];

/// Answers who asks, and keeps who wants to stay until he goes: so long it doesn't end.
pub(crate) async fn keeper_of_clients(worker: Worker) {
    let listen = match std::env::var(LISTEN).unwrap().parse().unwrap() {
        Address::Ip(address) => Listen::tcp(address),
        address => Listen::unix(address.path().unwrap()),
    };
    let listener = worker.listen_on(listen).await.unwrap();
    while let Some((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            // Who comes may have gone.
            if matches!(stream.read_u8().await, Ok(b's')) {
                let _ = stream.write_all(b"stay").await;
                let _ = stream.read_u8().await;
            } else {
                let _ = stream.write_all(b"answer").await;
            }
        });
    }
    worker.drained().await;
}

/// A primary with such workers, which obeys signals.
pub(crate) fn primary() {
    let mode = std::env::var(MODE).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let builder = Cluster::builder().workers(WORKERS).mode(mode).args([""; 0]);
    let primary = builder.env(apps::VARIABLE, "keeper-of-clients").primary().unwrap();
    runtime.block_on(primary.run()).unwrap();
}

fn keepers(listen: &str, mode: Mode) -> Builder {
    builder("keeper-of-clients").env(LISTEN, listen).workers(WORKERS).mode(mode)
}

trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

fn connect(address: &Address) -> std::io::Result<Box<dyn Stream>> {
    Ok(match address.ip() {
        Some(address) => {
            let stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(DEADLINE))?;
            Box::new(stream)
        }
        None => {
            let stream = UnixStream::connect(address.path().unwrap())?;
            stream.set_read_timeout(Some(DEADLINE))?;
            Box::new(stream)
        }
    })
}

/// At the end the file of a Unix socket is not there any more.
fn is_refused(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound)
}

/// Clients that come one after another, as fast as they can.
#[derive(Debug, Default)]
struct Clients {
    over: AtomicBool,
    answered: AtomicUsize,
    refused: AtomicUsize,
    lost: Mutex<Vec<String>>,
}

impl Clients {
    fn come(&self, address: &Address) {
        while !self.over.load(Ordering::SeqCst) {
            match self.ask(address) {
                Ok(answer) if answer == "answer" => drop(self.answered.fetch_add(1, Ordering::SeqCst)),
                Ok(answer) => self.lost.lock().unwrap().push(format!("answered with {answer:?}")),
                Err(error) => self.lost.lock().unwrap().push(error.to_string()),
            }
        }
    }

    /// Asks until somebody has answered, or has let him in and not answered.
    fn ask(&self, address: &Address) -> std::io::Result<String> {
        let mut stream = loop {
            match connect(address) {
                Err(error) if is_refused(&error) => {
                    self.refused.fetch_add(1, Ordering::SeqCst);
                    if self.over.load(Ordering::SeqCst) {
                        return Ok("answer".to_owned());
                    }
                    std::thread::park_timeout(Duration::from_millis(1));
                }
                connected => break connected?,
            }
        };
        stream.write_all(b"q")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn have_been_answered(&self, many: usize) {
        eventually("clients to be answered", || (self.answered.load(Ordering::SeqCst) >= many).then_some(()));
    }

    fn are_refused(&self) {
        eventually("clients to be refused", || (self.refused.load(Ordering::SeqCst) > 0).then_some(()));
    }
}

/// Ends the clients when it is dropped, also by a test that fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Lets clients come while it stops: they must be refused while the last one who had come before is still served.
fn stop_under_load(address: &Address, stop: impl FnOnce(), ends: impl FnOnce()) {
    let clients = Clients::default();
    std::thread::scope(|scope| {
        let _over = Over(&clients.over);
        for _ in 0..CLIENTS {
            scope.spawn(|| clients.come(address));
        }
        clients.have_been_answered(100);
        let mut stays = connect(address).unwrap();
        stays.write_all(b"s").unwrap();
        stays.read_exact(&mut [0; 4]).unwrap();
        stop();
        clients.are_refused();
        for _ in 0..20 {
            let error = connect(address).err().expect("nobody is let in any more");
            assert!(is_refused(&error), "{error}");
        }
        drop(stays);
        ends();
    });
    let lost = clients.lost.into_inner().unwrap();
    let answered = clients.answered.into_inner();
    assert!(
        lost.is_empty(),
        "{} were let in and lost beside {answered} who were answered: {lost:?}",
        lost.len()
    );
}

pub(crate) fn whoever_is_let_in_while_it_stops_is_answered() {
    for mode in ALL {
        for _ in 0..2 {
            let mut running = Running::start(keepers("127.0.0.1:0", mode));
            let address = running.wait_serving()[0].into();
            let handle = running.handle.clone();
            stop_under_load(
                &address,
                || running.block_on(handle.shutdown()).unwrap(),
                || eventually("the end", || running.primary.as_ref().unwrap().is_finished().then_some(())),
            );
            running.outcome().unwrap();
        }
    }
}

pub(crate) fn nor_is_anybody_lost_when_all_leave_and_others_may_begin_again() {
    for (mode, way) in ALL.into_iter().flat_map(|mode| ["disconnect", "scale"].map(|way| (mode, way))) {
        let mut running = Running::start(keepers("127.0.0.1:0", mode));
        let address = running.wait_serving()[0].into();
        let leave = || match way {
            "scale" => running.block_on(running.handle.scale(0)).unwrap(),
            _ => {
                let handle = running.handle.clone();
                running.runtime.spawn(async move { handle.disconnect().await });
            }
        };
        let are_gone = || eventually("all to be gone", || running.handle.workers().is_empty().then_some(()));
        stop_under_load(&address, leave, are_gone);
        // At once: this waits for the end of that.
        running.block_on(running.handle.scale(WORKERS)).unwrap();
        let again = running.wait_serving()[0].into();
        assert_eq!(Clients::default().ask(&again).unwrap(), "answer", "{mode}, {way}: others have begun");
        running.stop();
    }
}

pub(crate) fn nor_by_way_of_a_unix_socket() {
    for mode in [Mode::Handoff, Mode::Shared] {
        let path = std::env::temp_dir().join(format!("cluster-stopping-{mode}-{}", std::process::id()));
        let address = Address::Unix(Some(path));
        let mut running = Running::start(keepers(&address.to_string(), mode));
        running.wait_serving();
        stop_under_load(
            &address,
            || running.block_on(running.handle.shutdown()).unwrap(),
            || eventually("the end", || running.primary.as_ref().unwrap().is_finished().then_some(())),
        );
        running.outcome().unwrap();
    }
}

fn start_primary(address: SocketAddr, mode: Mode) -> Child {
    let mut primary = Command::new(std::env::current_exe().unwrap());
    let primary = primary.env(apps::VARIABLE, "primary-of-keepers").env(MODE, mode.name());
    primary.env(LISTEN, address.to_string()).spawn().unwrap()
}

/// SIGINT is what a terminal sends.
pub(crate) fn nor_by_a_signal() {
    for mode in ALL {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut primary = start_primary(address, mode);
        let address = address.into();
        eventually("somebody to listen", || connect(&address).ok().map(drop));
        let pid = primary.id();
        let end = || {
            let exit = eventually("the primary to end", || primary.try_wait().unwrap());
            assert!(exit.success(), "{mode}: {exit}");
        };
        stop_under_load(&address, || process::signal(pid, Signal::INT), end);
    }
}

/// Those in the kernel's queue are waited for as long as workers may take to leave, and not only for the linger time.
pub(crate) fn who_is_in_the_queue_when_it_stops_is_waited_for() {
    for mode in ALL {
        // Nobody is suspected before the test goes on.
        let heartbeat = Heartbeat::new().interval(DEADLINE / 4).dead_at_least(DEADLINE);
        let keepers = keepers("127.0.0.1:0", mode).heartbeat(heartbeat);
        let mut running = Running::start(keepers.linger(Duration::from_millis(20)));
        let address: Address = running.wait_serving()[0].into();
        let pids: Vec<u32> = running.status().workers.iter().filter_map(|worker| worker.pid).collect();
        pids.iter().for_each(|pid| process::signal(*pid, Signal::STOP));
        pids.iter().for_each(|pid| {
            eventually("the workers to stop", || process::is_stopped(*pid).then_some(()));
        });
        let mut waiting: Vec<_> = (0..300).map(|_| connect(&address).unwrap()).collect();
        waiting.iter_mut().for_each(|stream| stream.write_all(b"q").unwrap());
        running.block_on(running.handle.shutdown()).unwrap();
        // Longer than linger.
        std::thread::park_timeout(Duration::from_millis(200));
        pids.iter().for_each(|pid| process::signal(*pid, Signal::CONT));
        for mut stream in waiting {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "answer", "{mode}");
        }
        running.outcome().unwrap();
    }
}
