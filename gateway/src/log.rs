//! The access log.

pub mod access;
pub mod sink;
