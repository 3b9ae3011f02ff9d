//! The task of a connection: it moves bytes, and knows nothing of what they mean.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Sleep;

use super::shared::{Shared, State, now};
use super::watch::{Watch, register};
use crate::routing::Routes;
use crate::{Connection, Error, Read, Socket};

/// So many reads (of 64 KiB at most) before other tasks get a turn.
const READS: usize = 4;

/// Lends `AsyncFd` the raw descriptor that it wants.
#[derive(Debug)]
struct Watched<T>(Arc<T>);

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: AsFd> AsFd for Watched<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl<T: AsFd> AsRawFd for Watched<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[derive(Debug)]
pub(super) struct Task {
    shared: Arc<Shared>,
    socket: Watch<Watched<Socket>>,
    process: Option<AsyncFd<Watched<OwnedFd>>>,
    sleep: Pin<Box<Sleep>>,
    /// What `sleep` is set to.
    until: Option<Instant>,
}

impl Task {
    pub(super) fn new(connection: Connection) -> Result<(Arc<Shared>, Self), Error> {
        let connection = connection.map_transport(Arc::new);
        let socket = Watch::new(Watched(connection.transport()))?;
        let process =
            connection.process().map(|process| register(Watched(process), Interest::READABLE)).transpose()?;
        let shared = Arc::new(Shared::new(Routes::new(connection)));
        let sleep = Box::pin(tokio::time::sleep(std::time::Duration::ZERO));
        Ok((Arc::clone(&shared), Self { shared, socket, process, sleep, until: None }))
    }

    /// Writes what is queued. Leaves the task to be woken when there is room.
    fn flush(&mut self, state: &mut State, cx: &mut Context<'_>) {
        let connection = &mut state.routes.connection;
        if !connection.wants_flush() {
            return;
        }
        while !connection.flush(now()) && connection.wants_write() {
            match self.socket.poll_room(cx) {
                Poll::Ready(Ok(mut guard)) => {
                    // Readiness may be old: it is cleared only after the socket said that it would block.
                    if !connection.flush(now()) && connection.wants_write() {
                        guard.clear_ready();
                    }
                }
                Poll::Ready(Err(error)) => connection.close(error),
                Poll::Pending => return,
            }
        }
        if let Err(error) = self.socket.flushed() {
            connection.close(error);
        }
    }

    /// Reads until the socket would block, or others should have a turn. `true` in the second case.
    fn read(&mut self, state: &mut State, cx: &mut Context<'_>) -> bool {
        let connection = &mut state.routes.connection;
        for _ in 0..READS {
            match self.socket.poll_readable(cx) {
                Poll::Ready(Ok(mut guard)) => match connection.read(now()) {
                    Read::Some if !connection.is_drained() => {}
                    Read::Some | Read::Drained => guard.clear_ready(),
                    Read::Ended => return false,
                },
                Poll::Ready(Err(error)) => {
                    connection.close(error);
                    return false;
                }
                Poll::Pending => return false,
            }
        }
        true
    }

    fn watch_process(&self, state: &mut State, cx: &mut Context<'_>) {
        if let Some(process) = &self.process
            && process.poll_read_ready(cx).is_ready()
        {
            state.routes.connection.handle_exit(now());
        }
    }

    /// Sets the timer, and handles what is due. `true` if anything was.
    fn keep_time(&mut self, cx: &mut Context<'_>) -> bool {
        let mut due = false;
        loop {
            let shared = Arc::clone(&self.shared);
            let mut state = shared.lock();
            let until = state.routes.connection.poll_timeout();
            if until != self.until
                && let Some(until) = until
            {
                self.sleep.as_mut().reset(until.into());
            }
            self.until = until;
            if until.is_none() || self.sleep.as_mut().poll(cx).is_pending() {
                return due;
            }
            (due, self.until) = (true, None);
            state.routes.connection.handle_timeout(now());
            state.route();
        }
    }
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        state.task = Some(cx.waker().clone());
        self.flush(&mut state, cx);
        let more = self.read(&mut state, cx);
        self.watch_process(&mut state, cx);
        state.route();
        // What was read may have been worth an answer: credit, a refusal.
        self.flush(&mut state, cx);
        state.route();
        let connection = &state.routes.connection;
        let done = state.handles == 0 && !connection.wants_flush();
        if connection.session().is_closed() || done {
            return Poll::Ready(());
        }
        if more {
            cx.waker().wake_by_ref();
        }
        drop(state);
        // Deadlines are judged last: what came in time counts, also where this process was away and reads it late.
        if self.keep_time(cx) {
            // It may have left something to write.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Drop for Task {
    /// The runtime is going, or the conversation is over: whoever still waits is told.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.routes.connection.close(Error::Closed);
        state.route();
    }
}
