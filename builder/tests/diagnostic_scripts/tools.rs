//! The tools behind the menu, run by themselves.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use crate::desk::Desk;

const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIGl4Kf6rG7yIPHYrcGmYYwB/1pZVOBqHiKAhvwWnxWkY";

#[test]
fn keys_come_from_the_command_line_and_only_keys() {
    let desk = Desk::new();
    let rsa = "AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7";
    desk.file(
        "proc/cmdline",
        &format!(
            "boot=live sparetire.ssh_key={KEY} quiet sparetire.ssh_key={rsa} xsparetire.ssh_key={KEY} \
             sparetire.ssh_key= sparetire.ssh_key=ssh-ed25519 sparetire.ssh_key=from=\"*\" \
             sparetire.ssh_key={KEY}$(reboot) sparetire.ssh_key=AAAAC3NzaC1lZDI1NTE5AAAAI=A* \
             sparetire.ssh_key={rsa}{}\n",
            "A".repeat(2800)
        ),
    );
    let walk = desk.run("usr/lib/sparetire/ssh", &["keys"], "");
    let lines: Vec<&str> = walk
        .said
        .lines()
        .filter(|line| !line.starts_with("sparetire.ssh_key: this is no public key"))
        .collect();
    assert_eq!(
        lines,
        [format!("ssh-ed25519 {KEY}"), format!("ssh-rsa {rsa}")]
    );
    assert_eq!(walk.said.lines().count(), 2 + 6);
    assert_eq!(walk.ran, "");
}

#[test]
fn without_a_key_no_server_starts() {
    let desk = Desk::new();
    desk.tool("dropbear", r#"echo dropbear >> "$LOG""#);
    let walk = desk.run("usr/lib/sparetire/ssh", &["start"], "");
    assert_eq!((walk.code, walk.ran.as_str()), (Some(1), ""));
    assert!(walk.said.contains("SSH stays off"), "{}", walk.said);
    assert!(!desk.path("root/.ssh/authorized_keys").exists());
}

#[test]
fn with_a_key_the_server_takes_keys_only_and_shows_its_own() {
    let desk = Desk::new();
    desk.file("proc/cmdline", &format!("a sparetire.ssh_key={KEY} b"));
    desk.tool("dropbear", r#"echo "dropbear $*" >> "$LOG""#);
    desk.tool(
        "dropbearkey",
        r#"case "$*" in *-y*) echo "Fingerprint: SHA256:abc" ;; *) echo key > "$4" ;; esac"#,
    );
    let walk = desk.run("usr/lib/sparetire/ssh", &["start"], "");
    assert_eq!(walk.code, Some(0), "{}", walk.said);
    assert!(walk.ran.starts_with("dropbear -s "), "{}", walk.ran);
    assert!(
        walk.said.contains("its host key is SHA256:abc"),
        "{}",
        walk.said
    );
    let keys = fs::read_to_string(desk.path("root/.ssh/authorized_keys")).unwrap();
    assert_eq!(keys, format!("ssh-ed25519 {KEY}\n"));
}

#[test]
fn signatures_are_not_fetched_without_network_or_room() {
    let desk = Desk::new();
    desk.tool(
        "df",
        r#"printf 'Filesystem\ntmpfs 1000000 600000 400000 60%% /tmp\n'"#,
    );
    let walk = desk.run("usr/bin/update-signatures", &[], "");
    assert_eq!((walk.code, walk.ran.as_str()), (Some(1), ""));
    assert!(walk.said.contains("390 MiB are free"), "{}", walk.said);
    assert!(walk.said.contains("--dir"), "{}", walk.said);
    desk.tool("ip", "echo 'eth0 UP'");
    let walk = desk.run("usr/bin/update-signatures", &[], "");
    assert_eq!((walk.code, walk.ran.as_str()), (Some(1), ""));
    assert!(walk.said.contains("no network"), "{}", walk.said);
}

#[test]
fn a_mirror_and_a_proxy_reach_freshclam_and_nothing_else_does() {
    let desk = Desk::new();
    desk.tool("df", r#"printf 'Filesystem\ntmpfs 9 9 9000000 1%% /tmp\n'"#);
    desk.tool("freshclam", r#"cat "${1#--config-file=}" >> "$LOG""#);
    let dir = desk.path("signatures").display().to_string();
    let options = [
        "--mirror",
        "http://clam.example/db",
        "--proxy",
        "http://proxy.example:3128",
        "--dir",
        &dir,
    ];
    let walk = desk.run("usr/bin/update-signatures", &options, "");
    assert_eq!(walk.code, Some(0), "{}", walk.said);
    for line in [
        "PrivateMirror http://clam.example/db",
        "HTTPProxyServer http://proxy.example",
        "HTTPProxyPort 3128",
        &format!("DatabaseDirectory {dir}"),
    ] {
        assert!(
            walk.ran.lines().any(|found| found == line),
            "{line}: {}",
            walk.ran
        );
    }
    assert!(!walk.ran.contains("database.clamav.net"));
    for bad in [
        ["--mirror", "http://x\nExcludeDatabase main"],
        ["--mirror", ""],
        ["--proxy", "proxy.example"],
        ["--dir", "a b"],
        ["--format", "x"],
    ] {
        let walk = desk.run("usr/bin/update-signatures", &bad, "");
        assert!(
            walk.code != Some(0) && walk.ran.is_empty(),
            "{bad:?}: {}",
            walk.ran
        );
    }
    desk.tool("freshclam", "exit 58");
    let walk = desk.run("usr/bin/update-signatures", &[], "");
    assert_eq!(walk.code, Some(1));
    assert!(walk.said.contains("--mirror"), "{}", walk.said);
}

#[test]
fn a_scan_needs_signatures_and_memory_and_says_how_it_went() {
    let desk = Desk::new();
    let mnt = desk.path("mnt").display().to_string();
    let scan = |desk: &Desk| desk.run("usr/bin/scan-malware", &[&mnt], "");
    desk.tool("clamscan", r#"echo "clamscan $*" >> "$LOG"; exit 1"#);
    let walk = scan(&desk);
    assert_eq!((walk.code, walk.ran.as_str()), (Some(2), ""));
    assert!(walk.said.contains("update-signatures"), "{}", walk.said);
    desk.file("tmp/clamav/daily.cld", "");
    let walk = scan(&desk);
    assert_eq!(walk.code, Some(1));
    assert!(walk.ran.starts_with("clamscan --database=") && walk.said.contains("INFECTED"));
    desk.tool("clamscan", "exit 2");
    assert!(scan(&desk).said.contains("not complete"));
    desk.file("proc/meminfo", "MemAvailable: 1000000 kB\n");
    let walk = scan(&desk);
    assert_eq!((walk.code, walk.ran.as_str()), (Some(2), ""));
    assert!(
        walk.said.contains("976 MiB of memory are free"),
        "{}",
        walk.said
    );
}

/// Files of the archive, without the folder they are in.
fn archived(path: &Path) -> BTreeMap<String, String> {
    let bytes = zstd::decode_all(fs::File::open(path).unwrap()).unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        let name = path.components().skip(1).collect::<std::path::PathBuf>();
        let mut text = String::new();
        if entry.header().entry_type().is_file() {
            entry.read_to_string(&mut text).unwrap();
            files.insert(name.display().to_string(), text);
        }
    }
    files
}

#[test]
fn logs_are_one_archive_with_what_failed_in_it() {
    let desk = Desk::new();
    desk.file("sys/class/dmi/id/product_serial", "AB/12 \u{e9}\n");
    desk.file("etc/sparetire-release", "sparetire diagnostic\n");
    desk.file("sys/fs/pstore/dmesg-efi-1", "Oops");
    desk.tool("dmesg", "echo kernel messages");
    desk.tool("smartctl", "echo no answer; exit 2");
    let walk = desk.run("usr/bin/collect-logs", &[], "");
    assert_eq!(walk.code, Some(0), "{}", walk.said);
    let path = walk
        .said
        .lines()
        .find(|line| line.ends_with(".tar.zst"))
        .unwrap();
    assert!(path.contains("/tmp/logs-AB_12___-20"), "{path}");
    let files = archived(Path::new(path));
    assert_eq!(files["kernel.txt"], "kernel messages\n");
    assert_eq!(files["pstore-dmesg-efi-1"], "Oops");
    assert_eq!(files["smart-sda.txt"], "no answer\n");
    assert!(files["failed.txt"].contains("smartctl -x /dev/sdb"));
    assert!(files.contains_key("ethernet-eth0.txt"));
    // Nothing but the archive stays behind.
    assert_eq!(fs::read_dir(desk.path("tmp")).unwrap().count(), 1);
}

#[test]
fn logs_of_an_installed_system_come_without_what_its_links_lead_to() {
    let desk = Desk::new();
    desk.file("win/Windows/System32/winevt/Logs/System.evtx", "events");
    desk.file("win/Windows/System32/config/SAM", "secret");
    desk.file("win/var/log/a file", "text");
    desk.file("outside/passwords", "secret");
    std::os::unix::fs::symlink(desk.path("outside"), desk.path("win/var/log/link")).unwrap();
    std::os::unix::fs::symlink(
        desk.path("outside/passwords"),
        desk.path("win/var/log/another"),
    )
    .unwrap();
    let from = desk.path("win").display().to_string();
    let walk = desk.run("usr/bin/collect-logs", &["--from", &from], "");
    let path = walk
        .said
        .lines()
        .find(|line| line.ends_with(".tar.zst"))
        .unwrap();
    let files = archived(Path::new(path));
    let installed: Vec<&str> = files
        .keys()
        .filter_map(|name| name.strip_prefix("installed/"))
        .collect();
    assert_eq!(
        installed,
        ["Windows/System32/winevt/Logs/System.evtx", "var/log/a file"]
    );
    assert!(files.values().all(|text| !text.contains("secret")));
}

#[test]
fn logs_that_do_not_fit_into_memory_are_refused() {
    let desk = Desk::new();
    desk.file("win/var/log/big", &"x".repeat(100_000));
    desk.file("proc/meminfo", "MemAvailable: 150 kB\n");
    let from = desk.path("win").display().to_string();
    let walk = desk.run("usr/bin/collect-logs", &["--from", &from], "");
    assert_eq!(walk.code, Some(1));
    assert!(
        walk.said.contains("more than memory has room for"),
        "{}",
        walk.said
    );
    assert_eq!(fs::read_dir(desk.path("tmp")).unwrap().count(), 0);
}

#[test]
fn an_archive_is_sent_or_saved_where_it_may_go() {
    let desk = Desk::new();
    desk.file("tmp/logs.tar.zst", "archive");
    let archive = desk.path("tmp/logs.tar.zst").display().to_string();
    let run = |more: &[&str]| {
        let arguments = [&["--archive", archive.as_str()], more].concat();
        desk.run("usr/bin/collect-logs", &arguments, "")
    };
    let walk = run(&["--upload", "https://logs.example/in/"]);
    assert_eq!(walk.code, Some(0), "{}", walk.said);
    assert!(
        walk.ran.contains(&format!("--upload-file {archive}")),
        "{}",
        walk.ran
    );
    for bad in ["file:///etc/passwd", "-o/etc/passwd", ""] {
        let walk = run(&["--upload", bad]);
        assert_eq!((walk.code, walk.ran.as_str()), (Some(1), ""), "{bad}");
    }
    let walk = run(&["--save", "/dev/sda2"]);
    assert_eq!(walk.code, Some(0), "{}", walk.said);
    assert!(
        walk.ran.starts_with("mount -t ntfs-3g /dev/sda2 "),
        "{}",
        walk.ran
    );
    assert!(
        walk.ran.lines().last().unwrap().starts_with("umount "),
        "{}",
        walk.ran
    );
    assert!(desk.path("run/sparetire/save/logs.tar.zst").exists());
    desk.tool("mount", "exit 32");
    assert_eq!(run(&["--save", "/dev/sda2"]).code, Some(1));
    assert_eq!(run(&[]).code, Some(2));
    assert_eq!(run(&["--sing"]).code, Some(2));
}
