//! Explains a finished stage-one file: boot entries, layout, sizes, digests, configuration.
//!
//! Everything is read back from the file itself by the same libraries that read strangers' files;
//! nothing is taken from how we believe we built it.

use super::check::{self, KernelInfo};
use super::customize::SlottedFile;
use super::{cli::hex, esp, iso};
use anyhow::{Context, Result, bail};
use goblin::pe::PE;
use hadris_fs::MountOptions;
use hadris_fs::sync::Volume;
use hadris_storage::{BlockSize, MemDevice};
use serde::Serialize;
use sha2::{Digest, Sha256};
use stage1_config::Slot;

/// Everything `stage1 show` prints.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// `iso` (also a disk image) or `uki`.
    pub format: &'static str,
    /// File size, in bytes.
    pub size: usize,
    /// Digest of the file as it is.
    pub sha256: String,
    /// Digest of the file without its customization: names the build.
    pub build_sha256: String,
    /// El Torito boot catalog, in order.
    pub boot_catalog: Vec<BootLine>,
    /// Partitions of the hybrid disk.
    pub partitions: Vec<PartitionLine>,
    /// Files on the ISO 9660 volume.
    pub files: Vec<FileLine>,
    /// Sections of the EFI program.
    pub uki: Vec<SectionLine>,
    /// What the kernel says about itself.
    pub kernel: Option<KernelLine>,
    /// Kernel command line of the UEFI path.
    pub cmdline: String,
    /// Config slots.
    pub slots: Vec<SlotLine>,
    /// The configuration in force, secrets hidden.
    pub config: toml::Table,
}

/// One El Torito entry.
#[derive(Debug, Serialize)]
pub struct BootLine {
    /// `x86` (BIOS) or `UEFI`.
    pub platform: String,
    /// Whether the boot indicator is set.
    pub bootable: bool,
    /// First byte of the boot image.
    pub offset: u64,
    /// 512-byte sectors firmware loads.
    pub sectors: u16,
}

/// One partition.
#[derive(Debug, Serialize)]
pub struct PartitionLine {
    /// Kind as the table says.
    pub kind: String,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// One file.
#[derive(Debug, Serialize)]
pub struct FileLine {
    /// Path on its volume.
    pub path: String,
    /// First byte in the stage-one file.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Digest.
    pub sha256: String,
}

/// One section of the unified kernel image.
#[derive(Debug, Serialize)]
pub struct SectionLine {
    /// Name with its dot.
    pub name: String,
    /// Bytes.
    pub length: usize,
    /// Digest.
    pub sha256: String,
}

/// The kernel.
#[derive(Debug, Serialize)]
pub struct KernelLine {
    /// Version string.
    pub version: String,
    /// Bytes.
    pub length: usize,
    /// Whether both boot paths start the same kernel; a file with one path has one.
    pub same_in_both_paths: bool,
}

/// One copy of the config slot.
#[derive(Debug, Serialize)]
pub struct SlotLine {
    /// First byte.
    pub offset: usize,
    /// Bytes of configuration built in.
    pub base: usize,
    /// Bytes of customization.
    pub overlay: usize,
    /// Capacity for both.
    pub capacity: usize,
}

/// Reads back everything worth knowing about a stage-one file.
pub fn show(file: SlottedFile) -> Result<Shown> {
    let bytes = file.bytes();
    let mut shown = Shown {
        format: "uki",
        size: bytes.len(),
        sha256: hex(&Sha256::digest(bytes)),
        build_sha256: hex(&file.build_digest()),
        boot_catalog: Vec::new(),
        partitions: Vec::new(),
        files: Vec::new(),
        uki: Vec::new(),
        kernel: None,
        cmdline: String::new(),
        slots: file
            .offsets()
            .iter()
            .map(|&offset| slot_line(offset, file.slot()))
            .collect(),
        config: redacted(file.slot())?,
    };
    if bytes.get(0x8001..0x8006) == Some(b"CD001") {
        shown.format = "iso";
        let bios_kernel = iso_parts(bytes, &mut shown).context("reading the ISO image")?;
        let program =
            boot_program(bytes, &shown.partitions).context("reading the EFI system partition")?;
        uki_parts(&program, Some(&bios_kernel), &mut shown)?;
    } else {
        uki_parts(bytes, None, &mut shown)?;
    }
    Ok(shown)
}

/// The merged configuration with the session token blanked.
pub fn redacted(slot: &Slot) -> Result<toml::Table> {
    let parse =
        |text: &str| toml::from_str::<toml::Table>(text).context("parsing the configuration");
    let mut table = parse(slot.base())?;
    stage1_config::merge(&mut table, parse(slot.overlay())?);
    if let Some(session) = table.get_mut("session").and_then(toml::Value::as_table_mut)
        && let Some(token) = session.get_mut("token")
    {
        *token = toml::Value::String("(hidden)".to_owned());
    }
    Ok(table)
}

impl Shown {
    /// The same for people.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!(
                "{} file, {} bytes, sha256 {}",
                self.format, self.size, self.sha256
            ),
            format!("as built            sha256 {}", self.build_sha256),
        ];
        let mut section = |title: &str, rows: Vec<String>| {
            if !rows.is_empty() {
                lines.push(String::new());
                lines.push(title.to_owned());
                lines.extend(rows.into_iter().map(|row| format!("  {row}")));
            }
        };
        let rows = self.boot_catalog.iter().map(|e| {
            let state = if e.bootable { "" } else { "  (not bootable)" };
            format!(
                "{:<6} at byte {:>9}, loads {} sectors{state}",
                e.platform, e.offset, e.sectors
            )
        });
        section("El Torito boot catalog", rows.collect());
        let rows = self.partitions.iter().map(|p| {
            format!(
                "{:<24} at byte {:>9}  {:>9} bytes",
                p.kind, p.offset, p.length
            )
        });
        section("Partitions", rows.collect());
        let rows = self.files.iter().map(|f| {
            format!(
                "{:<24} at byte {:>9}  {:>9} bytes  {}",
                f.path, f.offset, f.length, f.sha256
            )
        });
        section("Files", rows.collect());
        let rows = self
            .uki
            .iter()
            .map(|s| format!("{:<10} {:>9} bytes  {}", s.name, s.length, s.sha256));
        section("EFI program", rows.collect());
        if let Some(kernel) = &self.kernel {
            let same = if kernel.same_in_both_paths {
                "the same in every boot path"
            } else {
                "DIFFERENT in the BIOS and UEFI paths"
            };
            section(
                "Kernel",
                vec![
                    format!("Linux {}, {} bytes, {same}", kernel.version, kernel.length),
                    self.cmdline.clone(),
                ],
            );
        }
        let rows = self.slots.iter().map(|s| {
            format!(
                "at byte {:>9}: {} of {} bytes used ({} built in, {} customized)",
                s.offset,
                s.base + s.overlay,
                s.capacity,
                s.base,
                s.overlay
            )
        });
        section("Config slots", rows.collect());
        let config = toml::to_string(&self.config).unwrap_or_default();
        section("Configuration", config.lines().map(str::to_owned).collect());
        lines
    }
}

fn slot_line(offset: usize, slot: &Slot) -> SlotLine {
    let (base, overlay) = (slot.base().len(), slot.overlay().len());
    SlotLine {
        offset,
        base,
        overlay,
        capacity: stage1_config::slot::CAPACITY,
    }
}

/// Fills in the catalog, partitions and files; returns the kernel of the BIOS path.
fn iso_parts(bytes: &[u8], shown: &mut Shown) -> Result<Vec<u8>> {
    let device = MemDevice::new(bytes.to_vec(), block(2048)?);
    let mut fs = hadris_iso::sync::IsoFs::mount(device, MountOptions::new())
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    let mut buffer = [0; 2048];
    let catalog = fs
        .boot_catalog(&mut buffer)
        .context("reading the boot catalog")?;
    for entry in catalog.iter().flat_map(|catalog| catalog.entries()) {
        shown.boot_catalog.push(BootLine {
            platform: format!("{:?}", entry.platform()),
            bootable: entry.is_bootable(),
            offset: u64::from(entry.load_block()) * 2048,
            sectors: entry.sector_count(),
        });
    }
    let mut disk = MemDevice::new(bytes.to_vec(), block(512)?);
    let table = hadris_part::sync::read(&mut disk).context("reading the partition table")?;
    for partition in table.partitions() {
        let kind = match partition.kind() {
            hadris_part::PartitionKind::Gpt(guid)
                if guid == hadris_part::gpt::types::EFI_SYSTEM =>
            {
                ESP_KIND.to_owned()
            }
            other => format!("{other:?}"),
        };
        shown.partitions.push(PartitionLine {
            kind,
            offset: partition.start() * 512,
            length: partition.len() * 512,
        });
    }
    let volume = Volume::new(fs);
    let mut kernel = Vec::new();
    for entry in volume
        .read_dir(ISOLINUX_DIRECTORY)
        .context("listing /isolinux")?
        .take(MAX_FILES)
    {
        let entry = entry.context("listing /isolinux")?;
        let name = String::from_utf8_lossy(entry.name().as_bytes()).into_owned();
        let path = format!("{ISOLINUX_DIRECTORY}/{name}");
        let data = volume
            .read(&path)
            .with_context(|| format!("reading {path}"))?;
        let offset =
            find(bytes, &data).with_context(|| format!("{path} is not stored in one piece"))?;
        shown.files.push(FileLine {
            path,
            offset,
            length: data.len() as u64,
            sha256: hex(&Sha256::digest(&data)),
        });
        if name == iso::KERNEL {
            kernel = data;
        }
    }
    shown.files.sort_by_key(|file| file.offset);
    Ok(kernel)
}

/// Files begin on CD blocks.
fn find(image: &[u8], data: &[u8]) -> Option<u64> {
    (0..image.len())
        .step_by(2048)
        .find(|&at| image.get(at..at + data.len()) == Some(data))
        .map(|at| at as u64)
}

fn boot_program(bytes: &[u8], partitions: &[PartitionLine]) -> Result<Vec<u8>> {
    let Some(partition) = partitions
        .iter()
        .find(|partition| partition.kind == ESP_KIND)
    else {
        bail!("there is none");
    };
    let start = usize::try_from(partition.offset)?;
    let length = usize::try_from(partition.length)?;
    let volume = start
        .checked_add(length)
        .and_then(|end| bytes.get(start..end))
        .context("it lies outside the file")?;
    let fs = hadris_fat::sync::FatFs::mount(
        MemDevice::new(volume.to_vec(), block(512)?),
        MountOptions::new(),
    )
    .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    Volume::new(fs)
        .read(esp::BOOT_PROGRAM)
        .with_context(|| format!("reading {}", esp::BOOT_PROGRAM))
}

fn uki_parts(program: &[u8], bios_kernel: Option<&[u8]>, shown: &mut Shown) -> Result<()> {
    let pe = PE::parse(program).context("reading the EFI program")?;
    for section in &pe.sections {
        let name = section.name().unwrap_or("(unreadable)").to_owned();
        let start = section.pointer_to_raw_data as usize;
        let length = (section.virtual_size as usize).min(section.size_of_raw_data as usize);
        let data = program
            .get(start..start.saturating_add(length))
            .with_context(|| format!("section {name} lies outside the file"))?;
        match name.as_str() {
            ".linux" => {
                let KernelInfo { version, .. } =
                    check::kernel(data).context("checking the kernel")?;
                let same_in_both_paths = bios_kernel.is_none_or(|kernel| kernel == data);
                shown.kernel = Some(KernelLine {
                    version,
                    length,
                    same_in_both_paths,
                });
            }
            ".cmdline" => {
                shown.cmdline = String::from_utf8_lossy(data)
                    .trim_end_matches('\0')
                    .to_owned()
            }
            _ => {}
        }
        shown.uki.push(SectionLine {
            name,
            length,
            sha256: hex(&Sha256::digest(data)),
        });
    }
    Ok(())
}

fn block(size: u32) -> Result<BlockSize> {
    BlockSize::new(size).context("block size")
}

const ISOLINUX_DIRECTORY: &str = "isolinux";
const ESP_KIND: &str = "EFI system partition";
/// Our own directory holds six; more is somebody else's file.
const MAX_FILES: usize = 64;
