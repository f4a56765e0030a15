//! The cryptography that TLS uses here: ring, without what a client of ours never needs, and P-256 from p256.
//!
//! What that saves in the loader, which crosses a slow link on every boot (static binary, xz): 28 KB by leaving
//! out client certificates and ChaCha20 (every machine with AMT has AES instructions), 144 KB by not linking
//! ring's P-256, most of which is one precomputed table. Left is what servers really use: AES-GCM suites of TLS
//! 1.2 and 1.3, key exchange over X25519 and P-256, certificates with ECDSA on P-256 and P-384, Ed25519, RSA.

use ring::digest::{self, SHA256, SHA384};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::crypto::ring::{cipher_suite, kx_group};
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, SharedSecret,
    SupportedKxGroup, WebPkiSupportedAlgorithms,
};
use rustls::pki_types::{
    AlgorithmIdentifier, InvalidSignature, PrivateKeyDer, SignatureVerificationAlgorithm, alg_id,
};
use rustls::sign::SigningKey;
use rustls::{Error, NamedGroup, PeerMisbehaved, SignatureScheme};
use std::sync::Arc;

use p256::ecdsa::signature::hazmat::PrehashVerifier;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::elliptic_curve::sec1::ToSec1Point;
use p256::{PublicKey, SecretKey, ecdh};
use webpki::ring as algorithm;

pub(crate) fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        ],
        kx_groups: vec![kx_group::X25519, &P256],
        signature_verification_algorithms: SIGNATURES,
        secure_random: &System,
        key_provider: &System,
    }
}

/// As in rustls' own ring provider, which explains the order: TLS 1.3 takes the first of each list, TLS 1.2 any.
static SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        ECDSA_P256_SHA256,
        ECDSA_P256_SHA384,
        algorithm::ECDSA_P384_SHA256,
        algorithm::ECDSA_P384_SHA384,
        algorithm::ED25519,
        algorithm::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        algorithm::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        algorithm::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
        algorithm::RSA_PKCS1_2048_8192_SHA256,
        algorithm::RSA_PKCS1_2048_8192_SHA384,
        algorithm::RSA_PKCS1_2048_8192_SHA512,
        algorithm::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
        algorithm::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
        algorithm::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
    ],
    mapping: &[
        (
            SignatureScheme::ECDSA_NISTP384_SHA384,
            &[algorithm::ECDSA_P384_SHA384, ECDSA_P256_SHA384],
        ),
        (
            SignatureScheme::ECDSA_NISTP256_SHA256,
            &[ECDSA_P256_SHA256, algorithm::ECDSA_P384_SHA256],
        ),
        (SignatureScheme::ED25519, &[algorithm::ED25519]),
        (
            SignatureScheme::RSA_PSS_SHA512,
            &[algorithm::RSA_PSS_2048_8192_SHA512_LEGACY_KEY],
        ),
        (
            SignatureScheme::RSA_PSS_SHA384,
            &[algorithm::RSA_PSS_2048_8192_SHA384_LEGACY_KEY],
        ),
        (
            SignatureScheme::RSA_PSS_SHA256,
            &[algorithm::RSA_PSS_2048_8192_SHA256_LEGACY_KEY],
        ),
        (
            SignatureScheme::RSA_PKCS1_SHA512,
            &[algorithm::RSA_PKCS1_2048_8192_SHA512],
        ),
        (
            SignatureScheme::RSA_PKCS1_SHA384,
            &[algorithm::RSA_PKCS1_2048_8192_SHA384],
        ),
        (
            SignatureScheme::RSA_PKCS1_SHA256,
            &[algorithm::RSA_PKCS1_2048_8192_SHA256],
        ),
    ],
};

const ECDSA_P256_SHA256: &dyn SignatureVerificationAlgorithm = &EcdsaP256 {
    hash: &SHA256,
    identifier: alg_id::ECDSA_SHA256,
};
const ECDSA_P256_SHA384: &dyn SignatureVerificationAlgorithm = &EcdsaP256 {
    hash: &SHA384,
    identifier: alg_id::ECDSA_SHA384,
};

/// ECDSA on P-256 (FIPS 186-5, 6.4.2), signature in DER (RFC 3279, 2.2.3).
#[derive(Debug)]
struct EcdsaP256 {
    hash: &'static digest::Algorithm,
    identifier: AlgorithmIdentifier,
}

impl SignatureVerificationAlgorithm for EcdsaP256 {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let key = VerifyingKey::from_sec1_bytes(public_key).map_err(|_| InvalidSignature)?;
        let signature = Signature::from_der(signature).map_err(|_| InvalidSignature)?;
        let digest = digest::digest(self.hash, message);
        key.verify_prehash(digest.as_ref(), &signature)
            .map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P256
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.identifier
    }
}

/// Key exchange over P-256, for servers that know nothing newer (RFC 8446, 4.2.8.2; RFC 8422, 5.4).
#[derive(Debug)]
struct P256;

struct P256Exchange {
    secret: SecretKey,
    public: Box<[u8]>,
}

impl SupportedKxGroup for P256 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut bytes = [0; 32];
        // A random number is no valid key once in 2^32; twice in a row, the random source is broken.
        for _ in 0..2 {
            System.fill(&mut bytes)?;
            if let Ok(secret) = SecretKey::from_slice(&bytes) {
                let public = secret.public_key().to_sec1_point(false).as_bytes().into();
                return Ok(Box::new(P256Exchange { secret, public }));
            }
        }
        Err(GetRandomFailed.into())
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::secp256r1
    }
}

impl ActiveKeyExchange for P256Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        // Only the uncompressed form is allowed.
        let peer = if peer.first() == Some(&4) {
            PublicKey::from_sec1_bytes(peer).ok()
        } else {
            None
        };
        let peer = peer.ok_or(PeerMisbehaved::InvalidKeyShare)?;
        let shared = ecdh::diffie_hellman(self.secret.to_nonzero_scalar(), peer.as_affine());
        Ok(shared.raw_secret_bytes().as_slice().into())
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::secp256r1
    }
}

/// The system's random numbers; and no private keys, as we never show a certificate.
#[derive(Debug)]
struct System;

impl SecureRandom for System {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        SystemRandom::new().fill(bytes).map_err(|_| GetRandomFailed)
    }
}

impl KeyProvider for System {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        Err(Error::General(
            "client certificates are not supported".to_owned(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// SEQUENCE of two INTEGERs.
    fn der(r: &str, s: &str) -> Vec<u8> {
        let integer = |text: &str| {
            let mut bytes = hex(text);
            if bytes[0] >= 0x80 {
                bytes.insert(0, 0);
            }
            [vec![0x02, u8::try_from(bytes.len()).unwrap()], bytes].concat()
        };
        let body = [integer(r), integer(s)].concat();
        [vec![0x30, u8::try_from(body.len()).unwrap()], body].concat()
    }

    // RFC 6979, A.2.5, message "sample".
    const KEY: &str = "04 60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6
                          7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299";

    #[test]
    fn verifies_the_published_signatures() {
        let sha256 = der(
            "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716",
            "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
        );
        let sha384 = der(
            "0EAFEA039B20E9B42309FB1D89E213057CBF973DC0CFC8F129EDDDC800EF7719",
            "4861F0491E6998B9455193E34E7B0D284DDD7149A74B95B9261F13ABDE940954",
        );
        for (verifier, signature) in [(ECDSA_P256_SHA256, sha256), (ECDSA_P256_SHA384, sha384)] {
            verifier
                .verify_signature(&hex(KEY), b"sample", &signature)
                .unwrap();
            assert!(
                verifier
                    .verify_signature(&hex(KEY), b"simple", &signature)
                    .is_err()
            );
            for at in 0..signature.len() {
                let mut wrong = signature.clone();
                wrong[at] ^= 1;
                assert!(
                    verifier
                        .verify_signature(&hex(KEY), b"sample", &wrong)
                        .is_err(),
                    "byte {at}"
                );
                assert!(
                    verifier
                        .verify_signature(&hex(KEY), b"sample", &signature[..at])
                        .is_err(),
                    "{at} bytes"
                );
            }
        }
    }

    #[test]
    fn refuses_zero_and_points_off_the_curve() {
        let zero = der("00", "00");
        assert!(
            ECDSA_P256_SHA256
                .verify_signature(&hex(KEY), b"sample", &zero)
                .is_err()
        );
        let mut off = hex(KEY);
        off[64] ^= 1;
        assert!(VerifyingKey::from_sec1_bytes(&off).is_err());
        assert!(P256.start().unwrap().complete(&off).is_err());
        assert!(P256.start().unwrap().complete(&[0]).is_err());
        assert!(P256.start().unwrap().complete(&[]).is_err());
        // The right point, but compressed.
        let compressed = [&[3], &hex(KEY)[1..33]].concat();
        assert!(PublicKey::from_sec1_bytes(&compressed).is_ok());
        assert!(P256.start().unwrap().complete(&compressed).is_err());
    }

    #[test]
    fn agrees_with_ring() {
        let random = SystemRandom::new();
        for round in 0..20u8 {
            let document =
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
            let pair = EcdsaKeyPair::from_pkcs8(
                &ECDSA_P256_SHA256_ASN1_SIGNING,
                document.as_ref(),
                &random,
            )
            .unwrap();
            let signature = pair.sign(&random, &[round]).unwrap();
            ECDSA_P256_SHA256
                .verify_signature(pair.public_key().as_ref(), &[round], signature.as_ref())
                .unwrap();

            let ours = P256.start().unwrap();
            let theirs = kx_group::SECP256R1.start().unwrap();
            let (our_public, their_public) = (ours.pub_key().to_vec(), theirs.pub_key().to_vec());
            let shared = ours.complete(&their_public).unwrap();
            assert_eq!(
                shared.secret_bytes(),
                theirs.complete(&our_public).unwrap().secret_bytes()
            );
        }
    }
}
