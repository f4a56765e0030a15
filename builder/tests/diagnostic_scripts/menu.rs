//! Walking the menu with typed lines.

use crate::desk::Desk;

const GROUPS: [&str; 9] = [
    "System",
    "Disks",
    "Files and file systems",
    "Memory",
    "Network",
    "Passwords",
    "Malware",
    "Logs",
    "SSH",
];

#[test]
fn every_group_can_be_entered_and_left() {
    let desk = Desk::new();
    for (number, title) in (1..).zip(GROUPS) {
        for back in ["b", "q"] {
            let walk = desk.walk(&format!("{number}\n{back}\nq\n"));
            assert!(walk.said.contains(&format!("\n{title}\n")), "{title}");
            assert_eq!(walk.said.matches("\nMain menu\n").count(), 2, "{title}");
            assert_eq!(walk.code, Some(0));
            assert_eq!(walk.ran, "");
        }
    }
}

#[test]
fn every_question_takes_an_empty_line_as_no() {
    let desk = Desk::new();
    // Each entry of each group, all its questions left empty. What only looks may run.
    let looks = [
        "smartctl -H",
        "smartctl -l",
        "nvme self-test-log",
        "sfdisk --list",
        "sfdisk --dump",
        "dmi",
        "lscpu",
        "lspci",
        "lsusb",
        "dmesg",
        "lsmod",
        "smartctl -x",
        "ethtool",
        "ping",
        "testdisk",
        "photorec",
        "freshclam",
        "umount",
    ];
    for (group, title) in (1..).zip(GROUPS) {
        for entry in 1..=10 {
            let walk = desk.walk(&format!("{group}\n{entry}\n\n\n\n\n\nb\nq\n"));
            for line in walk.ran.lines() {
                assert!(
                    looks.iter().any(|tool| line.starts_with(tool)),
                    "{title} {entry} ran {line}"
                );
            }
            assert_eq!(walk.code, Some(0), "{title} {entry}: {}", walk.said);
        }
    }
}

#[test]
fn the_end_of_input_ends_the_menu_wherever_it_is() {
    let desk = Desk::new();
    let whole = "3\n2\nsda2\n";
    for length in 0..=whole.len() {
        let walk = desk.walk(&whole[..length]);
        assert_eq!(walk.code, Some(0), "{:?}", &whole[..length]);
        assert_eq!(walk.ran, "");
    }
}

#[test]
fn unknown_choices_are_told() {
    let desk = Desk::new();
    for typed in ["0", "99", "x", "$(reboot)", "1; reboot", "-n", "*"] {
        for start in ["", "3\n"] {
            let walk = desk.walk(&format!("{start}{typed}\n"));
            assert!(
                walk.said
                    .contains(&format!("There is no choice '{typed}'.")),
                "{}",
                walk.said
            );
            assert_eq!(walk.ran, "");
        }
    }
}

/// Where to go, and which tool then writes to which device.
const WRITING: [(&str, &str, &str); 4] = [
    ("3\n2\nsda2\n", "sda2", "ntfsfix --clear-dirty /dev/sda2"),
    ("3\n2\n/dev/sda4\n", "sda4", "xfs_repair /dev/sda4"),
    ("3\n4\nsda2\n", "sda2", "mount -t ntfs-3g -o rw /dev/sda2"),
    (
        "2\n8\nsda\nsdb\n",
        "sdb",
        "ddrescue --force --idirect --retry-passes=1 /dev/sda /dev/sdb",
    ),
];

#[test]
fn what_writes_wants_the_devices_name() {
    let desk = Desk::new();
    for (way, name, tool) in WRITING {
        let walk = desk.walk(&format!("{way}{name}\n"));
        assert!(
            walk.ran.contains(tool),
            "{way:?}: {} {}",
            walk.ran,
            walk.said
        );
        for other in [
            "",
            "y",
            "yes",
            "sda",
            "/dev/sda2",
            "SDB",
            "sdb2",
            "sda2 ",
            "*",
        ] {
            if other.trim() == name {
                continue;
            }
            let walk = desk.walk(&format!("{way}{other}\n"));
            assert_eq!(walk.ran, "", "{way:?} {other:?}");
            assert!(walk.said.contains("Nothing was done."), "{}", walk.said);
        }
    }
}

#[test]
fn what_is_mounted_is_neither_repaired_nor_overwritten() {
    let desk = Desk::new();
    for way in [
        "3\n1\nsda1\n",
        "3\n2\nsda1\nsda1\n",
        "2\n8\nsdb\nsda\nsda\n",
    ] {
        let walk = desk.walk(way);
        assert_eq!(walk.ran, "", "{way:?}");
        assert!(
            walk.said.contains("is mounted at /mnt/sda1"),
            "{}",
            walk.said
        );
    }
}

#[test]
fn a_disk_is_copied_neither_to_itself_nor_to_a_smaller_one() {
    let desk = Desk::new();
    desk.tool(
        "blockdev",
        r#"[ "$2" = /dev/sda ] && echo 2000 || echo 1999"#,
    );
    for (way, said) in [
        ("2\n8\nsdb\nsdb\nsdb\n", "same disk"),
        ("2\n8\nsda\nsdb\nsdb\n", "is smaller"),
    ] {
        let walk = desk.walk(way);
        assert_eq!(walk.ran, "");
        assert!(walk.said.contains(said), "{}", walk.said);
    }
}

#[test]
fn only_devices_that_are_listed_are_taken() {
    let desk = Desk::new();
    for name in [
        "sda9",
        "loop0",
        "sr0",
        "../sda2",
        "sda2;reboot",
        "-a",
        "sda 2",
        "sda[12]",
        "$(reboot)",
    ] {
        let walk = desk.walk(&format!("3\n2\n{name}\n{name}\n"));
        assert_eq!(walk.ran, "", "{name}");
        assert!(
            walk.said.contains("There is no device"),
            "{name}: {}",
            walk.said
        );
    }
    // A whole disk is wanted: partitions are none.
    let walk = desk.walk("2\n3\nsda1\n\n");
    assert!(walk.said.contains("There is no disk 'sda1' here."));
    assert_eq!(walk.ran, "");
}

#[test]
fn checks_and_mounts_change_nothing() {
    let desk = Desk::new();
    for (way, tool) in [
        ("3\n1\nsda2\n", "ntfsfix --no-action /dev/sda2\n"),
        ("3\n1\nsda4\n", "xfs_repair -n /dev/sda4\n"),
        ("3\n3\nsda4\n", "mount -t xfs -o ro,norecovery /dev/sda4 "),
        ("3\n3\nsda2\n", "mount -t ntfs-3g -o ro /dev/sda2 "),
    ] {
        let walk = desk.walk(way);
        assert!(walk.ran.starts_with(tool), "{way:?}: {}", walk.ran);
        assert_eq!(walk.ran.lines().count(), 1);
    }
    let walk = desk.walk("3\n3\nsda3\n");
    assert!(walk.said.contains("encrypted"));
    assert_eq!(walk.ran, "");
}

#[test]
fn bitlocker_opens_read_only_unless_its_name_is_typed() {
    let desk = Desk::new();
    let open = "cryptsetup open --type bitlk";
    for (typed, ran) in [
        ("\n", format!("{open} --readonly /dev/sda3 open-sda3\n")),
        ("no\n", format!("{open} --readonly /dev/sda3 open-sda3\n")),
        ("y\nsda3\n", format!("{open} /dev/sda3 open-sda3\n")),
        ("y\nsda\n", String::new()),
    ] {
        assert_eq!(
            desk.walk(&format!("3\n6\nsda3\n{typed}")).ran,
            ran,
            "{typed:?}"
        );
    }
    // Only what the menu opened is closed.
    assert_eq!(
        desk.walk("3\n7\nopen-sda9\n").ran,
        "cryptsetup close open-sda9\n"
    );
    assert_eq!(desk.walk("3\n7\nsda9\n").ran, "");
}

const SAM: &str = "run/sparetire/windows/Windows/System32/Config/SAM";

#[test]
fn an_account_is_changed_after_the_database_was_copied() {
    let desk = Desk::new();
    desk.file(SAM, "accounts");
    let walk = desk.walk("6\n1\nsda2\n01f4\n1\nsda2\n");
    let ran: Vec<&str> = walk.ran.lines().collect();
    assert!(
        ran[0].starts_with("mount -t ntfs-3g -o ro /dev/sda2"),
        "{ran:?}"
    );
    assert!(ran[1].starts_with("chntpw -l"), "{ran:?}");
    assert!(ran[2].starts_with("umount"), "{ran:?}");
    assert!(
        ran[3].starts_with("mount -t ntfs-3g -o rw /dev/sda2"),
        "{ran:?}"
    );
    assert!(ran[4].starts_with("chntpw -u 0x01f4"), "{ran:?}");
    assert!(ran[5].starts_with("umount"), "{ran:?}");
    let beside = desk.path(SAM);
    let copies: Vec<_> = std::fs::read_dir(beside.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| *path != beside)
        .collect();
    assert_eq!(copies.len(), 1);
    assert_eq!(std::fs::read_to_string(&copies[0]).unwrap(), "accounts");
    assert!(walk.said.contains("Done."), "{}", walk.said);
}

#[test]
fn an_account_is_left_alone_without_a_name_or_with_no_rid() {
    let desk = Desk::new();
    desk.file(SAM, "accounts");
    for typed in [
        "01f4\n1\nsda\n",
        "01f4\n1\n\n",
        "01f4\n3\nsda2\n",
        "1; reboot\n",
        "-i\n",
        "\n",
    ] {
        let walk = desk.walk(&format!("6\n1\nsda2\n{typed}"));
        assert!(!walk.ran.contains("rw"), "{typed:?}: {}", walk.ran);
        assert!(!walk.ran.contains("chntpw -u"), "{typed:?}: {}", walk.ran);
        // Whatever was mounted to look is unmounted again.
        assert_eq!(walk.ran.matches("umount").count(), 1, "{typed:?}");
    }
}

#[test]
fn the_memory_test_takes_numbers_that_fit() {
    let desk = Desk::new();
    let walk = desk.walk("4\n2\n100\n\n");
    assert_eq!(walk.ran, "memtester 100M 1\n");
    assert!(walk.said.contains("up to 1464;"), "{}", walk.said);
    for typed in [
        "1465\n",
        "0\n",
        "-1\n",
        "08\n",
        "1e3\n",
        "99999999999999999999\n",
        "100\nx\n",
    ] {
        assert_eq!(desk.walk(&format!("4\n2\n{typed}")).ran, "", "{typed:?}");
    }
    desk.tool("memtester", "exit 4");
    assert!(desk.walk("4\n2\n100\n2\n").said.contains("MEMORY ERRORS"));
}

#[test]
fn only_the_web_is_fetched() {
    let desk = Desk::new();
    for typed in [
        "file:///etc/shadow",
        "-o/etc/passwd",
        "http://x -o y",
        "/etc/shadow",
        "gopher://x/",
    ] {
        assert_eq!(desk.walk(&format!("5\n7\n{typed}\n")).ran, "", "{typed}");
    }
    let walk = desk.walk("5\n7\nhttps://example.org/a?b=$(reboot)\n");
    assert!(
        walk.ran.contains("-- https://example.org/a?b=$(reboot)\n"),
        "{}",
        walk.ran
    );
    assert_eq!(walk.ran.lines().count(), 1);
}

#[test]
fn power_is_two_letters_and_the_state_of_devices_and_ssh_is_shown() {
    let desk = Desk::new();
    assert!(desk.walk("").said.contains("(still looking for devices)"));
    desk.file("run/devices-ready", "");
    desk.file("run/sparetire/ssh/fingerprint", "SHA256:x\n");
    let said = desk.walk("").said;
    assert!(
        !said.contains("still looking")
            && said.contains("SSH: root@192.0.2.7, host key SHA256:x\n")
    );
    for (typed, tool) in [("r", "reboot"), ("p", "poweroff")] {
        // init would end the menu; here nobody does, so the tool fails.
        desk.tool(tool, &format!("echo {tool} >> \"$LOG\"; exit 1"));
        assert_eq!(desk.walk(&format!("{typed}\n")).ran, format!("{tool}\n"));
    }
}
