//! A plain IDE-R console: the CD that it is given and a blank floppy, from memory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use amt_redirection::console::ider::{Command, Console, Event, Options, StartMode};
use amt_redirection::console::{AuthPolicy, Credentials, Opening};
use amt_redirection::session::SessionKind;
use atapi::{Behaviour, Drive, DriveKind, Medium, Reply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A session; dropping it closes the connection.
pub(crate) struct Session {
    /// Whether the firmware has taken the drives.
    pub(crate) attached: watch::Receiver<bool>,
    /// Bytes of the CD that were sent.
    pub(crate) sent: Arc<AtomicU64>,
    /// Ends with the connection.
    pub(crate) task: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Opens a session and serves it.
pub(crate) async fn offer(address: SocketAddr, cd: Vec<u8>, start_mode: StartMode) -> Session {
    let (attached, receiver) = watch::channel(false);
    let sent = Arc::new(AtomicU64::new(0));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let rest = authenticate(&mut stream).await;
    let options = Options {
        start_mode,
        ..Options::default()
    };
    let served = Served::new(cd, Arc::clone(&sent));
    let task = tokio::spawn(serve(stream, rest, options, served, attached));
    Session {
        attached: receiver,
        sent,
        task,
    }
}

async fn authenticate(stream: &mut TcpStream) -> Vec<u8> {
    let credentials = Credentials {
        user: "admin".into(),
        password: "P@ssw0rd".to_owned().into(),
    };
    let mut opening = Opening::new(
        SessionKind::Ider,
        credentials,
        AuthPolicy::default(),
        [7; 16],
        Instant::now(),
    );
    let mut buffer = [0; 4096];
    loop {
        while let Some(bytes) = opening.poll_transmit() {
            stream.write_all(&bytes).await.unwrap();
        }
        if let Some(outcome) = opening.outcome() {
            return outcome.unwrap().rest;
        }
        let length = stream.read(&mut buffer).await.unwrap();
        assert_ne!(length, 0, "the firmware hung up");
        opening.handle_input(Instant::now(), &buffer[..length]);
    }
}

/// Ends quietly when the connection does: what became of it is seen on the other side.
async fn serve(
    mut stream: TcpStream,
    rest: Vec<u8>,
    options: Options,
    mut served: Served,
    attached: watch::Sender<bool>,
) {
    let mut console = Console::new(options, Instant::now());
    if console.handle_input(Instant::now(), &rest).is_err() {
        return;
    }
    let mut buffer = vec![0; 64 << 10];
    loop {
        while let Some(event) = console.poll_event() {
            match event {
                Event::Attached => drop(attached.send_replace(true)),
                Event::Command(command) => served.answer(&mut console, command),
                Event::Written { id, .. } => drop(console.finish(id)),
                _ => {}
            }
        }
        while let Some(bytes) = console.poll_transmit() {
            if stream.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let due = console
            .poll_timeout()
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
        tokio::select! {
            read = stream.read(&mut buffer) => match read {
                Ok(length @ 1..) => if console.handle_input(Instant::now(), &buffer[..length]).is_err() {
                    return;
                },
                _ => return,
            },
            () = tokio::time::sleep_until(due.into()) => if console.handle_timeout(Instant::now()).is_err() {
                return;
            },
        }
    }
}

/// Both drives with their content.
struct Served {
    cd: (Drive, Vec<u8>),
    floppy: (Drive, Vec<u8>),
    sent: Arc<AtomicU64>,
}

impl Served {
    fn new(cd: Vec<u8>, sent: Arc<AtomicU64>) -> Self {
        let drive = |kind, content: &Vec<u8>| {
            let medium = Medium {
                bytes: content.len() as u64,
                writable: false,
            };
            Drive::new(kind, Some(medium), Behaviour::default()).unwrap()
        };
        let floppy = vec![0; 1_474_560];
        Served {
            cd: (drive(DriveKind::Cd, &cd), cd),
            floppy: (drive(DriveKind::Floppy, &floppy), floppy),
            sent,
        }
    }

    fn answer(&mut self, console: &mut Console, command: Command) {
        let is_cd = command.drive == amt_redirection::ider::DriveSelect::Cd;
        let (drive, content) = if is_cd {
            &mut self.cd
        } else {
            &mut self.floppy
        };
        let id = command.id;
        let send = |console: &mut Console, mut bytes: &[u8]| {
            let taken = console.data(id, true, bytes.len(), |piece| {
                let (now, later) = bytes.split_at(piece.len());
                piece.copy_from_slice(now);
                bytes = later;
                Ok::<_, std::convert::Infallible>(())
            });
            assert!(taken.unwrap());
        };
        match drive.execute(&command.cdb[..command.cdb_len]) {
            Reply::Data(bytes) => send(console, &bytes),
            Reply::Read { offset, length } => {
                // The drive knows how long the content is.
                let offset = offset as usize;
                send(console, &content[offset..offset + length as usize]);
                if is_cd {
                    self.sent.fetch_add(length, Ordering::Relaxed);
                }
            }
            Reply::Write { .. } | Reply::Drain { .. } => drop(console.check(id, 7, 0x27, 0)),
            Reply::Flush | Reply::Done => drop(console.finish(id)),
            Reply::Check(sense) => drop(console.check(id, sense.key, sense.asc, sense.ascq)),
        }
    }
}
