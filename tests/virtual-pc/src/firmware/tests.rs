//! Behaviour of the firmware as a whole, on simulated time.

mod boot;
mod consent;
mod operations;
mod power_and_sessions;
mod users;

use std::time::{Duration, Instant};

use super::*;

/// A firmware and its clock.
struct Bench {
    firmware: Firmware,
    now: Instant,
}

impl Bench {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let profile = Profile::named(DEFAULT_PROFILE).unwrap();
        let mut config = Config::new(profile, "P@ssw0rd");
        config.power = PowerState::On;
        change(&mut config);
        let now = Instant::now();
        Self {
            firmware: Firmware::new(
                config,
                1,
                Epoch {
                    instant: now,
                    unix: 1_700_000_000,
                },
            ),
            now,
        }
    }

    fn pass(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        // As the shell does it: at each deadline, not only at the end.
        while let Some(due) = self.firmware.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.firmware.handle_timeout(self.now);
        }
        self.now = end;
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.firmware.poll_action()).collect()
    }

    fn open(&mut self, kind: SessionKind) -> Result<SessionTicket, StartStatus> {
        self.firmware
            .begin_session(self.now, kind, "192.0.2.1:40000")
    }

    /// Goes through the whole consent dialogue.
    fn consent(&mut self) {
        assert_eq!(
            self.firmware.start_consent(self.now),
            ConsentReturn::Success
        );
        self.pass(2);
        let code = self.firmware.displayed_consent_code().unwrap();
        assert_eq!(
            self.firmware.send_consent_code(self.now, code),
            ConsentReturn::Success
        );
        self.actions();
    }

    fn reset(&mut self) -> Boot {
        assert_eq!(
            self.firmware.request_power_state(self.now, 10),
            PowerReturn::Completed
        );
        match self.actions().as_slice() {
            [Action::Reset { boot, cycle: false }] => *boot,
            other => panic!("a reset and nothing else, not {other:?}"),
        }
    }
}

/// A Put with every required element; those named are set.
fn put(set: &[BootFlag]) -> BootPut {
    BootPut {
        flags: BOOT_FLAGS
            .iter()
            .filter(|row| row.required)
            .map(|row| (row.flag, set.contains(&row.flag)))
            .collect(),
        ider_boot_device: Some(1),
        boot_media_index: Some(0),
        firmware_verbosity: Some(0),
    }
}
