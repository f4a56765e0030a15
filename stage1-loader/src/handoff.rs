//! How is the machine handed to the downloaded image?
//!
//! In this order:
//!
//! 1. [`Machine::read`]: what the next kernel must be told about this PC.
//! 2. [`check_memory`], before the download: does the image fit, and how will it be loaded?
//! 3. `boot_config::hand_off::hand_off`: command line and extra initramfs members.
//! 4. [`ImageBuffer::new`]: one file in RAM; the download writes every byte to its final place.
//! 5. [`load`]: by `kexec_file_load` or by `kexec_load`, whichever the memory plan names first;
//!    the other one if that is refused.
//! 6. [`execute`]: the running kernel stops, the next one starts.
//!
//! A refused load leaves nothing loaded and the buffer as it was. Everything but the system calls
//! (the module `calls`) is plain computation over bytes, tested on any host.
//!
//! The image is in RAM twice at the peak: where it was downloaded to, and the kernel's copy. To
//! have it once, a [`Segment`] would name pages instead of bytes.

mod boot_params;
mod buffer;
mod calls;
mod efi;
mod emulator;
mod layout;
mod machine;
mod meminfo;
mod memory;
mod newc;
mod ram;
mod segments;
mod setup_header;
mod stub;

use std::ffi::CString;
use std::fmt;
use std::io;

pub use buffer::{BufferError, ImageBuffer};
pub use emulator::machine_parameters;
pub use machine::{Machine, MachineError};
pub use meminfo::{MemInfo, MemoryWatch};
pub use memory::{Limit, MemoryPlan, Method, TooLittleMemory, check_memory};
pub use newc::NewcError;
pub use ram::RamMap;
pub use segments::{ArrangeError, Segment};
pub use setup_header::SetupHeaderError;

use crate::sys::SysError;
use calls::{Kexec, RunningKernel};

/// A next system that is ready to be started.
#[derive(Debug)]
pub struct Loaded {
    /// The method that worked.
    pub method: Method,
    /// What was tried before and refused.
    pub refused: Vec<Attempt>,
    /// Bytes of memory in use at most since `watch` was started.
    pub peak_used: u64,
}

/// A method that did not work.
#[derive(Debug)]
pub struct Attempt {
    /// Which.
    pub method: Method,
    /// Why not.
    pub cause: LoadError,
}

/// Why a method did not work.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel refused.
    #[error(transparent)]
    Refused(#[from] SysError),
    /// The parts have no place.
    #[error(transparent)]
    Arrange(#[from] ArrangeError),
    /// A copy could not be made.
    #[error("copying the {part} into a file")]
    Copy {
        /// What was copied.
        part: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The command line holds a NUL.
    #[error("command line with a NUL")]
    Cmdline,
}

/// No method worked. Nothing is loaded.
#[derive(Debug)]
pub struct HandOffError {
    /// What was tried, in order.
    pub attempts: Vec<Attempt>,
}

impl std::error::Error for HandOffError {}

impl fmt::Display for HandOffError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no way to load the next kernel")?;
        for (index, attempt) in self.attempts.iter().enumerate() {
            write!(f, "{} {attempt}", if index == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "by {}: {}", self.method.name(), self.cause)?;
        let mut cause: &dyn std::error::Error = &self.cause;
        while let Some(source) = cause.source() {
            write!(f, ": {source}")?;
            cause = source;
        }
        Ok(())
    }
}

/// Loads the image's kernel and initramfs, ready for [`execute`].
///
/// The buffer is not needed any more afterwards: dropping it frees its memory.
pub fn load(
    buffer: &mut ImageBuffer,
    machine: &Machine,
    plan: &MemoryPlan,
    watch: &mut MemoryWatch,
) -> Result<Loaded, HandOffError> {
    load_by(&RunningKernel, buffer, machine, plan, watch)
}

/// Stops the running kernel and starts the loaded one. Returns only when the kernel refused.
pub fn execute() -> SysError {
    calls::reboot_kexec()
}

fn load_by(
    kexec: &dyn Kexec,
    buffer: &mut ImageBuffer,
    machine: &Machine,
    plan: &MemoryPlan,
    watch: &mut MemoryWatch,
) -> Result<Loaded, HandOffError> {
    let mut refused = Vec::new();
    for &method in &plan.methods {
        let result = watch.during(|| match method {
            Method::KexecFileLoad => load_files(kexec, buffer),
            Method::KexecLoad => load_segments(kexec, buffer, machine),
        });
        match result {
            Ok(()) => {
                return Ok(Loaded {
                    method,
                    refused,
                    peak_used: watch.peak_used(),
                });
            }
            Err(cause) => refused.push(Attempt { method, cause }),
        }
    }
    // What an earlier attempt of this boot may have loaded; with nothing loaded it changes nothing,
    // and a kernel without this call has nothing loaded either.
    let _ = kexec.unload();
    Err(HandOffError { attempts: refused })
}

fn load_files(kexec: &dyn Kexec, buffer: &mut ImageBuffer) -> Result<(), LoadError> {
    let copy = |part| move |source| LoadError::Copy { part, source };
    let cmdline = CString::new(buffer.cmdline()).map_err(|_| LoadError::Cmdline)?;
    let kernel = buffer.kernel_file().map_err(copy("kernel"))?;
    let initramfs = buffer.initramfs_file().map_err(copy("initramfs"))?;
    kexec.file_load(&kernel, initramfs.as_ref(), &cmdline)?;
    Ok(())
}

fn load_segments(
    kexec: &dyn Kexec,
    buffer: &ImageBuffer,
    machine: &Machine,
) -> Result<(), LoadError> {
    let map = buffer.map()?;
    let parts = buffer.parts(&map);
    let arrangement = segments::arrange(&parts, machine)?;
    kexec.load(arrangement.entry, &arrangement.segments)?;
    Ok(())
}

#[cfg(test)]
mod tests;
