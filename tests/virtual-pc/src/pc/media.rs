//! Redirected drives as QEMU reads them: each of its requests becomes commands of the session.

use std::io;

use crate::host::nbd::BlockDevice;
use crate::host::nbd::session::Export;
use crate::host::{Drive, Media, Medium};
use crate::redirection::{Capacity, DriveError, DriveSelect, IderMedia, MediaState};

/// One drive of the session.
#[derive(Debug)]
pub(super) struct Redirected {
    media: IderMedia,
    drive: DriveSelect,
}

impl Redirected {
    pub(super) fn new(media: IderMedia, drive: Drive) -> Self {
        Redirected {
            media,
            drive: select(drive),
        }
    }
}

impl BlockDevice for Redirected {
    fn export(&self) -> Option<Export> {
        let capacity = self.media.capacity(self.drive)?;
        // NBD knows sizes from 512 to 64 KiB, and QEMU wants no others.
        let block_size = capacity.block_size;
        let usable = block_size.is_power_of_two() && (512..=65_536).contains(&block_size);
        usable.then(|| Export {
            size: capacity.bytes(),
            block_size,
            writable: capacity.writable,
        })
    }

    async fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut data = vec![0; length];
        self.media
            .read(self.drive, offset, &mut data)
            .await
            .map_err(guest_error)?;
        Ok(data)
    }

    async fn write(&self, offset: u64, data: Vec<u8>) -> io::Result<()> {
        self.media
            .write(self.drive, offset, &data)
            .await
            .map_err(guest_error)
    }

    async fn flush(&self) -> io::Result<()> {
        self.media.flush(self.drive).await.map_err(guest_error)
    }
}

/// What the guest gets to see of it is an I/O error or a write-protected medium.
fn guest_error(error: DriveError) -> io::Error {
    tracing::debug!(%error, "a redirected drive failed");
    let kind = match error {
        DriveError::Check(sense) if sense.key == 7 => io::ErrorKind::ReadOnlyFilesystem,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

fn select(drive: Drive) -> DriveSelect {
    match drive {
        Drive::Cd => DriveSelect::Cd,
        Drive::Floppy => DriveSelect::Floppy,
    }
}

/// What the guest is to see of a session's drives.
pub(super) fn wanted(state: &MediaState) -> Media {
    if !state.attached {
        return Media::default();
    }
    let medium = |capacity: Option<Capacity>| {
        // A blank disc: QEMU takes no empty drive for one.
        let capacity = capacity.filter(|capacity| capacity.bytes() > 0)?;
        Some(Medium {
            size: capacity.bytes(),
            writable: capacity.writable,
        })
    };
    Media {
        cd: medium(state.cd),
        floppy: medium(state.floppy),
    }
}
