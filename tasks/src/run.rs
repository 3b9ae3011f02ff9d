//! Running tasks in a worker.

use std::sync::Arc;

use bytes::Bytes;
use cluster_ipc::codec::{Decode, Postcard};
use cluster_ipc::events::Call;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::TaskContext;
use super::party::{Given, Link, Party, Wish, encoded};
use super::wire::{Outcome, TaskRef};
use crate::AlreadyRuns;

/// A task from when it was given to this process until its end was said; which is said when this is dropped, whatever happens.
struct Running {
    link: Arc<Link>,
    task: TaskRef,
    has_begun: bool,
    /// What it came to: for want of anything better, that it was not finished.
    outcome: Option<Outcome>,
}

impl Running {
    fn finish(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_begun {
            return self.link.refuse(self.task);
        }
        let unfinished = || {
            let why = if std::thread::panicking() { "its handler panicked" } else { "its worker gave it up" };
            Err(why.to_owned())
        };
        self.link.finish(self.task, self.outcome.take().unwrap_or_else(unfinished));
    }
}

/// Runs tasks by an asynchronous handler until `leaving` resolves, or nobody gives any more, and what has begun is done.
pub(super) async fn run<C, F, Fut>(
    party: &Party,
    at_once: u16,
    handler: F,
    leaving: impl Future<Output = ()>,
) -> Result<(), AlreadyRuns>
where
    C: Call + Send + 'static,
    F: Fn(C, TaskContext) -> Fut,
    Fut: Future<Output = Result<C::Reply, String>> + Send + 'static,
{
    let begin = |running: Running, body: Bytes, context: TaskContext| {
        let watched = context.clone();
        let work = decoded::<C>(body).map(|task| handler(task, context));
        async move {
            match work {
                // Dropped at its next await when nobody waits for it any more.
                Ok(work) => tokio::select! {
                    reply = work => running.finish(reply.and_then(|reply| written(&reply))),
                    () = watched.cancelled() => drop(running),
                },
                Err(reason) => running.finish(Err(reason)),
            }
        }
    };
    serve(party, C::NAME, at_once, begin, leaving).await
}

/// The same on threads that may block.
pub(super) async fn run_blocking<C, F>(
    party: &Party,
    at_once: u16,
    handler: F,
    leaving: impl Future<Output = ()>,
) -> Result<(), AlreadyRuns>
where
    C: Call + Send + 'static,
    F: Fn(C, TaskContext) -> Result<C::Reply, String> + Send + Sync + 'static,
{
    let handler = Arc::new(handler);
    let begin = |running: Running, body: Bytes, context: TaskContext| {
        let handler = Arc::clone(&handler);
        async move {
            // What the thread does can't be ended from here, so it says itself when it has.
            let work = move || {
                let reply = decoded::<C>(body).and_then(|task| handler(task, context));
                running.finish(reply.and_then(|reply| written(&reply)));
            };
            // A panic was told by `running`.
            let _ = tokio::task::spawn_blocking(work).await;
        }
    };
    serve(party, C::NAME, at_once, begin, leaving).await
}

/// The service of a name. When it ends, what was given and has not begun is given back.
struct Service<'a> {
    link: &'a Link,
    name: &'static str,
    given: mpsc::UnboundedReceiver<Given>,
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        self.link.retire(self.name);
        while let Ok(given) = self.given.try_recv() {
            self.link.refuse(given.task);
        }
    }
}

async fn serve<Fut>(
    party: &Party,
    name: &'static str,
    at_once: u16,
    begin: impl Fn(Running, Bytes, TaskContext) -> Fut,
    leaving: impl Future<Output = ()>,
) -> Result<(), AlreadyRuns>
where
    Fut: Future<Output = ()> + Send + 'static,
{
    let link = &party.link;
    let Some(given) = link.serve(name, at_once) else {
        return Err(AlreadyRuns { name });
    };
    let mut service = Service { link, name, given };
    let mut leaving = std::pin::pin!(leaving);
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = &mut leaving => break,
            Some(_) = running.join_next() => {}
            given = service.given.recv() => match given {
                Some(given) => accept(link, given, &begin, &mut running).await,
                None => break,
            },
        }
    }
    drop(service);
    while running.join_next().await.is_some() {}
    link.flush().await;
    Ok(())
}

/// Begins a task, once the word that it begins is in the socket: if this process dies the moment after, the primary knows.
async fn accept<Fut>(
    link: &Arc<Link>,
    given: Given,
    begin: impl Fn(Running, Bytes, TaskContext) -> Fut,
    running: &mut JoinSet<()>,
) where
    Fut: Future<Output = ()> + Send + 'static,
{
    let Given { task, body, wish } = given;
    let mut this = Running { link: Arc::clone(link), task, has_begun: false, outcome: None };
    if *wish.borrow() != Wish::Run {
        return;
    }
    this.has_begun = true;
    if link.take(task).await.is_err() {
        // The primary is gone. Nobody waits for it.
        return;
    }
    let context = TaskContext { task, link: Arc::clone(link), wish };
    running.spawn(begin(this, body, context));
}

fn decoded<C: Call>(body: Bytes) -> Result<C, String> {
    Postcard::decode(body).map_err(|error| format!("it could not be decoded: {error}"))
}

fn written<R: serde::Serialize>(reply: &R) -> Outcome {
    encoded(reply).map_err(|error| error.to_string())
}
