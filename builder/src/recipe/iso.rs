//! The live ISO around a root file system: boots by itself from CD and stick, BIOS and UEFI.
//!
//! BIOS: ISOLINUX. UEFI: GRUB in an appended EFI system partition, which finds the ISO by its
//! label. Stage one needs neither; it reads their configurations to learn what to boot.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, anyhow};
use hadris_fs::{Content, DateTime, Node, Permissions, SetAttr, Tree};
use hadris_iso::{
    AppendedPartition, BootEntry, BootInfo, ElTorito, Hybrid, IsoId, IsoLevel, IsoOptions, Preserve,
};
use hadris_storage::host::FileDevice;

use super::Boot;
use super::debian::SystemFiles;
use crate::stage1::{esp, iso::protective_table, parts::Isolinux};

/// GRUB modules built into the EFI program: reading the ISO, showing a menu, starting Linux.
const GRUB_MODULES: [&str; 14] = [
    "all_video",
    "configfile",
    "echo",
    "fat",
    "iso9660",
    "linux",
    "loopback",
    "normal",
    "part_gpt",
    "part_msdos",
    "reboot",
    "search",
    "search_label",
    "test",
];

/// What goes on the ISO.
#[derive(Debug)]
pub struct LiveIso<'a> {
    /// Kernel, initramfs, root file system.
    pub system: &'a SystemFiles,
    /// Name of the image, for the label.
    pub name: &'a str,
    /// The boot menu.
    pub boot: &'a Boot,
    /// Text for whoever sits before the machine.
    pub site_note: Option<Vec<u8>>,
    /// Seconds since 1970 for every date.
    pub epoch: u64,
}

impl LiveIso<'_> {
    /// Writes the ISO; `output` appears whole or not at all. Returns its size in bytes.
    ///
    /// # Errors
    ///
    /// When a file is missing or cannot be written.
    pub fn write(&self, output: &Path) -> anyhow::Result<u64> {
        let dir = match output.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let time = i64::try_from(self.epoch)
            .ok()
            .and_then(|seconds| DateTime::from_unix_seconds(seconds).ok())
            .ok_or_else(|| anyhow!("{} is no date for an ISO", self.epoch))?;
        let isolinux = Isolinux::installed().context("looking for ISOLINUX")?;
        let grub = self.grub()?;
        let esp = esp::build(&grub, time).context("building the EFI system partition")?;
        let tree = self.tree(&isolinux)?;
        let options = self.options(&isolinux, esp, time);

        let context = || format!("writing {}", output.display());
        let size = hadris_iso::plan(&tree, &options)
            .with_context(context)?
            .size();
        let mut temporary = tempfile::Builder::new()
            .prefix(".sparetire-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(dir)
            .with_context(context)?;
        temporary.as_file().set_len(size).with_context(context)?;
        let device =
            FileDevice::new(temporary.reopen().with_context(context)?).with_context(context)?;
        let report = hadris_iso::sync::write(device, &tree, &options).with_context(context)?;
        if let Some(warning) = report.warnings().first() {
            return Err(anyhow!("{}", warning.message())).with_context(context);
        }
        // Why: see `protective_table`.
        let size = temporary.as_file().metadata().with_context(context)?.len();
        let table = protective_table(size)
            .ok_or_else(|| anyhow!("too large for a disk with a master boot record"))
            .with_context(context)?;
        temporary
            .as_file()
            .write_all_at(&table, 446)
            .with_context(context)?;
        temporary.flush().with_context(context)?;
        temporary.as_file().sync_all().with_context(context)?;
        temporary.persist(output).with_context(context)?;
        Ok(size)
    }

    /// Volume identifiers are upper-case letters, digits and underscores, at most 32 (ECMA-119, 8.4.7).
    fn label(&self) -> String {
        self.name
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_uppercase()
                } else {
                    '_'
                }
            })
            .take(32)
            .collect()
    }

    /// The EFI program.
    fn grub(&self) -> anyhow::Result<Vec<u8>> {
        let dir = tempfile::tempdir().context("creating a folder")?;
        let config = dir.path().join("early.cfg");
        let program = dir.path().join("bootx64.efi");
        let text = format!(
            "search --no-floppy --set=root --label {}\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n",
            self.label()
        );
        fs::write(&config, text).context("writing GRUB's first configuration")?;
        let output = Command::new("grub-mkimage")
            .args(["-O", "x86_64-efi", "-p", "/boot/grub", "-c"])
            .arg(&config)
            .arg("-o")
            .arg(&program)
            .args(GRUB_MODULES)
            .output()
            .context("starting grub-mkimage")?;
        if !output.status.success() {
            return Err(anyhow!(
                "grub-mkimage ended with {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            ));
        }
        fs::read(&program).context("reading what grub-mkimage made")
    }

    fn tree(&self, isolinux: &Isolinux) -> anyhow::Result<Tree> {
        let Boot {
            title,
            cmdline,
            timeout_seconds,
        } = self.boot;
        let tenths = timeout_seconds.saturating_mul(10);
        let isolinux_cfg = format!(
            "SERIAL 0 115200\nDEFAULT live\nPROMPT {}\nTIMEOUT {tenths}\nLABEL live\n  MENU LABEL {title}\n  \
             LINUX /live/vmlinuz\n  INITRD /live/initrd.img\n  APPEND {cmdline}\n",
            u32::from(tenths > 0)
        );
        let grub_entry = |more: &str| {
            format!(
                "menuentry \"{title}\" {{\n  linux /live/vmlinuz {cmdline}{more}\n  initrd /live/initrd.img\n}}\n"
            )
        };
        let grub_cfg = format!("set timeout={timeout_seconds}\n{}", grub_entry(""));
        // What other boot media read when this ISO is a file on them.
        let loopback_cfg = grub_entry(" findiso=${iso_path}");

        let mut tree = Tree::new();
        let mut add = |path: &str, content: Content| {
            let attrs = SetAttr::new().with_permissions(Permissions::new(0o444));
            tree.insert(path, Node::file(content).with_attrs(attrs))
                .with_context(|| format!("placing {path}"))
        };
        let bytes = |bytes: &[u8]| Content::bytes(bytes);
        add("isolinux/isolinux.bin", bytes(&isolinux.boot_loader))?;
        add("isolinux/ldlinux.c32", bytes(&isolinux.core_module))?;
        add("isolinux/isolinux.cfg", bytes(isolinux_cfg.as_bytes()))?;
        add("boot/grub/grub.cfg", bytes(grub_cfg.as_bytes()))?;
        add("boot/grub/loopback.cfg", bytes(loopback_cfg.as_bytes()))?;
        if let Some(note) = &self.site_note {
            add("site-note.txt", bytes(note))?;
        }
        let from_disk = |path: &PathBuf| {
            hadris_fs::host::file(path).with_context(|| format!("opening {}", path.display()))
        };
        add("live/vmlinuz", from_disk(&self.system.kernel)?)?;
        add("live/initrd.img", from_disk(&self.system.initrd)?)?;
        add(
            "live/filesystem.squashfs",
            from_disk(&self.system.squashfs)?,
        )?;
        Ok(tree)
    }

    fn options(&self, isolinux: &Isolinux, esp: Vec<u8>, time: DateTime) -> IsoOptions {
        let el_torito = ElTorito::new()
            .with_entry(
                BootEntry::bios("isolinux/isolinux.bin")
                    .with_load_size(4)
                    .with_boot_info(BootInfo::Table),
            )
            .with_entry(BootEntry::uefi_appended(0))
            .with_catalog_path("isolinux/boot.cat");
        let hybrid = Hybrid::gpt_hybrid_mbr()
            .with_bootstrap(&isolinux.disk_boot_record)
            .with_appended(AppendedPartition::esp(Content::bytes(esp)));
        IsoOptions::new()
            .with_id(IsoId::Volume, &self.label())
            .with_level(IsoLevel::L3)
            .with_rock_ridge()
            .with_preserve(Preserve::PERMISSIONS)
            .with_time(time)
            .with_seed(0)
            .with_el_torito(el_torito)
            .with_hybrid(hybrid)
    }
}

/// Opens the ISO as everybody else would: a slip in the writing shows here, not on a PC.
///
/// # Errors
///
/// When nothing on it can be booted.
pub fn check(path: &Path) -> anyhow::Result<()> {
    let iso = crate::iso_image::IsoImage::open(path).context("reading the new ISO back")?;
    crate::live_iso::linux_boot_of(&iso, None).context("looking for the system on the new ISO")?;
    File::open(path)
        .and_then(|file| file.sync_all())
        .with_context(|| format!("syncing {}", path.display()))
}
