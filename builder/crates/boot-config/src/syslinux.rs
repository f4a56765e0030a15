//! What does an isolinux, syslinux or extlinux configuration say?
//!
//! The language is described in syslinux' doc/syslinux.txt and doc/menu.txt: one directive a line,
//! keywords in any case. Read: DEFAULT, ONTIMEOUT, LABEL, KERNEL, LINUX, INITRD, APPEND, INCLUDE,
//! CONFIG, TEXT HELP, and of MENU: LABEL, DEFAULT, INCLUDE. Three COM32 programs are understood as
//! the choice they make (`ifcpu64.c32`, `whichsys.c32`, and the menu programs given another
//! configuration); everything else that is not Linux is passed over.

use crate::cmdline;
use crate::discover::{Entry, MAX_DEPTH, MAX_ENTRIES, Reader, capped};
use crate::files::{parent, resolve};

/// Entries of the configuration at `path`, with what it includes.
pub(crate) fn read(reader: &mut Reader<'_>, path: &str) -> Vec<Entry> {
    let mut parser = Parser {
        reader,
        directory: parent(path).to_owned(),
        stack: Vec::new(),
        labels: Vec::new(),
        in_label: false,
        append: String::new(),
        default: None,
        on_timeout: None,
    };
    parser.file(path);
    parser.follow_menus();
    parser.entries(path)
}

struct Parser<'r, 'f> {
    reader: &'r mut Reader<'f>,
    /// What relative paths start from: where the first configuration is, for all of them.
    directory: String,
    stack: Vec<String>,
    labels: Vec<Label>,
    /// Whether directives belong to the last label or stand before any.
    in_label: bool,
    /// APPEND before any label: for labels without one.
    append: String,
    default: Option<String>,
    on_timeout: Option<String>,
}

#[derive(Default)]
struct Label {
    name: String,
    title: Option<String>,
    kernel: Option<String>,
    initrd: Option<String>,
    append: Option<String>,
    /// CONFIG: another configuration takes over.
    config: Option<String>,
    /// The label that the configuration it leads to would start.
    leads_to: Option<usize>,
    menu_default: bool,
    line: usize,
    source: String,
}

impl Parser<'_, '_> {
    fn file(&mut self, path: &str) {
        if self.stack.len() >= MAX_DEPTH || self.stack.iter().any(|open| open == path) {
            let from = self.stack.last().cloned().unwrap_or_default();
            self.reader.problem(
                &from,
                None,
                format!("{path} is included in a circle or too deep"),
            );
            return;
        }
        let Some(text) = self.reader.text(path) else {
            return;
        };
        self.stack.push(path.to_owned());
        let mut help = false;
        for (index, line) in text.lines().enumerate() {
            let (keyword, rest) = split(line);
            let keyword = keyword.to_ascii_lowercase();
            if help {
                help = keyword != "endtext";
            } else if keyword == "text" {
                help = split(rest).0.eq_ignore_ascii_case("help");
            } else {
                self.directive(&keyword, rest, path, index + 1);
            }
        }
        self.stack.pop();
    }

    fn directive(&mut self, keyword: &str, rest: &str, source: &str, line: usize) {
        match keyword {
            "label" => {
                if self.labels.len() >= MAX_ENTRIES {
                    self.reader.problem(
                        source,
                        Some(line),
                        format!("more than {MAX_ENTRIES} labels"),
                    );
                    self.in_label = false;
                    return;
                }
                self.in_label = true;
                self.labels.push(Label {
                    name: rest.to_owned(),
                    line,
                    source: source.to_owned(),
                    ..Label::default()
                });
            }
            "default" if self.default.is_none() && !is_com32(rest) => {
                self.default = Some(rest.to_owned());
            }
            "ontimeout" => self.on_timeout = Some(rest.to_owned()),
            "include" => self.include(rest),
            "menu" => self.menu(rest),
            "append" => {
                // A lone hyphen means: not even the one that stands before all labels.
                let append = if rest == "-" { "" } else { rest }.to_owned();
                match self.label() {
                    Some(label) => label.append = Some(append),
                    None => self.append = append,
                }
            }
            "kernel" | "linux" | "com32" => {
                if let Some(label) = self.label() {
                    label.kernel = Some(rest.to_owned());
                }
            }
            "initrd" => {
                if let Some(label) = self.label() {
                    label.initrd = Some(rest.to_owned());
                }
            }
            "config" => {
                if let Some(label) = self.label() {
                    label.config = Some(split(rest).0.to_owned());
                }
            }
            _ => {}
        }
    }

    fn menu(&mut self, rest: &str) {
        let (keyword, rest) = split(rest);
        match keyword.to_ascii_lowercase().as_str() {
            "label" => {
                // The caret marks the hot key.
                let title = rest.replacen('^', "", 1);
                if let Some(label) = self.label() {
                    label.title = Some(title);
                }
            }
            "default" => {
                if let Some(label) = self.label() {
                    label.menu_default = true;
                }
            }
            // The second word would put it into a submenu; here all are one list.
            "include" => self.include(split(rest).0),
            // Their MENU LABEL is the submenu's, not an entry's.
            "begin" | "end" => self.in_label = false,
            _ => {}
        }
    }

    fn label(&mut self) -> Option<&mut Label> {
        self.labels.last_mut().filter(|_| self.in_label)
    }

    fn include(&mut self, path: &str) {
        let from = self.stack.last().cloned().unwrap_or_default();
        let path = self.find(path, &from);
        self.file(&path);
    }

    /// Where `path` leads: from the working directory, as syslinux does, or else from the file
    /// that names it, as some configurations expect.
    fn find(&self, path: &str, from: &str) -> String {
        let first = resolve(&self.directory, path);
        if self.reader.files.is_file(&first) {
            return first;
        }
        [resolve(parent(from), path), resolve("/", path)]
            .into_iter()
            .find(|path| self.reader.files.is_file(path))
            .unwrap_or(first)
    }

    /// Reads the configurations that labels lead to, as CONFIG or through a menu program.
    fn follow_menus(&mut self) {
        let mut at = 0;
        while let Some(label) = self.labels.get(at) {
            let program = label.kernel.as_deref().map(file_name).unwrap_or_default();
            let target = match (&label.config, program.as_str()) {
                (Some(config), _) => Some(config.clone()),
                (None, "menu.c32" | "vesamenu.c32" | "config.c32") => label
                    .append
                    .as_deref()
                    .map(|append| split(append).0.to_owned()),
                _ => None,
            };
            // `~` is the menu's own file.
            if let Some(target) = target.filter(|target| !target.is_empty() && target != "~") {
                let source = label.source.clone();
                let path = self.find(&target, &source);
                if !self.labels.iter().any(|label| label.source == path) {
                    let leads_to = self.other(&path, source);
                    if let Some(label) = self.labels.get_mut(at) {
                        label.leads_to = leads_to;
                    }
                }
            }
            at += 1;
        }
    }

    /// Reads a configuration that takes over, and says which of its labels starts by itself.
    fn other(&mut self, path: &str, from: String) -> Option<usize> {
        let before = self.labels.len();
        let default = self.default.take();
        self.stack.push(from);
        self.file(path);
        self.stack.pop();
        let inner = std::mem::replace(&mut self.default, default);
        let mut new = (before..self.labels.len()).filter(|index| {
            self.labels
                .get(*index)
                .is_some_and(|label| label.menu_default)
        });
        new.next()
            .or_else(|| self.named(inner.as_deref()?))
            .or_else(|| (before < self.labels.len()).then_some(before))
    }

    fn entries(&mut self, path: &str) -> Vec<Entry> {
        let chosen = self.chosen();
        let mut entries = Vec::new();
        for (index, label) in self.labels.iter().enumerate() {
            let Some(kernel) = label.kernel.as_deref().filter(|kernel| !kernel.is_empty()) else {
                continue;
            };
            if is_com32(kernel) || !is_linux(kernel) {
                continue;
            }
            let append = label.append.as_deref().unwrap_or(&self.append);
            let mut initrd = Vec::new();
            let mut rest = Vec::new();
            for word in cmdline::words(append) {
                match word.strip_prefix("initrd=") {
                    Some(paths) => initrd = self.paths(paths, &label.source),
                    None => rest.push(word),
                }
            }
            if let Some(paths) = &label.initrd {
                initrd = self.paths(paths, &label.source);
            }
            let title = label.title.clone().unwrap_or_else(|| label.name.clone());
            entries.push(Entry {
                title: capped(title.trim().to_owned()),
                kernel: self.find(split(kernel).0, &label.source),
                initrd,
                cmdline: capped(rest.join(" ")),
                source: label.source.clone(),
                default: chosen == Some(index),
            });
        }
        if entries.is_empty() && !self.labels.is_empty() {
            let line = self.labels.first().map(|label| label.line);
            self.reader.problem(path, line, "no label starts Linux");
        }
        entries
    }

    fn paths(&self, list: &str, from: &str) -> Vec<String> {
        list.split([',', ' ', '\t'])
            .filter(|path| !path.is_empty())
            .map(|path| self.find(path, from))
            .collect()
    }

    /// The label that starts by itself: the one marked in the menu, else DEFAULT, else ONTIMEOUT
    /// (which Debian's installer uses for speech), else the first; programs that choose are
    /// followed.
    fn chosen(&self) -> Option<usize> {
        let mut at = self
            .labels
            .iter()
            .position(|label| label.menu_default)
            .or_else(|| self.named(self.default.as_deref()?))
            .or_else(|| self.named(self.on_timeout.as_deref()?))
            .or_else(|| self.labels.iter().position(|label| label.kernel.is_some()))?;
        for _ in 0..MAX_DEPTH {
            let label = self.labels.get(at)?;
            let program = file_name(label.kernel.as_deref().unwrap_or_default());
            let append = label.append.as_deref().unwrap_or_default();
            let target = match program.as_str() {
                // `ifcpu64.c32 64BIT -- 32BIT`
                "ifcpu64.c32" | "ifcpu.c32" => append
                    .split_ascii_whitespace()
                    .find(|word| !word.starts_with('-') && self.named(word).is_some()),
                // `whichsys.c32 -pxe- A -sys- B -iso- C`
                "whichsys.c32" => append
                    .split_once("-iso-")
                    .and_then(|(_, rest)| rest.split_ascii_whitespace().next()),
                _ => None,
            };
            match target.and_then(|name| self.named(name)).or(label.leads_to) {
                Some(next) => at = next,
                None => break,
            }
        }
        Some(at)
    }

    /// Looks up a label; what follows the first word would be added to its command line.
    fn named(&self, name: &str) -> Option<usize> {
        let find = |name: &str| {
            self.labels
                .iter()
                .position(|label| label.name.eq_ignore_ascii_case(name))
        };
        find(name).or_else(|| find(split(name).0))
    }
}

/// The first word and the rest.
fn split(line: &str) -> (&str, &str) {
    let line = line.trim();
    line.split_once(|c: char| c.is_ascii_whitespace())
        .map_or((line, ""), |(word, rest)| (word, rest.trim()))
}

fn file_name(path: &str) -> String {
    let path = split(path).0;
    path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase()
}

fn is_com32(path: &str) -> bool {
    let name = file_name(path);
    name.ends_with(".c32") || name.ends_with(".com")
}

/// Whether syslinux would start this as a Linux kernel, going by the extension as it does.
fn is_linux(path: &str) -> bool {
    let name = file_name(path);
    ![".0", ".bin", ".bs", ".bss", ".cbt", ".img", ".efi"]
        .iter()
        .any(|extension| name.ends_with(extension))
        // memtest86+ is a Linux-format kernel with that extension; its users name it so.
        || name.starts_with("memtest")
}
