//! Sessions that are resumed, and the tickets that make it possible.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use cluster::{Cluster, Role};
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ProducesTickets;
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, PeerMisbehaved, SignatureScheme,
    StreamOwned,
};

use self::tickets::{Keys, Tickets};
use crate::program::Program;
use crate::support::DEADLINE;

#[allow(dead_code, reason = "the example uses the rest")]
#[path = "../../tls/tickets.rs"]
mod tickets;

/// Takes any certificate, as `curl -k` does: the example makes it at start.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerMisbehaved::SelectedUnofferedCipherSuite.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// A client that has no session yet.
fn client() -> Arc<ClientConfig> {
    let verifier = AnyCertificate(ring::default_provider().signature_verification_algorithms);
    let builder = ClientConfig::builder().dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Arc::new(builder.with_no_client_auth())
}

/// A request on a connection of its own: which worker has answered, and what it says of the session.
fn ask(client: &Arc<ClientConfig>, address: SocketAddr) -> (String, String) {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut stream = StreamOwned::new(session, stream);
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let (worker, session) = body.trim_end().split_once(": ").unwrap();
    (worker.to_owned(), session.to_owned())
}

/// test-tls-ticket-cluster.js: whoever takes the next connection knows the session.
pub(crate) fn a_session_begun_at_one_worker_is_resumed_at_another() {
    let program = Program::start("tls", &["0"]);
    let address = program.wait_listening(4);
    let mut elsewhere = 0;
    for _ in 0..8 {
        let client = client();
        let (mut last, session) = ask(&client, address);
        assert_eq!(session, "a new session");
        for _ in 0..8 {
            let (worker, session) = ask(&client, address);
            assert_eq!(session, "a resumed session", "begun at {last}, now at {worker}");
            elsewhere += u32::from(worker != last);
            last = worker;
        }
    }
    assert!(elsewhere > 0, "connections go around");
    program.stop();
}

pub(crate) fn tickets_are_opened_by_their_keys_alone() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // A process without a primary, for its state.
        let Role::Worker(worker) = Cluster::builder().workers(0).handle_signals(false).role().unwrap() else {
            panic!("there is no primary");
        };
        let tickets = Tickets::new(&worker.state());
        assert!(tickets.encrypt(b"session").is_none(), "without a key there are no tickets");

        let mut keys = Keys::new(&worker.state()).await.unwrap();
        let ticket = tickets.encrypt(b"session").unwrap();
        assert_ne!(tickets.encrypt(b"session").unwrap(), ticket, "no two are alike");
        assert_eq!(tickets.decrypt(&ticket).unwrap(), b"session");
        for end in 0..ticket.len() {
            assert!(tickets.decrypt(&ticket[..end]).is_none(), "cut at {end}");
            let mut other = ticket.clone();
            other[end] ^= 1;
            assert!(tickets.decrypt(&other).is_none(), "changed at {end}");
        }

        keys.renew().await.unwrap();
        assert_ne!(tickets.encrypt(b"session").unwrap()[..16], ticket[..16], "under another key");
        assert_eq!(tickets.decrypt(&ticket).unwrap(), b"session", "the last one is still there");
        keys.renew().await.unwrap();
        assert!(tickets.decrypt(&ticket).is_none(), "it is forgotten");
    });
}
