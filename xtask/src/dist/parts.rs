//! The pieces of stage one in a package: which file, from which source package and version, under which licence.
//!
//! `usr/lib/sparetire/parts.json` says the same to programs: `sparetire doctor` compares digests with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{hex, require};
use crate::kernel::{self, Series};
use crate::{parts, process};

/// One piece.
#[derive(Serialize)]
pub(super) struct Part {
    /// File name in `usr/lib/sparetire`.
    pub(super) name: &'static str,
    pub(super) sha256: String,
    pub(super) size: u64,
    /// SPDX expression.
    pub(super) license: &'static str,
    /// Source package and version it is built from.
    pub(super) source: String,
    #[serde(skip)]
    pub(super) path: PathBuf,
}

/// The source package of the stage-one kernel, "linux-source-6.12 6.12.3-1".
pub(super) fn kernel_source() -> Result<String> {
    let source = kernel::source(Series::default())?.context(
        "which source the stage-one kernel is from is not known; run `cargo xtask kernel`",
    )?;
    check_kernel(&parts::dir().join(parts::KERNEL), &source)?;
    Ok(source)
}

/// Every piece, read once for its digest.
pub(super) fn gather() -> Result<Vec<Part>> {
    let built = |name: &str| parts::dir().join(name);
    let kernel_image = built(parts::KERNEL);
    let kernel_source = kernel_source()?;
    let ours = format!("sparetire {}", env!("CARGO_PKG_VERSION"));
    let loader_source = format!("{ours}, with {} linked in", source_of("libc6-dev")?);
    let syslinux = source_of("isolinux")?;
    let modules = source_of("syslinux-common")?;
    let stub = source_of("systemd-boot-efi")?;
    let isolinux = Path::new("/usr/lib/ISOLINUX");
    [
        (parts::KERNEL, kernel_image, LINUX, kernel_source.clone()),
        (
            parts::KERNEL_CONFIG,
            built(parts::KERNEL_CONFIG),
            LINUX,
            kernel_source,
        ),
        (parts::LOADER, built(parts::LOADER), LOADER, loader_source),
        (
            "isolinux.bin",
            isolinux.join("isolinux.bin"),
            SYSLINUX,
            syslinux.clone(),
        ),
        (
            "isohdpfx.bin",
            isolinux.join("isohdpfx.bin"),
            SYSLINUX,
            syslinux,
        ),
        (
            "ldlinux.c32",
            "/usr/lib/syslinux/modules/bios/ldlinux.c32".into(),
            SYSLINUX,
            modules,
        ),
        (
            "linuxx64.efi.stub",
            "/usr/lib/systemd/boot/efi/linuxx64.efi.stub".into(),
            SYSTEMD,
            stub,
        ),
    ]
    .into_iter()
    .map(|(name, path, license, source): (_, PathBuf, _, _)| {
        let bytes =
            fs::read(require(&path)?).with_context(|| format!("reading {}", path.display()))?;
        Ok(Part {
            name,
            sha256: hex(&Sha256::digest(&bytes)),
            size: bytes.len() as u64,
            license,
            source,
            path,
        })
    })
    .collect()
}

const LINUX: &str = "GPL-2.0-only WITH Linux-syscall-note";
const SYSLINUX: &str = "GPL-2.0-or-later";
const SYSTEMD: &str = "LGPL-2.1-or-later";
const LOADER: &str = "(MIT OR Apache-2.0) AND LGPL-2.1-or-later";

/// "glibc 2.36-9" for a binary package of this machine.
pub(super) fn source_of(package: &str) -> Result<String> {
    let text = process::capture(Command::new("dpkg-query").args([
        "--show",
        "--showformat=${source:Package} ${source:Version}\n",
        package,
    ]))
    .with_context(|| format!("asking dpkg for the source of {package}"))?;
    match text.lines().next() {
        Some(line) if line.split(' ').count() == 2 => Ok(line.to_owned()),
        _ => bail!("dpkg does not say what {package} was built from: {text:?}"),
    }
}

/// The package tells users which source the kernel is from, so that must be true: the version that the image carries
/// in its header is the upstream part of the source package's.
fn check_kernel(image: &Path, source: &str) -> Result<()> {
    let bytes =
        fs::read(require(image)?).with_context(|| format!("reading {}", image.display()))?;
    let release =
        release(&bytes).with_context(|| format!("{} names no version", image.display()))?;
    if !belongs(&release, source) {
        bail!(
            "{} is Linux {release}, but the source at hand is {source}; `cargo xtask kernel --fresh` builds it anew",
            image.display()
        );
    }
    Ok(())
}

/// Linux, Documentation/arch/x86/boot.rst: the offset of the version string, less 0x200, is at 0x20e.
fn release(image: &[u8]) -> Option<String> {
    let offset = image.get(0x20e..0x210)?.try_into().ok()?;
    let text = image.get(0x200 + usize::from(u16::from_le_bytes(offset))..)?;
    let end = text
        .iter()
        .take(128)
        .position(|byte| matches!(byte, b' ' | 0))?;
    String::from_utf8(text.get(..end)?.to_vec()).ok()
}

/// Whether `6.12.3-sparetire` was built from `linux-source-6.12 6.12.3-1~deb12u1`.
fn belongs(release: &str, source: &str) -> bool {
    let upstream = |text: &str| text.split('-').next().unwrap_or_default().to_owned();
    let version = source.rsplit(' ').next().unwrap_or_default();
    !version.is_empty() && upstream(release) == upstream(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_belongs_to_the_source_of_its_own_version_only() {
        let source = "linux-source-6.12 6.12.95-1~bpo12+1";
        assert!(belongs("6.12.95-sparetire", source));
        for other in ["6.12.9-sparetire", "6.12.96", "", "6.12"] {
            assert!(!belongs(other, source), "{other}");
        }
        assert!(!belongs("", "linux-source-6.12 "));
    }

    #[test]
    fn the_release_is_read_from_the_setup_header() {
        let mut image = vec![0; 0x300];
        image[0x20e..0x210].copy_from_slice(&0x40u16.to_le_bytes());
        image[0x240..0x24c].copy_from_slice(b"6.12.95-x (r");
        assert_eq!(release(&image).as_deref(), Some("6.12.95-x"));
        assert_eq!(release(&image[..0x245]), None);
        image[0x20e..0x210].copy_from_slice(&u16::MAX.to_le_bytes());
        assert_eq!(release(&image), None);
    }

    #[test]
    fn a_packages_source_is_named_with_its_version() {
        let source = source_of("libc6").unwrap();
        assert!(source.starts_with("glibc "), "{source}");
        assert!(source_of("no-such-package").is_err());
    }
}
