//! What a client that holds version 1 fetches for version 2, by chunk size; what the size of packs changes; and what
//! compression levels cost.
//!
//! `cargo xtask bench delta`, or `cargo bench --package sparetire-builder --bench delta -- [LABEL OLD NEW]...` for images of
//! one's own. Three pairs are made from the Debian packages of this machine: a live ISO rebuilt after an update, a boot.wim
//! edited, a disk image with changed files. Bytes are exact and the same in each run on the same machine; only the times of
//! the compression table are not.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench fails by panicking; criterion is not needed for counting bytes"
)]

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use fastcdc::v2020::StreamCDC;
use sparetire_manifest::Digest;

/// Least, average and most KiB of a chunk. Fixed sizes: the average alone.
const SIZES: &[(usize, usize, usize)] = &[
    (4, 16, 64),
    (8, 32, 128),
    (16, 64, 256),
    (32, 128, 512),
    (64, 256, 1024),
];

/// What import uses.
const CHOSEN: (usize, usize, usize) = (16, 64, 256);

/// An entry of the index (docs/formats/index.md).
const INDEX_ENTRY: u64 = 56;

/// As import: what saves less is stored as it is.
const WORTH_IT: (usize, usize) = (97, 100);

const PACK_CAPS: &[u64] = &[1, 4, 16, 64, 256];

/// What a client asks for at a time.
const REQUEST: u64 = 4 << 20;

const LEVELS: &[i32] = &[1, 3, 6, 9, 12, 15, 19];

/// Folders of this machine that stand for the system on a live medium.
const SYSTEM: &[&str] = &[
    "usr/bin",
    "usr/sbin",
    "usr/lib/x86_64-linux-gnu",
    "usr/share/perl",
];

/// Bytes of those that are taken.
const SYSTEM_BYTES: u64 = 160 << 20;

struct Pair {
    label: String,
    old: PathBuf,
    new: PathBuf,
}

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let mut pairs: Vec<Pair> = words
        .chunks_exact(3)
        .map(|words| Pair {
            label: words[0].clone(),
            old: words[1].clone().into(),
            new: words[2].clone().into(),
        })
        .collect();
    if pairs.is_empty() {
        pairs = made(dir.path());
    }
    println!(
        "| image | MB | chunks, KiB | whole, stored MB | new MB | of the whole | places | index KB |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for pair in &pairs {
        for sizes in SIZES {
            let mark = if *sizes == CHOSEN { "**" } else { "" };
            let (least, average, most) = *sizes;
            row(
                pair,
                &format!("{mark}{least}/{average}/{most}{mark}"),
                &|path| {
                    let file = File::open(path).unwrap();
                    let (least, average, most) = (least << 10, average << 10, most << 10);
                    let chunks = StreamCDC::new(file, least, average, most);
                    Box::new(chunks.map(|chunk| chunk.unwrap().data))
                },
            );
        }
        row(pair, "64, fixed", &|path| {
            let bytes = fs::read(path).unwrap();
            let chunks: Vec<Vec<u8>> = bytes.chunks(64 << 10).map(<[u8]>::to_vec).collect();
            Box::new(chunks.into_iter())
        });
    }
    println!();
    println!(
        "| image | pack MiB | packs | requests of a whole download | dead MB when the old version is gone |"
    );
    println!("|---|---|---|---|---|");
    for pair in &pairs {
        for cap in PACK_CAPS {
            packs(pair, *cap);
        }
    }
    println!();
    println!("| image | zstd level | of the bytes | MB/s on one processor |");
    println!("|---|---|---|---|");
    for pair in &pairs {
        levels(pair);
    }
}

/// Stored lengths of the chunks of an image that are not zero, each once, in its order.
fn stored_chunks(path: &Path) -> Vec<(Digest, u64)> {
    let (least, average, most) = CHOSEN;
    let mut seen = HashSet::new();
    StreamCDC::new(
        File::open(path).unwrap(),
        least << 10,
        average << 10,
        most << 10,
    )
    .map(|chunk| chunk.unwrap().data)
    .filter(|chunk| chunk.iter().any(|byte| *byte != 0))
    .map(|chunk| (Digest::of(&chunk), stored(&chunk, 3)))
    .filter(|(digest, _)| seen.insert(*digest))
    .collect()
}

/// What the size of packs changes: files, requests, since none goes beyond its pack, and what a pack of the old version
/// keeps in the store for the sake of the chunks that the new one uses.
fn packs(pair: &Pair, cap_mib: u64) {
    let old = stored_chunks(&pair.old);
    let used: HashSet<Digest> = stored_chunks(&pair.new)
        .into_iter()
        .map(|(digest, _)| digest)
        .collect();
    // Bytes of each pack, and those that stay in use.
    let mut packs: Vec<(u64, u64)> = Vec::new();
    for (digest, length) in old {
        if packs
            .last()
            .is_none_or(|(bytes, _)| bytes + length > cap_mib << 20)
        {
            packs.push((0, 0));
        }
        let pack = packs.last_mut().unwrap();
        pack.0 += length;
        pack.1 += if used.contains(&digest) { length } else { 0 };
    }
    let requests: u64 = packs.iter().map(|(bytes, _)| bytes.div_ceil(REQUEST)).sum();
    let dead: u64 = packs
        .iter()
        .filter(|(_, used)| *used > 0)
        .map(|(bytes, used)| bytes - used)
        .sum();
    println!(
        "| {} | {cap_mib} | {} | {requests} | {:.2} |",
        pair.label,
        packs.len(),
        dead as f64 / 1e6
    );
}

type Chunks = Box<dyn Iterator<Item = Vec<u8>>>;

fn row(pair: &Pair, sizes: &str, cut: &dyn Fn(&Path) -> Chunks) {
    let old: HashSet<Digest> = cut(&pair.old).map(|chunk| Digest::of(&chunk)).collect();
    let (mut seen, mut all, mut count) = (HashSet::new(), 0u64, 0u64);
    let (mut whole, mut new, mut places) = (0u64, 0u64, 0u64);
    let mut was_new = false;
    for chunk in cut(&pair.new) {
        count += 1;
        all += chunk.len() as u64;
        if chunk.iter().all(|byte| *byte == 0) {
            continue;
        }
        let digest = Digest::of(&chunk);
        if !seen.insert(digest) {
            continue;
        }
        let stored = stored(&chunk, 3);
        whole += stored;
        let is_new = !old.contains(&digest);
        if is_new {
            new += stored;
            places += u64::from(!was_new);
        }
        was_new = is_new;
    }
    println!(
        "| {} | {:.1} | {sizes} | {:.2} | {:.2} | {:.1} % | {places} | {} |",
        pair.label,
        all as f64 / 1e6,
        whole as f64 / 1e6,
        new as f64 / 1e6,
        100.0 * new as f64 / whole.max(1) as f64,
        count * INDEX_ENTRY / 1000
    );
}

fn stored(chunk: &[u8], level: i32) -> u64 {
    let frame = zstd::bulk::compress(chunk, level).unwrap().len();
    let is_worth_it = frame * WORTH_IT.1 <= chunk.len() * WORTH_IT.0;
    (if is_worth_it { frame } else { chunk.len() }) as u64
}

/// Over the chunks that compress at all, as import does it; the first 64 MB of them.
fn levels(pair: &Pair) {
    let file = File::open(&pair.new).unwrap();
    let (least, average, most) = CHOSEN;
    let mut chunks: Vec<Vec<u8>> = Vec::new();
    let mut bytes = 0;
    for chunk in StreamCDC::new(file, least << 10, average << 10, most << 10) {
        let chunk = chunk.unwrap().data;
        let is_zero = chunk.iter().all(|byte| *byte == 0);
        if !is_zero && stored(&chunk, 1) < chunk.len() as u64 {
            bytes += chunk.len();
            chunks.push(chunk);
        }
        if bytes > 64_000_000 {
            break;
        }
    }
    if bytes < 2_000_000 {
        println!("| {} | any | compressed already | |", pair.label);
        return;
    }
    for level in LEVELS {
        let started = Instant::now();
        let stored: u64 = chunks.iter().map(|chunk| stored(chunk, *level)).sum();
        let seconds = started.elapsed().as_secs_f64();
        println!(
            "| {} | {level} | {:.1} % | {:.0} |",
            pair.label,
            100.0 * stored as f64 / bytes as f64,
            bytes as f64 / 1e6 / seconds
        );
    }
}

/// The three pairs.
fn made(dir: &Path) -> Vec<Pair> {
    let system = dir.join("system");
    let files = copy_system(&system);
    let pair = |label: &str, kind: &str, write: &dyn Fn(&Path)| {
        let (old, new) = (
            dir.join(format!("old.{kind}")),
            dir.join(format!("new.{kind}")),
        );
        write(&old);
        (label.to_owned(), old, new)
    };
    let iso = pair("live ISO, rebuilt", "iso", &|to| live_iso(&system, dir, to));
    let wim = pair("boot.wim, edited", "wim", &|to| {
        run(Command::new("wimcapture").arg(&system).arg(to).args([
            "--compress=LZX",
            "--boot",
            "--no-acls",
        ]));
    });
    let disk = pair("disk image, changed", "img", &|to| {
        run(Command::new("mke2fs")
            .args([
                "-q",
                "-t",
                "ext4",
                "-E",
                "hash_seed=6d1b1a4c-5a1c-4f0a-9a3d-0a2b3c4d5e6f",
                "-d",
            ])
            .arg(&system)
            .arg(to)
            .arg("400M"));
    });
    // An update: each fiftieth file has another build of itself, a little longer, and two files are new.
    let update = dir.join("update");
    fs::create_dir(&update).unwrap();
    let mut edits = Vec::new();
    for (number, file) in files
        .iter()
        .enumerate()
        .filter(|(number, _)| number % 50 == 7)
    {
        let mut bytes = fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        bytes.splice(
            middle..middle,
            format!("build {number} of another day").into_bytes(),
        );
        let changed = update.join(number.to_string());
        fs::write(&changed, bytes).unwrap();
        edits.push((file.clone(), changed));
    }
    for number in 0..2 {
        let added = update.join(format!("added-{number}"));
        fs::copy(&files[number * 11 + 3], &added).unwrap();
        edits.push((system.join(format!("added-{number}")), added));
    }
    // The disk and the WIM are edited in place, as their users do; the ISO is built anew.
    fs::copy(&disk.1, &disk.2).unwrap();
    fs::copy(&wim.1, &wim.2).unwrap();
    let mut debugfs = String::new();
    let mut wimupdate = String::new();
    for (to, from) in &edits {
        let inside = to.strip_prefix(&system).unwrap().display().to_string();
        debugfs += &format!("rm /{inside}\nwrite {} /{inside}\n", from.display());
        wimupdate += &format!("add '{}' '/{inside}'\n", from.display());
    }
    piped(
        Command::new("debugfs").args(["-w", "-f", "-"]).arg(&disk.2),
        &debugfs,
    );
    piped(Command::new("wimupdate").arg(&wim.2).arg("1"), &wimupdate);
    for (to, from) in &edits {
        fs::copy(from, to).unwrap();
    }
    live_iso(&system, dir, &iso.2);
    let mut pairs = Vec::new();
    // What exporting a WIM for release does: without holes, everything in a new order.
    let rebuilt = dir.join("rebuilt.wim");
    run(Command::new("wimexport").arg(&wim.2).arg("1").arg(&rebuilt));
    pairs.push(Pair {
        label: "boot.wim, edited and exported".into(),
        old: wim.1.clone(),
        new: rebuilt,
    });
    for (label, old, new) in [wim, disk, iso] {
        pairs.push(Pair { label, old, new });
    }
    pairs.reverse();
    pairs
}

/// Files of this machine, in the order of their names.
fn copy_system(to: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut bytes = 0;
    let share = SYSTEM_BYTES / SYSTEM.len() as u64;
    for part in SYSTEM {
        fs::create_dir_all(to.join(part)).unwrap();
        let mut names: Vec<_> = fs::read_dir(Path::new("/").join(part))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path())
            .filter(|path| fs::symlink_metadata(path).is_ok_and(|found| found.is_file()))
            .collect();
        names.sort();
        let mut taken = 0;
        for from in names {
            let length = fs::metadata(&from).unwrap().len();
            if taken + length > share || length == 0 {
                continue;
            }
            let name = from.file_name().unwrap().to_owned();
            // Names that the edit scripts would have to quote are left out.
            if !name
                .to_string_lossy()
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || ".-_+".contains(c))
            {
                continue;
            }
            let copy = to.join(part).join(name);
            fs::copy(&from, &copy).unwrap();
            files.push(copy);
            taken += length;
        }
        bytes += taken;
    }
    eprintln!(
        "{} files, {} MB, stand for a system",
        files.len(),
        bytes / 1_000_000
    );
    files
}

fn live_iso(system: &Path, dir: &Path, to: &Path) {
    let root = dir.join("iso");
    fs::create_dir_all(root.join("live")).unwrap();
    let squashfs = root.join("live/filesystem.squashfs");
    let _ = fs::remove_file(&squashfs);
    run(Command::new("mksquashfs").arg(system).arg(&squashfs).args([
        "-comp",
        "zstd",
        "-Xcompression-level",
        "15",
        "-b",
        "131072",
        "-quiet",
        "-no-progress",
        "-all-time",
        "0",
        "-mkfs-time",
        "0",
    ]));
    run(Command::new("xorriso")
        .args(["-as", "mkisofs", "-quiet", "-o"])
        .arg(to)
        .arg(&root));
}

fn run(command: &mut Command) {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().unwrap_or_else(|error| {
        panic_with(&format!(
            "{program}: {error}; `cargo xtask setup` installs it"
        ))
    });
    if !output.status.success() {
        panic_with(&format!(
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
}

fn piped(command: &mut Command, input: &str) {
    use std::io::Write;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("`cargo xtask setup` installs it");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    assert!(
        child.wait().unwrap().success(),
        "{:?}",
        command.get_program()
    );
}

fn panic_with(text: &str) -> ! {
    eprintln!("{text}");
    std::process::exit(1)
}
