//! What a session did: counts, sizes, times. Nobody has published these for real PCs.

use std::time::Duration;

use super::sector_map::SectorMap;

/// Everything since the session was spawned, over all its connections.
#[derive(Debug, Clone)]
pub struct Statistics {
    /// Connections that got as far as attached drives.
    pub attachments: u64,
    /// Resets of the host that firmware reported.
    pub resets: u64,
    /// Commands answered.
    pub commands: u64,
    /// Commands answered with a check condition.
    pub refused: u64,
    /// Reads among the commands.
    pub reads: u64,
    /// Bytes of media sent to the host.
    pub bytes_read: u64,
    /// Bytes taken from the host and kept.
    pub bytes_written: u64,
    /// Commands by opcode.
    pub opcodes: [u64; 256],
    /// Bytes per read.
    pub read_sizes: Histogram,
    /// Microseconds from a command's last byte received to its answer whole in the output buffer: our own time.
    pub service_times: Histogram,
    /// Microseconds from an answer sent to the next command: the network and the host.
    pub gap_times: Histogram,
    /// Sectors of the CD that were read.
    pub cd: SectorMap,
    /// Sectors of the floppy that were read.
    pub floppy: SectorMap,
}

impl Statistics {
    /// Nothing yet, for media of these sizes in bytes.
    pub(super) fn new(cd: u64, floppy: u64) -> Self {
        Self {
            attachments: 0,
            resets: 0,
            commands: 0,
            refused: 0,
            reads: 0,
            bytes_read: 0,
            bytes_written: 0,
            opcodes: [0; 256],
            read_sizes: Histogram::default(),
            service_times: Histogram::default(),
            gap_times: Histogram::default(),
            cd: SectorMap::new(cd),
            floppy: SectorMap::new(floppy),
        }
    }
}

/// Counts by size: exact below 16, above that eight classes for each power of two, so that a class is at most an eighth wide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    classes: [u64; CLASSES],
    count: u64,
    sum: u64,
    most: u64,
}

/// Exact values below 16; then eight classes for each of the exponents 4 to 35; larger values go to the last.
const CLASSES: usize = 16 + 8 * 32;

impl Default for Histogram {
    fn default() -> Self {
        Self {
            classes: [0; CLASSES],
            count: 0,
            sum: 0,
            most: 0,
        }
    }
}

impl Histogram {
    /// Counts a value.
    pub fn add(&mut self, value: u64) {
        self.classes[class_of(value)] += 1;
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
        self.most = self.most.max(value);
    }

    /// Counts a time in microseconds.
    pub fn add_time(&mut self, time: Duration) {
        self.add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// Counts everything that `other` has counted.
    pub fn merge(&mut self, other: &Self) {
        for (class, more) in self.classes.iter_mut().zip(other.classes) {
            *class += more;
        }
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
        self.most = self.most.max(other.most);
    }

    /// Values counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Largest value, exact.
    pub fn most(&self) -> u64 {
        self.most
    }

    /// Mean; nothing when empty.
    pub fn mean(&self) -> Option<u64> {
        self.sum.checked_div(self.count)
    }

    /// A value that this share (0.0 to 1.0) of all values do not exceed, at most an eighth too high. Nothing when empty.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        let wanted = (self.count as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (class, &count) in self.classes.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Some(upper_bound(class).min(self.most));
            }
        }
        Some(self.most)
    }

    /// Smallest value and count of each class that is not empty, ascending.
    pub fn classes(&self) -> impl Iterator<Item = (u64, u64)> {
        let classes = self.classes.iter().enumerate();
        classes
            .filter(|&(_, &count)| count > 0)
            .map(|(class, &count)| (lower_bound(class), count))
    }
}

fn class_of(value: u64) -> usize {
    if value < 16 {
        return value as usize;
    }
    let exponent = value.ilog2() as usize;
    let eighth = (value >> (exponent - 3) & 7) as usize;
    (16 + 8 * (exponent - 4) + eighth).min(CLASSES - 1)
}

fn lower_bound(class: usize) -> u64 {
    match class.checked_sub(16) {
        None => class as u64,
        Some(above) => (8 + (above % 8) as u64) << (above / 8 + 1),
    }
}

fn upper_bound(class: usize) -> u64 {
    if class + 1 == CLASSES {
        u64::MAX
    } else {
        lower_bound(class + 1) - 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn classes_follow_each_other_without_a_gap() {
        for class in 0..CLASSES {
            assert_eq!(class_of(lower_bound(class)), class);
            assert_eq!(class_of(upper_bound(class)), class);
        }
        assert_eq!(class_of(u64::MAX), CLASSES - 1);
    }

    #[test]
    fn quantiles_are_exact_for_small_values() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for value in 1..=9 {
            histogram.add(value);
        }
        assert_eq!(histogram.quantile(0.5), Some(5));
        assert_eq!(histogram.quantile(1.0), Some(9));
        assert_eq!(histogram.quantile(0.0), Some(1));
        assert_eq!(histogram.mean(), Some(5));
        let mut twice = histogram.clone();
        twice.merge(&histogram);
        assert_eq!(twice.count(), 18);
        assert_eq!(twice.quantile(0.5), Some(5));
    }

    proptest! {
        #[test]
        fn the_median_is_at_most_an_eighth_too_high(mut values in proptest::collection::vec(0..1_u64 << 35, 1..50)) {
            let mut histogram = Histogram::default();
            for &value in &values {
                histogram.add(value);
            }
            values.sort_unstable();
            let median = values[values.len().div_ceil(2) - 1];
            let found = histogram.quantile(0.5).unwrap();
            prop_assert!(found >= median && found <= median + median / 8 + 1);
        }
    }
}
