//! Data to measure with: the same bytes on each machine, written without holding them.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};

/// Piece of one kind, in bytes.
const PIECE: usize = 1 << 20;

/// What a file is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Bytes that nothing compresses, as most of a live image's are.
    Noise,
    /// As a live ISO is found to be: of 16 MiB, 13 compressed already, one of text, one like
    /// machine code, one of zeros.
    Mixture,
}

/// Writes `mib` MiB that pass for a 64-bit Linux kernel, so that `image import` takes them.
pub(crate) fn write(path: &Path, mib: usize, content: Content) -> Result<()> {
    let context = || format!("writing {}", path.display());
    let mut file = BufWriter::with_capacity(PIECE, File::create(path).with_context(context)?);
    let mut random = Random(0x5eed);
    let mut piece = Vec::with_capacity(PIECE);
    for number in 0..mib {
        piece.clear();
        match (content, number % 16) {
            (Content::Mixture, 3) => text(&mut random, &mut piece),
            (Content::Mixture, 7) => code(&mut random, &mut piece),
            (Content::Mixture, 11) => piece.resize(PIECE, 0),
            _ => noise(&mut random, &mut piece),
        }
        if number == 0 {
            pass_for_kernel(&mut piece);
        }
        file.write_all(&piece).with_context(context)?;
    }
    file.flush().with_context(context)
}

/// The setup header's magic, protocol version 2.12 and `XLF_KERNEL_64` (Linux,
/// Documentation/arch/x86/boot.rst).
fn pass_for_kernel(bytes: &mut [u8]) {
    for (at, value) in [
        (0x202, b"HdrS".as_slice()),
        (0x206, [12, 2].as_slice()),
        (0x236, [1, 0].as_slice()),
    ] {
        if let Some(place) = bytes.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    }
}

fn noise(random: &mut Random, piece: &mut Vec<u8>) {
    while piece.len() < PIECE {
        piece.extend_from_slice(&random.next().to_le_bytes());
    }
}

const WORDS: [&str; 16] = [
    "the ",
    "image ",
    "of ",
    "a ",
    "system ",
    "is ",
    "kept ",
    "in ",
    "pieces ",
    "that ",
    "differ ",
    "between ",
    "versions\n",
    "only ",
    "where ",
    "needed, ",
];

fn text(random: &mut Random, piece: &mut Vec<u8>) {
    while piece.len() < PIECE {
        let draw = random.next();
        for shift in (0..48).step_by(4) {
            piece.extend_from_slice(WORDS[(draw >> shift) as usize % WORDS.len()].as_bytes());
        }
        // Now and then something new, as in a log.
        piece.extend_from_slice(format!("{:x} ", draw >> 48).as_bytes());
    }
    piece.truncate(PIECE);
}

/// Words of four bytes from a table, early ones oftener: about half its size when compressed.
fn code(random: &mut Random, piece: &mut Vec<u8>) {
    let mut table = Random(0xc0de);
    let words: Vec<u32> = (0..2048).map(|_| table.next() as u32).collect();
    while piece.len() < PIECE {
        let draw = random.next();
        let (one, other) = (
            draw as usize % words.len(),
            (draw >> 32) as usize % words.len(),
        );
        let word = words.get(one.min(other)).copied().unwrap_or_default();
        piece.extend_from_slice(&word.to_le_bytes());
    }
}

/// xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators,
/// scrambled" (2016).
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_come_out_each_time_and_pass_for_a_kernel() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            write(&dir.path().join(name), 13, Content::Mixture).unwrap();
            std::fs::read(dir.path().join(name)).unwrap()
        };
        let (one, other) = (make("one"), make("other"));
        assert_eq!(one.len(), 13 << 20);
        assert!(one == other, "differs");
        assert_eq!(&one[0x202..0x206], b"HdrS");
        assert!(one[11 << 20..12 << 20].iter().all(|byte| *byte == 0));
        assert!(one[3 << 20..][..100].is_ascii());
    }
}
