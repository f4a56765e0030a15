//! Bytes of each command, written by hand from the standards and from what consoles send. When one fails, the code is wrong.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod blocks;
mod mode;
mod state;
mod tables;

use atapi::{Behaviour, Drive, DriveKind, Medium, Reply, Sense};

const GIB: u64 = 1 << 30;

fn cd(bytes: u64) -> Drive {
    let medium = Medium {
        bytes,
        writable: false,
    };
    Drive::new(DriveKind::Cd, Some(medium), Behaviour::default()).unwrap()
}

fn floppy(bytes: u64, writable: bool) -> Drive {
    let medium = Medium { bytes, writable };
    Drive::new(DriveKind::Floppy, Some(medium), Behaviour::default()).unwrap()
}

fn empty(kind: DriveKind) -> Drive {
    Drive::new(kind, None, Behaviour::default()).unwrap()
}

/// A drive whose behaviour differs from the default in one thing.
fn with(kind: DriveKind, change: impl FnOnce(&mut Behaviour)) -> Drive {
    let mut behaviour = Behaviour::default();
    change(&mut behaviour);
    let medium = Medium {
        bytes: 2880 * 512,
        writable: false,
    };
    Drive::new(kind, Some(medium), behaviour).unwrap()
}

fn hex(text: &str) -> Vec<u8> {
    text.split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

/// A CDB in hex, padded to an ATAPI packet.
fn cdb(text: &str) -> Vec<u8> {
    let mut cdb = hex(text);
    cdb.resize(12, 0);
    cdb
}

fn answers(drive: &mut Drive, packet: &str, expected: &str) {
    let reply = drive.execute(&cdb(packet));
    assert_eq!(reply, Reply::Data(hex(expected)), "{packet}");
}

fn refuses(drive: &mut Drive, packet: &str, sense: Sense) {
    assert_eq!(drive.execute(&cdb(packet)), Reply::Check(sense), "{packet}");
}

fn succeeds(drive: &mut Drive, packet: &str) {
    assert_eq!(drive.execute(&cdb(packet)), Reply::Done, "{packet}");
}
