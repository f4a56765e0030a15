//! Accounts, digest responses, lock-out (reference sections 1.3 and 4.1).

use super::*;

const REALM: &str = "Digest:F3EB554784E729164447A89F60B641C5";
const HTTP: Exchange<'_> = Exchange {
    nonce: "bQali2IAAAAAAAAAn0xaWCOcxNsRcEHX",
    nc: "00000001",
    cnonce: "0123456789abcdef",
    qop: "auth",
    a2: "POST:/wsman",
};
/// The published vector for the exchange above.
const RIGHT: &str = "fca6c06f30fbbbdadade242fcf2f63c0";

fn proof(response: &str) -> DigestProof<'_> {
    DigestProof {
        user: "admin",
        realm: REALM,
        exchange: HTTP,
        response,
    }
}

fn entry(user: &str, realms: &[u32]) -> AclEntry {
    AclEntry {
        user: user.into(),
        ha1: Ha1::of(user, REALM, "Hd!12345"),
        realms: Realms::from_numbers(realms.iter().copied()).unwrap(),
        access: AccessPermission::Both,
    }
}

#[test]
fn published_vectors_log_in() {
    let cases = [
        (HTTP, RIGHT),
        (
            Exchange {
                nc: "00000002",
                ..HTTP
            },
            "25565652b7cec08415d2c29288cc390f",
        ),
        (
            Exchange {
                qop: "auth-int",
                a2: "POST:/wsman:162c4d1aee0e53bc90368edf49e9eae7",
                ..HTTP
            },
            "4974f44b8d6118ba3b84439bb327ab04",
        ),
    ];
    for (exchange, response) in cases {
        let mut bench = Bench::new(|_| {});
        let account = bench
            .firmware
            .check_digest(
                bench.now,
                &DigestProof {
                    exchange,
                    ..proof(response)
                },
            )
            .unwrap();
        assert!(
            account.realms.permit(Realm::Redirection),
            "the administrator may everything"
        );
    }
}

#[test]
fn redirection_vectors_log_in_with_and_without_qop() {
    let exchange = Exchange {
        nonce: "0123456789abcdef0123456789abcdef",
        nc: "00000002",
        cnonce: "d4bfc9b9a2482edaa0f2113f9b752514",
        qop: "auth",
        a2: "POST:/RedirectionService",
    };
    let realm = "Digest:A1B2C3D4E5F60718293A4B5C6D7E8F90";
    let cases = [
        (exchange, "5ddde26e7417ac105c91044df0c1a172"),
        (
            Exchange {
                qop: "",
                ..exchange
            },
            "2dd506906c78405d83cd3142cec8da83",
        ),
    ];
    for (exchange, response) in cases {
        let mut bench = Bench::new(|config| config.digest_realm = realm.into());
        let proof = DigestProof {
            user: "admin",
            realm,
            exchange,
            response,
        };
        assert!(
            bench.firmware.check_digest(bench.now, &proof).is_ok(),
            "{exchange:?}"
        );
    }
}

#[test]
fn every_shortened_lengthened_or_altered_response_is_refused() {
    let upper = RIGHT.to_uppercase();
    let long = format!("{RIGHT}0");
    let twice = format!("{RIGHT}{RIGHT}");
    let mut wrong: Vec<String> = (0..32).map(|len| RIGHT[..len].to_owned()).collect();
    wrong.extend([
        long,
        twice,
        format!("{}g", &RIGHT[..31]),
        "0".repeat(32),
        format!("{}é", &RIGHT[..30]),
    ]);
    for response in &wrong {
        let mut bench = Bench::new(|_| {});
        assert_eq!(
            bench.firmware.check_digest(bench.now, &proof(response)),
            Err(Rejected::BadCredentials),
            "{response:?}"
        );
    }
    let mut bench = Bench::new(|_| {});
    assert!(
        bench
            .firmware
            .check_digest(bench.now, &proof(&upper))
            .is_ok(),
        "digits are digits in either case"
    );
}

#[test]
fn another_realm_or_user_is_refused() {
    let mut bench = Bench::new(|_| {});
    let other = DigestProof {
        realm: "Digest:0",
        ..proof(RIGHT)
    };
    assert_eq!(
        bench.firmware.check_digest(bench.now, &other),
        Err(Rejected::BadCredentials)
    );
    let other = DigestProof {
        user: "Admin",
        ..proof(RIGHT)
    };
    assert_eq!(
        bench.firmware.check_digest(bench.now, &other),
        Err(Rejected::BadCredentials)
    );
}

#[test]
fn too_many_failures_lock_even_the_right_password_out_for_a_while() {
    let mut bench = Bench::new(|config| config.lockout.attempts = 3);
    for _ in 0..3 {
        assert_eq!(
            bench.firmware.check_digest(bench.now, &proof("")),
            Err(Rejected::BadCredentials)
        );
    }
    assert_eq!(
        bench.firmware.check_digest(bench.now, &proof(RIGHT)),
        Err(Rejected::LockedOut)
    );
    assert_eq!(
        bench.firmware.log_records().next().unwrap()[5..8],
        [0x06, 0x6f, 0x05],
        "the attack is in the log"
    );
    bench.pass(60);
    assert!(
        bench
            .firmware
            .check_digest(bench.now, &proof(RIGHT))
            .is_ok()
    );
    assert_eq!(bench.firmware.counters().wrong_credentials, 4);
}

#[test]
fn a_success_in_between_starts_the_count_anew() {
    let mut bench = Bench::new(|config| config.lockout.attempts = 2);
    for _ in 0..5 {
        assert!(bench.firmware.check_digest(bench.now, &proof("")).is_err());
        assert!(
            bench
                .firmware
                .check_digest(bench.now, &proof(RIGHT))
                .is_ok()
        );
    }
}

#[test]
fn guessed_names_do_not_lock_those_that_exist() {
    let mut bench = Bench::new(|config| config.lockout.attempts = 2);
    for number in 0..10 {
        let name = format!("guess{number}");
        let _ = bench.firmware.check_digest(
            bench.now,
            &DigestProof {
                user: &name,
                ..proof("")
            },
        );
    }
    assert!(
        bench
            .firmware
            .check_digest(bench.now, &proof(RIGHT))
            .is_ok()
    );
}

#[test]
fn an_account_has_its_realms_and_no_others() {
    let mut bench = Bench::new(|_| {});
    bench
        .firmware
        .add_acl_entry(entry("helpdesk", &[2, 13]))
        .unwrap();
    let account = bench
        .firmware
        .check_password(bench.now, "helpdesk", "Hd!12345")
        .unwrap();
    assert!(account.realms.permit(Realm::Redirection));
    assert!(!account.realms.permit(Realm::RemoteControl));
    assert_eq!(account.realms.numbers().collect::<Vec<_>>(), [2, 13]);
}

#[test]
fn a_local_account_does_not_log_in_from_the_network() {
    let mut bench = Bench::new(|_| {});
    let local = AclEntry {
        access: AccessPermission::Local,
        ..entry("local", &[3])
    };
    let handle = bench.firmware.add_acl_entry(local.clone()).unwrap();
    let log_in = |bench: &mut Bench| {
        bench
            .firmware
            .check_password(bench.now, "local", "Hd!12345")
            .is_ok()
    };
    assert!(!log_in(&mut bench));
    let network = AclEntry {
        access: AccessPermission::Network,
        ..local
    };
    bench.firmware.update_acl_entry(handle, network).unwrap();
    assert!(log_in(&mut bench));
}

#[test]
fn entries_are_checked_counted_changed_and_removed() {
    let mut bench = Bench::new(|_| {});
    for name in [
        "",
        "admin",
        "Administrator",
        "$$osadmin",
        "a:b",
        "seventeen letters",
        "smörgås",
    ] {
        assert_eq!(
            bench.firmware.add_acl_entry(entry(name, &[2])),
            Err(AclError::InvalidParameter),
            "{name}"
        );
    }
    let handle = bench.firmware.add_acl_entry(entry("user0", &[2])).unwrap();
    assert_eq!(
        bench.firmware.add_acl_entry(entry("user0", &[2])),
        Err(AclError::Duplicate)
    );
    for number in 1..16 {
        bench
            .firmware
            .add_acl_entry(entry(&format!("user{number}"), &[2]))
            .unwrap();
    }
    assert_eq!(
        bench.firmware.add_acl_entry(entry("onemore", &[2])),
        Err(AclError::MaxLimitReached)
    );
    bench.firmware.enable_acl_entry(handle, false).unwrap();
    assert!(
        bench
            .firmware
            .check_password(bench.now, "user0", "Hd!12345")
            .is_err()
    );
    bench.firmware.remove_acl_entry(handle).unwrap();
    assert_eq!(
        bench.firmware.remove_acl_entry(handle),
        Err(AclError::InvalidHandle)
    );
}

#[test]
fn numbers_that_are_no_realm_are_refused() {
    for number in [0, 1, 22, 23, 25, 31, 32, u32::MAX] {
        assert_eq!(Realms::from_numbers([number]), None, "{number}");
    }
}

#[test]
fn hashes_are_never_printed() {
    assert_eq!(format!("{:?}", Ha1::of("a", "b", "c")), "Ha1(..)");
}
