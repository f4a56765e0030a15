//! From the name of an image to its verified manifest and index.
//!
//! `latest.json` says which version is current, the manifest what it is and which index it has, the index which
//! chunks. Each is looked for at every store in turn until one verifies: stores are mirrors, and any of them may
//! be stale, damaged or hostile.

use std::str;

use sparetire_manifest::{
    ImageName, Index, IndexError, Latest, MAX_MANIFEST, MAX_SIGNATURE, Manifest, Timestamp,
    TrustedKeys, Verified, VerifyError, layout, verify_latest, verify_manifest,
};

use crate::client::HttpClient;
use crate::error::{HttpError, public_url};

/// How often `latest.json` and its signature are asked for, until they suit each other.
const READINGS: u32 = 3;

/// An image that can be fetched.
#[derive(Debug)]
pub struct OpenedImage {
    /// What it is and how it boots.
    pub manifest: Verified<Manifest>,
    /// Its chunks.
    pub index: Verified<Index>,
}

/// What was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenStage {
    /// `latest.json`.
    Latest,
    /// The manifest.
    Manifest,
    /// The index.
    Index,
}

impl OpenStage {
    fn noun(self) -> &'static str {
        match self {
            Self::Latest => "newest version",
            Self::Manifest => "manifest",
            Self::Index => "chunk index",
        }
    }
}

/// No store had what was looked for, in a form that could be believed.
#[derive(Debug, thiserror::Error)]
#[error("{} of image {name}{}", stage.noun(), Failures(failures))]
pub struct OpenError {
    /// The image.
    pub name: ImageName,
    /// What was looked for.
    pub stage: OpenStage,
    /// What each store did, in the order asked.
    pub failures: Vec<OpenFailure>,
}

/// What one store did.
#[derive(Debug)]
pub struct OpenFailure {
    /// Base URL, fit to be shown.
    pub source: String,
    /// Why its answer was of no use.
    pub cause: OpenCause,
}

/// Why an answer was of no use.
#[derive(Debug, thiserror::Error)]
pub enum OpenCause {
    /// There was none.
    #[error("{}", .0.what)]
    Http(#[from] HttpError),
    /// It is not to be believed.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// It is not the index that the manifest names.
    #[error(transparent)]
    Index(#[from] IndexError),
}

struct Failures<'a>(&'a [OpenFailure]);

impl std::fmt::Display for Failures<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, OpenFailure { source, cause }) in self.0.iter().enumerate() {
            write!(
                f,
                "{} {source}: {cause}",
                if number == 0 { ":" } else { ";" }
            )?;
        }
        Ok(())
    }
}

impl OpenError {
    /// Whether a store answered and the answer was not to be believed.
    pub fn is_verification(&self) -> bool {
        self.failures
            .iter()
            .any(|failure| !matches!(failure.cause, OpenCause::Http(_)))
    }

    /// Whether no store was even reached.
    pub fn is_unreachable(&self) -> bool {
        self.failures
            .iter()
            .all(|failure| matches!(&failure.cause, OpenCause::Http(error) if error.what.is_unreachable()))
    }
}

/// Finds image `name` in one of the stores at `sources`: version `version`, or else the newest, which must not be
/// older than `min_version`.
pub async fn open_image(
    client: &HttpClient,
    sources: &[String],
    keys: &TrustedKeys,
    name: &ImageName,
    version: Option<u64>,
    min_version: Option<u64>,
    now: Timestamp,
) -> Result<OpenedImage, OpenError> {
    let search = Search {
        client,
        sources,
        keys,
        name,
        now,
        min_version: min_version.unwrap_or(0),
    };
    let (version, latest) = match version {
        Some(version) => (version, None),
        None => {
            let latest = search.latest().await?;
            (latest.version, Some(latest))
        }
    };
    let manifest = search.manifest(version, latest.as_ref()).await?;
    let index = search.index(&manifest).await?;
    Ok(OpenedImage { manifest, index })
}

struct Search<'a> {
    client: &'a HttpClient,
    sources: &'a [String],
    keys: &'a TrustedKeys,
    name: &'a ImageName,
    now: Timestamp,
    min_version: u64,
}

impl Search<'_> {
    async fn latest(&self) -> Result<Verified<Latest>, OpenError> {
        let path = layout::latest_path(self.name);
        let mut failures = Vec::new();
        for source in self.sources {
            let mut readings = 0;
            let cause = loop {
                readings += 1;
                let attempt = async {
                    let (bytes, signature) = self.signed(source, &path).await?;
                    let latest =
                        verify_latest(&bytes, &signature, self.keys, self.now, self.min_version)?;
                    latest.require(self.name)?;
                    Ok(latest)
                };
                match attempt.await {
                    Ok(latest) => return Ok(latest),
                    // Perhaps it was replaced between the two requests.
                    Err(OpenCause::Verify(VerifyError::BadSignature { .. }))
                        if readings < READINGS => {}
                    Err(cause) => break cause,
                }
            };
            failures.push(failure(source, cause));
        }
        Err(self.error(OpenStage::Latest, failures))
    }

    async fn manifest(
        &self,
        version: u64,
        latest: Option<&Verified<Latest>>,
    ) -> Result<Verified<Manifest>, OpenError> {
        let path = layout::manifest_path(self.name, version);
        let mut failures = Vec::new();
        for source in self.sources {
            let attempt = async {
                if version < self.min_version {
                    return Err(VerifyError::RolledBack {
                        found: version,
                        minimum: self.min_version,
                    }
                    .into());
                }
                let (bytes, signature) = self.signed(source, &path).await?;
                let manifest = verify_manifest(&bytes, &signature, self.keys, self.now)?;
                manifest.require(self.name, version)?;
                if let Some(latest) = latest {
                    latest.require_manifest(&bytes)?;
                }
                Ok(manifest)
            };
            match attempt.await {
                Ok(manifest) => return Ok(manifest),
                Err(cause) => failures.push(failure(source, cause)),
            }
        }
        Err(self.error(OpenStage::Manifest, failures))
    }

    async fn index(&self, manifest: &Manifest) -> Result<Verified<Index>, OpenError> {
        let path = layout::index_path(self.name, manifest.version);
        // The manifest's own check has compared this with MAX_INDEX.
        let limit = usize::try_from(manifest.index.size).unwrap_or(usize::MAX);
        let mut failures = Vec::new();
        for source in self.sources {
            let attempt = async {
                let bytes = self.client.get_small(&join(source, &path), limit).await?;
                Ok(Index::verify(&bytes, &manifest.index, manifest.size)?)
            };
            match attempt.await {
                Ok(index) => return Ok(index),
                Err(cause) => failures.push(failure(source, cause)),
            }
        }
        Err(self.error(OpenStage::Index, failures))
    }

    /// A signed file and its signature, neither checked.
    async fn signed(&self, source: &str, path: &str) -> Result<(Vec<u8>, String), OpenCause> {
        let (file, signature) = (
            join(source, path),
            join(source, &layout::signature_path(path)),
        );
        // At the same time: over a long line each round trip is felt.
        let (bytes, signature) = tokio::try_join!(
            self.client.get_small(&file, MAX_MANIFEST),
            self.client.get_small(&signature, MAX_SIGNATURE)
        )?;
        // A signature that is not text fails its check like any other that is not one.
        Ok((bytes, String::from_utf8_lossy(&signature).into_owned()))
    }

    fn error(&self, stage: OpenStage, failures: Vec<OpenFailure>) -> OpenError {
        OpenError {
            name: self.name.clone(),
            stage,
            failures,
        }
    }
}

fn failure(source: &str, cause: OpenCause) -> OpenFailure {
    OpenFailure {
        source: public_url(source),
        cause,
    }
}

fn join(source: &str, path: &str) -> String {
    format!("{}/{path}", source.trim_end_matches('/'))
}
