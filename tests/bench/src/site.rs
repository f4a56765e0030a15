//! A place to measure in: a directory, a signing key, a store with one image. All of it made
//! by the commands a user would type.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;
use vm_tests::host;

/// Name of the image in the store.
pub(crate) const IMAGE: &str = "measured";

/// `sparetire`, as the environment names it, else the one on the search path.
pub(crate) fn sparetire() -> Command {
    Command::new(std::env::var_os("SPARETIRE").unwrap_or_else(|| "sparetire".into()))
}

/// A directory with a key; gone when dropped.
#[derive(Debug)]
pub(crate) struct Site {
    dir: TempDir,
}

impl Site {
    /// Makes one below `parent`; by default in memory, so that no disk is measured.
    pub(crate) fn new(parent: Option<&Path>) -> Result<Self> {
        let memory = Path::new("/dev/shm");
        let parent = match parent {
            Some(parent) => parent.to_owned(),
            None if memory.is_dir() => memory.to_owned(),
            None => std::env::temp_dir(),
        };
        let dir = tempfile::Builder::new()
            .prefix("sparetire-bench-")
            .tempdir_in(&parent)
            .with_context(|| format!("making a directory in {}", parent.display()))?;
        let site = Self { dir };
        host::capture(
            sparetire()
                .args(["key", "generate", "--no-password", "--key"])
                .arg(site.key()),
        )
        .context("making a signing key")?;
        Ok(site)
    }

    /// A path in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn key(&self) -> PathBuf {
        self.path("site.key")
    }

    /// The public key the image is signed with.
    pub(crate) fn public_key(&self) -> PathBuf {
        self.path("site.pub")
    }

    /// The command that imports `file` into the store at `store`.
    pub(crate) fn import(&self, file: &Path, store: &Path) -> Command {
        let mut command = sparetire();
        command
            .args(["image", "import", "--kind", "linux-netboot"])
            .args(["--name", IMAGE, "--cmdline", "measured", "--kernel"])
            .arg(file)
            .arg("--key")
            .arg(self.key())
            .arg("--store")
            .arg(store);
        command
    }
}

/// Configuration of an nginx that serves `root` as fast as it can, in the foreground.
pub(crate) fn nginx_config(site: &Site, root: &Path, listen: &str) -> String {
    format!(
        "user root; # the bench is root's, and so are its files; without root this is ignored\n\
         worker_processes auto; daemon off; error_log stderr; pid {dir}/nginx.pid;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n  \
           access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;\n  \
           client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;\n  \
           fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;\n  \
           server {{ listen {listen}; root {root}; }}\n\
         }}\n",
        root = root.display(),
        dir = site.dir.path().display()
    )
}
