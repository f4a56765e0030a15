//! The firmware's side against the console's state machine and drives, over a stream in memory.

use std::sync::Mutex;

use amt_redirection::console::ider::{Console, Event, Options, StartMode};
use amt_redirection::console::{AuthPolicy, Credentials, Opening};
use amt_redirection::session::SessionKind as WireKind;
use atapi::{Behaviour, Drive, DriveKind, Medium, Reply, Sense};

use super::*;

/// What the console serves.
#[derive(Clone)]
struct Disks {
    cd: Arc<Vec<u8>>,
    floppy: Arc<Mutex<Vec<u8>>>,
}

impl Disks {
    fn new() -> Self {
        let cd = (0..300 * 2048u32).map(|at| (at / 7) as u8).collect();
        Self {
            cd: Arc::new(cd),
            floppy: Arc::new(Mutex::new(vec![0; 1440 << 10])),
        }
    }
}

/// A whole console: opens, attaches at once, and serves until the stream ends.
async fn console(mut stream: DuplexStream, disks: Disks) {
    let credentials = Credentials {
        user: "admin".to_owned(),
        password: PASSWORD.to_owned().into(),
    };
    let now = Instant::now();
    let mut opening = Opening::new(
        WireKind::Ider,
        credentials,
        AuthPolicy::default(),
        [7; 16],
        now,
    );
    let mut buffer = [0; 4096];
    let opened = loop {
        if let Some(bytes) = opening.poll_transmit() {
            stream.write_all(&bytes).await.unwrap();
        }
        if let Some(outcome) = opening.outcome() {
            break outcome.unwrap();
        }
        let count = stream.read(&mut buffer).await.unwrap();
        assert_ne!(count, 0);
        opening.handle_input(Instant::now(), &buffer[..count]);
    };
    let options = Options {
        start_mode: StartMode::Now,
        ..Options::default()
    };
    let mut console = Console::new(options, Instant::now());
    console.handle_input(Instant::now(), &opened.rest).unwrap();
    let drive = |kind, bytes, writable| {
        let medium = Medium { bytes, writable };
        Drive::new(kind, Some(medium), Behaviour::default()).unwrap()
    };
    let mut cd = drive(DriveKind::Cd, disks.cd.len() as u64, false);
    let floppy_bytes = disks.floppy.lock().unwrap().len() as u64;
    let mut floppy = drive(DriveKind::Floppy, floppy_bytes, true);
    let mut write_to = 0;
    loop {
        while let Some(event) = console.poll_event() {
            match event {
                Event::Command(command) => {
                    let id = command.id;
                    let drive = match command.drive {
                        DriveSelect::Cd => &mut cd,
                        DriveSelect::Floppy => &mut floppy,
                    };
                    match drive.execute(&command.cdb[..command.cdb_len]) {
                        Reply::Data(data) => {
                            let mut rest = &data[..];
                            let sent: Result<bool, ()> =
                                console.data(id, true, data.len(), |piece| {
                                    let (now, later) = rest.split_at(piece.len());
                                    piece.copy_from_slice(now);
                                    rest = later;
                                    Ok(())
                                });
                            assert!(sent.unwrap());
                        }
                        Reply::Read { offset, length } => {
                            let floppy = disks.floppy.lock().unwrap();
                            let source = match command.drive {
                                DriveSelect::Cd => &disks.cd[..],
                                DriveSelect::Floppy => &floppy[..],
                            };
                            let mut at = offset as usize;
                            let sent: Result<bool, ()> =
                                console.data(id, true, length as usize, |piece| {
                                    piece.copy_from_slice(&source[at..at + piece.len()]);
                                    at += piece.len();
                                    Ok(())
                                });
                            assert!(sent.unwrap());
                        }
                        Reply::Write { offset, length } => {
                            write_to = offset as usize;
                            console.fetch(id, length as usize).unwrap();
                        }
                        Reply::Check(Sense { key, asc, ascq }) => {
                            console.check(id, key, asc, ascq);
                        }
                        _ => {
                            console.finish(id);
                        }
                    }
                }
                Event::Written { id, data } => {
                    disks.floppy.lock().unwrap()[write_to..write_to + data.len()]
                        .copy_from_slice(&data);
                    console.finish(id);
                }
                Event::Reset { .. } => {
                    cd.reset();
                    floppy.reset();
                }
                Event::Closed => return,
                _ => {}
            }
        }
        while let Some(bytes) = console.poll_transmit() {
            if stream.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let due = console.poll_timeout().unwrap();
        tokio::select! {
            () = tokio::time::sleep_until(due.into()) => console.handle_timeout(Instant::now()).unwrap(),
            read = stream.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(count) => console
                    .handle_input(Instant::now(), &buffer[..count])
                    .unwrap(),
            },
        }
    }
}

/// Every host model, the impossible one included.
fn knobs() -> Knobs {
    let mut knobs = Knobs::default();
    knobs.host_models.push(HostModel::Probe);
    knobs
}

async fn attached(pc: &Pc, disks: &Disks) -> IderMedia {
    let (stream, _) = pc.connect();
    tokio::spawn(console(stream, disks.clone()));
    let media = pc.redirection.media().clone();
    let wait = async {
        media
            .watch()
            .wait_for(|state| state.attached)
            .await
            .map(|_| ())
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("not attached in time")
        .unwrap();
    media
}

async fn read(
    media: &IderMedia,
    drive: DriveSelect,
    offset: usize,
    length: usize,
) -> Result<Vec<u8>, DriveError> {
    let mut buffer = vec![0; length];
    media.read(drive, offset as u64, &mut buffer).await?;
    Ok(buffer)
}

#[tokio::test]
async fn every_host_is_content_and_reads_what_is_there() {
    let variants = [
        knobs(),
        Knobs {
            dma: true,
            ..knobs()
        },
        Knobs {
            read_buffer: 512,
            write_buffer: 512,
            ..knobs()
        },
        Knobs {
            strict_sequence: true,
            ..knobs()
        },
        Knobs {
            segmentation: Segmentation::Pieces {
                bytes: 1,
                gap_ms: 0,
            },
            ..knobs()
        },
        Knobs {
            round_trip_ms: 2,
            think_time_ms: 1,
            bandwidth: 4 << 20,
            ..knobs()
        },
    ];
    for knobs in variants {
        let disks = Disks::new();
        let pc = Pc::new(config("amt12-nuc"), knobs.clone());
        let media = attached(&pc, &disks).await;
        let cd = media.capacity(DriveSelect::Cd).unwrap();
        assert_eq!((cd.bytes(), cd.writable), (300 * 2048, false));
        let floppy = media.capacity(DriveSelect::Floppy).unwrap();
        assert_eq!((floppy.bytes(), floppy.writable), (1440 << 10, true));
        for (offset, length) in [
            (0, 2048),
            (1, 1),
            (2047, 2),
            (0, 300 * 2048),
            (300 * 2048 - 5, 5),
        ] {
            let bytes = read(&media, DriveSelect::Cd, offset, length).await.unwrap();
            assert!(
                bytes == disks.cd[offset..offset + length],
                "{offset} {length} {knobs:?}"
            );
        }
        let counters = media.counters();
        assert_eq!(counters.violations, 0, "{:#?}", counters.violation_list);
        assert_eq!(counters.host_models_run, 5);
        assert!(counters.sizes.contains_key(&(120 << 10)));
    }
}

#[tokio::test]
async fn the_floppy_keeps_what_is_written() {
    let disks = Disks::new();
    let pc = Pc::new(config("amt12-nuc"), knobs());
    let media = attached(&pc, &disks).await;
    let text: Vec<u8> = (0..100 * 512u32).map(|at| (at / 3) as u8).collect();
    media.write(DriveSelect::Floppy, 1024, &text).await.unwrap();
    media.flush(DriveSelect::Floppy).await.unwrap();
    assert!(disks.floppy.lock().unwrap()[1024..1024 + text.len()] == text);
    assert!(
        read(&media, DriveSelect::Floppy, 1024, text.len())
            .await
            .unwrap()
            == text
    );
    let odd = media.write(DriveSelect::Floppy, 1, &text[..512]).await;
    assert_eq!(odd, Err(DriveError::OutOfRange));
    let counters = media.counters();
    assert_eq!(counters.bytes_to_console, text.len() as u64);
    assert_eq!(counters.violations, 0, "{:#?}", counters.violation_list);
    let protected = media.write(DriveSelect::Cd, 0, &[0; 2048]).await;
    assert_eq!(protected, Err(DriveError::Check(Sense::WRITE_PROTECTED)));
}

/// After OpenSession, SetRegisterState and the hosts' questions, in the middle of the large reads.
const IN_MID_READ: u64 = 400_000;

#[tokio::test]
async fn a_cut_is_an_error_then_no_medium_then_a_drive_again() {
    let disks = Disks::new();
    let fault = Fault {
        at: IN_MID_READ,
        kind: FaultKind::Drop,
    };
    let pc = Pc::new(
        config("amt12-nuc"),
        Knobs {
            fault: Some(fault),
            ..knobs()
        },
    );
    let media = attached(&pc, &disks).await;
    let whole = disks.cd.len();
    assert_eq!(
        read(&media, DriveSelect::Cd, 0, whole).await,
        Err(DriveError::SessionLost)
    );
    assert_eq!(
        read(&media, DriveSelect::Cd, 0, 1).await,
        Err(DriveError::NoMedium)
    );
    assert_eq!(*media.watch().borrow(), MediaState::default());
    let media = attached(&pc, &disks).await;
    assert_eq!(
        read(&media, DriveSelect::Cd, 0, 1).await.unwrap(),
        disks.cd[..1]
    );
}

#[tokio::test]
async fn a_read_may_wait_for_the_session_to_come_back() {
    let disks = Disks::new();
    let fault = Fault {
        at: IN_MID_READ,
        kind: FaultKind::Drop,
    };
    let knobs = Knobs {
        fault: Some(fault),
        reattach_wait_ms: 20_000,
        ..knobs()
    };
    let pc = Pc::new(config("amt12-nuc"), knobs);
    let media = attached(&pc, &disks).await;
    let (reader, whole) = (media.clone(), disks.cd.len());
    let pending = tokio::spawn(async move { read(&reader, DriveSelect::Cd, 0, whole).await });
    media
        .watch()
        .wait_for(|state| !state.attached)
        .await
        .unwrap();
    attached(&pc, &disks).await;
    assert!(pending.await.unwrap().unwrap() == *disks.cd);
}

#[tokio::test]
async fn a_reset_or_a_stall_in_mid_read_loses_nothing() {
    for kind in [FaultKind::Reset, FaultKind::Stall { ms: 50 }] {
        // Every so often another byte of a frame.
        for at in [
            IN_MID_READ,
            IN_MID_READ + 1,
            IN_MID_READ + 17,
            IN_MID_READ + 8200,
        ] {
            let disks = Disks::new();
            let fault = Some(Fault { at, kind });
            let pc = Pc::new(config("amt12-nuc"), Knobs { fault, ..knobs() });
            let media = attached(&pc, &disks).await;
            let whole = disks.cd.len();
            assert!(read(&media, DriveSelect::Cd, 0, whole).await.unwrap() == *disks.cd);
            let counters = media.counters();
            assert_eq!(counters.violations, 0, "{:#?}", counters.violation_list);
            let resets = u64::from(kind == FaultKind::Reset);
            assert_eq!(
                (counters.resets, counters.resets_acknowledged),
                (resets, resets)
            );
        }
    }
}

#[tokio::test]
async fn a_bandwidth_is_kept() {
    let disks = Disks::new();
    let knobs = Knobs {
        bandwidth: 1 << 20,
        host_models: Vec::new(),
        ..knobs()
    };
    let pc = Pc::new(config("amt12-nuc"), knobs);
    let media = attached(&pc, &disks).await;
    let began = Instant::now();
    read(&media, DriveSelect::Cd, 0, 512 << 10).await.unwrap();
    let took = began.elapsed();
    // Half a second; what passes at once at the start, and a busy machine, are left room.
    assert!(took >= Duration::from_millis(460), "{took:?}");
    assert!(took < Duration::from_millis(1500), "{took:?}");
}

#[tokio::test]
async fn a_port_serves_while_the_listener_is_on() {
    let pc = Pc::new(config("amt12-nuc"), knobs());
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let address = listener.address();
    tokio::spawn(listener.run(pc.redirection.clone()));
    let started = async || {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream.write_all(b"\x10\0\0\0IDER").await?;
        let mut reply = [0; 13];
        stream.read_exact(&mut reply).await?;
        Ok::<_, std::io::Error>(reply[1])
    };
    assert_eq!(started().await.unwrap(), 0);
    let switch = |on| {
        pc.firmware.with(|firmware| {
            let mut switches = *firmware.switches();
            switches.listener = on;
            firmware.set_switches(switches);
        });
    };
    switch(false);
    let refused = async {
        while started().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, refused)
        .await
        .expect("still listening");
    switch(true);
    let accepted = async {
        while started().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, accepted)
        .await
        .expect("not listening again");
}
