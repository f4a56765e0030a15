//! What stage one has to know about a session, as TOML for `stage1 customize --config`: where
//! the server is, the session with its token, which image goes where.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use boot_api::{CreateSession, SessionCreated};
use sparetire_builder::exit::{ExitCode, WithCode};
use stage1_config::{Config, SessionConfig};
use zeroize::Zeroizing;

/// What the loader has to know. Holds the token.
pub(crate) fn for_loader(
    new: &CreateSession,
    created: &SessionCreated,
    server: &str,
    stores: &[String],
) -> Config {
    Config {
        server: Some(server.to_owned()),
        stores: stores.to_vec(),
        session: Some(SessionConfig {
            id: created.id.clone(),
            token: created.token.clone(),
        }),
        image: Some(new.image.clone()),
        image_version: new.version,
        target: new.target,
        ..Config::default()
    }
}

/// The configuration as TOML, if stage one would take it.
pub(crate) fn overlay(config: &Config) -> anyhow::Result<Zeroizing<String>> {
    config
        .check()
        .context("checking stage one's configuration")
        .code(ExitCode::Usage)?;
    Ok(Zeroizing::new(config.to_toml()))
}

/// A new file that only its owner can read; it goes away again unless it is written.
#[derive(Debug)]
pub(crate) struct Reserved<'a> {
    path: &'a Path,
    file: tempfile::NamedTempFile,
}

impl<'a> Reserved<'a> {
    pub(crate) fn new(path: &'a Path) -> anyhow::Result<Self> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let file = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .tempfile_in(folder)
            .with_context(|| format!("creating {}", path.display()))?;
        Ok(Self { path, file })
    }

    /// Fills the file and gives it its name; an older one of that name is replaced.
    pub(crate) fn write(mut self, text: &str) -> anyhow::Result<()> {
        self.file
            .write_all(text.as_bytes())
            .and_then(|()| self.file.as_file().sync_all())
            .map_err(anyhow::Error::from)
            .and_then(|()| Ok(self.file.persist(self.path)?))
            .with_context(|| format!("writing {}", self.path.display()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use boot_api::{ImageName, Secret, Target, Timestamp};

    use super::*;

    fn made() -> (CreateSession, SessionCreated) {
        let new = CreateSession {
            image: ImageName::try_from("diagnostic".to_owned()).unwrap(),
            target: Target::Ram,
            version: Some(7),
            ttl_seconds: None,
            note: None,
        };
        let created = SessionCreated {
            id: "abc123".to_owned(),
            token: Secret::new("0123456789abcdef".to_owned()),
            expires: Timestamp::from_unix(0),
        };
        (new, created)
    }

    #[test]
    fn loader_reads_back_what_the_session_said() {
        let (new, created) = made();
        let text = overlay(&for_loader(&new, &created, "http://192.0.2.1:8080", &[])).unwrap();
        let config = Config::parse(&text).unwrap();
        assert_eq!(config.server.as_deref(), Some("http://192.0.2.1:8080"));
        assert_eq!(config.store_urls(), ["http://192.0.2.1:8080/store"]);
        assert_eq!(config.image, Some(new.image));
        assert_eq!(config.image_version, Some(7));
        let session = config.session.clone().unwrap();
        assert_eq!(session.id, "abc123");
        assert_eq!(session.token.reveal(), "0123456789abcdef");
    }

    #[test]
    fn stores_elsewhere_replace_the_servers_own() {
        let (new, created) = made();
        let stores = ["https://mirror.example/store".to_owned()];
        let text = overlay(&for_loader(&new, &created, "http://192.0.2.1", &stores)).unwrap();
        assert_eq!(Config::parse(&text).unwrap().store_urls(), stores);
    }

    #[test]
    fn a_url_that_stage_one_would_refuse_is_refused_here() {
        let (new, created) = made();
        assert!(overlay(&for_loader(&new, &created, "ftp://192.0.2.1", &[])).is_err());
    }

    #[test]
    fn only_the_owner_can_read_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("session.toml");
        std::fs::write(&path, "old").unwrap();
        Reserved::new(&path).unwrap().write("new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        // One that was only reserved leaves nothing behind.
        drop(Reserved::new(&dir.path().join("other")).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
