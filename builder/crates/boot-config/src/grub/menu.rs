//! What is a GRUB menu, and which of its lines starts by itself?

use crate::discover::{Entry, capped};

/// One line of a menu. Lines that start no Linux are kept: `default=2` counts them.
pub(super) struct Item {
    pub(super) title: String,
    pub(super) id: String,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Linux(Box<Entry>),
    Menu(Vec<Item>),
    Other,
}

/// The Linux entries of a menu, the one that `default` names marked.
pub(super) fn entries(menu: Vec<Item>, default: &str) -> Vec<Entry> {
    let chosen = chosen(&menu, default);
    let mut entries = Vec::new();
    flatten(menu, "", chosen.as_deref(), &mut Vec::new(), &mut entries);
    entries
}

/// The position that `default` names: numbers from 0, ids or titles, `>` between menus.
fn chosen(menu: &[Item], default: &str) -> Option<Vec<usize>> {
    let mut items = menu;
    let mut position = Vec::new();
    for part in default.split('>').map(str::trim) {
        let index = match part.parse::<usize>() {
            Ok(index) => index,
            Err(_) if part.is_empty() => 0,
            Err(_) => items
                .iter()
                .position(|item| item.id == part || item.title == part)?,
        };
        position.push(index);
        match items.get(index).map(|item| &item.kind) {
            Some(Kind::Menu(inner)) => items = inner,
            _ => break,
        }
    }
    Some(position)
}

/// The Linux lines of a menu and of the menus in it, in order.
fn flatten(
    menu: Vec<Item>,
    above: &str,
    chosen: Option<&[usize]>,
    position: &mut Vec<usize>,
    entries: &mut Vec<Entry>,
) {
    for (index, item) in menu.into_iter().enumerate() {
        position.push(index);
        let title = if above.is_empty() {
            item.title
        } else {
            capped(format!("{above} > {}", item.title))
        };
        match item.kind {
            Kind::Linux(mut entry) => {
                entry.title = title;
                entry.default = chosen == Some(position.as_slice());
                entries.push(*entry);
            }
            Kind::Menu(items) => flatten(items, &title, chosen, position, entries),
            Kind::Other => {}
        }
        position.pop();
    }
}
