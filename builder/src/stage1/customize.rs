//! Fills the config slot of a finished stage-one file, or empties it again.
//!
//! Only slot bytes change: the file keeps its size and everything else in it. All copies of the slot
//! (one per boot path) must be intact and equal before anything is written, and get the same bytes.

use sha2::{Digest, Sha256};
use stage1_config::{ConfigError, SLOT_LEN, Slot, SlotError};
use thiserror::Error;

/// A stage-one file with its slots located and checked.
#[derive(Clone, Debug)]
pub struct SlottedFile {
    bytes: Vec<u8>,
    offsets: Vec<usize>,
    slot: Slot,
}

impl SlottedFile {
    /// Locates the slots in a whole stage-one file.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, CustomizeError> {
        let offsets = stage1_config::find(&bytes);
        let mut slots = Vec::new();
        for &offset in &offsets {
            let data = bytes
                .get(offset..offset + SLOT_LEN)
                .ok_or(CustomizeError::Cut { offset })?;
            let slot =
                Slot::parse(data).map_err(|cause| CustomizeError::Damaged { offset, cause })?;
            slots.push((data, slot));
        }
        let mut slots = slots.into_iter();
        let Some((first, slot)) = slots.next() else {
            return Err(CustomizeError::NoSlot);
        };
        if slots.any(|(data, _)| data != first) {
            return Err(CustomizeError::Unequal { offsets });
        }
        Ok(Self {
            bytes,
            offsets,
            slot,
        })
    }

    /// The slot, as read.
    pub fn slot(&self) -> &Slot {
        &self.slot
    }

    /// Where the slots are, in bytes from the start of the file.
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The slot with `overlay` (TOML) as its customization; the merged configuration must be valid. Whoever serves the file
    /// lays it over each of [`SlottedFile::offsets`].
    pub fn customized_slot(&self, overlay: &str) -> Result<Slot, CustomizeError> {
        let slot = self
            .slot
            .with_overlay(overlay)
            .map_err(CustomizeError::Encode)?;
        slot.config().map_err(CustomizeError::Config)?;
        Ok(slot)
    }

    /// Replaces the customization by `overlay` (TOML); the merged configuration must be valid.
    pub fn customize(&mut self, overlay: &str) -> Result<(), CustomizeError> {
        let slot = self.customized_slot(overlay)?;
        self.put(slot);
        Ok(())
    }

    /// Drops the customization: the file is then bit for bit the one that was built.
    pub fn reset(&mut self) {
        self.put(self.slot.without_overlay());
    }

    /// SHA-256 of the file without its customization: names the build.
    pub fn build_digest(&self) -> [u8; 32] {
        let mut built = self.clone();
        built.reset();
        Sha256::digest(&built.bytes).into()
    }

    fn put(&mut self, slot: Slot) {
        let encoded = slot.emit();
        for &offset in &self.offsets {
            // `parse` proved that every slot lies within the file.
            if let Some(place) = self.bytes.get_mut(offset..offset + encoded.len()) {
                place.copy_from_slice(&encoded);
            }
        }
        self.slot = slot;
    }
}

/// Why a file cannot be customized. Nothing has been changed.
#[derive(Debug, Error)]
pub enum CustomizeError {
    /// No slot at all.
    #[error("no config slot found; this is not a stage-one file")]
    NoSlot,
    /// A slot runs past the end.
    #[error("file ends inside the config slot at byte {offset}")]
    Cut {
        /// Where it starts.
        offset: usize,
    },
    /// A slot's checksums or lengths do not hold.
    #[error("config slot at byte {offset} is damaged; build the file anew")]
    Damaged {
        /// Where it starts.
        offset: usize,
        /// What is wrong.
        #[source]
        cause: SlotError,
    },
    /// The boot paths would be configured differently.
    #[error("config slots at bytes {offsets:?} differ from each other; build the file anew")]
    Unequal {
        /// Where they start.
        offsets: Vec<usize>,
    },
    /// The new configuration is not valid.
    #[error("configuration is not valid")]
    Config(#[source] ConfigError),
    /// The new configuration does not fit.
    #[error("configuration does not fit the slot")]
    Encode(#[source] SlotError),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in for a stage-one file: two slots at 512-byte boundaries in filler.
    fn file() -> Vec<u8> {
        let slot = Slot::new("format = 1\n").unwrap().emit();
        let mut bytes = vec![0x11; 2048];
        bytes.extend_from_slice(&slot);
        bytes.resize(40 * 1024 - 512, 0x22);
        bytes.extend_from_slice(&slot);
        bytes.extend_from_slice(&[0x33; 777]);
        bytes
    }

    #[test]
    fn reset_restores_the_file_bit_for_bit() {
        let original = file();
        let mut slotted = SlottedFile::parse(original.clone()).unwrap();
        slotted
            .customize("server = \"http://10.0.0.1:8080\"\n")
            .unwrap();
        assert_ne!(slotted.bytes(), &original[..]);
        let mut again = SlottedFile::parse(slotted.bytes().to_vec()).unwrap();
        assert_eq!(
            again.slot().config().unwrap().server.as_deref(),
            Some("http://10.0.0.1:8080")
        );
        again.reset();
        assert_eq!(again.bytes(), &original[..]);
    }

    #[test]
    fn changes_slot_bytes_only() {
        let original = file();
        let mut slotted = SlottedFile::parse(original.clone()).unwrap();
        slotted.customize("image = \"diagnostic\"\n").unwrap();
        let changed: Vec<usize> = (0..original.len())
            .filter(|&i| original[i] != slotted.bytes()[i])
            .collect();
        assert!(!changed.is_empty());
        let inside = |i: usize| {
            slotted
                .offsets()
                .iter()
                .any(|&o| (o..o + SLOT_LEN).contains(&i))
        };
        assert!(changed.into_iter().all(inside));
    }

    #[test]
    fn a_damaged_cut_or_unequal_slot_is_refused() {
        let original = file();
        let offsets = stage1_config::find(&original);
        let mut damaged = original.clone();
        damaged[offsets[1] + 70] ^= 1;
        assert!(matches!(
            SlottedFile::parse(damaged),
            Err(CustomizeError::Damaged { .. })
        ));
        let cut = original[..offsets[1] + 1000].to_vec();
        assert!(matches!(
            SlottedFile::parse(cut),
            Err(CustomizeError::Cut { .. })
        ));
        let other = Slot::new("format = 1\n# other\n").unwrap().emit();
        let mut unequal = original.clone();
        unequal[offsets[1]..offsets[1] + SLOT_LEN].copy_from_slice(&other);
        assert!(matches!(
            SlottedFile::parse(unequal),
            Err(CustomizeError::Unequal { .. })
        ));
        assert!(matches!(
            SlottedFile::parse(vec![0; 4096]),
            Err(CustomizeError::NoSlot)
        ));
    }

    #[test]
    fn an_invalid_configuration_changes_nothing() {
        let original = file();
        let mut slotted = SlottedFile::parse(original.clone()).unwrap();
        assert!(slotted.customize("no_such_key = 1\n").is_err());
        assert!(slotted.customize("server = [").is_err());
        assert!(
            slotted
                .customize(&format!("append = \"{}\"\n", "x".repeat(SLOT_LEN)))
                .is_err()
        );
        assert_eq!(slotted.bytes(), &original[..]);
    }
}
