//! The certificate that all workers show. A real server has it in files.

use std::error::Error;

use cluster::SharedState;
use cluster::state::Start;
use serde::{Deserialize, Serialize};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

const PREFIX: &str = "tls/";
const NAME: &str = "identity";

/// A certificate and its private key, as DER.
#[derive(Serialize, Deserialize)]
pub(crate) struct Identity {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Identity {
    /// Signed by itself: good for trying things only.
    pub(crate) fn generate() -> Result<Self, rcgen::Error> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        Ok(Self { certificate: made.cert.der().to_vec(), key: made.signing_key.serialize_der() })
    }

    pub(crate) async fn share(&self, state: &SharedState) -> Result<(), Box<dyn Error + Send + Sync>> {
        state.typed(PREFIX).set(NAME, self).await?;
        Ok(())
    }

    /// Waits until the primary has shared it.
    pub(crate) async fn shared(state: &SharedState) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let typed = state.typed::<Self>(PREFIX);
        let mut changes = typed.watch(Start::Present)?;
        loop {
            if let Some(identity) = typed.get(NAME)? {
                return Ok(identity);
            }
            changes.next().await.ok_or("the primary is gone")?;
        }
    }

    pub(crate) fn into_parts(self) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        (self.certificate.into(), PrivatePkcs8KeyDer::from(self.key).into())
    }
}
