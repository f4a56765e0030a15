//! The host packages that building and testing need, and why each one is needed.
//!
//! Debian 12 and 13 have all of them. A row may name alternatives, best first, where
//! releases differ.

/// Host packages of one purpose.
pub(crate) struct Group {
    /// What they are for, as `setup` prints it.
    pub(crate) purpose: &'static str,
    /// The packages.
    pub(crate) packages: &'static [Package],
}

/// One need.
pub(crate) struct Package {
    /// Debian package names that satisfy it, best first.
    pub(crate) names: &'static [&'static str],
    /// What breaks without it.
    pub(crate) why: &'static str,
}

const fn need(names: &'static [&'static str], why: &'static str) -> Package {
    Package { names, why }
}

/// Everything `setup` installs.
pub(crate) const GROUPS: &[Group] = &[
    Group {
        purpose: "building Linux and the loader",
        packages: &[
            need(&["gcc"], "compiles the kernel and the loader's C parts"),
            need(&["libc6-dev"], "static C library the loader is linked with"),
            need(&["make"], "runs the kernel's build"),
            need(&["bison"], "parser of the kernel's configuration language"),
            need(&["flex"], "lexer of the same"),
            need(&["bc"], "computes constants in the kernel's build"),
            need(
                &["libelf-dev"],
                "objtool, which checks the kernel's object files",
            ),
            need(&["libssl-dev"], "host tools of the kernel's build"),
            need(
                &["cpio"],
                "packs the kernel's own initramfs, and the tests' ones",
            ),
            need(&["xz-utils"], "compresses the kernel; unpacks its source"),
            need(&["zstd"], "an independent reader of the store's chunks"),
            need(&["kmod"], "the kernel's build asks for depmod"),
            need(&["perl"], "scripts in the kernel's build"),
            need(&["rsync"], "header export in the kernel's build"),
            need(
                &["python3"],
                "rebuilds an image from the store without our code",
            ),
        ],
    },
    Group {
        purpose: "boot loaders that go into images",
        packages: &[
            need(&["isolinux"], "BIOS boot of the stage-one ISO"),
            need(&["syslinux-common"], "modules ISOLINUX loads"),
            need(&["systemd-boot-efi"], "EFI stub of unified kernel images"),
            need(
                &["grub-pc-bin"],
                "grub-mkrescue for BIOS, measured beside ours",
            ),
            need(
                &["grub-efi-amd64-bin"],
                "grub-mkrescue for UEFI, measured beside ours",
            ),
            need(&["grub-common"], "grub-mkrescue itself"),
            need(&["ipxe"], "ipxe.iso, measured beside ours"),
        ],
    },
    Group {
        purpose: "building live images",
        packages: &[
            need(
                &["mmdebstrap"],
                "installs Debian packages into a directory without root",
            ),
            need(&["uidmap"], "user namespaces for mmdebstrap without root"),
            need(&["squashfs-tools"], "root file system of live images"),
            need(
                &["xorriso"],
                "writes live ISOs; reads ours as an outside witness",
            ),
            need(&["mtools"], "fills FAT images without mounting them"),
            need(&["dosfstools"], "makes and checks FAT images"),
        ],
    },
    Group {
        purpose: "packaging",
        packages: &[
            need(
                &["dpkg-dev"],
                "dpkg-shlibdeps, which libraries the program needs",
            ),
            need(&["systemd"], "systemd-analyze, which checks the service"),
        ],
    },
    Group {
        purpose: "testing",
        packages: &[
            need(&["qemu-system-x86"], "the virtual PC"),
            need(&["seabios"], "its BIOS"),
            need(&["ovmf"], "its UEFI firmware"),
            need(
                &["nbdkit"],
                "the CD drive: throttles and logs what firmware and boot loader read",
            ),
            need(
                &["busybox-static"],
                "user space of the tests' second system",
            ),
            need(
                &[
                    "debian-installer-13-netboot-amd64",
                    "debian-installer-12-netboot-amd64",
                ],
                "a stock kernel for the tests' second system",
            ),
            need(
                &["g++"],
                "libFuzzer, which the fuzz targets are linked with",
            ),
            need(&["genisoimage"], "isoinfo, an outside reader of ISO images"),
            need(&["minisign"], "an outside verifier of our signatures"),
            need(
                &["nginx-light", "nginx"],
                "a web server that is not ours, serving a store",
            ),
            need(&["curl"], "an HTTP client that is not ours"),
            need(&["amtterm"], "a serial-over-LAN client that is not ours"),
            need(&["gdisk"], "sgdisk, an outside checker of partition tables"),
            need(
                &["grub-rescue-pc"],
                "an ISO image that is not ours, read by ours",
            ),
            need(&["openssl"], "certificates for tests of HTTPS"),
            need(
                &["openssh-client"],
                "logs in to the diagnostic system, and fetches from it",
            ),
            need(&["ntfs-3g"], "mkntfs, a disk for the diagnostic system"),
            need(&["exfatprogs"], "mkfs.exfat, another one"),
            need(&["e2fsprogs"], "mke2fs, one with files on it"),
            need(&["shellcheck"], "reads the diagnostic system's scripts"),
        ],
    },
];

/// What only the benches need: peers that ours are measured beside. Installed when one of
/// them runs, so that set-up and tests stay as light as they are.
pub(crate) const BENCH_GROUPS: &[Group] = &[Group {
    purpose: "measuring",
    packages: &[
        need(
            &["aria2"],
            "a download program with many connections, measured beside ours",
        ),
        need(
            &["curl"],
            "a download program with one connection, measured beside ours",
        ),
        need(
            &["nginx-light", "nginx"],
            "a web server, measured beside ours and serving all download programs",
        ),
        need(
            &["casync"],
            "cuts files into content-defined chunks, measured beside ours",
        ),
        need(&["wrk"], "asks web servers for as much as they can give"),
        need(&["iproute2"], "network namespaces, links, cut connections"),
        need(&["wimtools"], "makes the boot.wim that `bench delta` edits"),
        need(&["e2fsprogs"], "makes and edits the disk image of the same"),
    ],
}];

/// The names to install for `groups`: for each unmet need, its first name that `known` has.
/// `Err` carries the needs nothing is known for.
pub(crate) fn missing(
    groups: &'static [Group],
    installed: impl Fn(&str) -> bool,
    known: impl Fn(&str) -> bool,
) -> Result<Vec<&'static str>, Vec<&'static Package>> {
    let unmet = groups
        .iter()
        .flat_map(|group| group.packages)
        .filter(|package| !package.names.iter().any(|name| installed(name)));
    let (mut install, mut unknown) = (Vec::new(), Vec::new());
    for package in unmet {
        match package.names.iter().find(|name| known(name)) {
            Some(name) => install.push(*name),
            None => unknown.push(package),
        }
    }
    if unknown.is_empty() {
        Ok(install)
    } else {
        Err(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_missing_when_one_name_of_each_row_is_installed() {
        let installed = |name: &str| !name.starts_with("debian-installer-13");
        assert_eq!(missing(GROUPS, installed, |_| true).ok(), Some(Vec::new()));
    }

    #[test]
    fn the_first_known_alternative_is_chosen() {
        let installed = |name: &str| !name.starts_with("debian-installer");
        let bookworm = missing(GROUPS, installed, |name| !name.contains("-13-"))
            .ok()
            .unwrap();
        assert_eq!(bookworm, ["debian-installer-12-netboot-amd64"]);
        let trixie = missing(GROUPS, installed, |name| !name.contains("-12-"))
            .ok()
            .unwrap();
        assert_eq!(trixie, ["debian-installer-13-netboot-amd64"]);
    }

    #[test]
    fn a_need_that_no_known_package_meets_is_reported() {
        let unknown = missing(GROUPS, |name| name != "ovmf", |_| false)
            .err()
            .unwrap();
        assert_eq!(
            unknown
                .iter()
                .map(|package| package.names[0])
                .collect::<Vec<_>>(),
            ["ovmf"]
        );
    }

    #[test]
    fn no_package_is_listed_twice() {
        let mut names: Vec<&str> = GROUPS
            .iter()
            .flat_map(|group| group.packages)
            .flat_map(|package| package.names)
            .copied()
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn every_name_could_be_given_to_apt_as_it_is() {
        for name in GROUPS
            .iter()
            .flat_map(|group| group.packages)
            .flat_map(|package| package.names)
        {
            assert!(
                name.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b)),
                "{name}"
            );
        }
    }
}
