//! Capacity, reads, writes: which bytes of a medium a CDB names.

use atapi::{Behaviour, Drive, DriveKind, Medium, MediumError, Reply, Sense};

use super::{GIB, answers, cd, cdb, empty, floppy, refuses, succeeds, with};

#[test]
fn read_capacity_names_the_last_block() {
    let packet = "25 00 00 00 00 00 00 00 00 00";
    // 64 blocks of 2,048.
    answers(&mut cd(131_072), packet, "00 00 00 3f 00 00 08 00");
    // 2,880 blocks of 512.
    answers(
        &mut floppy(1_474_560, false),
        packet,
        "00 00 0b 3f 00 00 02 00",
    );
    refuses(&mut empty(DriveKind::Cd), packet, Sense::NO_MEDIUM);
    refuses(&mut empty(DriveKind::Floppy), packet, Sense::NO_MEDIUM);
}

#[test]
fn a_last_block_that_is_not_full_is_a_block() {
    let packet = "25 00 00 00 00 00 00 00 00 00";
    answers(&mut cd(131_072 + 512), packet, "00 00 00 40 00 00 08 00");
    let reply = cd(131_072 + 512).execute(&cdb("28 00 00 00 00 40 00 00 01 00"));
    assert_eq!(
        reply,
        Reply::Read {
            offset: 131_072,
            length: 2048
        }
    );
}

#[test]
fn media_beyond_two_and_four_gib_are_whole() {
    let packet = "25 00 00 00 00 00 00 00 00 00";
    // 2.5, 5 and 100 GiB: the last LBA is one less than blocks of 2,048.
    answers(&mut cd(5 * GIB / 2), packet, "00 13 ff ff 00 00 08 00");
    answers(&mut cd(5 * GIB), packet, "00 27 ff ff 00 00 08 00");
    answers(&mut cd(100 * GIB), packet, "03 1f ff ff 00 00 08 00");
    let mut drive = cd(5 * GIB);
    let last = drive.execute(&cdb("28 00 00 27 ff ff 00 00 01 00"));
    assert_eq!(
        last,
        Reply::Read {
            offset: 5 * GIB - 2048,
            length: 2048
        }
    );
    refuses(
        &mut drive,
        "28 00 00 28 00 00 00 00 01 00",
        Sense::LBA_OUT_OF_RANGE,
    );
    // A floppy of 3 GiB has LBAs above 2^22, byte offsets above 2^31.
    let last = floppy(3 * GIB, false).execute(&cdb("28 00 00 5f ff ff 00 00 01 00"));
    assert_eq!(
        last,
        Reply::Read {
            offset: 3 * GIB - 512,
            length: 512
        }
    );
}

#[test]
fn the_largest_medium_has_all_lbas_but_the_last() {
    let most = u64::from(u32::MAX) * 2048;
    answers(
        &mut cd(most),
        "25 00 00 00 00 00 00 00 00 00",
        "ff ff ff fe 00 00 08 00",
    );
    let medium = Some(Medium {
        bytes: most + 1,
        writable: false,
    });
    let refused = Drive::new(DriveKind::Cd, medium, Behaviour::default());
    assert_eq!(
        refused.err(),
        Some(MediumError::TooLarge {
            bytes: most + 1,
            most
        })
    );
}

#[test]
fn impossible_media_are_refused() {
    for (kind, bytes, writable, expected) in [
        (DriveKind::Cd, 0, false, MediumError::Empty),
        (DriveKind::Floppy, 0, true, MediumError::Empty),
        (DriveKind::Cd, 2048, true, MediumError::WritableCd),
    ] {
        let medium = Some(Medium { bytes, writable });
        let refused = Drive::new(kind, medium, Behaviour::default());
        assert_eq!(refused.err(), Some(expected));
    }
}

#[test]
fn reads_of_all_three_sizes_name_the_same_bytes() {
    let mut drive = cd(GIB);
    for packet in [
        "08 00 00 10 04 00",
        "28 00 00 00 00 10 00 00 04 00",
        "a8 00 00 00 00 10 00 00 00 04 00 00",
    ] {
        let expected = Reply::Read {
            offset: 0x8000,
            length: 0x2000,
        };
        assert_eq!(drive.execute(&cdb(packet)), expected, "{packet}");
    }
    // READ(6): 21 bits of LBA, zero blocks are 256.
    let reply = drive.execute(&cdb("08 e7 ff 00 00 00"));
    assert_eq!(
        reply,
        Reply::Read {
            offset: 0x7_ff00 * 2048,
            length: 256 * 2048
        }
    );
    // READ(12) may ask for the whole medium at once.
    let reply = drive.execute(&cdb("a8 00 00 00 00 00 00 08 00 00 00 00"));
    assert_eq!(
        reply,
        Reply::Read {
            offset: 0,
            length: GIB
        }
    );
}

#[test]
fn reads_outside_of_the_medium_fail() {
    let mut drive = cd(131_072);
    refuses(
        &mut drive,
        "28 00 00 00 00 3f 00 00 02 00",
        Sense::LBA_OUT_OF_RANGE,
    );
    refuses(
        &mut drive,
        "28 00 ff ff ff ff 00 ff ff 00",
        Sense::LBA_OUT_OF_RANGE,
    );
    refuses(
        &mut drive,
        "a8 00 ff ff ff ff ff ff ff ff 00 00",
        Sense::LBA_OUT_OF_RANGE,
    );
    refuses(&mut drive, "08 00 00 00 00 00", Sense::LBA_OUT_OF_RANGE);
    refuses(
        &mut drive,
        "2f 00 00 00 00 3f 00 00 02 00",
        Sense::LBA_OUT_OF_RANGE,
    );
    refuses(
        &mut drive,
        "28 00 00 00 00 41 00 00 00 00",
        Sense::LBA_OUT_OF_RANGE,
    );
    refuses(
        &mut empty(DriveKind::Cd),
        "28 00 00 00 00 00 00 00 01 00",
        Sense::NO_MEDIUM,
    );
}

#[test]
fn a_read_of_nothing_succeeds() {
    succeeds(&mut cd(131_072), "28 00 00 00 00 00 00 00 00 00");
    succeeds(&mut cd(131_072), "a8 00 00 00 00 00 00 00 00 00 00 00");
}

#[test]
fn writes_to_a_protected_medium_are_refused_at_once() {
    for packet in [
        "0a 00 00 00 01 00",
        "2a 00 00 00 00 00 00 00 01 00",
        "2e 00 00 00 00 00 00 00 01 00",
        "aa 00 00 00 00 00 00 00 00 01 00 00",
    ] {
        refuses(&mut cd(131_072), packet, Sense::WRITE_PROTECTED);
        refuses(
            &mut floppy(1_474_560, false),
            packet,
            Sense::WRITE_PROTECTED,
        );
        refuses(&mut empty(DriveKind::Floppy), packet, Sense::NO_MEDIUM);
    }
}

#[test]
fn refused_writes_can_be_drained_first() {
    let mut drive = with(DriveKind::Floppy, |behaviour| {
        behaviour.drain_refused_writes = true
    });
    let reply = drive.execute(&cdb("2a 00 00 00 00 00 00 00 80 00"));
    assert_eq!(
        reply,
        Reply::Drain {
            length: 0x1_0000,
            then: Sense::WRITE_PROTECTED
        }
    );
    refuses(
        &mut drive,
        "2a 00 00 00 00 00 00 00 00 00",
        Sense::WRITE_PROTECTED,
    );
}

#[test]
fn writes_to_a_writable_floppy_are_kept() {
    let mut drive = floppy(1_474_560, true);
    let expected = Reply::Write {
        offset: 0x21 * 512,
        length: 1024,
    };
    for packet in [
        "0a 00 00 21 02 00",
        "2a 00 00 00 00 21 00 00 02 00",
        "2e 00 00 00 00 21 00 00 02 00",
        "aa 00 00 00 00 21 00 00 00 02 00 00",
    ] {
        assert_eq!(drive.execute(&cdb(packet)), expected, "{packet}");
    }
    refuses(
        &mut drive,
        "2a 00 00 00 0b 3f 00 00 02 00",
        Sense::LBA_OUT_OF_RANGE,
    );
    succeeds(&mut drive, "2a 00 00 00 00 00 00 00 00 00");
    assert_eq!(
        drive.execute(&cdb("35 00 00 00 00 00 00 00 00 00")),
        Reply::Flush
    );
}
