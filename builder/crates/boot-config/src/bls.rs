//! What do Boot Loader Specification entries say?
//!
//! Reads type #1 entries (<https://uapi-group.org/specifications/specs/boot_loader_specification/>)
//! as systemd-boot finds them: `loader/entries/*.conf` below the root or `/boot`, and the `default`
//! pattern of `loader/loader.conf`. Entries without `linux` (EFI programs, unified kernel images)
//! are passed over.

use crate::discover::{Entry, Reader, capped};
use crate::files::resolve;

/// Entries below `root`, and the files they are from.
pub(crate) fn read(reader: &mut Reader<'_>, root: &str) -> (Vec<Entry>, Vec<String>) {
    let directory = resolve(root, "loader/entries");
    let names = reader.names(&directory, ".conf");
    if names.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let settings = resolve(root, "loader/loader.conf");
    let default = if reader.files.is_file(&settings) {
        reader.text(&settings).and_then(|text| {
            lines(&text)
                .find(|(key, _)| key.eq_ignore_ascii_case("default"))
                .map(|(_, value)| value.to_lowercase())
        })
    } else {
        None
    };
    let mut entries = Vec::new();
    let mut sources = Vec::new();
    let mut default_found = false;
    for name in names {
        let path = resolve(&directory, &name);
        let Some(text) = reader.text(&path) else {
            continue;
        };
        sources.push(path.clone());
        let Some(mut entry) = parse(&text, root, path) else {
            continue;
        };
        entry.default = !default_found
            && default
                .as_deref()
                .is_some_and(|pattern| matches(pattern, &name.to_lowercase()));
        default_found |= entry.default;
        entries.push(entry);
    }
    // systemd-boot takes the first entry of its order when nothing says otherwise.
    if let (false, Some(first)) = (default_found, entries.first_mut()) {
        first.default = true;
    }
    (entries, sources)
}

fn parse(text: &str, root: &str, source: String) -> Option<Entry> {
    let mut title = None;
    let mut kernel = None;
    let mut initrd = Vec::new();
    let mut options: Vec<&str> = Vec::new();
    for (key, value) in lines(text) {
        match key {
            "title" => title = Some(value.to_owned()),
            "linux" => kernel = Some(value),
            // One file a line by the specification; several occur.
            "initrd" => initrd.extend(value.split_ascii_whitespace()),
            "options" => options.push(value),
            _ => {}
        }
    }
    Some(Entry {
        title: capped(title.unwrap_or_else(|| source.clone())),
        kernel: resolve(root, kernel?),
        initrd: initrd.iter().map(|path| resolve(root, path)).collect(),
        cmdline: capped(options.join(" ")),
        source,
        default: false,
    })
}

/// Key and value of each line; a key alone has an empty value.
fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            line.split_once(|c: char| c.is_ascii_whitespace())
                .map_or((line, ""), |(key, value)| (key, value.trim()))
        })
}

/// Whether `name` (with or without `.conf`) matches a pattern of `*` and `?`.
fn matches(pattern: &str, name: &str) -> bool {
    crate::glob::matches(pattern, name)
        || name
            .strip_suffix(".conf")
            .is_some_and(|stem| crate::glob::matches(pattern, stem))
}
