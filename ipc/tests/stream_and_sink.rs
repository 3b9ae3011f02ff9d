//! A frame-level channel as a stream and a sink.
#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::future::poll_fn;
use std::pin::Pin;

use cluster_ipc::tokio::Channel;
use cluster_ipc::{Error, Frame, Kind, Outbox};
use futures_core::Stream;
use futures_sink::Sink;

fn frame(id: u64, len: usize) -> Frame<std::os::fd::OwnedFd> {
    Frame::new(Kind::Message, id, vec![7; len])
}

async fn send(channel: &mut Channel, frame: Frame<std::os::fd::OwnedFd>) -> Result<(), Error> {
    let mut channel = Pin::new(channel);
    poll_fn(|cx| channel.as_mut().poll_ready(cx)).await?;
    channel.as_mut().start_send(frame)
}

async fn next(channel: &mut Channel) -> Option<Result<Frame<std::os::fd::OwnedFd>, Error>> {
    let mut channel = Pin::new(channel);
    poll_fn(|cx| channel.as_mut().poll_next(cx)).await
}

#[tokio::test(flavor = "current_thread")]
async fn a_sink_is_ready_while_little_waits_and_loses_nothing() {
    const FRAMES: u64 = 20_000;
    let (here, there) = cluster_ipc::Channel::pair().unwrap();
    let mut here = Channel::new(here.outbox(Outbox::new().limit(4096))).unwrap();
    let mut there = Channel::new(there).unwrap();
    // Nobody reads: it stops being ready, after what the kernel and the outbox hold.
    let mut sent = 0;
    loop {
        let ready = poll_fn(|cx| std::task::Poll::Ready(Pin::new(&mut here).poll_ready(cx))).await;
        if ready.is_pending() {
            break;
        }
        assert!(sent < FRAMES, "it takes whatever comes");
        Pin::new(&mut here).start_send(frame(sent, 100)).unwrap();
        sent += 1;
    }
    let writer = tokio::spawn(async move {
        for id in sent..FRAMES {
            send(&mut here, frame(id, 100)).await.unwrap();
        }
        poll_fn(|cx| Pin::new(&mut here).poll_close(cx)).await.unwrap();
    });
    for id in 0..FRAMES {
        let frame = next(&mut there).await.expect("more frames").unwrap();
        assert_eq!((frame.id(), frame.payload().len()), (id, 100));
    }
    assert!(next(&mut there).await.is_none(), "the end of the stream");
    assert!(next(&mut there).await.is_none(), "and again");
    writer.await.unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn frames_may_be_larger_where_both_sides_say_so() {
    const LARGE: usize = 3 << 20;
    let (here, there) = cluster_ipc::Channel::pair().unwrap();
    let mut here = Channel::new(here.outbox(Outbox::new().max_frame(LARGE).limit(1))).unwrap();
    let mut there = Channel::new(there.max_frame(LARGE)).unwrap();
    let error = send(&mut here, frame(0, LARGE + 1)).await.unwrap_err();
    assert!(matches!(error, Error::FrameTooLarge { len, max: LARGE } if len == LARGE + 1), "{error}");
    let writer = tokio::spawn(async move {
        send(&mut here, frame(1, LARGE)).await.unwrap();
        send(&mut here, frame(2, 1)).await.unwrap();
        poll_fn(|cx| Pin::new(&mut here).poll_close(cx)).await.unwrap();
    });
    assert_eq!(next(&mut there).await.unwrap().unwrap().payload().len(), LARGE);
    assert_eq!(next(&mut there).await.unwrap().unwrap().id(), 2);
    writer.await.unwrap();
}
