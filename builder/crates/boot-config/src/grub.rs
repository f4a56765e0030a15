//! What does a GRUB configuration offer?
//!
//! `grub.cfg` is a shell script (GRUB manual 2.06, chapters 6.1 "Writing full configuration files
//! directly" and 16 "Available commands"). It is read in three steps, a file each: [`lexer`] cuts
//! it into words, [`parser`] into statements, [`run`] executes those that have to do with menus:
//! variables, conditions, loops over words, functions, `source` and `configfile`, menu entries and
//! what they load. Other commands do nothing and succeed.
//!
//! The machine is a BIOS PC whose only disk is the ISO. A script that offers nothing to it is run
//! once more with every branch of its conditions taken.

mod condition;
mod lexer;
mod menu;
mod parser;
mod run;
mod variables;

use crate::discover::{Entry, Reader};

/// Entries of the configuration at `path`, with what it reads.
pub(crate) fn read(reader: &mut Reader<'_>, path: &str) -> Vec<Entry> {
    let entries = run::run(reader, path, run::Branches::Taken);
    if entries.is_empty() {
        return run::run(reader, path, run::Branches::All);
    }
    entries
}

#[cfg(test)]
mod tests;
