//! A technician's desk: a machine with two disks that exists only in what the tools say, and a log
//! of the tools that were run.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Tools that only write down how they were called.
const RECORDED: &[&str] = &[
    "badblocks",
    "bash",
    "btrfs",
    "busybox",
    "cryptsetup",
    "curl",
    "ddrescue",
    "dmesg",
    "dmidecode",
    "e2fsck",
    "ethtool",
    "fsck.exfat",
    "fsck.fat",
    "freshclam",
    "iperf3",
    "lscpu",
    "lsmod",
    "lspci",
    "lsusb",
    "memtester",
    "mount",
    "ntfsfix",
    "nvme",
    "photorec",
    "ping",
    "poweroff",
    "reboot",
    "sfdisk",
    "smartctl",
    "tcpdump",
    "testdisk",
    "udhcpc",
    "umount",
    "xfs_repair",
];

/// sda1 is mounted, sda2 is Windows, sda3 is encrypted, sdb is empty and larger than sda.
const LSBLK: &str = r#"case "$*" in
"-lnpo NAME,TYPE") printf '%s\n' "/dev/loop0 loop" "/dev/sda disk" "/dev/sda1 part" "/dev/sda2 part" \
    "/dev/sda3 part" "/dev/sda4 part" "/dev/sdb disk" "/dev/mapper/open-sda9 crypt" "/dev/sr0 rom" ;;
"-lno NAME,TYPE") echo "open-sda9 crypt" ;;
"-lno MOUNTPOINTS /dev/sda" | "-lno MOUNTPOINTS /dev/sda1") printf '\n/mnt/sda1\n' ;;
"-lno MOUNTPOINTS "*) echo ;;
*) echo "sda and sdb" ;;
esac"#;

const BLKID: &str = r#"case "$*" in
*/dev/sda1) echo ext4 ;;
*/dev/sda2) echo ntfs ;;
*/dev/sda3) echo BitLocker ;;
*/dev/sda4) echo xfs ;;
*) exit 2 ;;
esac"#;

const BLOCKDEV: &str = r#"case "$2" in
/dev/sda) echo 1000000 ;;
*) echo 2000000 ;;
esac"#;

/// Like the real one with `-u`, it changes the file it is given.
const CHNTPW: &str = r#"echo "chntpw $*" >> "$LOG"
case "$1" in
-l) echo "| 01f4 | Administrator |" ;;
-u) cat > /dev/null; echo changed >> "$3" ;;
esac"#;

/// The desk.
pub(crate) struct Desk {
    dir: tempfile::TempDir,
}

/// What came of one run.
pub(crate) struct Walk {
    /// Both output streams.
    pub(crate) said: String,
    /// Tools that were run, one a line, with their arguments.
    pub(crate) ran: String,
    /// The exit status.
    pub(crate) code: Option<i32>,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let desk = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let record = r#"echo "${0##*/} $*" >> "$LOG""#;
        for name in RECORDED {
            desk.tool(name, record);
        }
        desk.tool("lsblk", LSBLK);
        desk.tool("blkid", BLKID);
        desk.tool("blockdev", BLOCKDEV);
        desk.tool("chntpw", CHNTPW);
        desk.tool("less", "cat");
        desk.tool(
            "ip",
            r#"[ "$1 $2" != "-brief address" ] || echo "eth0 UP 192.0.2.7/24""#,
        );
        for dir in [
            "tmp",
            "run",
            "mnt",
            "proc",
            "etc",
            "sys/class/net/eth0/device",
        ] {
            fs::create_dir_all(desk.path(dir)).unwrap();
        }
        desk.file(
            "proc/meminfo",
            "MemTotal: 4000000 kB\nMemAvailable: 2000000 kB\n",
        );
        desk.file("proc/mounts", "");
        desk.file("proc/cmdline", "boot=live");
        desk
    }

    /// A path on the machine.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.dir.path().join(inside)
    }

    /// Puts a file there.
    pub(crate) fn file(&self, inside: &str, text: &str) {
        fs::create_dir_all(self.path(inside).parent().unwrap()).unwrap();
        fs::write(self.path(inside), text).unwrap();
    }

    /// Puts a tool into place, or another in its stead.
    pub(crate) fn tool(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Walks the menu: types `lines`, then hangs up.
    pub(crate) fn walk(&self, lines: &str) -> Walk {
        self.run("usr/lib/sparetire/menu", &[], lines)
    }

    /// Runs a script of the image.
    pub(crate) fn run(&self, script: &str, arguments: &[&str], input: &str) -> Walk {
        let log = self.path("log");
        fs::write(&log, "").unwrap();
        let files = image_dir().join("files");
        let path = format!(
            "{}:{}:/usr/sbin:/usr/bin:/sbin:/bin",
            self.path("bin").display(),
            files.join("usr/bin").display()
        );
        let mut child = Command::new("sh")
            .arg(files.join(script))
            .args(arguments)
            .env_clear()
            .env("PATH", path)
            .env("LOG", &log)
            .env("TMPDIR", self.path("tmp"))
            .env("SPARETIRE_ROOT", self.dir.path())
            .env("SPARETIRE_LIBRARY", files.join("usr/lib/sparetire"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Nobody may read to the end: then the rest is not typed.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let Output {
            status,
            stdout,
            stderr,
        } = child.wait_with_output().unwrap();
        Walk {
            said: String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned(),
            ran: fs::read_to_string(&log).unwrap(),
            code: status.code(),
        }
    }
}

/// The recipe's folder.
pub(crate) fn image_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/diagnostic")
}
