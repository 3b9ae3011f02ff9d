//! Datagrams.

use std::ops::Deref;

use super::claimed::Claimed;

/// A UDP socket that all workers share, or each slot's own on a shared port: tokio's, with all its methods. Made by
/// [`Worker::bind_udp`](super::Worker::bind_udp).
///
/// The primary keeps a copy, so what arrives while a worker is away waits for its successor. When the last worker has dropped its own, the
/// port is free.
#[derive(Debug)]
pub struct UdpSocket {
    socket: tokio::net::UdpSocket,
    _claimed: Claimed,
}

impl UdpSocket {
    pub(super) fn new(socket: tokio::net::UdpSocket, claimed: Claimed) -> Self {
        Self { socket, _claimed: claimed }
    }
}

impl Deref for UdpSocket {
    type Target = tokio::net::UdpSocket;

    fn deref(&self) -> &tokio::net::UdpSocket {
        &self.socket
    }
}
