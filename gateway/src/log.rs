//! Decides what is told of what happened: the access log.

pub mod access;
pub mod sink;
