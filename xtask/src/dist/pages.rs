//! The pages of a package that are made rather than copied: REBUILD.md and the Debian changelog.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::About;
use super::parts::{self, Part};
use crate::process;

/// How to get and build the sources of what is not ours, and of what is.
pub(super) fn rebuild(parts: &[Part], about: &About) -> Result<String> {
    let kernel = &part(parts, crate::parts::KERNEL)?.source;
    let (package, version) = kernel
        .split_once(' ')
        .context("the kernel's source has no version")?;
    let upstream = package.trim_start_matches("linux-source-");
    let first_line = |program: &str, argument: &str| {
        process::capture(Command::new(program).arg(argument))
            .map(|text| text.lines().next().unwrap_or_default().to_owned())
    };
    let release = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    let release = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .unwrap_or_default()
        .trim_matches('"');
    let mut table = String::new();
    for Part {
        name,
        sha256,
        license,
        source,
        ..
    } in parts
    {
        table.push_str(&format!(
            "| `{name}` | {source} | {license} | `{sha256}` |\n"
        ));
    }
    Ok(format!(
        "# Rebuilding sparetire {ours} and its parts

Everything in this package can be built again from sources that anyone can get. The parts of stage one, in
`lib/sparetire`:

| file | source | licence | SHA-256 |
|---|---|---|---|
{table}
The texts of the licences are in `licenses/`. Source packages are Debian's; every version that ever was stays at
<https://snapshot.debian.org/package/NAME/VERSION/>. Whoever passes this package on owes receivers the sources of the
parts under GPL and LGPL: pass on the source packages of this table as well, or offer them.

These parts were made on {release} with

    {gcc}
    {ld}
    {rustc}

## The kernel, `bzImage`

`{package}` {version}, unchanged; no patches. `bzImage.config` is its whole configuration; the
fragments that make it, with reasons, are in `share/sparetire/images/stage1/kernel`.

    apt-get install {package}={version} build-essential bc bison flex \\
        libelf-dev libssl-dev xz-utils kmod cpio perl rsync
    mkdir linux build && tar -xf /usr/src/{package}.tar.xz -C linux --strip-components=1
    cp /usr/lib/sparetire/bzImage.config build/.config
    export KBUILD_BUILD_TIMESTAMP=\"$(date --utc --date @$(stat -c %Y linux/Makefile) '+%F %T UTC')\"
    export KBUILD_BUILD_USER=sparetire KBUILD_BUILD_HOST=sparetire KBUILD_BUILD_VERSION=1 LC_ALL=C
    make -C linux O=$PWD/build olddefconfig bzImage

In a checkout of sparetire, `cargo xtask kernel --fresh` does all of it, with the newest {upstream} that Debian has.

## ISOLINUX and the UEFI stub

`isolinux.bin`, `isohdpfx.bin` and `ldlinux.c32` are copies from Debian's packages isolinux and syslinux-common,
`linuxx64.efi.stub` from systemd-boot-efi. In a Debian system of the same release:

    apt-get source {syslinux}
    apt-get source {systemd}
    cd NAME-VERSION && apt-get build-dep . && dpkg-buildpackage -b

## The loader and the program

Sources: the sparetire repository, version {ours}; crates as Cargo.lock names them. The loader is linked with glibc
statically; with other versions of it:

    cargo xtask loader --fresh           # lib/sparetire/stage1-loader
    cargo xtask dist                     # everything, these packages included

Use other parts without installing them: `SPARETIRE_PARTS=DIR sparetire stage1 build`, or `--kernel FILE --loader FILE`.
",
        ours = about.version,
        gcc = first_line("gcc", "--version")?,
        ld = first_line("ld", "--version")?,
        rustc = first_line("rustc", "--version")?,
        syslinux = parts::source_of("isolinux")?.replacen(' ', "=", 1),
        systemd = parts::source_of("systemd-boot-efi")?.replacen(' ', "=", 1),
    ))
}

fn part<'a>(parts: &'a [Part], name: &str) -> Result<&'a Part> {
    parts
        .iter()
        .find(|part| part.name == name)
        .with_context(|| format!("there is no part {name}"))
}

/// Debian wants a changelog of its own form; ours is beside it.
pub(super) fn debian_changelog(about: &About) -> Result<String> {
    Ok(format!(
        "sparetire ({}) unstable; urgency=medium\n\n  * What changed stands in CHANGELOG.md beside this file.\n\n -- {}  {}\n",
        about.version,
        about.maintainer,
        about.date()?
    ))
}
