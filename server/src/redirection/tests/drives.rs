//! What the host gets.

use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::firmware::{CD, FLOPPY, Firmware, cd, config, credentials, pattern};
use crate::redirection::block_source::{
    BlockSource, FileImage, MemoryImage, Overlay, WritableFloppy,
};
use crate::redirection::connect::{Channel, Dial, Dialing};
use crate::redirection::ider::{Config, IderServer};

#[tokio::test]
async fn both_drives_answer_with_their_own_bytes() {
    let (config, mut calls) = config(Some(cd(1 << 20)));
    let handle = IderServer::spawn(config).unwrap();
    let (mut firmware, start_mode) = Firmware::attach(calls.recv().await.unwrap()).await;
    assert_eq!(start_mode, 0x09);
    let capacity = firmware.ask(CD, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await;
    assert_eq!(capacity.data, [0, 0, 1, 0xff, 0, 0, 8, 0]);
    let capacity = firmware
        .ask(FLOPPY, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        .await;
    assert_eq!(capacity.data, [0, 0, 0x0b, 0x3f, 0, 0, 2, 0]);
    // 40 KiB from block 16 on: frames of the read buffer.
    let read = firmware.read(CD, 16, 20).await;
    assert_eq!(read.data, pattern(1 << 20)[32 << 10..72 << 10]);
    assert_eq!(read.frames, [8192; 5]);
    let read = firmware.read(FLOPPY, 2879, 1).await;
    assert_eq!(read.data, [0; 512]);
    let refused = firmware.read(CD, 511, 2).await;
    assert_eq!(refused.sense, Some([0x05, 0x21, 0x00]));
    let refused = firmware.ask(CD, &[0xbd]).await;
    assert_eq!(refused.sense, Some([0x05, 0x20, 0x00]));

    let statistics = handle.statistics();
    assert_eq!(statistics.attachments, 1);
    assert_eq!(statistics.commands, 6);
    assert_eq!(statistics.refused, 2);
    assert_eq!(statistics.reads, 2);
    assert_eq!(statistics.bytes_read, 40 * 1024 + 512);
    assert_eq!(statistics.opcodes[0x28], 3);
    assert_eq!(statistics.read_sizes.most(), 40 * 1024);
    assert_eq!(statistics.service_times.count(), 6);
    assert_eq!(statistics.cd.read(), 20);
    assert!(statistics.cd.contains(16) && !statistics.cd.contains(36));
    assert_eq!(statistics.floppy.read(), 1);
}

#[tokio::test]
async fn overlays_are_what_the_host_reads() {
    let overlay = Overlay {
        offset: 4000,
        bytes: b"this session's slot".to_vec(),
    };
    let image = MemoryImage::new(pattern(8192).into(), vec![overlay]).unwrap();
    let (config, mut calls) = config(Some(Arc::new(image)));
    let _handle = IderServer::spawn(config).unwrap();
    let (mut firmware, _) = Firmware::attach(calls.recv().await.unwrap()).await;
    let mut expected = pattern(8192);
    expected[4000..4019].copy_from_slice(b"this session's slot");
    assert_eq!(firmware.read(CD, 0, 4).await.data, expected);
}

#[tokio::test]
async fn a_last_block_that_is_not_full_ends_in_zeros() {
    let (config, mut calls) = config(Some(cd(2048 + 512)));
    let _handle = IderServer::spawn(config).unwrap();
    let (mut firmware, _) = Firmware::attach(calls.recv().await.unwrap()).await;
    let read = firmware.read(CD, 0, 2).await;
    let mut expected = pattern(2048 + 512);
    expected.resize(4096, 0);
    assert_eq!(read.data, expected);
}

#[tokio::test]
async fn a_file_beyond_four_gib_is_read_at_its_last_sector() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let last = 5_u64 << 30;
    file.as_file().write_all_at(&pattern(2048), last).unwrap();
    let source = Arc::new(FileImage::open(file.path()).unwrap());
    let (config, mut calls) = config(Some(source));
    let handle = IderServer::spawn(config).unwrap();
    let (mut firmware, _) = Firmware::attach(calls.recv().await.unwrap()).await;
    let capacity = firmware.ask(CD, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await;
    assert_eq!(capacity.data, [0, 0x28, 0, 0, 0, 0, 8, 0]);
    let read = firmware.read(CD, 0x28_0000, 1).await;
    assert_eq!(read.data, pattern(2048));
    // The sector before is a hole.
    let read = firmware.read(CD, 0x27_ffff, 2).await;
    assert_eq!(read.data, [vec![0; 2048], pattern(2048)].concat());
    assert!(handle.statistics().cd.contains(0x28_0000));
}

#[tokio::test]
async fn a_read_longer_than_a_piece_arrives_whole() {
    let (config, mut calls) = config(Some(cd(3 << 20)));
    let _handle = IderServer::spawn(config).unwrap();
    let (mut firmware, _) = Firmware::attach(calls.recv().await.unwrap()).await;
    // READ(12) of all but one block.
    let read = firmware
        .ask(CD, &[0xa8, 0, 0, 0, 0, 1, 0, 0, 0x05, 0xff, 0, 0])
        .await;
    assert_eq!(read.data, pattern(3 << 20)[2048..]);
    assert!(read.frames[..383].iter().all(|&length| length == 8192));
    assert_eq!(firmware.read(CD, 0, 1).await.data, pattern(2048));
}

#[tokio::test]
async fn what_is_written_to_a_writable_floppy_can_be_read_and_had() {
    let floppy = Arc::new(WritableFloppy::new(vec![0; 1_474_560]));
    let (mut config, mut calls) = config(None);
    config.floppy = Some(floppy.clone());
    let handle = IderServer::spawn(config).unwrap();
    let (mut firmware, _) = Firmware::attach(calls.recv().await.unwrap()).await;
    // WRITE(10) of 24 blocks: 12 KiB, more than the write buffer.
    let data = pattern(12 << 10);
    firmware
        .command(FLOPPY, &[0x2a, 0, 0, 0, 0, 5, 0, 0, 24, 0])
        .await;
    let mut rest = &data[..];
    while !rest.is_empty() {
        let get = firmware.message().await;
        assert_eq!(get[0], 0x52);
        let wanted = usize::from(u16::from_le_bytes([get[9], get[10]]));
        assert!(wanted <= 8192);
        let (now, later) = rest.split_at(wanted);
        let (first, second) = now.split_at(wanted / 3);
        for part in [first, second] {
            let [low, high] = (part.len() as u16).to_le_bytes();
            let mut message = vec![0x53, 0, 0, 0, 0, 0, 0, 0, 0, low, high, 0, 0, 0];
            message.extend(part);
            firmware.numbered(&message).await;
        }
        rest = later;
    }
    assert_eq!(firmware.answer().await.sense, None);
    assert_eq!(firmware.read(FLOPPY, 5, 24).await.data, data);
    assert_eq!(floppy.contents()[5 * 512..29 * 512], data);
    assert_eq!(handle.statistics().bytes_written, 12 << 10);
}

#[tokio::test]
async fn writes_are_refused_at_once_by_default() {
    let (config, mut calls) = config(Some(cd(2048)));
    let _handle = IderServer::spawn(config).unwrap();
    let (mut firmware, _) = Firmware::attach(calls.recv().await.unwrap()).await;
    for device in [CD, FLOPPY] {
        let refused = firmware
            .ask(device, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0])
            .await;
        assert_eq!(refused.sense, Some([0x07, 0x27, 0x00]));
    }
}

/// A channel that notes the length of each write.
struct Noting {
    inner: tokio::io::DuplexStream,
    writes: Arc<Mutex<Vec<usize>>>,
}

impl AsyncRead for Noting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, into)
    }
}

impl AsyncWrite for Noting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        if let Poll::Ready(Ok(length)) = written {
            self.writes.lock().unwrap().push(length);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

struct NotingDial {
    writes: Arc<Mutex<Vec<usize>>>,
    ends: Mutex<tokio::sync::mpsc::UnboundedSender<tokio::io::DuplexStream>>,
}

impl Dial for NotingDial {
    fn dial(&self) -> Dialing<'_> {
        let (inner, far) = tokio::io::duplex(1 << 20);
        self.ends.lock().unwrap().send(far).unwrap();
        let writes = self.writes.clone();
        Box::pin(async { Ok(Box::new(Noting { inner, writes }) as Box<dyn Channel>) })
    }
}

#[tokio::test]
async fn a_reply_is_one_write() {
    let (ends, mut calls) = tokio::sync::mpsc::unbounded_channel();
    let writes = Arc::new(Mutex::new(Vec::new()));
    let dial = NotingDial {
        writes: writes.clone(),
        ends: Mutex::new(ends),
    };
    let config = Config::new(Arc::new(dial), credentials(), Some(cd(1 << 20)));
    let _handle = IderServer::spawn(config).unwrap();
    let (mut firmware, _) = Firmware::attach(calls.recv().await.unwrap()).await;
    for (blocks, frames) in [(1, 1), (4, 1), (32, 8), (64, 16)] {
        writes.lock().unwrap().clear();
        firmware.read(CD, 0, blocks).await;
        let expected = usize::from(blocks) * 2048 + frames * 34;
        assert_eq!(*writes.lock().unwrap(), [expected]);
    }
}

/// A source that does at each read what the next in a list says.
struct Odd {
    reads: Mutex<Vec<Act>>,
}

enum Act {
    Fail,
    /// Only where waiting is allowed; then it works.
    Later,
    LaterFail,
    LaterPanic,
    /// Not before the sender was dropped.
    Stall(mpsc::Receiver<()>),
}

impl Odd {
    fn new(mut acts: Vec<Act>) -> Arc<Self> {
        acts.reverse();
        Arc::new(Self {
            reads: Mutex::new(acts),
        })
    }

    fn next(&self) -> Option<Act> {
        self.reads
            .lock()
            .unwrap_or_else(|error| error.into_inner())
            .pop()
    }

    fn put_back(&self, act: Act) -> io::Result<()> {
        self.reads
            .lock()
            .unwrap_or_else(|error| error.into_inner())
            .push(act);
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl BlockSource for Odd {
    fn bytes(&self) -> u64 {
        1 << 20
    }

    fn read_now(&self, _offset: u64, into: &mut [u8]) -> io::Result<()> {
        match self.next() {
            None => {
                into.fill(7);
                Ok(())
            }
            Some(Act::Fail) => Err(io::ErrorKind::Other.into()),
            Some(later) => self.put_back(later),
        }
    }

    fn read(&self, _offset: u64, into: &mut [u8]) -> io::Result<()> {
        match self.next() {
            Some(Act::LaterFail) => return Err(io::ErrorKind::Other.into()),
            Some(Act::LaterPanic) => panic!("as the test wants it"),
            Some(Act::Stall(until)) => {
                let _ = until.recv();
            }
            _ => {}
        }
        into.fill(8);
        Ok(())
    }
}

#[tokio::test]
async fn a_read_error_of_the_image_is_one_of_the_drive_and_no_more() {
    let source = Odd::new(vec![Act::Fail, Act::Later, Act::LaterFail, Act::LaterPanic]);
    let (config, mut calls) = config(Some(source));
    let _handle = IderServer::spawn(config).unwrap();
    let (mut firmware, _) = Firmware::attach(calls.recv().await.unwrap()).await;
    let unreadable = Some([0x03, 0x11, 0x00]);
    assert_eq!(firmware.read(CD, 0, 1).await.sense, unreadable);
    assert_eq!(firmware.read(CD, 0, 1).await.data, [8; 2048]);
    assert_eq!(firmware.read(CD, 0, 1).await.sense, unreadable);
    assert_eq!(firmware.read(CD, 0, 1).await.sense, unreadable);
    assert_eq!(firmware.read(CD, 0, 1).await.data, [7; 2048]);
}

#[tokio::test]
async fn an_error_behind_the_first_piece_ends_the_read_with_sense() {
    let source = Odd::new(vec![Act::Later, Act::Fail]);
    let (config, mut calls) = config(Some(source));
    let _handle = IderServer::spawn(config).unwrap();
    let (mut firmware, _) = Firmware::attach(calls.recv().await.unwrap()).await;
    let read = firmware.read(CD, 0, 512).await;
    assert_eq!(read.data.len(), 256 << 10);
    assert_eq!(read.sense, Some([0x03, 0x11, 0x00]));
    assert_eq!(firmware.read(CD, 0, 1).await.data, [7; 2048]);
}

#[tokio::test]
async fn an_image_that_stalls_is_unreadable_and_the_session_goes_on() {
    let (releases, stalls): (Vec<_>, Vec<_>) = (0..4)
        .map(|_| mpsc::channel())
        .map(|(release, until)| (release, Act::Stall(until)))
        .unzip();
    let source = Odd::new(stalls.into_iter().chain([Act::Later]).collect());
    let (mut config, mut calls) = config(Some(source.clone()));
    config.limits.read_patience = Duration::from_millis(20);
    let _handle = IderServer::spawn(config).unwrap();
    let (mut firmware, _) = Firmware::attach(calls.recv().await.unwrap()).await;
    let unreadable = Some([0x03, 0x11, 0x00]);
    for _ in 0..4 {
        assert_eq!(firmware.read(CD, 0, 1).await.sense, unreadable);
        // The other drive is not affected.
        assert_eq!(firmware.read(FLOPPY, 0, 1).await.data, [0; 512]);
    }
    // No more threads are given away to hang.
    assert_eq!(firmware.read(CD, 0, 1).await.sense, unreadable);
    assert_eq!(source.reads.lock().unwrap().len(), 1);
    drop(releases);
}

#[tokio::test]
async fn a_reset_voids_the_read_that_was_under_way() {
    let (release, until) = mpsc::channel();
    let source = Odd::new(vec![Act::Stall(until)]);
    let (config, mut calls) = config(Some(source));
    let handle = IderServer::spawn(config).unwrap();
    let (mut firmware, _) = Firmware::attach(calls.recv().await.unwrap()).await;
    firmware.command(CD, &super::firmware::read_10(0, 1)).await;
    firmware.numbered(&[0x46, 0, 0, 0, 0, 0, 0, 0, 0x01]).await;
    assert_eq!(firmware.message().await[0], 0x47);
    drop(release);
    // Nothing of the old command comes before the answer to the new one.
    let ready = firmware.ask(CD, &[0]).await;
    assert_eq!((ready.data.len(), ready.sense), (0, None));
    assert_eq!(handle.statistics().resets, 1);
}
