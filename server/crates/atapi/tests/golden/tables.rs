//! Tables that describe drive and disc.

use atapi::{DriveKind, Sense};

use super::{GIB, answers, cd, empty, floppy, refuses, succeeds, with};

#[test]
fn inquiry_has_36_bytes_and_no_pages() {
    answers(
        &mut cd(131_072),
        "12 00 00 00 24 00",
        // CD, removable, no standard, ATAPI 2 / format 1, 31 follow
        "05 80 00 21 1f 00 00 00 \
         73 70 61 72 65 74 69 72 \
         52 65 64 69 72 65 63 74 65 64 20 43 44 20 20 20 \
         31 2e 30 20",
    );
    answers(
        &mut empty(DriveKind::Floppy),
        "12 00 00 00 ff 00",
        "00 80 00 21 1f 00 00 00 \
         73 70 61 72 65 74 69 72 \
         52 65 64 69 72 65 63 74 65 64 20 44 69 73 6b 20 \
         31 2e 30 20",
    );
    answers(&mut cd(131_072), "12 00 00 00 05 00", "05 80 00 21 1f");
    refuses(
        &mut cd(131_072),
        "12 01 80 00 24 00",
        Sense::INVALID_FIELD_IN_CDB,
    );
}

#[test]
fn format_capacities_tell_the_current_size() {
    let packet = "23 00 00 00 00 00 00 00 fc 00";
    answers(
        &mut floppy(1_474_560, false),
        packet,
        "00 00 00 08 00 00 0b 40 02 00 02 00",
    );
    answers(
        &mut cd(131_072),
        packet,
        "00 00 00 08 00 00 00 40 02 00 08 00",
    );
    refuses(&mut empty(DriveKind::Floppy), packet, Sense::NO_MEDIUM);
}

#[test]
fn toc_has_one_data_track_and_a_lead_out() {
    let mut drive = cd(131_072);
    // Format 0 by LBA, then by time: the lead-out is block 64, 214 frames from the start.
    answers(
        &mut drive,
        "43 00 00 00 00 00 00 03 24 00",
        "00 12 01 01 00 14 01 00 00 00 00 00 00 14 aa 00 00 00 00 40",
    );
    answers(
        &mut drive,
        "43 02 00 00 00 00 00 03 24 00",
        "00 12 01 01 00 14 01 00 00 00 02 00 00 14 aa 00 00 00 02 40",
    );
    // From the lead-out on; cut to twelve bytes.
    answers(
        &mut drive,
        "43 00 00 00 00 00 aa 03 24 00",
        "00 0a 01 01 00 14 aa 00 00 00 00 40",
    );
    answers(
        &mut drive,
        "43 00 00 00 00 00 01 00 0c 00",
        "00 12 01 01 00 14 01 00 00 00 00 00",
    );
    // Format 1, in byte 2 and in SFF-8020i's place.
    answers(
        &mut drive,
        "43 00 01 00 00 00 00 00 0c 00",
        "00 0a 01 01 00 14 01 00 00 00 00 00",
    );
    answers(
        &mut drive,
        "43 00 00 00 00 00 00 00 0c 40",
        "00 0a 01 01 00 14 01 00 00 00 00 00",
    );
    // Format 2: A0, A1, A2, track 1.
    answers(
        &mut drive,
        "43 02 02 00 00 00 00 03 24 00",
        "00 2e 01 01 \
         01 14 00 a0 00 00 00 00 01 00 00 \
         01 14 00 a1 00 00 00 00 01 00 00 \
         01 14 00 a2 00 00 00 00 00 02 40 \
         01 14 00 01 00 00 00 00 00 02 00",
    );
}

#[test]
fn toc_of_a_large_disc_saturates_its_times() {
    let mut drive = cd(5 * GIB);
    answers(
        &mut drive,
        "43 02 00 00 00 00 aa 03 24 00",
        "00 0a 01 01 00 14 aa 00 00 ff 3b 4a",
    );
    answers(
        &mut drive,
        "43 00 00 00 00 00 aa 03 24 00",
        "00 0a 01 01 00 14 aa 00 00 28 00 00",
    );
}

#[test]
fn every_toc_format_is_answered() {
    let mut drive = cd(131_072);
    for format in 3..16 {
        let packet = format!("43 00 {format:02x} 00 00 00 00 03 24 00");
        refuses(&mut drive, &packet, Sense::INVALID_FIELD_IN_CDB);
    }
    refuses(
        &mut drive,
        "43 00 00 00 00 00 02 03 24 00",
        Sense::INVALID_FIELD_IN_CDB,
    );
    refuses(
        &mut drive,
        "43 00 02 00 00 00 02 03 24 00",
        Sense::INVALID_FIELD_IN_CDB,
    );
    refuses(
        &mut empty(DriveKind::Cd),
        "43 00 00 00 00 00 00 03 24 00",
        Sense::NO_MEDIUM,
    );
    refuses(
        &mut floppy(1_474_560, false),
        "43 00 00 00 00 00 00 03 24 00",
        Sense::INVALID_OPCODE,
    );
}

#[test]
fn toc_can_have_the_fielded_lead_out() {
    let mut drive = with(DriveKind::Cd, |behaviour| behaviour.true_lead_out = false);
    answers(
        &mut drive,
        "43 00 00 00 00 00 00 03 24 00",
        "00 12 01 01 00 14 01 00 00 00 00 00 00 14 aa 00 00 00 00 00",
    );
    answers(
        &mut drive,
        "43 02 00 00 00 00 00 03 24 00",
        "00 12 01 01 00 14 01 00 00 00 02 00 00 14 aa 00 00 00 34 13",
    );
}

#[test]
fn configuration_is_that_of_a_cd_rom() {
    let mut drive = cd(5 * GIB);
    answers(
        &mut drive,
        "46 00 00 00 00 00 00 01 00 00",
        "00 00 00 3c 00 00 00 08 \
         00 00 03 04 00 08 01 00 \
         00 01 03 04 00 00 00 02 \
         00 02 03 04 00 00 00 00 \
         00 03 03 04 29 00 00 02 \
         00 10 01 08 00 00 08 00 00 01 00 00 \
         00 1e 03 00 \
         01 00 03 00 \
         01 05 03 00",
    );
    answers(
        &mut drive,
        "46 02 01 05 00 00 00 00 40 00",
        "00 00 00 08 00 00 00 08 01 05 03 00",
    );
    // A feature that the drive does not have: the header alone.
    answers(
        &mut drive,
        "46 02 00 1f 00 00 00 00 40 00",
        "00 00 00 04 00 00 00 08",
    );
    answers(
        &mut drive,
        "46 01 00 00 00 00 00 00 08 00",
        "00 00 00 3c 00 00 00 08",
    );
    succeeds(&mut drive, "46 00 00 00 00 00 00 00 00 00");
    refuses(
        &mut drive,
        "46 03 00 00 00 00 00 00 40 00",
        Sense::INVALID_FIELD_IN_CDB,
    );
    refuses(
        &mut floppy(1_474_560, false),
        "46 00 00 00 00 00 00 00 40 00",
        Sense::INVALID_OPCODE,
    );
}

#[test]
fn event_status_is_the_fielded_four_bytes_by_default() {
    let packet = "4a 01 00 00 10 00 00 00 08 00";
    answers(&mut cd(131_072), packet, "00 02 80 00");
    answers(&mut floppy(1_474_560, false), packet, "00 02 80 00");
    answers(&mut empty(DriveKind::Cd), packet, "00 00 80 00");
    // Asynchronous.
    refuses(
        &mut cd(131_072),
        "4a 00 00 00 10 00 00 00 08 00",
        Sense::INVALID_FIELD_IN_CDB,
    );
}

#[test]
fn event_status_can_have_eight_bytes() {
    let mut drive = with(DriveKind::Cd, |behaviour| {
        behaviour.eight_byte_event_status = true
    });
    answers(
        &mut drive,
        "4a 01 00 00 10 00 00 00 08 00",
        "00 06 04 10 00 02 00 00",
    );
    // No room, or another class.
    answers(&mut drive, "4a 01 00 00 10 00 00 00 04 00", "00 02 80 00");
    answers(&mut drive, "4a 01 00 00 40 00 00 00 08 00", "00 02 80 00");
}

#[test]
fn get_performance_has_a_header_alone() {
    answers(
        &mut cd(131_072),
        "ac 10 00 00 00 00 00 00 00 01 00 00",
        "00 00 00 04 02 00 00 00",
    );
    refuses(
        &mut floppy(1_474_560, false),
        "ac 10 00 00 00 00 00 00 00 01 00 00",
        Sense::INVALID_OPCODE,
    );
}

#[test]
fn disc_information_is_a_choice() {
    let packet = "51 00 00 00 00 00 00 00 22 00";
    refuses(&mut cd(131_072), packet, Sense::INVALID_OPCODE);
    let mut drive = with(DriveKind::Cd, |behaviour| behaviour.disc_information = true);
    answers(
        &mut drive,
        packet,
        "00 20 0e 01 01 01 01 20 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00",
    );
    refuses(
        &mut drive,
        "51 01 00 00 00 00 00 00 22 00",
        Sense::INVALID_FIELD_IN_CDB,
    );
}
