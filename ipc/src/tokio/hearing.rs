//! Hearing a ring's bell on a tokio runtime.

use std::os::fd::OwnedFd;
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::watch::register;
use crate::{Error, ring};

/// The reader's end of a ring's bell: wakes a task when it rings (feature `ring`).
#[derive(Debug)]
pub struct Hearing {
    bell: AsyncFd<ring::Hearing>,
}

impl Hearing {
    /// Of the descriptor that came with the [bell](ring::Bell::new).
    ///
    /// # Errors
    ///
    /// [`Error::Os`]: it can't be watched.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, or in one without its I/O driver.
    pub fn new(descriptor: OwnedFd) -> Result<Self, Error> {
        Ok(Self { bell: register(ring::Hearing::new(descriptor), Interest::READABLE)? })
    }

    /// Has this task woken when the bell rings the next time; it wakes the last task that was given here. Then look what there is: it
    /// may have rung before.
    ///
    /// ```
    /// # use std::future::poll_fn;
    /// # use std::task::Poll;
    /// # use cluster_ipc::ring::{Bell, Read, Reader, Writer};
    /// # use cluster_ipc::tokio::Hearing;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cluster_ipc::Error> {
    /// let (mut writer, (bell, theirs)) = (Writer::create(16, 1024)?, Bell::new()?);
    /// let (reader, hearing) = (Reader::open(writer.memory()?)?, Hearing::new(theirs)?);
    /// let heard = tokio::spawn(poll_fn(move |cx| {
    ///     hearing.wake_when_rung(cx);
    ///     let mut message = Vec::new();
    ///     match reader.read(1, &mut message) {
    ///         Read::Message => Poll::Ready(message),
    ///         _ => Poll::Pending,
    ///     }
    /// }));
    /// writer.publish(1, b"hello");
    /// bell.ring();
    /// assert_eq!(heard.await.unwrap(), b"hello");
    /// # Ok(()) }
    /// ```
    pub fn wake_when_rung(&self, cx: &mut Context<'_>) {
        // What rang until now is taken note of, until there is nothing more: then the task is registered.
        while let Poll::Ready(Ok(mut rung)) = self.bell.poll_read_ready(cx) {
            rung.get_inner().hear();
            rung.clear_ready();
        }
    }
}
