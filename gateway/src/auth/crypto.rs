//! Decides which library does the cryptography: aws-lc-rs, for TLS and tokens alike.

use thiserror::Error;

/// Why there is no cryptography to rely on. Nothing can start then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CryptoError {
    /// Something else was installed before: two libraries would be in use.
    #[error("another cryptographic provider is installed already")]
    AlreadyInstalled,
    /// A known good signature was refused, or a forged one accepted.
    #[error("the cryptographic self-test failed")]
    SelfTest,
}

/// Makes aws-lc-rs what rustls and jsonwebtoken use in this process, then has it verify a known signature.
///
/// To be called once, before anything else in `main`: left to themselves both libraries choose at first use, and
/// panic where the features of all dependencies together leave the choice open.
///
/// # Errors
/// Either is fatal.
pub fn install() -> Result<(), CryptoError> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_already_installed| CryptoError::AlreadyInstalled)?;
    jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER
        .install_default()
        .map_err(|_already_installed| CryptoError::AlreadyInstalled)?;
    Ok(())
}
