//! What the firmware does about accounts: checks, failures in the log, the access control list.

use std::time::Instant;

use super::users::{self, Account, AclEntry, AclError, DigestProof, Realms, Rejected, User, hex};
use super::{Event, Firmware};

impl Firmware {
    /// The realm of all digest challenges of this device.
    pub fn digest_realm(&self) -> &str {
        self.users.realm()
    }

    /// A fresh nonce: 32 characters, as real firmware's.
    pub fn new_nonce(&mut self) -> String {
        let bytes: Vec<u8> = (0..2)
            .flat_map(|_| self.random.next().to_be_bytes())
            .collect();
        hex(&bytes)
    }

    /// Not secret: for chunk borders and the like.
    pub(crate) fn random(&mut self) -> u64 {
        self.random.next()
    }

    /// Checks a digest response. That the nonce is ours and fresh is the caller's to know.
    ///
    /// # Errors
    /// Wrong credentials and a locked account, which look the same to the client.
    pub fn check_digest(
        &mut self,
        now: Instant,
        proof: &DigestProof<'_>,
    ) -> Result<Account, Rejected> {
        let result = self.users.check_digest(now, proof, self.config.speed);
        self.checked(now, result)
    }

    /// Checks a password sent in clear (redirection authentication type 1).
    ///
    /// # Errors
    /// As [`Self::check_digest`].
    pub fn check_password(
        &mut self,
        now: Instant,
        user: &str,
        password: &str,
    ) -> Result<Account, Rejected> {
        let result = self
            .users
            .check_password(now, user, password, self.config.speed);
        self.checked(now, result)
    }

    fn checked(
        &mut self,
        now: Instant,
        result: Result<Account, users::Failure>,
    ) -> Result<Account, Rejected> {
        result.map_err(|failure| {
            self.counters.wrong_credentials += 1;
            let attempts = self.config.lockout.attempts;
            if failure.why == Rejected::BadCredentials
                && attempts != 0
                && failure.in_a_row.is_multiple_of(attempts)
            {
                self.record(now, Event::authentication_failed(failure.in_a_row));
            }
            failure.why
        })
    }

    /// What an account may do now; `None` once it is gone or disabled.
    pub fn realms_of(&self, user: &str) -> Option<Realms> {
        self.users.realms_of(user)
    }

    /// The access control list, without the administrator.
    pub fn acl_entries(&self) -> impl Iterator<Item = &User> {
        self.users.entries()
    }

    /// Adds an account; returns its handle.
    ///
    /// # Errors
    /// Names that AMT does not take, and a full list.
    pub fn add_acl_entry(&mut self, entry: AclEntry) -> Result<u32, AclError> {
        self.users.add(entry)
    }

    /// Replaces an account.
    ///
    /// # Errors
    /// As [`Self::add_acl_entry`], and an unknown handle.
    pub fn update_acl_entry(&mut self, handle: u32, entry: AclEntry) -> Result<(), AclError> {
        self.users.update(handle, entry)
    }

    /// Removes an account.
    ///
    /// # Errors
    /// An unknown handle.
    pub fn remove_acl_entry(&mut self, handle: u32) -> Result<(), AclError> {
        self.users.remove(handle)
    }

    /// Lets an account log in, or not.
    ///
    /// # Errors
    /// An unknown handle.
    pub fn enable_acl_entry(&mut self, handle: u32, enabled: bool) -> Result<(), AclError> {
        self.users.enable(handle, enabled)
    }
}
