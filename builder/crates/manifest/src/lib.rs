//! What an image store says about its images, and when a reader may believe it.
//!
//! Three files describe an image: `latest.json` and `manifest.json`, JSON signed with minisign keys, and the binary chunk
//! index that the manifest names by digest. Layouts: `docs/formats/{store,manifest,index}.md`.
//!
//! All bytes come from a web server that nobody has to trust. So the signature is checked before anything is parsed, and
//! what was checked has a type of its own ([`Verified`]) which nothing else can make. No I/O, no clock: the caller brings
//! the bytes and the time.
//!
//! Not here: making signatures (the builder does that), fetching, decompressing.

mod digest;
pub mod index;
mod json;
mod latest;
pub mod layout;
mod manifest;
mod name;
mod time;
mod trust;

pub use digest::{Digest, DigestError};
pub use index::{Chunk, Index, IndexError, PackRef, Place};
pub use latest::Latest;
pub use manifest::{
    BootRecipe, Extent, Firmware, ImageKind, IndexRef, LinuxBoot, MAX_CMDLINE, Manifest, Medium,
    NamedExtent, ParseError, Placement,
};
pub use name::{ImageName, NameError};
pub use time::{Timestamp, TimestampError};
pub use trust::{
    KeyError, KeyId, TrustedKeys, Verified, VerifyError, signatures, verify_latest, verify_manifest,
};

/// Longest `manifest.json` or `latest.json` that is read, in bytes.
pub const MAX_MANIFEST: usize = 256 * 1024;
/// Longest index that is read, in bytes.
pub const MAX_INDEX: u64 = 256 * 1024 * 1024;
/// Largest image, in bytes.
pub const MAX_IMAGE: u64 = 1 << 40;
/// Longest signature file that is read, in bytes; minisign's own are about 300.
pub const MAX_SIGNATURE: usize = 4096;
/// The `format` that this reader knows, of manifests and of `latest.json`.
pub const FORMAT: u32 = 1;
