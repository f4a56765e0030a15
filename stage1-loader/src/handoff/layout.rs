//! Where do the image's bytes stand in the one file that holds them?
//!
//! | the image is | file |
//! |---|---|
//! | a member of the next initramfs | member header (one page), image, further members, trailer, room for the initrds |
//! | persistent memory | image; from the next page on an archive of further members, if any |
//! | kernel and initrds, nothing else | the same |
//!
//! So the download writes every byte to its final place, and the image is page-aligned in the
//! file. The kernel unpacks archives in the order in which they stand, ours first. The room at the
//! end is used by `kexec_file_load` alone, which takes the initramfs as one file.

use std::ops::Range;

use boot_config::hand_off::Member;
use sparetire_manifest::Extent;

use super::newc::{self, NewcError};
use super::ram::PAGE;

/// The layout of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// What stands before the image.
    pub(super) head: Vec<u8>,
    /// The image.
    pub(super) image: Range<u64>,
    /// What stands from `tail_at` on.
    pub(super) tail: Vec<u8>,
    pub(super) tail_at: u64,
    /// The archive of ours; empty if there is none.
    pub(super) archive: Range<u64>,
    /// Copies of the initrds behind it, each with its place; none unless the archive starts the
    /// file and could be followed by them.
    pub(super) copies: Vec<(Extent, u64)>,
    /// Length of the file.
    pub(super) length: u64,
}

impl Layout {
    /// `member`: name of the member that the image becomes, if it becomes one.
    pub(super) fn new(
        image_size: u64,
        member: Option<&str>,
        members: &[Member],
        initrd: &[Extent],
    ) -> Result<Layout, NewcError> {
        let mut tail = Vec::new();
        let head = match member {
            Some(path) => {
                let mode = newc::REGULAR | 0o444;
                let head = newc::start_padded(path, mode, image_size, PAGE as usize)?;
                // The head is a whole page, so the padding depends on the image alone.
                let padding = image_size.next_multiple_of(4) - image_size;
                tail.resize(padding as usize, 0);
                head
            }
            None => Vec::new(),
        };
        let image = head.len() as u64..head.len() as u64 + image_size;
        let tail_at = match member {
            Some(_) => image.end,
            None => image.end.next_multiple_of(PAGE),
        };
        let archived = member.is_some() || !members.is_empty();
        if archived {
            let mut more = Vec::new();
            for (member, number) in members.iter().zip(2..) {
                newc::member(&mut more, number, &member.path, member.mode, &member.bytes)?;
            }
            newc::trailer(&mut more)?;
            tail.extend_from_slice(&more);
        }
        let end = tail_at + tail.len() as u64;
        let archive = match (member, archived) {
            (Some(_), _) => 0..end,
            (None, true) => tail_at..end,
            (None, false) => end..end,
        };
        let mut length = if archived { end } else { image.end };
        let mut copies = Vec::new();
        if member.is_some() {
            (copies, length) = place_copies(end, initrd);
        }
        Ok(Layout {
            head,
            image,
            tail,
            tail_at,
            archive,
            copies,
            length,
        })
    }

    /// Where `extent` of the image stands in the file; `None` if it leaves the image.
    pub(super) fn in_file(&self, extent: Extent) -> Option<Range<u64>> {
        let start = self.image.start.checked_add(extent.offset)?;
        let end = start.checked_add(extent.length)?;
        (end <= self.image.end).then_some(start..end)
    }
}

/// Places of the initrds in a file whose first `end` bytes are an archive of ours, each at a
/// multiple of four as the kernel wants it, and the file's length.
pub(super) fn place_copies(mut end: u64, initrd: &[Extent]) -> (Vec<(Extent, u64)>, u64) {
    let mut copies = Vec::with_capacity(initrd.len());
    for extent in initrd {
        let at = end.next_multiple_of(4);
        copies.push((*extent, at));
        end = at + extent.length;
    }
    (copies, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(path: &str, bytes: &[u8]) -> Member {
        Member {
            path: path.into(),
            mode: 0o100_644,
            bytes: bytes.to_vec(),
        }
    }

    const INITRD: [Extent; 2] = [
        Extent {
            offset: 2048,
            length: 1001,
        },
        Extent {
            offset: 8192,
            length: 3,
        },
    ];

    #[test]
    fn an_image_as_member_starts_on_the_second_page() {
        let layout = Layout::new(
            10_001,
            Some("sparetire.iso"),
            &[member("a", b"bc")],
            &INITRD,
        )
        .unwrap();
        assert_eq!(layout.head.len(), 4096);
        assert_eq!(layout.image, 4096..14_097);
        assert_eq!(layout.tail_at, 14_097);
        assert_eq!(layout.tail[..3], [0; 3]);
        assert_eq!(&layout.tail[3..9], b"070701");
        // Padding, member "a" (110 + 2 and 2 + 2), trailer (110 + 11 + 3).
        assert_eq!(layout.tail.len(), 3 + 112 + 4 + 124);
        assert_eq!(layout.archive, 0..14_340);
        assert_eq!(layout.copies, [(INITRD[0], 14_340), (INITRD[1], 15_344)]);
        assert_eq!(layout.length, 15_347);
    }

    #[test]
    fn an_image_that_is_no_member_starts_the_file() {
        let layout = Layout::new(10_001, None, &[], &INITRD).unwrap();
        assert_eq!(layout.image, 0..10_001);
        assert!(layout.archive.is_empty() && layout.tail.is_empty() && layout.copies.is_empty());
        assert_eq!(layout.length, 10_001);

        let layout = Layout::new(10_001, None, &[member("a", b"bc")], &INITRD).unwrap();
        assert_eq!(layout.archive, 12_288..12_288 + 112 + 4 + 124);
        assert_eq!(layout.tail_at, 12_288);
        assert_eq!(layout.length, layout.archive.end);
    }

    #[test]
    fn an_image_too_long_for_a_member_is_refused() {
        let error = Layout::new(1 << 32, Some("sparetire.iso"), &[], &[]).unwrap_err();
        assert_eq!(error, NewcError::TooLong { length: 1 << 32 });
        assert!(Layout::new((1 << 32) - 1, Some("sparetire.iso"), &[], &[]).is_ok());
    }

    #[test]
    fn extents_that_leave_the_image_have_no_place() {
        let layout = Layout::new(10_000, Some("sparetire.iso"), &[], &[]).unwrap();
        let in_file = |offset, length| layout.in_file(Extent { offset, length });
        assert_eq!(in_file(2048, 1000), Some(6144..7144));
        assert_eq!(in_file(9_999, 1), Some(14_095..14_096));
        assert_eq!(in_file(9_999, 2), None);
        assert_eq!(in_file(u64::MAX, 2), None);
        assert_eq!(in_file(2, u64::MAX - 1), None);
    }
}
