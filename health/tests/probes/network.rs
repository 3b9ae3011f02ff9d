//! By TCP, HTTP and Unix sockets.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::time::Duration;

use cluster_health::os::{HttpGet, Outcome, Target};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};

use crate::servers::{answering, endless, narrow, nobody, read_request, server};
use crate::{LONG, SHORT, reason};

fn get(address: SocketAddr) -> Target {
    Target::Http(HttpGet::new(address, "/health").unwrap())
}

/// A path that is no other test's.
fn path(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("probes-{}-{name}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

#[test]
fn a_listener_is_good_by_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(Target::Tcp(listener.local_addr().unwrap()).ask(LONG), Outcome::Good);
}

#[test]
fn where_nobody_listens_a_connection_is_refused() {
    let (_taken, address) = nobody();
    let refused = format!("connection refused by {address}");
    assert_eq!(reason(Target::Tcp(address).ask(LONG)), refused);
    assert_eq!(reason(get(address).ask(LONG)), refused);
}

#[test]
fn a_listener_whose_queue_is_full_is_given_up() {
    let (_listener, address) = narrow();
    let late = format!("no connection to {address} within 100 ms");
    let is_late = || Target::Tcp(address).ask(SHORT).answer() == Some(Err(late.as_str()));
    assert!((0..16).any(|_| is_late()), "the queue is full after some connections");
}

#[test]
fn the_expected_status_is_good() {
    let address = answering("HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(get(address).ask(LONG), Outcome::Good);
    let only = HttpGet::new(address, "/").unwrap().expected(200..=200);
    assert_eq!(reason(Target::Http(only).ask(LONG)), "answered 204 No Content, expected 200");
}

#[test]
fn another_status_is_told() {
    let address = answering("HTTP/1.1 500 Oh \x1b[31mno\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(reason(get(address).ask(LONG)), "answered 500 Oh \\u{1b}[31mno, expected 200–299");
}

#[test]
fn a_redirect_is_good_only_if_it_is_expected() {
    let address = answering("HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n");
    assert_eq!(reason(get(address).ask(LONG)), "answered 302 Found, expected 200–299");
    let lenient = HttpGet::new(address, "/").unwrap().expected(200..=399);
    assert_eq!(Target::Http(lenient).ask(LONG), Outcome::Good);
}

#[test]
fn the_request_is_what_was_asked_for() {
    let (heard, hears) = channel();
    let address = server(move |mut stream| heard.send(read_request(&mut stream)).unwrap());
    let target = HttpGet::new(address, "/health?full").unwrap().host("shop.example").unwrap();
    let _ = Target::Http(target).ask(LONG);
    let request = hears.recv().unwrap();
    assert!(request.starts_with("GET /health?full HTTP/1.1\r\nHost: shop.example\r\n"), "{request}");
    assert!(request.contains("\r\nConnection: close\r\n"), "{request}");
}

#[test]
fn who_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    assert_eq!(reason(get(address).ask(SHORT)), format!("no answer from {address} within 100 ms"));
}

#[test]
fn who_trickles_does_not_get_around_the_timeout() {
    let address = endless("HTTP/1.1 200 ", "O", Duration::from_millis(1));
    let reason = reason(get(address).ask(SHORT));
    assert!(reason.ends_with(" within 100 ms") || reason.contains(" within 100 ms, only "), "{reason}");
}

#[test]
fn who_closes_at_once_is_told() {
    let address = server(drop);
    let reason = reason(get(address).ask(LONG));
    // Which of the two depends on whether it saw the request.
    let [closed, reset] =
        ["closed", "reset"].map(|word| format!("{address} {word} the connection without an answer"));
    assert!(reason == closed || reason == reset, "{reason}");
}

#[test]
fn who_closes_within_the_answer_is_told() {
    let address = answering("HTTP/1.1 20");
    let expected = format!("{address} closed the connection within its answer: HTTP/1.1 20");
    assert_eq!(reason(get(address).ask(LONG)), expected);
}

#[test]
fn endless_headers_are_not_read() {
    let header = "X-Again: and again\r\n";
    assert_eq!(get(endless("HTTP/1.1 200 OK\r\n", header, Duration::ZERO)).ask(LONG), Outcome::Good);
    let never = endless("HTTP/1.1 103 Early Hints\r\n", header, Duration::ZERO);
    assert_eq!(reason(get(never).ask(LONG)), "answered no status in 8 KiB");
    let line = endless("HTTP/1.1 200 ", "OK", Duration::ZERO);
    assert_eq!(reason(get(line).ask(LONG)), "answered no status in 8 KiB");
}

#[test]
fn what_is_no_http_is_told() {
    let address = answering("SSH-2.0-OpenSSH_9.2\r\n");
    assert_eq!(reason(get(address).ask(LONG)), "answered no HTTP: SSH-2.0-OpenSSH_9.2");
}

#[test]
fn a_unix_socket_is_asked() {
    let path = path("unix");
    let target = Target::Unix(path.clone());
    assert!(
        reason(target.ask(LONG))
            .starts_with(&format!("could not connect to {}: No such file", path.display()))
    );
    let listener = UnixListener::bind(&path).unwrap();
    assert_eq!(target.ask(LONG), Outcome::Good);
    drop(listener);
    assert_eq!(reason(target.ask(LONG)), format!("connection refused by {}", path.display()));
    std::fs::remove_file(&path).unwrap();
    let endless = Target::Unix(PathBuf::from("/x".repeat(200)));
    assert!(reason(endless.ask(LONG)).starts_with("could not connect to /x/x"));
}

#[test]
fn a_unix_socket_whose_queue_is_full_is_given_up() {
    let path = path("full");
    let listener = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    listen(&listener, 0).unwrap();
    let late = format!("no connection to {} within 100 ms: its queue is full", path.display());
    let target = Target::Unix(path.clone());
    let is_late = || target.ask(SHORT).answer() == Some(Err(late.as_str()));
    assert!((0..16).any(|_| is_late()), "the queue is full after some connections");
    std::fs::remove_file(&path).unwrap();
}
