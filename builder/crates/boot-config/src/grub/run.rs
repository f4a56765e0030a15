//! What does a GRUB script do that leads to a menu?
//!
//! Top-level commands run first, as GRUB does before it shows the menu; then each entry's body, as
//! if it had been chosen, with the variables as the script left them.

use std::collections::BTreeMap;

use super::condition::holds;
use super::lexer::Word;
use super::menu::{Item, Kind, entries};
use super::parser::{Block, Statement, parse};
use super::variables::Variables;
use crate::discover::{Entry, MAX_DEPTH, MAX_ENTRIES, MAX_TEXT, Reader, capped};
use crate::files::{parent, resolve};

/// Which branches of conditions run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Branches {
    /// The first whose condition holds.
    Taken,
    /// All.
    All,
}

/// Statements run for one configuration, and once more for all its entries.
const MAX_STEPS: usize = 20_000;
/// Words of one command after expansion.
const MAX_WORDS: usize = 256;
/// Bytes of one command after expansion.
const MAX_EXPANDED: usize = 4 * MAX_TEXT;
/// Patterns of files that are expanded.
const MAX_GLOBS: usize = 64;
/// Functions.
const MAX_FUNCTIONS: usize = 512;
/// Blocks run inside one another, over all files, functions and menus; bounds the machine's stack.
const MAX_NESTED: usize = 128;

pub(super) fn run(reader: &mut Reader<'_>, path: &str, branches: Branches) -> Vec<Entry> {
    let mut shell = Shell::new(reader, path, branches);
    let menu = shell.menu(Start::File(path), &[], 0);
    let default = shell.variables.get("default").to_owned();
    let mut entries = entries(menu, &default);
    // A script without a menu may load a system by itself.
    if let (true, Some((kernel, cmdline))) = (entries.is_empty(), shell.loaded.linux) {
        entries.push(Entry {
            title: path.to_owned(),
            kernel,
            initrd: shell.loaded.initrd,
            cmdline,
            source: path.to_owned(),
            default: true,
        });
    }
    entries
}

enum Start<'a> {
    File(&'a str),
    Block(&'a Block),
}

/// What a body asked to be loaded.
#[derive(Default)]
struct Loaded {
    linux: Option<(String, String)>,
    initrd: Vec<String>,
}

struct Pending {
    title: String,
    id: String,
    arguments: Vec<String>,
    body: Block,
    submenu: bool,
    source: String,
}

struct Shell<'r, 'f> {
    reader: &'r mut Reader<'f>,
    branches: Branches,
    variables: Variables,
    functions: BTreeMap<String, Block>,
    pending: Vec<Pending>,
    loaded: Loaded,
    /// Files being read, outermost first.
    stack: Vec<String>,
    steps: usize,
    count: usize,
    calls: usize,
    globs: usize,
    nested: usize,
    returning: bool,
}

impl<'r, 'f> Shell<'r, 'f> {
    fn new(reader: &'r mut Reader<'f>, path: &str, branches: Branches) -> Self {
        let prefix = ["/boot/grub", "/boot/grub2"]
            .into_iter()
            .find(|directory| reader.files.is_directory(directory))
            .unwrap_or_else(|| parent(path));
        let variables = Variables::new(&[
            ("prefix", prefix),
            ("config_directory", parent(path)),
            ("config_file", path),
            ("grub_platform", "pc"),
            ("grub_cpu", "i386"),
            ("root", "cd0"),
            // Distributions derive `findiso=` and the like from it; the hand-off replaces those.
            ("iso_path", "/sparetire.iso"),
            ("feature_menuentry_id", "y"),
            ("feature_menuentry_options", "y"),
            ("feature_platform_search_hint", "y"),
            ("feature_200_final", "y"),
        ]);
        Self {
            reader,
            branches,
            variables,
            functions: BTreeMap::new(),
            pending: Vec::new(),
            loaded: Loaded::default(),
            stack: Vec::new(),
            steps: 0,
            count: 0,
            calls: 0,
            globs: 0,
            nested: 0,
            returning: false,
        }
    }

    /// Runs `start` as what makes a menu and returns the menu, bodies run.
    fn menu(&mut self, start: Start<'_>, arguments: &[String], depth: usize) -> Vec<Item> {
        let outside = std::mem::take(&mut self.pending);
        self.variables.set_arguments(arguments);
        match start {
            Start::File(path) => self.file(path),
            Start::Block(block) => self.block(block),
        }
        self.returning = false;
        if depth == 0 {
            // What a runaway script used up is not missing to the entries it made before.
            self.steps = 0;
        }
        let pending = std::mem::replace(&mut self.pending, outside);
        let mut items = Vec::new();
        for entry in pending {
            items.push(self.item(entry, depth));
        }
        items
    }

    fn item(&mut self, entry: Pending, depth: usize) -> Item {
        let mut item = Item {
            title: entry.title,
            id: entry.id,
            kind: Kind::Other,
        };
        if depth >= MAX_DEPTH {
            self.reader
                .problem(&entry.source, None, "menus lie too deep in menus");
            return item;
        }
        // A body sees the variables of the script and leaves none behind.
        let variables = self.variables.clone();
        let outside = std::mem::take(&mut self.loaded);
        self.stack.push(entry.source.clone());
        // A `menuentry` may lead to another menu too, by `configfile`.
        let items = self.menu(Start::Block(&entry.body), &entry.arguments, depth + 1);
        self.stack.pop();
        let loaded = std::mem::replace(&mut self.loaded, outside);
        self.variables = variables;
        if !items.is_empty() || entry.submenu {
            item.kind = Kind::Menu(items);
        } else if let Some((kernel, cmdline)) = loaded.linux {
            item.kind = Kind::Linux(Box::new(Entry {
                title: item.title.clone(),
                kernel,
                initrd: loaded.initrd,
                cmdline,
                source: entry.source,
                default: false,
            }));
        }
        item
    }

    fn file(&mut self, path: &str) {
        let circle = self.stack.iter().any(|open| open == path);
        if self.stack.len() >= 2 * MAX_DEPTH || (circle && self.stack.len() > 1) {
            let from = self.stack.last().cloned().unwrap_or_default();
            self.reader.problem(
                &from,
                None,
                format!("{path} is read in a circle or too deep"),
            );
            return;
        }
        let Some(text) = self.reader.text(path) else {
            return;
        };
        let (block, problems) = parse(&text);
        if self.branches == Branches::Taken {
            for (line, what) in problems {
                self.reader.problem(path, Some(line), what);
            }
        }
        self.stack.push(path.to_owned());
        self.block(&block);
        self.stack.pop();
    }

    fn block(&mut self, block: &Block) {
        if self.nested >= MAX_NESTED {
            let source = self.source();
            self.reader
                .problem(&source, None, "blocks run too deep inside one another");
            return;
        }
        self.nested += 1;
        self.statements(block);
        self.nested -= 1;
    }

    fn statements(&mut self, block: &Block) {
        for statement in block.iter() {
            if self.returning {
                return;
            }
            self.steps += 1;
            if self.steps > MAX_STEPS {
                if self.steps == MAX_STEPS + 1 {
                    let source = self.source();
                    self.reader.problem(
                        &source,
                        None,
                        format!("more than {MAX_STEPS} statements run"),
                    );
                }
                return;
            }
            match statement {
                Statement::Command { words, block, line } => {
                    self.command(words, block.as_ref(), *line);
                }
                Statement::If { arms } => self.conditional(arms),
                Statement::For {
                    variable,
                    words,
                    body,
                } => {
                    for value in self.expand(words) {
                        self.variables.set(variable, value);
                        self.block(body);
                    }
                }
                Statement::Function { name, body } => {
                    if self.functions.len() < MAX_FUNCTIONS {
                        self.functions.insert(name.clone(), body.clone());
                    }
                }
            }
        }
    }

    fn conditional(&mut self, arms: &[(Option<Block>, Block)]) {
        for (condition, body) in arms {
            self.variables.status = true;
            if let Some(condition) = condition {
                self.block(condition);
            }
            match self.branches {
                Branches::All => self.block(body),
                Branches::Taken if self.variables.status => return self.block(body),
                Branches::Taken => {}
            }
        }
    }

    fn command(&mut self, words: &[Word], block: Option<&Block>, line: usize) {
        let mut words = self.expand(words);
        let negated = words.first().is_some_and(|word| word == "!");
        if negated {
            words.remove(0);
        }
        let Some((name, arguments)) = words.split_first() else {
            return;
        };
        self.variables.status = match (name.as_str(), block) {
            ("menuentry", Some(body)) => self.define(arguments, body, false, line),
            ("submenu", Some(body)) => self.define(arguments, body, true, line),
            (_, Some(body)) => {
                self.block(body);
                true
            }
            (name, None) => self.simple(name, arguments),
        };
        self.variables.status ^= negated;
    }

    fn simple(&mut self, name: &str, arguments: &[String]) -> bool {
        match name {
            "set" => {
                if let Some((name, value)) = arguments.first().and_then(|word| word.split_once('='))
                {
                    self.variables.set(name, value.to_owned());
                }
                true
            }
            "unset" => {
                for name in arguments {
                    self.variables.unset(name);
                }
                true
            }
            "linux" | "linuxefi" | "linux16" => {
                if let Some((kernel, rest)) = arguments.split_first() {
                    let cmdline: Vec<String> = rest.iter().map(|word| requoted(word)).collect();
                    self.loaded = Loaded {
                        linux: Some((resolve("/", kernel), capped(cmdline.join(" ")))),
                        initrd: Vec::new(),
                    };
                }
                true
            }
            "initrd" | "initrdefi" | "initrd16" => {
                self.loaded.initrd = arguments
                    .iter()
                    .filter(|word| !word.starts_with('-') && !word.starts_with("newc:"))
                    .map(|word| resolve("/", word))
                    .collect();
                true
            }
            "source" | "." | "configfile" | "normal" | "extract_entries_source" => {
                if let Some(path) = arguments.first() {
                    let path = self.find(path);
                    self.file(&path);
                }
                true
            }
            "[" => {
                let end = arguments.len().saturating_sub(1);
                match arguments.split_at_checked(end) {
                    Some((expression, [close])) if close == "]" => {
                        holds(expression, self.reader.files)
                    }
                    _ => false,
                }
            }
            "test" => holds(arguments, self.reader.files),
            "search" | "search.file" | "search.fs_label" | "search.fs_uuid" => {
                self.search(name, arguments)
            }
            "return" => {
                self.returning = true;
                arguments.first().is_none_or(|status| status == "0")
            }
            "false" | "keystatus" | "regexp" => false,
            name => {
                if let Some((variable, value)) = name.split_once('=') {
                    self.variables.set(variable, value.to_owned());
                    return true;
                }
                match self.functions.get(name).cloned() {
                    Some(body) => self.call(&body, arguments),
                    None => true,
                }
            }
        }
    }

    /// There is one file system, so a search for it succeeds; one for a file looks.
    fn search(&mut self, name: &str, arguments: &[String]) -> bool {
        let mut file = name == "search.file";
        let mut variable = "root";
        let mut wanted = None;
        for argument in arguments {
            match argument.as_str() {
                "-f" | "--file" => file = true,
                option if option.starts_with("--set=") => {
                    variable = option.get("--set=".len()..).unwrap_or_default();
                }
                option if option.starts_with('-') => {}
                word => wanted = wanted.or(Some(word)),
            }
        }
        let found = !file
            || wanted.is_some_and(|path| {
                let path = resolve("/", path);
                self.reader.files.is_file(&path) || self.reader.files.is_directory(&path)
            });
        if found {
            self.variables.set(variable, "cd0".into());
        }
        found
    }

    fn call(&mut self, body: &Block, arguments: &[String]) -> bool {
        if self.calls >= 2 * MAX_DEPTH {
            let source = self.source();
            self.reader
                .problem(&source, None, "functions call one another too deep");
            return false;
        }
        self.calls += 1;
        let outside = self.variables.arguments();
        self.variables.set_arguments(arguments);
        self.block(body);
        self.returning = false;
        self.variables.restore_arguments(outside);
        self.calls -= 1;
        self.variables.status
    }

    fn define(&mut self, words: &[String], body: &Block, submenu: bool, line: usize) -> bool {
        if self.count >= MAX_ENTRIES {
            if self.count == MAX_ENTRIES {
                let source = self.source();
                self.reader.problem(
                    &source,
                    Some(line),
                    format!("more than {MAX_ENTRIES} entries"),
                );
                self.count += 1;
            }
            return false;
        }
        self.count += 1;
        let mut id = String::new();
        let mut plain = Vec::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--id" => id = words.next().cloned().unwrap_or_default(),
                "--class" | "--users" | "--hotkey" | "--source" => {
                    words.next();
                }
                option if option.starts_with("--id=") => {
                    id = option.get("--id=".len()..).unwrap_or_default().to_owned();
                }
                option if option.starts_with("--") => {}
                word => plain.push(word.to_owned()),
            }
        }
        self.pending.push(Pending {
            title: capped(plain.first().cloned().unwrap_or_default()),
            id,
            arguments: plain,
            body: body.clone(),
            submenu,
            source: self.source(),
        });
        true
    }

    fn source(&self) -> String {
        self.stack.last().cloned().unwrap_or_default()
    }

    /// Relative paths start at the root; some scripts mean their own directory.
    fn find(&self, path: &str) -> String {
        let first = resolve("/", path);
        if self.reader.files.is_file(&first) {
            return first;
        }
        let second = resolve(parent(&self.source()), path);
        if self.reader.files.is_file(&second) {
            second
        } else {
            first
        }
    }

    /// Expands variables, splits what was not quoted at blanks, and expands patterns of files.
    fn expand(&mut self, words: &[Word]) -> Vec<String> {
        let mut expanded = Vec::new();
        let mut bytes = 0;
        for word in words {
            for (text, pattern) in self.variables.pieces(word) {
                let matches = if pattern {
                    self.glob(&text)
                } else {
                    Vec::new()
                };
                let found = if matches.is_empty() {
                    vec![text]
                } else {
                    matches
                };
                for text in found {
                    bytes += text.len();
                    if expanded.len() >= MAX_WORDS || bytes > MAX_EXPANDED {
                        return expanded;
                    }
                    expanded.push(text);
                }
            }
        }
        expanded
    }

    /// Files that match a pattern in the last part of a path.
    fn glob(&mut self, pattern: &str) -> Vec<String> {
        self.globs += 1;
        if self.globs > MAX_GLOBS {
            return Vec::new();
        }
        let path = resolve("/", pattern);
        let Some((directory, name)) = path.rsplit_once('/') else {
            return Vec::new();
        };
        if directory.contains('*') {
            return Vec::new();
        }
        let directory = if directory.is_empty() { "/" } else { directory };
        let name = name.to_lowercase();
        let mut found: Vec<String> = self
            .reader
            .files
            .list(directory)
            .unwrap_or_default()
            .into_iter()
            .filter(|one| crate::glob::matches(&name, &one.name.to_lowercase()))
            .map(|one| resolve(directory, &one.name))
            .take(MAX_WORDS)
            .collect();
        found.sort();
        found
    }
}

/// A word with blanks in it goes to the kernel in quotes, as GRUB passes it.
fn requoted(word: &str) -> String {
    if word.contains(|c: char| c.is_ascii_whitespace()) && !word.contains('"') {
        format!("\"{word}\"")
    } else {
        word.to_owned()
    }
}
