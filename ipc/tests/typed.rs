//! Values of serde's types over both drivers that wait: what arrives, what can't be read, what is asked and answered.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "tests have a clock and threads")]

use std::time::Duration;

use bytes::Bytes;
use cluster_ipc::codec::{Decode, Encode, Postcard};
use cluster_ipc::session::{Config, Failure, Window};
use cluster_ipc::{DEFAULT_REQUEST_TIMEOUT, Error, MAX_DESCRIPTORS};
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
    let words = format!("the message is too large for the peer: at most 100 bytes, {MAX_DESCRIPTORS} descriptors");
    for (error, display, debug) in [
        (too_large, &*words, "TooLarge"),
        (Error::PeerGone, "the peer is gone", "PeerGone"),
        (Error::TimedOut, "the request timed out", "TimedOut"),
        (Error::Failed(Failure::Unhandled), "the request failed: the peer has no handler for it", "Unhandled"),
    ] {
        assert_eq!(error.to_string(), display);
        assert!(format!("{error:?}").contains(debug), "{error:?}");
    }
}

mod threads {
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::thread::{scope, spawn};
    use std::time::Instant;

    use cluster_ipc::blocking::{Broadcast, Endpoint, Receiver, Sender};
    use cluster_ipc::codec::Raw;
    use cluster_ipc::hub::{Policy, Subscription};
    use cluster_ipc::{Arrival, Connection};

    use super::*;

    /// Does something in a thread, but not for ever.
    fn limited(body: impl FnOnce() + Send + 'static) {
        let (done, result) = channel();
        let thread = spawn(move || done.send(body()));
        match result.recv_timeout(PATIENCE) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => panic!("it is stuck"),
            Err(RecvTimeoutError::Disconnected) => drop(thread.join().map_err(std::panic::resume_unwind)),
        }
    }

    fn pair<Out, In, C>(config: Config) -> (Sender<Out, C>, Receiver<In, Postcard>)
    where
        Out: ?Sized,
    {
        let (here, there) = Endpoint::pair(config).unwrap();
        let (sender, mut unused) = here.split::<Out, Bytes, C>();
        // Somebody has to look at what comes back.
        drop(unused.recv_raw as fn(_) -> _);
        (sender, there.split::<(), In, Postcard>().1)
    }
}
