//! What is under test and where it is. `cargo xtask` says so through the environment;
//! without it, the places where `cargo xtask setup` puts things are taken.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use crate::host;

/// The programs and files under test.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The program `sparetire`.
    pub sparetire: PathBuf,
    /// The program `virtual-pc`.
    pub virtual_pc: PathBuf,
    /// Directory with kernel and loader.
    parts: PathBuf,
    diagnostic: Option<PathBuf>,
    /// Where results of this run go.
    pub output: PathBuf,
    /// Held for the whole run: two runs would write into each other's directories, and
    /// slow each other down until deadlines pass.
    _lock: Arc<File>,
}

impl Parts {
    /// Finds them and builds a stage-one ISO to be customized by each test.
    pub fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .context("finding the repository")?;
        let target = env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root.join("target"), |dir| root.join(dir));
        let path =
            |variable: &str, default: PathBuf| env::var_os(variable).map_or(default, PathBuf::from);
        let output = target.join("vm");
        let parts = Parts {
            sparetire: path("SPARETIRE", target.join("debug/sparetire")),
            virtual_pc: path("VIRTUAL_PC", target.join("debug/virtual-pc")),
            parts: path("SPARETIRE_PARTS", target.join("parts")),
            diagnostic: env::var_os("SPARETIRE_DIAGNOSTIC").map(PathBuf::from),
            _lock: Arc::new(lock(&output)?),
            output,
        };
        if !parts.sparetire.is_file() {
            bail!(
                "{} is missing; run `cargo xtask setup`",
                parts.sparetire.display()
            );
        }
        parts.build_stage1(Format::Iso)?;
        Ok(parts)
    }

    /// The diagnostic image's ISO.
    pub fn diagnostic(&self) -> Result<&Path> {
        match &self.diagnostic {
            Some(path) if path.is_file() => Ok(path),
            _ => bail!("SPARETIRE_DIAGNOSTIC names no ISO; `cargo xtask vm` sets it"),
        }
    }

    /// The kernel of stage one.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        self.parts.join("bzImage")
    }

    /// Stage one as built, before any customization.
    #[must_use]
    pub fn stage1(&self, format: Format) -> PathBuf {
        self.output.join(format!("stage1.{}", format.extension()))
    }

    /// Builds stage one anew.
    pub fn build_stage1(&self, format: Format) -> Result<PathBuf> {
        let path = self.stage1(format);
        let mut command = self.sparetire();
        command
            .args([
                "stage1",
                "build",
                "--force",
                "--format",
                format.extension(),
                "--output",
            ])
            .arg(&path);
        host::capture(&mut command).context("building stage one")?;
        Ok(path)
    }

    /// The command `sparetire`, which leaves the user's own store and keys alone: every
    /// test names its own.
    #[must_use]
    pub fn sparetire(&self) -> Command {
        let mut command = Command::new(&self.sparetire);
        command.env("SPARETIRE_PARTS", &self.parts);
        for variable in [
            "SPARETIRE_STORE",
            "SPARETIRE_STATE",
            "SPARETIRE_KEY",
            "SPARETIRE_KERNEL",
            "SPARETIRE_LOADER",
            "SPARETIRE_STAGE1",
            "SPARETIRE_SERVER",
            "SPARETIRE_OPERATOR_TOKEN",
        ] {
            command.env_remove(variable);
        }
        command
    }

    /// An empty directory below the output directory.
    pub fn fresh_dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.output.join(name);
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("emptying {}", dir.display()));
            }
            _ => fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?,
        }
        Ok(dir)
    }
}

/// Creates `output` and locks it, waiting for another run to end.
fn lock(output: &Path) -> Result<File> {
    fs::create_dir_all(output).with_context(|| format!("creating {}", output.display()))?;
    let path = output.join(".lock");
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    if file.try_lock().is_err() {
        eprintln!("waiting for another run of vm-tests to end");
        file.lock()
            .with_context(|| format!("locking {}", path.display()))?;
    }
    Ok(file)
}

/// What `stage1 build` can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// CD and stick in one
    Iso,
    /// Disk image
    Img,
    /// EFI program
    Uki,
}

impl Format {
    /// Its name on the command line, and the file's extension.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Format::Iso => "iso",
            Format::Img => "img",
            Format::Uki => "uki",
        }
    }
}
