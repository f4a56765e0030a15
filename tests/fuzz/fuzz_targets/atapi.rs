//! A host that sends any CDBs, resets and failures in any order to a CD or floppy drive of any size.
#![no_main]

use atapi::{Behaviour, Command, Drive, DriveKind, Medium, Reply, Sense};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Session {
    cd: bool,
    bytes: Option<u64>,
    writable: bool,
    choices: [bool; 9],
    operations: Vec<Operation>,
}

#[derive(Debug, Arbitrary)]
enum Operation {
    Packet([u8; 12]),
    Cdb(Vec<u8>),
    Reset,
    Failed { key: u8, asc: u8, ascq: u8 },
}

fuzz_target!(|session: Session| {
    let kind = if session.cd {
        DriveKind::Cd
    } else {
        DriveKind::Floppy
    };
    let behaviour = Behaviour {
        unit_attention_on_insert: session.choices[0],
        unit_attention_on_reset: session.choices[1],
        eight_byte_event_status: session.choices[2],
        true_lead_out: session.choices[3],
        standard_absent_page: session.choices[4],
        disc_information: session.choices[5],
        read_cd: session.choices[6],
        honour_eject: session.choices[7],
        drain_refused_writes: session.choices[8],
    };
    let medium = session.bytes.map(|bytes| Medium {
        bytes,
        writable: session.writable,
    });
    let Ok(mut drive) = Drive::new(kind, medium, behaviour) else {
        return;
    };
    for operation in &session.operations {
        match operation {
            Operation::Packet(cdb) => execute(&mut drive, cdb),
            Operation::Cdb(cdb) => execute(&mut drive, cdb),
            Operation::Reset => drive.reset(),
            Operation::Failed { key, asc, ascq } => drive.failed(Sense::new(*key, *asc, *ascq)),
        }
    }
});

fn execute(drive: &mut Drive, cdb: &[u8]) {
    let end = u64::from(drive.blocks().unwrap_or(0)) * u64::from(drive.kind().block_size());
    let command = Command::parse(cdb);
    match drive.execute(cdb) {
        Reply::Data(bytes) => {
            assert!(command.is_ok());
            assert!(!bytes.is_empty() && bytes.len() <= 94);
        }
        Reply::Read { offset, length } | Reply::Write { offset, length } => {
            assert!(length > 0);
            assert!(offset.checked_add(length).is_some_and(|last| last <= end));
        }
        Reply::Drain { length, .. } => assert!(length > 0),
        Reply::Check(sense) => assert_ne!(sense, Sense::NONE),
        Reply::Flush | Reply::Done => assert!(command.is_ok()),
    }
}
