//! Where is RAM, and where in it is room?
//!
//! Read from `/proc/iomem` (Linux `kernel/resource.c`): top-level lines `START-END : System RAM`,
//! hexadecimal, end inclusive. What lies inside those ranges (the running kernel) does not matter:
//! segments are moved to their place only after the running kernel has stopped. The kernel writes
//! this file; it is still parsed without trust.

use std::ops::Range;

/// Page size of x86-64: kexec moves whole pages.
pub(super) const PAGE: u64 = 4096;
/// Below this stand the BIOS data areas and what the next kernel needs to start other processors.
pub(super) const LOW_MEMORY_END: u64 = 1 << 20;

/// Ranges of RAM, sorted, disjoint, with neighbours merged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RamMap {
    ranges: Vec<Range<u64>>,
}

/// What a hole must be like.
#[derive(Debug, Clone)]
pub(super) struct Hole {
    pub(super) size: u64,
    /// A power of two, at least a page.
    pub(super) align: u64,
    pub(super) lowest: u64,
    /// End of the hole, exclusive.
    pub(super) highest: u64,
}

impl RamMap {
    /// Parses `/proc/iomem`. Lines that are no RAM, or not understood, are passed over.
    pub fn parse(iomem: &str) -> RamMap {
        let mut ranges: Vec<Range<u64>> = iomem.lines().filter_map(parse_line).collect();
        ranges.sort_by_key(|range| range.start);
        let mut merged: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        RamMap { ranges: merged }
    }

    /// The ranges, ascending.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// Bytes of RAM in all.
    pub fn total(&self) -> u64 {
        self.ranges.iter().fold(0, |sum: u64, range| {
            sum.saturating_add(range.end - range.start)
        })
    }

    /// The highest place for `hole` that meets none of `used`.
    pub(super) fn find(&self, hole: &Hole, used: &[Range<u64>]) -> Option<u64> {
        let align = hole.align.max(PAGE);
        let size = hole.size.checked_next_multiple_of(PAGE)?;
        if size == 0 || !align.is_power_of_two() {
            return None;
        }
        let lowest = hole.lowest.max(LOW_MEMORY_END);
        self.ranges.iter().rev().find_map(|range| {
            let bottom = range.start.max(lowest);
            let mut top = range.end.min(hole.highest);
            // Each turn moves the top below one more of the used ranges.
            for _ in 0..=used.len() {
                let start = top.checked_sub(size)? & !(align - 1);
                if start < bottom {
                    return None;
                }
                match used
                    .iter()
                    .filter(|other| other.start < start + size && start < other.end)
                    .min_by_key(|o| o.start)
                {
                    None => return Some(start),
                    Some(other) => top = other.start,
                }
            }
            None
        })
    }
}

fn parse_line(line: &str) -> Option<Range<u64>> {
    let (range, name) = line.split_once(" : ")?;
    if name != "System RAM" {
        return None;
    }
    // Children are indented: their range does not parse.
    let (start, last) = range.split_once('-')?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(last, 16).ok()?.checked_add(1)?;
    // Without privilege all addresses read as zero.
    (end.saturating_sub(start) >= PAGE).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IOMEM: &str = "\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
0009fc00-0009ffff : Reserved
000f0000-000fffff : System ROM
00100000-bffdefff : System RAM
  01000000-01bfffff : Kernel code
  04000000-040fffff : System RAM
bffdf000-bfffffff : Reserved
100000000-13fffffff : System RAM
140000000-14fffffff : System RAM
";

    #[test]
    fn takes_top_level_ram_only_and_merges_neighbours() {
        let map = RamMap::parse(IOMEM);
        assert_eq!(
            map.ranges(),
            [
                0x1000..0x9fc00,
                0x10_0000..0xbffd_f000,
                0x1_0000_0000..0x1_5000_0000
            ]
        );
        assert_eq!(map.total(), 0x9ec00 + 0xbfed_f000 + 0x5000_0000);
    }

    #[test]
    fn finds_the_highest_aligned_hole_below_the_limit() {
        let map = RamMap::parse(IOMEM);
        let hole = Hole {
            size: 0x10_0001,
            align: 0x20_0000,
            lowest: 0,
            highest: 1 << 32,
        };
        assert_eq!(map.find(&hole, &[]), Some(0xbfe0_0000));
        let anywhere = Hole {
            highest: u64::MAX,
            ..hole.clone()
        };
        assert_eq!(map.find(&anywhere, &[]), Some(0x1_4fe0_0000));
        assert_eq!(
            map.find(
                &Hole {
                    size: 0xc000_0000,
                    ..anywhere
                },
                &[]
            ),
            None,
            "no single range is that long"
        );
    }

    #[test]
    fn never_uses_the_first_megabyte() {
        let map = RamMap::parse("00001000-0009fbff : System RAM\n");
        assert_eq!(
            map.find(
                &Hole {
                    size: 4096,
                    align: 4096,
                    lowest: 0,
                    highest: u64::MAX
                },
                &[]
            ),
            None
        );
    }

    fn ranges() -> impl Strategy<Value = Vec<(u64, u64)>> {
        prop::collection::vec((0u64..0x4_0000, 1u64..0x1_0000), 0..8)
    }

    proptest! {
        #[test]
        fn a_hole_lies_in_ram_and_meets_nothing_used(
            ram in ranges(), used in ranges(), size in 1u64..0x800_0000, align in 12u32..26, lowest in 0u64..0x4000_0000,
        ) {
            let text: String = ram.iter()
                .map(|(start, pages)| format!("{:x}-{:x} : System RAM\n", start * PAGE, (start + pages) * PAGE - 1))
                .collect();
            let map = RamMap::parse(&text);
            let used: Vec<_> = used.iter().map(|(start, pages)| start * PAGE..(start + pages) * PAGE).collect();
            let hole = Hole { size, align: 1 << align, lowest, highest: 0x4000_0000 };
            let rounded = size.next_multiple_of(PAGE);
            let fits = |start: u64| {
                start >= lowest.max(LOW_MEMORY_END)
                    && start + rounded <= hole.highest
                    && start.is_multiple_of(hole.align)
                    && map.ranges().iter().any(|range| range.start <= start && start + rounded <= range.end)
                    && used.iter().all(|range| start + rounded <= range.start || range.end <= start)
            };
            match map.find(&hole, &used) {
                Some(start) => {
                    prop_assert!(fits(start));
                    // And it is the highest.
                    prop_assert!(!fits(start + hole.align));
                }
                None => {
                    let mut start = 0;
                    while start < hole.highest {
                        prop_assert!(!fits(start), "{start:#x} was overlooked");
                        start += hole.align.max(0x10_0000);
                    }
                }
            }
        }

        #[test]
        fn any_text_is_parsed_without_panic(text in "[0-9a-f: \\-SystemRAM\n]{0,200}") {
            let map = RamMap::parse(&text);
            prop_assert!(map.ranges().windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }
}
