//! What the slot says: defaults, limits, merging, and what the kernel command line may change.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use proptest::prelude::*;
use stage1_config::{
    Cidr, CmdlineError, Config, ConfigError, Secret, SessionConfig, Slot, Target, apply_cmdline,
};

const EVERYTHING: &str = r#"
format = 1
build_date = "2026-11-21T23:54:00Z"
server = "https://boot.example:8443"
stores = ["http://10.0.2.2:8080/store/", "https://mirror.example/images"]
image = "debian-rescue"
image_version = 20261121235400
min_version = 20261101000000
target = "usb"
append = "console=ttyS0 quiet"
retry_seconds = 5
connections = 8
patience_seconds = 900

[session]
id = "s-1_A"
token = "dG9rZW4="

[trust]
keys = ["RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"]
ca = """
-----BEGIN CERTIFICATE-----
AAAA
-----END CERTIFICATE-----
"""
pin = ["sha256/AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="]

[network]
interface = "eno1"
vlan = 7
address = ["192.168.7.5/24", "fd00::5/64"]
gateway = ["192.168.7.1", "fd00::1"]
dns = ["192.168.7.2"]
proxy = "http://proxy:3128"

[console]
devices = ["ttyS4", "ttyS0,115200n8"]
shell = true
"#;

fn config(base: &str, overlay: &str) -> Result<Config, ConfigError> {
    Slot::new(base)
        .unwrap()
        .with_overlay(overlay)
        .unwrap()
        .config()
}

fn after(cmdline: &str) -> Result<Config, CmdlineError> {
    let mut config = Config::parse(EVERYTHING).unwrap();
    apply_cmdline(&mut config, cmdline).map(|()| config)
}

#[test]
fn an_empty_slot_means_the_defaults() {
    let config = config("", "").unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(
        (
            config.format,
            config.target,
            config.retry_seconds,
            config.connections
        ),
        (1, Target::Ram, 30, 24)
    );
    assert_eq!(config.patience_seconds, 600);
    assert!(!config.console.shell);
}

#[test]
fn every_key_is_read_and_written() {
    let config = Config::parse(EVERYTHING).unwrap();
    assert_eq!(config.image.as_ref().unwrap().as_str(), "debian-rescue");
    assert_eq!(config.target, Target::Usb);
    assert_eq!(config.session.as_ref().unwrap().token.reveal(), "dG9rZW4=");
    assert_eq!(
        config.network.address,
        [
            "192.168.7.5/24".parse().unwrap(),
            "fd00::5/64".parse::<Cidr>().unwrap()
        ]
    );
    assert_eq!(
        config
            .trusted_keys()
            .unwrap()
            .ids()
            .next()
            .unwrap()
            .to_string(),
        "E7620F1842B4E81F"
    );
    assert!(config.console.shell);
    assert_eq!(Config::parse(&config.to_toml()).unwrap(), config);
}

#[test]
fn written_toml_leaves_the_defaults_out() {
    assert_eq!(Config::default().to_toml(), "format = 1\n");
    let overlay = Config {
        server: Some("http://h".into()),
        ..Config::default()
    };
    assert_eq!(overlay.to_toml(), "format = 1\nserver = \"http://h\"\n");
}

#[test]
fn overlay_wins_key_by_key() {
    let base = "image = \"a\"\nstores = [\"http://a\", \"http://b\"]\n[network]\nvlan = 1\ninterface = \"eno1\"\n[trust]\n";
    let overlay = "image = \"b\"\nstores = [\"http://c\"]\n[network]\nvlan = 2\n[session]\nid = \"s\"\ntoken = \"t\"\n";
    let config = config(base, overlay).unwrap();
    assert_eq!(config.image.unwrap().as_str(), "b");
    assert_eq!(config.stores, ["http://c"]);
    assert_eq!(
        (config.network.vlan, config.network.interface.as_deref()),
        (Some(2), Some("eno1"))
    );
    assert_eq!(
        config.session,
        Some(SessionConfig {
            id: "s".into(),
            token: Secret::new("t".into())
        })
    );
}

const PLAIN: &str = r#"
[plain]
urls = ["http://10.0.2.2/live.iso", "https://mirror.example/live.iso"]
size = 1000000
sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
[plain.boot]
cmdline = "boot=live"
medium = "live-boot"
kernel = { path = "/live/vmlinuz", offset = 4096, length = 5000 }
initrd = [{ path = "/live/initrd.img", offset = 12288, length = 900000 }]
"#;

#[test]
fn an_unsigned_image_needs_permission() {
    let error = config("", PLAIN).unwrap_err();
    assert!(
        error.to_string().starts_with("allow_unsigned is not true"),
        "{error}"
    );
    let config = config("", &format!("allow_unsigned = true\n{PLAIN}")).unwrap();
    let plain = config.plain.as_ref().unwrap();
    assert_eq!(config.source_urls(), plain.urls);
    assert_eq!(plain.manifest().unwrap().size, 1_000_000);
    assert_eq!(Config::parse(&config.to_toml()).unwrap(), config);
    // Whoever names an image of a store at the keyboard gets that one.
    let mut named = config.clone();
    apply_cmdline(&mut named, "sparetire.image=other").unwrap();
    assert_eq!(named.plain, None);
    assert!(apply_cmdline(&mut named, "sparetire.allow_unsigned=true").is_err());
}

#[test]
fn an_unsigned_image_that_makes_no_sense_is_refused() {
    for (is, instead) in [
        ("size = 1000000", "size = 0"),
        ("offset = 12288", "offset = 999999"),
        ("length = 5000", "length = 0"),
        ("http://10.0.2.2/live.iso", "ftp://10.0.2.2/live.iso"),
        (
            "http://10.0.2.2/live.iso\", \"https://mirror.example/live.iso",
            "http://user@host/",
        ),
        (
            "[\"http://10.0.2.2/live.iso\", \"https://mirror.example/live.iso\"]",
            "[]",
        ),
        ("/live/vmlinuz", "/live/\\u0007"),
        ("boot=live", "boot=\\u00e9"),
        ("sha256 = \"ba", "sha256 = \"BA"),
        ("[plain.boot]", "more = 1\n[plain.boot]"),
    ] {
        let text = PLAIN.replace(is, instead);
        assert_ne!(text, PLAIN, "{is}");
        let result = config("", &format!("allow_unsigned = true\n{text}"));
        assert!(result.is_err(), "{instead}: {result:?}");
    }
}

#[test]
fn unknown_keys_are_refused_by_name() {
    for (text, name) in [
        ("min_verson = 1", "min_verson"),
        ("[network]\nvlna = 1", "vlna"),
        ("[trust]\nkey = []", "key"),
        ("[console]\nshel = true", "shel"),
        ("[session]\nid = \"s\"\ntoken = \"t\"\nttl = 1", "ttl"),
    ] {
        for result in [config(text, ""), config("", text)] {
            match result {
                Err(ConfigError::Schema { message }) => {
                    assert!(message.contains(&format!("`{name}`")), "{message}")
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_newer_format_is_told_before_its_keys() {
    assert_eq!(
        config("format = 2\nnovelty = true", ""),
        Err(ConfigError::Unsupported { format: 2 })
    );
    assert_eq!(
        config("", "format = 2"),
        Err(ConfigError::Unsupported { format: 2 })
    );
}

#[test]
fn broken_toml_names_part_and_line_without_quoting_it() {
    match config(
        "image = \"a\"\n",
        "[session]\nid = \"s\"\ntoken = \"SECRET\" SECRET\n",
    ) {
        Err(
            error @ ConfigError::Syntax {
                part: "overlay",
                line: 3,
                ..
            },
        ) => {
            assert!(!error.to_string().contains("SECRET"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn refuses_values_outside_their_limits() {
    let long = format!("append = \"{}\"", "x".repeat(1025));
    let list = format!("stores = [{}]", "\"http://a\",".repeat(9));
    for text in [
        "format = -1",
        "server = \"10.0.2.2\"",
        "server = \"http://user:password@h\"",
        "stores = [\"http://a\", \"file:///etc\"]",
        list.as_str(),
        "image = \"../x\"",
        "image_version = -1",
        "target = \"floppy\"",
        "append = \"a\\nb\"",
        "append = \"caf\\u00e9\"",
        long.as_str(),
        "retry_seconds = 0",
        "retry_seconds = 86401",
        "connections = 0",
        "connections = 33",
        "patience_seconds = 9",
        "patience_seconds = 86401",
        "build_date = \"yesterday\"",
        "[session]\nid = \"s\"",
        "[session]\nid = \"a/b\"\ntoken = \"t\"",
        "[session]\nid = \"\"\ntoken = \"t\"",
        "[session]\nid = \"s\"\ntoken = \"\"",
        "[session]\nid = \"s\"\ntoken = \"a b\"",
        "[session]\nid = \"s\"\ntoken = \"a\\r\\nHost: x\"",
        "[trust]\nkeys = [\"RW\"]",
        "[trust]\nca = \"AAAA\"",
        "[trust]\npin = [\"sha256/AAAA\"]",
        "[trust]\npin = [\"sha1/AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"]",
        "[trust]\npin = [\"sha256/AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=\"]",
        "[network]\ninterface = \"../x\"",
        "[network]\ninterface = \"\"",
        "[network]\nvlan = 0",
        "[network]\nvlan = 4095",
        "[network]\naddress = [\"192.168.7.5\"]",
        "[network]\naddress = [\"192.168.7.5/33\"]",
        "[network]\naddress = [\"fd00::1/129\"]",
        "[network]\naddress = [\"192.168.7.5/+8\"]",
        "[network]\ngateway = [\"router\"]",
        "[network]\nproxy = \"proxy:3128\"",
        "[console]\ndevices = [\"../sda\"]",
        "[console]\ndevices = [\"\"]",
    ] {
        assert!(Config::parse(text).is_err(), "{text}");
    }
}

#[test]
fn stores_default_to_the_server() {
    let urls = |text: &str| Config::parse(text).unwrap().store_urls();
    assert_eq!(urls("server = \"http://h:80/\""), ["http://h:80/store"]);
    assert_eq!(
        urls("server = \"http://h\"\nstores = [\"http://a/x/\", \"http://b\"]"),
        ["http://a/x", "http://b"]
    );
    assert!(urls("").is_empty());
}

#[test]
fn debug_does_not_show_the_token() {
    let text = format!("{:?}", Config::parse(EVERYTHING).unwrap());
    assert!(
        text.contains("s-1_A") && !text.contains("dG9rZW4="),
        "{text}"
    );
}

#[test]
fn command_line_changes_what_a_person_may_choose() {
    let config = after(
        "BOOT_IMAGE=/vmlinuz quiet sparetire.server=http://a sparetire.store=http://b sparetire.store=http://c \
         sparetire.target=ram sparetire.append=\"a=1 b\" \"sparetire.interface=eno2\" sparetire.vlan=9 \
         sparetire.address=10.0.0.2/8 sparetire.gateway=10.0.0.1 sparetire.dns=10.0.0.3 sparetire.dns=fd00::3 \
         sparetire.proxy=http://p sparetire.console=ttyS1 -- sparetire.target=disk",
    )
    .unwrap();
    assert_eq!(config.server.as_deref(), Some("http://a"));
    assert_eq!(config.stores, ["http://b", "http://c"]);
    assert_eq!(config.target, Target::Ram);
    assert_eq!(config.append.as_deref(), Some("a=1 b"));
    assert_eq!(config.network.interface.as_deref(), Some("eno2"));
    assert_eq!(config.network.vlan, Some(9));
    assert_eq!(config.network.address, ["10.0.0.2/8".parse().unwrap()]);
    assert_eq!(
        config.network.gateway,
        ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]
    );
    assert_eq!(config.network.dns.len(), 2);
    assert_eq!(config.network.proxy.as_deref(), Some("http://p"));
    assert_eq!(config.console.devices, ["ttyS1"]);
    // What it does not name stays.
    assert_eq!(config.min_version, Some(20_261_101_000_000));
    assert!(config.session.is_some());
}

#[test]
fn another_image_drops_the_version_and_floor_of_the_first() {
    let other = after("sparetire.image=windows").unwrap();
    assert_eq!((other.image_version, other.min_version), (None, None));
    let same = after("sparetire.image=debian-rescue").unwrap();
    assert_eq!(same.min_version, Some(20_261_101_000_000));
}

#[test]
fn command_line_never_carries_trust_secrets_or_the_shell() {
    for name in [
        "shell",
        "token",
        "session",
        "keys",
        "ca",
        "pin",
        "min_version",
        "image_version",
    ] {
        let error = after(&format!("sparetire.{name}=1")).unwrap_err();
        assert_eq!(
            error,
            CmdlineError::SlotOnly {
                parameter: format!("sparetire.{name}")
            }
        );
    }
}

#[test]
fn a_refused_command_line_changes_nothing() {
    for cmdline in [
        "sparetire.server=http://a sparetire.sever=http://b",
        "sparetire.server=http://a sparetire.vlan",
        "sparetire.server=http://a sparetire.vlan=",
        "sparetire.server=http://a sparetire.vlan=many",
        "sparetire.server=http://a sparetire.vlan=5000",
        "sparetire.server=http://a sparetire.image=../x",
        "sparetire.server=http://a sparetire.console=../sda",
        "sparetire.server=http://a sparetire.store=gopher://b",
        "sparetire.server=http://a sparetire.target=floppy",
    ] {
        let before = Config::parse(EVERYTHING).unwrap();
        let mut config = before.clone();
        apply_cmdline(&mut config, cmdline).unwrap_err();
        assert_eq!(config, before, "{cmdline}");
    }
    assert!(matches!(
        after(&" ".repeat(20_000)),
        Err(CmdlineError::TooLong { .. })
    ));
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "(?s).{0,200}") {
        let _ = Config::parse(&text);
        let _ = after(&text);
        let _ = after(&format!("sparetire.{text}"));
        let _ = text.parse::<Cidr>();
    }

    #[test]
    fn every_cut_of_a_config_is_answered(length in 0..EVERYTHING.len()) {
        let _ = Config::parse(&EVERYTHING[..length]);
    }

    #[test]
    fn a_parameter_in_quotes_reads_as_one(value in "[ !#-~]{1,40}") {
        // The kernel knows no escapes, so a value holds no quotes.
        prop_assume!(!value.trim().is_empty());
        let config = after(&format!("a \"b c\" sparetire.append=\"{value}\" d")).unwrap();
        prop_assert_eq!(config.append, Some(value));
    }
}
