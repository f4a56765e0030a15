//! Boot configuration of Linux ISOs, and the hand-off to the systems on them; no I/O.
//!
//! Two halves that do not know each other. When an ISO is imported, [`discover()`] lists what its
//! isolinux, GRUB and systemd-boot configurations offer and [`medium_of`] says how such a system
//! looks for its medium; both end up in the manifest. When it is booted, [`hand_off()`] turns that
//! into the command line and the extra initramfs members of the second kernel.

mod bls;
mod cmdline;
mod discover;
mod files;
mod glob;
mod grub;
pub mod hand_off;
mod medium;
mod syslinux;

pub use discover::{
    DiscoverError, Discovered, Entry, MAX_CONFIG, MAX_ENTRIES, MAX_READS, Problem, discover,
};
pub use files::{FileError, Files, Listed};
pub use hand_off::{HandOffError, HandOffPlan, IMAGE_MEMBER, Member, PmemRange, hand_off};
pub use medium::medium_of;
