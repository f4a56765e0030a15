//! The kernel's configuration: tinyconfig plus our fragments, and proof that everything
//! the fragments ask for is really in the result.
//!
//! Kconfig drops a requested option without a word when a dependency is missing, and
//! turns others on because something selects them. Both are errors here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

/// Marks a build directory whose configuration is complete and checked.
const DONE: &str = "configured";

/// Configures `build` unless that is done already. `build` belongs to exactly one set of
/// fragments, so a finished configuration never goes stale; leaving it alone keeps an
/// interrupted build's object files valid.
///
/// The fragments are written for the newest kernel: one that is `older` may lack options
/// altogether, which is said and passed over.
pub(super) fn prepare(tree: &Path, build: &Path, fragments: &[PathBuf], older: bool) -> Result<()> {
    if build.join(DONE).exists() {
        return Ok(());
    }
    fs::create_dir_all(build).with_context(|| format!("creating {}", build.display()))?;
    let make = |target: &str| {
        let mut output = String::from("O=");
        output.push_str(&build.to_string_lossy());
        process::capture(
            Command::new("make")
                .arg("-C")
                .arg(tree)
                .args([&output, target]),
        )
    };
    let mut requested = BTreeMap::new();
    for fragment in fragments {
        let text = fs::read_to_string(fragment)
            .with_context(|| format!("reading {}", fragment.display()))?;
        request(&mut requested, &text).with_context(|| format!("in {}", fragment.display()))?;
    }
    make("tinyconfig").context("writing the smallest configuration")?;
    process::capture(
        Command::new(tree.join("scripts/kconfig/merge_config.sh"))
            .current_dir(build)
            .arg("-m")
            .arg("-O")
            .arg(build)
            .arg(build.join(".config"))
            .args(fragments),
    )
    .context("merging the configuration fragments")?;
    make("olddefconfig").context("completing the configuration")?;
    let path = build.join(".config");
    let result =
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut wrong = differences(&requested, &settings(&result));
    if older {
        let mut kept = Vec::new();
        for line in wrong {
            let name = line.split(':').next().unwrap_or_default();
            if knows(tree, name)? {
                kept.push(line);
            } else {
                println!("{name} does not exist in this kernel");
            }
        }
        wrong = kept;
    }
    if !wrong.is_empty() {
        bail!(
            "the kernel's configuration did not take what the fragments ask for:\n  {}",
            wrong.join("\n  ")
        );
    }
    let done = build.join(DONE);
    fs::write(&done, "").with_context(|| format!("writing {}", done.display()))
}

/// Whether the kernel has such an option at all.
fn knows(tree: &Path, name: &str) -> Result<bool> {
    let option = name.strip_prefix("CONFIG_").unwrap_or(name);
    let status = Command::new("grep")
        .args([
            "--quiet",
            "--recursive",
            "--include=Kconfig*",
            "--extended-regexp",
        ])
        .arg(format!("^\\s*(menu)?config {option}$"))
        .arg(tree)
        .status()
        .context("starting grep")?;
    Ok(status.success())
}

/// Adds one fragment's requests. Asking for the same option twice is a contradiction or
/// noise, and either way hides which file decides.
fn request(requested: &mut BTreeMap<String, String>, fragment: &str) -> Result<()> {
    for line in fragment
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        if let Some((name, value)) = setting(line) {
            if requested
                .insert(name.to_owned(), value.to_owned())
                .is_some()
            {
                bail!("{name} is asked for a second time");
            }
        } else if !line.starts_with('#') {
            bail!("not a setting: {line}");
        }
    }
    Ok(())
}

/// All settings of a `.config`.
pub(crate) fn settings(config: &str) -> BTreeMap<String, String> {
    config
        .lines()
        .filter_map(setting)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// One line: `CONFIG_X=value`, or `# CONFIG_X is not set` which means `n`.
fn setting(line: &str) -> Option<(&str, &str)> {
    let unset = line
        .strip_prefix("# ")
        .and_then(|rest| rest.strip_suffix(" is not set"))
        .map(|name| (name, "n"));
    unset
        .or_else(|| line.split_once('='))
        .filter(|(name, _)| name.starts_with("CONFIG_"))
}

/// Each request the result does not honour, as a line. An option that is absent is `n`:
/// Kconfig leaves out what it cannot even offer.
fn differences(
    requested: &BTreeMap<String, String>,
    result: &BTreeMap<String, String>,
) -> Vec<String> {
    requested
        .iter()
        .filter_map(|(name, wanted)| {
            let found = result.get(name).map_or("n", String::as_str);
            (wanted != found).then(|| format!("{name}: asked for {wanted}, got {found}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requested(fragment: &str) -> BTreeMap<String, String> {
        let mut map = BTreeMap::new();
        request(&mut map, fragment).unwrap();
        map
    }

    #[test]
    fn a_honoured_request_is_no_difference() {
        let asked = requested(
            "# why\nCONFIG_A=y\nCONFIG_B=n\nCONFIG_C=\"text\"\nCONFIG_D=64\n# CONFIG_E is not set\n",
        );
        let got = settings(
            "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"text\"\nCONFIG_D=64\nCONFIG_OTHER=y\n",
        );
        assert_eq!(differences(&asked, &got), Vec::<String>::new());
    }

    #[test]
    fn a_lost_option_and_an_option_that_came_back_are_named() {
        let asked = requested("CONFIG_LOST=y\nCONFIG_UNWANTED=n\nCONFIG_NUMBER=64\n");
        let got = settings("CONFIG_UNWANTED=y\nCONFIG_NUMBER=8\n");
        assert_eq!(
            differences(&asked, &got),
            [
                "CONFIG_LOST: asked for y, got n",
                "CONFIG_NUMBER: asked for 64, got 8",
                "CONFIG_UNWANTED: asked for n, got y",
            ]
        );
    }

    #[test]
    fn asking_twice_is_refused() {
        let mut map = requested("CONFIG_A=y\n");
        let error = request(&mut map, "CONFIG_A=n\n").unwrap_err();
        assert!(error.to_string().contains("CONFIG_A"));
    }

    #[test]
    fn a_line_that_is_no_setting_is_refused() {
        request(&mut BTreeMap::new(), "COFNIG_A=y\n").unwrap_err();
    }
}
