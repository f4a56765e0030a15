//! Which sectors of a medium were read: a bitmap that stays small whatever the medium's size.

/// Bytes of a sector.
pub const SECTOR: u64 = 2048;

/// Most bits of a map, 1 MiB of them: enough for each sector of 16 GiB.
const MOST_BITS: u64 = 8 << 20;

/// Sectors read, one bit for each, or for each few on media above 16 GiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectorMap {
    sectors: u64,
    sectors_per_bit: u64,
    /// Grown up to the last bit that is set.
    bits: Vec<u64>,
    set: u64,
}

impl SectorMap {
    /// A map of a medium of so many bytes, nothing read yet.
    pub fn new(bytes: u64) -> Self {
        let sectors = bytes.div_ceil(SECTOR);
        Self {
            sectors,
            sectors_per_bit: sectors.div_ceil(MOST_BITS).max(1).next_power_of_two(),
            bits: Vec::new(),
            set: 0,
        }
    }

    /// Notes that bytes were read. What is outside of the medium is ignored.
    pub fn mark(&mut self, offset: u64, length: u64) {
        let end = offset
            .saturating_add(length)
            .min(self.sectors.saturating_mul(SECTOR));
        if offset >= end {
            return;
        }
        let bit_bytes = SECTOR * self.sectors_per_bit;
        // Below MOST_BITS, so that both casts are exact.
        let (first, last) = (offset / bit_bytes, (end - 1) / bit_bytes);
        let words = (last / 64) as usize + 1;
        if self.bits.len() < words {
            self.bits.resize(words, 0);
        }
        for (index, word) in (first / 64..).zip(&mut self.bits[(first / 64) as usize..words]) {
            let from = first.saturating_sub(index * 64);
            let to = (last - index * 64).min(63);
            let mask = (u64::MAX >> (63 - (to - from))) << from;
            self.set += u64::from((mask & !*word).count_ones());
            *word |= mask;
        }
    }

    /// Sectors of the medium.
    pub fn sectors(&self) -> u64 {
        self.sectors
    }

    /// Sectors read; rounded up to whole bits where a bit stands for several.
    pub fn read(&self) -> u64 {
        (self.set * self.sectors_per_bit).min(self.sectors)
    }

    /// Whether the sector was read.
    pub fn contains(&self, sector: u64) -> bool {
        let bit = sector / self.sectors_per_bit;
        let word = usize::try_from(bit / 64)
            .ok()
            .and_then(|index| self.bits.get(index));
        word.is_some_and(|word| word >> (bit % 64) & 1 != 0)
    }

    /// The medium in `count` parts of equal size: how much of each was read, 0.0 to 1.0. For display.
    pub fn shares(&self, count: usize) -> Vec<f32> {
        let bits = self.sectors.div_ceil(self.sectors_per_bit);
        let count_bits = count as u64;
        (0..count_bits)
            .map(|part| {
                let from = bits * part / count_bits;
                let to = (bits * (part + 1) / count_bits).max(from + 1).min(bits);
                let set = (from..to)
                    .filter(|bit| self.contains(bit * self.sectors_per_bit))
                    .count();
                if from < to {
                    set as f32 / (to - from) as f32
                } else {
                    0.0
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_read_marks_each_sector_that_it_touches() {
        let mut map = SectorMap::new(100 * SECTOR);
        map.mark(SECTOR - 1, 2);
        map.mark(63 * SECTOR, 3 * SECTOR);
        map.mark(64 * SECTOR, SECTOR);
        let read: Vec<u64> = (0..100).filter(|&sector| map.contains(sector)).collect();
        assert_eq!(read, [0, 1, 63, 64, 65]);
        assert_eq!(map.read(), 5);
    }

    #[test]
    fn reads_outside_of_the_medium_mark_nothing() {
        let mut map = SectorMap::new(SECTOR + 1);
        map.mark(2 * SECTOR, 1);
        map.mark(u64::MAX, u64::MAX);
        map.mark(0, 0);
        assert_eq!(map.read(), 0);
        map.mark(0, u64::MAX);
        assert_eq!(map.read(), 2);
    }

    #[test]
    fn a_huge_medium_has_a_small_map() {
        let mut map = SectorMap::new(u64::from(u32::MAX) * SECTOR);
        map.mark(map.sectors() * SECTOR - 1, 1);
        assert!(map.bits.len() <= 1 << 17);
        assert!(map.contains(map.sectors() - 1));
        assert!(!map.contains(0));
    }

    #[test]
    fn shares_add_up_for_any_number_of_parts() {
        let mut map = SectorMap::new(10 * SECTOR);
        map.mark(0, 5 * SECTOR);
        assert_eq!(map.shares(2), [1.0, 0.0]);
        assert_eq!(map.shares(4), [1.0, 1.0, 0.0, 0.0]);
        assert_eq!(map.shares(20).len(), 20);
        assert_eq!(SectorMap::new(0).shares(3), [0.0, 0.0, 0.0]);
    }

    proptest! {
        #[test]
        fn a_map_is_the_set_of_sectors(reads in proptest::collection::vec((0..400_000_u64, 0..70_000_u64), 0..20)) {
            let bytes = 200 * SECTOR - 7;
            let mut map = SectorMap::new(bytes);
            let mut set = std::collections::BTreeSet::new();
            for (offset, length) in reads {
                map.mark(offset, length);
                set.extend((0..200).filter(|sector| {
                    length > 0 && sector * SECTOR < offset + length && (sector + 1) * SECTOR > offset
                }));
            }
            prop_assert_eq!(map.read(), set.len() as u64);
            for sector in 0..200 {
                prop_assert_eq!(map.contains(sector), set.contains(&sector));
            }
        }
    }
}
