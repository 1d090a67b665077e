//! Decides who a request comes from.

pub mod crypto;
pub mod identity;
pub mod jwt;

pub use crypto::install as install_crypto;
pub use identity::Identity;
