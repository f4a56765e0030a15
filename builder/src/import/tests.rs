//! Imports into a real folder, read back by our own reader, by Debian's minisign and by
//! `docs/formats/rebuild.py`.

use std::fs;
use std::process::Command;

use sparetire_manifest::TrustedKeys;

use super::chunks::tests::noise;
use super::*;
use crate::cli::Ui;
use crate::signing::{self, Password};
use crate::store::{CheckError, verify_version};

struct Bench {
    dir: tempfile::TempDir,
    key: SigningKey,
    trusted: TrustedKeys,
    options: Options,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("test.key");
        let (public, _) = signing::generate(&path, &Password::None).unwrap();
        Self {
            key: SigningKey::read(&path, &Password::None).unwrap(),
            trusted: TrustedKeys::parse([public.line.as_str()].into_iter()).unwrap(),
            options: Options {
                name: "small".parse().unwrap(),
                version: None,
                label: Some("Small".into()),
                description: None,
                valid: None,
                latest_valid: Duration::from_secs(86_400),
                cmdline: Some("console=ttyS0 quiet".into()),
                append: None,
                medium: None,
                placement: None,
                now: Timestamp::from_unix(1_795_305_240),
                wait: false,
            },
            dir,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file that passes for a kernel, and one that passes for an initramfs.
    fn input(&self, initrd: &[u8]) -> Input {
        let mut kernel = noise(300_001, 9);
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        kernel[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
        kernel[0x236..0x238].copy_from_slice(&0x3fu16.to_le_bytes());
        fs::write(self.path("vmlinuz"), kernel).unwrap();
        fs::write(self.path("initrd.img"), initrd).unwrap();
        Input::LinuxNetboot {
            kernel: self.path("vmlinuz"),
            initrd: vec![self.path("initrd.img")],
        }
    }

    /// What `input` amounts to as an image.
    fn image(&self) -> Vec<u8> {
        let mut image = fs::read(self.path("vmlinuz")).unwrap();
        image.resize(image.len().next_multiple_of(4096), 0);
        image.extend(fs::read(self.path("initrd.img")).unwrap());
        image
    }

    fn import(&self, input: &Input) -> anyhow::Result<Report> {
        let progress = quiet();
        import(
            &self.path("store"),
            input,
            &self.options,
            &self.key,
            &progress,
        )
    }

    fn store(&self) -> Store {
        Store::open(&self.path("store")).unwrap()
    }

    fn verify(&self, version: u64) -> Result<(), CheckError> {
        let now = self.options.now;
        let name = &self.options.name;
        verify_version(&self.store(), name, version, &self.trusted, now, |_, _| {}).map(drop)
    }
}

fn quiet() -> Progress {
    let ui = Ui {
        json: false,
        quiet: true,
    };
    ui.progress("test", 0)
}

/// Noise, text and zeros: stored, compressed, left out.
fn mixed() -> Vec<u8> {
    let mut bytes = noise(1_500_000, 5);
    bytes.extend(b"a line that repeats itself\n".repeat(30_000));
    bytes.resize(bytes.len() + 2_000_000, 0);
    bytes.extend(noise(200_000, 6));
    bytes
}

fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                found.push((path, bytes));
            }
        }
    }
    found.sort();
    found
}

fn has(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}

#[test]
fn an_imported_image_holds_and_is_what_was_given() {
    let bench = Bench::new();
    let report = bench.import(&bench.input(&mixed())).unwrap();
    assert_eq!(report.version, bench.options.now.version_number());
    assert_eq!(report.sha256, Digest::of(&bench.image()));
    assert_eq!(report.size, bench.image().len() as u64);
    assert!(report.hole_bytes > 1_500_000, "{report:?}");
    assert!(report.stored_bytes < report.new_bytes, "{report:?}");
    let parts = report.hole_bytes + report.shared_bytes + report.new_bytes;
    assert_eq!(parts, report.size);
    bench.verify(report.version).unwrap();

    let manifest = bench
        .store()
        .manifest(&report.name, report.version)
        .unwrap();
    let BootRecipe::Linux(boot) = &manifest.boot;
    assert_eq!(boot.kernel.offset, 0);
    assert_eq!(boot.kernel.length, 300_001);
    assert_eq!(boot.initrd[0].offset, 303_104);
    assert_eq!(boot.cmdline, "console=ttyS0 quiet");
    let initrd = boot.initrd[0].length;
    let needed = 2 * (manifest.size + initrd) + (128 << 20);
    let min_ram = manifest.min_ram.unwrap();
    assert!(min_ram >= needed && min_ram < needed + (1 << 20));
}

#[test]
fn the_script_of_the_format_pages_rebuilds_the_image() {
    if !has("python3") || !has("zstd") {
        return;
    }
    let bench = Bench::new();
    let report = bench.import(&bench.input(&mixed())).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/formats/rebuild.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(bench.path("store"))
        .args(["small", &report.version.to_string()])
        .arg(bench.path("rebuilt"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(fs::read(bench.path("rebuilt")).unwrap() == bench.image());
}

#[test]
fn debians_minisign_verifies_what_was_signed() {
    if !has("minisign") {
        return;
    }
    let bench = Bench::new();
    let report = bench.import(&bench.input(b"initramfs")).unwrap();
    for (file, comment) in [
        (
            format!("{}/manifest.json", report.version),
            format!("sparetire manifest small {}", report.version),
        ),
        (
            "latest.json".to_owned(),
            format!("sparetire latest small {}", report.version),
        ),
    ] {
        let output = Command::new("minisign")
            .arg("-Vm")
            .arg(bench.path("store/images/small").join(file))
            .arg("-p")
            .arg(bench.path("test.pub"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        assert!(said.contains(&comment), "{said}");
    }
}

#[test]
fn a_second_version_stores_only_what_is_new() {
    let mut bench = Bench::new();
    let mut initrd = mixed();
    let first = bench.import(&bench.input(&initrd)).unwrap();
    initrd.splice(700_000..700_000, *b"a few bytes more");
    bench.options.now = bench.options.now.plus(Duration::from_secs(60));
    let second = bench.import(&bench.input(&initrd)).unwrap();
    assert!(second.version > first.version);
    assert!(second.shared_bytes > 1_500_000, "{second:?}");
    assert!(second.stored_bytes < 600_000, "{second:?}");
    bench.verify(first.version).unwrap();
    bench.verify(second.version).unwrap();
    assert_eq!(second.sha256, Digest::of(&bench.image()));
    // The same once more, right away: a new version, no new pack.
    let third = bench.import(&bench.input(&initrd)).unwrap();
    assert_eq!(third.version, second.version + 1);
    assert_eq!((third.packs, third.stored_bytes), (0, 0));
    bench.verify(third.version).unwrap();
}

#[test]
fn repeated_chunks_of_one_image_are_stored_once() {
    let bench = Bench::new();
    let mut initrd = noise(2_000_000, 3);
    initrd.extend(initrd.clone());
    let report = bench.import(&bench.input(&initrd)).unwrap();
    assert!(report.shared_bytes > 1_500_000, "{report:?}");
    bench.verify(report.version).unwrap();
}

#[test]
fn a_dry_run_writes_nothing_and_says_the_same() {
    let bench = Bench::new();
    let input = bench.input(&mixed());
    let root = bench.path("store");
    let dry = dry_run(&root, &input, &bench.options, &quiet()).unwrap();
    assert!(!root.exists());
    let wet = bench.import(&input).unwrap();
    assert_eq!(dry.sha256, wet.sha256);
    assert_eq!(dry.stored_bytes, wet.stored_bytes);
    assert_eq!(dry.chunks, wet.chunks);
    let before = files(&root);
    let again = dry_run(&root, &input, &bench.options, &quiet()).unwrap();
    assert_eq!(again.stored_bytes, 0);
    assert!(files(&root) == before);
}

#[test]
fn an_import_that_fails_late_leaves_the_store_as_it_was() {
    let bench = Bench::new();
    let first = bench.import(&bench.input(&mixed())).unwrap();
    let before = files(&bench.path("store"));
    let input = bench.input(&noise(900_000, 77));
    let prepared = Prepared::new(&input, &bench.options).unwrap();
    let cut = fs::OpenOptions::new()
        .write(true)
        .open(bench.path("initrd.img"))
        .unwrap();
    cut.set_len(800_000).unwrap();
    {
        let store = bench.store();
        let lock = store.lock().unwrap();
        let known = HashMap::new();
        let mut collector = Collector::new(&known, Some(lock.packs(100_000)));
        let error = collector.run(&prepared, &quiet()).unwrap_err();
        assert!(error.to_string().contains("changed"), "{error:#}");
        // Several packs are complete by now, none has a name.
    }
    assert!(files(&bench.path("store")) == before);
    bench.verify(first.version).unwrap();
}

#[test]
fn a_manifest_that_nobody_would_read_is_refused_before_the_long_part() {
    let mut bench = Bench::new();
    bench.options.cmdline = Some("two\nlines".into());
    let error = bench.import(&bench.input(&mixed())).unwrap_err();
    assert_eq!(crate::exit::exit_code_of(&error), ExitCode::Usage);
    assert!(format!("{error:#}").contains("cmdline"), "{error:#}");
    assert!(bench.store().images().unwrap().is_empty());
}

#[test]
fn versions_do_not_go_back() {
    let mut bench = Bench::new();
    let input = bench.input(b"initramfs");
    bench.options.version = Some(10);
    bench.import(&input).unwrap();
    for version in [9, 10] {
        bench.options.version = Some(version);
        let error = bench.import(&input).unwrap_err();
        assert_eq!(crate::exit::exit_code_of(&error), ExitCode::Refused);
    }
    bench.options.version = Some(11);
    bench.import(&input).unwrap();
}

#[test]
fn inputs_that_are_no_image_are_refused_before_a_store_exists() {
    let bench = Bench::new();
    fs::write(bench.path("text"), "no kernel").unwrap();
    fs::write(bench.path("empty"), "").unwrap();
    let kernel = |path: &str| Input::LinuxNetboot {
        kernel: bench.path(path),
        initrd: Vec::new(),
    };
    let iso = |path: &str| Input::LinuxIso {
        path: bench.path(path),
        entry: None,
    };
    for (input, named) in [
        (kernel("text"), "not a Linux kernel"),
        (kernel("empty"), "0 bytes"),
        (kernel("missing"), "missing"),
        (kernel("."), "not a regular file"),
        (iso("text"), "text"),
        (iso("/dev/zero"), "not a regular file"),
    ] {
        let error = format!("{:#}", bench.import(&input).unwrap_err());
        assert!(error.contains(named), "{error}");
    }
    assert!(!bench.path("store").exists());
}

#[test]
fn a_file_that_changes_while_it_is_read_is_noticed() {
    let bench = Bench::new();
    bench.input(&mixed());
    let path = bench.path("initrd.img");
    let source = Source::one(&path).unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut source.reader().unwrap(), &mut bytes).unwrap();
    source.check_unchanged(bytes.len() as u64).unwrap();
    fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .set_len(5)
        .unwrap();
    let error = source.check_unchanged(bytes.len() as u64).unwrap_err();
    assert!(error.to_string().contains("changed"), "{error}");
}

#[test]
fn every_damage_is_found_by_name() {
    let bench = Bench::new();
    let report = bench.import(&bench.input(&mixed())).unwrap();
    let version = report.version;
    let flip = |path: &Path, at: usize| {
        let mut bytes = fs::read(path).unwrap();
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let store = bench.path("store");
    let pack = files(&store.join("packs")).remove(0).0;
    let images = store.join("images/small");
    let version_dir = images.join(version.to_string());

    flip(&pack, 1000);
    assert!(matches!(
        bench.verify(version),
        Err(CheckError::Chunk { chunk: 0, .. })
    ));
    flip(&pack, 1000);

    flip(&version_dir.join("index"), 80);
    assert!(matches!(
        bench.verify(version),
        Err(CheckError::Store(StoreError::Index { .. }))
    ));
    flip(&version_dir.join("index"), 80);

    flip(&version_dir.join("manifest.json"), 30);
    assert!(matches!(
        bench.verify(version),
        Err(CheckError::Manifest { .. })
    ));
    flip(&version_dir.join("manifest.json"), 30);

    // A manifest, correctly signed, in the place of the pointer.
    let latest = fs::read(images.join("latest.json")).unwrap();
    let latest_signature = fs::read(images.join("latest.json.minisig")).unwrap();
    fs::copy(
        version_dir.join("manifest.json"),
        images.join("latest.json"),
    )
    .unwrap();
    fs::copy(
        version_dir.join("manifest.json.minisig"),
        images.join("latest.json.minisig"),
    )
    .unwrap();
    assert!(matches!(
        bench.verify(version),
        Err(CheckError::Latest { .. })
    ));
    fs::write(images.join("latest.json"), latest).unwrap();
    fs::write(images.join("latest.json.minisig"), latest_signature).unwrap();

    fs::remove_file(&pack).unwrap();
    assert!(matches!(
        bench.verify(version),
        Err(CheckError::Store(StoreError::Io { .. }))
    ));
}
