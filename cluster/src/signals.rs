//! Signals that ask for something.

use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{Error, Result};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// SIGTERM, SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
    /// SIGTTIN.
    More,
    /// SIGTTOU.
    Fewer,
}

/// The signals that this process hears, as one stream.
#[derive(Debug)]
pub(crate) struct Signals {
    heard: Vec<(Signal, Asked)>,
}

impl Signals {
    /// All of them.
    pub(crate) fn primary() -> Result<Self> {
        Self::of(&[
            (SignalKind::terminate(), Asked::Stop),
            (SignalKind::interrupt(), Asked::Stop),
            (SignalKind::hangup(), Asked::Reload),
            (SignalKind::from_raw(nix::libc::SIGTTIN), Asked::More),
            (SignalKind::from_raw(nix::libc::SIGTTOU), Asked::Fewer),
        ])
    }

    /// Those that ask a process without workers to stop.
    pub(crate) fn inline() -> Result<Self> {
        Self::of(&[(SignalKind::terminate(), Asked::Stop), (SignalKind::interrupt(), Asked::Stop)])
    }

    /// SIGTERM alone: a worker's process group gets no Ctrl-C.
    pub(crate) fn worker() -> Result<Self> {
        Self::of(&[(SignalKind::terminate(), Asked::Stop)])
    }

    fn of(signals: &[(SignalKind, Asked)]) -> Result<Self> {
        let listen = |(kind, asked): &(SignalKind, Asked)| Ok((signal(*kind)?, *asked));
        let heard = signals.iter().map(listen).collect::<std::io::Result<_>>();
        Ok(Self { heard: heard.map_err(Error::os("listen for signals"))? })
    }

    /// Waits for the next one. Cancel-safe.
    pub(crate) async fn recv(&mut self) -> Asked {
        std::future::poll_fn(|cx| {
            let mut heard = self.heard.iter_mut();
            let asked = heard.find_map(|(signal, asked)| signal.poll_recv(cx).is_ready().then_some(*asked));
            asked.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}
