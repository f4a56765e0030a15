//! `recipe.toml`, whose words become arguments of mmdebstrap and lines of boot configurations.
#![no_main]

use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use sparetire_builder::recipe::{self, Make};

fuzz_target!(|text: &str| {
    let Ok(spec) = recipe::parse(text) else {
        return;
    };
    let (words, paths, lines): (Vec<&String>, Vec<&PathBuf>, Vec<&String>) = match &spec.make {
        Make::Live(live) => (
            [&live.system.suite, &spec.version]
                .into_iter()
                .chain(&live.system.packages)
                .chain(&live.system.components)
                .collect(),
            live.system
                .hooks
                .iter()
                .chain(&live.system.files)
                .chain([&live.system.kernel, &live.system.initrd])
                .collect(),
            vec![&live.boot.title, &live.boot.cmdline],
        ),
        Make::Netboot(netboot) => (
            [&netboot.suite, &netboot.package, &spec.version]
                .into_iter()
                .chain(&netboot.components)
                .collect(),
            vec![&netboot.kernel, &netboot.initrd],
            vec![&netboot.cmdline],
        ),
    };
    for word in words {
        // mmdebstrap takes lists apart at commas and blanks, and options begin with a dash.
        assert!(
            !word.is_empty() && !word.starts_with('-') && !word.contains([',', ' ', '\n', '\0'])
        );
    }
    for path in paths {
        assert!(path.is_relative() && !path.components().any(|part| part.as_os_str() == ".."));
    }
    for line in lines {
        assert!(!line.contains(['\n', '\r', '"', '\'', '\\', '$', '{', '}']));
    }
});
