//! README's path on a clean Debian system: nothing but the package, no cargo, no checkout.
//!
//! The system is a minimal one that mmdebstrap makes, of the release this machine runs, since the program is linked
//! with its libraries. Commands run in it through chroot; they share this machine's loopback and nothing else.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cache::{Inputs, Shelf};
use crate::{apt, process};

/// Raised when the way the clean system is made changes.
const RECIPE: u32 = 1;
/// The clean system is made again after this time, so that it does not stay behind Debian's updates.
const KEEP_FOR: Duration = Duration::from_secs(28 * 24 * 3600);
/// A kernel and an initramfs that are not ours, from Debian's installer.
const NETBOOT: &[&str] = &[
    "/usr/lib/debian-installer/images/13/amd64/text/debian-installer/amd64",
    "/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64",
];
const STORE: &str = "/var/lib/sparetire/store";
const STATE: &str = "/var/lib/sparetire/state";
const PUBLIC_KEY: &str = "/root/.config/sparetire/keys/default.pub";
/// Worst exposure `systemd-analyze security` may find, in tenths of its scale of ten.
const EXPOSURE: &str = "20";

/// Installs, uses and removes `debian`, then uses `tarball`.
pub(super) fn run(debian: &Path, tarball: &Path) -> Result<()> {
    let user = process::capture(Command::new("id").arg("-u"))?;
    ensure!(
        user.trim() == "0",
        "--check works in a system of its own, which needs root; run it with sudo"
    );
    let system = System::unpack()?;
    say("installing the package");
    system.copy(debian, "/tmp/sparetire.deb")?;
    system.run(&[
        "apt-get",
        "install",
        "--yes",
        "-qq",
        "--no-install-recommends",
        "/tmp/sparetire.deb",
    ])?;
    ensure!(
        system.run(&["which", "cargo"]).is_err(),
        "a clean system has no cargo"
    );
    installed(&system)?;
    let stage1 = user_path(&system)?;
    service(&system)?;
    removed(&system)?;
    say("using the tarball");
    system.copy(tarball, "/tmp/sparetire.tar.gz")?;
    system.run(&["tar", "-xzf", "/tmp/sparetire.tar.gz", "-C", "/opt"])?;
    let program = system.glob_one("opt", "sparetire-")?.join("bin/sparetire");
    let program = Path::new("/").join(
        program
            .strip_prefix(&system.root)
            .context("outside the system")?,
    );
    system.run(&[
        &program.to_string_lossy(),
        "stage1",
        "build",
        "-o",
        "/srv/from-tarball.iso",
    ])?;
    ensure!(
        fs::read(system.path("/srv/from-tarball.iso"))? == stage1,
        "stage one made by the tarball differs from the package's"
    );
    say("README's path works on a clean system");
    Ok(())
}

/// What the package put where.
fn installed(system: &System) -> Result<()> {
    // Says nothing when every file is as packed.
    let changed = system.run(&["dpkg", "--verify", "sparetire"])?;
    ensure!(
        changed.trim().is_empty(),
        "installed files differ from the packed ones:\n{changed}"
    );
    system.run(&["sparetire", "--version"])?;
    for file in [
        "/usr/share/man/man1/sparetire.1.gz",
        "/usr/share/man/man1/sparetire-image-import.1.gz",
        "/usr/share/zsh/vendor-completions/_sparetire",
        "/usr/share/fish/vendor_completions.d/sparetire.fish",
        "/usr/share/sparetire/images/diagnostic/recipe.toml",
        "/usr/share/sparetire/images/stage1/kernel/00-core.config",
        "/usr/share/doc/sparetire/THIRD-PARTY.md",
        "/usr/share/doc/sparetire/REBUILD.md",
        "/usr/share/doc/sparetire/copyright",
        "/usr/share/doc/sparetire/licenses/GPL-2",
        "/etc/sparetire/server.toml",
    ] {
        let length = fs::metadata(system.path(file)).map(|meta| meta.len());
        ensure!(
            length.is_ok_and(|length| length > 100),
            "{file} is missing or empty"
        );
    }
    system.run(&[
        "bash",
        "-n",
        "/usr/share/bash-completion/completions/sparetire",
    ])?;
    let owner = system.run(&["stat", "--format=%U %a", STATE])?;
    ensure!(owner.trim() == "sparetire 700", "{STATE} is {owner}");
    Ok(())
}

/// README, "Use it". Returns stage one.
fn user_path(system: &System) -> Result<Vec<u8>> {
    say("key, image, stage one");
    system.json(&["key", "generate", "--no-password"])?;
    let netboot = NETBOOT
        .iter()
        .map(Path::new)
        .find(|dir| dir.join("linux").is_file())
        .context("no Debian installer on this machine; `cargo xtask setup` installs it")?;
    system.copy(&netboot.join("linux"), "/srv/linux")?;
    system.copy(&netboot.join("initrd.gz"), "/srv/initrd.gz")?;
    let imported = system.json(&[
        "image",
        "import",
        "--name",
        "installer",
        "--kind",
        "linux-netboot",
        "--kernel",
        "/srv/linux",
        "--initrd",
        "/srv/initrd.gz",
        "--store",
        STORE,
    ])?;
    let digest = imported
        .get("sha256")
        .and_then(Value::as_str)
        .context("import named no digest")?;
    let listed = system.json(&["image", "list", "--store", STORE])?;
    ensure!(
        listed.to_string().contains("\"installer\""),
        "the image is not listed: {listed}"
    );
    system.json(&["image", "verify", "installer", "--store", STORE])?;

    system.run(&["sparetire", "stage1", "build", "-o", "/srv/stage1.iso"])?;
    let stage1 = fs::read(system.path("/srv/stage1.iso")).context("reading stage one")?;

    say("serving and fetching");
    let server = Server::start(system)?;
    system.json(&[
        "stage1",
        "customize",
        "/srv/stage1.iso",
        "-o",
        "/srv/pc.iso",
        "--server",
        &server.url,
        "--image",
        "installer",
        "--trust-key",
        PUBLIC_KEY,
    ])?;
    let shown = system.json(&["stage1", "show", "/srv/pc.iso"])?;
    ensure!(
        shown.to_string().contains(&server.url),
        "the server is not in the config slot: {shown}"
    );
    let from = format!("{}/store", server.url);
    system.json(&[
        "image",
        "fetch",
        "installer",
        "--from",
        &from,
        "-o",
        "/srv/fetched",
        "--key",
        PUBLIC_KEY,
    ])?;
    let fetched = system.run(&["sha256sum", "/srv/fetched"])?;
    ensure!(
        fetched.starts_with(digest),
        "the fetched image has another digest: {fetched}"
    );
    let health = process::capture(
        Command::new("curl")
            .args(["--silent", "--fail"])
            .arg(format!("{}/healthz", server.url)),
    )?;
    ensure!(!health.is_empty(), "the server does not feel well");
    server.stop()?;

    say("doctor");
    let output = system
        .command(&["sparetire", "doctor", "--json"])
        .env("SPARETIRE_STORE", STORE)
        .output()
        .context("starting the doctor")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last: Value = serde_json::from_str(text.lines().last().unwrap_or_default())
        .with_context(|| format!("the doctor said {text:?}"))?;
    ensure!(output.status.success(), "the doctor finds faults: {last:#}");
    Ok(stage1)
}

/// The unit, as far as it can be judged without booting the system.
fn service(system: &System) -> Result<()> {
    say("the service");
    system
        .run(&["systemd-analyze", "verify", "--man=no", "sparetire.service"])
        .context("checking the service")?;
    let root = format!("--root={}", system.root.display());
    process::capture(
        Command::new("systemd-analyze")
            .args(["security", "--offline=yes", &root, "--no-pager"])
            .arg(format!("--threshold={EXPOSURE}"))
            .arg("sparetire.service"),
    )
    .context("judging what the service may do")?;
    Ok(())
}

/// Purged, the package leaves the images people imported and nothing else.
fn removed(system: &System) -> Result<()> {
    say("removing the package");
    system.run(&["dpkg", "--purge", "sparetire"])?;
    for path in [
        "/usr/bin/sparetire",
        "/usr/lib/sparetire",
        "/usr/share/sparetire",
        "/etc/sparetire",
        STATE,
    ] {
        ensure!(
            !system.path(path).exists(),
            "{path} is still there after a purge"
        );
    }
    ensure!(
        system.path(STORE).join("images/installer").is_dir(),
        "the purge took the images along"
    );
    Ok(())
}

fn say(step: &str) {
    println!("check: {step}");
}

/// A system in a temporary directory.
struct System {
    root: PathBuf,
    _dir: tempfile::TempDir,
}

impl System {
    fn unpack() -> Result<Self> {
        let archive = clean_system()?;
        let dir = tempfile::tempdir().context("creating a temporary directory")?;
        let root = dir.path().join("system");
        fs::create_dir(&root).context("creating a directory")?;
        process::run(
            Command::new("tar")
                .arg("-xpf")
                .arg(&archive)
                .arg("-C")
                .arg(&root),
        )
        .context("unpacking the clean system")?;
        Ok(System { root, _dir: dir })
    }

    /// A path of the system, as this machine sees it.
    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn copy(&self, from: &Path, to: &str) -> Result<()> {
        fs::copy(from, self.path(to))
            .map(drop)
            .with_context(|| format!("copying {} into the clean system", from.display()))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.command_as("root:root", arguments)
    }

    fn command_as(&self, user: &str, arguments: &[&str]) -> Command {
        // /proc for this one command, in a mount namespace that ends with it: nothing is left to unmount. Each program
        // replaces the one before, so that the process started here is the one that is asked for.
        const ENTER: &str = r#"mount -t proc proc "$0/proc" && exec chroot "$@""#;
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", ENTER])
            .arg(&self.root)
            .arg(format!("--userspec={user}"))
            .arg(&self.root)
            .args(arguments)
            .stdin(Stdio::null())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("LC_ALL", "C.UTF-8")
            .env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        process::capture(&mut self.command(arguments))
    }

    /// Runs sparetire with `--json` and returns its last line, which is the result.
    fn json(&self, arguments: &[&str]) -> Result<Value> {
        let mut all = vec!["sparetire", "--json"];
        all.extend(arguments);
        let text = self.run(&all)?;
        serde_json::from_str(text.lines().last().unwrap_or_default())
            .with_context(|| format!("sparetire {} printed {text:?}", arguments.join(" ")))
    }

    /// The one entry of a folder whose name begins with `begin`.
    fn glob_one(&self, folder: &str, begin: &str) -> Result<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.root.join(folder)).context("listing a folder")? {
            let entry = entry.context("listing a folder")?;
            if entry.file_name().to_string_lossy().starts_with(begin) {
                found.push(entry.path());
            }
        }
        match found.as_slice() {
            [one] => Ok(one.clone()),
            other => bail!("{} entries of /{folder} begin with {begin}", other.len()),
        }
    }
}

/// `sparetire serve`, as the service's user and with the service's folders.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(system: &System) -> Result<Self> {
        let mut child = system
            .command_as(
                "sparetire:sparetire",
                &["sparetire", "--json", "serve", "--listen", "127.0.0.1:0"],
            )
            .env("SPARETIRE_STORE", STORE)
            .env("SPARETIRE_STATE", STATE)
            .env("SPARETIRE_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the server")?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output)
                .read_line(&mut line)
                .context("reading what the server says")?;
        }
        let mut server = Server {
            child,
            url: String::new(),
        };
        let said: Value =
            serde_json::from_str(&line).with_context(|| format!("the server said {line:?}"))?;
        server.url = said
            .get("url")
            .and_then(Value::as_str)
            .with_context(|| format!("the server said {line:?}"))?
            .to_owned();
        Ok(server)
    }

    /// Ends it as systemd does, and expects it to end well.
    fn stop(mut self) -> Result<()> {
        process::run(Command::new("kill").arg(self.child.id().to_string()))?;
        let status = self.child.wait().context("waiting for the server")?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone after `stop`; otherwise a check failed, and the port must not stay taken.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The archive of a minimal system of this machine's release.
fn clean_system() -> Result<PathBuf> {
    const ARCHIVE: &str = "system.tar";
    let sources = apt::sources_of_release()?;
    let mut inputs = Inputs::new("clean-system", RECIPE);
    for source in &sources.lines {
        inputs = inputs.add("source", source.as_bytes());
    }
    let shelf = Shelf::open("clean-system")?;
    let hash = inputs.hash();
    if let Some(archive) = shelf.find(&hash).map(|dir| dir.join(ARCHIVE))
        && young(&archive)?
    {
        return Ok(archive);
    }
    say("making a minimal Debian system (about a minute)");
    let work = shelf.work(&hash, true)?;
    let archive = work.join(ARCHIVE);
    let log = work.join("mmdebstrap.log");
    process::run_logged(
        Command::new("mmdebstrap")
            // systemd, as nearly every Debian has it, so that the unit can be checked where it will run.
            .args(["--variant=minbase", "--include=systemd", "--format=tar"])
            .arg(&sources.codename)
            .arg(&archive)
            .args(&sources.lines),
        &log,
        |_| {},
    )
    .context("making a minimal Debian system")?;
    let result = shelf.publish(&hash, &[(ARCHIVE, &archive)])?;
    crate::cache::remove(&work)?;
    Ok(result.join(ARCHIVE))
}

fn young(archive: &Path) -> Result<bool> {
    let modified = File::open(archive)
        .and_then(|file| file.metadata())
        .and_then(|meta| meta.modified())
        .with_context(|| format!("reading the age of {}", archive.display()))?;
    Ok(SystemTime::now()
        .duration_since(modified)
        .unwrap_or_default()
        < KEEP_FOR)
}
