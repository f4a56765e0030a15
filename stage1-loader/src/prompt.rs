//! The built-in prompt on the failure screen, for people with permission by the configuration.
//! There is no other program in stage one, so this looks at the machine by itself: read only,
//! except for retry, reboot and power off.

use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::network::interfaces;
use crate::sys;
use crate::text;

/// Longest line that can be typed.
const MAX_LINE: usize = 256;
/// Most that `cat`, `dmesg` and `ls` show.
const MAX_SHOWN: usize = 256 * 1024;

/// What the prompt knows besides the file system.
#[derive(Debug)]
pub struct View<'a> {
    /// Root of all paths.
    pub root: &'a Path,
    /// The loader's log.
    pub log: Vec<String>,
}

/// What a line leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Text to show; then the next line.
    Show(String),
    /// Back to the boot.
    Retry,
    /// Restart the PC.
    Reboot,
    /// Switch the PC off.
    PowerOff,
}

const HELP: &str = "\
help            this list
net             interfaces, addresses, routes, DNS
memory          RAM in use
log             what this loader has said
dmesg           what the kernel has said
ls [PATH]       a directory
cat PATH        a file
retry           go on with the boot
reboot          restart the PC
poweroff        switch the PC off";

/// Does what a line asks for.
pub fn run(line: &str, view: &View<'_>) -> Outcome {
    let mut words = line.split_ascii_whitespace();
    let command = words.next().unwrap_or_default();
    let argument = words.next();
    if words.next().is_some() {
        return Outcome::Show(format!("{command} takes at most one argument"));
    }
    Outcome::Show(match (command, argument) {
        ("", _) => String::new(),
        ("retry" | "exit", None) => return Outcome::Retry,
        ("reboot", None) => return Outcome::Reboot,
        ("poweroff", None) => return Outcome::PowerOff,
        ("help" | "?", None) => HELP.to_owned(),
        ("net", None) => net(view.root),
        ("memory", None) => memory(view.root),
        ("log", None) => view.log.join("\n"),
        ("dmesg", None) => dmesg(),
        ("ls", path) => ls(view.root, path.unwrap_or("/")),
        ("cat", Some(path)) => cat(view.root, path),
        ("cat", None) => "cat takes a path".to_owned(),
        (
            "retry" | "exit" | "reboot" | "poweroff" | "help" | "?" | "net" | "memory" | "log"
            | "dmesg",
            Some(_),
        ) => format!("{command} takes no argument"),
        _ => format!("{command}: unknown; `help` lists what there is"),
    })
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn net(root: &Path) -> String {
    let mut out = String::new();
    let entries = fs::read_dir(root.join("sys/class/net"));
    let mut names: Vec<String> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    for interface in names
        .iter()
        .filter_map(|name| interfaces::by_name(root, name))
    {
        let (what, link) = (interface.describe(), interface.describe_link());
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{what} {link}");
    }
    for adapter in interfaces::without_driver(root) {
        let _ = writeln!(out, "PCI {adapter} has no driver");
    }
    let text = |path: &str| read_text(&root.join(path));
    for address in ipv4_addresses(&text("proc/net/fib_trie")) {
        let _ = writeln!(out, "address {address}");
    }
    for (name, address) in interfaces::global_ipv6(&text("proc/net/if_inet6")) {
        let _ = writeln!(out, "address {address} on {name}");
    }
    for route in ipv4_routes(&text("proc/net/route")) {
        let _ = writeln!(out, "route {route}");
    }
    out += &text("etc/resolv.conf");
    out.trim_end().to_owned()
}

/// This PC's addresses in /proc/net/fib_trie: a line `|-- ADDRESS` before `/32 host LOCAL`.
fn ipv4_addresses(table: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut last = None;
    for line in table.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL"
            && let Some(address) = last.filter(|address| !found.contains(address))
        {
            found.push(address);
        }
    }
    found
}

/// Routes in /proc/net/route: name, destination, gateway, four numbers, mask; addresses as the
/// machine's integers in hexadecimal.
fn ipv4_routes(table: &str) -> Vec<String> {
    let address = |text: &str| {
        let number = u32::from_str_radix(text, 16).ok()?;
        Some(Ipv4Addr::from(number.to_ne_bytes()))
    };
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let name = fields.next()?;
            let destination = address(fields.next()?)?;
            let gateway = address(fields.next()?)?;
            let prefix = address(fields.nth(4)?)?.to_bits().leading_ones();
            Some(if gateway.is_unspecified() {
                format!("{destination}/{prefix} on {name}")
            } else {
                format!("{destination}/{prefix} by {gateway} on {name}")
            })
        })
        .collect()
}

fn memory(root: &Path) -> String {
    let table = read_text(&root.join("proc/meminfo"));
    let wanted = ["MemTotal", "MemFree", "MemAvailable", "Shmem", "Slab"];
    table
        .lines()
        .filter(|line| {
            wanted
                .iter()
                .any(|name| line.split(':').next() == Some(name))
        })
        .collect::<Vec<_>>()
        .join("\n")
}

fn dmesg() -> String {
    match sys::kernel_log(MAX_SHOWN) {
        Ok(bytes) => text::printable(String::from_utf8_lossy(&bytes).trim_end()),
        Err(error) => error.to_string(),
    }
}

fn ls(root: &Path, path: &str) -> String {
    let entries = match fs::read_dir(below(root, path)) {
        Ok(entries) => entries,
        Err(error) => return format!("{path}: {error}"),
    };
    let mut lines: Vec<String> = entries
        .flatten()
        .take(2000)
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(data) = entry.metadata() else {
                return name;
            };
            if data.is_dir() {
                format!("{:>12} {name}/", "")
            } else if data.is_symlink() {
                let target = fs::read_link(entry.path()).unwrap_or_default();
                format!("{:>12} {name} -> {}", "", target.display())
            } else {
                format!("{:>12} {name}", data.len())
            }
        })
        .collect();
    lines.sort_by(|a, b| a.get(13..).cmp(&b.get(13..)));
    text::printable(&lines.join("\n"))
}

fn cat(root: &Path, path: &str) -> String {
    let place = below(root, path);
    let slot = fs::canonicalize(crate::config::slot_path(root)).ok();
    if slot.is_some() && slot == fs::canonicalize(&place).ok() {
        return format!("{path}: holds the session's token, so it is not shown");
    }
    match fs::metadata(&place) {
        Ok(data) if data.is_file() => read_text(&place).trim_end().to_owned(),
        Ok(_) => format!("{path}: not a regular file"),
        Err(error) => format!("{path}: {error}"),
    }
}

/// The beginning of a file, fit for a terminal.
fn read_text(path: &Path) -> String {
    let mut bytes = Vec::new();
    // /proc has files that wait for something to happen.
    let result = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .and_then(|file| file.take(MAX_SHOWN as u64).read_to_end(&mut bytes));
    let shown = text::printable(&String::from_utf8_lossy(&bytes));
    match result {
        Ok(_) => shown,
        Err(_) if !bytes.is_empty() => shown,
        Err(error) => format!("{error}\n"),
    }
}

/// A line being typed. Pure: keys in, text to echo out.
#[derive(Debug, Default)]
pub struct Editor {
    line: String,
    escape: bool,
}

/// What a key led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Typed {
    /// Text to echo.
    Echo(String),
    /// The line is complete.
    Line(String),
}

impl Editor {
    /// Takes one key.
    pub fn key(&mut self, key: u8) -> Typed {
        if self.escape {
            // An arrow key is ESC [ letter; nothing of it is wanted.
            self.escape = !(key.is_ascii_alphabetic() || key == b'~');
            return Typed::Echo(String::new());
        }
        match key {
            b'\r' | b'\n' => return Typed::Line(std::mem::take(&mut self.line)),
            0x1b => self.escape = true,
            0x08 | 0x7f => {
                let gone = self.line.pop().map_or("", |_| "\u{8} \u{8}");
                return Typed::Echo(gone.to_owned());
            }
            // Ctrl-C and Ctrl-U: the line from its start.
            0x03 | 0x15 => {
                let length = self.line.len();
                self.line.clear();
                return Typed::Echo("\u{8} \u{8}".repeat(length));
            }
            b' '..=b'~' if self.line.len() < MAX_LINE => {
                let key = char::from(key);
                self.line.push(key);
                return Typed::Echo(key.to_string());
            }
            _ => {}
        }
        Typed::Echo(String::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(root: &Path, line: &str) -> String {
        let view = View {
            root,
            log: vec!["one".into(), "two".into()],
        };
        match run(line, &view) {
            Outcome::Show(text) => text,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn commands_that_leave_take_no_argument() {
        let view = View {
            root: Path::new("/"),
            log: Vec::new(),
        };
        assert_eq!(run(" retry ", &view), Outcome::Retry);
        assert_eq!(run("exit", &view), Outcome::Retry);
        assert_eq!(run("reboot", &view), Outcome::Reboot);
        assert_eq!(run("poweroff", &view), Outcome::PowerOff);
        assert_eq!(
            run("poweroff now", &view),
            Outcome::Show("poweroff takes no argument".into())
        );
    }

    #[test]
    fn help_names_every_command() {
        let root = tempfile::tempdir().unwrap();
        for line in HELP.lines() {
            let command = line.split_ascii_whitespace().next().unwrap();
            if !["retry", "reboot", "poweroff"].contains(&command) {
                let text = show(root.path(), command);
                assert!(!text.contains("unknown"), "{command}: {text}");
            }
        }
        assert!(show(root.path(), "rm").contains("unknown"));
    }

    #[test]
    fn files_and_directories_are_shown_without_control_characters() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("b"), "x\x1b[2J\n").unwrap();
        fs::create_dir(root.path().join("a")).unwrap();
        assert_eq!(show(root.path(), "cat /b"), "x?[2J");
        assert_eq!(
            show(root.path(), "ls"),
            format!("{:>12} a/\n{:>12} b", "", 6)
        );
        assert_eq!(show(root.path(), "cat /a"), "/a: not a regular file");
        assert!(show(root.path(), "cat /missing").contains("No such file"));
    }

    #[test]
    fn the_session_token_is_not_shown() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("config-slot"), "token").unwrap();
        for path in ["/config-slot", "config-slot", "//./config-slot"] {
            let text = show(root.path(), &format!("cat {path}"));
            assert!(text.contains("not shown"), "{path}: {text}");
        }
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn addresses_and_routes_are_readable() {
        let trie = "\
Main:
  +-- 0.0.0.0/1 2 0 2
     |-- 0.0.0.0
        /0 universe UNICAST
     |-- 10.0.2.15
        /32 host LOCAL
Local:
     |-- 10.0.2.15
        /32 host LOCAL
     |-- 10.0.2.255
        /32 link BROADCAST
";
        assert_eq!(ipv4_addresses(trie), [Ipv4Addr::new(10, 0, 2, 15)]);
        let table = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0202000A\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
garbage
";
        assert_eq!(
            ipv4_routes(table),
            ["0.0.0.0/0 by 10.0.2.2 on eth0", "10.0.2.0/24 on eth0"]
        );
    }

    #[test]
    fn the_log_is_what_was_said() {
        assert_eq!(show(Path::new("/"), "log"), "one\ntwo");
    }

    #[test]
    fn typing_echoes_and_backspace_takes_back() {
        let mut editor = Editor::default();
        let mut echo = String::new();
        for key in b"nex\x7ft\x1b[A" {
            match editor.key(*key) {
                Typed::Echo(text) => echo += &text,
                Typed::Line(line) => panic!("{line}"),
            }
        }
        assert_eq!(echo, "nex\u{8} \u{8}t");
        assert_eq!(editor.key(b'\r'), Typed::Line("net".into()));
        assert_eq!(editor.key(0x7f), Typed::Echo(String::new()));
    }

    #[test]
    fn an_endless_line_is_cut() {
        let mut editor = Editor::default();
        for _ in 0..10_000 {
            editor.key(b'x');
        }
        assert_eq!(editor.key(b'\n'), Typed::Line("x".repeat(MAX_LINE)));
    }
}
