//! The valid settings that every other part is built from: plain data, without TOML and without anything compiled.
//!
//! One file per table of the configuration, or per policy. *Invariant:* nothing here names another part of the program
//! than the vocabulary (`file`, `path`, `signal`).

pub mod admin;
pub mod guard;
pub mod operators;
pub mod otlp;
pub mod proxy;

pub mod access_log;
pub mod alert;
pub mod anomalies;
pub mod listener;
pub mod timeouts;
pub mod tls;
pub mod traces;

pub mod cors;
pub mod crawlers;
pub mod edits;
pub mod route;
pub mod upstream;

pub mod api_keys;
pub mod audit;
pub mod auth;
pub mod authz;
pub mod bandwidth;
pub mod basic;
pub mod claims;
pub mod cluster;
pub mod connection_limit;
pub mod crowdsec;
pub mod detect;
pub mod feed;
pub mod graphql;
pub mod identity_headers;
pub mod internal_token;
pub mod introspection;
pub mod jwt;
pub mod limit;
pub mod outbound;
pub mod priority;
pub mod revocation;
pub mod validate;
pub mod waf;
