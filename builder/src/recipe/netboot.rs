//! A kernel and its initramfs out of a Debian package, for systems that live in their initramfs
//! alone: installers, above all.
//!
//! mmdebstrap fetches the package, since it checks the archive's signatures as apt does, and unpacks
//! it without installing it. Two plain files are taken from there; nothing of the package is run.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, ensure};
use flate2::bufread::MultiGzDecoder;

use super::programs::{self, run};
use super::{Host, Netboot, Recompress};
use crate::exit::{ExitCode, coded};
use crate::progress::Progress;

/// Largest kernel or initramfs, compressed or not: far above any there is, far below a full disk.
const MAX_FILE: u64 = 2 << 30;
/// zstd level of a recompressed initramfs. Debian's text installer: 40.8 MB as gzip, 33.2 MB at
/// level 15, 29.5 MB at 19 (8 MiB window; the kernel takes up to 128 MiB).
const ZSTD_LEVEL: i32 = 19;

/// Where the package's files come from.
#[derive(Debug)]
pub enum Origin {
    /// An archive: one-line apt sources.
    Archive(Vec<String>),
    /// A root directory with the package installed.
    Installed(PathBuf),
}

/// The two files.
#[derive(Debug, Clone)]
pub struct NetbootFiles {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initrd: PathBuf,
}

impl NetbootFiles {
    /// Where they are put in a folder.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Self {
        Self {
            kernel: dir.join("linux"),
            initrd: dir.join("initrd"),
        }
    }
}

/// Leaves both files in `dir`.
///
/// # Errors
///
/// When the package cannot be fetched or does not have the files, or the initramfs is not
/// compressed the way that can be undone.
pub fn build(
    netboot: &Netboot,
    host: &Host,
    origin: &Origin,
    dir: &Path,
    progress: &Progress,
) -> anyhow::Result<NetbootFiles> {
    let files = NetbootFiles::in_dir(dir);
    let wanted = [
        (&netboot.kernel, &files.kernel),
        (&netboot.initrd, &files.initrd),
    ];
    match origin {
        Origin::Archive(sources) => {
            programs::check(&["mmdebstrap"], host)?;
            let tar = dir.join("package.tar");
            unpack(netboot, sources, dir, &tar, progress)?;
            let file = File::open(&tar).with_context(|| format!("opening {}", tar.display()))?;
            take(BufReader::new(file), &wanted)
                .with_context(|| format!("unpacking {}", netboot.package))?;
            fs::remove_file(&tar).with_context(|| format!("removing {}", tar.display()))?;
        }
        Origin::Installed(root) => {
            for (inside, outside) in wanted {
                let path = root.join(inside);
                let file = File::open(&path).with_context(|| {
                    format!("opening {}, which {} has", path.display(), netboot.package)
                });
                copy(file.map_err(|e| coded(ExitCode::Usage, e))?, outside)
                    .with_context(|| format!("copying {}", path.display()))?;
            }
        }
    }
    progress.inc(1);
    if let Some(Recompress::Zstd) = netboot.recompress {
        progress.message("compressing the initramfs anew");
        recompress(&files.initrd)
            .with_context(|| format!("compressing {} anew", netboot.initrd.display()))?;
    }
    progress.inc(1);
    Ok(files)
}

/// The package's files as a tar archive.
fn unpack(
    netboot: &Netboot,
    sources: &[String],
    dir: &Path,
    tar: &Path,
    progress: &Progress,
) -> anyhow::Result<()> {
    let mut command = programs::mmdebstrap();
    command
        .args(["--variant=extract", "--format=tar"])
        .arg(format!("--architectures={}", netboot.architecture))
        .arg(format!("--components={}", netboot.components.join(",")))
        .arg("--aptopt=Apt::Install-Recommends \"false\"")
        .arg(format!("--include={}", netboot.package))
        .arg(&netboot.suite)
        .arg(tar)
        .args(sources);
    run(&mut command, &dir.join("mmdebstrap.log"), &mut |line| {
        if let Some(step) = line.strip_prefix("I: ")
            && !step.starts_with("running ")
        {
            progress.message(step.trim_end_matches('.'));
        }
    })
}

/// Copies plain files out of a tar archive.
fn take(tar: impl Read, wanted: &[(&PathBuf, &PathBuf)]) -> anyhow::Result<()> {
    let mut left: Vec<_> = wanted.iter().collect();
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries().context("reading the archive")? {
        let entry = entry.context("reading the archive")?;
        let path = entry.path().context("reading the archive")?.into_owned();
        let Some(found) = left
            .iter()
            .position(|(inside, _)| path.strip_prefix(".").unwrap_or(&path) == inside.as_path())
        else {
            continue;
        };
        let (inside, outside) = left.swap_remove(found);
        ensure!(
            entry.header().entry_type().is_file(),
            "{} is no plain file",
            inside.display()
        );
        copy(entry, outside).with_context(|| format!("copying {}", inside.display()))?;
    }
    match left.first() {
        None => Ok(()),
        Some((inside, _)) => Err(anyhow!("the package has no {}", inside.display())),
    }
}

fn copy(from: impl Read, to: &Path) -> anyhow::Result<()> {
    let mut file = File::create(to).with_context(|| format!("creating {}", to.display()))?;
    let copied = io::copy(&mut from.take(MAX_FILE + 1), &mut file)?;
    ensure!(copied <= MAX_FILE, "it is larger than {MAX_FILE} bytes");
    ensure!(copied > 0, "it is empty");
    Ok(())
}

/// Replaces a gzip file by a zstd one, unless that is larger.
fn recompress(file: &Path) -> anyhow::Result<()> {
    let input = File::open(file).context("opening it")?;
    let before = input.metadata().context("reading its size")?.len();
    let dir = file.parent().unwrap_or(Path::new("."));
    let mut output = tempfile::NamedTempFile::new_in(dir).context("creating a file")?;
    let mut encoder =
        zstd::Encoder::new(output.as_file_mut(), ZSTD_LEVEL).context("starting zstd")?;
    // A checksum costs nothing; the kernel checks it.
    encoder.include_checksum(true).context("starting zstd")?;
    let mut plain = MultiGzDecoder::new(BufReader::new(input)).take(MAX_FILE + 1);
    let length = io::copy(&mut plain, &mut encoder).context("unpacking it with gzip")?;
    ensure!(
        length <= MAX_FILE,
        "it unpacks to more than {MAX_FILE} bytes"
    );
    encoder
        .finish()
        .and_then(|file| file.flush())
        .context("writing it")?;
    let after = output
        .as_file()
        .metadata()
        .context("reading the new size")?
        .len();
    if after < before {
        output.persist(file).context("replacing it")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::progress::{Mode, Unit};

    fn quiet() -> Progress {
        Progress::new(Mode::Quiet, "", 2, Unit::Steps)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn recipe() -> Netboot {
        Netboot {
            suite: "bookworm".to_owned(),
            architecture: "amd64".to_owned(),
            components: vec!["main".to_owned()],
            package: "installer".to_owned(),
            kernel: "lib/linux".into(),
            initrd: "lib/initrd.gz".into(),
            recompress: Some(Recompress::Zstd),
            cmdline: String::new(),
            expected_minutes: 1,
        }
    }

    fn installed(initrd: &[u8]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("lib")).unwrap();
        fs::write(root.path().join("lib/linux"), b"kernel").unwrap();
        fs::write(root.path().join("lib/initrd.gz"), initrd).unwrap();
        root
    }

    fn built(root: &Path, netboot: &Netboot, dir: &Path) -> anyhow::Result<NetbootFiles> {
        let origin = Origin::Installed(root.to_owned());
        build(netboot, &Host::default(), &origin, dir, &quiet())
    }

    #[test]
    fn the_initramfs_is_the_same_after_recompression() {
        let plain: Vec<u8> = b"070701 a file of an archive, again and again. ".repeat(2000);
        // Two members, as gzip's own files joined by cat.
        let joined = [gzip(&plain[..5000]), gzip(&plain[5000..])].concat();
        let (root, dir) = (installed(&joined), tempfile::tempdir().unwrap());
        let files = built(root.path(), &recipe(), dir.path()).unwrap();
        let bytes = fs::read(&files.initrd).unwrap();
        assert_eq!(zstd::decode_all(bytes.as_slice()).unwrap(), plain);
        assert_eq!(fs::read(&files.kernel).unwrap(), b"kernel");
    }

    #[test]
    fn without_recompression_the_bytes_are_the_packages() {
        let (root, dir) = (installed(b"any bytes"), tempfile::tempdir().unwrap());
        let netboot = Netboot {
            recompress: None,
            ..recipe()
        };
        let files = built(root.path(), &netboot, dir.path()).unwrap();
        assert_eq!(fs::read(files.initrd).unwrap(), b"any bytes");
    }

    #[test]
    fn an_initramfs_that_would_grow_is_left_alone() {
        let small = gzip(b"x");
        let (root, dir) = (installed(&small), tempfile::tempdir().unwrap());
        let files = built(root.path(), &recipe(), dir.path()).unwrap();
        let bytes = fs::read(files.initrd).unwrap();
        assert!(bytes.len() <= small.len());
    }

    #[test]
    fn a_damaged_or_other_initramfs_is_an_error() {
        let whole = gzip(&b"an archive ".repeat(1000));
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        for bad in [
            &whole[..whole.len() - 1],
            &flipped,
            b"070701 not compressed",
            b"",
        ] {
            let (root, dir) = (installed(bad), tempfile::tempdir().unwrap());
            assert!(
                built(root.path(), &recipe(), dir.path()).is_err(),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_missing_file_is_named_with_its_package() {
        let (root, dir) = (installed(b""), tempfile::tempdir().unwrap());
        let netboot = Netboot {
            kernel: "lib/vmlinuz".into(),
            ..recipe()
        };
        let error = format!(
            "{:#}",
            built(root.path(), &netboot, dir.path()).unwrap_err()
        );
        assert!(
            error.contains("lib/vmlinuz") && error.contains("installer"),
            "{error}"
        );
    }

    fn archive(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, bytes) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            if *kind == tar::EntryType::Symlink {
                header.set_link_name("/etc/passwd").unwrap();
            }
            builder.append_data(&mut header, path, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn only_the_named_plain_files_come_out_of_the_package() {
        use tar::EntryType::{Directory, Regular, Symlink};
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (PathBuf::from("lib/linux"), dir.path().join("linux"));
        let wanted = [(&inside, &outside)];
        let good = archive(&[
            ("./lib", Directory, b""),
            ("./lib/linux", Regular, b"kernel"),
            ("./lib/other", Regular, b"x"),
        ]);
        take(good.as_slice(), &wanted).unwrap();
        assert_eq!(fs::read(&outside).unwrap(), b"kernel");
        for (bad, named) in [
            (archive(&[("./lib/linux", Symlink, b"")]), "plain file"),
            (
                archive(&[("./lib/linux2", Regular, b"x")]),
                "has no lib/linux",
            ),
            (good[..700].to_vec(), "reading the archive"),
        ] {
            let error = format!("{:#}", take(bad.as_slice(), &wanted).unwrap_err());
            assert!(error.contains(named), "{error}");
        }
    }
}
