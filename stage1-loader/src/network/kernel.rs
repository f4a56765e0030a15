//! Changes to the kernel's network tables over one rtnetlink socket, and news from it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use tokio::io::unix::AsyncFd;

use super::netlink::{self, Change, Notice};
use crate::sys::{self, SysError, Waiting};

/// The kernel answers a request while it is being sent; this is for a machine in trouble.
const ANSWER: Duration = Duration::from_secs(5);

/// The socket.
#[derive(Debug)]
pub struct Kernel {
    socket: File,
    sequence: u32,
    /// News that came between a request and its answer.
    waiting: VecDeque<Notice>,
}

impl Kernel {
    /// Opens the socket and starts listening.
    pub fn open() -> Result<Self, SysError> {
        Ok(Self {
            socket: File::from(sys::route_netlink_socket(netlink::GROUPS)?),
            sequence: 0,
            waiting: VecDeque::new(),
        })
    }

    /// Makes one change. What is there already is no error.
    pub fn change(&mut self, change: &Change) -> Result<(), SysError> {
        let call = || format!("rtnetlink({})", change.describe());
        self.sequence = self.sequence.wrapping_add(1);
        self.socket
            .write_all(&change.emit(self.sequence))
            .map_err(|error| SysError::from_io(call(), &error))?;
        let ends = sys::uptime() + ANSWER;
        loop {
            for notice in self.receive()? {
                match notice {
                    Notice::Acknowledged { sequence, errno } if sequence == self.sequence => {
                        return match errno {
                            0 | libc::EEXIST => Ok(()),
                            errno => Err(SysError {
                                call: call(),
                                errno,
                            }),
                        };
                    }
                    Notice::Acknowledged { .. } => {}
                    news => self.waiting.push_back(news),
                }
            }
            let now = sys::uptime();
            if now >= ends {
                return Err(SysError {
                    call: call(),
                    errno: libc::ETIMEDOUT,
                });
            }
            sys::poll(&mut [Waiting::read(self.socket.as_fd())], ends - now)?;
        }
    }

    /// Whether news is here already that waiting on the socket would not show.
    pub fn has_news(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// News that has arrived, without waiting.
    pub fn news(&mut self) -> Result<Vec<Notice>, SysError> {
        let mut news: Vec<Notice> = self.waiting.drain(..).collect();
        news.extend(self.receive()?);
        Ok(news)
    }

    /// Becomes readable when news arrives.
    pub fn readiness(&self) -> Result<AsyncFd<File>, SysError> {
        let socket = self.socket.try_clone();
        sys::readiness(
            socket.map_err(|error| SysError::from_io("fcntl(rtnetlink, F_DUPFD)", &error))?,
        )
    }

    fn receive(&mut self) -> Result<Vec<Notice>, SysError> {
        let mut bytes = [0u8; 8192];
        let mut notices = Vec::new();
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => return Ok(notices),
                Ok(length) => {
                    notices.extend(netlink::parse(bytes.get(..length).unwrap_or_default()));
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    Some(libc::EAGAIN) => return Ok(notices),
                    // The kernel dropped news: look at everything again.
                    Some(libc::ENOBUFS) => notices.push(Notice::Changed),
                    _ => return Err(SysError::from_io("read(rtnetlink)", &error)),
                },
            }
        }
    }
}

impl AsFd for Kernel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_change_reads_like_strace() {
        let mut kernel = Kernel::open().unwrap();
        let error = kernel
            .change(&Change::Up { index: 0x7fff_0000 })
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("rtnetlink(link set 2147418112 up) = -1 E"),
            "{text}"
        );
    }
}
