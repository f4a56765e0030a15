//! Whom TLS believes: the CAs of a PEM bundle, and servers whose key is pinned.
//!
//! A pin is the SHA-256 of a SubjectPublicKeyInfo, written `sha256/BASE64` as in RFC 7469, 2.4. A server that
//! proves to own a pinned key is believed whatever its certificate says about names, dates and issuers; that is
//! what makes a self-signed server usable by a machine whose clock is wrong.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::provider::provider;
use fetch::TlsFailure;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use sha2::{Digest as _, Sha256};

/// Digest of a public key that a server may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pin([u8; 32]);

impl Pin {
    /// The pin of a certificate's key; nothing where it is no certificate.
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        let certificate = CertificateDer::from(der);
        let parsed = ParsedCertificate::try_from(&certificate).ok()?;
        Some(Self(
            Sha256::digest(parsed.subject_public_key_info().as_ref()).into(),
        ))
    }
}

const PREFIX: &str = "sha256/";
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

impl FromStr for Pin {
    type Err = TrustError;

    fn from_str(text: &str) -> Result<Self, TrustError> {
        let bad = || TrustError::Pin {
            text: text.chars().take(60).collect(),
        };
        // 32 bytes are 43 digits of 6 bits, the last with 2 bits to spare, and one sign of padding (RFC 4648, 4).
        let digits = text
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.strip_suffix('='))
            .ok_or_else(bad)?
            .as_bytes();
        let mut bytes = Vec::with_capacity(33);
        let mut bits = 0u32;
        for (at, digit) in digits.iter().take(44).enumerate() {
            let value = ALPHABET
                .iter()
                .position(|known| known == digit)
                .and_then(|value| u32::try_from(value).ok());
            bits = (bits << 6 | value.ok_or_else(bad)?) & 0xff_ffff;
            // Every fourth digit completes three bytes.
            if at % 4 == 3 {
                bytes.extend_from_slice(bits.to_be_bytes().get(1..).unwrap_or_default());
                bits = 0;
            }
        }
        if digits.len() != 43 || bits & 0b11 != 0 {
            return Err(bad());
        }
        bytes.extend_from_slice((bits << 6).to_be_bytes().get(1..3).unwrap_or_default());
        bytes.try_into().map(Self).map_err(|_| bad())
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        for group in self.0.chunks(3) {
            let bits = group
                .iter()
                .fold(0u32, |bits, byte| bits << 8 | u32::from(*byte))
                << (8 * (3 - group.len()));
            for digit in 0..4usize {
                let value = usize::try_from(bits >> (18 - 6 * digit) & 0x3f).unwrap_or(0);
                let digit = if digit <= group.len() {
                    ALPHABET.get(value).copied().unwrap_or(b'=')
                } else {
                    b'='
                };
                write!(f, "{}", char::from(digit))?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

/// Whom to believe. With neither CA nor pin, only plain HTTP works.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    roots: Option<Arc<RootCertStore>>,
    pins: Vec<Pin>,
}

/// A trust setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Not PEM, or PEM without a certificate.
    #[error("no certificate in CA bundle")]
    NoCertificate,
    /// A PEM section that is damaged or holds no CA certificate.
    #[error("certificate {number} of CA bundle is not usable: {cause}")]
    Certificate {
        /// Counted from 1.
        number: usize,
        /// Why.
        cause: String,
    },
    /// Not `sha256/` and the base64 of 32 bytes.
    #[error("pinned key {text:?} is not sha256/BASE64 of 32 bytes")]
    Pin {
        /// What it is instead, cut to a printable length.
        text: String,
    },
    /// The TLS library refused; a bug.
    #[error("setting up TLS: {cause}")]
    Library {
        /// What it says.
        cause: String,
    },
}

impl Trust {
    /// Believes the CAs in `ca_pem` and the servers that own one of the keys in `pins`.
    pub fn new<'a>(
        ca_pem: Option<&str>,
        pins: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, TrustError> {
        let mut roots = None;
        if let Some(pem) = ca_pem {
            let mut store = RootCertStore::empty();
            for (at, certificate) in CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate() {
                let number = at + 1;
                let bad = |cause: String| TrustError::Certificate { number, cause };
                let certificate = certificate.map_err(|cause| bad(cause.to_string()))?;
                store
                    .add(certificate)
                    .map_err(|cause| bad(cause.to_string()))?;
            }
            if store.is_empty() {
                return Err(TrustError::NoCertificate);
            }
            roots = Some(Arc::new(store));
        }
        let pins = pins.into_iter().map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { roots, pins })
    }

    /// Whether nobody is believed.
    pub fn is_empty(&self) -> bool {
        self.roots.is_none() && self.pins.is_empty()
    }

    pub(crate) fn client_config(&self) -> Result<ClientConfig, TrustError> {
        let library = |cause: String| TrustError::Library { cause };
        let provider = Arc::new(provider());
        let authorities = self.roots.as_ref().map(|roots| {
            WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(&provider))
                .build()
        });
        let authorities = authorities
            .transpose()
            .map_err(|cause| library(cause.to_string()))?;
        let verifier = Verifier {
            pins: self.pins.clone(),
            authorities,
            algorithms: provider.signature_verification_algorithms,
        };
        config(provider, verifier).map_err(|cause| library(cause.to_string()))
    }
}

fn config(provider: Arc<CryptoProvider>, verifier: Verifier) -> Result<ClientConfig, Error> {
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// Believes pinned keys first, then CAs. In both cases the handshake's signature proves that the server has the
/// certificate's key: rustls asks for that check separately, and it is the library's own.
#[derive(Debug)]
struct Verifier {
    pins: Vec<Pin>,
    authorities: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pin = Pin::of_certificate(end_entity).ok_or(CertificateError::BadEncoding)?;
        if self.pins.contains(&pin) {
            return Ok(ServerCertVerified::assertion());
        }
        match &self.authorities {
            Some(authorities) => authorities.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            None => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What an error of the TLS library means to the one who has to fix it.
pub(crate) fn tls_failure(error: &Error) -> TlsFailure {
    match error {
        Error::InvalidCertificate(cause) => match cause {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                TlsFailure::Expired
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                TlsFailure::NotYetValid
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                TlsFailure::UnknownCa
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                TlsFailure::WrongName
            }
            CertificateError::ApplicationVerificationFailure => TlsFailure::NotPinned,
            _ => TlsFailure::BadCertificate,
        },
        _ => TlsFailure::Handshake,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_a_pin_as_openssl_prints_it() {
        // printf abc | openssl dgst -sha256 -binary | base64
        let text = "sha256/ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
        let pin: Pin = text.parse().unwrap();
        assert_eq!(pin.0, <[u8; 32]>::from(Sha256::digest(b"abc")));
        assert_eq!(pin.to_string(), text);
    }

    #[test]
    fn refuses_what_is_no_pin() {
        for text in [
            "",
            "sha256/",
            "sha256/=",
            "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
            "sha1/ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
            // One digit short, one too long, without padding, a foreign sign, spare bits set.
            "sha256/ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa=",
            "sha256/ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa00=",
            "sha256/ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0",
            "sha256/ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
            "sha256/ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa1=",
        ] {
            assert!(
                matches!(text.parse::<Pin>(), Err(TrustError::Pin { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_a_ca_bundle_without_certificates() {
        for pem in [
            "",
            "no PEM at all",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            assert_eq!(
                Trust::new(Some(pem), []).unwrap_err(),
                TrustError::NoCertificate,
                "{pem}"
            );
        }
        let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(
            Trust::new(Some(damaged), []),
            Err(TrustError::Certificate { number: 1, .. })
        ));
    }

    proptest::proptest! {
        #[test]
        fn every_pin_survives_being_written(bytes: [u8; 32]) {
            proptest::prop_assert_eq!(Pin(bytes).to_string().parse::<Pin>(), Ok(Pin(bytes)));
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".{0,80}") {
            let _ = text.parse::<Pin>();
            let _ = format!("sha256/{text}=").parse::<Pin>();
            let _ = Trust::new(Some(&text), []);
        }
    }
}
