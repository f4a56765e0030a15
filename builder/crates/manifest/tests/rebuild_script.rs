//! `docs/formats/rebuild.py`: the store's formats, read by a program that shares no code with ours.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use sparetire_manifest::index::{Chunk, Index, PackRef, Place};
use sparetire_manifest::{
    BootRecipe, Digest, ImageKind, IndexRef, LinuxBoot, Manifest, Medium, NamedExtent, Placement,
    Timestamp, layout,
};

const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../../docs/formats/rebuild.py"
);
const VERSION: u64 = 7;

fn has_tools() -> bool {
    for tool in ["python3", "zstd"] {
        if Command::new(tool).arg("--version").output().is_err() {
            eprintln!("SKIPPED: {tool} is not installed, so rebuild.py was not tried");
            return false;
        }
    }
    true
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut tool = Command::new("zstd")
        .arg("-qc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Small enough for the pipe's buffer, so nobody waits for anybody.
    tool.stdin.take().unwrap().write_all(bytes).unwrap();
    tool.wait_with_output().unwrap().stdout
}

fn write(store: &Path, path: &str, bytes: &[u8]) {
    let path = store.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A store with two packs and one image: stored, hole, zstd, and a chunk used twice. Returns image and the second pack.
fn make_store(store: &Path) -> (Vec<u8>, Digest) {
    let (plain, repeated) = (b"stored as it is".to_vec(), vec![b'z'; 5000]);
    let packs = [
        b"somebody else's chunk"
            .iter()
            .chain(&plain)
            .copied()
            .collect::<Vec<u8>>(),
        zstd(&repeated),
    ];
    let image = [
        plain.clone(),
        vec![0; 10_000],
        repeated.clone(),
        plain.clone(),
    ]
    .concat();
    let chunk = |bytes: &[u8], place| Chunk {
        digest: Digest::of(bytes),
        length: bytes.len() as u32,
        place,
    };
    let stored = Place::Stored {
        pack: 0,
        offset: 21,
    };
    let index = Index {
        image_size: image.len() as u64,
        packs: packs
            .iter()
            .map(|pack| PackRef {
                sha256: Digest::of(pack),
                length: pack.len() as u64,
            })
            .collect(),
        chunks: vec![
            chunk(&plain, stored),
            chunk(&[0; 10_000], Place::Hole),
            chunk(
                &repeated,
                Place::Zstd {
                    pack: 1,
                    offset: 0,
                    stored_length: packs[1].len() as u32,
                },
            ),
            chunk(&plain, stored),
        ],
    };
    index.check().unwrap();
    let index = index.emit();
    let manifest = Manifest {
        format: 1,
        name: "sample".parse().unwrap(),
        version: VERSION,
        label: None,
        description: None,
        kind: ImageKind::LinuxNetboot,
        created: Timestamp::from_unix(0),
        expires: None,
        size: image.len() as u64,
        sha256: Digest::of(&image),
        index: IndexRef {
            sha256: Digest::of(&index),
            size: index.len() as u64,
        },
        boot: BootRecipe::Linux(LinuxBoot {
            kernel: NamedExtent {
                path: "kernel".into(),
                offset: 0,
                length: 15,
            },
            initrd: Vec::new(),
            cmdline: String::new(),
            medium: Medium::None,
            placement: Placement::Initramfs,
        }),
        min_ram: None,
        firmware: Vec::new(),
    };
    manifest.check().unwrap();
    write(
        store,
        &layout::manifest_path(&manifest.name, VERSION),
        &manifest.to_json(),
    );
    write(store, &layout::index_path(&manifest.name, VERSION), &index);
    for pack in &packs {
        write(store, &layout::pack_path(&Digest::of(pack)), pack);
    }
    (image, Digest::of(&packs[1]))
}

fn rebuild(store: &Path, output: &Path) -> Output {
    Command::new("python3")
        .arg(SCRIPT)
        .arg(store)
        .args(["sample", "7"])
        .arg(output)
        .output()
        .unwrap()
}

#[test]
fn script_rebuilds_the_image() {
    if !has_tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (image, _) = make_store(folder.path());
    let output = folder.path().join("rebuilt");
    let result = rebuild(folder.path(), &output);
    assert!(
        result.status.success(),
        "{}",
        String::from_utf8_lossy(&result.stderr)
    );
    assert_eq!(fs::read(output).unwrap(), image);
}

#[test]
fn script_names_the_chunk_that_is_wrong() {
    if !has_tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_, pack) = make_store(folder.path());
    let path = folder.path().join(layout::pack_path(&pack));
    let mut bytes = fs::read(&path).unwrap();
    // In the middle: damage inside the frame, not in its magic.
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&path, bytes).unwrap();
    let result = rebuild(folder.path(), &folder.path().join("rebuilt"));
    assert!(!result.status.success());
    let message = String::from_utf8_lossy(&result.stderr);
    assert!(message.contains("chunk 2 is wrong"), "{message}");
}

#[test]
fn script_refuses_an_index_that_the_manifest_does_not_name() {
    if !has_tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    make_store(folder.path());
    let path = folder.path().join("images/sample/7/index");
    let mut bytes = fs::read(&path).unwrap();
    bytes.push(0);
    fs::write(&path, bytes).unwrap();
    let result = rebuild(folder.path(), &folder.path().join("rebuilt"));
    assert!(!result.status.success());
    assert!(String::from_utf8_lossy(&result.stderr).contains("index is wrong"));
}

#[test]
fn script_stays_short() {
    let script = fs::read_to_string(SCRIPT).unwrap();
    assert!(script.lines().count() <= 30);
    assert!(script.lines().all(|line| line.len() <= 120));
}
