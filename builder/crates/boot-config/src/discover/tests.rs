//! What is found on ISOs arranged as the distributions arrange theirs. The configurations are
//! written for these tests; only file names and parameters are the distributions'.

use super::*;
use crate::files::tests::Tree;
use crate::{MAX_READS, medium_of};
use proptest::prelude::*;
use sparetire_manifest::Medium;

/// Title, kernel, initrd, command line, whether it is the default.
type Row<'a> = (&'a str, &'a str, &'a [&'a str], &'a str, bool);

#[track_caller]
fn expect(tree: &Tree, rows: &[Row<'_>]) -> Discovered {
    let found = discover(tree).unwrap();
    let got: Vec<_> = found
        .entries
        .iter()
        .map(|entry| {
            (
                entry.title.as_str(),
                entry.kernel.as_str(),
                entry.initrd.iter().map(String::as_str).collect::<Vec<_>>(),
                entry.cmdline.as_str(),
                entry.default,
            )
        })
        .collect();
    let wanted: Vec<_> = rows
        .iter()
        .map(|(title, kernel, initrd, cmdline, default)| {
            (*title, *kernel, initrd.to_vec(), *cmdline, *default)
        })
        .collect();
    assert_eq!(got, wanted);
    found
}

#[test]
fn debian_live_menus_are_spread_over_includes() {
    let tree = Tree::new(&[
        (
            "/isolinux/isolinux.cfg",
            "include menu.cfg\ndefault vesamenu.c32\nprompt 0\ntimeout 0\n",
        ),
        (
            "/isolinux/menu.cfg",
            "menu hshift 0\nmenu title Boot menu\ninclude stdmenu.cfg\ninclude live.cfg\n\
             include install.cfg\n",
        ),
        ("/isolinux/stdmenu.cfg", "menu color title * #FFFFFFFF *\n"),
        (
            "/isolinux/live.cfg",
            "label live-amd64\n\tmenu label ^Live system (amd64)\n\tmenu default\n\
             \tlinux /live/vmlinuz-6.1.0-56-amd64\n\tinitrd /live/initrd.img-6.1.0-56-amd64\n\
             \tappend boot=live components quiet splash findiso=${iso_path}\n\n\
             label live-amd64-failsafe\n\tmenu label Live system (fail-safe mode)\n\
             \tlinux /live/vmlinuz-6.1.0-56-amd64\n\tinitrd /live/initrd.img-6.1.0-56-amd64\n\
             \tappend boot=live components memtest noapic noapm nodma nomce nosmp nosplash\n",
        ),
        (
            "/isolinux/install.cfg",
            "label installstart\n\tmenu label Start ^installer\n\tlinux /install/gtk/vmlinuz\n\
             \tinitrd /install/gtk/initrd.gz\n\tappend vga=788 --- quiet\n",
        ),
    ]);
    let found = expect(
        &tree,
        &[
            (
                "Live system (amd64)",
                "/live/vmlinuz-6.1.0-56-amd64",
                &["/live/initrd.img-6.1.0-56-amd64"],
                "boot=live components quiet splash findiso=${iso_path}",
                true,
            ),
            (
                "Live system (fail-safe mode)",
                "/live/vmlinuz-6.1.0-56-amd64",
                &["/live/initrd.img-6.1.0-56-amd64"],
                "boot=live components memtest noapic noapm nodma nomce nosmp nosplash",
                false,
            ),
            (
                "Start installer",
                "/install/gtk/vmlinuz",
                &["/install/gtk/initrd.gz"],
                "vga=788 --- quiet",
                false,
            ),
        ],
    );
    assert_eq!(found.problems, []);
    assert_eq!(medium_of(&found.entries[0], &tree), Medium::LiveBoot);
    assert_eq!(medium_of(&found.entries[2], &tree), Medium::None);
    assert_eq!(found.entries[0].source, "/isolinux/live.cfg");
}

#[test]
fn ubuntu_has_grub_alone_and_names_no_family() {
    let tree = Tree::new(&[
        (
            "/boot/grub/grub.cfg",
            "set timeout=30\n\nloadfont unicode\n\nset menu_color_normal=white/black\n\n\
             menuentry \"Try or Install Ubuntu\" {\n\tset gfxpayload=keep\n\
             \tlinux\t/casper/vmlinuz  --- quiet splash\n\tinitrd\t/casper/initrd\n}\n\
             menuentry \"Ubuntu (safe graphics)\" {\n\tset gfxpayload=keep\n\
             \tlinux\t/casper/vmlinuz nomodeset  --- quiet splash\n\tinitrd\t/casper/initrd\n}\n\
             grub_platform\nif [ \"$grub_platform\" = \"efi\" ]; then\n\
             menuentry 'Boot from next volume' {\n\texit 1\n}\nmenuentry 'UEFI Firmware Settings' {\n\
             \tfwsetup\n}\nelse\nmenuentry 'Test memory' {\n\tlinux16 /boot/memtest86+x64.bin\n}\nfi\n",
        ),
        (
            "/boot/grub/loopback.cfg",
            "menuentry \"Try or Install Ubuntu\" {\n\tset gfxpayload=keep\n\
             \tlinux\t/casper/vmlinuz  iso-scan/filename=${iso_path} --- quiet splash\n\
             \tinitrd\t/casper/initrd\n}\n",
        ),
    ])
    .with(&["/casper/minimal.squashfs", "/casper/vmlinuz", "/casper/initrd"]);
    let found = expect(
        &tree,
        &[
            (
                "Try or Install Ubuntu",
                "/casper/vmlinuz",
                &["/casper/initrd"],
                "--- quiet splash",
                true,
            ),
            (
                "Ubuntu (safe graphics)",
                "/casper/vmlinuz",
                &["/casper/initrd"],
                "nomodeset --- quiet splash",
                false,
            ),
            ("Test memory", "/boot/memtest86+x64.bin", &[], "", false),
            (
                "Try or Install Ubuntu",
                "/casper/vmlinuz",
                &["/casper/initrd"],
                "iso-scan/filename=/sparetire.iso --- quiet splash",
                true,
            ),
        ],
    );
    assert_eq!(medium_of(&found.entries[0], &tree), Medium::Casper);
}

#[test]
fn fedora_puts_troubleshooting_into_a_submenu() {
    let tree = Tree::new(&[(
        "/boot/grub2/grub.cfg",
        "set default=\"1\"\n\nfunction load_video {\n  insmod all_video\n}\n\nload_video\n\
         set gfxpayload=keep\n\nsearch --no-floppy --set=root -l 'Fedora-WS-Live-41-1-4'\n\n\
         menuentry 'Start Fedora-Workstation-Live 41' --class fedora --class gnu-linux {\n\
         \tlinux ($root)/images/pxeboot/vmlinuz root=live:CDLABEL=Fedora-WS-Live-41-1-4 \\\n\
         \t\trd.live.image quiet rhgb\n\tinitrd ($root)/images/pxeboot/initrd.img\n}\n\
         menuentry 'Test this media & start Fedora' {\n\
         \tlinux ($root)/images/pxeboot/vmlinuz root=live:CDLABEL=Fedora-WS-Live-41-1-4 \
         rd.live.image rd.live.check quiet\n\tinitrd ($root)/images/pxeboot/initrd.img\n}\n\
         submenu 'Troubleshooting -->' {\n\tmenuentry 'Basic graphics mode' {\n\
         \t\tlinux ($root)/images/pxeboot/vmlinuz root=live:CDLABEL=Fedora-WS-Live-41-1-4 \
         rd.live.image nomodeset\n\t\tinitrd ($root)/images/pxeboot/initrd.img\n\t}\n}\n",
    )]);
    let kernel = "/images/pxeboot/vmlinuz";
    let initrd: &[&str] = &["/images/pxeboot/initrd.img"];
    let root = "root=live:CDLABEL=Fedora-WS-Live-41-1-4 rd.live.image";
    let found = expect(
        &tree,
        &[
            (
                "Start Fedora-Workstation-Live 41",
                kernel,
                initrd,
                &format!("{root} quiet rhgb"),
                false,
            ),
            (
                "Test this media & start Fedora",
                kernel,
                initrd,
                &format!("{root} rd.live.check quiet"),
                true,
            ),
            (
                "Troubleshooting --> > Basic graphics mode",
                kernel,
                initrd,
                &format!("{root} nomodeset"),
                false,
            ),
        ],
    );
    assert_eq!(medium_of(&found.entries[0], &tree), Medium::Dracut);
}

#[test]
fn arch_describes_itself_to_syslinux_and_systemd_boot() {
    let tree = Tree::new(&[
        (
            "/boot/syslinux/syslinux.cfg",
            "DEFAULT select\n\nLABEL select\nCOM32 whichsys.c32\n\
             APPEND -pxe- pxe -sys- sys -iso- sys\n\nLABEL pxe\nCONFIG archiso_pxe.cfg\n\n\
             LABEL sys\nCONFIG archiso_sys.cfg\n",
        ),
        (
            "/boot/syslinux/archiso_sys.cfg",
            "INCLUDE archiso_head.cfg\n\nDEFAULT arch\nTIMEOUT 150\n\nINCLUDE archiso_sys-linux.cfg\n",
        ),
        (
            "/boot/syslinux/archiso_head.cfg",
            "UI vesamenu.c32\nMENU TITLE Arch Linux\n",
        ),
        (
            "/boot/syslinux/archiso_sys-linux.cfg",
            "LABEL arch\nTEXT HELP\nBoot the Arch Linux install medium.\nLABEL is not read here\n\
             ENDTEXT\nMENU LABEL Arch Linux install medium (x86_64, BIOS)\n\
             LINUX /arch/boot/x86_64/vmlinuz-linux\n\
             INITRD /arch/boot/intel-ucode.img,/arch/boot/x86_64/initramfs-linux.img\n\
             APPEND archisobasedir=arch archisosearchuuid=2026-11-01-09-00-00-00\n",
        ),
        (
            "/loader/entries/02-archiso-speech.conf",
            "title    Arch Linux with speech\nsort-key 02\nlinux /arch/boot/x86_64/vmlinuz-linux\n\
             initrd   /arch/boot/x86_64/initramfs-linux.img\n\
             options  archisobasedir=arch archisosearchuuid=2026-11-01-09-00-00-00\n\
             options  accessibility=on\n",
        ),
        (
            "/loader/entries/01-archiso-linux.conf",
            "# comment\ntitle    Arch Linux\nlinux /arch/boot/x86_64/vmlinuz-linux\n\
             initrd   /arch/boot/intel-ucode.img\ninitrd /arch/boot/x86_64/initramfs-linux.img\n\
             options  archisobasedir=arch\n",
        ),
        (
            "/loader/entries/03-shell.conf",
            "title EFI shell\nefi /shellx64.efi\n",
        ),
        ("/loader/loader.conf", "timeout 15\ndefault 02-*\n"),
    ]);
    let kernel = "/arch/boot/x86_64/vmlinuz-linux";
    let both: &[&str] = &[
        "/arch/boot/intel-ucode.img",
        "/arch/boot/x86_64/initramfs-linux.img",
    ];
    let found = expect(
        &tree,
        &[
            (
                "Arch Linux install medium (x86_64, BIOS)",
                kernel,
                both,
                "archisobasedir=arch archisosearchuuid=2026-11-01-09-00-00-00",
                true,
            ),
            ("Arch Linux", kernel, both, "archisobasedir=arch", false),
            (
                "Arch Linux with speech",
                kernel,
                &both[1..],
                "archisobasedir=arch archisosearchuuid=2026-11-01-09-00-00-00 accessibility=on",
                true,
            ),
        ],
    );
    assert_eq!(medium_of(&found.entries[0], &tree), Medium::Archiso);
}

#[test]
fn systemrescue_marks_its_default_in_the_menu() {
    let tree = Tree::new(&[
        (
            "/isolinux/isolinux.cfg",
            "CONFIG /sysresccd/boot/syslinux/sysresccd.cfg\nAPPEND /sysresccd/\n",
        ),
        (
            "/boot/syslinux/syslinux.cfg",
            "INCLUDE /sysresccd/boot/syslinux/sysresccd.cfg\n",
        ),
        (
            "/sysresccd/boot/syslinux/sysresccd.cfg",
            "UI vesamenu.c32\nDEFAULT other\nLABEL other\nMENU LABEL Boot existing OS\n\
             COM32 chain.c32\nAPPEND hd0\nLABEL sysresccd\nMENU LABEL Boot SystemRescue\n\
             LINUX boot/x86_64/vmlinuz\nINITRD boot/x86_64/sysresccd.img\n\
             APPEND archisobasedir=sysresccd archisolabel=RESCUE1301 iomem=relaxed\nMENU DEFAULT\n",
        ),
    ])
    .with(&[
        "/sysresccd/boot/syslinux/boot/x86_64/vmlinuz",
        "/boot/x86_64/sysresccd.img",
    ]);
    expect(
        &tree,
        &[(
            "Boot SystemRescue",
            "/sysresccd/boot/syslinux/boot/x86_64/vmlinuz",
            &["/boot/x86_64/sysresccd.img"],
            "archisobasedir=sysresccd archisolabel=RESCUE1301 iomem=relaxed",
            true,
        )],
    );
}

#[test]
fn gparted_live_gives_a_global_append_and_copies_to_ram() {
    let tree = Tree::new(&[(
        "/syslinux/isolinux.cfg",
        "append quiet\ndefault vesamenu.c32\ntimeout 300\nprompt 0\n\
         label GParted Live (Default settings)\n  MENU DEFAULT\n  MENU LABEL GParted ^Live\n\
         \x20 kernel /live/vmlinuz\n\
         \x20 append initrd=/live/initrd.img boot=live union=overlay username=user components \
         toram=filesystem.squashfs\n\
         label plain\n  kernel /live/vmlinuz\n\
         label none\n  kernel /live/vmlinuz\n  append -\n\
         label memtest\n  MENU LABEL ^Memory test\n  kernel /live/memtest\n\
         label local\n  localboot 0\nlabel ipxe\n  kernel ipxe.lkrn\n",
    )]);
    expect(
        &tree,
        &[
            (
                "GParted Live",
                "/live/vmlinuz",
                &["/live/initrd.img"],
                "boot=live union=overlay username=user components toram=filesystem.squashfs",
                true,
            ),
            ("plain", "/live/vmlinuz", &[], "quiet", false),
            ("none", "/live/vmlinuz", &[], "", false),
            ("Memory test", "/live/memtest", &[], "quiet", false),
            ("ipxe", "/syslinux/ipxe.lkrn", &[], "quiet", false),
        ],
    );
}

#[test]
fn a_memory_test_is_an_entry_like_any_other() {
    let tree = Tree::new(&[
        (
            "/isolinux.cfg",
            "DEFAULT memtest\nLABEL memtest\n KERNEL memtest.bin\n",
        ),
        (
            "/EFI/BOOT/grub.cfg",
            "linux /memtest.efi keyboard=legacy\nboot\n",
        ),
    ]);
    expect(
        &tree,
        &[
            ("memtest", "/memtest.bin", &[], "", true),
            (
                "/EFI/BOOT/grub.cfg",
                "/memtest.efi",
                &[],
                "keyboard=legacy",
                true,
            ),
        ],
    );
}

#[test]
fn a_program_that_picks_by_processor_picks_64_bit() {
    let tree = Tree::new(&[(
        "/isolinux/isolinux.cfg",
        "default auto\nlabel auto\n kernel ifcpu64.c32\n append amd64 -- 686\n\
         label 686\n kernel /live/vmlinuz1\nlabel amd64\n kernel /live/vmlinuz2\n",
    )]);
    expect(
        &tree,
        &[
            ("686", "/live/vmlinuz1", &[], "", false),
            ("amd64", "/live/vmlinuz2", &[], "", true),
        ],
    );
}

#[test]
fn names_are_found_in_any_case() {
    let tree = Tree::new(&[
        (
            "/ISOLINUX/ISOLINUX.CFG",
            "Label x\nKernel /LIVE/VMLINUZ\nInclude MORE.CFG\n",
        ),
        ("/isolinux/more.cfg", "Label y\nLinux vmlinuz\n"),
    ])
    .with(&["/isolinux/vmlinuz"]);
    expect(
        &tree,
        &[
            ("x", "/LIVE/VMLINUZ", &[], "", true),
            ("y", "/isolinux/vmlinuz", &[], "", false),
        ],
    );
}

#[test]
fn the_same_entry_in_two_files_is_listed_once() {
    let text = "label live\nkernel /live/vmlinuz\nappend boot=live initrd=/live/initrd\n";
    let tree = Tree::new(&[
        ("/isolinux/isolinux.cfg", text),
        ("/syslinux/syslinux.cfg", text),
    ]);
    assert_eq!(discover(&tree).unwrap().entries.len(), 1);
}

#[test]
fn an_iso_without_configuration_is_told_from_one_without_linux() {
    assert_eq!(
        discover(&Tree::default().with(&["/setup.exe"])),
        Err(DiscoverError::NoConfiguration)
    );
    let tree = Tree::new(&[(
        "/boot/grub/grub.cfg",
        "menuentry 'Windows' {\nchainloader /bootmgr.efi\n}\n",
    )]);
    let error = discover(&tree).unwrap_err();
    assert_eq!(error.to_string(), "no Linux entry in /boot/grub/grub.cfg");
}

#[test]
fn circles_of_includes_end_and_are_reported() {
    let tree = Tree::new(&[
        (
            "/isolinux/isolinux.cfg",
            "include a.cfg\ninclude isolinux.cfg\nlabel x\nkernel /vmlinuz\n",
        ),
        ("/isolinux/a.cfg", "include isolinux.cfg\ninclude a.cfg\n"),
    ]);
    let found = discover(&tree).unwrap();
    assert_eq!(found.entries.len(), 1);
    assert_eq!(found.problems.len(), 3);
    assert_eq!(
        found.problems[0].to_string(),
        "/isolinux/a.cfg: /isolinux/isolinux.cfg is included in a circle or too deep"
    );
}

#[test]
fn includes_that_double_at_each_level_stay_within_the_budget() {
    let files: Vec<(String, String)> = (0..7)
        .map(|level| {
            let line = format!("include {}.cfg\n", level + 1);
            let name = if level == 0 {
                "isolinux".into()
            } else {
                level.to_string()
            };
            (format!("/isolinux/{name}.cfg"), line.repeat(50))
        })
        .collect();
    let files: Vec<_> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let error = discover(&Tree::new(&files)).unwrap_err();
    let DiscoverError::NoEntries { problems, .. } = error else {
        panic!("{error}");
    };
    let budget = format!("not read: {MAX_READS} files were read");
    assert!(problems.iter().any(|problem| problem.what == budget));
}

#[test]
fn a_configuration_that_is_too_large_is_passed_over() {
    let large = "#".repeat(MAX_CONFIG + 1);
    let tree = Tree::new(&[
        ("/isolinux/isolinux.cfg", &large),
        ("/syslinux/syslinux.cfg", "label x\nkernel /vmlinuz\n"),
    ]);
    let found = discover(&tree).unwrap();
    assert_eq!(found.entries.len(), 1);
    assert_eq!(
        found.problems[0].to_string(),
        format!(
            "/isolinux/isolinux.cfg: {} bytes, at most {MAX_CONFIG} are read",
            MAX_CONFIG + 1
        )
    );
}

#[test]
fn entries_and_texts_are_bounded() {
    let label = format!("label x\nkernel /v{}\nappend {}\n", "n", "w ".repeat(4000));
    let many: String = (0..600)
        .map(|n| label.replace("/vn", &format!("/v{n}")))
        .collect();
    let many: String = many.chars().take(MAX_CONFIG).collect();
    let found = discover(&Tree::new(&[("/isolinux/isolinux.cfg", &many)])).unwrap();
    assert!(found.entries.len() <= MAX_ENTRIES);
    assert!(
        found
            .entries
            .iter()
            .all(|entry| entry.cmdline.len() <= MAX_TEXT)
    );
}

/// Lines that make some sense together, so that random files get past the first word.
fn scrap() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("label x\n".to_owned()),
        Just("kernel /vmlinuz\n".to_owned()),
        Just("include a.cfg\n".to_owned()),
        Just("append initrd=/i ${x} \"y\n".to_owned()),
        Just("menu begin\nmenu end\nmenu default\n".to_owned()),
        Just("default x\nontimeout x\n".to_owned()),
        Just("kernel ifcpu64.c32\nappend x -- x\n".to_owned()),
        Just("config a.cfg\n".to_owned()),
        Just("menuentry \"t\" --id t $x {\n".to_owned()),
        Just("submenu 's' {\n".to_owned()),
        Just("linux /v $x \"a b\"\ninitrd /i\n".to_owned()),
        Just("}\n".to_owned()),
        Just("{\n".to_owned()),
        Just("if [ -f /a.cfg ]; then\n".to_owned()),
        Just("elif true\nthen\n".to_owned()),
        Just("else\n".to_owned()),
        Just("fi\n".to_owned()),
        Just("for x in $x a b*\ndo\n".to_owned()),
        Just("while true; do\n".to_owned()),
        Just("done\n".to_owned()),
        Just("function f {\n f $@\n".to_owned()),
        Just("f a b\n".to_owned()),
        Just("set x=\"$x$x y\"\n".to_owned()),
        Just("source /isolinux/a.cfg\nconfigfile $prefix/grub.cfg\n".to_owned()),
        Just("return\n".to_owned()),
        "[ -~\n]{0,40}",
        any::<String>(),
    ]
}

fn script() -> impl Strategy<Value = String> {
    prop::collection::vec(scrap(), 0..40).prop_map(|lines| lines.concat())
}

proptest! {
    #[test]
    fn no_configuration_panics_or_runs_away(
        isolinux in script(), included in script(), grub in script(), entry in script(),
    ) {
        let tree = Tree::new(&[
            ("/isolinux/isolinux.cfg", &isolinux),
            ("/isolinux/a.cfg", &included),
            ("/boot/grub/grub.cfg", &grub),
            ("/boot/grub/loopback.cfg", &included),
            ("/loader/entries/a.conf", &entry),
        ]);
        if let Ok(found) = discover(&tree) {
            prop_assert!(found.entries.len() <= MAX_ENTRIES);
            for entry in &found.entries {
                prop_assert!(entry.kernel.starts_with('/'));
                prop_assert!(!entry.kernel.split('/').any(|part| part == ".."));
                prop_assert!(entry.cmdline.len() <= MAX_TEXT);
                medium_of(entry, &tree);
            }
        }
    }
}
