//! Handlers as tasks.

use std::pin::Pin;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{Answer, Call, Event, Handlers, answer};
use crate::codec::Raw;
use crate::tokio::Receiver;
use crate::{Arrival, Error};

/// A handler at work.
pub type Pending = Pin<Box<dyn Future<Output = Answer> + Send>>;

impl Handlers<Pending> {
    /// For handlers that are async functions.
    pub fn tasks() -> Self {
        Self::empty()
    }

    /// Calls `handler` for each event of this type. It replaces an earlier handler of the same name.
    pub fn on<E: Event, F: Future<Output = ()> + Send + 'static>(
        &mut self,
        handler: impl Fn(E) -> F + Send + Sync + 'static,
    ) {
        self.insert::<E>(move |event| {
            let handled = handler(event);
            Box::pin(async move {
                handled.await;
                Ok(Vec::new())
            })
        });
    }

    /// Answers each call of this type: `Ok` with the reply, `Err` with a reason.
    pub fn on_call<C: Call, F: Future<Output = Result<C::Reply, String>> + Send + 'static>(
        &mut self,
        handler: impl Fn(C) -> F + Send + Sync + 'static,
    ) {
        self.insert::<C>(move |call| {
            let returned = handler(call);
            Box::pin(async move { answer(returned.await) })
        });
    }

    /// Handles what arrives until the peer says that this was all: events one after the other, in order; each call in a task
    /// of its own, which is dropped at its next await when who asked has given up.
    ///
    /// # Errors
    ///
    /// [`Error::PeerGone`], or why else the connection ended.
    pub async fn serve(&mut self, mut receiver: Receiver<Bytes, Raw>) -> Result<(), Error> {
        let mut running = JoinSet::new();
        loop {
            // Those that are done make room for others.
            while running.try_join_next().is_some() {}
            match receiver.next().await {
                Ok(Some(Arrival::Message(message))) => {
                    if let Ok(handled) = self.dispatch(&message.value) {
                        // Nobody waits for what becomes of an event.
                        drop(handled.await);
                    }
                }
                Ok(Some(Arrival::Request(request, responder))) => match self.dispatch(&request.value) {
                    Ok(pending) => {
                        running.spawn(async move {
                            match responder.unless_cancelled(pending).await {
                                // The peer may be gone by now: the next turn will tell.
                                Some(Ok(reply)) => drop(responder.reply(&reply).await),
                                Some(Err(failure)) => responder.failure(failure),
                                None => {}
                            }
                        });
                    }
                    Err(failure) => responder.failure(failure),
                },
                Ok(Some(Arrival::Gap { .. })) | Err(Error::Missed { .. }) => {}
                Ok(None) => {
                    while running.join_next().await.is_some() {}
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }
}
