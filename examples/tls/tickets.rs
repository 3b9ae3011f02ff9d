//! Session tickets that every worker can open, since all have the keys.
//!
//! A ticket is a session, encrypted by the server for itself: whoever has its key can pose as the client. So keys only ever lie in
//! memory, each is used for six hours, and forgotten six hours after that.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use cluster::SharedState;
use cluster::state::tokio::Typed;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SystemRandom, generate};
use serde::{Deserialize, Serialize};
use tokio_rustls::rustls::server::ProducesTickets;

const PREFIX: &str = "tls-tickets/";
const NAME: &str = "keys";

/// How long a key is used for new tickets, and how long after that for old ones.
const PERIOD: Duration = Duration::from_secs(6 * 3600);

/// In which order they come: the next one, the present one, and the last one. The next is there so early that all
/// workers have it before anybody uses it.
const NEXT: usize = 0;
const PRESENT: usize = 1;
const KEYS: usize = 3;

#[derive(Clone, Serialize, Deserialize)]
struct Key {
    /// Stands in front of each ticket.
    name: [u8; 16],
    secret: [u8; 32],
}

impl Key {
    fn generate() -> Result<Self, Box<dyn Error + Send + Sync>> {
        let random = SystemRandom::new();
        let name = generate(&random).map_err(|_| "no random numbers")?.expose();
        let secret = generate(&random).map_err(|_| "no random numbers")?.expose();
        Ok(Self { name, secret })
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &self.secret).ok()?))
    }
}

/// The primary's part: making keys.
pub(crate) struct Keys {
    shared: Typed<Vec<Key>>,
    keys: Vec<Key>,
}

impl Keys {
    /// Makes the first ones and shares them.
    pub(crate) async fn new(state: &SharedState) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let keys = vec![Key::generate()?, Key::generate()?];
        let shared = state.typed::<Vec<Key>>(PREFIX);
        shared.set(NAME, &keys).await?;
        Ok(Self { shared, keys })
    }

    /// Renews them in each period.
    pub(crate) async fn renew_for_ever(mut self) -> Result<(), Box<dyn Error + Send + Sync>> {
        loop {
            tokio::time::sleep(PERIOD).await;
            self.renew().await?;
        }
    }

    /// Makes a new one, and forgets the oldest.
    pub(crate) async fn renew(&mut self) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.keys.insert(NEXT, Key::generate()?);
        self.keys.truncate(KEYS);
        self.shared.set(NAME, &self.keys).await?;
        Ok(())
    }
}

/// A worker's part: using the keys of the moment, read from its copy of the state.
pub(crate) struct Tickets(Typed<Vec<Key>>);

impl Tickets {
    pub(crate) fn new(state: &SharedState) -> Self {
        Self(state.typed(PREFIX))
    }

    fn keys(&self) -> Option<Vec<Key>> {
        self.0.get(NAME).ok().flatten()
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(PERIOD.as_secs()).unwrap_or(u32::MAX)
    }

    /// The key's name, a random nonce, and what is sealed under both.
    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys()?;
        let key = keys.get(PRESENT)?;
        let nonce: [u8; NONCE_LEN] = generate(&SystemRandom::new()).ok()?.expose();
        let mut sealed = plain.to_vec();
        let nonce_once = Nonce::assume_unique_for_key(nonce);
        key.cipher()?.seal_in_place_append_tag(nonce_once, Aad::from(key.name), &mut sealed).ok()?;
        Some([&key.name[..], &nonce, &sealed].concat())
    }

    /// `None` for what none of the keys has sealed: then there is a full handshake.
    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<16>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.keys()?;
        let key = keys.iter().find(|key| key.name == *name)?;
        let mut plain = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = key.cipher()?.open_in_place(nonce, Aad::from(key.name), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}
