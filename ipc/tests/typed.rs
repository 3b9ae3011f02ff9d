//! Values of serde's types over both drivers that wait: what arrives, what can't be read, what is asked and answered.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "tests have a clock and threads")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster_ipc::codec::{Decode, Encode, Postcard, Raw};
use cluster_ipc::hub::{Policy, Subscription};
use cluster_ipc::session::{Config, Failure, Window};
use cluster_ipc::{
    Arrival, Connection, DEFAULT_REQUEST_TIMEOUT, Error, MAX_DESCRIPTORS, blocking, tokio as tasks,
};
use serde::{Deserialize, Serialize};

/// How long anything may take that happens at once on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Much longer than any test takes.
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Order {
    Start { program: String, arguments: Vec<String>, environment: Option<Vec<(String, String)>> },
    Weigh(f64, i64, Option<char>),
    Stop,
}

fn orders() -> Vec<Order> {
    let environment = Some(vec![("LANG".to_owned(), "ȷ̃".to_owned()), (String::new(), String::new())]);
    let arguments: Vec<String> = (0..1000).map(|n| format!("--number={n}")).collect();
    vec![
        Order::Start { program: "worker".to_owned(), arguments, environment },
        Order::Start { program: String::new(), arguments: Vec::new(), environment: None },
        Order::Weigh(-0.5, i64::MIN, Some('\u{10ffff}')),
        Order::Stop,
    ]
}

fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    Postcard::encode(value, &mut Vec::new()).unwrap().to_vec()
}

/// Bytes that are no [`Order`]: a variant that doesn't exist, a string that isn't there, one byte too many, nothing.
fn no_orders() -> [Vec<u8>; 4] {
    [vec![9], vec![0, 200], [encoded(&Order::Stop), vec![0]].concat(), vec![]]
}

#[derive(Serialize, Deserialize)]
struct Owned {
    name: String,
    data: Vec<u8>,
}

fn owned() -> Owned {
    Owned { name: "a name".to_owned(), data: (0..=255).cycle().take(100_000).collect() }
}

/// The same on the wire.
#[derive(Serialize, Deserialize)]
struct Borrowed<'a> {
    name: &'a str,
    data: &'a [u8],
}

/// Whether it is what was sent, and lies where it arrived.
fn assert_borrowed(message: &cluster_ipc::Message) {
    let Borrowed { name, data } = message.decode().unwrap();
    assert_eq!((name, data), (&*owned().name, &*owned().data));
    let place = message.bytes().as_ptr_range();
    assert!(place.contains(&name.as_ptr()) && place.contains(&data.as_ptr()), "nothing was copied");
}

/// What a server of [`Order`]s answers in these tests.
fn answer(order: &Order) -> Result<String, String> {
    match order {
        Order::Stop => Err("not now".to_owned()),
        order => Ok(format!("{order:?}")),
    }
}

/// Whether the answers of such a server are right: to requests that can't be read, to good ones and to refused ones.
fn assert_answer(request: &[u8], got: Result<Bytes, Error>) {
    let order = <Postcard as Decode<Order>>::decode(Bytes::copy_from_slice(request));
    match (order.as_ref().map(answer), got) {
        (Ok(Ok(text)), Ok(got)) => assert_eq!(<Postcard as Decode<String>>::decode(got).unwrap(), text),
        (Ok(Err(words)), Err(Error::Failed(Failure::Refused { reason }))) => assert_eq!(reason, words),
        (Err(error), Err(Error::Failed(Failure::Undecodable { reason }))) => {
            assert_eq!(reason, error.to_string(), "who asked learns why");
        }
        (_, got) => panic!("{got:?} is no answer to {request:?}"),
    }
}

/// Good requests between such that can't be read.
fn requests() -> Vec<Vec<u8>> {
    no_orders().into_iter().zip(orders()).flat_map(|(bad, good)| [bad, encoded(&good)]).collect()
}

/// Few messages, so that many senders wait for credit.
fn narrow() -> Config {
    Config::new().window(Window { bytes: 1 << 20, messages: 8, descriptors: 8 })
}

/// Takes note of message `n` of sender `from`: each sender's messages stay in order.
fn count(next: &mut [u32], (from, n): (u32, u32)) {
    assert_eq!(next[from as usize], n, "the next of sender {from}");
    next[from as usize] += 1;
}

#[test]
fn errors_say_what_is_wrong() {
    assert_eq!(DEFAULT_REQUEST_TIMEOUT, Some(Duration::from_secs(5)));
    let too_large = Error::TooLarge { max: 100, descriptors: MAX_DESCRIPTORS };
    let words =
        format!("the message is too large for the peer: at most 100 bytes, {MAX_DESCRIPTORS} descriptors");
    for (error, display, debug) in [
        (too_large, &*words, "TooLarge"),
        (Error::PeerGone, "the peer is gone", "PeerGone"),
        (Error::TimedOut, "the request timed out", "TimedOut"),
        (
            Error::Failed(Failure::Unhandled),
            "the request failed: the peer has no handler for it",
            "Unhandled",
        ),
    ] {
        assert_eq!(error.to_string(), display);
        assert!(format!("{error:?}").contains(debug), "{error:?}");
    }
}

/// What has to hold with either driver. Where it is invoked, `run`, `wait`, `spawn`, `join`, `handler` and `until_unwanted`
/// say what that means for threads and for tasks.
macro_rules! scenarios {
    ($driver:ident) => {
        use $driver::{Broadcast, Endpoint, Receiver, Sender};

        /// One direction.
        fn one_way<Out: ?Sized, In, C>(config: Config) -> (Sender<Out, C>, Receiver<In>) {
            let (here, there) = Endpoint::pair(config).unwrap();
            (here.split::<Out, (), C>().0, there.split::<(), In, Postcard>().1)
        }

        #[test]
        fn values_arrive_both_ways() {
            run!({
                let (here, there) = Endpoint::pair(Config::new()).unwrap();
                let (sender, mut receiver): (Sender<Order>, Receiver<(u64, Order)>) = here.split();
                let (echo, mut received): (Sender<(u64, Order)>, Receiver<Order>) = there.split();
                let peer = spawn!({
                    let mut n = 0;
                    while let Some(order) = wait!(received.recv()).unwrap() {
                        wait!(echo.send(&(n, order))).unwrap();
                        n += 1;
                    }
                });
                for (n, order) in (0..).zip(orders()) {
                    wait!(sender.send(&order)).unwrap();
                    assert_eq!(wait!(receiver.recv()).unwrap(), Some((n, order)));
                }
                drop(sender);
                assert_eq!(wait!(receiver.recv()).unwrap(), None);
                join!(peer);
            });
        }

        #[test]
        fn a_value_borrows_from_the_message_it_came_in() {
            run!({
                let (sender, mut receiver) = one_way::<Owned, (), Postcard>(Config::new());
                let peer = spawn!({ wait!(sender.send(&owned())).unwrap() });
                assert_borrowed(&wait!(receiver.recv_raw()).unwrap().unwrap());
                assert!(wait!(receiver.recv_raw()).unwrap().is_none());
                join!(peer);
            });
        }

        #[test]
        fn a_message_that_cannot_be_decoded_costs_only_itself() {
            run!({
                let (sender, mut receiver) = one_way::<[u8], Order, Raw>(Config::new());
                let peer = spawn!({
                    for bytes in requests() {
                        wait!(sender.send(&bytes)).unwrap();
                    }
                });
                for order in orders() {
                    assert!(matches!(wait!(receiver.recv()), Err(Error::Decode { .. })));
                    assert_eq!(wait!(receiver.recv()).unwrap(), Some(order));
                }
                assert_eq!(wait!(receiver.recv()).unwrap(), None);
                join!(peer);
            });
        }

        #[test]
        fn a_server_answers_all_and_ends_with_its_client() {
            run!({
                let (sender, receiver) = one_way::<[u8], Order, Raw>(Config::new());
                let server = spawn!({ wait!(receiver.serve(handler!(order, answer(&order)))) });
                let client = sender.client();
                for request in requests() {
                    // Messages are passed over, also such that can't be read.
                    wait!(sender.send(&request)).unwrap();
                    assert_answer(&request, wait!(client.request(&request)));
                }
                drop((sender, client));
                join!(server).expect("the client said that this was all");
            });
        }

        #[test]
        fn who_misses_messages_is_told_and_gets_the_next() {
            run!({
                let (sender, mut receiver) = one_way::<str, String, Postcard>(Config::new().max_message(100));
                let publisher = spawn!({
                    let broadcast = Broadcast::<str>::new();
                    broadcast.subscribe(&sender, Subscription::new(Policy::Wait));
                    for text in ["before", &"too long ".repeat(100), "after"] {
                        wait!(broadcast.publish(text)).unwrap();
                    }
                });
                assert_eq!(wait!(receiver.recv()).unwrap().as_deref(), Some("before"));
                assert!(matches!(wait!(receiver.recv()), Err(Error::Missed { missed: 1 })));
                assert_eq!(wait!(receiver.recv()).unwrap().as_deref(), Some("after"));
                assert_eq!(wait!(receiver.recv()).unwrap(), None);
                join!(publisher);
            });
        }

        #[test]
        fn many_send_by_clones() {
            run!({
                let (sender, mut receiver) = one_way::<(u32, u32), (u32, u32), Postcard>(narrow());
                for from in 0..8 {
                    let sender = sender.clone();
                    spawn!({
                        for n in 0..200 {
                            wait!(sender.send(&(from, n))).unwrap();
                        }
                    });
                }
                drop(sender);
                let mut next = [0; 8];
                while let Some(message) = wait!(receiver.recv()).unwrap() {
                    count(&mut next, message);
                }
                assert_eq!(next, [200; 8]);
            });
        }

        #[test]
        fn a_client_waits_as_long_as_it_was_told() {
            run!({
                let (sender, mut receiver) = one_way::<u8, u8, Postcard>(Config::new());
                let server = spawn!({
                    let mut deadlines = Vec::new();
                    while let Some(arrival) = wait!(receiver.next()).unwrap() {
                        let Arrival::Request(request, responder) = arrival else {
                            panic!("these are requests")
                        };
                        deadlines.push(responder.deadline());
                        if request.value == 9 {
                            until_unwanted!(receiver, responder);
                        }
                        wait!(responder.reply(&request.value)).expect("it is dropped if nobody wants it");
                    }
                    deadlines
                });
                let client = sender.client::<u8>();
                assert_eq!(wait!(client.request(&1)).unwrap(), 1);
                assert_eq!(wait!(client.clone().timeout(None).request(&2)).unwrap(), 2);
                let patient = client.clone().timeout(HOUR);
                assert_eq!(wait!(patient.clone().request(&3)).unwrap(), 3, "a clone is as patient");
                let hasty = client.timeout(Duration::from_millis(1));
                assert!(matches!(wait!(hasty.request(&9)), Err(Error::TimedOut)));
                assert_eq!(wait!(patient.request(&4)).unwrap(), 4, "and the connection goes on");
                drop((sender, patient, hasty));
                let (deadlines, now) = (join!(server), Instant::now());
                assert!(deadlines[0].unwrap() < now + DEFAULT_REQUEST_TIMEOUT.unwrap());
                assert_eq!(deadlines[1], None);
                assert!(deadlines[2].unwrap() > now + HOUR / 2);
            });
        }

        #[test]
        fn a_message_that_is_too_large_is_refused_and_the_next_is_sent() {
            run!({
                let (sender, mut receiver) = one_way::<str, String, Postcard>(Config::new().max_message(100));
                let peer = spawn!({
                    // With its length it is 101 bytes.
                    let error = wait!(sender.send(&"x".repeat(100))).unwrap_err();
                    assert!(matches!(error, Error::TooLarge { max: 100, descriptors: MAX_DESCRIPTORS }));
                    wait!(sender.send(&"x".repeat(99))).unwrap();
                });
                assert_eq!(wait!(receiver.recv()).unwrap(), Some("x".repeat(99)));
                join!(peer);
            });
        }
    };
}

mod threads {
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::thread::spawn;

    use super::*;

    macro_rules! run {
        ($body:block) => {{
            let (done, result) = channel();
            let thread = spawn(move || done.send($body).unwrap());
            match result.recv_timeout(PATIENCE) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => panic!("it is stuck"),
                Err(RecvTimeoutError::Disconnected) => std::panic::resume_unwind(thread.join().unwrap_err()),
            }
        }};
    }
    macro_rules! wait {
        ($call:expr) => {
            $call
        };
    }
    macro_rules! spawn {
        ($body:block) => {
            spawn(move || $body)
        };
    }
    macro_rules! join {
        ($peer:expr) => {
            $peer.join().unwrap()
        };
    }
    macro_rules! handler {
        ($request:ident, $answer:expr) => {
            |$request| $answer
        };
    }
    macro_rules! until_unwanted {
        ($receiver:expr, $responder:expr) => {
            // Nobody reads for a thread that doesn't wait.
            while $responder.is_wanted() {
                let soon = Instant::now() + Duration::from_millis(1);
                assert!(matches!($receiver.next_before(soon), Err(Error::TimedOut)));
            }
        };
    }
    scenarios!(blocking);

    #[test]
    fn one_thread_waits_for_several_connections_by_channels() {
        run!({
            let connections = [(); 2].map(|()| one_way::<u32, u32, Postcard>(narrow()));
            let [one, other] = connections.map(|(sender, receiver)| {
                spawn(move || (0..300).for_each(|n| sender.send(&n).unwrap()));
                receiver.into_channel(4)
            });
            let (mut next, mut ended) = ([0; 2], [false; 2]);
            let never = crossbeam_channel::never();
            while ended != [true; 2] {
                let (which, arrival) = crossbeam_channel::select! {
                    recv(if ended[0] { &never } else { &one }) -> arrival => (0, arrival),
                    recv(if ended[1] { &never } else { &other }) -> arrival => (1, arrival),
                };
                match arrival {
                    Ok(Ok(Arrival::Message(message))) => count(&mut next, (which, message.value)),
                    Ok(other) => panic!("{other:?}"),
                    // The peer said that this was all, which is no error.
                    Err(_) => ended[which as usize] = true,
                }
            }
            assert_eq!(next, [300; 2]);
        });
    }

    #[test]
    fn no_more_waits_in_a_channel_than_it_was_made_for() {
        run!({
            let (sender, receiver) = one_way::<u32, u32, Postcard>(narrow());
            let channel = receiver.into_channel(2);
            sender.send(&0).unwrap();
            let mut sent = 1;
            while !channel.is_full() {
                sent += u32::from(sender.try_send(sent).is_ok());
            }
            // Nobody takes anything now: two are in the channel, and eight may be on their way.
            (0..1000).for_each(|_| sent += u32::from(sender.try_send(sent).is_ok()));
            assert!(channel.len() == 2 && sent <= 2 + 8, "{sent} were sent, {} wait", channel.len());
            drop(sender);
            let got = channel.iter().map(|arrival| match arrival {
                Ok(Arrival::Message(message)) => message.value,
                other => panic!("{other:?}"),
            });
            assert!(got.eq(0..sent));
        });
    }

    #[test]
    fn the_last_item_of_a_channel_is_the_error_that_ended_it() {
        run!({
            let (here, there) = Connection::pair(Config::new()).unwrap();
            let (_sender, receiver): (Sender<()>, Receiver<()>) = Endpoint::new(here).unwrap().split();
            let channel = receiver.into_channel(1);
            drop(there);
            assert!(matches!(channel.recv().unwrap(), Err(Error::PeerGone)));
            channel.recv().expect_err("nothing comes after it");
        });
    }
}

mod on_tokio {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Poll;

    use ::tokio::task::yield_now;

    use super::*;

    macro_rules! run {
        ($body:block) => {{
            let runtime = ::tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let limited = async { ::tokio::time::timeout(PATIENCE, async move $body).await };
            runtime.block_on(limited).expect("it is stuck")
        }};
    }
    macro_rules! wait {
        ($call:expr) => {
            $call.await
        };
    }
    macro_rules! spawn {
        ($body:block) => {
            ::tokio::spawn(async move $body)
        };
    }
    macro_rules! join {
        ($peer:expr) => {
            $peer.await.unwrap()
        };
    }
    macro_rules! handler {
        ($request:ident, $answer:expr) => {
            |$request| async move { $answer }
        };
    }
    macro_rules! until_unwanted {
        ($receiver:expr, $responder:expr) => {
            $responder.cancelled().await
        };
    }
    scenarios!(tasks);

    /// Waits until something is true.
    async fn until(mut is_true: impl FnMut() -> bool) {
        while !is_true() {
            yield_now().await;
        }
    }

    /// Tells when a handler is dropped.
    struct Guard(Arc<AtomicUsize>);

    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn requests_are_handled_at_the_same_time() {
        run!({
            let (sender, receiver) = one_way::<usize, usize, Postcard>(Config::new());
            let arrived = Arc::new(AtomicUsize::new(0));
            let server = spawn!({
                let handler = move |n: usize| {
                    let arrived = Arc::clone(&arrived);
                    async move {
                        arrived.fetch_add(1, Ordering::SeqCst);
                        // None is answered before all have arrived.
                        until(|| arrived.load(Ordering::SeqCst) == 3).await;
                        Ok::<usize, String>(n * n)
                    }
                };
                receiver.serve(handler).await
            });
            let client = sender.client::<usize>();
            let squares = ::tokio::join!(client.request(&2), client.request(&3), client.request(&4));
            assert_eq!((squares.0.unwrap(), squares.1.unwrap(), squares.2.unwrap()), (4, 9, 16));
            drop((sender, client));
            join!(server).unwrap();
        });
    }

    #[test]
    fn a_dropped_request_drops_its_handler() {
        run!({
            let (sender, receiver) = one_way::<bool, bool, Postcard>(Config::new());
            let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let counts = (Arc::clone(&begun), Arc::clone(&ended));
            let handler = move |for_ever: bool| {
                counts.0.fetch_add(1, Ordering::SeqCst);
                let guard = Guard(Arc::clone(&counts.1));
                async move {
                    if for_ever {
                        std::future::pending::<()>().await;
                    }
                    drop(guard);
                    Ok::<bool, String>(true)
                }
            };
            let server = spawn!({ receiver.serve(handler).await });
            let client = sender.client::<bool>().timeout(None);
            ::tokio::select! {
                _ = client.request(&true) => panic!("it has no answer"),
                () = until(|| begun.load(Ordering::SeqCst) == 1) => {}
            }
            until(|| ended.load(Ordering::SeqCst) == 1).await;
            assert!(client.request(&false).await.unwrap(), "and the server goes on");
            drop((sender, client));
            join!(server).unwrap();
        });
    }

    #[test]
    fn a_thread_learns_that_the_task_which_asked_has_given_up() {
        let (here, there) = Connection::pair(Config::new()).unwrap();
        let (told, begun) = std::sync::mpsc::channel();
        let server = std::thread::spawn(move || {
            let endpoint = blocking::Endpoint::new(there).unwrap();
            let (_sender, mut receiver): (blocking::Sender<()>, blocking::Receiver<u8>) = endpoint.split();
            let Ok(Some(Arrival::Request(_, responder))) = receiver.next() else { panic!("this was asked") };
            assert!(responder.is_wanted());
            told.send(()).unwrap();
            assert!(receiver.next().unwrap().is_none(), "it waits, and reads meanwhile");
            assert!(!responder.is_wanted());
        });
        run!({
            let (sender, _receiver): (Sender<u8>, Receiver<()>) = Endpoint::new(here).unwrap().split();
            let client = sender.client::<u8>();
            ::tokio::select! {
                _ = client.request(&1) => panic!("it has no answer"),
                () = until(|| begun.try_recv().is_ok()) => {}
            }
            drop((sender, client));
            until(|| server.is_finished()).await;
        });
    }

    #[test]
    fn nothing_is_lost_when_receiving_is_given_up_again_and_again() {
        run!({
            let connections = [(); 2].map(|()| one_way::<u32, u32, Postcard>(narrow()));
            let [mut one, mut other] = connections.map(|(sender, receiver)| {
                spawn!({
                    for n in 0..300 {
                        sender.send(&n).await.unwrap();
                    }
                });
                receiver
            });
            let mut next = [0; 2];
            while next != [300; 2] {
                // Whichever is not ready is dropped.
                let message = ::tokio::select! {
                    message = one.recv() => (0, message),
                    message = other.recv() => (1, message),
                    () = yield_now() => continue,
                };
                // One that is polled once and dropped.
                let mut polled = pin!(other.recv());
                let polled = poll_fn(|cx| Poll::Ready(polled.as_mut().poll(cx))).await;
                for (from, message) in [Some(message), ready(polled)].into_iter().flatten() {
                    if let Some(n) = message.unwrap() {
                        count(&mut next, (from, n));
                    }
                }
            }
        });
    }

    fn ready<T>(polled: Poll<T>) -> Option<(u32, T)> {
        match polled {
            Poll::Ready(value) => Some((1, value)),
            Poll::Pending => None,
        }
    }
}
