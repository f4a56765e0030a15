//! Stage-one files around a real Debian kernel and a real static program, read back by other
//! people's tools. Whether they boot is for the virtual machine tests.

use goblin::pe::PE;
use sparetire_builder::stage1::build::{Built, DEFAULT_CMDLINE, Format, Recipe, build};
use sparetire_builder::stage1::customize::SlottedFile;
use sparetire_builder::stage1::parts::{Choice, KernelChoice, Parts};
use sparetire_builder::stage1::show::show;
use std::path::{Path, PathBuf};
use std::process::Command;

const KERNEL: &str = "/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/linux";
const STATIC_PROGRAM: &str = "/bin/busybox";
const CONFIG: &str = "format = 1\nbuild_date = \"2026-11-21T00:00:00Z\"\n";

/// `None`, loudly, where the packages are not installed; `cargo xtask test` installs them.
fn parts() -> Option<Parts> {
    let choice = Choice {
        kernel: KernelChoice::File(PathBuf::from(KERNEL)),
        loader: Some(PathBuf::from(STATIC_PROGRAM)),
    };
    match Parts::gather(&choice) {
        Ok(parts) => Some(parts),
        Err(error) => {
            eprintln!("SKIPPED: {error}");
            None
        }
    }
}

#[expect(clippy::unwrap_used, reason = "a test helper")]
fn build_as(parts: &Parts, format: Format) -> Built {
    build(
        parts,
        &Recipe {
            config: CONFIG,
            cmdline: DEFAULT_CMDLINE,
            format,
            time: 1_795_219_200,
        },
    )
    .unwrap()
}

/// Runs `program` with `FILE` among the arguments standing for the file.
fn tool(program: &str, args: &[&str], file: &Path) -> Option<String> {
    let args = args.iter().map(|arg| {
        if *arg == "FILE" {
            file.as_os_str()
        } else {
            arg.as_ref()
        }
    });
    let output = match Command::new(program).args(args).env("LC_ALL", "C").output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("SKIPPED: {program}: {error}");
            return None;
        }
    };
    Some(format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    ))
}

#[test]
fn iso_is_reproducible_and_other_tools_find_both_boot_paths() {
    let Some(parts) = parts() else { return };
    let built = build_as(&parts, Format::Iso);
    assert_eq!(
        built.bytes,
        build_as(&parts, Format::Iso).bytes,
        "same inputs gave different bytes"
    );
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stage1.iso");
    std::fs::write(&path, &built.bytes).unwrap();

    if let Some(report) = tool(
        "xorriso",
        &[
            "-indev",
            "FILE",
            "-report_el_torito",
            "plain",
            "-report_system_area",
            "plain",
        ],
        &path,
    ) {
        for expected in [
            "El Torito boot img :   1  BIOS",
            "El Torito boot img :   2  UEFI",
            "0xee            1 ",
            "boot-info-table",
            "MBR isohybrid",
            "EFI System Partition",
        ] {
            assert!(
                report.contains(expected),
                "xorriso does not report {expected:?}:\n{report}"
            );
        }
    }
    if let Some(report) = tool("isoinfo", &["-d", "-i", "FILE"], &path) {
        for expected in [
            "Volume id: SPARETIRE_STAGE1",
            "El Torito VD version 1 found",
            "Rock Ridge signatures version 1 found",
        ] {
            assert!(
                report.contains(expected),
                "isoinfo does not report {expected:?}:\n{report}"
            );
        }
    }
    if let Some(report) = tool("isoinfo", &["-R", "-f", "-i", "FILE"], &path) {
        assert!(
            report.contains("/isolinux/vmlinuz") && report.contains("/isolinux/initrd.img"),
            "{report}"
        );
    }
    if let Some(report) = tool("/usr/sbin/sgdisk", &["-v", "FILE"], &path) {
        assert!(report.contains("No problems found"), "{report}");
    }
}

#[test]
fn customizing_and_resetting_gives_the_built_file_back() {
    let Some(parts) = parts() else { return };
    let built = build_as(&parts, Format::Iso);
    let mut file = SlottedFile::parse(built.bytes.clone()).unwrap();
    assert_eq!(file.offsets(), &built.slots[..]);
    assert!(
        file.offsets().iter().all(|offset| offset % 2048 == 0),
        "{:?}",
        file.offsets()
    );
    file.customize("server = \"http://192.0.2.1:8080\"\nimage = \"diagnostic\"\n")
        .unwrap();
    let differing = built
        .bytes
        .iter()
        .zip(file.bytes())
        .filter(|(a, b)| a != b)
        .count();
    assert!(differing > 0 && differing < 512, "{differing} bytes differ");
    file.reset();
    assert!(
        file.bytes() == &built.bytes[..],
        "reset did not restore the file"
    );
}

#[test]
fn show_reads_back_what_was_built_and_hides_the_token() {
    let Some(parts) = parts() else { return };
    let mut file = SlottedFile::parse(build_as(&parts, Format::Iso).bytes).unwrap();
    let token = "0123456789abcdef0123456789abcdef";
    file.customize(&format!("[session]\nid = \"abc\"\ntoken = \"{token}\"\n"))
        .unwrap();
    let shown = show(file).unwrap();
    assert_eq!(
        shown
            .boot_catalog
            .iter()
            .map(|entry| entry.bootable)
            .collect::<Vec<_>>(),
        [true, true]
    );
    assert!(shown.kernel.as_ref().unwrap().same_in_both_paths);
    assert_eq!(shown.cmdline, DEFAULT_CMDLINE);
    assert_eq!(
        shown
            .files
            .iter()
            .filter(|file| file.path.ends_with("vmlinuz"))
            .count(),
        1
    );
    let text = shown.lines().join("\n") + &serde_json::to_string(&shown).unwrap();
    assert!(!text.contains(token), "token shown:\n{text}");
}

#[test]
fn efi_program_holds_kernel_command_line_and_initramfs() {
    let Some(parts) = parts() else { return };
    let built = build_as(&parts, Format::Uki);
    let pe = PE::parse(&built.bytes).unwrap();
    let names: Vec<_> = pe
        .sections
        .iter()
        .map(|section| section.name().unwrap())
        .collect();
    assert!(
        [".osrel", ".cmdline", ".linux", ".initrd"]
            .iter()
            .all(|name| names.contains(name)),
        "{names:?}"
    );
    assert_eq!(built.slots.len(), 1);
    assert!(
        show(SlottedFile::parse(built.bytes).unwrap())
            .unwrap()
            .kernel
            .is_some()
    );
}

#[test]
fn disk_image_is_whole_mebibytes_and_explained_like_the_iso() {
    let Some(parts) = parts() else { return };
    let built = build_as(&parts, Format::Img);
    assert_eq!(built.bytes.len() % (1 << 20), 0);
    let shown = show(SlottedFile::parse(built.bytes).unwrap()).unwrap();
    let systems = shown
        .partitions
        .iter()
        .filter(|partition| partition.kind == "EFI system partition");
    assert_eq!(systems.count(), 1);
}

#[test]
fn truncated_or_damaged_files_give_errors_and_never_panic() {
    let Some(parts) = parts() else { return };
    let bytes = build_as(&parts, Format::Iso).bytes;
    for length in [
        0,
        1,
        2048,
        0x8001,
        0x8800,
        bytes.len() / 3,
        bytes.len() / 2,
        bytes.len() - 1_000_000,
    ] {
        // A slot may survive the cut; explaining the rest must then fail or succeed, not panic.
        if let Ok(file) = SlottedFile::parse(bytes[..length].to_vec()) {
            let _ = show(file);
        }
    }
    for at in (0..bytes.len().min(200_000)).step_by(9001) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xff;
        if let Ok(file) = SlottedFile::parse(damaged) {
            let _ = show(file);
        }
    }
}
