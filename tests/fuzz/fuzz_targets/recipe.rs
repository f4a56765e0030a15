//! `recipe.toml`, whose words become arguments of mmdebstrap and lines of boot configurations.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sparetire_builder::recipe;

fuzz_target!(|text: &str| {
    let Ok(spec) = recipe::parse(text) else {
        return;
    };
    let words = [&spec.system.suite, &spec.version];
    for word in words
        .into_iter()
        .chain(&spec.system.packages)
        .chain(&spec.system.components)
    {
        // mmdebstrap takes lists apart at commas and blanks, and options begin with a dash.
        assert!(
            !word.is_empty() && !word.starts_with('-') && !word.contains([',', ' ', '\n', '\0'])
        );
    }
    for path in spec
        .system
        .hooks
        .iter()
        .chain(&spec.system.files)
        .chain([&spec.system.kernel, &spec.system.initrd])
    {
        assert!(path.is_relative() && !path.components().any(|part| part.as_os_str() == ".."));
    }
    for line in [&spec.boot.title, &spec.boot.cmdline] {
        assert!(!line.contains(['\n', '\r', '"', '\'', '\\', '$', '{', '}']));
    }
});
