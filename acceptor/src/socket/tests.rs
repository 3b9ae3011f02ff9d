use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use nix::libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET};
use socket2::SockFilter;

use super::*;

/// Only makes a test fail that would hang.
const PATIENCE: Duration = Duration::from_secs(30);

fn listen(address: &str) -> (TcpListener, ListeningSocket) {
    let listener = TcpListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    let socket = OwnedFd::from(listener.try_clone().unwrap()).into();
    (listener, socket)
}

/// Both families, as far as there are both.
fn loopbacks() -> impl Iterator<Item = &'static str> {
    ["127.0.0.1:0", "[::1]:0"].into_iter().filter(|address| TcpListener::bind(address).is_ok())
}

fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for this: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

#[test]
fn who_is_in_is_served_and_who_comes_later_is_refused() {
    for address in loopbacks() {
        let (listener, socket) = listen(address);
        let address = listener.local_addr().unwrap();
        let early: Vec<_> = (0..10).map(|_| TcpStream::connect(address).unwrap()).collect();
        socket.refuse().unwrap();
        let late = std::thread::spawn(move || TcpStream::connect(address));
        for _ in &early {
            listener.accept().unwrap().0.write_all(b"x").unwrap();
        }
        // Whether or not he has tried by now: he is not let in.
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        socket.end();
        assert_eq!(late.join().unwrap().unwrap_err().kind(), ErrorKind::ConnectionRefused);
        for mut client in early {
            client.read_exact(&mut [0]).unwrap();
        }
        // Though `listener` is a copy that is open still.
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::InvalidInput);
        drop(TcpListener::bind(address).expect("the port is free"));
    }
}

/// Lets only bare SYNs through: whoever connects stays half in.
fn keep_half_open(listener: &TcpListener) {
    let statement = |code: u32, k| SockFilter::new(code as u16, 0, 0, k);
    let program = [
        statement(BPF_LD | BPF_B | BPF_ABS, 13),
        statement(BPF_ALU | BPF_AND | BPF_K, 0x12),
        SockFilter::new((BPF_JMP | BPF_JEQ | BPF_K) as u16, 1, 0, 0x02),
        statement(BPF_RET | BPF_K, 0),
        statement(BPF_RET | BPF_K, u32::MAX),
    ];
    SockRef::from(listener).attach_filter(&program).unwrap();
}

#[test]
fn who_is_half_in_is_known_and_comes_in() {
    for address in loopbacks() {
        let (listener, socket) = listen(address);
        let other = listen(address).1.half_open().unwrap();
        let port = socket.half_open().unwrap();
        assert!(!port.has_half_open().unwrap(), "nobody has come");
        keep_half_open(&listener);
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(port.has_half_open().unwrap(), "{port:?}");
        assert!(!other.has_half_open().unwrap(), "it is another port");
        socket.refuse().unwrap();
        client.write_all(b"x").unwrap();
        let (mut served, _) = eventually("him to be in", || listener.accept().ok());
        // He is in the queue a moment before he is in the other state.
        eventually("nobody to be half in", || (!port.has_half_open().unwrap()).then_some(()));
        served.set_nonblocking(false).unwrap();
        served.read_exact(&mut [0]).unwrap();
    }
}

#[test]
fn a_unix_socket_refuses_at_once_and_its_queue_is_served() {
    let path = std::env::temp_dir().join(format!("cluster-refuses-{}", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let socket = ListeningSocket::from(OwnedFd::from(listener.try_clone().unwrap()));
    let clients: Vec<_> = (0..10).map(|_| UnixStream::connect(&path).unwrap()).collect();
    assert!(socket.half_open().is_none());
    socket.refuse().unwrap();
    assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    for mut client in clients {
        listener.accept().unwrap().0.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    socket.end();
    std::fs::remove_file(path).unwrap();
}

#[test]
fn one_that_is_inherited_goes_on_to_listen() {
    let (listener, _) = listen("127.0.0.1:0");
    let socket = ListeningSocket::inherited(listener.try_clone().unwrap().into());
    let copy = socket.try_clone().unwrap();
    for socket in [socket, copy] {
        assert!(socket.half_open().is_none(), "there is nobody to wait for");
        socket.refuse().unwrap();
        socket.end();
        drop(socket);
        drop(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        listener.accept().unwrap();
    }
}
