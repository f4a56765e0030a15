//! The loader's kernel command line: never changes trust, secrets, the shell; changes nothing when it is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stage1_config::{Config, Secret, SessionConfig, apply_cmdline};

fuzz_target!(|text: &str| {
    let before = Config {
        session: Some(SessionConfig {
            id: "s".into(),
            token: Secret::new("t".into()),
        }),
        ..Config::default()
    };
    let mut config = before.clone();
    match apply_cmdline(&mut config, text) {
        Ok(()) => {
            config
                .check()
                .expect("an accepted command line makes a sound configuration");
            assert_eq!(config.session, before.session);
            assert_eq!(config.trust, before.trust);
            assert_eq!(config.console.shell, before.console.shell);
        }
        Err(_) => assert_eq!(config, before),
    }
});
