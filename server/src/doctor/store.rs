//! Is there a store, may it be read and written, and do the signed statements about its images still count?

use std::path::Path;
use std::time::Duration;

use rustix::fs::{Access, access};
use sparetire_builder::store::Store;
use sparetire_manifest::{ImageName, Timestamp};

use super::Findings;

/// An expiry that is nearer than this is announced.
const SOON: Duration = Duration::from_secs(7 * 24 * 3600);

pub(super) fn check(root: &Path, now: Timestamp, findings: &mut Findings) {
    const CHECK: &str = "store";
    let store = match Store::open(root) {
        Ok(store) => store,
        Err(_) if !root.exists() => {
            findings.warn(
                CHECK,
                format!("{} is not there yet", root.display()),
                "the first `sparetire image import` makes it",
            );
            return;
        }
        Err(error) => {
            // Made by the package and still empty: no fault.
            if root
                .read_dir()
                .is_ok_and(|mut entries| entries.next().is_none())
            {
                findings.warn(
                    CHECK,
                    format!("{} is empty", root.display()),
                    "`sparetire image import` puts an image into it",
                );
            } else {
                findings.fail(
                    CHECK,
                    format!("{error}"),
                    "name the right folder with --store, or give this user access to it",
                );
            }
            return;
        }
    };
    if access(root, Access::WRITE_OK).is_ok() {
        findings.ok(CHECK, format!("{}, may be written", root.display()));
    } else {
        findings.warn(
            CHECK,
            format!(
                "{} may only be read: enough to serve, not to import",
                root.display()
            ),
            "import as the store's owner",
        );
    }
    match store.images() {
        Ok(images) if images.is_empty() => findings.warn(
            "images",
            "the store has none",
            "`sparetire image import` puts one into it",
        ),
        Ok(images) => {
            for name in images {
                image(&store, &name, now, findings);
            }
        }
        Err(error) => findings.fail(
            "images",
            format!("{:#}", anyhow::Error::new(error)),
            "give this user access to the store",
        ),
    }
}

fn image(store: &Store, name: &ImageName, now: Timestamp, findings: &mut Findings) {
    let check = format!("image {name}");
    let statement = store.latest(name).and_then(|latest| {
        let manifest = store.manifest(name, latest.version)?;
        Ok((latest, manifest))
    });
    let (latest, manifest) = match statement {
        Ok(statement) => statement,
        Err(error) => {
            findings.fail(
                check,
                format!("{:#}", anyhow::Error::new(error)),
                format!("`sparetire image verify {name}` says what is left; import it again"),
            );
            return;
        }
    };
    let version = latest.version;
    if latest.issued > now {
        findings.fail(
            check,
            format!(
                "version {version} was signed at {}, which is in the future",
                latest.issued
            ),
            "set the clock of this machine, or import again where the clock was wrong",
        );
        return;
    }
    // The pointer, and the version's own end if it has one: PCs refuse either once it has passed.
    let (end, whose, cure) = match manifest.expires {
        Some(expires) if expires < latest.expires => (
            expires,
            "the version itself",
            "import it again; --expires-days says how long it counts".to_owned(),
        ),
        _ => (
            latest.expires,
            "the statement that it is the newest",
            format!(
                "`sparetire image renew {name}` signs it again; --latest-days says how long it counts"
            ),
        ),
    };
    if end <= now {
        findings.fail(
            check,
            format!("version {version}: {whose} expired at {end}; PCs refuse it"),
            cure,
        );
    } else if end <= now.plus(SOON) {
        findings.warn(
            check,
            format!("version {version}: {whose} expires at {end}"),
            cure,
        );
    } else {
        findings.ok(check, format!("version {version}, counts until {end}"));
    }
}
