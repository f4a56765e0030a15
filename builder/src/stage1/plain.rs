//! The slot's `[plain]` table: any ISO on any web server as the image, by URL and SHA-256.
//!
//! The loader has no ISO parser, so what it must know is found out here, by the same code as `image import`: the file is
//! read, or fetched first, its digest compared, and kernel, initrd and command line go into the slot.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use fetch_http::{
    HttpClient, HttpOptions, PlainError, PlainFile, PlainSink, Settings, Sink, Trust, fetch_plain,
};
use indicatif::HumanBytes;
use sha2::{Digest as _, Sha256};
use sparetire_manifest::Digest;
use stage1_config::Plain;

use crate::cli::Ui;
use crate::exit::{ExitCode, WithCode, coded};
use crate::iso_image::IsoImage;
use crate::live_iso::linux_boot_of;

/// Options of `stage1 customize` for an image that nobody has signed.
#[derive(Debug, Default, clap::Args)]
pub(super) struct PlainArgs {
    /// Boot the ISO at this URL instead of an image of a store; repeat for mirrors. Needs --allow-unsigned
    #[arg(
        long,
        value_name = "URL",
        requires = "plain_sha256",
        requires = "allow_unsigned"
    )]
    plain_url: Vec<String>,
    /// SHA-256 of that ISO
    #[arg(long, value_name = "HEX", requires = "plain_url")]
    plain_sha256: Option<String>,
    /// The same ISO here; without it, it is fetched once to look into it
    #[arg(long, value_name = "FILE", requires = "plain_url")]
    plain_file: Option<PathBuf>,
    /// Title or number of the entry of the ISO's menu to boot [default: the best one]
    #[arg(long, value_name = "TITLE|N", requires = "plain_url")]
    plain_entry: Option<String>,
    /// Let stage one boot an image that nobody has signed
    #[arg(long)]
    allow_unsigned: bool,
}

/// How long nothing may come, when the ISO has to be fetched.
const PATIENCE: Duration = Duration::from_secs(120);

impl PlainArgs {
    pub(super) fn allow_unsigned(&self) -> bool {
        self.allow_unsigned
    }

    /// The table, if one is asked for; `ca` and `pins` are for HTTPS.
    pub(super) fn table(
        &self,
        ca: Option<&str>,
        pins: &[String],
        ui: &Ui,
    ) -> Result<Option<Plain>> {
        let (Some(sha256), false) = (&self.plain_sha256, self.plain_url.is_empty()) else {
            return Ok(None);
        };
        let sha256: Digest = sha256
            .to_ascii_lowercase()
            .parse()
            .context("reading --plain-sha256")
            .code(ExitCode::Usage)?;
        let fetched;
        let path = match &self.plain_file {
            Some(path) => path.as_path(),
            None => {
                fetched = self.fetch(sha256, ca, pins, ui)?;
                fetched.path()
            }
        };
        let (found, size) = digest_of(path)?;
        if found != sha256 {
            let error = anyhow!("{} has SHA-256 {found} instead of {sha256}", path.display());
            return Err(coded(ExitCode::Verification, error));
        }
        let iso =
            IsoImage::open(path).with_context(|| format!("reading ISO {}", path.display()))?;
        let system = linux_boot_of(&iso, self.plain_entry.as_deref())
            .with_context(|| format!("looking for a system on {}", path.display()))?;
        ui.note(format_args!(
            "boots {:?} of {}",
            system.title, system.source
        ));
        for note in &system.notes {
            ui.note(note);
        }
        let plain = Plain {
            urls: self.plain_url.clone(),
            size,
            sha256,
            boot: system.boot,
        };
        plain
            .manifest()
            .context("checking how it boots")
            .code(ExitCode::Refused)?;
        Ok(Some(plain))
    }

    /// Fetches the ISO into a file that goes away by itself.
    fn fetch(
        &self,
        sha256: Digest,
        ca: Option<&str>,
        pins: &[String],
        ui: &Ui,
    ) -> Result<tempfile::NamedTempFile> {
        let trust = Trust::new(ca, pins.iter().map(String::as_str))
            .context("reading whom to trust")
            .code(ExitCode::Usage)?;
        let client = HttpClient::new(&HttpOptions {
            trust,
            ..HttpOptions::default()
        })
        .context("setting up HTTP")
        .code(ExitCode::Usage)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the network runtime")?;
        let target = tempfile::NamedTempFile::new().context("making a temporary file")?;
        runtime.block_on(async {
            let size = size_of(&client, &self.plain_url).await?;
            room_for(&target, size)?;
            target
                .as_file()
                .set_len(size)
                .with_context(|| format!("making room for {size} bytes"))?;
            let file = PlainFile {
                urls: self.plain_url.clone(),
                size,
                sha256,
            };
            let settings = Settings {
                patience: Some(PATIENCE),
                ..Settings::default()
            };
            let progress = ui.progress("fetching the ISO, to look into it", size);
            let mut sink = Scratch(target.as_file());
            let fetched = fetch_plain(&client, &file, &settings, &mut sink, |state, _| {
                progress.set(state.done);
            });
            fetched.await.map_err(|error| {
                let code = match &error {
                    PlainError::Mismatch { .. } => ExitCode::Verification,
                    PlainError::Download(_) => ExitCode::Unreachable,
                    PlainError::Plan(_) | PlainError::Sink(_) => ExitCode::Failed,
                };
                coded(code, error)
            })?;
            progress.finish("done, SHA-256 checked");
            Ok::<(), anyhow::Error>(())
        })?;
        Ok(target)
    }
}

/// The size that the first mirror that answers gives.
async fn size_of(client: &HttpClient, urls: &[String]) -> Result<u64> {
    let mut last = anyhow!("no URL given");
    for url in urls {
        match client.file_size(url).await {
            Ok(size) => return Ok(size),
            Err(error) => {
                let code = if error.what.is_unreachable() {
                    ExitCode::Unreachable
                } else {
                    ExitCode::Failed
                };
                last = coded(code, error);
            }
        }
    }
    Err(last)
}

/// The size is the server's word: it must not fill the disk before it is found out.
fn room_for(file: &tempfile::NamedTempFile, size: u64) -> Result<()> {
    let at = file.path().parent().unwrap_or(file.path()).display();
    let found = rustix::fs::fstatvfs(file).with_context(|| format!("asking {at} for its room"))?;
    let room = found.f_bavail.saturating_mul(found.f_frsize);
    if size > room {
        let error = anyhow!(
            "the server says the ISO has {}, and {at} has room for {}; set TMPDIR to another folder, or fetch the ISO \
             in another way and name it with --plain-file",
            HumanBytes(size),
            HumanBytes(room)
        );
        return Err(coded(ExitCode::Refused, error));
    }
    Ok(())
}

struct Scratch<'a>(&'a File);

impl Sink for Scratch<'_> {
    fn chunk(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
}

impl PlainSink for Scratch<'_> {
    fn digest(&mut self) -> io::Result<Digest> {
        self.0.rewind()?;
        hash(self.0).map(|(digest, _)| digest)
    }

    fn discard(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn digest_of(path: &Path) -> Result<(Digest, u64)> {
    let reading = || format!("reading {}", path.display());
    hash(&mut File::open(path).with_context(reading)?).with_context(reading)
}

fn hash(mut file: impl Read) -> io::Result<(Digest, u64)> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((Digest::from_bytes(digest.finalize().into()), size));
        }
        size += count as u64;
        digest.update(buffer.get(..count).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iso_image::tests::{image, options};

    /// A live system with the least that a kernel must show.
    fn iso() -> Vec<u8> {
        let mut kernel = vec![0; 4096];
        kernel[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        kernel[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
        kernel[0x236] = 0x7f;
        let menu: &[u8] =
            b"label live\n kernel /live/vmlinuz\n append initrd=/live/initrd.img boot=live\n";
        let files: [(&str, &[u8]); 3] = [
            ("isolinux/isolinux.cfg", menu),
            ("live/vmlinuz", &kernel),
            ("live/initrd.img", b"initrd"),
        ];
        image(&files, &options().with_rock_ridge())
    }

    fn args(file: &Path, sha256: Digest) -> PlainArgs {
        PlainArgs {
            plain_url: vec!["http://192.0.2.1/live.iso".into()],
            plain_sha256: Some(sha256.to_string().to_uppercase()),
            plain_file: Some(file.to_owned()),
            plain_entry: None,
            allow_unsigned: true,
        }
    }

    const UI: Ui = Ui {
        json: false,
        quiet: true,
    };

    #[test]
    fn a_size_beyond_the_disk_is_refused_before_the_download() {
        let file = tempfile::NamedTempFile::new().unwrap();
        room_for(&file, 1).unwrap();
        let error = room_for(&file, u64::MAX).unwrap_err();
        assert!(error.to_string().contains("--plain-file"), "{error}");
    }

    #[test]
    fn a_local_iso_becomes_a_boot_recipe() {
        let bytes = iso();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        let args = args(file.path(), Digest::of(&bytes));
        let plain = args.table(None, &[], &UI).unwrap().unwrap();
        assert_eq!(plain.size, bytes.len() as u64);
        assert_eq!(plain.boot.kernel.length, 4096);
        let start = usize::try_from(plain.boot.initrd[0].offset).unwrap();
        assert_eq!(bytes[start..start + 6], *b"initrd");
        assert!(plain.boot.cmdline.contains("boot=live"));
        // What the loader will read is what was written.
        let table = toml::Value::try_from(&plain).unwrap();
        assert_eq!(table.try_into::<Plain>().unwrap(), plain);
        assert!(
            PlainArgs::default()
                .table(None, &[], &UI)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn another_file_than_the_digest_says_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), iso()).unwrap();
        let error = args(file.path(), Digest::of(b"other"))
            .table(None, &[], &UI)
            .unwrap_err();
        assert_eq!(crate::exit::exit_code_of(&error), ExitCode::Verification);
    }
}
