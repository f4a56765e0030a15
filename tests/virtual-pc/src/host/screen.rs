//! The screen as text: VGA's text memory, which QEMU shows us as it is.
//!
//! Layout: IBM VGA; two bytes a cell, the character in code page 437 and its attribute.
//! Without I/O; [`super::Host::screen`] fetches the bytes.

/// Where text memory starts in physical memory.
pub(crate) const TEXT_MEMORY: u64 = 0xb8000;
/// Its length in bytes; the screen wraps around in it.
pub(crate) const TEXT_MEMORY_LENGTH: usize = 0x8000;
/// Cells in a row.
const COLUMNS: usize = 80;
/// Rows.
const ROWS: usize = 25;

/// What is on the screen.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "mode", rename_all = "kebab-case")]
pub enum Screen {
    /// The PC is off.
    Off,
    /// Text, a line per row, without trailing spaces.
    Text {
        /// The rows, from the top.
        lines: Vec<String>,
    },
    /// Something that is no text; a screenshot shows it.
    Graphics {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
}

/// The size from the start of a portable pixmap, as QEMU's `screendump` writes it.
pub(crate) fn pixmap_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let start = bytes.get(..bytes.len().min(64))?;
    let mut words = start
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    if words.next()? != b"P6" {
        return None;
    }
    let mut number = || std::str::from_utf8(words.next()?).ok()?.parse().ok();
    Some((number()?, number()?))
}

/// Whether a display of that size is 80x25 text: cells are 8 or 9 by 16 pixels.
pub(crate) fn is_text_size(width: u32, height: u32) -> bool {
    matches!((width, height), (720 | 640, 400))
}

/// The rows of the screen. `start` is the CRT controller's start address, counted in cells.
pub(crate) fn rows(memory: &[u8], start: u16) -> Vec<String> {
    let cell = |row: usize, column: usize| {
        let at = (usize::from(start) + row * COLUMNS + column) * 2 % TEXT_MEMORY_LENGTH;
        code_page_437(memory.get(at).copied().unwrap_or(0))
    };
    let row = |row| {
        let text: String = (0..COLUMNS).map(|column| cell(row, column)).collect();
        text.trim_end().to_owned()
    };
    (0..ROWS).map(row).collect()
}

/// The characters that firmware draws with; others of the upper half become `?`.
fn code_page_437(byte: u8) -> char {
    const BOXES: &str = "░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀";
    match byte {
        0x20..=0x7e => char::from(byte),
        0xb0..=0xdf => BOXES.chars().nth(usize::from(byte - 0xb0)).unwrap_or('?'),
        0 | 0xff => ' ',
        0x10 => '►',
        0x11 => '◄',
        0x18 => '↑',
        0x19 => '↓',
        0x1a => '→',
        0x1b => '←',
        _ => '?',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(text: &[u8], at: usize) -> Vec<u8> {
        let mut memory = vec![0; TEXT_MEMORY_LENGTH];
        for (index, byte) in text.iter().enumerate() {
            let at = (at + index) * 2 % TEXT_MEMORY_LENGTH;
            memory[at] = *byte;
            memory[at + 1] = 7;
        }
        memory
    }

    #[test]
    fn characters_are_every_other_byte() {
        let rows = rows(&memory(b"SeaBIOS", 0), 0);
        assert_eq!(rows.len(), 25);
        assert_eq!(rows[0], "SeaBIOS");
        assert_eq!(rows[1], "");
    }

    #[test]
    fn a_scrolled_screen_starts_later_and_wraps_around() {
        let cells = TEXT_MEMORY_LENGTH / 2;
        let start = u16::try_from(cells - 40).unwrap();
        let rows = rows(&memory(b"x", cells - 40 + 79), start);
        assert_eq!(rows[0], format!("{}x", " ".repeat(79)));
    }

    #[test]
    fn frames_are_drawn_with_their_characters() {
        assert_eq!(rows(&memory(b"\xc9\xcd\xbb\xdb\xb0", 0), 0)[0], "╔═╗█░");
    }

    #[test]
    fn short_memory_is_blank() {
        assert_eq!(rows(&[], 0xffff), vec![String::new(); 25]);
    }

    #[test]
    fn the_display_size_is_read_from_a_pixmap() {
        assert_eq!(pixmap_size(b"P6\n720 400\n255\n..."), Some((720, 400)));
        assert!(is_text_size(720, 400));
        for bytes in [
            &b""[..],
            b"P6",
            b"P6\n720",
            b"P5\n720 400\n255\n",
            b"P6\n720 x\n",
        ] {
            assert_eq!(pixmap_size(bytes), None);
        }
    }
}
