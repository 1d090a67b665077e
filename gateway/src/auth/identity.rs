//! Decides what is known of an authenticated client.
//!
//! *Invariant:* only this module's parent makes an [`Identity`].

/// Proof of authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub(super) principal: Box<str>,
    pub(super) roles: Vec<Box<str>>,
    /// Seconds since the Unix epoch.
    pub(super) expires: u64,
}

impl Identity {
    /// Who: the token's `sub` (RFC 7519 4.1.2).
    #[must_use]
    pub fn principal(&self) -> &str {
        &self.principal
    }

    /// Which roles the token names, whether or not the configuration knows them.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.roles.iter().map(|role| &**role)
    }

    /// Until when it was proved, in seconds since the Unix epoch, with what the issuer's clock may be off.
    #[must_use]
    pub const fn expires(&self) -> u64 {
        self.expires
    }

    /// An identity that nobody proved, for the tests of what follows authentication.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn of(principal: &str, roles: &[&str]) -> Self {
        Self { principal: principal.into(), roles: roles.iter().map(|role| (*role).into()).collect(), expires: 0 }
    }
}
