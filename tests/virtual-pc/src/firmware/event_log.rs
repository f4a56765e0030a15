//! The event log (`AMT_MessageLog`): records of 21 bytes whose fields are those of a platform event trap.

use std::collections::VecDeque;

/// One record, without its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub struct Event {
    pub sensor_type: u8,
    pub event_type: u8,
    pub event_offset: u8,
    pub severity: u8,
    pub entity: u8,
    pub entity_instance: u8,
    pub data: [u8; 8],
}

impl Event {
    /// Somebody failed to log in, `count` times in a row ("password attack").
    pub fn authentication_failed(count: u32) -> Self {
        let [low, high] = u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes();
        Self {
            sensor_type: 0x06,
            event_type: 0x6f,
            event_offset: 0x05,
            severity: 0x10,
            entity: 0x26,
            entity_instance: 0x61,
            data: [0xaa, low, high, 0, 0, 0, 0, 0],
        }
    }

    /// The BIOS has come to a step of its boot (codes: 0x01 memory, 0x05 set-up, 0x13 starting the boot, ...).
    pub fn progress(code: u8) -> Self {
        Self {
            sensor_type: 0x0f,
            event_type: 0x6f,
            event_offset: 0x02,
            severity: 0x01,
            entity: 0x22,
            entity_instance: 0,
            data: [0x40, code, 0, 0, 0, 0, 0, 0],
        }
    }

    /// A redirection session began or ended (codes: 0 SOL start, 1 SOL stop, 2 IDE-R start, 3 IDE-R stop).
    pub fn remote_diagnostics(code: u8) -> Self {
        Self {
            sensor_type: 0xc0,
            event_type: 0x70,
            event_offset: 0,
            severity: 0x02,
            entity: 0x26,
            entity_instance: 0x61,
            data: [0xaa, 0x30, code, 0, 0, 0, 0, 0],
        }
    }

    fn record(&self, unix: u32) -> [u8; RECORD_LEN] {
        let mut record = [0; RECORD_LEN];
        let (time, rest) = record.split_at_mut(4);
        time.copy_from_slice(&unix.to_le_bytes());
        let (head, data) = rest.split_at_mut(9);
        head.copy_from_slice(&[
            0xff, // device address
            self.sensor_type,
            self.event_type,
            self.event_offset,
            0x68, // event source: ASF, as in all records that real firmware writes
            self.severity,
            0xff, // sensor number: unspecified
            self.entity,
            self.entity_instance,
        ]);
        data.copy_from_slice(&self.data);
        record
    }
}

/// Bytes in a record.
pub const RECORD_LEN: usize = 21;

/// Records that the log holds; the oldest go first.
pub const MAX_RECORDS: usize = 390;

#[derive(Debug, Default)]
pub(super) struct EventLog {
    /// Newest first.
    records: VecDeque<[u8; RECORD_LEN]>,
    frozen: bool,
}

impl EventLog {
    pub(super) fn push(&mut self, unix: u32, event: Event) {
        if self.frozen {
            return;
        }
        if self.records.len() == MAX_RECORDS {
            self.records.pop_back();
        }
        self.records.push_front(event.record(unix));
    }

    pub(super) fn records(&self) -> impl ExactSizeIterator<Item = &[u8; RECORD_LEN]> {
        self.records.iter()
    }

    /// Forgets all records, unless the log is frozen.
    pub(super) fn clear(&mut self) -> bool {
        if !self.frozen {
            self.records.clear();
        }
        !self.frozen
    }

    pub(super) fn freeze(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    pub(super) fn frozen(&self) -> bool {
        self.frozen
    }
}

#[cfg(test)]
mod tests {
    use ct_codecs::{Base64, Encoder};

    use super::*;

    #[test]
    fn records_are_byte_for_byte_those_of_a_real_machine() {
        let failed = Event::authentication_failed(10).record(0x6598_c863);
        assert_eq!(
            Base64::encode_to_string(failed).unwrap(),
            "Y8iYZf8GbwVoEP8mYaoKAAAAAAAA"
        );
        let progress = Event::progress(7).record(0x6501_0622);
        assert_eq!(
            Base64::encode_to_string(progress).unwrap(),
            "IgYBZf8PbwJoAf8iAEAHAAAAAAAA"
        );
    }

    #[test]
    fn a_full_log_forgets_its_oldest_record() {
        let mut log = EventLog::default();
        for time in 0..=MAX_RECORDS as u32 {
            log.push(time, Event::progress(1));
        }
        assert_eq!(log.records().len(), MAX_RECORDS);
        assert_eq!(
            log.records().next().unwrap()[..4],
            (MAX_RECORDS as u32).to_le_bytes()
        );
        assert_eq!(log.records().last().unwrap()[..4], 1u32.to_le_bytes());
    }

    #[test]
    fn a_frozen_log_neither_grows_nor_clears() {
        let mut log = EventLog::default();
        log.push(1, Event::progress(1));
        log.freeze(true);
        log.push(2, Event::progress(2));
        assert!(!log.clear());
        assert_eq!(log.records().len(), 1);
    }
}
