//! Recipes: a folder that says which system an image is made of (`docs/recipes.md`).
//!
//! `recipe.toml` names packages, files and hooks; hooks are programs that run as root on the new
//! system. A recipe is therefore trusted like a Makefile: the checks here catch slips, not attacks.

pub mod debian;
pub mod iso;
pub mod mirror;
pub mod netboot;
mod programs;

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

/// The contents of `recipe.toml`, checked.
#[derive(Debug)]
pub struct Spec {
    /// Name of the image.
    pub name: ImageName,
    /// Version of the recipe, shown by the system it makes.
    pub version: String,
    /// Short text for people.
    pub label: Option<String>,
    /// Longer text for people.
    pub description: Option<String>,
    /// What the building machine needs.
    pub host: Host,
    /// What is made, and how.
    pub make: Make,
}

/// What a recipe makes.
#[derive(Debug)]
pub enum Make {
    /// A live ISO around an installed system.
    Live(Box<Live>),
    /// A kernel with its initramfs, taken out of a package.
    Netboot(Netboot),
}

/// A live ISO around an installed system.
#[derive(Debug)]
pub struct Live {
    /// The installed system.
    pub system: System,
    /// The file system image.
    pub squashfs: Squashfs,
    /// The boot menu.
    pub boot: Boot,
}

/// `recipe.toml` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    name: ImageName,
    version: String,
    label: Option<String>,
    description: Option<String>,
    #[serde(default)]
    host: Host,
    system: Option<System>,
    squashfs: Option<Squashfs>,
    boot: Option<Boot>,
    netboot: Option<Netboot>,
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

/// A kernel with its initramfs, taken out of a package.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Netboot {
    /// Debian release, for example `bookworm`.
    pub suite: String,
    /// Debian architecture; only `amd64` boots so far.
    pub architecture: String,
    /// Archive components.
    pub components: Vec<String>,
    /// The package the two files are in.
    pub package: String,
    /// The kernel's path in the package, relative to the root directory.
    pub kernel: PathBuf,
    /// The initramfs' path, likewise.
    pub initrd: PathBuf,
    /// Compress the initramfs anew, for kernels known to unpack that.
    pub recompress: Option<Recompress>,
    /// Kernel command line.
    pub cmdline: String,
    /// How long it takes on a machine with two processors, in minutes.
    #[serde(default = "two")]
    pub expected_minutes: u32,
}

fn two() -> u32 {
    2
}

/// How an initramfs is compressed anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompress {
    /// zstd: kernels since 5.9, if they were built with it (`CONFIG_RD_ZSTD`).
    Zstd,
}

impl Make {
    /// Release and components that packages come from.
    #[must_use]
    pub fn archive(&self) -> (&str, &[String]) {
        match self {
            Self::Live(live) => (&live.system.suite, &live.system.components),
            Self::Netboot(netboot) => (&netboot.suite, &netboot.components),
        }
    }
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
        if let Make::Live(live) = &spec.make {
            for name in live.system.hooks.iter().chain(&live.system.files) {
                if !dir.join(name).exists() {
                    return Err(RecipeError::Missing {
                        path: dir.join(name),
                    });
                }
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
    let written: Written = toml::from_str(text)?;
    if written.format != 1 {
        return refuse("format", "only 1 is known");
    }
    if !is_word(&written.version) {
        return refuse("version", "is a word");
    }
    let make = match (written.system, written.boot, written.netboot) {
        (Some(system), Some(boot), None) => {
            let live = Live {
                system,
                squashfs: written.squashfs.unwrap_or_default(),
                boot,
            };
            live.check()?;
            Make::Live(Box::new(live))
        }
        (None, None, Some(netboot)) if written.squashfs.is_none() => {
            netboot.check()?;
            Make::Netboot(netboot)
        }
        _ => {
            return refuse(
                "recipe",
                "has either [system] and [boot], for a live ISO, or [netboot] alone",
            );
        }
    };
    Ok(Spec {
        name: written.name,
        version: written.version,
        label: written.label,
        description: written.description,
        host: written.host,
        make,
    })
}

fn refuse<T>(field: &'static str, problem: &'static str) -> Result<T, SpecError> {
    Err(SpecError::Field { field, problem })
}

impl Live {
    fn check(&self) -> Result<(), SpecError> {
        let system = &self.system;
        if system.architecture != "amd64" {
            return refuse("system.architecture", "only amd64 boots so far");
        }
        let mut words = std::iter::once(&system.suite)
            .chain(&system.packages)
            .chain(&system.components);
        if !words.all(|word| is_word(word)) {
            return refuse("system", "suites, components and packages are words");
        }
        let mut patterns = system.exclude.iter().chain(&system.include);
        if !patterns.all(|pattern| is_pattern(pattern)) {
            return refuse(
                "system.exclude",
                "patterns are absolute paths without blanks",
            );
        }
        let mut paths = system
            .hooks
            .iter()
            .chain(&system.files)
            .chain([&system.kernel, &system.initrd]);
        if !paths.all(|path| is_inside(path)) {
            return refuse("system", "paths are relative, and do not lead outside");
        }
        let level = self.squashfs.compression_level;
        let block = self.squashfs.block_size;
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
        if !is_plain(&self.boot.cmdline) || !is_plain(&self.boot.title) {
            return refuse(
                "boot",
                "title and cmdline are printable ASCII without quotes, $, { and }",
            );
        }
        Ok(())
    }
}

impl Netboot {
    fn check(&self) -> Result<(), SpecError> {
        if self.architecture != "amd64" {
            return refuse("netboot.architecture", "only amd64 boots so far");
        }
        let mut words = [&self.suite, &self.package]
            .into_iter()
            .chain(&self.components);
        if !words.all(|word| is_word(word)) {
            return refuse("netboot", "suites, components and packages are words");
        }
        if ![&self.kernel, &self.initrd]
            .into_iter()
            .all(|path| is_inside(path))
        {
            return refuse("netboot", "paths are relative, and do not lead outside");
        }
        if self.kernel == self.initrd {
            return refuse("netboot", "kernel and initrd are two files");
        }
        if !is_plain(&self.cmdline) {
            return refuse(
                "netboot.cmdline",
                "is printable ASCII without quotes, $, { and }",
            );
        }
        Ok(())
    }
}

fn is_plain(text: &str) -> bool {
    text.bytes()
        .all(|byte| (0x20..0x7f).contains(&byte) && !b"\"'\\${}".contains(&byte))
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

    const NETBOOT: &str = r#"
        format = 1
        name = "installer"
        version = "1"
        [netboot]
        suite = "bookworm"
        architecture = "amd64"
        components = ["main"]
        package = "debian-installer-12-netboot-amd64"
        kernel = "usr/lib/installer/linux"
        initrd = "usr/lib/installer/initrd.gz"
        recompress = "zstd"
        cmdline = "console=ttyS0,115200"
    "#;

    fn refused(text: &str, cases: &[(&str, &str, &str)]) {
        for (from, to, named) in cases {
            assert!(text.contains(from), "{from}");
            let error = parse(&text.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(named), "{to}: {error}");
        }
    }

    #[test]
    fn the_least_recipe_is_enough() {
        let Make::Live(live) = parse(LEAST).unwrap().make else {
            panic!("a [system] makes a live ISO");
        };
        assert_eq!(live.squashfs.block_size, 262_144);
        assert_eq!(live.system.expected_minutes, 5);
    }

    #[test]
    fn slips_are_refused_by_name() {
        refused(
            LEAST,
            &[
                ("format = 1", "format = 2", "format"),
                ("\"1\"", "\"1 0\"", "version"),
                ("\"amd64\"", "\"i386\"", "architecture"),
                ("linux-image-amd64", "--mode=root", "system"),
                ("linux-image-amd64", "a b", "system"),
                ("boot/vmlinuz", "../vmlinuz", "system"),
                ("boot/vmlinuz", "/boot/vmlinuz", "system"),
                ("boot=live", "boot=live \\\"", "boot"),
                ("boot=live", "boot=live\\n", "boot"),
                ("title =", "titel =", "titel"),
                ("\"small\"", "\"../small\"", "name"),
            ],
        );
    }

    #[test]
    fn slips_in_a_netboot_recipe_are_refused_by_name() {
        assert!(matches!(parse(NETBOOT).unwrap().make, Make::Netboot(_)));
        refused(
            NETBOOT,
            &[
                ("\"amd64\"", "\"i386\"", "architecture"),
                ("\"bookworm\"", "\"-o\"", "netboot"),
                ("debian-installer-12", "a,b", "netboot"),
                ("usr/lib/installer/linux", "../linux", "netboot"),
                ("initrd.gz", "linux", "two files"),
                ("\"zstd\"", "\"lz4\"", "lz4"),
                ("ttyS0", "$ttyS0", "cmdline"),
                ("package =", "packages =", "packages"),
            ],
        );
    }

    #[test]
    fn a_recipe_makes_one_thing() {
        let netboot = &NETBOOT[NETBOOT.find("[netboot]").unwrap()..];
        let system = LEAST.find("[system]").unwrap();
        let boot = LEAST.find("[boot]").unwrap();
        for text in [
            format!("{LEAST}{netboot}"),
            format!("{NETBOOT}[squashfs]\n"),
            format!("{}{}", &LEAST[..system], &LEAST[boot..]),
            LEAST[..boot].to_owned(),
        ] {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains("either"), "{text}: {error}");
        }
    }

    fn shipped(name: &str) -> Recipe {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images");
        Recipe::read(&dir.join(name)).unwrap()
    }

    #[test]
    fn the_shipped_recipes_can_be_read_and_speak_on_the_serial_line() {
        let diagnostic = shipped("diagnostic");
        assert_eq!(diagnostic.spec.name.as_str(), "diagnostic");
        let Make::Live(live) = diagnostic.spec.make else {
            panic!("the diagnostic system is a live ISO");
        };
        assert!(live.boot.cmdline.contains("console=ttyS0"));
        let Make::Netboot(netboot) = shipped("netboot-installer").spec.make else {
            panic!("the installer is a kernel with its initramfs");
        };
        assert!(netboot.cmdline.contains("console=ttyS0"));
    }
}
