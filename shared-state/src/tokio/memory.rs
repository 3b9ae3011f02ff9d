//! Two connected links in memory.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;
use parking_lot::Mutex;

/// Messages that wait in one direction before the sink is no longer ready.
const CAPACITY: usize = 64;

/// Two connected links in memory: what goes into one comes out of the other. When one is dropped the other ends,
/// after what was sent to it.
pub fn memory() -> (Memory, Memory) {
    let (one, other) = (Arc::<Lane>::default(), Arc::<Lane>::default());
    (Memory { out: Arc::clone(&one), back: Arc::clone(&other) }, Memory { out: other, back: one })
}

/// One of two connected [links](super::Link): see [`memory`].
#[derive(Debug)]
pub struct Memory {
    out: Arc<Lane>,
    back: Arc<Lane>,
}

/// One direction.
#[derive(Debug, Default)]
struct Lane(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Bytes>,
    is_closed: bool,
    sender: Option<Waker>,
    receiver: Option<Waker>,
}

impl Lane {
    fn close(&self) {
        let mut queue = self.0.lock();
        queue.is_closed = true;
        let wakers = [queue.sender.take(), queue.receiver.take()];
        drop(queue);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.out.close();
        self.back.close();
    }
}

impl Stream for Memory {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut queue = self.back.0.lock();
        let Some(message) = queue.messages.pop_front() else {
            if queue.is_closed {
                return Poll::Ready(None);
            }
            queue.receiver = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let sender = queue.sender.take();
        drop(queue);
        sender.into_iter().for_each(Waker::wake);
        Poll::Ready(Some(Ok(message)))
    }
}

impl Sink<Bytes> for Memory {
    type Error = Infallible;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        let mut queue = self.out.0.lock();
        if queue.messages.len() < CAPACITY || queue.is_closed {
            return Poll::Ready(Ok(()));
        }
        queue.sender = Some(cx.waker().clone());
        Poll::Pending
    }

    fn start_send(self: Pin<&mut Self>, message: Bytes) -> Result<(), Infallible> {
        let mut queue = self.out.0.lock();
        // Nobody reads it: the stream says that the other is gone.
        if !queue.is_closed {
            queue.messages.push_back(message);
        }
        let receiver = queue.receiver.take();
        drop(queue);
        receiver.into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.out.close();
        Poll::Ready(Ok(()))
    }
}
