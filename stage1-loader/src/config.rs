//! The config step: the slot from the initramfs, the kernel command line over it, and a clock
//! that is not before the day stage one was built.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use sparetire_manifest::Timestamp;
use stage1_config::{CmdlineError, Config, ConfigError, MEMBER, SLOT_LEN, Slot, SlotError};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::sequence::Step;
use crate::sys::{self, SysError};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error(transparent)]
    Read(#[from] SysError),
    /// The slot is damaged.
    #[error("the config slot cannot be used")]
    Slot(#[from] SlotError),
    /// Its text makes no sense.
    #[error("the configuration in the slot cannot be used")]
    Config(#[from] ConfigError),
    /// The kernel command line makes no sense.
    #[error("the kernel command line cannot be used")]
    Cmdline(#[from] CmdlineError),
}

/// The longest command line an x86 kernel keeps is 2,048 bytes.
const MAX_CMDLINE: u64 = 64 * 1024;

/// The slot's place.
pub fn slot_path(root: &Path) -> PathBuf {
    root.join(MEMBER)
}

fn read_capped(path: &Path, cap: u64) -> Result<Zeroizing<Vec<u8>>, SysError> {
    let error = |error| SysError::from_io(format!("read({:?})", path.display()), &error);
    let file = fs::File::open(path)
        .map_err(|error| SysError::from_io(format!("open({:?})", path.display()), &error))?;
    // Room for all of it from the start: growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(cap as usize + 1));
    file.take(cap).read_to_end(&mut bytes).map_err(error)?;
    Ok(bytes)
}

/// Slot and command line, merged.
pub fn load(root: &Path) -> Result<Config, LoadError> {
    let bytes = read_capped(&slot_path(root), SLOT_LEN as u64 + 1)?;
    let slot = Slot::parse(&bytes)?;
    let mut config = slot.config()?;
    let cmdline = read_capped(&root.join("proc/cmdline"), MAX_CMDLINE)?;
    stage1_config::apply_cmdline(&mut config, String::from_utf8_lossy(&cmdline).trim_end())?;
    Ok(config)
}

/// What a person can do about it.
pub fn failure(root: &Path, error: &LoadError) -> Failure {
    let (input, advice) = match error {
        LoadError::Cmdline(_) => (
            root.join("proc/cmdline"),
            "Correct the sparetire.* parameters on the kernel command line.",
        ),
        _ => (
            slot_path(root),
            "Write the configuration anew with `sparetire stage1 customize`, or undo it with \
             `--reset`; if the file itself is damaged, build or copy stage one again.",
        ),
    };
    Failure::new(Step::Config, input.display().to_string(), error, advice)
}

/// What stage one would do with this configuration, or why it can do nothing.
pub fn check(config: &Config) -> Result<String, Failure> {
    let missing = |what: &str, advice: &str| {
        Err(Failure::plain(
            Step::Config,
            "the configuration in the slot and the kernel command line",
            what,
            advice,
        ))
    };
    if config.plain.is_some() {
        let urls: Vec<String> = config
            .source_urls()
            .iter()
            .map(|url| fetch_http::public_url(url))
            .collect();
        return Ok(format!("unsigned image from {}", urls.join(" ")));
    }
    let Some(image) = &config.image else {
        return missing(
            "no image is named",
            "Name one: `sparetire stage1 customize FILE --image NAME`, or sparetire.image=NAME \
             on the kernel command line.",
        );
    };
    let stores = config.store_urls();
    if stores.is_empty() {
        return missing(
            "no server and no store is named",
            "Name one: `sparetire stage1 customize FILE --server URL`, or sparetire.server=URL \
             on the kernel command line.",
        );
    }
    if config.trust.keys.is_empty() {
        return missing(
            "no signing key is trusted, so no image can be believed",
            "Build stage one with the public key that signs your images: `trust.keys` in its \
             configuration.",
        );
    }
    let stores: Vec<String> = stores
        .iter()
        .map(|url| fetch_http::public_url(url))
        .collect();
    Ok(format!("image {image} from {}", stores.join(" ")))
}

/// Now, as far as the clock knows.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp::from_unix(since.map_or(0, |since| since.as_secs()))
}

/// The time to set the clock to: certificates and manifests are younger than stage one, so a
/// clock before its build date is wrong (an empty CMOS battery).
pub fn clock_floor(now: Timestamp, build_date: Option<Timestamp>) -> Option<Timestamp> {
    build_date.filter(|build_date| now < *build_date)
}

/// Sets the clock forward where [`clock_floor`] asks for it; gives a line to show.
pub fn set_clock(config: &Config) -> Result<Option<String>, SysError> {
    let now = now();
    let Some(floor) = clock_floor(now, config.build_date) else {
        return Ok(None);
    };
    sys::set_clock(floor.unix())?;
    Ok(Some(format!(
        "clock said {now}; set forward to the build date {floor}"
    )))
}

/// Overwrites the slot in the initramfs and removes it. Already gone is fine.
pub fn wipe_slot(root: &Path) {
    let path = slot_path(root);
    if path.exists() {
        // Overwritten in place; should that fail, the kernel still zeroes the pages it frees.
        let _ = fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut file| std::io::Write::write_all(&mut file, &[0; SLOT_LEN]));
        let _ = fs::remove_file(&path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

    fn root(slot: &[u8], cmdline: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("proc")).unwrap();
        fs::write(root.path().join("proc/cmdline"), cmdline).unwrap();
        fs::write(slot_path(root.path()), slot).unwrap();
        root
    }

    fn slot(base: &str, overlay: &str) -> Vec<u8> {
        let slot = Slot::new(base).unwrap().with_overlay(overlay).unwrap();
        slot.emit()
    }

    #[test]
    fn the_command_line_wins_over_the_overlay_and_that_over_the_base() {
        let root = root(
            &slot(
                "image = \"a\"\nretry_seconds = 5\nserver = \"http://one\"\n",
                "image = \"b\"\nserver = \"http://two\"\n",
            ),
            "console=ttyS0 sparetire.image=c quiet\n",
        );
        let config = load(root.path()).unwrap();
        assert_eq!(config.image.unwrap().as_str(), "c");
        assert_eq!(config.server.as_deref(), Some("http://two"));
        assert_eq!(config.retry_seconds, 5);
    }

    #[test]
    fn a_damaged_slot_stops_with_advice() {
        let mut bytes = slot("image = \"a\"\n", "");
        bytes[70] ^= 1;
        let root = root(&bytes, "");
        let error = load(root.path()).unwrap_err();
        let failure = failure(root.path(), &error);
        assert_eq!(failure.step, Step::Config);
        assert!(failure.cause().contains("damaged"), "{}", failure.cause());
        assert!(failure.advice.contains("--reset"));
        assert!(failure.input.ends_with("config-slot"));
    }

    #[test]
    fn a_missing_and_an_overlong_slot_are_refused() {
        let root = root(&vec![0; SLOT_LEN * 4], "");
        assert!(matches!(load(root.path()), Err(LoadError::Slot(_))));
        fs::remove_file(slot_path(root.path())).unwrap();
        let error = load(root.path()).unwrap_err().to_string();
        assert!(error.contains("ENOENT"), "{error}");
    }

    #[test]
    fn a_bad_parameter_names_the_command_line() {
        let root = root(&slot("", ""), "sparetire.target=floppy");
        let error = load(root.path()).unwrap_err();
        let failure = failure(root.path(), &error);
        assert!(failure.input.ends_with("proc/cmdline"));
        assert!(
            failure.cause().contains("sparetire.target"),
            "{}",
            failure.cause()
        );
    }

    #[test]
    fn without_image_store_or_key_it_says_which_is_missing() {
        let parse = |text: &str| check(&Config::parse(text).unwrap());
        let cause = |text: &str| parse(text).unwrap_err().cause();
        assert!(cause("").contains("image"));
        assert!(cause("image = \"a\"").contains("server"));
        assert!(cause("image = \"a\"\nserver = \"http://s\"").contains("key"));
        let whole = format!("image = \"a\"\nserver = \"http://s\"\n[trust]\nkeys = [\"{KEY}\"]\n");
        assert_eq!(parse(&whole).unwrap(), "image a from http://s/store");
        // An unsigned image needs neither, but permission.
        let plain = "[plain]\nurls = [\"http://h/x.iso\"]\nsize = 9\nsha256 = \"".to_owned()
            + &"00".repeat(32)
            + "\"\n[plain.boot]\ncmdline = \"\"\n[plain.boot.kernel]\npath = \"/k\"\noffset = 0\nlength = 9\n";
        assert!(Config::parse(&plain).is_err());
        assert_eq!(
            parse(&format!("allow_unsigned = true\n{plain}")).unwrap(),
            "unsigned image from http://h/x.iso"
        );
    }

    #[test]
    fn only_a_clock_before_the_build_date_is_set() {
        let day = Timestamp::from_unix(1_700_000_000);
        let before = Timestamp::from_unix(86_400);
        let after = Timestamp::from_unix(1_800_000_000);
        assert_eq!(clock_floor(before, Some(day)), Some(day));
        assert_eq!(clock_floor(after, Some(day)), None);
        assert_eq!(clock_floor(day, Some(day)), None);
        assert_eq!(clock_floor(before, None), None);
    }

    #[test]
    fn a_wiped_slot_is_gone_and_wiping_twice_is_fine() {
        let root = root(&slot("", ""), "");
        wipe_slot(root.path());
        assert!(!slot_path(root.path()).exists());
        wipe_slot(root.path());
    }
}
