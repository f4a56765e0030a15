//! Set-ups, whole and broken, and what the doctor says of them.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sparetire_builder::signing::{Password, generate};

use super::*;

fn findings(check: impl FnOnce(&mut Findings)) -> Vec<Finding> {
    let mut findings = Findings::default();
    check(&mut findings);
    findings.0
}

/// What was said of one thing.
fn of<'a>(findings: &'a [Finding], check: &str) -> &'a Finding {
    findings
        .iter()
        .find(|finding| finding.check == check)
        .unwrap_or_else(|| panic!("nothing about {check}: {findings:#?}"))
}

#[test]
fn whatever_is_not_well_has_a_cure() {
    let dir = tempfile::tempdir().unwrap();
    let args = DoctorArgs {
        store: Some(dir.path().join("store")),
        key: Some(dir.path().join("key")),
        config: None,
        server: None,
    };
    let findings = examine(&args, std::time::SystemTime::now().into());
    for finding in &findings.0 {
        assert_eq!(
            finding.cure.is_some(),
            finding.state != State::Ok,
            "{finding:?}"
        );
    }
    assert_eq!(of(&findings.0, "signing key").state, State::Warn);
    assert_eq!(of(&findings.0, "store").state, State::Warn);
    assert_eq!(of(&findings.0, "clock").state, State::Ok);
}

#[test]
fn a_clock_before_the_release_is_a_fault() {
    let found = findings(|findings| host::clock(Timestamp::from_unix(1_000_000_000), findings));
    assert_eq!(of(&found, "clock").state, State::Fail);
}

#[test]
fn a_key_others_can_read_is_a_fault_and_so_is_a_lost_public_half() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("a.key");
    let (public, public_file) = generate(&key, &Password::None).unwrap();
    let look = || findings(|findings| keys::check(Some(&key), findings));
    let well = look();
    assert_eq!(of(&well, "signing key").state, State::Ok);
    assert!(of(&well, "public key").found.contains(&public.id));

    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let open = look();
    assert_eq!(of(&open, "signing key").state, State::Fail);
    assert!(of(&open, "signing key").found.contains("0640"));

    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(public_file).unwrap();
    assert_eq!(of(&look(), "public key").state, State::Fail);
}

#[test]
fn an_empty_store_is_told_from_a_folder_that_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let now = Timestamp::from_unix(1_800_000_000);
    let look = |root: &Path| findings(|findings| store::check(root, now, findings));
    assert_eq!(of(&look(dir.path()), "store").state, State::Warn);
    sparetire_builder::store::Store::create(dir.path()).unwrap();
    let fresh = look(dir.path());
    assert_eq!(of(&fresh, "store").state, State::Ok);
    assert_eq!(of(&fresh, "images").state, State::Warn);
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("letter.txt"), "").unwrap();
    assert_eq!(of(&look(other.path()), "store").state, State::Fail);
}

#[test]
fn an_image_counts_until_the_earlier_of_its_two_ends() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let issued = Timestamp::from_unix(1_800_000_000);
    let day = |days: u64| std::time::Duration::from_secs(days * 86_400);
    import(&root, dir.path(), issued, Some(day(30)), day(90));
    let state = |now: Timestamp| {
        let found = findings(|findings| store::check(&root, now, findings));
        (
            of(&found, "image small").state,
            of(&found, "image small").found.clone(),
        )
    };
    assert_eq!(state(issued.plus(day(1))).0, State::Ok);
    assert_eq!(state(issued.plus(day(24))).0, State::Warn);
    let (expired, found) = state(issued.plus(day(31)));
    assert_eq!(expired, State::Fail);
    assert!(found.contains("the version itself"), "{found}");
    let (early, found) = state(Timestamp::from_unix(1_799_999_999));
    assert_eq!(early, State::Fail);
    assert!(found.contains("future"), "{found}");

    fs::remove_file(root.join("images/small/latest.json")).unwrap();
    assert_eq!(state(issued.plus(day(1))).0, State::Fail);
}

/// A store with one image, signed at `now`.
fn import(
    root: &Path,
    work: &Path,
    now: Timestamp,
    valid: Option<std::time::Duration>,
    latest_valid: std::time::Duration,
) {
    use sparetire_builder::import::{Input, Options, import};
    use sparetire_builder::signing::SigningKey;
    let kernel = work.join("kernel");
    // Only what `import` looks at: the setup header of a 64-bit bzImage.
    let mut bytes = vec![0; 4096];
    bytes[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes[0x206..0x208].copy_from_slice(&0x020cu16.to_le_bytes());
    bytes[0x236] = 1;
    fs::write(&kernel, bytes).unwrap();
    let key = work.join("a.key");
    generate(&key, &Password::None).unwrap();
    let key = SigningKey::read(&key, &Password::None).unwrap();
    let quiet = Ui {
        json: false,
        quiet: true,
    };
    let options = Options {
        name: "small".parse().unwrap(),
        version: None,
        label: None,
        description: None,
        valid,
        latest_valid,
        cmdline: None,
        append: None,
        medium: None,
        placement: None,
        now,
        wait: false,
    };
    let input = Input::LinuxNetboot {
        kernel,
        initrd: Vec::new(),
    };
    import(root, &input, &options, &key, &quiet.progress("", 0)).unwrap();
}

#[test]
fn a_taken_port_an_address_of_nobody_and_an_open_token_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    // Something that is no server of ours: takes connections and closes them.
    let answering = std::thread::spawn(move || drop(taken.accept()));
    let config = dir.path().join("server.toml");
    let token = dir.path().join("token");
    fs::write(&token, "0123456789abcdef0123456789abcdef").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(
        &config,
        format!(
            "listen = [\"{address}\", \"192.0.2.1:8080\", \"127.0.0.1:0\"]\noperator_token_file = \"{}\"\n",
            token.display()
        ),
    )
    .unwrap();
    let args = ServeArgs {
        config: Some(config),
        store: Some(dir.path().join("store")),
        state: Some(dir.path().join("state")),
        ..ServeArgs::default()
    };
    let settings = Settings::load(&args).unwrap();
    let found = findings(|findings| network::configuration(&settings, findings));
    answering.join().unwrap();
    assert_eq!(of(&found, &format!("port {address}")).state, State::Warn);
    assert_eq!(of(&found, "port 192.0.2.1:8080").state, State::Fail);
    assert_eq!(of(&found, "port 127.0.0.1:0").state, State::Ok);
    assert_eq!(of(&found, "operator's token").state, State::Fail);
}

#[test]
fn a_named_server_has_to_answer_well() {
    use std::io::{Read, Write};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url: Url = format!("http://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let answers = ["200 OK", "503 Service Unavailable"];
    let server = std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 1024];
            let count = stream.read(&mut head).unwrap();
            assert!(head[..count].starts_with(b"GET /healthz "));
            write!(
                stream,
                "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            .unwrap();
        }
    });
    let check = format!("server {url}");
    for expected in [State::Ok, State::Fail] {
        let found = findings(|findings| network::reach(&url, findings));
        assert_eq!(of(&found, &check).state, expected, "{found:?}");
    }
    server.join().unwrap();
    // Nobody listens there any more.
    let found = findings(|findings| network::reach(&url, findings));
    assert_eq!(of(&found, &check).state, State::Fail);
}
