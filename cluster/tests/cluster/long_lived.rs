//! Connections that have no end of their own: they are told, not waited for, and cut at a deadline of their own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::Request;
use axum::response::sse::{Event as ServerSent, Sse};
use axum::routing::get;
use cluster::supervisor::{Event as Life, Policy, StopSequence};
use cluster::{Builder, Event, Via, Worker, WorkerId};
use tokio_stream::StreamExt;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::drain::{keep_alive, wait_exited};
use crate::support::{DEADLINE, client, eventually};
use crate::{Running, builder};

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(600);

const FIRST: WorkerId = WorkerId::new(0, 1);

/// Serves all that lasts.
pub(crate) async fn app(worker: Worker) {
    let listener = worker.listen("127.0.0.1:0").await.unwrap();
    let (polite, deaf, streams) = (worker.clone(), worker.clone(), worker.clone());
    let app = axum::Router::new()
        .route("/", get(|| std::future::ready("hello")))
        .route("/forever", get(std::future::pending::<()>))
        .route(
            "/polite",
            get(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(|socket| says_goodbye(socket, polite))),
        )
        .route(
            "/deaf",
            get(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(|socket| echo(socket, deaf))),
        )
        .route(
            "/events",
            get(async |ConnectInfo(via): ConnectInfo<Via>| {
                via.connection.set_long_lived();
                events(streams)
            }),
        )
        .layer(worker.layer())
        .into_make_service_with_connect_info::<Via>();
    axum::serve(listener, app).with_graceful_shutdown(worker.draining()).await.unwrap();
    worker.drained().await;
}

/// Echoes until the worker leaves; then waits for the client to agree.
async fn says_goodbye(mut socket: WebSocket, worker: Worker) {
    loop {
        tokio::select! {
            message = socket.recv() => match message {
                Some(Ok(message)) => socket.send(message).await.unwrap(),
                _ => return,
            },
            () = worker.leaving() => break,
        }
    }
    let frame = CloseFrame { code: close_code::AWAY, reason: "restart".into() };
    // It may be gone already.
    let _ = socket.send(Message::Close(Some(frame))).await;
    while let Some(Ok(_)) = socket.recv().await {}
}

/// Answers with the worker's id, whatever happens.
async fn echo(mut socket: WebSocket, worker: Worker) {
    while let Some(Ok(Message::Text(_))) = socket.recv().await {
        let _ = socket.send(Message::Text(worker.id().to_string().into())).await;
    }
}

/// An endless stream, but for the worker's end.
fn events(
    worker: Worker,
) -> Sse<impl tokio_stream::Stream<Item = Result<ServerSent, std::convert::Infallible>>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        let mut leaving = std::pin::pin!(worker.leaving());
        loop {
            tokio::select! {
                () = &mut leaving => return,
                sent = sender.send(ServerSent::default().data("tick")) => if sent.is_err() { return },
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    Sse::new(tokio_stream::wrappers::ReceiverStream::new(receiver).map(Ok))
}

type Socket = tungstenite::WebSocket<TcpStream>;

fn web_socket(address: SocketAddr, path: &str) -> Socket {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    tungstenite::client(format!("ws://{address}{path}"), stream).unwrap().0
}

/// Sends something, and returns what comes back.
fn ask(socket: &mut Socket) -> String {
    socket.send("hello".into()).unwrap();
    socket.read().unwrap().into_text().unwrap().to_string()
}

/// One worker that takes its time for everything but what lasts.
fn patient() -> Builder {
    let policy = Policy::new().stop(StopSequence::new().drain(LONG));
    builder("long-lived").workers(1).policy(policy).linger(LONG)
}

fn stop(running: &mut Running, worker: WorkerId) {
    running.block_on(running.handle.stop(worker)).unwrap();
    running.wait_for("the worker to be asked", |event| match event {
        Event::Lifecycle { event: Life::Stopping { id, .. }, .. } if *id == worker => Some(()),
        _ => None,
    });
}

pub(crate) fn a_web_socket_is_told_and_its_worker_ends_then() {
    let mut running = Running::start(patient());
    let address = running.wait_serving()[0];
    let mut socket = web_socket(address, "/polite");
    assert_eq!(ask(&mut socket), "hello");
    stop(&mut running, FIRST);
    let tungstenite::Message::Close(Some(frame)) = socket.read().unwrap() else { panic!("no close frame") };
    assert_eq!((frame.code, frame.reason.as_str()), (CloseCode::Away, "restart"));
    // Its answer.
    socket.flush().unwrap();
    wait_exited(&mut running, FIRST);
    running.stop();
}

pub(crate) fn a_web_socket_that_takes_no_notice_is_cut_and_nobody_else_is() {
    let mut running =
        Running::start(patient().workers(2).linger(DEADLINE).long_lived_deadline(Duration::from_secs(1)));
    let address = running.wait_serving()[0];
    let (stop_clients, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..4).map(|_| scope.spawn(|| keep_alive(address, &stop_clients, &answered))).collect();
        for round in 1..=4 {
            let enough = 500 * round;
            eventually("load", || {
                let broken = clients.iter().any(|client| client.is_finished());
                (broken || answered.load(Ordering::SeqCst) > enough).then_some(())
            });
            let mut sockets = [web_socket(address, "/deaf"), web_socket(address, "/polite")];
            let worker = ask(&mut sockets[0]);
            let worker = running.status().workers.into_iter().find_map(|status| {
                let id = WorkerId::new(status.slot, status.generation);
                (id.to_string() == worker).then_some(id)
            });
            let worker = worker.unwrap();
            let successor = running.block_on(running.handle.fork()).unwrap().id();
            running.wait_ready(successor);
            stop(&mut running, worker);
            // Neither client closes anything.
            wait_exited(&mut running, worker);
            assert!(sockets[0].read().is_err(), "it is at its end");
        }
        stop_clients.store(true, Ordering::SeqCst);
        for client in clients {
            client.join().unwrap().unwrap();
        }
    });
    running.stop();
}

pub(crate) fn what_lasts_may_outlast_what_does_not() {
    let policy = Policy::new().stop(StopSequence::new().drain(Duration::from_millis(300)));
    let builder = builder("long-lived").workers(1).policy(policy).long_lived_deadline(LONG);
    let mut running = Running::start(builder);
    let address = running.wait_serving()[0];
    let mut socket = web_socket(address, "/deaf");
    ask(&mut socket);
    let mut ordinary = client::Connection::open(address).unwrap();
    ordinary.send("GET", "/forever", true).unwrap();
    eventually("the request to have arrived", || (running.status().workers[0].taken == 2).then_some(()));
    stop(&mut running, FIRST);
    ordinary.expect_end().unwrap();
    for _ in 0..10 {
        assert_eq!(ask(&mut socket), FIRST.to_string());
    }
    drop(socket);
    wait_exited(&mut running, FIRST);
    running.stop();
}

pub(crate) fn a_stream_of_events_ends_in_order() {
    let mut running = Running::start(patient());
    let address = running.wait_serving()[0];
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains("data: tick") {
        let mut buffer = [0; 1024];
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "it ended too soon");
        text.extend_from_slice(&buffer[..n]);
    }
    stop(&mut running, FIRST);
    stream.read_to_end(&mut text).unwrap();
    assert!(text.ends_with(b"\r\n0\r\n\r\n"), "no last chunk: {}", String::from_utf8_lossy(&text));
    wait_exited(&mut running, FIRST);
    running.stop();
}

/// What became of the requests of HTTP/2 clients.
#[derive(Debug, Default)]
struct Count {
    answered: AtomicUsize,
    /// The server said before or after that it would not answer them, nor had done anything for them.
    sent_again: AtomicUsize,
    /// Connections that the server has closed.
    closed: AtomicUsize,
}

/// Requests on a connection, several at a time, until the server closes it; then on the next one. Any error is a lost
/// request, but for what a GOAWAY says that the server has not seen.
async fn http2(address: SocketAddr, stop: &AtomicBool, count: &Count) -> Result<(), String> {
    let failed = |error: &dyn std::error::Error| error.to_string();
    while !stop.load(Ordering::SeqCst) {
        let stream = tokio::net::TcpStream::connect(address).await.map_err(|error| failed(&error))?;
        let (requests, connection) = h2::client::handshake(stream).await.map_err(|error| failed(&error))?;
        let connection = tokio::spawn(connection);
        while three_requests(requests.clone(), address, count).await? && !stop.load(Ordering::SeqCst) {}
        drop(requests);
        connection.abort();
    }
    Ok(())
}

/// Returns whether the connection takes more.
async fn three_requests(
    requests: h2::client::SendRequest<bytes::Bytes>,
    address: SocketAddr,
    count: &Count,
) -> Result<bool, String> {
    let mut under_way = Vec::new();
    for _ in 0..3 {
        // If one of these fails it has closed, and nothing was sent.
        let Ok(mut requests) = requests.clone().ready().await else { break };
        let request = Request::get(format!("http://{address}/")).body(()).unwrap();
        let Ok((response, _)) = requests.send_request(request, true) else { break };
        under_way.push(response);
    }
    let is_open = under_way.len() == 3;
    for response in under_way {
        match response.await {
            Ok(response) => {
                assert_eq!(response.status(), 200);
                let mut body = response.into_body();
                while let Some(data) = body.data().await {
                    data.map_err(|error| format!("the end of an answer is lost: {error}"))?;
                }
                count.answered.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) if error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR) => {
                count.sent_again.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) => return Err(format!("lost: {error}")),
        }
    }
    if !is_open {
        count.closed.fetch_add(1, Ordering::SeqCst);
    }
    Ok(is_open)
}

pub(crate) fn http2_clients_lose_no_request() {
    let mut running = Running::start(builder("long-lived").workers(2));
    let address = running.wait_serving()[0];
    let mut oldest_first = vec![FIRST, WorkerId::new(1, 1)];
    let stop_clients: &'static AtomicBool = Box::leak(Box::default());
    let count: &'static Count = Box::leak(Box::default());
    let clients: Vec<_> =
        (0..8).map(|_| running.runtime.spawn(http2(address, stop_clients, count))).collect();
    for round in 1..=6 {
        eventually("load", || {
            let broken = clients.iter().any(|client| client.is_finished());
            (broken || count.answered.load(Ordering::SeqCst) > 1000 * round).then_some(())
        });
        let successor = running.block_on(running.handle.fork()).unwrap().id();
        running.wait_ready(successor);
        oldest_first.push(successor);
        let leaving = oldest_first.remove(0);
        stop(&mut running, leaving);
        wait_exited(&mut running, leaving);
    }
    stop_clients.store(true, Ordering::SeqCst);
    for client in clients {
        running.block_on(client).unwrap().unwrap();
    }
    assert!(count.closed.load(Ordering::SeqCst) > 0, "nobody was told to go: {count:?}");
    eprintln!("{count:?}, 0 lost");
    running.stop();
}
