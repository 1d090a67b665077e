//! Installs the library for cryptography: aws-lc-rs, for TLS and tokens alike.

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use thiserror::Error;

/// RFC 8032 7.1, test 2: an Ed25519 key and its signature of [`MESSAGE`].
const KEY: [u8; 32] = [
    0x3d, 0x40, 0x17, 0xc3, 0xe8, 0x43, 0x89, 0x5a, 0x92, 0xb7, 0x0a, 0xa7, 0x4d, 0x1b, 0x7e, 0xbc, 0x9c, 0x98, 0x2c,
    0xcf, 0x2e, 0xc4, 0x96, 0x8c, 0xc0, 0xcd, 0x55, 0xf1, 0x2a, 0xf4, 0x66, 0x0c,
];
const MESSAGE: &[u8] = &[0x72];
const SIGNATURE: [u8; 64] = [
    0x92, 0xa0, 0x09, 0xa9, 0xf0, 0xd4, 0xca, 0xb8, 0x72, 0x0e, 0x82, 0x0b, 0x5f, 0x64, 0x25, 0x40, 0xa2, 0xb2, 0x7b,
    0x54, 0x16, 0x50, 0x3f, 0x8f, 0xb3, 0x76, 0x22, 0x23, 0xeb, 0xdb, 0x69, 0xda, 0x08, 0x5a, 0xc1, 0xe4, 0x3e, 0x15,
    0x99, 0x6e, 0x45, 0x8f, 0x36, 0x13, 0xd0, 0xf1, 0x1d, 0x8c, 0x38, 0x7b, 0x2e, 0xae, 0xb4, 0x30, 0x2a, 0xee, 0xb0,
    0x0d, 0x29, 0x16, 0x12, 0xbb, 0x0c, 0x00,
];

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
    verify()
}

/// The same for commands, which may have done it before.
///
/// # Errors
/// The self-test fails.
pub fn ensure() -> Result<(), CryptoError> {
    match install() {
        Err(CryptoError::AlreadyInstalled) => verify(),
        installed => installed,
    }
}

/// Has the library that tokens are verified with accept what is good and refuse what is not.
fn verify() -> Result<(), CryptoError> {
    let (key, signature) = (DecodingKey::from_ed_der(&KEY), BASE64URL_NOPAD.encode(&SIGNATURE));
    let accepts = |message| jsonwebtoken::crypto::verify(&signature, message, &key, Algorithm::EdDSA);
    match (accepts(MESSAGE), accepts(b"s")) {
        (Ok(true), Ok(false)) => Ok(()),
        _ => Err(CryptoError::SelfTest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_self_test_passes() {
        assert_eq!(verify(), Ok(()));
    }
}
