//! What the PC finds in its redirected CD drive: stage one with this boot's configuration laid
//! over its config slot, in memory. The file itself is never changed.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use sparetire_builder::exit::{ExitCode, WithCode, coded};
use sparetire_builder::image::public_keys;
use sparetire_builder::stage1::customize::SlottedFile;
use sparetire_builder::store::{Store, verify_documents};
use sparetire_manifest::{ImageName, Timestamp, TrustedKeys};
use stage1_config::Config;

use crate::failure::advise;
use crate::redirection::block_source::{MemoryImage, Overlay};

/// A stage-one ISO and the keys that may sign what it boots.
#[derive(Debug)]
pub(super) struct StageOne {
    path: PathBuf,
    file: SlottedFile,
    /// Public keys, base64 lines.
    keys: Vec<String>,
}

impl StageOne {
    /// Reads `path`. Keys: those `given` (files or the keys themselves), else those built into
    /// the file, else the user's own.
    ///
    /// # Errors
    ///
    /// When the file is missing or no stage-one file, or there is no key to trust.
    pub(super) fn read(path: &Path, given: &[String]) -> anyhow::Result<Self> {
        let bytes = read(path)?;
        let file = SlottedFile::parse(bytes)
            .with_context(|| format!("reading stage one from {}", path.display()))?;
        let built = file
            .slot()
            .config()
            .with_context(|| format!("reading the configuration of {}", path.display()))?
            .trust
            .keys;
        let keys = if given.is_empty() && !built.is_empty() {
            built
        } else {
            public_keys(given)
                .map_err(|error| advise(error, "name the key that signed the image: --trust-key"))
                .code(ExitCode::Usage)?
                .into_iter()
                .map(|key| key.line)
                .collect()
        };
        Ok(Self {
            path: path.to_owned(),
            file,
            keys,
        })
    }

    /// Checks before the PC is touched what its loader would refuse: an image that is not
    /// there, not signed by a trusted key, or expired. Returns its size in bytes.
    pub(super) fn check_image(
        &self,
        store: &Path,
        name: &ImageName,
        version: Option<u64>,
        now: Timestamp,
    ) -> anyhow::Result<u64> {
        let keys = TrustedKeys::parse(self.keys.iter().map(String::as_str))
            .context("reading the keys to trust")
            .code(ExitCode::Usage)?;
        let store = Store::open(store)?;
        let version = store.version(name, version)?;
        let (_, manifest) = verify_documents(&store, name, version, &keys, now)
            .map_err(|error| {
                advise(
                    anyhow::Error::new(error)
                        .context(format!("checking image {name}, which the PC would refuse")),
                    "sign it anew, or trust its key with --trust-key",
                )
            })
            .code(ExitCode::Verification)?;
        Ok(manifest.size)
    }

    /// The CD of one boot: the file, with the configuration laid over its config slots.
    pub(super) fn with(self, mut config: Config) -> anyhow::Result<MemoryImage> {
        config.trust.keys = self.keys;
        let overlay = crate::session::config::overlay(&config)?;
        let filling = || format!("filling the config slot of {}", self.path.display());
        let slot = self
            .file
            .customized_slot(&overlay)
            .with_context(filling)
            .code(ExitCode::Usage)?
            .emit();
        let overlays = self
            .file
            .offsets()
            .iter()
            .map(|&offset| Overlay {
                offset: offset as u64,
                bytes: slot.clone(),
            })
            .collect();
        MemoryImage::new(self.file.bytes().into(), overlays).with_context(filling)
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let file = File::open(path).map_err(|error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let error = anyhow::Error::new(error).context(format!("opening {}", path.display()));
        let build = format!("build it: sparetire stage1 build -o {}", path.display());
        if missing { advise(error, build) } else { error }
    })?;
    let mut bytes = Vec::new();
    file.take(MAX_STAGE_ONE + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("reading {}", path.display()))?;
    if bytes.len() as u64 > MAX_STAGE_ONE {
        let error = anyhow!("{} is too large for a stage-one file", path.display());
        return Err(coded(
            ExitCode::Usage,
            advise(error, "any other ISO is booted with --iso"),
        ));
    }
    Ok(bytes)
}

/// Stage one is a few megabytes; what is much larger was named by mistake.
const MAX_STAGE_ONE: u64 = 128 << 20;
