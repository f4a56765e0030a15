//! apt: which packages are there, installing what is not, and downloading single
//! packages from other suites without touching the machine's own apt configuration.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::packages::{self, Group};
use crate::process;

/// Names of installed packages, from `names`.
fn installed(names: &[&str]) -> Result<HashSet<String>> {
    // dpkg-query fails when it does not know one of the names, and still lists the others.
    let output = Command::new("dpkg-query")
        .args([
            "--show",
            "--showformat",
            "${Package} ${db:Status-Status}\\n",
        ])
        .args(names)
        .output()
        .context("starting dpkg-query (set-up supports Debian and its relatives)")?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.strip_suffix(" installed"))
        .map(str::to_owned)
        .collect())
}

/// Names apt could install, from `names`.
fn installable(names: &[&str]) -> Result<HashSet<String>> {
    let output = Command::new("apt-cache")
        .arg("policy")
        .args(names)
        .output()
        .context("starting apt-cache")?;
    Ok(parse_policy(&String::from_utf8_lossy(&output.stdout))
        .into_iter()
        .map(|(name, _)| name)
        .collect())
}

/// `apt-cache policy`: each package with its candidate version, those without one left out.
fn parse_policy(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut package = None;
    for line in text.lines() {
        if let Some(name) = line.strip_suffix(':').filter(|_| !line.starts_with(' ')) {
            package = Some(name);
        } else if let (Some(version), Some(name)) =
            (line.trim().strip_prefix("Candidate: "), package)
            && version != "(none)"
        {
            found.push((name.to_owned(), version.to_owned()));
        }
    }
    found
}

/// Names of packages of `groups` that have to be installed; empty when the machine has everything.
pub(crate) fn missing(groups: &'static [Group]) -> Result<Vec<&'static str>> {
    let all: Vec<&str> = groups
        .iter()
        .flat_map(|group| group.packages)
        .flat_map(|package| package.names)
        .copied()
        .collect();
    let here = installed(&all)?;
    let is_here = |name: &str| here.contains(name);
    // Asking apt what it knows is slow; it is only needed to choose between alternatives.
    if packages::missing(groups, is_here, |_| true).is_ok_and(|names| names.is_empty()) {
        return Ok(Vec::new());
    }
    let known = installable(&all)?;
    Ok(
        match packages::missing(groups, is_here, |name| known.contains(name)) {
            Ok(names) => names,
            // Either the package lists were never fetched or the release lacks something:
            // the installation below updates the lists and then names what is unknown.
            Err(_) => packages::missing(groups, is_here, |_| true).unwrap_or_default(),
        },
    )
}

/// Installs what is missing, as root or through sudo that asks no password.
pub(crate) fn install_missing(groups: &'static [Group]) -> Result<()> {
    let names = missing(groups)?;
    if names.is_empty() {
        return Ok(());
    }
    let Some(prefix) = privilege() else {
        bail!(
            "host packages are missing; install them with: sudo apt-get install --no-install-recommends {}",
            names.join(" ")
        );
    };
    let apt_get = |arguments: &[&str]| {
        let mut command = Command::new(prefix.first().copied().unwrap_or("apt-get"));
        if !prefix.is_empty() {
            command
                .args(&prefix[1..])
                .args(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        }
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(arguments);
        command
    };
    println!("installing host packages: {}", names.join(" "));
    for group in groups {
        for package in group.packages {
            if let Some(name) = package.names.iter().find(|name| names.contains(name)) {
                println!("  {name} ({}): {}", group.purpose, package.why);
            }
        }
    }
    let simulated = install_arguments(&["--simulate"], &names);
    let needs_update = !apt_get(&simulated)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("starting apt-get")?
        .success();
    if needs_update {
        process::run(&mut apt_get(&["--quiet", "update"])).context("updating the package lists")?;
    }
    // With fresh lists another alternative may be the right one.
    let names = missing(groups)?;
    let real = install_arguments(&["-qq", "--yes", "--option", "Dpkg::Use-Pty=0"], &names);
    process::run(&mut apt_get(&real)).context("installing host packages")?;
    let left = missing(groups)?;
    if !left.is_empty() {
        bail!(
            "apt reported success, but these packages are still missing: {}",
            left.join(" ")
        );
    }
    Ok(())
}

fn install_arguments<'a>(options: &[&'a str], names: &[&'a str]) -> Vec<&'a str> {
    [options, &["--no-install-recommends", "install"], names].concat()
}

/// The command prefix that makes us root: nothing for root itself, `sudo -n` where that works.
fn privilege() -> Option<Vec<&'static str>> {
    let root = process::capture(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if root {
        return Some(Vec::new());
    }
    let sudo = Command::new("sudo")
        .args(["-n", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    sudo.then(|| vec!["sudo", "-n"])
}

/// An apt of our own: own sources, own lists, own downloads; knows of no installed package.
pub(crate) struct PrivateApt {
    dir: PathBuf,
}

impl PrivateApt {
    /// Sets one up below `dir` with the given one-line sources.
    pub(crate) fn new(dir: &Path, sources: &[String]) -> Result<Self> {
        for sub in ["lists/partial", "cache/archives/partial"] {
            let path = dir.join(sub);
            fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        }
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
        };
        write("sources.list", &(sources.join("\n") + "\n"))?;
        write("status", "")?;
        Ok(PrivateApt {
            dir: dir.to_owned(),
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (key, value) in [
            ("Dir::Etc::sourcelist", "sources.list"),
            ("Dir::State::lists", "lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
        ] {
            command
                .arg("-o")
                .arg(format!("{key}={}", self.dir.join(value).display()));
        }
        // Run as root, apt gives downloads to a user who may not enter the cache directory.
        command.args([
            "-o",
            "Dir::Etc::sourceparts=/dev/null",
            "-o",
            "APT::Sandbox::User=root",
        ]);
        command
    }

    /// Fetches the package lists.
    pub(crate) fn update(&self) -> Result<()> {
        process::capture(
            self.command("apt-get")
                .args(["--quiet", "--error-on=any", "update"]),
        )
        .map(drop)
    }

    /// The candidate version of a package.
    pub(crate) fn candidate(&self, package: &str) -> Result<Option<String>> {
        let text = process::capture(self.command("apt-cache").args(["policy", package]))?;
        Ok(parse_policy(&text)
            .into_iter()
            .next()
            .map(|(_, version)| version))
    }

    /// Downloads a package to `dir`, showing apt's progress. apt checks its digest, and
    /// through the signed lists where it comes from.
    pub(crate) fn download(&self, package: &str, version: &str, dir: &Path) -> Result<()> {
        process::run(
            self.command("apt-get")
                .current_dir(dir)
                .args(["download", &format!("{package}={version}")]),
        )
    }
}

/// A Debian release and where its packages come from.
pub(crate) struct Release {
    /// Its name, for example `bookworm`.
    pub(crate) codename: String,
    /// One-line sources.
    pub(crate) lines: Vec<String>,
}

/// One-line sources for every suite of this machine's release, from the mirror it already uses.
pub(crate) fn sources_of_release() -> Result<Release> {
    let mut release = sources()?;
    release.lines.retain(|line| !line.contains("-backports "));
    Ok(release)
}

/// The same, plus the release's backports.
pub(crate) fn sources_with_backports() -> Result<Vec<String>> {
    Ok(sources()?.lines)
}

fn sources() -> Result<Release> {
    let release = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"'))
        .context("/etc/os-release names no release (VERSION_CODENAME)")?;
    // apt resolves its own two formats of sources; the indexes it knows are the plainest view.
    let text = process::capture(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(COMPONENT) $(RELEASE) $(CODENAME)",
        "Created-By: Packages",
    ]))?;
    let sources = sources_from_targets(&text, codename);
    if sources.is_empty() {
        bail!("apt is configured with no mirror that has {codename} main");
    }
    Ok(Release {
        codename: codename.to_owned(),
        lines: sources,
    })
}

/// From lines of "uri component suite codename": those of `codename`'s own suites in
/// `main`. The suite may be an alias such as `stable`; the codename is absent until apt
/// has fetched the lists once.
fn sources_from_targets(text: &str, codename: &str) -> Vec<String> {
    let mut sources = Vec::new();
    let mut push = |source: String| {
        if !sources.contains(&source) {
            sources.push(source);
        }
    };
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let (Some(uri), Some("main"), Some(suite)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let Some(rest) = fields.next().unwrap_or(suite).strip_prefix(codename) else {
            continue;
        };
        if !(rest.is_empty() || rest.starts_with('-')) {
            continue;
        }
        push(format!("deb {uri} {suite} main"));
        if rest.is_empty() {
            push(format!("deb {uri} {codename}-backports main"));
        }
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_lists_packages_that_have_a_candidate() {
        let text = "a:\n  Installed: (none)\n  Candidate: 1.2-3\n  Version table:\n     1.2-3 500\n        500 http://x y/main\n\
                    b:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n";
        assert_eq!(parse_policy(text), [("a".to_owned(), "1.2-3".to_owned())]);
    }

    #[test]
    fn sources_are_the_releases_own_suites_and_backports_from_the_same_mirror() {
        let text = "http://m/debian main bookworm bookworm\nhttp://m/debian contrib bookworm bookworm\n\
                    http://m/debian main bookworm-updates\nhttp://s/x main bookworm-security bookworm-security\n\
                    https://deb.nodesource.com/node_20.x main nodistro nodistro\n";
        assert_eq!(
            sources_from_targets(text, "bookworm"),
            [
                "deb http://m/debian bookworm main",
                "deb http://m/debian bookworm-backports main",
                "deb http://m/debian bookworm-updates main",
                "deb http://s/x bookworm-security main",
            ]
        );
    }

    #[test]
    fn a_suite_written_as_an_alias_is_known_by_its_codename() {
        assert_eq!(
            sources_from_targets("http://m/debian main stable trixie\n", "trixie"),
            [
                "deb http://m/debian stable main",
                "deb http://m/debian trixie-backports main"
            ]
        );
    }
}
