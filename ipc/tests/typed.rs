//! Values of serde's types over both drivers that wait.

#![allow(clippy::disallowed_methods, reason = "tests start threads and look at the clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::time::Duration;

use cluster_ipc::session::{Config, Failure};
use cluster_ipc::{Arrival, Connection, DEFAULT_REQUEST_TIMEOUT, Error, Lane, blocking, tokio as tasks};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Job {
    Resize { width: u32, name: String },
    Stop,
}

/// The same as it stands in the message, without a copy.
#[derive(Debug, PartialEq, Deserialize)]
enum Borrowed<'a> {
    Resize { width: u32, name: &'a str },
    Stop,
}

fn job(number: u32) -> Job {
    Job::Resize { width: number, name: format!("picture {number}") }
}

/// Something that is no `Job`.
const NOT_A_JOB: &[u8] = &[9, 9, 9];

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A connection of which one end is driven by hand, to say what no typed sender would.
fn with_a_hand() -> (Connection, Connection) {
    let (mut here, mut there) = Connection::pair(Config::new()).unwrap();
    let now = std::time::Instant::now();
    while there.read(now) == cluster_ipc::Read::Some {}
    there.flush(now);
    while here.read(now) == cluster_ipc::Read::Some {}
    assert!(here.session().is_open());
    (here, there)
}

/// Says: a job, something that is none, a request that is none, another job, and that this was all.
fn say(here: &mut Connection) {
    let mut scratch = Vec::new();
    let now = std::time::Instant::now();
    let mut encoded = |number| {
        use cluster_ipc::codec::{Encode, Postcard};
        Postcard::encode(&job(number), &mut scratch).unwrap().to_vec()
    };
    here.send(Lane::Data, &encoded(1), vec![]).unwrap();
    here.send(Lane::Data, NOT_A_JOB, vec![]).unwrap();
    here.request(NOT_A_JOB, vec![], None, now).unwrap();
    here.send(Lane::Data, &encoded(2), vec![]).unwrap();
    here.finish();
    assert!(here.flush(now));
}

/// What has become of the request that was none.
fn assert_was_told(here: &mut Connection) {
    use cluster_ipc::session::{Event, Outcome};
    while here.read(std::time::Instant::now()) == cluster_ipc::Read::Some {}
    let events: Vec<_> = std::iter::from_fn(|| here.poll_event()).collect();
    let told = events.iter().any(|event| {
        matches!(event, Event::Completed(_, Outcome::Failed(Failure::Undecodable { reason })) if reason.contains("Job"))
    });
    assert!(told, "{events:?}");
}

#[test]
fn what_cannot_be_decoded_costs_only_itself_on_threads() {
    let (mut here, there) = with_a_hand();
    say(&mut here);
    let (_sender, mut receiver): (blocking::Sender<()>, blocking::Receiver<Job>) =
        blocking::Endpoint::new(there).unwrap().split();
    assert_eq!(receiver.recv().unwrap(), Some(job(1)));
    assert!(matches!(receiver.recv(), Err(Error::Decode { .. })));
    assert!(matches!(receiver.next(), Err(Error::Decode { .. })), "the request, which was answered");
    assert_eq!(receiver.recv().unwrap(), Some(job(2)));
    assert_eq!(receiver.recv().unwrap(), None);
    assert_was_told(&mut here);
}

#[test]
fn what_cannot_be_decoded_costs_only_itself_on_tasks() {
    let (mut here, there) = with_a_hand();
    say(&mut here);
    runtime().block_on(async {
        let (_sender, mut receiver): (tasks::Sender<()>, tasks::Receiver<Job>) =
            tasks::Endpoint::new(there).unwrap().split();
        assert_eq!(receiver.recv().await.unwrap(), Some(job(1)));
        assert!(matches!(receiver.recv().await, Err(Error::Decode { .. })));
        assert!(
            matches!(receiver.next().await, Err(Error::Decode { .. })),
            "the request, which was answered"
        );
        assert_eq!(receiver.recv().await.unwrap(), Some(job(2)));
        assert_eq!(receiver.recv().await.unwrap(), None);
        tokio::task::yield_now().await;
    });
    assert_was_told(&mut here);
}

#[test]
fn a_message_is_decoded_with_borrowed_parts() {
    let (here, there) = blocking::Endpoint::pair(Config::new()).unwrap();
    let sending = std::thread::spawn(move || {
        let (sender, _receiver): (blocking::Sender<Job>, blocking::Receiver<()>) = here.split();
        sender.send(&job(7)).unwrap();
        sender.send(&Job::Stop).unwrap();
    });
    let (_sender, mut receiver): (blocking::Sender<()>, blocking::Receiver<Job>) = there.split();
    let message = receiver.recv_raw().unwrap().unwrap();
    let Borrowed::Resize { width, name } = message.decode::<Borrowed<'_>>().unwrap() else {
        panic!("resize")
    };
    assert_eq!((width, name), (7, "picture 7"));
    let within = message.bytes().as_ptr_range();
    assert!(within.contains(&name.as_ptr()), "no copy was made");
    let message = receiver.recv_raw().unwrap().unwrap();
    assert_eq!(message.decode::<Borrowed<'_>>().unwrap(), Borrowed::Stop);
    sending.join().unwrap();
}

/// A deadline that has passed is no reason not to look.
#[test]
fn what_is_there_is_received_without_waiting() {
    let (here, there) = blocking::Endpoint::pair(Config::new()).unwrap();
    let opening = std::thread::spawn(move || there.opened().map(|_| there));
    here.opened().unwrap();
    let there = opening.join().unwrap().unwrap();
    let (sender, _receiver): (blocking::Sender<Job>, blocking::Receiver<()>) = here.split();
    let (_sender, mut receiver): (blocking::Sender<()>, blocking::Receiver<Job>) = there.split();
    let past = std::time::Instant::now();
    assert!(matches!(receiver.next_before(past), Err(Error::TimedOut)));
    for number in 0..3 {
        sender.send(&job(number)).unwrap();
        let Ok(Some(Arrival::Message(got))) = receiver.next_before(past) else { panic!("it is there") };
        assert_eq!(got.value, job(number));
    }
}

#[test]
fn serving_ends_with_the_last_client() {
    let (here, there) = blocking::Endpoint::pair(Config::new()).unwrap();
    let server = std::thread::spawn(move || {
        let (_sender, receiver): (blocking::Sender<()>, blocking::Receiver<Job>) = there.split();
        receiver.serve(|job| match job {
            Job::Resize { width, .. } => Ok(width * 2),
            Job::Stop => Err("never".to_owned()),
        })
    });
    let (sender, _receiver): (blocking::Sender<Job>, blocking::Receiver<()>) = here.split();
    let asking: Vec<_> = (0..8)
        .map(|number| {
            let client = sender.client::<u32>();
            std::thread::spawn(move || client.request(&job(number)).unwrap())
        })
        .collect();
    let mut answers: Vec<u32> = asking.into_iter().map(|thread| thread.join().unwrap()).collect();
    answers.sort_unstable();
    assert_eq!(answers, [0, 2, 4, 6, 8, 10, 12, 14]);
    let refused = sender.client::<u32>().request(&Job::Stop).unwrap_err();
    assert_eq!(refused.to_string(), "the request failed: never");
    drop(sender);
    server.join().unwrap().unwrap();
    assert_eq!(DEFAULT_REQUEST_TIMEOUT, Some(Duration::from_secs(5)));
}

/// `recv` may be dropped at any time, as `select!` does: nothing is lost, and the order stays.
#[test]
fn receiving_is_cancel_safe() {
    runtime().block_on(async {
        let (here, there) = tasks::Endpoint::pair(Config::new()).unwrap();
        let sending = tokio::spawn(async move {
            let (sender, _receiver): (tasks::Sender<Job>, tasks::Receiver<()>) = here.split();
            for number in 0..500 {
                sender.send(&job(number)).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let (_sender, mut receiver): (tasks::Sender<()>, tasks::Receiver<Job>) = there.split();
        let (mut received, mut dropped) = (0, 0);
        while received < 500 {
            tokio::select! {
                biased;
                next = receiver.recv() => {
                    assert_eq!(next.unwrap(), Some(job(received)));
                    received += 1;
                }
                () = tokio::task::yield_now() => dropped += 1,
            }
        }
        assert!(dropped > 0, "nothing was dropped: the test shows nothing");
        sending.await.unwrap();
        assert_eq!(receiver.recv().await.unwrap(), None);
    });
}

#[test]
fn several_connections_are_waited_for_at_once_by_channels() {
    const EACH: u32 = 50;
    let mut channels = Vec::new();
    let senders: Vec<_> = (0..2)
        .map(|_| {
            let (here, there) = blocking::Endpoint::pair(Config::new()).unwrap();
            let (_sender, receiver): (blocking::Sender<()>, blocking::Receiver<Job>) = there.split();
            channels.push(receiver.into_channel(4));
            std::thread::spawn(move || {
                let (sender, _receiver): (blocking::Sender<Job>, blocking::Receiver<()>) = here.split();
                (0..EACH).for_each(|number| sender.send(&job(number)).unwrap());
            })
        })
        .collect();
    let mut received = [0; 2];
    let mut open = crossbeam_channel::Select::new();
    for channel in &channels {
        open.recv(channel);
    }
    let mut ended = 0;
    while ended < 2 {
        let ready = open.select();
        let which = ready.index();
        match ready.recv(&channels[which]) {
            Ok(Ok(Arrival::Message(parcel))) => {
                assert_eq!(parcel.value, job(received[which]));
                received[which] += 1;
            }
            // It was said that this was all.
            Err(crossbeam_channel::RecvError) => {
                open.remove(which);
                ended += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(received, [EACH; 2]);
    senders.into_iter().for_each(|sender| sender.join().unwrap());
}

#[test]
fn errors_say_what_is_wrong_and_what_the_limit_is() {
    let (here, there) = blocking::Endpoint::pair(Config::new().max_message(1000)).unwrap();
    let opening = std::thread::spawn(move || there.opened().map(|_| there));
    here.opened().unwrap();
    let there = opening.join().unwrap().unwrap();
    let (sender, _receiver): (blocking::Sender<str>, blocking::Receiver<()>) = here.split();
    let large = sender.send(&"x".repeat(2000)).unwrap_err();
    assert_eq!(
        large.to_string(),
        "the message is too large for the peer: at most 1000 bytes, 253 descriptors"
    );
    let client = sender.client::<String>().timeout(Duration::from_millis(1));
    assert_eq!(client.request("anybody?").unwrap_err().to_string(), "the request timed out");
    drop(there);
    let gone = sender.client::<String>().request("anybody?").unwrap_err();
    assert!(matches!(gone, Error::PeerGone), "{gone:?}");
}
