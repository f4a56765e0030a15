//! Servers whose certificates are not to be believed. The store is behind HTTPS; reports go by HTTP, so that they arrive.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType,
    date_time_ymd,
};

use super::{Scene, says};
use crate::firmware::Firmware;
use crate::scenarios::Bench;
use crate::site::{HOST, Identity};

/// A certificate of now is good until this year.
const GOOD_UNTIL: i32 = 2035;

pub(super) fn wrong_ca(bench: &Bench, firmware: Firmware) -> Result<()> {
    let stranger = Authority::new(bench, "stranger")?;
    refused(
        bench,
        firmware,
        Some(&stranger),
        GOOD_UNTIL,
        None,
        "trusted CA",
    )
}

pub(super) fn expired(bench: &Bench, firmware: Firmware) -> Result<()> {
    refused(bench, firmware, None, 2002, None, "expired")
}

pub(super) fn wrong_clock(bench: &Bench, firmware: Firmware) -> Result<()> {
    refused(
        bench,
        firmware,
        None,
        GOOD_UNTIL,
        Some("2046-01-01"),
        "clock",
    )
}

/// Boots with a store behind a certificate that ends in year `until`, trusting `trusted` or else its authority.
fn refused(
    bench: &Bench,
    firmware: Firmware,
    trusted: Option<&Authority>,
    until: i32,
    clock: Option<&str>,
    words: &str,
) -> Result<()> {
    let scene = Scene::new(bench, firmware)?;
    let own = Authority::new(bench, "authority")?;
    let server = scene.site.serve_https(&own.identity(bench, until)?)?;
    let trusted = trusted.unwrap_or(&own).file.display().to_string();
    let options = ["--store", &server.guest_https_store(), "--ca", &trusted];
    let mut boot = scene.start_with(&options, |machine| {
        machine.clock = clock.map(str::to_owned);
    })?;
    let screen = boot.refused_in("manifest")?;
    says(&screen, &[words])?;
    scene.nothing_fetched()
}

/// A certificate authority.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Its certificate, PEM.
    file: PathBuf,
}

impl Authority {
    fn new(bench: &Bench, name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)
            .context("making a certificate authority")?;
        let file = bench.dir.join(format!("{name}.pem"));
        fs::write(&file, issuer.pem()).context("writing a certificate")?;
        Ok(Self { issuer, file })
    }

    /// What a server at [`HOST`] needs, good until the beginning of a year.
    fn identity(&self, bench: &Bench, until: i32) -> Result<Identity> {
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let address = HOST.parse().context("the host's address")?;
        params.subject_alt_names.push(SanType::IpAddress(address));
        let key = KeyPair::generate()?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .context("signing a certificate")?;
        let identity = Identity {
            certificate: bench.dir.join("server.pem"),
            key: bench.dir.join("server.key"),
        };
        fs::write(&identity.certificate, certificate.pem()).context("writing a certificate")?;
        fs::write(&identity.key, key.serialize_pem()).context("writing a private key")?;
        Ok(identity)
    }
}
