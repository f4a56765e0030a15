//! Is there enough RAM for an image, and how will it be loaded?
//!
//! Said before the download, in numbers. Limits, in the order in which they are checked:
//!
//! - what the manifest asks for;
//! - kexec takes at most half of RAM for all segments together (Linux 6.12
//!   `kernel/kexec_core.c`, `sanity_check_segment_list`);
//! - the second system holds the initramfs packed and unpacked at the same time, and unpacks into
//!   a tmpfs of half of what is left unless its command line names a root;
//! - one piece of RAM must be long enough for the initramfs, one for a persistent-memory image;
//! - here and now: the image, and the copies that loading it makes.
//!
//! Two numbers are guesses, because nothing before the download tells them: memory for the kernel
//! to unpack itself in, and the unpacked size of an initrd.

use std::ops::Range;

use boot_config::hand_off::PmemRange;
use sparetire_manifest::{BootRecipe, Manifest, Medium, Placement};

use super::machine::Machine;
use super::meminfo::MemInfo;
use super::newc;
use super::ram::{Hole, PAGE, RamMap};

const MIB: u64 = 1 << 20;
/// Memory for a kernel to unpack itself in: `init_size`, 64 MiB in Debian 12's.
const KERNEL: u64 = 80 * MIB;
/// An unpacked initrd against its size.
const UNPACKED: u64 = 3;
/// Our own members, boot parameters, page tables.
const SMALL_PARTS: u64 = MIB;
/// What stays free while stage one works.
const FIRST_SYSTEM: u64 = 24 * MIB;
/// What the second system needs besides the initramfs to reach its own code.
const SECOND_SYSTEM: u64 = 64 * MIB;
/// Peak beyond twice the image that `kexec_file_load` may cost to be chosen first.
const ALLOWANCE: u64 = 128 * MIB;
/// Persistent memory is mapped in pieces of this size.
const PMEM_ALIGN: u64 = 2 * MIB;

/// How the next kernel is put into place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The kernel reads files: three copies of the initramfs at its peak, and room for the initrds
    /// once more.
    KexecFileLoad,
    /// The kernel copies segments from where the download put them: two copies.
    KexecLoad,
}

impl Method {
    /// The system call's name.
    pub fn name(self) -> &'static str {
        match self {
            Method::KexecFileLoad => "kexec_file_load",
            Method::KexecLoad => "kexec_load",
        }
    }
}

/// How an image fits into RAM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Bytes that download and loading take at their peak, by the method tried first.
    pub needed: u64,
    /// Bytes available now.
    pub available: u64,
    /// Bytes of RAM.
    pub total: u64,
    /// Methods that memory allows, in the order in which to try them; at least one.
    pub methods: Vec<Method>,
    /// Where the second system gets the image; differs from the manifest's for an image that no
    /// initramfs member can hold.
    pub placement: Placement,
    /// The range for an image that becomes persistent memory.
    pub pmem: Option<PmemRange>,
}

/// The image does not fit. Which limit, and the numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{limit}: {} MiB needed, {} MiB available, {} MiB of RAM in all",
    .needed.div_ceil(MIB), .available / MIB, .total / MIB
)]
pub struct TooLittleMemory {
    /// What runs out.
    pub limit: Limit,
    /// Bytes needed of what `limit` speaks of.
    pub needed: u64,
    /// Bytes there of it.
    pub available: u64,
    /// Bytes of RAM.
    pub total: u64,
}

/// What runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// RAM that the image's publisher asks for.
    Manifest,
    /// Half of RAM, which is all that kexec loads.
    Kexec,
    /// RAM of the second system while it unpacks.
    SecondSystem,
    /// Half of the second system's free RAM, which is all that its root takes.
    SecondRoot,
    /// Contiguous RAM.
    OnePiece,
    /// Free memory of this system.
    FirstSystem,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Limit::Manifest => "RAM the image asks for",
            Limit::Kexec => "RAM that kexec can load into",
            Limit::SecondSystem => "RAM for the second system to unpack itself",
            Limit::SecondRoot => "RAM for the second system's root",
            Limit::OnePiece => "contiguous RAM",
            Limit::FirstSystem => "memory for download and hand-off",
        })
    }
}

/// Sizes that follow from a manifest, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizes {
    image: u64,
    kernel_file: u64,
    /// Initrds as they are packed.
    initrd: u64,
    /// The image is a member of the archive of ours.
    member: bool,
    /// That archive.
    archive: u64,
    /// The image if it becomes persistent memory, or 0.
    pmem: u64,
    /// The second system's root is a tmpfs.
    root_is_limited: bool,
}

impl Sizes {
    fn of(manifest: &Manifest) -> Sizes {
        let BootRecipe::Linux(boot) = &manifest.boot;
        let passed_on = boot.medium != Medium::None;
        let pmem =
            passed_on && (boot.placement == Placement::Pmem || manifest.size > newc::MAX_DATA);
        let member = passed_on && !pmem;
        let initrd = boot
            .initrd
            .iter()
            .map(|initrd| initrd.length.next_multiple_of(PAGE));
        // For an image as a file, the hand-off names a root or its type itself.
        let root_is_limited = !passed_on
            && !boot
                .cmdline
                .split(' ')
                .any(|word| word.starts_with("root=") || word.starts_with("rootfstype="));
        Sizes {
            image: manifest.size,
            kernel_file: boot.kernel.length,
            initrd: initrd.fold(0, u64::saturating_add),
            member,
            archive: SMALL_PARTS + if member { manifest.size } else { 0 },
            pmem: if pmem {
                manifest.size.next_multiple_of(PMEM_ALIGN)
            } else {
                0
            },
            root_is_limited,
        }
    }

    fn initramfs(&self) -> u64 {
        self.archive.saturating_add(self.initrd)
    }

    fn segments(&self) -> u64 {
        self.initramfs().saturating_add(KERNEL + self.pmem)
    }

    fn unpacked(&self) -> u64 {
        self.archive
            .saturating_add(self.initrd.saturating_mul(UNPACKED))
    }

    /// What `method` takes at its peak, the downloaded image included.
    fn peak(&self, method: Method) -> u64 {
        let kept = self.image + SMALL_PARTS;
        let copies = match method {
            Method::KexecLoad => 0,
            Method::KexecFileLoad => {
                // The initrds behind the image in its file, or the whole initramfs in one of its
                // own; the kernel's file; then both as the kernel reads them.
                let gathered = if self.member {
                    self.initrd
                } else {
                    self.initramfs()
                };
                let files = self
                    .kernel_file
                    .saturating_mul(2)
                    .saturating_add(self.initramfs());
                gathered.saturating_add(files)
            }
        };
        kept.saturating_add(copies).saturating_add(self.segments())
    }
}

/// Says before the download whether the image can be handed over, and how.
pub fn check_memory(manifest: &Manifest, machine: &Machine) -> Result<MemoryPlan, TooLittleMemory> {
    let sizes = Sizes::of(manifest);
    let MemInfo { total, available } = machine.memory;
    let check = |limit, needed: u64, available: u64| match needed <= available {
        true => Ok(()),
        false => Err(TooLittleMemory {
            limit,
            needed,
            available,
            total,
        }),
    };
    // Firmware and kernel keep a part of what is built in: a 2 GiB machine meets "2 GiB".
    let asked = manifest.min_ram.unwrap_or(0);
    check(
        Limit::Manifest,
        asked - asked / 16,
        machine.ram.total().max(total),
    )?;
    check(Limit::Kexec, sizes.segments(), total / 2)?;
    let second = sizes
        .segments()
        .saturating_add(sizes.unpacked())
        .saturating_add(SECOND_SYSTEM);
    check(Limit::SecondSystem, second, total)?;
    if sizes.root_is_limited {
        check(
            Limit::SecondRoot,
            sizes.unpacked(),
            total.saturating_sub(sizes.initramfs()) / 2,
        )?;
    }
    let pmem = place(&sizes, &machine.ram).map_err(|needed| {
        let longest = machine
            .ram
            .ranges()
            .iter()
            .map(|range| range.end - range.start)
            .max();
        TooLittleMemory {
            limit: Limit::OnePiece,
            needed,
            available: longest.unwrap_or(0),
            total,
        }
    })?;

    let needed = |method| sizes.peak(method).saturating_add(FIRST_SYSTEM);
    let (file, segments) = (needed(Method::KexecFileLoad), needed(Method::KexecLoad));
    check(Limit::FirstSystem, segments, available)?;
    let mut methods = vec![Method::KexecLoad];
    if sizes.pmem == 0 && file <= available {
        let in_budget = sizes.peak(Method::KexecFileLoad) <= 2 * sizes.image + ALLOWANCE;
        methods.insert(usize::from(!in_budget), Method::KexecFileLoad);
    }
    let needed = if methods[0] == Method::KexecLoad {
        segments
    } else {
        file
    };
    let placement = if sizes.pmem > 0 {
        Placement::Pmem
    } else {
        Placement::Initramfs
    };
    Ok(MemoryPlan {
        needed,
        available,
        total,
        methods,
        placement,
        pmem,
    })
}

/// A range for persistent memory that leaves room for kernel and initramfs; `Err` is the size of
/// what does not fit.
fn place(sizes: &Sizes, ram: &RamMap) -> Result<Option<PmemRange>, u64> {
    let mut used: Vec<Range<u64>> = Vec::new();
    let mut find = |size: u64, align, highest| {
        let hole = Hole {
            size,
            align,
            lowest: 16 * MIB,
            highest,
        };
        let start = ram.find(&hole, &used).ok_or(size)?;
        used.push(start..start + size);
        Ok::<u64, u64>(start)
    };
    let pmem = match sizes.pmem {
        0 => None,
        size => Some(PmemRange {
            address: find(size, PMEM_ALIGN, u64::MAX)?,
            size,
        }),
    };
    find(KERNEL, 16 * MIB, 1 << 32)?;
    find(sizes.initramfs().next_multiple_of(PAGE), PAGE, u64::MAX)?;
    Ok(pmem)
}

#[cfg(test)]
mod tests;
