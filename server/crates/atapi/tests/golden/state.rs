//! Success without data, refusals, and what a drive remembers.

use atapi::{DriveKind, Reply, Sense};

use super::{answers, cd, cdb, empty, floppy, refuses, succeeds, with};

#[test]
fn commands_without_data_succeed() {
    for packet in [
        "00 00 00 00 00 00",             // TEST UNIT READY
        "1b 00 00 00 01 00",             // start
        "1b 00 00 00 02 00",             // eject: by default nothing happens
        "1e 00 00 00 01 00",             // lock
        "1e 00 00 00 00 00",             // unlock
        "2f 00 00 00 00 00 00 00 40 00", // VERIFY(10)
        "35 00 00 00 00 00 00 00 00 00", // SYNCHRONIZE CACHE
    ] {
        succeeds(&mut cd(131_072), packet);
        succeeds(&mut floppy(1_474_560, false), packet);
    }
    for kind in [DriveKind::Cd, DriveKind::Floppy] {
        refuses(&mut empty(kind), "00 00 00 00 00 00", Sense::NO_MEDIUM);
        refuses(
            &mut empty(kind),
            "35 00 00 00 00 00 00 00 00 00",
            Sense::NO_MEDIUM,
        );
        succeeds(&mut empty(kind), "1e 00 00 00 01 00");
    }
}

#[test]
fn verify_with_comparison_is_refused() {
    refuses(
        &mut cd(131_072),
        "2f 02 00 00 00 00 00 00 01 00",
        Sense::INVALID_FIELD_IN_CDB,
    );
}

#[test]
fn request_sense_tells_the_last_error_once() {
    let mut drive = cd(131_072);
    refuses(
        &mut drive,
        "28 00 00 00 00 40 00 00 01 00",
        Sense::LBA_OUT_OF_RANGE,
    );
    answers(
        &mut drive,
        "03 00 00 00 12 00",
        "70 00 05 00 00 00 00 0a 00 00 00 00 21 00 00 00 00 00",
    );
    answers(
        &mut drive,
        "03 00 00 00 0e 00",
        "70 00 00 00 00 00 00 0a 00 00 00 00 00 00",
    );
    drive.failed(Sense::UNRECOVERED_READ);
    answers(
        &mut drive,
        "03 00 00 00 ff 00",
        "70 00 03 00 00 00 00 0a 00 00 00 00 11 00 00 00 00 00",
    );
}

#[test]
fn read_cd_is_a_choice_and_serves_user_data_alone() {
    let packet = "be 00 00 00 00 10 00 00 02 10 00 00";
    refuses(&mut cd(131_072), packet, Sense::INVALID_OPCODE);
    let mut drive = with(DriveKind::Cd, |behaviour| behaviour.read_cd = true);
    assert_eq!(
        drive.execute(&cdb(packet)),
        Reply::Read {
            offset: 0x8000,
            length: 0x1000
        }
    );
    refuses(
        &mut drive,
        "be 00 00 00 00 10 00 00 02 f8 00 00",
        Sense::INVALID_FIELD_IN_CDB,
    );
    refuses(
        &mut drive,
        "be 04 00 00 00 10 00 00 02 10 00 00",
        Sense::INVALID_FIELD_IN_CDB,
    );
}

#[test]
fn commands_that_no_redirected_drive_has_are_refused() {
    for packet in [
        "15 10 00 00 18 00",                   // MODE SELECT(6)
        "42 02 40 01 00 00 00 00 10 00",       // READ SUB-CHANNEL
        "44 00 00 00 00 00 00 00 08 00",       // READ HEADER
        "4c 00 00 00 00 00 00 00 00 00",       // LOG SELECT
        "4d 00 00 00 00 00 00 00 00 00",       // LOG SENSE
        "52 01 00 00 00 01 00 00 24 00",       // READ TRACK INFORMATION
        "55 10 00 00 00 00 00 00 10 00",       // MODE SELECT(10)
        "9e 10 00 00 00 00 00 00 00 00 00 00", // READ CAPACITY(16)
        "b9 00 00 00 02 00 00 02 01 10 00 00", // READ CD MSF
        "bd 00 00 00 00 00 00 00 00 08 00 00", // MECHANISM STATUS
        "01 00 00 00 00 00",                   // REZERO UNIT
        "ff 00 00 00 00 00",
    ] {
        refuses(&mut cd(131_072), packet, Sense::INVALID_OPCODE);
        refuses(&mut floppy(1_474_560, true), packet, Sense::INVALID_OPCODE);
    }
    assert_eq!(
        cd(131_072).execute(&[]),
        Reply::Check(Sense::INVALID_OPCODE)
    );
}

#[test]
fn a_cdb_cut_short_is_refused() {
    let reply = cd(131_072).execute(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(reply, Reply::Check(Sense::INVALID_FIELD_IN_CDB));
}

#[test]
fn unit_attention_is_told_once_and_never_by_default() {
    succeeds(&mut cd(131_072), "00 00 00 00 00 00");
    let mut drive = with(DriveKind::Cd, |behaviour| {
        behaviour.unit_attention_on_insert = true;
        behaviour.unit_attention_on_reset = true;
    });
    // Commands about the drive itself leave it pending.
    answers(&mut drive, "12 00 00 00 01 00", "05");
    refuses(
        &mut drive,
        "25 00 00 00 00 00 00 00 00 00",
        Sense::MEDIUM_MAY_HAVE_CHANGED,
    );
    succeeds(&mut drive, "00 00 00 00 00 00");
    drive.reset();
    answers(
        &mut drive,
        "03 00 00 00 0e 00",
        "70 00 06 00 00 00 00 0a 00 00 00 00 29 00",
    );
    succeeds(&mut drive, "00 00 00 00 00 00");
}

#[test]
fn an_honoured_eject_empties_the_drive_unless_it_is_locked() {
    let mut drive = with(DriveKind::Cd, |behaviour| behaviour.honour_eject = true);
    succeeds(&mut drive, "1e 00 00 00 01 00");
    refuses(&mut drive, "1b 00 00 00 02 00", Sense::REMOVAL_PREVENTED);
    succeeds(&mut drive, "1e 00 00 00 00 00");
    succeeds(&mut drive, "1b 00 00 00 02 00");
    assert!(drive.is_ejected());
    refuses(&mut drive, "00 00 00 00 00 00", Sense::NO_MEDIUM);
    // Stop without eject changes nothing; load brings the medium back, and so does a reset.
    succeeds(&mut drive, "1b 00 00 00 00 00");
    refuses(
        &mut drive,
        "28 00 00 00 00 00 00 00 01 00",
        Sense::NO_MEDIUM,
    );
    succeeds(&mut drive, "1b 00 00 00 03 00");
    succeeds(&mut drive, "00 00 00 00 00 00");
    succeeds(&mut drive, "1b 00 00 00 02 00");
    drive.reset();
    succeeds(&mut drive, "00 00 00 00 00 00");
}
