//! The bytes of an image: one file, or several with zeros between them, watched for changes.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, anyhow};
use sparetire_manifest::{MAX_IMAGE, NamedExtent};

use crate::exit::{ExitCode, coded};

/// Parts of a netboot image start at multiples of this.
const ALIGNMENT: u64 = 4096;

/// Regular files, one after the other.
#[derive(Debug)]
pub(super) struct Source {
    parts: Vec<Part>,
    size: u64,
}

#[derive(Debug)]
struct Part {
    path: PathBuf,
    file: File,
    /// Zeros before it.
    padding: u64,
    length: u64,
    modified: SystemTime,
}

impl Source {
    /// An image that is one file.
    pub(super) fn one(path: &Path) -> anyhow::Result<Self> {
        let mut source = Self {
            parts: Vec::new(),
            size: 0,
        };
        source.append(path)?;
        Ok(source)
    }

    /// An image made of a kernel and its initramfs files.
    pub(super) fn netboot(
        kernel: &Path,
        initrd: &[PathBuf],
    ) -> anyhow::Result<(Self, NamedExtent, Vec<NamedExtent>)> {
        let mut source = Self {
            parts: Vec::new(),
            size: 0,
        };
        let kernel_extent = source.append(kernel)?;
        check_kernel(kernel)?;
        let initrd = initrd
            .iter()
            .map(|path| source.append(path))
            .collect::<anyhow::Result<_>>()?;
        Ok((source, kernel_extent, initrd))
    }

    fn append(&mut self, path: &Path) -> anyhow::Result<NamedExtent> {
        let context = || format!("opening {}", path.display());
        // Asked before opening: opening a named pipe would wait for its other end.
        let found = std::fs::metadata(path).with_context(context)?;
        if !found.is_file() {
            return Err(coded(
                ExitCode::Usage,
                anyhow!("{} is not a regular file", path.display()),
            ));
        }
        let file = File::open(path).with_context(context)?;
        let found = file.metadata().with_context(context)?;
        let offset = self.size.next_multiple_of(ALIGNMENT);
        let length = found.len();
        let end = offset.checked_add(length).filter(|end| *end <= MAX_IMAGE);
        let (Some(end), 1..) = (end, length) else {
            return Err(anyhow!(
                "{} has {length} bytes; an image has 1 to {MAX_IMAGE}",
                path.display()
            ));
        };
        self.parts.push(Part {
            path: path.to_owned(),
            file,
            padding: offset - self.size,
            length,
            modified: found.modified().with_context(context)?,
        });
        self.size = end;
        let name = path.file_name().unwrap_or(path.as_os_str());
        Ok(NamedExtent {
            path: format!("/{}", name.to_string_lossy()),
            offset,
            length,
        })
    }

    /// Length of the image.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// All bytes of the image, from the start.
    pub(super) fn reader(&self) -> anyhow::Result<Box<dyn Read + Send>> {
        let mut reader: Box<dyn Read + Send> = Box::new(io::empty());
        for part in &self.parts {
            let file = part
                .file
                .try_clone()
                .with_context(|| format!("opening {}", part.path.display()))?;
            // A file that grows is cut here, and noticed at the end.
            reader = Box::new(
                reader
                    .chain(io::repeat(0).take(part.padding))
                    .chain(file.take(part.length)),
            );
        }
        Ok(reader)
    }

    /// Whether every file still is what it was, and `read` bytes were what it had.
    pub(super) fn check_unchanged(&self, read: u64) -> anyhow::Result<()> {
        for part in &self.parts {
            let context = || format!("looking at {} again", part.path.display());
            let found = part.file.metadata().with_context(context)?;
            let modified = found.modified().with_context(context)?;
            if found.len() != part.length || modified != part.modified {
                return Err(anyhow!("{} changed while it was read", part.path.display()));
            }
        }
        if read != self.size {
            return Err(anyhow!("read {read} bytes instead of {}", self.size));
        }
        Ok(())
    }
}

/// Looks at the setup header (Documentation/arch/x86/boot.rst): `HdrS` at 0x202, the protocol
/// version at 0x206, and from version 2.12 `XLF_KERNEL_64` in `xloadflags` at 0x236. kexec needs
/// the 64-bit entry point.
fn check_kernel(path: &Path) -> anyhow::Result<()> {
    let mut header = Vec::new();
    File::open(path)
        .and_then(|file| file.take(0x238).read_to_end(&mut header))
        .with_context(|| format!("reading {}", path.display()))?;
    let half = |at: usize| match header.get(at..at + 2) {
        Some([low, high]) => u16::from_le_bytes([*low, *high]),
        _ => 0,
    };
    if header.get(0x202..0x206) != Some(b"HdrS") {
        return Err(anyhow!("{} is not a Linux kernel", path.display()));
    }
    if half(0x206) < 0x20c || half(0x236) & 1 == 0 {
        return Err(anyhow!("{} is not a 64-bit Linux kernel", path.display()));
    }
    Ok(())
}
