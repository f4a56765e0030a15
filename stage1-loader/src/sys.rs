//! The system calls the standard library does not offer: mounts, clocks, terminals, sockets
//! bound to a device, kernel log, reboot. The only module of the loader (beside the hand-off)
//! with `unsafe` blocks; each says why it holds.
//!
//! Errors read like strace: call, arguments, errno name and text.

#![expect(
    unsafe_code,
    reason = "system calls without a safe wrapper in the standard library"
)]

use std::ffi::{CStr, CString};
use std::fmt;
use std::fs::File;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A system call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SysError {
    /// The call with its arguments, as strace would write it.
    pub call: String,
    /// The errno it failed with.
    pub errno: i32,
}

impl SysError {
    /// The error of the call that has just failed on this thread.
    pub fn last(call: impl Into<String>) -> Self {
        Self::from_io(call, &io::Error::last_os_error())
    }

    /// An error that arrived through the standard library.
    pub fn from_io(call: impl Into<String>, error: &io::Error) -> Self {
        Self {
            call: call.into(),
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        }
    }
}

impl fmt::Display for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = io::Error::from_raw_os_error(self.errno).to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        match errno_name(self.errno) {
            Some(name) => write!(f, "{} = -1 {name} ({text})", self.call),
            None => write!(f, "{} = -1 errno {} ({text})", self.call, self.errno),
        }
    }
}

impl std::error::Error for SysError {}

/// The names of the errors that the loader's calls are known to give.
fn errno_name(errno: i32) -> Option<&'static str> {
    Some(match errno {
        libc::EPERM => "EPERM",
        libc::ENOENT => "ENOENT",
        libc::EINTR => "EINTR",
        libc::EIO => "EIO",
        libc::ENXIO => "ENXIO",
        libc::EBADF => "EBADF",
        libc::EAGAIN => "EAGAIN",
        libc::ENOMEM => "ENOMEM",
        libc::EACCES => "EACCES",
        libc::EFAULT => "EFAULT",
        libc::EBUSY => "EBUSY",
        libc::EEXIST => "EEXIST",
        libc::ENODEV => "ENODEV",
        libc::ENOTDIR => "ENOTDIR",
        libc::EISDIR => "EISDIR",
        libc::EINVAL => "EINVAL",
        libc::ENOTTY => "ENOTTY",
        libc::EFBIG => "EFBIG",
        libc::ENOSPC => "ENOSPC",
        libc::ENOEXEC => "ENOEXEC",
        libc::ERANGE => "ERANGE",
        libc::ENOSYS => "ENOSYS",
        libc::ENODATA => "ENODATA",
        libc::EOVERFLOW => "EOVERFLOW",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        libc::EAFNOSUPPORT => "EAFNOSUPPORT",
        libc::EADDRINUSE => "EADDRINUSE",
        libc::EADDRNOTAVAIL => "EADDRNOTAVAIL",
        libc::ENETDOWN => "ENETDOWN",
        libc::ENETUNREACH => "ENETUNREACH",
        libc::ENOBUFS => "ENOBUFS",
        libc::EHOSTUNREACH => "EHOSTUNREACH",
        _ => return None,
    })
}

fn c_string(text: &str) -> Result<CString, SysError> {
    CString::new(text).map_err(|_| SysError {
        call: format!("{text:?} as a C string"),
        errno: libc::EINVAL,
    })
}

/// mount(2) of a file system that needs no device.
pub fn mount(
    source: &str,
    target: &str,
    file_system: &str,
    flags: libc::c_ulong,
    data: &str,
) -> Result<(), SysError> {
    let (c_source, c_target) = (c_string(source)?, c_string(target)?);
    let (c_type, c_data) = (c_string(file_system)?, c_string(data)?);
    // SAFETY: the four pointers are NUL-terminated strings that live until the call returns;
    // the kernel copies them.
    let result = unsafe {
        libc::mount(
            c_source.as_ptr(),
            c_target.as_ptr(),
            c_type.as_ptr(),
            flags,
            c_data.as_ptr().cast(),
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(SysError::last(format!(
        "mount({source:?}, {target:?}, {file_system:?}, {flags:#x}, {data:?})"
    )))
}

/// Time since the kernel started, suspended time included.
pub fn uptime() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid, exclusively borrowed timespec. CLOCK_BOOTTIME exists in every
    // kernel since 2.6.39, so the call cannot fail; if it did, `time` would stay zero.
    unsafe {
        libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time);
    }
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Sets the system clock to `unix` seconds.
pub fn set_clock(unix: u64) -> Result<(), SysError> {
    let call = || format!("clock_settime(CLOCK_REALTIME, {unix})");
    let time = libc::timespec {
        tv_sec: i64::try_from(unix).map_err(|_| SysError {
            call: call(),
            errno: libc::EINVAL,
        })?,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec that the kernel only reads.
    if unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &time) } == 0 {
        return Ok(());
    }
    Err(SysError::last(call()))
}

/// Random bits for transaction numbers and jitter. Never waits for the kernel's entropy pool;
/// not for secrets.
pub fn random_u32() -> u32 {
    let mut bytes = [0u8; 4];
    // SAFETY: pointer and length describe `bytes`, which the kernel only writes.
    let got =
        unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), libc::GRND_INSECURE) };
    if got == 4 {
        return u32::from_ne_bytes(bytes);
    }
    // Any number is good enough here; the time since boot differs from PC to PC.
    uptime().subsec_nanos()
}

/// How the machine should stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reboot {
    /// Through the firmware, once more.
    Restart,
    /// Power off.
    PowerOff,
}

/// reboot(2). Returns only when the kernel refused.
pub fn reboot(how: Reboot) -> SysError {
    let (command, name) = match how {
        Reboot::Restart => (libc::LINUX_REBOOT_CMD_RESTART, "LINUX_REBOOT_CMD_RESTART"),
        Reboot::PowerOff => (
            libc::LINUX_REBOOT_CMD_POWER_OFF,
            "LINUX_REBOOT_CMD_POWER_OFF",
        ),
    };
    // SAFETY: no pointers; nothing is mounted that could lose data.
    unsafe {
        libc::reboot(command);
    }
    SysError::last(format!("reboot({name})"))
}

/// The last `cap` bytes of the kernel's log.
pub fn kernel_log(cap: usize) -> Result<Vec<u8>, SysError> {
    const SYSLOG_ACTION_READ_ALL: libc::c_int = 3;
    let mut bytes = vec![0u8; cap.min(1 << 20)];
    let length = libc::c_int::try_from(bytes.len()).unwrap_or(0);
    // SAFETY: pointer and length describe `bytes`, which the kernel only writes.
    let got = unsafe { libc::klogctl(SYSLOG_ACTION_READ_ALL, bytes.as_mut_ptr().cast(), length) };
    let Ok(got) = usize::try_from(got) else {
        return Err(SysError::last("syslog(SYSLOG_ACTION_READ_ALL)"));
    };
    bytes.truncate(got);
    Ok(bytes)
}

/// Kernel messages at and above this level (a larger number is less important) stay off the
/// consoles, so that they do not cut through the loader's lines.
pub fn set_console_log_level(level: i32) -> Result<(), SysError> {
    const SYSLOG_ACTION_CONSOLE_LEVEL: libc::c_int = 8;
    // SAFETY: this action takes no buffer; the kernel ignores the null pointer.
    if unsafe { libc::klogctl(SYSLOG_ACTION_CONSOLE_LEVEL, std::ptr::null_mut(), level) } >= 0 {
        return Ok(());
    }
    Err(SysError::last(format!(
        "syslog(SYSLOG_ACTION_CONSOLE_LEVEL, {level})"
    )))
}

/// One descriptor to wait for, and what became of it.
#[derive(Debug)]
pub struct Waiting<'a> {
    /// The descriptor.
    pub fd: BorrowedFd<'a>,
    /// Wait until it takes bytes; otherwise until it has some.
    pub write: bool,
    /// Set by [`poll`]: the wanted state, an error or a hang-up arrived.
    pub ready: bool,
}

impl<'a> Waiting<'a> {
    /// Waits for bytes to read.
    pub fn read(fd: BorrowedFd<'a>) -> Self {
        Self {
            fd,
            write: false,
            ready: false,
        }
    }
}

/// poll(2): waits until a descriptor is ready or the time has passed.
pub fn poll(waiting: &mut [Waiting<'_>], timeout: Duration) -> Result<(), SysError> {
    let mut fds: Vec<libc::pollfd> = waiting
        .iter()
        .map(|w| libc::pollfd {
            fd: w.fd.as_raw_fd(),
            events: if w.write { libc::POLLOUT } else { libc::POLLIN },
            revents: 0,
        })
        .collect();
    // Rounded up: a timer that is due in 0.3 ms must not spin.
    let milliseconds = timeout.as_micros().div_ceil(1000);
    let milliseconds = libc::c_int::try_from(milliseconds).unwrap_or(libc::c_int::MAX);
    // SAFETY: pointer and length describe `fds`; every descriptor in it is borrowed for longer
    // than the call.
    let result = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, milliseconds) };
    if result < 0 {
        let error = SysError::last(format!("poll({} descriptors, {milliseconds})", fds.len()));
        return if error.errno == libc::EINTR {
            Ok(())
        } else {
            Err(error)
        };
    }
    for (waiting, fd) in waiting.iter_mut().zip(&fds) {
        waiting.ready = fd.revents != 0;
    }
    Ok(())
}

/// Makes a terminal pass every key at once and unechoed, and still turn `\n` into `\r\n`.
/// `serial`: also 115,200 baud, 8N1, no flow control and no modem lines, so that an unplugged
/// cable cannot stop the boot.
pub fn make_terminal_raw(fd: BorrowedFd<'_>, serial: bool) -> Result<(), SysError> {
    let raw = fd.as_raw_fd();
    // SAFETY: termios is plain integers, for which all zeros is a valid value.
    let mut settings: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: `settings` is valid and exclusively borrowed; the kernel fills it.
    if unsafe { libc::tcgetattr(raw, &mut settings) } != 0 {
        return Err(SysError::last(format!("tcgetattr({raw})")));
    }
    settings.c_iflag = libc::IGNBRK | libc::ICRNL;
    settings.c_oflag = libc::OPOST | libc::ONLCR;
    settings.c_lflag = 0;
    settings.c_cc[libc::VMIN] = 1;
    settings.c_cc[libc::VTIME] = 0;
    if serial {
        settings.c_cflag = libc::CS8 | libc::CREAD | libc::CLOCAL | libc::HUPCL | libc::B115200;
    }
    // SAFETY: `settings` is valid and only read.
    if unsafe { libc::tcsetattr(raw, libc::TCSANOW, &settings) } != 0 {
        return Err(SysError::last(format!("tcsetattr({raw}, TCSANOW)")));
    }
    Ok(())
}

/// Bytes written to a terminal that have not left it yet.
pub fn terminal_backlog(fd: BorrowedFd<'_>) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: TIOCOUTQ writes one int through the pointer, which is valid for it.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &mut count) };
    if result == 0 {
        usize::try_from(count).unwrap_or(0)
    } else {
        0
    }
}

fn socket(
    family: libc::c_int,
    kind: libc::c_int,
    protocol: libc::c_int,
    name: &str,
) -> Result<OwnedFd, SysError> {
    // SAFETY: no pointers.
    let fd: RawFd = unsafe {
        libc::socket(
            family,
            kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            protocol,
        )
    };
    if fd < 0 {
        return Err(SysError::last(format!("socket({name})")));
    }
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set_option(
    socket: &OwnedFd,
    option: libc::c_int,
    value: &[u8],
    name: &str,
) -> Result<(), SysError> {
    // SAFETY: pointer and length describe `value`, which the kernel only reads.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            value.as_ptr().cast(),
            value.len() as libc::socklen_t,
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(SysError::last(format!("setsockopt(SOL_SOCKET, {name})")))
}

/// A non-blocking UDP socket on 0.0.0.0:`port` that sends and hears through one interface only,
/// even while that has no address.
pub fn udp_socket_on(interface: &str, port: u16) -> Result<UdpSocket, SysError> {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0, "AF_INET, SOCK_DGRAM, 0")?;
    let on = 1i32.to_ne_bytes();
    // Before bind: sockets of several interfaces may then share the port.
    set_option(
        &socket,
        libc::SO_BINDTODEVICE,
        interface.as_bytes(),
        &format!("SO_BINDTODEVICE, {interface:?}"),
    )?;
    set_option(&socket, libc::SO_REUSEADDR, &on, "SO_REUSEADDR, 1")?;
    set_option(&socket, libc::SO_BROADCAST, &on, "SO_BROADCAST, 1")?;
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: 0 },
        sin_zero: [0; 8],
    };
    // SAFETY: pointer and length describe `address`, a complete sockaddr_in.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    if result != 0 {
        return Err(SysError::last(format!("bind(0.0.0.0:{port})")));
    }
    Ok(UdpSocket::from(socket))
}

/// A non-blocking rtnetlink socket that hears the multicast `groups` (a bit mask, RTMGRP_*).
pub fn route_netlink_socket(groups: u32) -> Result<OwnedFd, SysError> {
    let socket = socket(
        libc::AF_NETLINK,
        libc::SOCK_RAW,
        libc::NETLINK_ROUTE,
        "AF_NETLINK, SOCK_RAW, NETLINK_ROUTE",
    )?;
    // SAFETY: sockaddr_nl is plain integers, for which all zeros is a valid value.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address.nl_groups = groups;
    // SAFETY: pointer and length describe `address`, a complete sockaddr_nl.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    if result != 0 {
        return Err(SysError::last(format!(
            "bind(AF_NETLINK, groups {groups:#x})"
        )));
    }
    Ok(socket)
}

/// Release and version of the running kernel.
pub fn kernel_release() -> String {
    // SAFETY: utsname is arrays of bytes, for which all zeros is a valid value.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: `names` is valid and exclusively borrowed.
    if unsafe { libc::uname(&mut names) } != 0 {
        return String::new();
    }
    // SAFETY: the kernel ends each field with a NUL inside the array; a failed call was caught.
    let release = unsafe { CStr::from_ptr(names.release.as_ptr()) };
    release.to_string_lossy().into_owned()
}

/// Waits for a file to become readable without blocking a thread.
pub fn readiness(file: File) -> Result<AsyncFd<File>, SysError> {
    // SAFETY: the file is open, and stays the same open file until it is dropped with what is returned.
    let registered = unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) };
    registered.map_err(|error| SysError::from_io("epoll_ctl(EPOLL_CTL_ADD)", &error.into_parts().1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_like_strace() {
        let error = mount("proc", "/does/not/exist", "proc", 0xe, "");
        let Err(error) = error else {
            panic!("mounted on a directory that does not exist");
        };
        // Without privilege the kernel refuses before it looks at the path.
        if error.errno == libc::ENOENT {
            assert_eq!(
                error.to_string(),
                "mount(\"proc\", \"/does/not/exist\", \"proc\", 0xe, \"\") = -1 ENOENT (No such file or directory)"
            );
        } else {
            assert!(error.to_string().contains(" = -1 EPERM ("), "{error}");
        }
    }

    #[test]
    fn an_unnamed_errno_keeps_its_number() {
        let error = SysError {
            call: "frobnicate(3)".into(),
            errno: libc::ESTALE,
        };
        assert_eq!(
            error.to_string(),
            format!(
                "frobnicate(3) = -1 errno {} (Stale file handle)",
                libc::ESTALE
            )
        );
    }

    #[test]
    fn a_text_with_a_nul_is_refused_instead_of_cut() {
        let error = mount("a\0b", "/", "proc", 0, "").unwrap_err();
        assert_eq!(error.errno, libc::EINVAL);
    }

    #[test]
    fn uptime_runs_forward() {
        let before = uptime();
        assert!(before > Duration::ZERO);
        assert!(uptime() >= before);
    }

    #[test]
    fn poll_reports_the_descriptor_that_has_bytes() {
        use std::io::Write;
        use std::os::fd::AsFd;
        let (quiet, _held) = std::io::pipe().unwrap();
        let (busy, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"x").unwrap();
        let mut waiting = [Waiting::read(quiet.as_fd()), Waiting::read(busy.as_fd())];
        poll(&mut waiting, Duration::from_secs(5)).unwrap();
        assert!(!waiting[0].ready);
        assert!(waiting[1].ready);
    }
}
