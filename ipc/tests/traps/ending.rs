//! How a stream ends, and that it does.

use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster_ipc::codec::Raw;
use cluster_ipc::session::{Config, Event, Window};
use cluster_ipc::{
    Channel, Connection, Error, Lane, Outbox, Received, Socket, Spawn, Welcome, adopt, adopt_stdin, blocking,
    tokio as tasks,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::alone::{alone, copy, is_asleep, null, role, thread};
use crate::wires::{
    Driver, End, KNOWN, MESSAGE, expect_closed, expect_message, header, is_closed_everywhere, pair, pipes,
    raw, runtime, shrink_buffers, wait_for, wait_for_event, write_raw,
};

/// A peer that died with unread input shows up as a reset connection, one that had read everything as the end of the
/// stream. Both mean the same, and come after the last words.
#[test]
fn econnreset_and_eof_both_mean_that_the_peer_is_gone() {
    alone(|| {
        let now = Instant::now();
        for unread in [true, false] {
            let (here, there) = Socket::pair().unwrap();
            there.send(&[std::io::IoSlice::new(b"last words")], &[]).unwrap();
            if unread {
                here.send(&[std::io::IoSlice::new(b"unread")], &[]).unwrap();
            }
            drop(there);
            let mut buffer = [0; 64];
            assert_eq!(here.receive(&mut buffer, &mut Vec::new()).unwrap(), Received::Bytes(10));
            for _ in 0..3 {
                assert_eq!(here.receive(&mut buffer, &mut Vec::new()).unwrap(), Received::PeerGone);
            }

            // `here` has said something unread, or not, before `there` says its last words and dies.
            let ends = || {
                let (mut here, mut there) = pair(Config::new());
                if unread {
                    here.send(Lane::Data, b"unread", vec![]).unwrap();
                    assert!(here.flush(now));
                }
                there.send(Lane::Data, b"last words", vec![null()]).unwrap();
                assert!(there.flush(now));
                drop(there);
                here
            };
            let mut here = ends();
            assert_eq!(expect_message(&mut here).1.len(), 1);
            assert!(matches!(expect_closed(&mut here), Error::PeerGone), "unread: {unread}");
            for driver in Driver::BOTH {
                let mut here = End::new(driver, ends());
                assert_eq!(here.message().unwrap().unwrap().descriptors.len(), 1);
                for _ in 0..2 {
                    let end = here.message();
                    assert!(matches!(end, Err(Error::PeerGone)), "{driver:?}, unread: {unread}, got {end:?}");
                }
                // Told by a write first: the last words come all the same.
                let mut here = End::new(driver, ends());
                drop(here.send(b"to nobody", vec![]));
                assert_eq!(here.message().unwrap().unwrap().descriptors.len(), 1, "{driver:?}");
                assert!(matches!(here.message(), Err(Error::PeerGone)), "{driver:?}, unread: {unread}");
                assert!(matches!(here.request(b"to nobody", vec![]), Err(Error::PeerGone)), "{driver:?}");
            }
        }
    });
}

/// A grandchild: it lives, with whatever it has inherited, until the pipe on its stderr is closed.
fn sit() {
    let mut byte = [0; 1];
    while matches!(rustix::io::read(std::io::stderr(), &mut byte), Err(_) | Ok(1..)) {}
}

/// Waits for the end of the stream alone, whatever is known of the process.
fn expect_the_end_of(here: &mut Connection) {
    assert_eq!(&expect_message(here).0[..], b"grandchild started");
    assert!(matches!(expect_closed(here), Error::PeerGone));
}

/// A grandchild inherits what is not closed on exec. If that were the channel, the death of the child would go unnoticed
/// as long as the grandchild lives.
#[test]
fn eof_is_not_hidden_by_a_copy_that_a_grandchild_inherits() {
    match role().as_deref() {
        Some("child") => {
            let mut connection = adopt().unwrap().connect(Config::new(), b"").unwrap();
            let Event::Opened(mut opened) = wait_for_event(&mut connection) else { panic!() };
            let pipe = opened.take_descriptors().remove(0);
            // Stdin is inherited.
            copy("grandchild").stdout(Stdio::null()).stderr(Stdio::from(pipe)).spawn().unwrap();
            connection.send(Lane::Data, b"grandchild started", vec![]).unwrap();
            assert!(connection.flush(Instant::now()));
            // Die, without any tidying up.
            std::process::exit(0);
        }
        Some("grandchild") => return sit(),
        _ => {}
    }
    alone(|| {
        let on_stdin = |command: Command| Spawn::from(command);
        let on_seven = |command: Command| Spawn::from(command).on_descriptor(7);
        for spawn in [on_stdin, on_seven] {
            let (reader, writer) = pipes(1);
            let mut command = copy("child");
            command.stdin(Stdio::null()).stdout(Stdio::null());
            let (mut child, mut here) = spawn(command).descriptors(reader).spawn().unwrap();
            assert!(matches!(wait_for_event(&mut here), Event::Opened(_)));
            expect_the_end_of(&mut here);
            assert!(!is_closed_everywhere(&writer[0]), "the grandchild lives: the test shows something");
            assert!(child.wait().unwrap().success());
            drop(writer);
        }
    });
}

/// Somebody holds a copy of the peer's end after all. The peer's process tells of its death.
#[test]
fn eof_hidden_by_a_copy_is_found_by_the_pidfd() {
    if role().as_deref() == Some("child") {
        let mut connection = adopt_stdin().unwrap().unwrap().connect(Config::new(), b"").unwrap();
        connection.send(Lane::Data, b"last words", vec![null()]).unwrap();
        connection.send(Lane::Data, b"very last words", vec![]).unwrap();
        assert!(connection.flush(Instant::now()));
        std::process::exit(0);
    }
    alone(|| {
        for driver in Driver::BOTH {
            let (ours, theirs) = Socket::pair().unwrap();
            let held = raw(&theirs);
            let mut here = Connection::parent(ours, Config::new(), &[], vec![], Instant::now());
            here.flush(Instant::now());
            let mut command = copy("child");
            let mut child =
                command.stdin(Stdio::from(theirs.into_fd())).stdout(Stdio::null()).spawn().unwrap();
            drop(command);
            let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
            let mut here = End::new(driver, here.with_process(pidfd));
            assert_eq!(here.message().unwrap().unwrap().descriptors.len(), 1, "{driver:?}");
            assert_eq!(&here.message().unwrap().unwrap().value[..], b"very last words", "{driver:?}");
            assert!(matches!(here.message(), Err(Error::PeerGone)), "{driver:?}");
            assert!(matches!(here.request(b"to nobody", vec![]), Err(Error::PeerGone)), "{driver:?}");
            assert!(child.wait().unwrap().success());
            drop(held);
        }
    });
}

/// A peer that says nothing, or half a word, keeps nobody waiting for ever.
#[test]
fn handshake_has_a_time_limit() {
    alone(|| {
        let config = Config::new().handshake_timeout(Duration::from_millis(50));
        let parent = |socket| Connection::parent(socket, config, b"hello", vec![], Instant::now());
        let child = |socket| Connection::child(socket, config, b"hello", Instant::now());
        let half_an_answer = &header(100, 2, KNOWN, 0)[..];
        for (side, said) in
            [(true, &b""[..]), (false, b""), (true, half_an_answer), (false, &half_an_answer[..7])]
        {
            let silent = || {
                let (ours, theirs) = Socket::pair().unwrap();
                if !said.is_empty() {
                    write_raw(&theirs, said, &[]);
                }
                (if side { parent(ours) } else { child(ours) }, theirs)
            };
            let (mut here, _theirs) = silent();
            assert!(matches!(expect_closed(&mut here), Error::HandshakeTimeout));

            let (here, _theirs) = silent();
            let endpoint = blocking::Endpoint::new(here).unwrap();
            let opened = endpoint.opened();
            assert!(matches!(opened, Err(Error::HandshakeTimeout)), "got {opened:?}");

            let runtime = runtime();
            let (here, _theirs) = silent();
            let endpoint = runtime.block_on(async { tasks::Endpoint::new(here) }).unwrap();
            let opened = wait_for(&runtime, endpoint.opened());
            assert!(matches!(opened, Err(Error::HandshakeTimeout)), "got {opened:?}");
            drop(endpoint);

            // Whatever one waits for.
            for driver in Driver::BOTH {
                let (here, _theirs) = silent();
                let end = End::new(driver, here);
                assert!(matches!(end.send(b"x", vec![null()]), Err(Error::HandshakeTimeout)), "{driver:?}");
                let (here, _theirs) = silent();
                let end = End::new(driver, here);
                assert!(matches!(end.request(b"x", vec![]), Err(Error::HandshakeTimeout)), "{driver:?}");
                let (here, _theirs) = silent();
                let mut end = End::new(driver, here);
                assert!(matches!(end.message(), Err(Error::HandshakeTimeout)), "{driver:?}");
            }
        }
    });
}

/// A child whose parent stops in the middle of its Welcome: 10 s, of which nothing is used up here but patience.
#[test]
fn handshake_of_an_adoption_has_a_time_limit() {
    if role().as_deref() == Some("child") {
        let adopted = adopt_stdin();
        assert!(matches!(adopted, Err(Error::HandshakeTimeout)), "got {adopted:?}");
        std::process::exit(7);
    }
    alone(|| {
        let (ours, theirs) = Socket::pair().unwrap();
        let mut outbox = Outbox::<OwnedFd>::new();
        outbox.push(Welcome::frame(std::process::id(), b"and so on", vec![])).unwrap();
        let bytes = outbox.poll_transmit().unwrap().bytes().to_vec();
        write_raw(&ours, &bytes[..bytes.len() - 1], &[]);
        let mut child =
            copy("child").stdin(Stdio::from(theirs.into_fd())).stdout(Stdio::null()).spawn().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7));
        drop(ours);
    });
}

/// What is left of a connection whose runtime has ended: its handles, and the pipes to know its descriptors by.
struct Left {
    _sender: tasks::Sender<[u8], Raw>,
    _receiver: tasks::Receiver<Bytes, Raw>,
    queued: Vec<OwnedFd>,
    arrived: Vec<OwnedFd>,
}

/// Drops a runtime while descriptors are on their way out, half a message is on its way in, and many wait.
fn drop_a_runtime() -> Left {
    let window = Window { bytes: 1 << 20, messages: 100, descriptors: 100 };
    let (mut here, there) = pair(Config::new().window(window));
    shrink_buffers([&here, &there]);
    let runtime = runtime();
    let endpoint = runtime.block_on(async { tasks::Endpoint::new(there) }).unwrap();
    let (sender, mut receiver): (tasks::Sender<[u8], Raw>, tasks::Receiver<Bytes, Raw>) = endpoint.split();

    let (out, queued) = pipes(20);
    wait_for(&runtime, async {
        for reader in out {
            sender.send_with(&[0; 10_000], vec![reader]).await.unwrap();
        }
    });
    // A message, and the beginning of another.
    let (arriving, arrived) = pipes(2);
    here.send(Lane::Data, b"whole", vec![]).unwrap();
    assert!(here.flush(Instant::now()));
    let peer = raw(&here);
    write_raw(&peer, &[&header(100, MESSAGE, KNOWN, 2)[..], b"half"].concat(), &arriving);
    drop(arriving);

    // Those who wait do so on runtimes of their own.
    let taken = Arc::new(AtomicBool::new(false));
    let (takes, other) = (Arc::clone(&taken), sender.clone());
    let receiving = thread("receives", move || {
        let runtime = self::runtime();
        wait_for(&runtime, receiver.next()).unwrap().expect("a message has arrived");
        takes.store(true, Ordering::SeqCst);
        (wait_for(&runtime, receiver.next()).map(drop), receiver)
    });
    let sending = thread("sends", move || {
        let runtime = self::runtime();
        loop {
            if let Err(error) = wait_for(&runtime, other.send(&[0; 100_000])) {
                return error;
            }
        }
    });
    let client = sender.client::<Bytes>().timeout(None);
    let asking = thread("asks", move || {
        wait_for(&self::runtime(), client.request_with(b"question", vec![null()])).map(drop)
    });
    let flushing = thread("flushes", move || (wait_for(&self::runtime(), sender.flush()), sender));
    for name in ["receives", "sends", "asks", "flushes"] {
        wait_for(&runtime, async {
            while !is_asleep(name) || !taken.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }
    drop(runtime);

    let (received, receiver) = receiving.join().unwrap();
    assert!(matches!(received, Err(Error::Closed)), "got {received:?}");
    let sent = sending.join().unwrap();
    assert!(matches!(sent, Error::Closed), "got {sent:?}");
    // Depending on whether it had been queued yet.
    let answer = asking.join().unwrap();
    assert!(matches!(answer, Err(Error::Closed | Error::PeerGone)), "got {answer:?}");
    let (flushed, sender) = flushing.join().unwrap();
    assert!(matches!(flushed, Err(Error::Closed)), "got {flushed:?}");
    // The other end goes here too, and with it what its socket had taken.
    Left { _sender: sender, _receiver: receiver, queued, arrived }
}

/// All who wait are told.
#[test]
fn dropped_runtime_ends_all_waiting() {
    alone(|| drop(drop_a_runtime()));
}

/// Nobody will send or take these any more, even though there are still handles.
#[test]
fn dropped_runtime_closes_queued_descriptors() {
    alone(|| {
        let left = drop_a_runtime();
        assert!(left.arrived.iter().all(is_closed_everywhere), "half a message keeps its descriptors");
        assert!(left.queued.iter().all(is_closed_everywhere), "what was queued is still open");
    });
}

/// The same without a runtime: all that is held goes with the last handle.
#[test]
fn dropped_handles_close_queued_descriptors() {
    alone(|| {
        for driver in Driver::BOTH {
            let (here, there) = pair(Config::new());
            shrink_buffers([&here, &there]);
            let (out, queued) = pipes(5);
            let (arriving, arrived) = pipes(2);
            let peer = raw(&here);
            write_raw(&peer, &[&header(100, MESSAGE, KNOWN, 2)[..], b"half"].concat(), &arriving);
            drop(arriving);
            match End::new(driver, there) {
                End::Blocking(sender, _receiver) => {
                    for reader in out {
                        sender.try_send_with(reader);
                    }
                }
                End::Tokio(sender, _receiver, runtime) => wait_for(&runtime, async {
                    for reader in out {
                        sender.send_with(&[0; 10_000], vec![reader]).await.unwrap();
                    }
                }),
            }
            drop((here, peer));
            assert!(queued.iter().chain(&arrived).all(is_closed_everywhere), "{driver:?}");
        }
    });
}

trait TrySendWith {
    fn try_send_with(&self, reader: OwnedFd);
}

impl TrySendWith for blocking::Sender<[u8], Raw> {
    fn try_send_with(&self, reader: OwnedFd) {
        self.feed_with(&[0; 10_000], vec![reader]).unwrap();
    }
}

/// What frames alone promise about descriptors that are queued, or have arrived for no whole frame.
#[test]
fn dropped_channel_closes_queued_descriptors() {
    alone(|| {
        let (here, there) = Socket::pair().unwrap();
        let (arriving, arrived) = pipes(2);
        write_raw(&here, &[&header(100, MESSAGE, KNOWN, 2)[..], b"half"].concat(), &arriving);
        drop(arriving);
        let mut there = Channel::new(there);
        assert!(there.poll_frame().unwrap().is_none());
        let (out, queued) = pipes(1);
        let frame = cluster_ipc::Frame::new(cluster_ipc::Kind::Message, 0, &b""[..]).with_descriptors(out);
        there.try_send(frame).unwrap();
        assert!(!is_closed_everywhere(&queued[0]) && there.as_fd().try_clone_to_owned().is_ok());
        drop(there);
        assert!(queued.iter().chain(&arrived).all(is_closed_everywhere));
    });
}
