//! Number and size of blocks: READ CAPACITY(10) (SBC-2 5.10.2), READ FORMAT CAPACITIES (MMC-5 6.24.3), and the empty answer
//! to GET PERFORMANCE, which has speeds to tell about no extent.

use super::{AnswerError, Cursor};

/// What READ CAPACITY(10) answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// The last block; 0xffff_ffff means that ten bytes of CDB cannot address the medium.
    pub last_lba: u32,
    /// Bytes per block.
    pub block_size: u32,
}

impl Capacity {
    /// Reads the eight bytes of an answer.
    pub fn parse(bytes: &[u8]) -> Result<Self, AnswerError> {
        let mut cursor = Cursor::new(bytes);
        Ok(Self {
            last_lba: u32::from_be_bytes(cursor.take("last LBA")?),
            block_size: u32::from_be_bytes(cursor.take("block size")?),
        })
    }

    /// Number of blocks.
    pub fn blocks(&self) -> u64 {
        u64::from(self.last_lba) + 1
    }

    /// Size of the medium in bytes.
    pub fn bytes(&self) -> u64 {
        // Below 2^64: at most 2^32 blocks of less than 2^32 bytes.
        self.blocks() * u64::from(self.block_size)
    }
}

/// The current capacity that READ FORMAT CAPACITIES answers first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormatCapacity {
    /// Number of blocks.
    pub blocks: u32,
    /// 1 unformatted, 2 formatted, 3 no medium.
    pub descriptor_type: u8,
    /// Bytes per block, 24 bits.
    pub block_size: u32,
}

impl FormatCapacity {
    /// Reads list header and current capacity; further capacities are ignored.
    pub fn parse(bytes: &[u8]) -> Result<Self, AnswerError> {
        let mut cursor = Cursor::new(bytes);
        let [_, _, _, length] = cursor.take("capacity list header")?;
        if length < 8 || length % 8 != 0 {
            return Err(AnswerError::Malformed {
                what: "capacity list length",
                found: length.into(),
            });
        }
        let blocks = u32::from_be_bytes(cursor.take("number of blocks")?);
        let [kind, high, middle, low] = cursor.take("block size")?;
        Ok(Self {
            blocks,
            descriptor_type: kind & 3,
            block_size: u32::from_be_bytes([0, high, middle, low]),
        })
    }
}

pub(crate) fn read_capacity(blocks: u32, block_size: u32) -> Vec<u8> {
    let last_lba = blocks.saturating_sub(1);
    [last_lba.to_be_bytes(), block_size.to_be_bytes()].concat()
}

pub(crate) fn read_format_capacities(blocks: u32, block_size: u32) -> Vec<u8> {
    let [_, high, middle, low] = block_size.to_be_bytes();
    [
        [0, 0, 0, 8],
        blocks.to_be_bytes(),
        [FORMATTED, high, middle, low],
    ]
    .concat()
}

/// Header alone: four more bytes, no descriptors. Byte 4 is as every console sends it.
pub(crate) fn no_performance_data() -> Vec<u8> {
    vec![0, 0, 0, 4, 2, 0, 0, 0]
}

const FORMATTED: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_reads_beyond_32_bits_of_bytes() {
        #[rustfmt::skip]
        let bytes = [
            0x00, 0x27, 0xff, 0xff, // last of 2,621,440 blocks
            0x00, 0x00, 0x08, 0x00, // of 2,048 bytes
        ];
        let capacity = Capacity::parse(&bytes).unwrap();
        assert_eq!(capacity.bytes(), 5 << 30);
        for length in 0..8 {
            assert!(Capacity::parse(&bytes[..length]).is_err());
        }
    }

    #[test]
    fn format_capacities_check_their_length() {
        let mut bytes = read_format_capacities(2880, 512);
        let capacity = FormatCapacity::parse(&bytes).unwrap();
        assert_eq!(
            capacity,
            FormatCapacity {
                blocks: 2880,
                descriptor_type: 2,
                block_size: 512
            }
        );
        for length in 0..bytes.len() {
            assert!(FormatCapacity::parse(&bytes[..length]).is_err());
        }
        bytes[3] = 7;
        assert!(FormatCapacity::parse(&bytes).is_err());
    }
}
