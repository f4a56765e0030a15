//! Mode parameters.

use atapi::{Behaviour, Drive, DriveKind, Medium, Sense};

use super::{answers, cd, floppy, refuses, succeeds, with};

#[test]
fn mode_sense_6_serves_all_pages_as_a_header() {
    answers(&mut cd(131_072), "1a 00 3f 00 c0 00", "00 05 80 00");
    answers(
        &mut floppy(1_474_560, false),
        "1a 00 3f 00 c0 00",
        "00 00 80 00",
    );
    answers(
        &mut floppy(1_474_560, true),
        "1a 00 3f 00 c0 00",
        "00 00 00 00",
    );
    answers(
        &mut floppy(1_474_560, true),
        "1a 00 3f 00 03 00",
        "00 00 00",
    );
    refuses(
        &mut cd(131_072),
        "1a 00 08 00 c0 00",
        Sense::INVALID_FIELD_IN_CDB,
    );
    refuses(
        &mut cd(131_072),
        "1a 00 3f 01 c0 00",
        Sense::INVALID_FIELD_IN_CDB,
    );
}

#[test]
fn mode_sense_10_serves_the_fielded_pages() {
    let cases: [(DriveKind, u64, &str, &str); 10] = [
        (
            DriveKind::Floppy,
            2880,
            "01",
            "00 12 24 80 00 00 00 00 01 0a 00 01 00 00 00 00 02 00 00 00",
        ),
        (
            DriveKind::Floppy,
            2881,
            "01",
            "00 12 31 80 00 00 00 00 01 0a 00 01 00 00 00 00 02 00 00 00",
        ),
        (
            DriveKind::Cd,
            64,
            "01",
            "00 0e 01 80 00 00 00 00 01 06 00 ff 00 00 00 00",
        ),
        (
            DriveKind::Floppy,
            2880,
            "05",
            "00 26 24 80 00 00 00 00 05 1e 04 b0 02 12 02 00 00 50 00 00 00 00 00 00 00 00 00 00 28 00 00 00 \
             00 00 00 00 02 d0 00 00",
        ),
        (
            DriveKind::Floppy,
            2881,
            "05",
            "00 26 31 80 00 00 00 00 05 1e 10 a9 08 20 02 00 03 c3 00 00 00 00 00 00 00 00 00 00 28 00 00 00 \
             00 00 00 00 02 d0 00 00",
        ),
        (
            DriveKind::Cd,
            64,
            "1a",
            "00 12 01 80 00 00 00 00 1a 0a 00 00 00 00 00 00 00 00 00 00",
        ),
        (
            DriveKind::Cd,
            64,
            "1d",
            "00 12 01 80 00 00 00 00 1d 0a 00 00 00 00 00 00 00 00 00 00",
        ),
        (
            DriveKind::Cd,
            64,
            "2a",
            "00 20 01 80 00 00 00 00 2a 18 00 00 00 00 20 00 00 00 00 00 00 80 00 00 00 00 00 00 00 00 00 00 00 00",
        ),
        (
            DriveKind::Cd,
            64,
            "3f",
            "00 28 01 80 00 00 00 00 01 06 00 ff 00 00 00 00 2a 18 00 00 00 00 02 00 00 00 00 00 00 80 00 00 00 \
             00 00 00 00 00 00 00 00 00",
        ),
        (
            DriveKind::Floppy,
            2880,
            "3f",
            "00 5c 24 80 00 00 00 00 01 0a 00 01 00 00 00 00 02 00 00 00 \
             03 16 00 a0 00 00 00 00 00 12 02 00 00 00 00 00 00 00 a0 00 00 00 \
             05 1e 04 b0 02 12 02 00 00 50 00 00 00 00 00 00 00 00 00 00 28 00 00 00 00 00 00 00 02 d0 00 00 \
             08 0a 00 00 00 00 00 00 00 00 00 00 0b 06 00 00 00 11 24 31",
        ),
    ];
    for (kind, blocks, page, expected) in cases {
        let bytes = blocks * u64::from(kind.block_size());
        let medium = Some(Medium {
            bytes,
            writable: false,
        });
        let mut drive = Drive::new(kind, medium, Behaviour::default()).unwrap();
        answers(
            &mut drive,
            &format!("5a 00 {page} 00 00 00 00 01 00 00"),
            expected,
        );
    }
}

#[test]
fn mode_sense_10_of_a_large_floppy_differs_in_page_05_alone() {
    answers(
        &mut floppy(2881 * 512, false),
        "5a 00 3f 00 00 00 00 01 00 00",
        "00 5c 24 80 00 00 00 00 01 0a 00 01 00 00 00 00 02 00 00 00 \
         03 16 00 a0 00 00 00 00 00 12 02 00 00 00 00 00 00 00 a0 00 00 00 \
         05 1e 10 a9 08 20 02 00 03 c3 00 00 00 00 00 00 00 00 00 00 28 00 00 00 00 00 00 00 02 d0 00 00 \
         08 0a 00 00 00 00 00 00 00 00 00 00 0b 06 00 00 00 11 24 31",
    );
}

#[test]
fn mode_sense_10_keeps_to_the_allocation_length() {
    answers(
        &mut cd(131_072),
        "5a 00 2a 00 00 00 00 00 08 00",
        "00 20 01 80 00 00 00 00",
    );
    answers(
        &mut floppy(1_474_560, true),
        "5a 00 3f 00 00 00 00 00 04 00",
        "00 5c 24 00",
    );
    succeeds(&mut cd(131_072), "5a 00 2a 00 00 00 00 00 00 00");
}

#[test]
fn absent_mode_pages_are_refused() {
    refuses(
        &mut cd(131_072),
        "5a 00 05 00 00 00 00 01 00 00",
        Sense::INVALID_OPCODE,
    );
    refuses(
        &mut floppy(1_474_560, false),
        "5a 00 2a 00 00 00 00 01 00 00",
        Sense::INVALID_OPCODE,
    );
    let mut drive = with(DriveKind::Cd, |behaviour| {
        behaviour.standard_absent_page = true
    });
    refuses(
        &mut drive,
        "5a 00 05 00 00 00 00 01 00 00",
        Sense::INVALID_FIELD_IN_CDB,
    );
}
