//! The valid settings that every other part is built from: plain data, without TOML and without anything compiled.
//!
//! One file per table of the configuration, or per policy. *Invariant:* nothing here names another part of the program
//! than the vocabulary (`file`, `path`, `signal`).

pub mod admin;
pub mod guard;
pub mod operators;
pub mod proxy;

pub mod access_log;
pub mod listener;
pub mod timeouts;
pub mod tls;
pub mod traces;

pub mod cors;
pub mod edits;
pub mod route;
pub mod upstream;

pub mod audit;
pub mod authz;
pub mod detect;
pub mod jwt;
pub mod limit;
pub mod validate;
