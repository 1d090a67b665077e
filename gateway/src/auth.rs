//! Decides who a request comes from.

pub mod identity;
pub mod jwt;

pub use identity::Identity;
