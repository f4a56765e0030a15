//! The system calls of the hand-off. Besides `crate::sys`, the loader's only `unsafe` blocks.
//!
//! Errors read like strace.

#![expect(
    unsafe_code,
    reason = "system calls without a safe wrapper in the standard library"
)]

use std::ffi::CStr;
use std::fmt::Write;
use std::fs::File;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::{ptr, slice};

use super::segments::Segment;
use crate::sys::SysError;

/// KEXEC_ARCH_X86_64 of `include/uapi/linux/kexec.h`.
const KEXEC_ARCH_X86_64: libc::c_ulong = 62 << 16;

/// The running kernel's kexec; a trait, so that tests can refuse.
pub(super) trait Kexec {
    /// kexec_file_load(2).
    fn file_load(
        &self,
        kernel: &File,
        initramfs: Option<&File>,
        cmdline: &CStr,
    ) -> Result<(), SysError>;
    /// kexec_load(2).
    fn load(&self, entry: u64, segments: &[Segment<'_>]) -> Result<(), SysError>;
    /// kexec_load(2) with nothing: forgets what was loaded.
    fn unload(&self) -> Result<(), SysError>;
}

/// The kernel this program runs on.
pub(super) struct RunningKernel;

impl Kexec for RunningKernel {
    fn file_load(
        &self,
        kernel: &File,
        initramfs: Option<&File>,
        cmdline: &CStr,
    ) -> Result<(), SysError> {
        const KEXEC_FILE_NO_INITRAMFS: libc::c_ulong = 4;
        let (initramfs, flags) = match initramfs {
            Some(file) => (file.as_raw_fd(), 0),
            None => (-1, KEXEC_FILE_NO_INITRAMFS),
        };
        let kernel = kernel.as_raw_fd();
        let length = cmdline.to_bytes_with_nul().len();
        // SAFETY: both descriptors are open for the duration of the call; `cmdline` is `length`
        // bytes with its NUL, which the kernel copies.
        let result = unsafe {
            libc::syscall(
                libc::SYS_kexec_file_load,
                kernel,
                initramfs,
                length,
                cmdline.as_ptr(),
                flags,
            )
        };
        done(result, || {
            format!("kexec_file_load({kernel}, {initramfs}, {length}, {cmdline:?}, {flags})")
        })
    }

    fn load(&self, entry: u64, segments: &[Segment<'_>]) -> Result<(), SysError> {
        /// `struct kexec_segment`.
        #[repr(C)]
        struct Raw {
            bytes: *const u8,
            length: usize,
            address: usize,
            memory: usize,
        }
        let raw: Vec<Raw> = segments
            .iter()
            .map(|segment| Raw {
                bytes: segment.bytes.as_ptr(),
                length: segment.bytes.len(),
                address: segment.address as usize,
                memory: segment.memory as usize,
            })
            .collect();
        // SAFETY: `raw` is an array of that many `struct kexec_segment`; each buffer in it is a
        // slice that `segments` borrows for longer than the call, and the kernel only reads it.
        // Physical memory is written when the next kernel is started, not now.
        let result = unsafe {
            libc::syscall(
                libc::SYS_kexec_load,
                entry,
                raw.len(),
                raw.as_ptr(),
                KEXEC_ARCH_X86_64,
            )
        };
        done(result, || {
            let mut call = format!("kexec_load({entry:#x}, {}, [", raw.len());
            for segment in &raw {
                let _ = write!(
                    call,
                    "{{bufsz={}, mem={:#x}, memsz={}}}, ",
                    segment.length, segment.address, segment.memory
                );
            }
            call.truncate(call.len().saturating_sub(2));
            call + "], KEXEC_ARCH_X86_64)"
        })
    }

    fn unload(&self) -> Result<(), SysError> {
        let none = ptr::null::<u8>();
        // SAFETY: no segments, so the kernel reads nothing through the pointer.
        let result = unsafe { libc::syscall(libc::SYS_kexec_load, 0, 0, none, KEXEC_ARCH_X86_64) };
        done(result, || {
            "kexec_load(0, 0, NULL, KEXEC_ARCH_X86_64)".to_owned()
        })
    }
}

/// reboot(2) into what was loaded. Returns only when the kernel refused.
pub(super) fn reboot_kexec() -> SysError {
    // SAFETY: no pointers; nothing is mounted that could lose data.
    unsafe {
        libc::reboot(libc::LINUX_REBOOT_CMD_KEXEC);
    }
    SysError::last("reboot(LINUX_REBOOT_CMD_KEXEC)")
}

/// A file of `length` zeros in RAM, which takes up nothing before it is written.
pub(super) fn memory_file(name: &CStr, length: u64) -> Result<File, SysError> {
    // SAFETY: `name` is NUL-terminated and lives until the call returns.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(SysError::last(format!(
            "memfd_create({name:?}, MFD_CLOEXEC)"
        )));
    }
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.set_len(length)
        .map_err(|error| SysError::from_io(format!("ftruncate({fd}, {length})"), &error))?;
    Ok(file)
}

/// Random bytes, unless the kernel has none yet.
pub(super) fn random_seed() -> Option<[u8; 32]> {
    let mut seed = [0; 32];
    // SAFETY: pointer and length describe `seed`, which the kernel only writes.
    let got = unsafe { libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), libc::GRND_NONBLOCK) };
    (got == 32).then_some(seed)
}

/// A whole memory file as a slice. It borrows the file, so that nothing can write or shorten it
/// meanwhile: memory files are ours alone, and writing one takes it mutably.
pub(super) struct Mapping<'a> {
    start: *mut libc::c_void,
    length: usize,
    file: PhantomData<&'a File>,
}

impl<'a> Mapping<'a> {
    /// Maps a file made by [`memory_file`].
    pub(super) fn new(file: &'a File) -> Result<Mapping<'a>, SysError> {
        let fd = file.as_raw_fd();
        let length = file
            .metadata()
            .map_err(|error| SysError::from_io(format!("fstat({fd})"), &error))?
            .len() as usize;
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ,
                libc::MAP_SHARED,
                fd,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(SysError::last(format!(
                "mmap(NULL, {length}, PROT_READ, MAP_SHARED, {fd}, 0)"
            )));
        }
        Ok(Mapping {
            start,
            length,
            file: PhantomData,
        })
    }
}

impl Deref for Mapping<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping is readable, `length` bytes long and the file no shorter, since the
        // file's length is set once, when it is made. Its bytes do not change while it is borrowed.
        unsafe { slice::from_raw_parts(self.start.cast(), self.length) }
    }
}

impl Drop for Mapping<'_> {
    fn drop(&mut self) {
        // SAFETY: this mapping was made in `new`, and no slice of it outlives `self`.
        unsafe {
            libc::munmap(self.start, self.length);
        }
    }
}

fn done(result: libc::c_long, call: impl FnOnce() -> String) -> Result<(), SysError> {
    match result {
        0 => Ok(()),
        _ => Err(SysError::last(call())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_memory_file_reads_as_zeros_where_nothing_was_written() {
        let file = memory_file(c"test", 10_000).unwrap();
        file.write_all_at(b"here", 5000).unwrap();
        let mapping = Mapping::new(&file).unwrap();
        assert_eq!(mapping.len(), 10_000);
        assert_eq!(&mapping[4999..5005], b"\0here\0");
        let blocks = std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap());
        assert!(
            blocks * 512 <= 2 * 4096,
            "one page written, {blocks} blocks used"
        );
    }

    #[test]
    fn an_empty_file_cannot_be_mapped_and_says_so() {
        let file = memory_file(c"test", 0).unwrap();
        let Err(error) = Mapping::new(&file) else {
            panic!("mapped nothing")
        };
        assert!(error.to_string().contains("mmap(NULL, 0, "), "{error}");
        assert!(error.to_string().contains("= -1 EINVAL"), "{error}");
    }

    // Both are refused before anything is loaded: to an unprivileged process by EPERM, and else
    // because what is offered is no kernel and no page.
    #[test]
    fn refused_kexec_calls_read_like_strace() {
        let file = memory_file(c"test", 4096).unwrap();
        let error = RunningKernel.file_load(&file, None, c"quiet").unwrap_err();
        assert!(error.to_string().starts_with("kexec_file_load("), "{error}");
        assert!(
            error.to_string().contains(", -1, 6, \"quiet\", 4) = -1 E"),
            "{error}"
        );

        let segment = Segment {
            bytes: Cow::Borrowed(b"x"),
            address: 0x1001,
            memory: 4096,
        };
        let error = RunningKernel.load(0x1000, &[segment]).unwrap_err();
        let text =
            "kexec_load(0x1000, 1, [{bufsz=1, mem=0x1001, memsz=4096}], KEXEC_ARCH_X86_64) = -1 E";
        assert!(error.to_string().starts_with(text), "{error}");
    }
}
