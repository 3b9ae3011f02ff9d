//! What a worker listens on, shared with all others.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use cluster_acceptor::{Granted, worker};
use tokio::net::ToSocketAddrs;
use tokio::time::timeout;

use super::claimed::{Claim, Claimed, Hold};
use super::control::REQUEST_TIMEOUT;
use super::{Listener, UdpSocket, Worker};
use crate::wire::{ListenReply, Request};
use crate::{Error, Listen, Mode, Result};

impl Worker {
    /// Listens on an address that all workers share: it is bound once, by the primary. With port 0 all workers get
    /// the same port; a worker's second listener on port 0 gets a second one.
    ///
    /// # Errors
    ///
    /// [`Error::Resolve`], [`Error::AlreadyListening`], or [`Error::Listen`] with what the system said to the primary (the
    /// address is in use, say). Also when the primary is gone or silent.
    pub async fn listen(&self, address: impl ToSocketAddrs + std::fmt::Debug) -> Result<Listener> {
        let name = format!("{address:?}");
        let resolve = |source| Error::Resolve { address: name.clone(), source };
        let addresses = tokio::net::lookup_host(&address).await.map_err(resolve)?;
        let mut last = None;
        for address in addresses {
            match self.listen_on(Listen::tcp(address)).await {
                Err(error @ Error::Listen { .. }) => last = Some(error),
                done => return done,
            }
        }
        Err(last.unwrap_or_else(|| resolve(std::io::ErrorKind::AddrNotAvailable.into())))
    }

    /// Listens as described: on a Unix socket, on an inherited one, in another mode.
    ///
    /// # Errors
    ///
    /// As [`listen`](Self::listen).
    pub async fn listen_on(&self, listen: Listen) -> Result<Listener> {
        let name = listen.to_string();
        let listen = listen.absolute().map_err(|source| Error::Listen { address: name, source })?;
        if listen.is_udp() {
            let source = std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                "UDP has no connections: use bind_udp_on",
            );
            return Err(Error::Listen { address: listen.to_string(), source });
        }
        let name = listen.to_string();
        let claim = Claim::new(listen, &self.inner)?;
        let (granted, hold, socket) = self.ask_for(&claim).await?;
        let intake = Arc::clone(&self.inner.intake);
        let listener = match (socket, &self.inner.control) {
            (Some(socket), None) => worker::Listener::alone(intake, granted, socket),
            (socket, _) => worker::Listener::new(intake, granted, socket),
        };
        let listener = listener.map_err(|source| Error::Listen { address: name, source })?;
        Ok(Listener::new(listener, Claimed::new(claim, hold)))
    }

    /// Shares a UDP socket with all workers. It is bound once, by the primary, which keeps it. Say [`ready`](Self::ready) when it is
    /// served: nothing else does.
    ///
    /// # Errors
    ///
    /// As [`listen`](Self::listen).
    ///
    /// ```no_run
    /// # async fn example(worker: cluster::Worker) -> Result<(), Box<dyn std::error::Error>> {
    /// let socket = worker.bind_udp("127.0.0.1:5353").await?;
    /// worker.ready().await;
    /// let mut datagram = [0; 1500];
    /// loop {
    ///     let (length, peer) = socket.recv_from(&mut datagram).await?;
    ///     socket.send_to(&datagram[..length], peer).await?;
    /// }
    /// # }
    /// ```
    pub async fn bind_udp(&self, address: impl ToSocketAddrs + std::fmt::Debug) -> Result<UdpSocket> {
        let name = format!("{address:?}");
        let resolve = |source| Error::Resolve { address: name.clone(), source };
        let mut addresses = tokio::net::lookup_host(&address).await.map_err(resolve)?;
        let address = addresses.next().ok_or_else(|| resolve(std::io::ErrorKind::AddrNotAvailable.into()))?;
        self.bind_udp_on(Listen::udp(address)).await
    }

    /// The same as described by [`Listen::udp`].
    ///
    /// # Errors
    ///
    /// As [`listen`](Self::listen); also for anything else than UDP.
    pub async fn bind_udp_on(&self, listen: Listen) -> Result<UdpSocket> {
        let failed = |source| Error::Listen { address: listen.to_string(), source };
        if !listen.is_udp() {
            return Err(failed(std::io::ErrorKind::InvalidInput.into()));
        }
        let claim = Claim::new(listen.clone(), &self.inner)?;
        let (_, hold, socket) = self.ask_for(&claim).await?;
        let socket = socket.ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
        let socket = tokio::net::UdpSocket::from_std(socket.into()).map_err(failed)?;
        Ok(UdpSocket::new(socket, Claimed::new(claim, hold)))
    }

    /// Whoever stops waiting for this may ask again at once: what is granted then is given back.
    async fn ask_for(&self, claim: &Claim) -> Result<(Granted, Hold, Option<OwnedFd>)> {
        let (listen, nth, inner) = (claim.asked.clone(), claim.nth, Arc::clone(&self.inner));
        if let Some(own) = &self.inner.own {
            let answer = own.lock().listen(&listen.clone().mode(Mode::Shared), nth, 0);
            let answer = answer.map_err(|source| Error::Listen { address: listen.to_string(), source })?;
            return Ok((answer.granted.clone(), Hold::new(answer.granted.listener, inner), answer.copy));
        }
        let control = self.inner.control.clone().ok_or(Error::PrimaryGone)?;
        let asked = tokio::spawn(async move {
            let request = Request::Listen { listen: listen.clone(), nth };
            let (reply, descriptors): (ListenReply, _) = control.request_with_descriptors(&request).await?;
            let failed = |errno| {
                let source = std::io::Error::from_raw_os_error(errno);
                Error::Listen { address: listen.to_string(), source }
            };
            let granted = reply.map_err(failed)?;
            let hold = Hold::new(granted.listener, inner);
            Ok((granted, hold, descriptors.into_iter().next()))
        });
        // A late answer finds who gives back what it grants.
        let answer = timeout(REQUEST_TIMEOUT, asked).await;
        answer.map_err(|_| Error::Timeout { within: REQUEST_TIMEOUT })?.map_err(|_| Error::PrimaryGone)?
    }
}
