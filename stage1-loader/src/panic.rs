//! What happens when the loader has a bug. PID 1 must not end: the kernel would panic. So the
//! hook shows what it knows, waits, and restarts the PC; it never returns.

use std::error::Error;
use std::io::Write;
use std::panic::PanicHookInfo;
use std::thread;
use std::time::Duration;

use crate::console::Console;
use crate::sys::{self, Reboot};

/// Time to read the screen.
const WAIT: Duration = Duration::from_secs(60);

/// Installs the hook.
pub fn install(console: Console) {
    std::panic::set_hook(Box::new(move |info| {
        let message = message(info);
        let place = info
            .location()
            .map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
        end(&console, &screen(&place, &message));
    }));
}

/// The same end for something without which nothing can start.
pub fn stop(console: &Console, what: &str, error: &dyn Error) -> ! {
    end(console, &screen(what, &error.to_string()))
}

fn end(console: &Console, text: &str) -> ! {
    show(console, text);
    let ends = sys::uptime() + WAIT;
    while sys::uptime() < ends {
        // poll(2) with nothing to wait for: works whatever state the program is in.
        if sys::poll(&mut [], ends.saturating_sub(sys::uptime())).is_err() {
            thread::sleep(Duration::from_secs(1));
        }
    }
    let error = sys::reboot(Reboot::Restart);
    show(console, &format!("{error}\nSwitch the PC off and on."));
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

fn show(console: &Console, text: &str) {
    // Whoever panicked may hold the console; /dev/console is there in any case.
    if !console.try_line(text) {
        let _ = writeln!(std::io::stdout(), "{text}");
    }
}

fn message(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

fn screen(place: &str, message: &str) -> String {
    let rule = "=".repeat(79);
    format!(
        "\n{rule}\nsparetire stage one {} stopped: this is a bug in it\n\n  place    {place}\n  \
         cause    {message}\n  to do    Please report it with this screen. The PC restarts in {} s.\n{rule}",
        crate::VERSION,
        WAIT.as_secs(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_names_place_and_cause_and_what_follows() {
        let screen = screen("src/boot.rs:7", "index out of bounds");
        for part in ["src/boot.rs:7", "index out of bounds", "restarts in 60 s"] {
            assert!(screen.contains(part), "{screen}");
        }
    }
}
