//! Keys by name and text as keys of an American keyboard, in QEMU's names (QEMU,
//! qapi/ui.json, `QKeyCode`).

/// Keys pressed together, in QEMU's names.
pub type Chord = Vec<String>;

/// Why something cannot be typed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No key has that name.
    #[error(
        "no key is called {0:?}; keys are called as in `f2`, `esc`, `enter`, `ctrl-alt-delete`"
    )]
    Unknown(String),
    /// An American keyboard lacks the character.
    #[error("no key for the character {0:?}")]
    Character(char),
}

/// A chord from its name: `f2`, `ctrl-alt-delete`, `shift-a`.
pub fn chord(name: &str) -> Result<Chord, KeyError> {
    name.split('-')
        .map(|key| one(&key.to_ascii_lowercase()).ok_or_else(|| KeyError::Unknown(name.to_owned())))
        .collect()
}

fn one(name: &str) -> Option<String> {
    const SAME: &[&str] = &[
        "esc",
        "tab",
        "spc",
        "ret",
        "backspace",
        "delete",
        "insert",
        "home",
        "end",
        "pgup",
        "pgdn",
        "up",
        "down",
        "left",
        "right",
        "ctrl",
        "alt",
        "shift",
        "caps_lock",
        "num_lock",
        "menu",
        "print",
        "pause",
        "scroll_lock",
    ];
    const OTHER: &[(&str, &str)] = &[
        ("enter", "ret"),
        ("return", "ret"),
        ("escape", "esc"),
        ("space", "spc"),
        ("del", "delete"),
        ("ins", "insert"),
        ("control", "ctrl"),
        ("win", "meta_l"),
        ("super", "meta_l"),
    ];
    if SAME.contains(&name) {
        return Some(name.to_owned());
    }
    if let Some((_, qemu)) = OTHER.iter().find(|(known, _)| *known == name) {
        return Some((*qemu).to_owned());
    }
    if let Some(number) = name
        .strip_prefix('f')
        .and_then(|number| number.parse::<u8>().ok())
    {
        return (1..=12).contains(&number).then(|| format!("f{number}"));
    }
    let mut characters = name.chars();
    match (characters.next(), characters.next()) {
        (Some(character), None) => plain(character).map(str::to_owned).or_else(|| {
            character
                .is_ascii_alphanumeric()
                .then(|| character.to_string())
        }),
        _ => None,
    }
}

/// The chords that type `text`.
pub fn text(text: &str) -> Result<Vec<Chord>, KeyError> {
    text.chars().map(character).collect()
}

fn character(character: char) -> Result<Chord, KeyError> {
    const SHIFTED: &str = "~!@#$%^&*()_+{}|:\"<>?";
    const UNSHIFTED: &str = "`1234567890-=[]\\;',./";
    let shifted = SHIFTED
        .chars()
        .zip(UNSHIFTED.chars())
        .find(|(shifted, _)| *shifted == character);
    let (base, shift) = match shifted {
        Some((_, base)) => (base, true),
        None => (
            character.to_ascii_lowercase(),
            character.is_ascii_uppercase(),
        ),
    };
    let key = match plain(base) {
        Some(name) => name.to_owned(),
        None if base.is_ascii_alphanumeric() => base.to_string(),
        None => return Err(KeyError::Character(character)),
    };
    let mut chord = Vec::new();
    if shift {
        chord.push("shift".to_owned());
    }
    chord.push(key);
    Ok(chord)
}

/// Keys without shift that are not called by their character.
fn plain(character: char) -> Option<&'static str> {
    Some(match character {
        ' ' => "spc",
        '\n' | '\r' => "ret",
        '\t' => "tab",
        '\u{8}' => "backspace",
        '\u{1b}' => "esc",
        '`' => "grave_accent",
        '-' => "minus",
        '=' => "equal",
        '[' => "bracket_left",
        ']' => "bracket_right",
        '\\' => "backslash",
        ';' => "semicolon",
        '\'' => "apostrophe",
        ',' => "comma",
        '.' => "dot",
        '/' => "slash",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chords_are_named_as_people_write_them() {
        assert_eq!(chord("F2").unwrap(), ["f2"]);
        assert_eq!(chord("ctrl-alt-del").unwrap(), ["ctrl", "alt", "delete"]);
        assert_eq!(chord("Enter").unwrap(), ["ret"]);
        assert_eq!(chord("shift-a").unwrap(), ["shift", "a"]);
    }

    #[test]
    fn other_names_are_refused() {
        for name in ["", "f13", "f0", "ctrl-", "hyper", "ä"] {
            assert!(chord(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn text_uses_shift_where_an_american_keyboard_does() {
        let typed = text("aB1!-_\n").unwrap();
        let expected: [&[&str]; 7] = [
            &["a"],
            &["shift", "b"],
            &["1"],
            &["shift", "1"],
            &["minus"],
            &["shift", "minus"],
            &["ret"],
        ];
        assert_eq!(typed, expected);
    }

    #[test]
    fn every_printable_character_can_be_typed() {
        let all: String = (' '..='~').collect();
        assert_eq!(text(&all).unwrap().len(), 95);
        assert_eq!(text("ü"), Err(KeyError::Character('ü')));
    }
}
