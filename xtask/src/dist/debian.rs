//! The Debian package: control files around the tree, packed by `dpkg-deb`.
//!
//! `dpkg-deb` rather than `cargo-deb`: it is on every Debian system, where `cargo install cargo-deb` costs minutes of
//! compiling on a fresh machine; and it writes the same bytes for the same tree when it knows `SOURCE_DATE_EPOCH`.
//! Which libraries are needed, in which version, says `dpkg-shlibdeps` from the program's own symbols.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::About;
use super::tree::Tree;
use crate::{cache, process};

/// Scripts that dpkg runs.
const SCRIPTS: &[&str] = &["postinst", "prerm", "postrm"];
/// Files that an administrator edits, and dpkg then leaves alone.
const CONFIGURATION: &[&str] = &["/etc/sparetire/server.toml"];

/// Packs `tree` into `to`, with `work` as a place for control files.
pub(super) fn pack(tree: &Tree, work: &Path, to: &Path, about: &About) -> Result<()> {
    let libraries = libraries(&tree.root().join("usr/bin/sparetire"), work)?;
    let control = control(about, tree.kibibytes()?, &libraries);
    let sums = checksums(tree)?;
    let dir = tree.root().join("DEBIAN");
    fs::create_dir(&dir).with_context(|| format!("creating {}", dir.display()))?;
    let write = |name: &str, text: &str, mode: u32| {
        let path = dir.join(name);
        fs::write(&path, text)
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(mode)))
            .with_context(|| format!("writing {}", path.display()))
    };
    write("control", &control, 0o644)?;
    write("conffiles", &(CONFIGURATION.join("\n") + "\n"), 0o644)?;
    write("md5sums", &sums, 0o644)?;
    for name in SCRIPTS {
        let path = crate::tree::root().join("xtask/packaging").join(name);
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        write(name, &text, 0o755)?;
    }
    fs::set_permissions(&dir, Permissions::from_mode(0o755)).context("setting a folder's mode")?;
    process::capture(
        Command::new("dpkg-deb")
            // One thread: how the data is cut for several would show in the bytes.
            .args(["--root-owner-group", "-Zxz", "--threads-max=1", "--build"])
            .arg(tree.root())
            .arg(to)
            .env("SOURCE_DATE_EPOCH", about.epoch.to_string()),
    )
    .context("packing the Debian package")?;
    Ok(())
}

fn control(about: &About, size: u64, libraries: &str) -> String {
    format!(
        "Package: sparetire\n\
        Version: {version}\n\
        Architecture: amd64\n\
        Maintainer: {maintainer}\n\
        Installed-Size: {size}\n\
        Depends: adduser, {libraries}\n\
        Suggests: mmdebstrap, squashfs-tools\n\
        Section: admin\n\
        Priority: optional\n\
        Description: boots a broken PC from far away\n \
        A stage-one image of about 4 MB crosses the slow link of Intel AMT's storage\n \
        redirection or of virtual media. Its loader brings up the network, fetches\n \
        the real system over HTTP in verified chunks, into memory, and starts it.\n \
        .\n \
        The package has the program, the parts of stage one, and recipes for images.\n",
        version = about.version,
        maintainer = about.maintainer,
    )
}

/// What the program needs, as a control file says it: "libc6 (>= 2.34), libgcc-s1 (>= 4.2)".
fn libraries(program: &Path, work: &Path) -> Result<String> {
    let debian = work.join("debian");
    fs::create_dir_all(&debian).with_context(|| format!("creating {}", debian.display()))?;
    // dpkg-shlibdeps wants a source package around it.
    let control = "Source: sparetire\n\nPackage: sparetire\nArchitecture: amd64\n";
    fs::write(debian.join("control"), control).context("writing a control file")?;
    let text = process::capture(
        Command::new("dpkg-shlibdeps")
            .current_dir(work)
            .args(["-O", "--warnings=0"])
            .arg(program),
    )
    .context("finding the libraries the program needs")?;
    text.trim()
        .strip_prefix("shlibs:Depends=")
        .map(str::to_owned)
        .with_context(|| format!("dpkg-shlibdeps said {text:?}"))
}

/// What `dpkg --verify` compares with.
fn checksums(tree: &Tree) -> Result<String> {
    let mut names = Vec::new();
    for file in cache::files_below(tree.root())? {
        let name = file
            .strip_prefix(tree.root())
            .context("a file outside the tree")?;
        let is_configuration = CONFIGURATION.iter().any(|path| {
            Path::new(path)
                .strip_prefix("/")
                .is_ok_and(|path| path == name)
        });
        if !is_configuration {
            names.push(name.to_owned());
        }
    }
    process::capture(
        Command::new("md5sum")
            .current_dir(tree.root())
            .arg("--")
            .args(names),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_file_has_what_dpkg_asks_for_and_keeps_its_line_form() {
        let about = About {
            version: "1.2".to_owned(),
            epoch: 0,
            maintainer: "a <b@c>".to_owned(),
        };
        let text = control(&about, 7, "libc6 (>= 2.34)");
        for line in [
            "Package: sparetire",
            "Version: 1.2",
            "Installed-Size: 7",
            "Depends: adduser, libc6 (>= 2.34)",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        // Every line is a field or continues one, or the file ends there.
        assert!(text.ends_with('\n'));
        assert!(
            text.lines()
                .all(|line| line.starts_with(' ') || line.contains(": ")),
            "{text}"
        );
    }

    #[test]
    fn a_programs_libraries_are_stated_with_their_versions() {
        let work = tempfile::tempdir().unwrap();
        let text = libraries(&std::env::current_exe().unwrap(), work.path()).unwrap();
        assert!(text.contains("libc6 (>= 2."), "{text}");
    }
}
