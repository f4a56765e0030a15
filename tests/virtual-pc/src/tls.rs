//! TLS in front of the firmware's ports, with a certificate made at start, as after provisioning.
//!
//! TLS 1.2 with ECDHE only: what older generations speak (TLS 1.0 and 1.1, RSA key exchange, CBC)
//! no maintained library offers, and their certificates are RSA where this one is ECDSA.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ServerConfig, version};
use tokio_rustls::server::TlsStream;

/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The firmware's certificate and key.
#[derive(Clone)]
pub(crate) struct Identity {
    acceptor: TlsAcceptor,
    fingerprint: String,
}

impl Identity {
    /// Makes a certificate for `name`, signed by itself.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed([name.to_owned()])
            .context("making a certificate")?;
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())
            .map_err(anyhow::Error::msg)
            .context("reading the key that was made")?;
        let digest = Sha256::digest(&certificate);
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&version::TLS12])
            .context("choosing TLS 1.2")?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .context("using the certificate")?;
        Ok(Identity {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            fingerprint: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    /// SHA-256 of the certificate in hexadecimal digits, for consoles that pin it.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Takes a connection through the handshake.
    pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> std::io::Result<TlsStream<S>> {
        tokio::time::timeout(PATIENCE, self.acceptor.accept(stream)).await?
    }
}
