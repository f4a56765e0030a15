//! What does one member of an initramfs archive look like?
//!
//! The newc format of cpio as `Documentation/driver-api/early-userspace/buffer-format.rst` (Linux
//! 6.12) describes it and `init/initramfs.c` reads it: 110 bytes of ASCII header, the name with its
//! NUL, data, each part padded to four bytes from the start of the archive. Written only; nothing
//! here reads archives, and there are no links, devices or owners.

/// Longest data of one member: the size field has eight hexadecimal digits.
pub(super) const MAX_DATA: u64 = u32::MAX as u64;

/// Bytes before the name.
const HEADER_LEN: usize = 110;
/// Longest name field, NULs included, that the kernel does not skip (PATH_MAX).
const MAX_NAME_FIELD: usize = 4096;

/// A regular file's type bits in a mode.
pub(super) const REGULAR: u32 = 0o100_000;

/// Why a member cannot be written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NewcError {
    /// The name is empty, or longer than the kernel accepts, or holds a NUL.
    #[error("member name of {length} bytes")]
    Name {
        /// Length of the name.
        length: usize,
    },
    /// The data does not fit the size field.
    #[error("member of {length} bytes")]
    TooLong {
        /// Length of the data.
        length: u64,
    },
}

/// Appends the header and name of a member whose `length` bytes of data follow.
pub(super) fn start(
    out: &mut Vec<u8>,
    number: u32,
    path: &str,
    mode: u32,
    length: u64,
) -> Result<(), NewcError> {
    header(out, number, path, path.len() + 1, mode, length)?;
    pad4(out);
    Ok(())
}

/// The same as the first thing of an archive, with the name's NULs filling up to `length_of_all`, so
/// that the data starts there. The kernel and GNU cpio both take a name up to its first NUL.
pub(super) fn start_padded(
    path: &str,
    mode: u32,
    length: u64,
    length_of_all: usize,
) -> Result<Vec<u8>, NewcError> {
    let mut out = Vec::with_capacity(length_of_all);
    let field = length_of_all.saturating_sub(HEADER_LEN);
    header(&mut out, 1, path, field, mode, length)?;
    Ok(out)
}

/// Appends a whole member.
pub(super) fn member(
    out: &mut Vec<u8>,
    number: u32,
    path: &str,
    mode: u32,
    data: &[u8],
) -> Result<(), NewcError> {
    start(out, number, path, mode, data.len() as u64)?;
    out.extend_from_slice(data);
    pad4(out);
    Ok(())
}

/// Appends the member that ends an archive.
pub(super) fn trailer(out: &mut Vec<u8>) -> Result<(), NewcError> {
    start(out, 0, "TRAILER!!!", 0, 0)
}

/// Pads to four bytes; `out` must have begun at a multiple of four in its archive.
pub(super) fn pad4(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

fn header(
    out: &mut Vec<u8>,
    number: u32,
    path: &str,
    name_field: usize,
    mode: u32,
    length: u64,
) -> Result<(), NewcError> {
    if path.is_empty()
        || path.contains('\0')
        || name_field <= path.len()
        || name_field > MAX_NAME_FIELD
    {
        return Err(NewcError::Name { length: path.len() });
    }
    let length = u32::try_from(length).map_err(|_| NewcError::TooLong { length })?;
    let links = 1;
    // Inode, mode, uid, gid, links, mtime, size, device major and minor, rdev major and minor, name
    // field, check sum.
    let fields = [
        number,
        mode,
        0,
        0,
        links,
        0,
        length,
        0,
        0,
        0,
        0,
        name_field as u32,
        0,
    ];
    out.extend_from_slice(b"070701");
    for field in fields {
        for shift in (0..8).rev() {
            let digit = (field >> (shift * 4)) & 0xf;
            out.push(b"0123456789ABCDEF"[digit as usize]);
        }
    }
    out.extend_from_slice(path.as_bytes());
    out.resize(out.len() + name_field - path.len(), 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_header_name_and_data_each_padded_to_four() {
        let mut out = Vec::new();
        member(&mut out, 2, "conf/x", REGULAR | 0o644, b"hello").unwrap();
        let golden = [
            "070701",   // magic
            "00000002", // inode
            "000081A4", // mode: regular, rw-r--r--
            "00000000", // uid
            "00000000", // gid
            "00000001", // links
            "00000000", // mtime
            "00000005", // data length
            "00000000", // device major
            "00000000", // device minor
            "00000000", // rdev major
            "00000000", // rdev minor
            "00000007", // name field, NUL included
            "00000000", // check sum, unused in this format
            "conf/x\0", // name
            "\0\0\0",   // to a multiple of four: 110 + 7 + 3 = 120
            "hello\0\0\0",
        ]
        .concat();
        assert_eq!(String::from_utf8(out).unwrap(), golden);
    }

    #[test]
    fn the_padded_start_puts_data_on_the_wanted_offset() {
        let out = start_padded("sparetire.iso", REGULAR | 0o444, 0xdead, 4096).unwrap();
        assert_eq!(out.len(), 4096);
        assert_eq!(&out[94..102], b"00000F92"); // 4096 - 110
        assert_eq!(&out[54..62], b"0000DEAD");
        assert_eq!(&out[110..124], b"sparetire.iso\0");
        assert!(out[124..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn refuses_names_and_lengths_the_format_cannot_hold() {
        let mut out = Vec::new();
        assert_eq!(
            member(&mut out, 1, "", REGULAR, b""),
            Err(NewcError::Name { length: 0 })
        );
        assert_eq!(
            member(&mut out, 1, "a\0b", REGULAR, b""),
            Err(NewcError::Name { length: 3 })
        );
        let long = "x".repeat(4096);
        assert_eq!(
            member(&mut out, 1, &long, REGULAR, b""),
            Err(NewcError::Name { length: 4096 })
        );
        assert_eq!(
            start(&mut out, 1, "x", REGULAR, 1 << 32),
            Err(NewcError::TooLong { length: 1 << 32 })
        );
        assert!(start_padded("sparetire.iso", REGULAR, 0, 120).is_err());
        assert!(out.is_empty(), "nothing half-written");
    }
}
