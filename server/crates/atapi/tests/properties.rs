//! What holds for any CDB on any drive.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use atapi::answer::{
    Capacity, Configuration, DiscInformation, EventStatus, FormatCapacity, Inquiry, ModeParameters,
    Toc,
};
use atapi::{Behaviour, Command, Drive, DriveKind, Medium, Reply, Sense, cdb};
use proptest::prelude::*;

fn behaviours() -> impl Strategy<Value = Behaviour> {
    any::<[bool; 9]>().prop_map(|choice| Behaviour {
        unit_attention_on_insert: choice[0],
        unit_attention_on_reset: choice[1],
        eight_byte_event_status: choice[2],
        true_lead_out: choice[3],
        standard_absent_page: choice[4],
        disc_information: choice[5],
        read_cd: choice[6],
        honour_eject: choice[7],
        drain_refused_writes: choice[8],
    })
}

fn drives() -> impl Strategy<Value = Drive> {
    let sizes = prop_oneof![
        1..10_000_u64,
        Just(2880 * 512),
        (1 << 31)..(6_u64 << 30),
        Just(u64::from(u32::MAX) * 512),
    ];
    let medium = proptest::option::of((sizes, any::<bool>()));
    let kind = prop_oneof![Just(DriveKind::Cd), Just(DriveKind::Floppy)];
    (kind, medium, behaviours()).prop_map(|(kind, medium, behaviour)| {
        let medium = medium.map(|(bytes, writable)| Medium {
            bytes,
            writable: writable && kind == DriveKind::Floppy,
        });
        Drive::new(kind, medium, behaviour).unwrap()
    })
}

/// Mostly CDBs whose opcode means something.
fn cdbs() -> impl Strategy<Value = Vec<u8>> {
    let known = proptest::sample::select(vec![
        0x00, 0x03, 0x08, 0x0a, 0x12, 0x1a, 0x1b, 0x1e, 0x23, 0x25, 0x28, 0x2a, 0x2e, 0x2f, 0x35,
        0x43, 0x46, 0x4a, 0x51, 0x5a, 0xa8, 0xaa, 0xac, 0xbe,
    ]);
    let rest = proptest::collection::vec(prop_oneof![Just(0), any::<u8>()], 11..16);
    prop_oneof![
        4 => (known, rest).prop_map(|(opcode, rest)| [vec![opcode], rest].concat()),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ]
}

/// Most bytes that the host takes, where the CDB says so.
fn allocation(command: Command) -> Option<u16> {
    match command {
        Command::RequestSense { allocation }
        | Command::Inquiry { allocation, .. }
        | Command::ReadFormatCapacities { allocation }
        | Command::ModeSense6 { allocation, .. }
        | Command::ModeSense10 { allocation, .. }
        | Command::ReadToc { allocation, .. }
        | Command::GetConfiguration { allocation, .. }
        | Command::GetEventStatus { allocation, .. }
        | Command::ReadDiscInformation { allocation, .. } => Some(allocation),
        _ => None,
    }
}

proptest! {
    #[test]
    fn replies_stay_inside_of_medium_and_allocation(mut drive in drives(), cdbs in proptest::collection::vec(cdbs(), 1..40)) {
        for cdb in cdbs {
            let before = drive.blocks();
            let reply = drive.execute(&cdb);
            match &reply {
                Reply::Data(bytes) => {
                    prop_assert!(!bytes.is_empty());
                    let most = Command::parse(&cdb).ok().and_then(allocation).unwrap_or(8);
                    prop_assert!(bytes.len() <= usize::from(most));
                }
                Reply::Read { offset, length } | Reply::Write { offset, length } => {
                    let block_size = u64::from(drive.kind().block_size());
                    let end = u64::from(before.unwrap()) * block_size;
                    prop_assert!(*length > 0);
                    prop_assert!(offset + length <= end);
                    prop_assert_eq!(offset % block_size, 0);
                    prop_assert_eq!(length % block_size, 0);
                }
                Reply::Drain { length, then } => {
                    prop_assert!(*length > 0);
                    prop_assert_eq!(*then, Sense::WRITE_PROTECTED);
                }
                Reply::Check(sense) => prop_assert_ne!(*sense, Sense::NONE),
                Reply::Flush | Reply::Done => {}
            }
            if matches!(reply, Reply::Write { .. } | Reply::Flush) {
                prop_assert_eq!(drive.kind(), DriveKind::Floppy);
            }
        }
    }

    #[test]
    fn a_failure_is_what_request_sense_tells_next(mut drive in drives(), packet in cdbs()) {
        let reply = drive.execute(&packet);
        let expected = match reply {
            Reply::Check(sense) | Reply::Drain { then: sense, .. } => sense,
            _ => return Ok(()),
        };
        let told = match drive.execute(&cdb::request_sense(18)) {
            Reply::Data(bytes) => Sense::parse_fixed(&bytes).unwrap(),
            other => panic!("{other:?}"),
        };
        // Unit attention stays pending over a failed INQUIRY and comes first.
        prop_assert!(told == expected || told == Sense::MEDIUM_MAY_HAVE_CHANGED);
    }

    #[test]
    fn builders_and_parser_agree_on_blocks(lba: u32, blocks: u16) {
        let read = Ok(Command::Read { lba, blocks: blocks.into() });
        prop_assert_eq!(Command::parse(&cdb::read_10(lba, blocks)), read);
        prop_assert_eq!(Command::parse(&cdb::read_12(lba, blocks.into())), read);
        let write = Ok(Command::Write { lba, blocks: blocks.into() });
        prop_assert_eq!(Command::parse(&cdb::write_10(lba, blocks)), write);
        prop_assert_eq!(Command::parse(&cdb::write_12(lba, blocks.into())), write);
        prop_assert_eq!(Command::parse(&cdb::write_and_verify_10(lba, blocks)), write);
    }

    #[test]
    fn readers_of_answers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Capacity::parse(&bytes).map(|capacity| capacity.bytes());
        let _ = FormatCapacity::parse(&bytes);
        let _ = Configuration::parse(&bytes);
        let _ = DiscInformation::parse(&bytes);
        let _ = EventStatus::parse(&bytes);
        let _ = Inquiry::parse(&bytes);
        let _ = ModeParameters::parse_6(&bytes);
        if let Ok(parameters) = ModeParameters::parse_10(&bytes) {
            prop_assert!(parameters.pages().count() <= bytes.len());
        }
        let _ = Toc::parse(&bytes);
        let _ = Sense::parse_fixed(&bytes);
    }
}

#[test]
fn an_initiator_reads_what_the_drive_answers() {
    let medium = Medium {
        bytes: 5 << 30,
        writable: false,
    };
    let mut drive = Drive::new(DriveKind::Cd, Some(medium), Behaviour::default()).unwrap();
    let mut ask = |cdb: cdb::Cdb| match drive.execute(&cdb) {
        Reply::Data(bytes) => bytes,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        Capacity::parse(&ask(cdb::read_capacity())).unwrap().bytes(),
        5 << 30
    );
    let toc = Toc::parse(&ask(cdb::read_toc(false, 0, 0, 804))).unwrap();
    assert_eq!(toc.lead_out(), Some(5 << 19));
    let sessions = Toc::parse(&ask(cdb::read_toc_sff_8020(false, 1, 0, 12))).unwrap();
    assert_eq!(sessions.tracks[0].address, 0);
    let configuration = Configuration::parse(&ask(cdb::get_configuration(0, 0, 1024))).unwrap();
    assert_eq!(configuration.current_profile, 8);
    let status = EventStatus::parse(&ask(cdb::get_event_status(0x10, 8))).unwrap();
    assert!(status.no_event);
    let parameters = ModeParameters::parse_10(&ask(cdb::mode_sense_10(0x2a, 128))).unwrap();
    assert_eq!(parameters.pages().next().unwrap().code, 0x2a);
    assert!(Inquiry::parse(&ask(cdb::inquiry(36))).unwrap().removable);
    let capacity = FormatCapacity::parse(&ask(cdb::read_format_capacities(252))).unwrap();
    assert_eq!(capacity.blocks, 5 << 19);
}
