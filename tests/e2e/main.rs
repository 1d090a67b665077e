//! Black-box tests of the real binary: one file per policy.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: whatever fails here panics and names its line"
)]

mod network;

mod admin_tokens;
mod alerts;
mod anomalies;
mod ban_loop;
mod changed_files;
mod chaos;
mod cluster;
mod cluster_quotas;
mod cluster_stores;
mod cluster_tickets;
mod compile;
mod contract;
mod crash;
mod crowdsec;
mod dashboard;
mod deadlines;
mod deployments;
mod detection;
mod doctor;
mod drain;
mod drift;
mod early;
mod encodings;
mod exchanges;
mod fairness;
mod fast_lane;
mod faults;
mod flood;
mod interfaces;
mod introspection;
mod issuers;
mod key_sets;
mod kill;
mod kill_import;
mod log_servers;
mod logs;
mod many;
mod openapi;
mod operators;
mod pins;
mod privileges;
mod reaction;
mod reload_interfaces;
mod state;
mod top;
mod watch;
mod without_xdp;

mod can;
mod cli;
mod config;
mod docs;
mod feeds;
mod feeds_fetched;
mod inheritance;
mod init;

mod api_keys;
mod audit;
mod auth;
mod authz;
mod balance;
mod bandwidth;
mod conditions;
mod connection_limits;
mod cors;
mod customers;
mod forms;
mod forward;
mod forwarded;
mod graphql;
mod grpc;
mod guard_death;
mod h2_floods;
mod h2_flow;
mod h2_hostile;
mod h2_protocol;
mod health;
mod hostile;
mod hostile_proxy;
mod keyed_limits;
mod limit;
mod many_bans;
mod methods;
mod metrics;
mod observer;
mod overload;
mod places;
mod priority;
mod providers;
mod quotas;
mod reading;
mod relay;
mod reload;
mod resend;
mod resilience;
mod revocation;
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
mod waf;
mod wrong;
