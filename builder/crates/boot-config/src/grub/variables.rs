//! What do the variables of a GRUB script hold, and what does a word become with them?
//! (GRUB manual 2.06, sections 6.3 "Variable expansion" and 15 "GRUB environment variables".)

use std::collections::BTreeMap;

use super::lexer::{Part, Word};
use crate::discover::{MAX_TEXT, capped};

/// Variables held.
const MAX_VARIABLES: usize = 512;
/// Pieces one word may fall into.
const MAX_PIECES: usize = 256;

/// The variables, and `$?`.
#[derive(Clone)]
pub(super) struct Variables {
    values: BTreeMap<String, String>,
    /// Whether the last command succeeded.
    pub(super) status: bool,
}

impl Variables {
    pub(super) fn new(values: &[(&str, &str)]) -> Self {
        Self {
            values: values
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            status: true,
        }
    }

    pub(super) fn set(&mut self, name: &str, value: String) {
        let known = self.values.contains_key(name);
        if !name.is_empty() && (known || self.values.len() < MAX_VARIABLES) {
            self.values.insert(name.to_owned(), capped(value));
        }
    }

    pub(super) fn unset(&mut self, name: &str) {
        self.values.remove(name);
    }

    pub(super) fn get(&self, name: &str) -> &str {
        match name {
            "?" if self.status => "0",
            "?" => "1",
            name => self.values.get(name).map_or("", String::as_str),
        }
    }

    /// The arguments of a function or entry: `$1` to `$9`, `$@`, `$*`, `$#`.
    pub(super) fn set_arguments(&mut self, arguments: &[String]) {
        for index in 1..=9 {
            let value = arguments.get(index - 1).cloned().unwrap_or_default();
            self.values.insert(index.to_string(), value);
        }
        let all = capped(arguments.join(" "));
        self.values.insert("@".into(), all.clone());
        self.values.insert("*".into(), all);
        self.values.insert("#".into(), arguments.len().to_string());
    }

    /// The arguments as they stand, to be put back by [`Variables::restore_arguments`].
    pub(super) fn arguments(&self) -> Vec<(&'static str, Option<String>)> {
        ["1", "2", "3", "4", "5", "6", "7", "8", "9", "@", "*", "#"]
            .into_iter()
            .map(|name| (name, self.values.get(name).cloned()))
            .collect()
    }

    pub(super) fn restore_arguments(&mut self, arguments: Vec<(&'static str, Option<String>)>) {
        for (name, value) in arguments {
            match value {
                Some(value) => self.values.insert(name.to_owned(), value),
                None => self.values.remove(name),
            };
        }
    }

    /// What one word becomes before patterns are expanded, and which pieces are patterns.
    pub(super) fn pieces(&self, word: &Word) -> Vec<(String, bool)> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        // Quotes alone make an empty word; an empty variable without quotes makes none.
        let mut present = word.parts.is_empty();
        let mut pattern = false;
        for part in &word.parts {
            if text.len() > MAX_TEXT || pieces.len() > MAX_PIECES {
                break;
            }
            match part {
                Part::Text { text: part, quoted } => {
                    text.push_str(part);
                    present = true;
                    pattern |= !quoted && part.contains('*');
                }
                Part::Variable { name, quoted: true } => {
                    text.push_str(self.get(name));
                    present = true;
                }
                Part::Variable {
                    name,
                    quoted: false,
                } => {
                    let mut values = self.get(name).split_ascii_whitespace().peekable();
                    while let Some(value) = values.next() {
                        text.push_str(value);
                        present = true;
                        if values.peek().is_some() {
                            pieces.push((capped(std::mem::take(&mut text)), pattern));
                        }
                    }
                }
            }
        }
        if present {
            pieces.push((capped(text), pattern));
        }
        pieces
    }
}
