//! The commands `key` and `image` as users type them: import, list, show, verify, and fetch from a
//! web server of a few lines that knows Range.
#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test fail as loudly as the test itself"
)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use sparetire_builder::cli::UiArgs;
use sparetire_builder::exit::{ExitCode, exit_code_of};
use sparetire_builder::image::ImageCommand;
use sparetire_builder::key::KeyCommand;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    ui: UiArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    #[command(subcommand)]
    Image(ImageCommand),
    #[command(subcommand)]
    Key(KeyCommand),
}

struct Bench(tempfile::TempDir);

impl Bench {
    /// A key, a store, and an image `small` in it.
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        bench.run("key generate --key KEY --no-password").unwrap();
        bench.run("key generate --key OTHER --no-password").unwrap();
        let mut kernel = noise(200_000, 1);
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        kernel[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
        kernel[0x236] = 0x3f;
        fs::write(bench.path("vmlinuz"), kernel).unwrap();
        bench.write_initrd(2);
        bench.import().unwrap();
        bench
    }

    fn write_initrd(&self, seed: u64) {
        let mut initrd = noise(3_000_000, 7);
        initrd.resize(4_000_000, 0);
        initrd.extend(b"a line that repeats itself\n".repeat(20_000));
        initrd.extend(noise(1_000_000, seed));
        fs::write(self.path("initrd"), initrd).unwrap();
    }

    fn import(&self) -> anyhow::Result<()> {
        self.run(
            "image import --name small --kind linux-netboot --kernel VMLINUZ --initrd INITRD \
             --cmdline quiet --store STORE --key KEY",
        )
    }

    fn image(&self) -> Vec<u8> {
        let mut image = fs::read(self.path("vmlinuz")).unwrap();
        image.resize(image.len().next_multiple_of(4096), 0);
        image.extend(fs::read(self.path("initrd")).unwrap());
        image
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a command line; words in capitals are files of the bench.
    fn run(&self, line: &str) -> anyhow::Result<()> {
        let words = line.split_whitespace().map(|word| match word {
            "KEY" => self.path("a.key").into_os_string(),
            "PUB" => self.path("a.pub").into_os_string(),
            "OTHER" => self.path("b.key").into_os_string(),
            "OTHERPUB" => self.path("b.pub").into_os_string(),
            "VMLINUZ" => self.path("vmlinuz").into_os_string(),
            "INITRD" => self.path("initrd").into_os_string(),
            "STORE" => self.path("store").into_os_string(),
            "OUT" => self.path("out").into_os_string(),
            other => other.into(),
        });
        let words = ["sparetire".into(), "--quiet".into()]
            .into_iter()
            .chain(words);
        let cli = Cli::try_parse_from(words).unwrap();
        match cli.command {
            Command::Image(command) => command.run(&cli.ui.ui()),
            Command::Key(command) => command.run(&cli.ui.ui()),
        }
    }
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(length)
    .collect()
}

fn code(result: anyhow::Result<()>) -> ExitCode {
    exit_code_of(&result.unwrap_err())
}

/// Serves a folder until the test ends; counts the bytes of bodies.
fn serve(root: &Path) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let sent = Arc::new(AtomicU64::new(0));
    let (root, counter) = (root.to_owned(), Arc::clone(&sent));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (root, counter) = (root.clone(), Arc::clone(&counter));
            // A client that goes away ends its connection, nothing else.
            std::thread::spawn(move || answer(stream, &root, &counter).ok());
        }
    });
    (url, sent)
}

fn answer(mut stream: TcpStream, root: &Path, sent: &AtomicU64) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while let Some(request) = lines.next() {
        let request = request?;
        let path = request
            .split(' ')
            .nth(1)
            .unwrap_or("/")
            .trim_start_matches('/');
        let mut range = None;
        for header in lines.by_ref() {
            let header = header?.to_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("range: bytes=") {
                let (first, last) = value.split_once('-').unwrap();
                range = Some((first.parse().unwrap(), last.parse::<usize>().unwrap()));
            }
        }
        let Ok(file) = fs::read(root.join(path)) else {
            write!(
                stream,
                "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
            )?;
            continue;
        };
        let total = file.len();
        let body = match range {
            Some((first, last)) => {
                write!(
                    stream,
                    "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{total}\r\n"
                )?;
                &file[first..=last]
            }
            None => {
                write!(stream, "HTTP/1.1 200 OK\r\n")?;
                &file[..]
            }
        };
        write!(stream, "Content-Length: {}\r\n\r\n", body.len())?;
        stream.write_all(body)?;
        sent.fetch_add(body.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}

#[test]
fn an_image_is_listed_shown_and_verified() {
    let bench = Bench::new();
    bench.run("image list --store STORE").unwrap();
    bench.run("--json image list --all --store STORE").unwrap();
    bench.run("image show small --store STORE").unwrap();
    bench.run("--json image show small --store STORE").unwrap();
    bench
        .run("image verify small --store STORE --key PUB")
        .unwrap();
    assert_eq!(
        code(bench.run("image verify small --store STORE --key OTHERPUB")),
        ExitCode::Verification
    );
    assert_eq!(
        code(bench.run("image show none --store STORE")),
        ExitCode::Failed
    );
    assert_eq!(
        code(bench.run("image show ../x --store STORE")),
        ExitCode::Usage
    );
}

#[test]
fn a_fetched_image_is_the_imported_one() {
    let bench = Bench::new();
    let (url, _) = serve(&bench.path("store"));
    let fetch = format!("image fetch small --from {url} -o OUT --key PUB");
    bench.run(&fetch).unwrap();
    assert!(fs::read(bench.path("out")).unwrap() == bench.image());
    assert!(!bench.path("out.partial").exists());
    assert_eq!(code(bench.run(&fetch)), ExitCode::Refused);
    bench.run(&format!("{fetch} --force")).unwrap();
}

#[test]
fn an_interrupted_fetch_goes_on_with_what_holds() {
    let bench = Bench::new();
    let (url, sent) = serve(&bench.path("store"));
    // Two thirds of the image, with some damage, and rubbish where zeros belong.
    let mut partial = bench.image();
    partial[100_000] ^= 1;
    partial[3_500_000] = 7;
    partial.truncate(4_600_000);
    fs::write(bench.path("out.partial"), partial).unwrap();
    bench
        .run(&format!("image fetch small --from {url} -o OUT --key PUB"))
        .unwrap();
    assert!(fs::read(bench.path("out")).unwrap() == bench.image());
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < 1_900_000, "{sent} bytes sent");
}

#[test]
fn a_new_version_is_fetched_over_what_an_old_one_left() {
    let bench = Bench::new();
    fs::write(bench.path("out.partial"), bench.image()).unwrap();
    bench.write_initrd(99);
    bench.import().unwrap();
    let (url, sent) = serve(&bench.path("store"));
    bench
        .run(&format!("image fetch small --from {url} -o OUT --key PUB"))
        .unwrap();
    assert!(fs::read(bench.path("out")).unwrap() == bench.image());
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < 1_500_000, "{sent} bytes sent");
}

#[test]
fn what_is_wrong_with_a_fetch_shows_in_the_exit_code() {
    let bench = Bench::new();
    let (url, _) = serve(&bench.path("store"));
    let fetch = |more: &str| bench.run(&format!("image fetch small -o OUT {more}"));
    let wrong_key = fetch(&format!("--from {url} --key OTHERPUB"));
    assert_eq!(code(wrong_key), ExitCode::Verification);
    let too_old = fetch(&format!(
        "--from {url} --key PUB --min-version 99999999999999"
    ));
    assert_eq!(code(too_old), ExitCode::Verification);
    // Bound and given back: nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let nobody = fetch(&format!("--from http://{port} --key PUB"));
    assert_eq!(code(nobody), ExitCode::Unreachable);
    let no_key = fetch(&format!("--from {url} --key nonsense"));
    assert_eq!(code(no_key), ExitCode::Usage);

    let packs = fs::read_dir(bench.path("store/packs"))
        .unwrap()
        .next()
        .unwrap();
    let pack = fs::read_dir(packs.unwrap().path()).unwrap().next().unwrap();
    let pack = pack.unwrap().path();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[500_000] ^= 1;
    fs::write(&pack, bytes).unwrap();
    let corrupt = fetch(&format!("--from {url} --key PUB"));
    assert_eq!(code(corrupt), ExitCode::Verification);
    assert!(!bench.path("out").exists());
}
