//! Whom TLS believes, against a real TLS server with certificates made on the spot.

use std::sync::Arc;

use fetch_http::{
    ConnectionFailure, HttpClient, HttpError, HttpFailure, HttpOptions, Pin, Settings, TlsFailure,
    Trust, fetch_image,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm, date_time_ymd,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion, crypto, version};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::server::{Answer, Server};
use crate::store::{Files, Ram, Store};

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    fn sign(&self, params: &CertificateParams, algorithm: &'static SignatureAlgorithm) -> Identity {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Identity {
            certificate,
            key: key.serialize_der(),
        }
    }
}

/// What a server has to show.
#[derive(Debug, Clone)]
struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Identity {
    fn pin(&self) -> String {
        Pin::of_certificate(&self.certificate).unwrap().to_string()
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.clone()).unwrap()
    }
}

/// Does not ask whether the key belongs to the certificate.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn names() -> CertificateParams {
    CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap()
}

async fn serve(
    files: &Files,
    identity: &Identity,
    versions: &[&'static SupportedProtocolVersion],
) -> Server {
    serve_with(crypto::ring::default_provider(), files, identity, versions).await
}

async fn serve_with(
    provider: CryptoProvider,
    files: &Files,
    identity: &Identity,
    versions: &[&'static SupportedProtocolVersion],
) -> Server {
    let provider = Arc::new(provider);
    let key = provider
        .key_provider
        .load_private_key(identity.key())
        .unwrap();
    let shown = Always(Arc::new(CertifiedKey::new(
        vec![identity.certificate.clone()],
        key,
    )));
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Server::listen(
        listener,
        files,
        |_, _| Answer::Serve,
        Some(TlsAcceptor::from(Arc::new(config))),
    )
}

fn client(ca: Option<&str>, pins: &[&str]) -> HttpClient {
    let trust = Trust::new(ca, pins.iter().copied()).unwrap();
    HttpClient::new(&HttpOptions {
        trust,
        ..HttpOptions::default()
    })
    .unwrap()
}

async fn get(client: &HttpClient, identity: &Identity) -> Result<Vec<u8>, TlsFailure> {
    let mut files = Files::new();
    files.insert("file".into(), b"hello"[..].into());
    let server = serve(&files, identity, rustls::ALL_VERSIONS).await;
    client
        .get_small(&format!("{}/file", server.url), 5)
        .await
        .map_err(|HttpError { what, .. }| match what {
            HttpFailure::Connection(ConnectionFailure::Tls(failure)) => failure,
            other => panic!("{other:?}"),
        })
}

#[tokio::test]
async fn believes_a_server_whose_ca_is_in_the_bundle() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let bundle = format!("{}{}", other.pem, ours.pem);
    for algorithm in [
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
        &PKCS_ED25519,
    ] {
        let identity = ours.sign(&names(), algorithm);
        assert_eq!(
            get(&client(Some(&bundle), &[]), &identity).await.unwrap(),
            b"hello"
        );
    }
}

#[tokio::test]
async fn speaks_tls_1_2_and_1_3() {
    let ours = Authority::new("ours");
    let identity = ours.sign(&names(), &PKCS_ECDSA_P256_SHA256);
    let mut files = Files::new();
    files.insert("file".into(), b"hello"[..].into());
    for versions in [&[&version::TLS12], &[&version::TLS13]] {
        let server = serve(&files, &identity, versions).await;
        for client in [
            client(Some(&ours.pem), &[]),
            client(None, &[&identity.pin()]),
        ] {
            assert_eq!(
                client
                    .get_small(&format!("{}/file", server.url), 5)
                    .await
                    .unwrap(),
                b"hello"
            );
        }
    }
}

#[tokio::test]
async fn exchanges_keys_over_x25519_and_p256() {
    let ours = Authority::new("ours");
    let identity = ours.sign(&names(), &PKCS_ECDSA_P256_SHA256);
    let mut files = Files::new();
    files.insert("file".into(), b"hello"[..].into());
    for group in [
        crypto::ring::kx_group::X25519,
        crypto::ring::kx_group::SECP256R1,
    ] {
        for version in [&version::TLS12, &version::TLS13] {
            let provider = CryptoProvider {
                kx_groups: vec![group],
                ..crypto::ring::default_provider()
            };
            let server = serve_with(provider, &files, &identity, &[version]).await;
            let client = client(Some(&ours.pem), &[]);
            assert_eq!(
                client
                    .get_small(&format!("{}/file", server.url), 5)
                    .await
                    .unwrap(),
                b"hello"
            );
        }
    }
}

#[tokio::test]
async fn says_what_is_wrong_with_a_certificate() {
    let ours = Authority::new("ours");
    let trusting = client(Some(&ours.pem), &[]);
    let sign = |params: &CertificateParams| ours.sign(params, &PKCS_ECDSA_P256_SHA256);

    // A foreign CA, also one that calls itself ours.
    for name in ["other", "ours"] {
        let identity = Authority::new(name).sign(&names(), &PKCS_ECDSA_P256_SHA256);
        assert_eq!(
            get(&trusting, &identity).await,
            Err(TlsFailure::UnknownCa),
            "{name}"
        );
    }
    let mut expired = names();
    expired.not_before = date_time_ymd(2001, 1, 1);
    expired.not_after = date_time_ymd(2002, 1, 1);
    assert_eq!(
        get(&trusting, &sign(&expired)).await,
        Err(TlsFailure::Expired)
    );
    let mut future = names();
    future.not_before = date_time_ymd(4000, 1, 1);
    assert_eq!(
        get(&trusting, &sign(&future)).await,
        Err(TlsFailure::NotYetValid)
    );
    let foreign = CertificateParams::new(["elsewhere.example".to_owned()]).unwrap();
    assert_eq!(
        get(&trusting, &sign(&foreign)).await,
        Err(TlsFailure::WrongName)
    );
}

#[tokio::test]
async fn believes_a_pinned_key_whatever_its_certificate_says() {
    let nobody = Authority::new("nobody");
    let mut params = CertificateParams::new(["elsewhere.example".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2001, 1, 1);
    params.not_after = date_time_ymd(2002, 1, 1);
    let pinned = nobody.sign(&params, &PKCS_ECDSA_P256_SHA256);
    let other = nobody.sign(&names(), &PKCS_ECDSA_P256_SHA256);

    let pin = pinned.pin();
    assert_eq!(
        get(&client(None, &[&pin]), &pinned).await.unwrap(),
        b"hello"
    );
    assert_eq!(
        get(&client(None, &[&other.pin(), &pin]), &pinned)
            .await
            .unwrap(),
        b"hello"
    );
    assert_eq!(
        get(&client(None, &[&pin]), &other).await,
        Err(TlsFailure::NotPinned)
    );
    // A pin beside a CA adds to it, and takes nothing away.
    let both = client(Some(&nobody.pem), &[&pin]);
    assert_eq!(get(&both, &pinned).await.unwrap(), b"hello");
    assert_eq!(get(&both, &other).await.unwrap(), b"hello");
}

#[tokio::test]
async fn a_pinned_certificate_without_its_key_is_worth_nothing() {
    let nobody = Authority::new("nobody");
    let pinned = nobody.sign(&names(), &PKCS_ECDSA_P256_SHA256);
    let thief = nobody.sign(&names(), &PKCS_ECDSA_P256_SHA256);
    let stolen = Identity {
        certificate: pinned.certificate.clone(),
        key: thief.key,
    };
    assert!(get(&client(None, &[&pinned.pin()]), &stolen).await.is_err());
    assert!(get(&client(Some(&nobody.pem), &[]), &stolen).await.is_err());
}

#[tokio::test]
async fn an_image_arrives_over_https() {
    let ours = Authority::new("ours");
    let store = Store::new(60);
    let server = serve(
        &store.files,
        &ours.sign(&names(), &PKCS_ECDSA_P256_SHA256),
        rustls::ALL_VERSIONS,
    )
    .await;
    let mut ram = Ram::for_image(&store);
    let client = client(Some(&ours.pem), &[]);
    fetch_image(
        &client,
        std::slice::from_ref(&server.url),
        &store.index,
        Settings::default(),
        &mut ram,
        |_, _| {},
    )
    .await
    .unwrap();
    assert!(ram.0 == store.image);
}
