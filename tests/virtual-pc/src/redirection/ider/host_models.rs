//! What hosts are known to ask of drives that appear: BIOS, Linux, Windows. Each answer is checked.
//!
//! The sequences are general knowledge about these hosts, not traces from machines with AMT (reference, section
//! 8.1). An answer that a standard does not allow is noted as a violation, and the sequence goes on as the host
//! would.

use std::time::Duration;

use amt_redirection::ider::DriveSelect;
use atapi::answer::{
    self, Configuration, DiscInformation, EventStatus, FormatCapacity, LEAD_OUT, ModeParameters,
    PROFILE_CD_ROM, Toc,
};
use atapi::cdb::{self, Cdb};
use atapi::{Opcode, Sense};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::counters::{Violation, hex_of};
use super::initiator::{Answer, Command};
use super::media::{Capacity, IderMedia, Job, MediaState, execute};
use crate::redirection::knobs::Knobs;

/// Times that a command is repeated after a reset or a unit attention.
const MAX_REPEATS: u32 = 5;
/// Bytes of a CD block.
const SECTOR: usize = 2048;
/// First volume descriptor of an ISO 9660 volume (ECMA-119 6.7).
const PRIMARY_VOLUME_DESCRIPTOR: u32 = 16;

/// A kind of host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostModel {
    /// A BIOS that boots by El Torito, one block at a time.
    Bios,
    /// Linux's driver for CD drives (sr).
    LinuxCd,
    /// Linux's driver for disks (sd), on the floppy.
    LinuxFloppy,
    /// Windows.
    Windows,
    /// No host that exists: asks what must be refused. Consoles in the field fail some of it, by silence too.
    Probe,
}

impl HostModel {
    /// Those that exist.
    pub const DEFAULT: [Self; 4] = [Self::Bios, Self::LinuxCd, Self::LinuxFloppy, Self::Windows];
}

/// All hosts that try the drives of one session.
pub(super) struct Hosts {
    models: Vec<HostModel>,
    media: IderMedia,
    jobs: mpsc::Sender<Job>,
    poll: Duration,
    max_read: u32,
    dma: bool,
}

impl Hosts {
    pub(super) fn new(knobs: &Knobs, media: IderMedia, jobs: mpsc::Sender<Job>) -> Self {
        Self {
            models: knobs.host_models.clone(),
            media,
            jobs,
            poll: Duration::from_millis(knobs.poll_ms),
            max_read: knobs.max_host_read,
            dma: knobs.dma,
        }
    }

    /// Looks at the drives, runs the models, gives the drives to the host, then looks at the CD now and then.
    /// Returns when the session is lost.
    pub(super) async fn run(self) {
        // Nothing comes after the end of the session.
        let _ = self.try_run().await;
    }

    async fn try_run(&self) -> Option<()> {
        let state = MediaState {
            attached: true,
            cd: self.look(DriveSelect::Cd).await?,
            floppy: self.look(DriveSelect::Floppy).await?,
        };
        for model in &self.models {
            match (model, state.cd, state.floppy) {
                (HostModel::Bios, Some(cd), _) => self.bios(cd).await?,
                (HostModel::LinuxCd, Some(cd), _) => self.linux_cd(cd).await?,
                (HostModel::LinuxFloppy, _, Some(floppy)) => self.linux_floppy(floppy).await?,
                (HostModel::Windows, ..) => self.windows(state).await?,
                (HostModel::Probe, ..) => self.probe(state).await?,
                // Without a medium these hosts give up at once.
                (HostModel::Bios | HostModel::LinuxCd | HostModel::LinuxFloppy, ..) => {}
            }
            self.media.count(|counters| counters.host_models_run += 1);
        }
        self.media.plug(state, self.jobs.clone());
        if self.poll.is_zero() {
            return Some(());
        }
        loop {
            tokio::time::sleep(self.poll).await;
            self.poll_cd().await?;
        }
    }

    /// Whether there is a medium and how large it is.
    async fn look(&self, drive: DriveSelect) -> Option<Option<Capacity>> {
        let ready = self.ask(drive, cdb::test_unit_ready(), 0).await?;
        match ready.outcome {
            Ok(()) => {}
            Err(Sense::NO_MEDIUM) => return Some(None),
            Err(_) => {
                self.wrong(&cdb::test_unit_ready(), "success or 02/3a/00", &ready);
                return Some(None);
            }
        }
        let cdb = cdb::read_capacity();
        let answer = self.ask(drive, cdb, 8).await?;
        let block_size = match drive {
            DriveSelect::Cd => 2048,
            DriveSelect::Floppy => 512,
        };
        let capacity = answer::Capacity::parse(&answer.data).ok();
        let Some(capacity) = capacity.filter(|_| answer.outcome.is_ok()) else {
            self.wrong(&cdb, "a capacity from a drive that is ready", &answer);
            return Some(None);
        };
        if capacity.block_size != block_size {
            self.wrong(&cdb, &format!("blocks of {block_size} bytes"), &answer);
            return Some(None);
        }
        let writable = drive == DriveSelect::Floppy && self.writable(drive).await?;
        Some(Some(Capacity {
            blocks: capacity.blocks(),
            block_size,
            writable,
        }))
    }

    async fn writable(&self, drive: DriveSelect) -> Option<bool> {
        let answer = self.ask(drive, cdb::mode_sense_6(0x3f, 192), 192).await?;
        let mode = ModeParameters::parse_6(&answer.data);
        Some(answer.outcome.is_ok() && mode.is_ok_and(|mode| !mode.write_protected))
    }

    /// (a) Ready, capacity, volume descriptors, boot catalog, first blocks of the boot image.
    async fn bios(&self, cd: Capacity) -> Option<()> {
        self.ready(DriveSelect::Cd).await?;
        self.same_capacity(DriveSelect::Cd, cd).await?;
        let Some(volume) = self.block(cd, PRIMARY_VOLUME_DESCRIPTOR).await? else {
            return Some(());
        };
        let Some(record) = self.block(cd, PRIMARY_VOLUME_DESCRIPTOR + 1).await? else {
            return Some(());
        };
        let bootable = record.get(7..30) == Some(b"EL TORITO SPECIFICATION");
        if volume.get(1..6) != Some(b"CD001") || !bootable {
            return Some(());
        }
        let Some(catalog) = self.block(cd, le32(&record, 71)).await? else {
            return Some(());
        };
        if catalog.get(30..32) != Some(&[0x55, 0xaa]) {
            return Some(());
        }
        let image = le32(&catalog, 40);
        for block in 0..4 {
            if self.block(cd, image.saturating_add(block)).await?.is_none() {
                break;
            }
        }
        Some(())
    }

    /// (b) What sr asks when a drive appears, and a large read.
    async fn linux_cd(&self, cd: Capacity) -> Option<()> {
        let drive = DriveSelect::Cd;
        self.ready(drive).await?;
        self.same_capacity(drive, cd).await?;

        let cdb = cdb::get_configuration(2, 0, 8);
        let answer = self.ask(drive, cdb, 8).await?;
        let profile = Configuration::parse(&answer.data).map(|found| found.current_profile);
        // DVD-sized or not: a CD-ROM. Other consoles have always said so.
        if !refused_or(&answer, || profile == Ok(PROFILE_CD_ROM)) {
            self.wrong(&cdb, "profile 0008", &answer);
        }

        let cdb = cdb::mode_sense_10(0x2a, 128);
        let answer = self.ask(drive, cdb, 128).await?;
        let has_page = ModeParameters::parse_10(&answer.data)
            .is_ok_and(|mode| mode.pages().any(|page| page.code == 0x2a));
        if !refused_or(&answer, || has_page) {
            self.wrong(&cdb, "page 2a", &answer);
        }

        let cdb = cdb::read_toc(false, 0, 0, 12);
        let answer = self.ask(drive, cdb, 12).await?;
        let data_track = Toc::parse(&answer.data).is_ok_and(|toc| {
            toc.tracks
                .first()
                .is_some_and(|track| track.number == 1 && track.control & 4 != 0)
        });
        if answer.outcome.is_err() || !data_track {
            self.wrong(&cdb, "a table of contents with a data track", &answer);
        }
        let cdb = cdb::read_toc(false, 0, LEAD_OUT, 12);
        let answer = self.ask(drive, cdb, 12).await?;
        let lead_out = Toc::parse(&answer.data).ok().and_then(|toc| toc.lead_out());
        // Consoles in the field say 0, so only what is beyond reason is noted.
        if answer.outcome.is_err() || lead_out.is_none_or(|at| u64::from(at) > cd.blocks) {
            self.wrong(&cdb, "a lead-out within the medium", &answer);
        }

        let cdb = cdb::read_disc_information(34);
        let answer = self.ask(drive, cdb, 34).await?;
        if !refused_or(&answer, || DiscInformation::parse(&answer.data).is_ok()) {
            self.wrong(&cdb, "disc information or 05/20/00", &answer);
        }
        self.event_status(cd.blocks > 0).await?;

        let blocks = cd
            .blocks
            .min(u64::from(self.max_read / cd.block_size.max(1)))
            .min(0xffff);
        let length = usize::try_from(blocks).unwrap_or(0) * SECTOR;
        let cdb = cdb::read_10(0, blocks as u16);
        let many = self.ask(drive, cdb, length).await?;
        if many.outcome.is_err() || many.data.len() != length {
            self.wrong(&cdb, &format!("{length} bytes"), &many);
        } else if blocks > u64::from(PRIMARY_VOLUME_DESCRIPTOR) {
            let one = self.block(cd, PRIMARY_VOLUME_DESCRIPTOR).await?;
            let at = PRIMARY_VOLUME_DESCRIPTOR as usize * SECTOR;
            if one.as_deref() != many.data.get(at..at + SECTOR) {
                self.wrong(&cdb, "the same block 16 as when it is read alone", &many);
            }
        }
        Some(())
    }

    /// (c) What sd asks when a disk appears.
    async fn linux_floppy(&self, floppy: Capacity) -> Option<()> {
        let drive = DriveSelect::Floppy;
        self.ready(drive).await?;
        self.same_capacity(drive, floppy).await?;
        let cdb = cdb::mode_sense_6(0x3f, 192);
        let answer = self.ask(drive, cdb, 192).await?;
        if !refused_or(&answer, || ModeParameters::parse_6(&answer.data).is_ok()) {
            self.wrong(&cdb, "mode parameters", &answer);
        }
        let blocks = floppy.blocks.min(8);
        let length = usize::try_from(blocks).unwrap_or(0) * 512;
        let cdb = cdb::read_10(0, blocks as u16);
        let answer = self.ask(drive, cdb, length).await?;
        if answer.outcome.is_err() || answer.data.len() != length {
            self.wrong(&cdb, &format!("{length} bytes"), &answer);
        }
        Some(())
    }

    /// (d) What Windows asks beyond the others.
    async fn windows(&self, state: MediaState) -> Option<()> {
        for drive in [DriveSelect::Cd, DriveSelect::Floppy] {
            let Some(medium) = state.medium(drive) else {
                continue;
            };
            let cdb = cdb::read_format_capacities(252);
            let answer = self.ask(drive, cdb, 252).await?;
            let found = FormatCapacity::parse(&answer.data);
            let plausible = found.is_ok_and(|found| {
                u64::from(found.blocks) == medium.blocks && found.block_size == medium.block_size
            });
            if !refused_or(&answer, || plausible) {
                self.wrong(&cdb, "the capacity that READ CAPACITY tells", &answer);
            }
            for cdb in [
                cdb::start_stop_unit(true, false),
                cdb::prevent_allow_medium_removal(true),
                cdb::prevent_allow_medium_removal(false),
            ] {
                let answer = self.ask(drive, cdb, 0).await?;
                if !refused_or(&answer, || answer.data.is_empty()) {
                    self.wrong(&cdb, "success", &answer);
                }
            }
        }
        Some(())
    }

    /// What must be refused, and must be answered.
    async fn probe(&self, state: MediaState) -> Option<()> {
        for drive in [DriveSelect::Cd, DriveSelect::Floppy] {
            for opcode in [0xffu8, 0x9e, 0xd8] {
                let mut cdb = [0; 12];
                cdb[0] = opcode;
                let answer = self.ask(drive, cdb, 0).await?;
                if answer.outcome != Err(Sense::INVALID_OPCODE) {
                    self.wrong(&cdb, "05/20/00", &answer);
                }
            }
            let Some(medium) = state.medium(drive) else {
                continue;
            };
            let last = u32::try_from(medium.blocks.saturating_sub(1)).unwrap_or(u32::MAX);
            for (lba, blocks) in [(last, 2), (last.saturating_add(1), 1), (u32::MAX, 1)] {
                let cdb = cdb::read_10(lba, blocks);
                let answer = self.ask(drive, cdb, 2 * SECTOR).await?;
                if answer.outcome != Err(Sense::LBA_OUT_OF_RANGE) {
                    self.wrong(&cdb, "05/21/00", &answer);
                }
            }
            let cdb = cdb::read_10(0, 0);
            let answer = self.ask(drive, cdb, 0).await?;
            if answer.outcome.is_err() || !answer.data.is_empty() {
                self.wrong(&cdb, "success without data", &answer);
            }
        }
        for format in 2..=5 {
            let cdb = cdb::read_toc(false, format, 0, 2048);
            let answer = self.ask(DriveSelect::Cd, cdb, 2048).await?;
            let good = match answer.outcome {
                Err(sense) => sense.key == 5 || sense == Sense::NO_MEDIUM,
                Ok(()) => !answer.data.is_empty(),
            };
            if !good {
                self.wrong(&cdb, "a table or 05/24/00", &answer);
            }
        }
        Some(())
    }

    /// What Linux does every two seconds.
    async fn poll_cd(&self) -> Option<()> {
        let had = self.media.capacity(DriveSelect::Cd);
        self.event_status(had.is_some()).await?;
        let ready = self.ask(DriveSelect::Cd, cdb::test_unit_ready(), 0).await?;
        match (ready.outcome, had) {
            (Err(Sense::NO_MEDIUM), Some(_)) => self.media.change(DriveSelect::Cd, None),
            (Ok(()), None) => {
                let found = self.look(DriveSelect::Cd).await?;
                self.media.change(DriveSelect::Cd, found);
            }
            _ => {}
        }
        Some(())
    }

    async fn event_status(&self, present: bool) -> Option<()> {
        let cdb = cdb::get_event_status(0x10, 8);
        let answer = self.ask(DriveSelect::Cd, cdb, 8).await?;
        let status = EventStatus::parse(&answer.data);
        let sound = status.is_ok_and(|status| {
            // Removal is an event, and the drive may tell of it before we have noticed.
            status.no_event
                || status
                    .media
                    .is_some_and(|media| media.present == present || media.code != 0)
        });
        if !refused_or(&answer, || sound) {
            self.wrong(&cdb, "the medium's state", &answer);
        }
        Some(())
    }

    async fn ready(&self, drive: DriveSelect) -> Option<()> {
        let cdb = cdb::test_unit_ready();
        let answer = self.ask(drive, cdb, 0).await?;
        if answer.outcome.is_err() {
            self.wrong(&cdb, "success, as before", &answer);
        }
        Some(())
    }

    async fn same_capacity(&self, drive: DriveSelect, medium: Capacity) -> Option<()> {
        let cdb = cdb::read_capacity();
        let answer = self.ask(drive, cdb, 8).await?;
        let found = answer::Capacity::parse(&answer.data).map(|found| found.blocks());
        if answer.outcome.is_err() || found != Ok(medium.blocks) {
            self.wrong(
                &cdb,
                &format!("{} blocks, as before", medium.blocks),
                &answer,
            );
        }
        Some(())
    }

    /// One block of the CD; the inner `None` where it is not on the medium, or was not to be had.
    async fn block(&self, cd: Capacity, lba: u32) -> Option<Option<Vec<u8>>> {
        if u64::from(lba) >= cd.blocks {
            return Some(None);
        }
        let cdb = cdb::read_10(lba, 1);
        let answer = self.ask(DriveSelect::Cd, cdb, SECTOR).await?;
        if answer.outcome.is_err() || answer.data.len() != SECTOR {
            self.wrong(&cdb, "2048 bytes", &answer);
            return Some(None);
        }
        Some(Some(answer.data))
    }

    /// Sends a command, again after a reset or a unit attention; none when the session is lost.
    async fn ask(&self, drive: DriveSelect, cdb: Cdb, limit: usize) -> Option<Answer> {
        let mut repeats = 0;
        loop {
            let command = Command {
                drive,
                cdb,
                dma: self.dma && limit > 0,
                limit,
                out: Vec::new(),
            };
            match execute(&self.jobs, command).await? {
                Ok(answer) if repeats < MAX_REPEATS && attention(&answer) => repeats += 1,
                Ok(answer) => return Some(answer),
                Err(_) if repeats < MAX_REPEATS => repeats += 1,
                // The bus is reset over and over; whoever asks takes it for a failure.
                Err(_) => {
                    return Some(Answer {
                        data: Vec::new(),
                        outcome: Err(Sense::RESET_OCCURRED),
                    });
                }
            }
        }
    }

    fn wrong(&self, cdb: &Cdb, expected: &str, answer: &Answer) {
        let name = Opcode(cdb[0]).name().unwrap_or("unknown");
        let got = match answer.outcome {
            Err(sense) => format!("{:02x}/{:02x}/{:02x}", sense.key, sense.asc, sense.ascq),
            Ok(()) => {
                let start = answer.data.get(..answer.data.len().min(16));
                let length = answer.data.len();
                format!("{length} bytes: {}", hex_of(start.unwrap_or_default()))
            }
        };
        let violation = Violation {
            cdb: format!("{} ({name})", hex_of(cdb)),
            expected: expected.to_owned(),
            got,
        };
        self.media.count(|counters| counters.violated(violation));
    }
}

/// Whether the command is one that the drive does not have, or was answered well.
fn refused_or(answer: &Answer, good: impl FnOnce() -> bool) -> bool {
    match answer.outcome {
        Err(sense) => matches!(sense, Sense::INVALID_OPCODE | Sense::INVALID_FIELD_IN_CDB),
        Ok(()) => good(),
    }
}

fn attention(answer: &Answer) -> bool {
    matches!(answer.outcome, Err(Sense { key: 6, .. }))
}

fn le32(bytes: &[u8], offset: usize) -> u32 {
    bytes
        .get(offset..)
        .and_then(|tail| tail.first_chunk())
        .map_or(u32::MAX, |&field| u32::from_le_bytes(field))
}
