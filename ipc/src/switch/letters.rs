//! Letters of one name, one after the other.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::sync::mpsc;

use super::mailbox::{Mailbox, Waiting};
use super::{Key, Letter};
use crate::events::Event;

/// Letters of one name, in the order in which they come: a [`Stream`] too. It ends when another handler takes the name over.
///
/// When as many wait here as [may](super::Limits::queue), this process reads nothing more from whoever sends the next, of whatever name, until
/// one is taken. Dropped, its letters wait for another handler, those that it had not taken too, as those do that nobody handles.
#[derive(Debug)]
#[must_use]
pub struct Letters<E, K> {
    name: &'static str,
    queue: mpsc::Receiver<Waiting<K>>,
    mailbox: Arc<Mailbox<K>>,
    message: PhantomData<fn() -> E>,
}

impl<E, K> Drop for Letters<E, K> {
    fn drop(&mut self) {
        self.mailbox.close(self.name, &mut self.queue);
    }
}

impl<E: Event, K: Key> Letters<E, K> {
    pub(super) fn new(mailbox: Arc<Mailbox<K>>) -> Self {
        let queue = mailbox.open(E::NAME);
        Self { name: E::NAME, queue, mailbox, message: PhantomData }
    }

    /// Waits for the next; `None` when another handler has taken the name over. What can't be read as an `E` is passed over and counted as
    /// [lost](super::Port::lost). Cancel-safe.
    pub async fn recv(&mut self) -> Option<Letter<E, K>> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Takes all that wait here now, in order, without waiting for more: no more than [may wait](super::Limits::queue).
    ///
    /// Whoever knows that something happened after a letter was brought here, such as the end of the process that sent it (the future of
    /// [`Switch::attach`](super::Switch::attach) ends after all that came from it), finds that letter among these.
    pub fn take_waiting(&mut self) -> Vec<Letter<E, K>> {
        // Not what comes meanwhile: that could go on for ever.
        let waiting = self.queue.len();
        let letters = std::iter::from_fn(|| self.queue.try_recv().ok()).take(waiting);
        letters.filter_map(|letter| letter.read().inspect_err(|_| self.mailbox.lose()).ok()).collect()
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Letter<E, K>>> {
        while let Some(letter) = ready!(self.queue.poll_recv(cx)) {
            match letter.read() {
                Ok(letter) => return Poll::Ready(Some(letter)),
                Err(_) => self.mailbox.lose(),
            }
        }
        Poll::Ready(None)
    }
}

impl<E: Event, K: Key> Stream for Letters<E, K> {
    type Item = Letter<E, K>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(cx)
    }
}
