//! Hashes of passwords: argon2id and bcrypt. To compare one takes from a hundredth of a second to some seconds.
//!
//! *Invariant:* what a comparison costs is bounded by what [`PasswordHash::read`] accepts.

use std::{fmt, sync::Arc};

use argon2::{Argon2, Params, PasswordVerifier as _};
use zeroize::Zeroizing;

/// What tells one comparison from another.
pub(in crate::policy::auth) type Key = [u8; 32];

/// The cost of bcrypt that is accepted: 2^4 to 2^16 rounds.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=16;

/// Below this, guessing is cheap.
const WEAK_BCRYPT: u32 = 10;

/// bcrypt reads no more of a password than this, in bytes.
const BCRYPT_PASSWORD: usize = 72;

/// The most memory that argon2 may take, in KiB, how many passes it may make over it, and in how many lanes.
const MAX_MEMORY: u32 = 256 * 1_024;
const MAX_PASSES: u32 = 20;
const MAX_LANES: u32 = 16;

/// Below this memory, in KiB, guessing is cheap.
const WEAK_ARGON2: u32 = 7 * 1_024;

/// A hash that passwords can be compared with.
pub(in crate::policy::auth) struct PasswordHash {
    text: Box<str>,
    kind: Kind,
    is_weak: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    Argon2id,
    Bcrypt,
}

impl PasswordHash {
    /// Reads a hash as htpasswd and argon2 write it.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right. Nothing of the hash is in either.
    pub(super) fn read(text: &str) -> Result<Self, (String, &'static str)> {
        const BCRYPT: &str = "make one by `htpasswd -nB -C 12 NAME`";
        let kind = match text.get(..4) {
            Some("$2a$" | "$2b$" | "$2y$") => Kind::Bcrypt,
            _ if text.starts_with("$argon2id$") => Kind::Argon2id,
            _ => return Err((format!("the hash is {}, which is not accepted", what_else(text)), BCRYPT)),
        };
        let is_weak = match kind {
            Kind::Bcrypt => {
                let parts: bcrypt::HashParts =
                    text.parse().map_err(|_error| ("the bcrypt hash is not well formed".to_owned(), BCRYPT))?;
                if !BCRYPT_COSTS.contains(&parts.get_cost()) {
                    let (least, most) = (BCRYPT_COSTS.start(), BCRYPT_COSTS.end());
                    return Err((
                        format!("the cost of bcrypt is {}; {least} to {most} will do", parts.get_cost()),
                        BCRYPT,
                    ));
                }
                parts.get_cost() < WEAK_BCRYPT
            }
            Kind::Argon2id => argon2_is_weak(text)?,
        };
        Ok(Self { text: text.into(), kind, is_weak })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether guessing passwords is cheap for whoever has the file.
    pub(super) const fn is_weak(&self) -> bool {
        self.is_weak
    }

    /// Whether it is the hash of `password`.
    fn is_of(&self, password: &[u8]) -> bool {
        match self.kind {
            // What bcrypt does not read must not be left out of a password.
            Kind::Bcrypt => {
                let is_same = bcrypt::verify(password, &self.text).unwrap_or(false);
                is_same && password.len() <= BCRYPT_PASSWORD
            }
            Kind::Argon2id => Argon2::default().verify_password(password, &*self.text).is_ok(),
        }
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self.kind {
            Kind::Argon2id => "argon2id",
            Kind::Bcrypt => "bcrypt",
        })
    }
}

fn argon2_is_weak(text: &str) -> Result<bool, (String, &'static str)> {
    const HINT: &str = "make one by `argon2 SALT -id -m 16 -t 3 -p 1 -e`, with a new SALT";
    let wrong = || ("the argon2id hash is not well formed".to_owned(), HINT);
    let hash = argon2::PasswordHash::new(text).map_err(|_error| wrong())?;
    let params = Params::try_from(&hash.params).map_err(|_error| wrong())?;
    // Version 19 is the only one that is not broken in part (RFC 9106).
    if hash.salt.is_none() || hash.hash.is_none() || hash.version != Some(0x13) {
        return Err(wrong());
    }
    if params.m_cost() > MAX_MEMORY || params.t_cost() > MAX_PASSES || params.p_cost() > MAX_LANES {
        let message = format!("argon2id costs more than m={MAX_MEMORY}, t={MAX_PASSES}, p={MAX_LANES}");
        return Err((message, HINT));
    }
    Ok(params.m_cost() < WEAK_ARGON2)
}

/// What hashes of other kinds are called.
fn what_else(text: &str) -> &'static str {
    const KINDS: [(&str, &str); 11] = [
        ("$apr1$", "MD5"),
        ("$1$", "MD5"),
        ("{SHA}", "SHA-1"),
        ("{SSHA}", "SHA-1"),
        ("$5$", "SHA-256"),
        ("$6$", "SHA-512"),
        ("$y$", "yescrypt"),
        ("$2x$", "of a broken bcrypt"),
        ("$argon2i$", "argon2i"),
        ("$argon2d$", "argon2d"),
        ("$", "of an unknown kind"),
    ];
    KINDS.iter().find(|(start, _)| text.starts_with(start)).map_or("DES or a password in plain text", |(_, kind)| kind)
}

/// A password to be compared with a hash.
pub struct PasswordCheck {
    key: Key,
    hash: Arc<PasswordHash>,
    password: Zeroizing<Box<[u8]>>,
}

impl PasswordCheck {
    pub(super) fn new(key: Key, hash: &Arc<PasswordHash>, password: &[u8]) -> Self {
        Self { key, hash: Arc::clone(hash), password: Zeroizing::new(password.into()) }
    }

    /// The same for two checks of the same user's same password.
    #[must_use]
    pub const fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// Whether they fit. This takes long.
    #[must_use]
    pub fn compare(&self) -> bool {
        self.hash.is_of(&self.password)
    }
}

impl fmt::Debug for PasswordCheck {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "PasswordCheck({:?})", self.hash)
    }
}
