//! Accounts: who may do what, and whether the credentials are right.
//!
//! The firmware keeps HA1 = MD5(user:realm:password) only (RFC 2617 section 3.2.2.2), as AMT does. HTTP and the
//! redirection ports share the accounts, the check and the lock-out.

use std::time::{Duration, Instant};

use ct_codecs::{Decoder, Hex};
use md5::{Digest, Md5};

/// A permission that an account has or has not ("realm" in AMT's words, not the digest realm).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[expect(
    missing_docs,
    reason = "the names are the specification's, and it says no more about them"
)]
pub enum Realm {
    Redirection = 2,
    /// Everything; what the built-in administrator has.
    PtAdministration = 3,
    HardwareAsset = 4,
    RemoteControl = 5,
    Storage = 6,
    EventManager = 7,
    StorageAdmin = 8,
    AgentPresenceLocal = 9,
    AgentPresenceRemote = 10,
    CircuitBreaker = 11,
    NetworkTime = 12,
    GeneralInfo = 13,
    FirmwareUpdate = 14,
    Eit = 15,
    LocalUn = 16,
    EndpointAccessControl = 17,
    EndpointAccessControlAdmin = 18,
    EventLogReader = 19,
    AuditLog = 20,
    Acl = 21,
    LocalSystem = 24,
}

/// A set of realms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Realms(u32);

impl Realms {
    /// All that an administrator has.
    pub const ADMINISTRATOR: Self = Self(1 << Realm::PtAdministration as u8);

    /// The set with these numbers; `None` when one of them is no realm.
    pub fn from_numbers(numbers: impl IntoIterator<Item = u32>) -> Option<Self> {
        let mut bits = 0;
        for number in numbers {
            match number {
                2..=21 | 24 => bits |= 1 << number,
                _ => return None,
            }
        }
        Some(Self(bits))
    }

    /// The numbers in the set, smallest first.
    pub fn numbers(self) -> impl Iterator<Item = u32> {
        (0..32).filter(move |number| self.0 >> number & 1 == 1)
    }

    /// Whether an account with this set may do what `realm` permits.
    pub fn permit(self, realm: Realm) -> bool {
        let has = |realm: Realm| self.0 >> realm as u8 & 1 == 1;
        has(realm) || has(Realm::PtAdministration)
    }
}

/// From where an account may be used (`AccessPermission`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum AccessPermission {
    Local = 0,
    Network = 1,
    Both = 2,
}

impl AccessPermission {
    /// The permission for a number on the wire.
    pub fn from_code(code: u32) -> Option<Self> {
        match code {
            0 => Some(Self::Local),
            1 => Some(Self::Network),
            2 => Some(Self::Both),
            _ => None,
        }
    }
}

/// MD5(user:realm:password). Not printed: with it one can log in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ha1([u8; 16]);

impl Ha1 {
    /// Hashes a password.
    pub fn of(user: &str, realm: &str, password: &str) -> Self {
        Self(md5(&[user, realm, password]))
    }

    /// Takes the sixteen bytes that `DigestPassword` carries.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// What a client that knows the password answers (RFC 2617 section 3.2.2.1; RFC 2069 when `qop` is empty).
    pub fn response(&self, challenge: &Exchange<'_>) -> [u8; 16] {
        let ha1 = hex(&self.0);
        let ha2 = hex(&md5(&[challenge.a2]));
        if challenge.qop.is_empty() {
            md5(&[&ha1, challenge.nonce, &ha2])
        } else {
            md5(&[
                &ha1,
                challenge.nonce,
                challenge.nc,
                challenge.cnonce,
                challenge.qop,
                &ha2,
            ])
        }
    }
}

impl std::fmt::Debug for Ha1 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ha1(..)")
    }
}

/// What a digest response is computed over, besides the password.
#[derive(Debug, Clone, Copy)]
pub struct Exchange<'a> {
    /// The nonce of our challenge. The caller has checked that it is one of ours.
    pub nonce: &'a str,
    /// Nonce count, as sent: part of the hash as text.
    pub nc: &'a str,
    /// Client nonce.
    pub cnonce: &'a str,
    /// `auth`, `auth-int`, or empty for the form of RFC 2069 (redirection authentication type 3).
    pub qop: &'a str,
    /// The text that HA2 hashes: `POST:/wsman`, `POST:/RedirectionService`, or the former with `:` and the
    /// hexadecimal MD5 of the body under `auth-int`.
    pub a2: &'a str,
}

/// Credentials as a client sent them.
#[derive(Debug, Clone, Copy)]
pub struct DigestProof<'a> {
    /// Account name.
    pub user: &'a str,
    /// Realm; a wrong one is a wrong answer.
    pub realm: &'a str,
    /// What the response is computed over.
    pub exchange: Exchange<'a>,
    /// 32 hexadecimal digits. Anything shorter or longer is refused: firmware that compared only as many digits as
    /// it was sent let everybody in (CVE-2017-5689).
    pub response: &'a str,
}

/// An account that has proven itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub user: String,
    /// What it may do.
    pub realms: Realms,
}

/// Why credentials were not accepted. On the wire both look the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// Unknown user or wrong password.
    BadCredentials,
    /// Too many failures: not even the right password helps for a while.
    LockedOut,
}

/// When an account is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockoutPolicy {
    /// Failures in a row until the lock closes; 0 never locks.
    pub attempts: u32,
    /// How long it stays closed, in firmware time.
    pub duration: Duration,
}

/// A stored account.
#[derive(Debug, Clone)]
pub struct User {
    /// Account name.
    pub name: String,
    /// HA1 under this device's digest realm.
    pub ha1: Ha1,
    /// What it may do.
    pub realms: Realms,
    /// From where.
    pub access: AccessPermission,
    /// Whether it may log in at present.
    pub enabled: bool,
    /// What the access-control-list methods call it. The administrator has none.
    pub handle: Option<u32>,
    failures: Failures,
}

#[derive(Debug, Clone, Copy, Default)]
struct Failures {
    in_a_row: u32,
    locked_until: Option<Instant>,
}

/// Why an access-control-list entry was refused: the AMT status (reference section 1.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the status codes")]
pub enum AclError {
    InvalidParameter,
    MaxLimitReached,
    Duplicate,
    InvalidHandle,
}

impl AclError {
    /// `ReturnValue` of the method.
    pub fn status(self) -> u32 {
        match self {
            Self::InvalidParameter => 0x24,
            Self::MaxLimitReached => 0x17,
            Self::Duplicate => 0x80a,
            Self::InvalidHandle => 0x805,
        }
    }
}

/// Most access-control-list entries with a digest password.
const MAX_ENTRIES: usize = 16;

/// Result of a check, for the log: how often this account failed in a row.
pub(super) struct Failure {
    pub(super) why: Rejected,
    pub(super) in_a_row: u32,
}

/// All accounts.
#[derive(Debug)]
pub(super) struct Users {
    realm: String,
    users: Vec<User>,
    /// Failures with names that do not exist share one count, so that guessing names costs no memory.
    unknown: Failures,
    policy: LockoutPolicy,
    next_handle: u32,
}

impl Users {
    pub(super) fn new(realm: String, admin_password: &str, policy: LockoutPolicy) -> Self {
        let admin = User {
            name: "admin".into(),
            ha1: Ha1::of("admin", &realm, admin_password),
            realms: Realms::ADMINISTRATOR,
            access: AccessPermission::Both,
            enabled: true,
            handle: None,
            failures: Failures::default(),
        };
        Self {
            realm,
            users: vec![admin],
            unknown: Failures::default(),
            policy,
            next_handle: 1,
        }
    }

    pub(super) fn realm(&self) -> &str {
        &self.realm
    }

    /// The entries of the access control list, oldest first, without the administrator.
    pub(super) fn entries(&self) -> impl Iterator<Item = &User> {
        self.users.iter().filter(|user| user.handle.is_some())
    }

    pub(super) fn add(&mut self, entry: AclEntry) -> Result<u32, AclError> {
        check_name(&entry.user)?;
        if self.users.iter().any(|user| user.name == entry.user) {
            return Err(AclError::Duplicate);
        }
        if self.entries().count() >= MAX_ENTRIES {
            return Err(AclError::MaxLimitReached);
        }
        let handle = self.next_handle;
        self.next_handle = handle.checked_add(1).ok_or(AclError::MaxLimitReached)?;
        self.users.push(User {
            name: entry.user,
            ha1: entry.ha1,
            realms: entry.realms,
            access: entry.access,
            enabled: true,
            handle: Some(handle),
            failures: Failures::default(),
        });
        Ok(handle)
    }

    pub(super) fn update(&mut self, handle: u32, entry: AclEntry) -> Result<(), AclError> {
        check_name(&entry.user)?;
        if self
            .users
            .iter()
            .any(|user| user.name == entry.user && user.handle != Some(handle))
        {
            return Err(AclError::Duplicate);
        }
        let user = self.entry_mut(handle)?;
        user.name = entry.user;
        user.ha1 = entry.ha1;
        user.realms = entry.realms;
        user.access = entry.access;
        user.failures = Failures::default();
        Ok(())
    }

    pub(super) fn remove(&mut self, handle: u32) -> Result<(), AclError> {
        self.entry_mut(handle)?;
        self.users.retain(|user| user.handle != Some(handle));
        Ok(())
    }

    pub(super) fn enable(&mut self, handle: u32, enabled: bool) -> Result<(), AclError> {
        self.entry_mut(handle)?.enabled = enabled;
        Ok(())
    }

    fn entry_mut(&mut self, handle: u32) -> Result<&mut User, AclError> {
        self.users
            .iter_mut()
            .find(|user| user.handle == Some(handle))
            .ok_or(AclError::InvalidHandle)
    }

    /// Checks a digest response. `speed`: firmware seconds per real second.
    pub(super) fn check_digest(
        &mut self,
        now: Instant,
        proof: &DigestProof<'_>,
        speed: u32,
    ) -> Result<Account, Failure> {
        let realm_matches = proof.realm == self.realm;
        self.check(now, proof.user, speed, |ha1| {
            let mut sent = [0; 16];
            let whole = proof.response.len() == 32
                && Hex::decode(&mut sent, proof.response.to_ascii_lowercase(), None)
                    .is_ok_and(|bytes| bytes.len() == 16);
            whole & realm_matches & same(&sent, &ha1.response(&proof.exchange))
        })
    }

    /// Checks a password sent in clear (redirection authentication type 1).
    pub(super) fn check_password(
        &mut self,
        now: Instant,
        user: &str,
        password: &str,
        speed: u32,
    ) -> Result<Account, Failure> {
        let sent = Ha1::of(user, &self.realm, password);
        self.check(now, user, speed, |ha1| same(&sent.0, &ha1.0))
    }

    fn check(
        &mut self,
        now: Instant,
        name: &str,
        speed: u32,
        right: impl FnOnce(&Ha1) -> bool,
    ) -> Result<Account, Failure> {
        let Some(user) = self.users.iter_mut().find(|user| user.name == name) else {
            let in_a_row = self.unknown.record(now, self.policy, speed);
            return Err(Failure {
                why: Rejected::BadCredentials,
                in_a_row,
            });
        };
        if user.failures.locked_until.is_some_and(|until| now < until) {
            return Err(Failure {
                why: Rejected::LockedOut,
                in_a_row: user.failures.in_a_row,
            });
        }
        if right(&user.ha1) && user.enabled && user.access != AccessPermission::Local {
            user.failures = Failures::default();
            return Ok(Account {
                user: user.name.clone(),
                realms: user.realms,
            });
        }
        let in_a_row = user.failures.record(now, self.policy, speed);
        Err(Failure {
            why: Rejected::BadCredentials,
            in_a_row,
        })
    }

    /// The realms that an account has now; `None` once it is gone or disabled.
    pub(super) fn realms_of(&self, name: &str) -> Option<Realms> {
        self.users
            .iter()
            .find(|user| user.name == name && user.enabled)
            .map(|user| user.realms)
    }
}

/// A new or changed entry of the access control list.
#[derive(Debug, Clone)]
pub struct AclEntry {
    /// Account name: at most 16 characters, printable ASCII, none of `( ) , : " & < >`.
    pub user: String,
    /// Its hashed password.
    pub ha1: Ha1,
    /// What it may do.
    pub realms: Realms,
    /// From where.
    pub access: AccessPermission,
}

fn check_name(name: &str) -> Result<(), AclError> {
    let reserved = ["admin", "administrator"]
        .iter()
        .any(|taken| name.eq_ignore_ascii_case(taken))
        || name.starts_with("$$");
    let spelled = name
        .bytes()
        .all(|byte| matches!(byte, 0x20..=0x7e) && !b"(),:\"&<>".contains(&byte));
    if (1..=16).contains(&name.len()) && spelled && !reserved {
        Ok(())
    } else {
        Err(AclError::InvalidParameter)
    }
}

impl Failures {
    fn record(&mut self, now: Instant, policy: LockoutPolicy, speed: u32) -> u32 {
        if self.locked_until.is_some_and(|until| until <= now) {
            *self = Self::default();
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        if policy.attempts != 0 && self.in_a_row >= policy.attempts {
            self.locked_until = now.checked_add(policy.duration / speed.max(1));
        }
        self.in_a_row
    }
}

/// Compares without stopping at the first difference.
fn same(a: &[u8; 16], b: &[u8; 16]) -> bool {
    std::hint::black_box(
        a.iter()
            .zip(b)
            .fold(0, |difference, (a, b)| difference | (a ^ b)),
    ) == 0
}

fn md5(parts: &[&str]) -> [u8; 16] {
    let mut hash = Md5::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            hash.update(b":");
        }
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

/// Lower-case hexadecimal digits, as digest authentication hashes them.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}
