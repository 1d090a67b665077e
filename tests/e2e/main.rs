//! Black-box tests of the real binary: one file per policy.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: whatever fails here panics and names its line"
)]

mod network;

mod ban_loop;
mod crash;
mod deadlines;
mod doctor;
mod drain;
mod drift;
mod early;
mod exchanges;
mod faults;
mod flood;
mod interfaces;
mod issuers;
mod kill;
mod kill_import;
mod logs;
mod many;
mod operators;
mod pins;
mod privileges;
mod reaction;
mod state;
mod top;
mod watch;
mod without_xdp;

mod cli;
mod config;
mod docs;
mod feeds;
mod init;

mod audit;
mod auth;
mod authz;
mod balance;
mod cors;
mod customers;
mod forward;
mod forwarded;
mod grpc;
mod h2_floods;
mod h2_flow;
mod h2_hostile;
mod h2_protocol;
mod health;
mod hostile;
mod hostile_proxy;
mod limit;
mod many_bans;
mod metrics;
mod observer;
mod overload;
mod reading;
mod relay;
mod reload;
mod resend;
mod resilience;
mod rewriting;
mod routing;
mod safety;
mod shadow;
mod silent;
mod slow;
mod soak;
mod tls;
mod tls_clients;
mod tls_renewal;
mod tls_upstream;
mod told;
mod traces;
mod tunnel;
mod upgrade;
mod upstream;
mod upstream_http2;
mod validate;
mod wrong;
