//! Recipes: a folder that says which system an image is made of (`docs/recipes.md`).
//!
//! `recipe.toml` names packages, files and hooks; hooks are programs that run as root on the new
//! system. A recipe is therefore trusted like a Makefile: the checks here catch slips, not attacks.

pub mod debian;
pub mod iso;
pub mod mirror;

use std::io::Read;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use sparetire_manifest::ImageName;

/// Longest `recipe.toml` that is read.
const MAX_RECIPE: u64 = 1 << 20;

/// A recipe, read and checked.
#[derive(Debug)]
pub struct Recipe {
    /// The folder it is in.
    pub dir: PathBuf,
    /// The bytes of `recipe.toml`.
    pub text: String,
    /// What it says.
    pub spec: Spec,
}

/// The contents of `recipe.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Version of this schema: 1.
    pub format: u32,
    /// Name of the image.
    pub name: ImageName,
    /// Version of the recipe, shown by the system it makes.
    pub version: String,
    /// Short text for people.
    pub label: Option<String>,
    /// Longer text for people.
    pub description: Option<String>,
    /// What the building machine needs.
    #[serde(default)]
    pub host: Host,
    /// The installed system.
    pub system: System,
    /// The file system image.
    #[serde(default)]
    pub squashfs: Squashfs,
    /// The boot menu.
    pub boot: Boot,
}

/// What the building machine needs.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Debian packages.
    #[serde(default)]
    pub packages: Vec<String>,
}

/// The installed system.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// Debian release, for example `bookworm`.
    pub suite: String,
    /// Debian architecture; only `amd64` boots so far.
    pub architecture: String,
    /// Archive components.
    pub components: Vec<String>,
    /// Packages, besides the essential ones and apt.
    pub packages: Vec<String>,
    /// Paths that dpkg does not unpack (`path-exclude`).
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Paths that it does nevertheless (`path-include`).
    #[serde(default)]
    pub include: Vec<String>,
    /// Folder whose contents are copied over the installed system.
    pub files: Option<PathBuf>,
    /// Programs run in order once all is installed, the new root directory as `$1`.
    #[serde(default)]
    pub hooks: Vec<PathBuf>,
    /// Where the hooks leave the kernel, relative to the new root directory.
    pub kernel: PathBuf,
    /// Where the hooks leave the initramfs.
    pub initrd: PathBuf,
    /// How long installing takes on a machine with two processors, in minutes.
    #[serde(default = "five")]
    pub expected_minutes: u32,
}

fn five() -> u32 {
    5
}

/// The file system image.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Squashfs {
    /// zstd level, 1 to 22.
    pub compression_level: u32,
    /// Block size in bytes: a power of two from 4 KiB to 1 MiB.
    pub block_size: u32,
}

impl Default for Squashfs {
    fn default() -> Self {
        Self {
            compression_level: 15,
            block_size: 256 * 1024,
        }
    }
}

/// The boot menu.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// Title of the entry.
    pub title: String,
    /// Kernel command line.
    pub cmdline: String,
    /// How long the menu waits.
    #[serde(default)]
    pub timeout_seconds: u32,
}

impl Recipe {
    /// Reads `recipe.toml` in `dir`.
    ///
    /// # Errors
    ///
    /// When it cannot be read, has fields this program does not know, or names what is not there.
    pub fn read(dir: &Path) -> Result<Self, RecipeError> {
        let path = dir.join("recipe.toml");
        let io = |source| RecipeError::Read {
            path: path.clone(),
            source,
        };
        let mut text = String::new();
        std::fs::File::open(&path)
            .and_then(|file| file.take(MAX_RECIPE).read_to_string(&mut text))
            .map_err(io)?;
        let spec = parse(&text).map_err(|problem| RecipeError::Spec {
            path: path.clone(),
            problem,
        })?;
        let dir = dir.canonicalize().map_err(io)?;
        let named = spec.system.hooks.iter().chain(&spec.system.files);
        for name in named {
            if !dir.join(name).exists() {
                return Err(RecipeError::Missing {
                    path: dir.join(name),
                });
            }
        }
        Ok(Self { dir, text, spec })
    }
}

/// Reads the text of a `recipe.toml`.
///
/// # Errors
///
/// When it is not TOML, has fields this program does not know, or words that could not be handed on safely.
pub fn parse(text: &str) -> Result<Spec, SpecError> {
    let spec: Spec = toml::from_str(text)?;
    let refuse =
        |field: &'static str, problem: &'static str| Err(SpecError::Field { field, problem });
    if spec.format != 1 {
        return refuse("format", "only 1 is known");
    }
    if spec.system.architecture != "amd64" {
        return refuse("system.architecture", "only amd64 boots so far");
    }
    let system = &spec.system;
    let words = [&system.suite, &spec.version];
    let lists = [&system.packages, &system.components];
    if !words
        .into_iter()
        .chain(lists.into_iter().flatten())
        .all(|word| is_word(word))
    {
        return refuse(
            "system",
            "suites, components, packages and versions are words",
        );
    }
    let patterns = system.exclude.iter().chain(&system.include);
    if !patterns.into_iter().all(|pattern| is_pattern(pattern)) {
        return refuse(
            "system.exclude",
            "patterns are absolute paths without blanks",
        );
    }
    let paths = system
        .hooks
        .iter()
        .chain(&system.files)
        .chain([&system.kernel, &system.initrd]);
    if !paths.into_iter().all(|path| is_inside(path)) {
        return refuse("system", "paths are relative, and do not lead outside");
    }
    let level = spec.squashfs.compression_level;
    let block = spec.squashfs.block_size;
    if !(1..=22).contains(&level) {
        return refuse("squashfs.compression_level", "is 1 to 22");
    }
    if !block.is_power_of_two() || !(4096..=1 << 20).contains(&block) {
        return refuse(
            "squashfs.block_size",
            "is a power of two from 4096 to 1048576",
        );
    }
    // Both are written into boot loader configurations, each with its own quoting.
    let plain = |text: &str| {
        text.bytes()
            .all(|byte| (0x20..0x7f).contains(&byte) && !b"\"'\\${}".contains(&byte))
    };
    if !plain(&spec.boot.cmdline) || !plain(&spec.boot.title) {
        return refuse(
            "boot",
            "title and cmdline are printable ASCII without quotes, $, { and }",
        );
    }
    Ok(spec)
}

/// A word for a command line of mmdebstrap, which takes lists apart at commas and blanks.
fn is_word(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".+-_:=~".contains(&byte))
}

fn is_pattern(text: &str) -> bool {
    text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_inside(path: &Path) -> bool {
    path.components().next().is_some()
        && path.components().all(|part| {
            matches!(part, Component::Normal(name)
                if name.to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_graphic())))
        })
}

/// Why a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// `recipe.toml` cannot be read.
    #[error("reading {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `recipe.toml` makes no sense.
    #[error("recipe {} is no use", path.display())]
    Spec {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        problem: SpecError,
    },
    /// A file it names is not there.
    #[error("{} does not exist", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
}

/// What is wrong in `recipe.toml`.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// Not TOML, or not with these fields.
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    /// A field has a value that cannot be used.
    #[error("{field}: {problem}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = r#"
        format = 1
        name = "small"
        version = "1"
        [system]
        suite = "bookworm"
        architecture = "amd64"
        components = ["main"]
        packages = ["linux-image-amd64"]
        kernel = "boot/vmlinuz"
        initrd = "boot/initrd.img"
        [boot]
        title = "Small"
        cmdline = "boot=live"
    "#;

    #[test]
    fn the_least_recipe_is_enough() {
        let spec = parse(LEAST).unwrap();
        assert_eq!(spec.squashfs.block_size, 262_144);
        assert_eq!(spec.system.expected_minutes, 5);
    }

    #[test]
    fn slips_are_refused_by_name() {
        let cases = [
            ("format = 1", "format = 2", "format"),
            ("\"amd64\"", "\"i386\"", "architecture"),
            ("linux-image-amd64", "--mode=root", "system"),
            ("linux-image-amd64", "a b", "system"),
            ("boot/vmlinuz", "../vmlinuz", "system"),
            ("boot/vmlinuz", "/boot/vmlinuz", "system"),
            ("boot=live", "boot=live \\\"", "boot"),
            ("boot=live", "boot=live\\n", "boot"),
            ("title =", "titel =", "titel"),
            ("\"small\"", "\"../small\"", "name"),
        ];
        for (from, to, named) in cases {
            assert!(LEAST.contains(from), "{from}");
            let error = parse(&LEAST.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(named), "{to}: {error}");
        }
    }

    #[test]
    fn the_diagnostic_recipe_can_be_read() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/diagnostic");
        let recipe = Recipe::read(&dir).unwrap();
        assert_eq!(recipe.spec.name.as_str(), "diagnostic");
        assert!(recipe.spec.boot.cmdline.contains("console=ttyS0"));
    }
}
