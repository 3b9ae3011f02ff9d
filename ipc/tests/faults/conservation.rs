//! Every descriptor is delivered or closed, however things end. Each test is a process of its own, which counts
//! what it has open in the end.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster_ipc::codec::Raw;
use cluster_ipc::session::{Config, Event, Outcome};
use cluster_ipc::{Connection, Error, Lane, tokio as tasks};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

use crate::alone::{alone, deadline, null, open_descriptors, rounds, until};
use crate::random::Random;
use crate::wires::{
    Driver, End, IN_MEMORY, KNOWN, MESSAGE, expect_closed, expect_message, frame, header,
    is_closed_everywhere, nulls, pair, pipes, raw, runtime, shrink_buffers, wait_for, wait_for_event,
    with_room_for, write_raw,
};

/// A future that asks is dropped: before its request has left, while it waits, when the answer is on its way.
#[test]
fn requests_that_are_cancelled_leave_nothing_open() {
    alone(|| {
        let runtime = runtime();
        let (here, mut there) = pair(Config::new());
        let endpoint = runtime.block_on(async { tasks::Endpoint::new(here) }).unwrap();
        let (sender, receiver): (tasks::Sender<[u8], Raw>, tasks::Receiver<Bytes, Raw>) = endpoint.split();
        let client = sender.client::<Bytes>().timeout(None);
        let (asked, sent) = pipes(3);
        let (answers, answered) = pipes(1);
        let mut asked = asked.into_iter();
        let mut ask = || client.request_with(b"question", vec![asked.next().unwrap()]);
        // Never polled, and polled once.
        drop(ask());
        runtime.block_on(async {
            let mut asking = Box::pin(ask());
            assert!(futures_poll_once(asking.as_mut()).await.is_none());
        });
        // Answered while nobody looks.
        let mut asking = Box::pin(ask());
        runtime.block_on(async { assert!(futures_poll_once(asking.as_mut()).await.is_none()) });
        let mut requests = Vec::new();
        while requests.len() < 2 {
            runtime.block_on(async { tokio::task::yield_now().await });
            there.read(Instant::now());
            while let Some(event) = there.poll_event() {
                if let Event::Request { id, message, .. } = event {
                    let (_, descriptors, charge) = message.into_parts();
                    assert_eq!(descriptors.len(), 1);
                    there.handled(charge);
                    requests.push(id);
                }
            }
        }
        there.respond(requests[1], b"answer", answers).unwrap();
        there.flush(Instant::now());
        drop(asking);
        runtime.block_on(async {
            while !answered.iter().all(is_closed_everywhere) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        assert!(sent.iter().all(is_closed_everywhere));
        drop((sender, receiver, client));
    });
}

async fn futures_poll_once<F: Future + Unpin>(future: F) -> Option<F::Output> {
    let mut future = Some(future);
    std::future::poll_fn(|cx| {
        let mut pinned = future.take().expect("it is polled once");
        std::task::Poll::Ready(match std::pin::Pin::new(&mut pinned).poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[test]
fn answers_that_come_too_late_leave_nothing_open() {
    alone(|| {
        for driver in Driver::BOTH {
            let (here, mut there) = pair(Config::new());
            let here = End::new(driver, here);
            let asked = match &here {
                End::Blocking(sender, _) => {
                    let client = sender.client::<Bytes>().timeout(Duration::from_millis(1));
                    client.request_with(b"hurry", nulls(2))
                }
                End::Tokio(sender, _, runtime) => {
                    let client = sender.client::<Bytes>().timeout(Duration::from_millis(1));
                    wait_for(runtime, client.request_with(b"hurry", nulls(2)))
                }
            };
            assert!(matches!(asked, Err(Error::TimedOut)), "{driver:?}: {asked:?}");
            let Event::Request { id, message, .. } = wait_for_event(&mut there) else { panic!("a request") };
            there.handled(message.into_parts().2);
            // The word that nobody waits has not been read here: to this side the answer is worth sending.
            let (late, seen) = pipes(3);
            there.respond(id, b"late", late).unwrap();
            there.flush(Instant::now());
            // Another question makes sure that the late answer has been read.
            let peer = std::thread::spawn(move || {
                loop {
                    if let Event::Request { id, .. } = wait_for_event(&mut there) {
                        there.respond(id, b"in time", Vec::new()).unwrap();
                        there.flush(Instant::now());
                        return there;
                    }
                }
            });
            assert_eq!(&here.request(b"again", Vec::new()).unwrap().0[..], b"in time");
            assert!(seen.iter().all(is_closed_everywhere), "{driver:?}");
            drop(peer.join().unwrap());
        }
    });
}

/// Memory that is not what it should be, with other descriptors beside it.
#[test]
fn memory_that_is_refused_leaves_nothing_open() {
    let memory = |seals: SealFlags, len: u64| -> OwnedFd {
        let memory = memfd_create(c"a stranger's", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&memory, len).unwrap();
        fcntl_add_seals(&memory, seals).unwrap();
        memory
    };
    alone(|| {
        let all = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        for driver in Driver::BOTH {
            let wrong = [
                memory(SealFlags::empty(), 5000),
                memory(SealFlags::SHRINK | SealFlags::GROW, 5000),
                memory(SealFlags::WRITE, 5000),
                memory(all, 4999),
                memory(all, 0),
                null(),
                pipes(1).0.remove(0),
            ];
            for wrong in wrong {
                let (here, there) = pair(Config::new());
                let mut there = End::new(driver, there);
                let (beside, seen) = pipes(1);
                let attached = [beside.into_iter().next().unwrap(), wrong];
                write_raw(
                    &raw(&here),
                    &frame(MESSAGE, KNOWN | IN_MEMORY, 2, &5000u64.to_le_bytes()),
                    &attached,
                );
                drop(attached);
                let refused = there.message();
                assert!(matches!(refused, Err(Error::BadMemory { .. })), "{driver:?}: {refused:?}");
                assert!(seen.iter().all(is_closed_everywhere));
            }
        }
    });
}

/// The peer dies with half a frame written, whose descriptors have arrived.
#[test]
fn a_frame_that_is_cut_off_leaves_nothing_open() {
    alone(|| {
        for driver in Driver::BOTH {
            for len in [100, 30_000, 1 << 20] {
                let (here, there) = pair(Config::new());
                let mut there = End::new(driver, there);
                let (attached, seen) = pipes(4);
                write_raw(&raw(&here), &[&header(len, MESSAGE, KNOWN, 4)[..], b"half"].concat(), &attached);
                drop((here, attached));
                let end = there.message();
                assert!(matches!(end, Err(Error::PeerGone)), "{driver:?}: {end:?}");
                assert!(seen.iter().all(is_closed_everywhere), "{driver:?}, a frame of {len}");
            }
        }
    });
}

/// Both ends in this process, and whatever comes to mind: until one of them has had enough.
#[test]
fn random_faults_leave_nothing_open() {
    alone(|| {
        let mut random = Random::announced("faults");
        for round in 0..rounds(200) {
            let before = open_descriptors().len();
            let (one, other) = pair(Config::new().memory_above(20_000));
            if random.below(2) == 0 {
                shrink_buffers([&one, &other]);
            }
            let mut ends = [Some(one), Some(other)];
            for _ in 0..random.below(200) {
                let side = random.below(2) as usize;
                if let Some(end) = &mut ends[side] {
                    disturb(end, &mut random);
                }
                if random.below(150) == 0 {
                    ends[side] = None;
                }
            }
            drop(ends);
            let after = open_descriptors();
            assert_eq!(after.len(), before, "round {round}: {after:#?}");
        }
    });
}

fn disturb(end: &mut Connection, random: &mut Random) {
    let now = Instant::now();
    let bytes = vec![3; random.below(40_000) as usize];
    match random.below(12) {
        0..3 => drop(end.send(Lane::Data, &bytes, nulls(random.below(4) as usize))),
        3..5 => {
            let asked =
                end.request(&bytes, nulls(random.below(3) as usize), Some(Duration::from_millis(1)), now);
            if let Ok(id) = asked
                && random.below(2) == 0
            {
                end.cancel(id);
            }
        }
        5..8 => {
            end.flush(now);
        }
        8 => {
            with_room_for(random.below(3) as usize, || end.read(now));
        }
        9..11 => {
            end.read(now);
        }
        _ => end.handle_timeout(now),
    }
    while let Some(event) = end.poll_event() {
        match event {
            Event::Message(message) => end.handled(message.into_parts().2),
            Event::Request { id, message, .. } => {
                let (_, descriptors, charge) = message.into_parts();
                end.handled(charge);
                match random.below(3) {
                    0 => drop(end.respond(id, b"answer", descriptors)),
                    1 => end.fail(id, &cluster_ipc::session::Failure::Unanswered),
                    // Never answered.
                    _ => {}
                }
            }
            Event::Completed(_, Outcome::Reply(message)) => end.handled(message.into_parts().2),
            _ => {}
        }
    }
}

/// What an end still holds for its application when it ends goes with it.
#[test]
fn what_nobody_takes_is_closed_with_the_connection() {
    alone(|| {
        let (mut here, mut there) = pair(Config::new());
        let (attached, seen) = pipes(3);
        for descriptor in attached {
            here.send(Lane::Data, b"for nobody", vec![descriptor]).unwrap();
        }
        here.flush(Instant::now());
        while there.read(Instant::now()) == cluster_ipc::Read::Some {}
        drop(there);
        assert!(seen.iter().all(is_closed_everywhere));
        assert!(matches!(expect_closed(&mut here), Error::PeerGone));

        for driver in Driver::BOTH {
            let (mut here, there) = pair(Config::new());
            let there = End::new(driver, there);
            let (attached, seen) = pipes(3);
            here.send(Lane::Data, b"three", attached).unwrap();
            here.request(b"and a request", nulls(1), None, Instant::now()).unwrap();
            here.flush(Instant::now());
            // In the receiver's hand, and in the session.
            if let End::Tokio(_, _, runtime) = &there {
                runtime.block_on(async { tokio::task::yield_now().await });
            }
            drop(there);
            until("all is closed", || seen.iter().all(is_closed_everywhere));
            assert!(matches!(
                wait_for_event(&mut here),
                Event::Completed(..) | Event::Closed(_) | Event::Finished
            ));
        }
    });
}

/// The last descriptor a process may have is used up by what arrives; afterwards all goes on as before.
#[test]
fn a_process_at_its_limit_takes_what_it_can() {
    alone(|| {
        let (mut here, mut there) = pair(Config::new());
        for count in [1, 2, 3] {
            here.send(Lane::Data, b"as many as fit", nulls(count)).unwrap();
            here.flush(Instant::now());
            let (bytes, descriptors) = with_room_for(count, || expect_message(&mut there));
            assert_eq!((&bytes[..], descriptors.len()), (&b"as many as fit"[..], count));
        }
        let deadline = deadline();
        here.send(Lane::Data, b"more than fit", nulls(4)).unwrap();
        here.flush(Instant::now());
        let lost = with_room_for(3, || expect_closed(&mut there));
        assert!(matches!(lost, Error::DescriptorsLost), "{lost:?}");
        assert!(matches!(expect_closed(&mut here), Error::PeerGone));
        assert!(Instant::now() < deadline && there.as_fd().try_clone_to_owned().is_ok());
    });
}
