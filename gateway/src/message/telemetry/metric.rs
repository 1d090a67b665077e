//! Every metric there is, one row each: its name, what it is, who measures it, its labels, and a sentence.
//!
//! *Invariant:* no label is a client's word. Labels come from the configuration and from closed lists.

use serde::{Deserialize, Serialize};

/// What a metric is, and how the numbers of several processes come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows. Processes add up, those that have ended as well.
    Counter,
    /// What the youngest process that serves says.
    Current,
    /// Processes add up while they live.
    Gauge,
    /// Times. Processes add up, those that have ended as well.
    Histogram,
}

/// Who measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// The guard.
    Guard,
    /// A proxy.
    Proxy,
    /// The observer itself.
    Observer,
    /// Each of them.
    Every,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name, as it is read.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Who measures it.
    pub role: Role,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($metric:ident = $kind:ident $role:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        /// What is measured, in the order in which it is told.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Metric {
            $(#[doc = $help] $metric,)*
        }

        impl Metric {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$metric),*];

            /// The row of this metric.
            #[must_use]
            pub const fn row(self) -> Row {
                match self {
                    $(Self::$metric => Row {
                        name: $name,
                        kind: Kind::$kind,
                        role: Role::$role,
                        labels: &[$($label),*],
                        help: $help,
                    },)*
                }
            }
        }
    };
}

metrics! {
    BuildInfo = Current Guard "gateway_build_info" ["version"] "The version of the program; always 1.";
    ProcessUp = Current Guard "gateway_process_up" ["role"] "Whether the process runs: guard, proxy, observer.";
    ProcessRestarts = Counter Guard "gateway_process_restarts_total" ["role"] "How often a process died and was started again.";
    GuardStarted = Current Guard "gateway_guard_start_timestamp_seconds" [] "When the guard started, in seconds since 1970.";
    Reloads = Counter Guard "gateway_config_reloads_total" ["result"] "Reloads of the configuration, by result: ok or refused.";
    ReloadSuccessful = Current Guard "gateway_config_last_reload_successful" [] "Whether the last reload was put in force.";
    ConfigSince = Current Guard "gateway_config_in_force_timestamp_seconds" [] "When the configuration came into force, in seconds since 1970.";
    Warnings = Current Guard "gateway_warnings" [] "Warnings that `gateway status` shows.";

    Interfaces = Current Guard "gateway_xdp_interfaces_attached" [] "Interfaces where XDP is attached.";
    InterfacesWanted = Current Guard "gateway_xdp_interfaces_configured" [] "Interfaces of `guard.interfaces`.";
    Packets = Counter Guard "gateway_packets_total" ["verdict"] "Packets by verdict of the kernel program.";
    PacketBytes = Counter Guard "gateway_packet_bytes_total" ["verdict"] "Bytes of packets by verdict.";

    Blocks = Current Guard "gateway_blocks" [] "Blocks in force. Those of lists are not among them.";
    Bans = Current Guard "gateway_bans" ["origin", "rule", "mode"] "Blocks in force by origin (rule, operator, guard), rule and mode (enforce, shadow).";
    BansBegun = Counter Guard "gateway_bans_started_total" ["origin", "rule", "mode"] "Blocks that began since the guard started.";
    BlocksMax = Current Guard "gateway_blocks_max" [] "The most blocks there can be: guard.max_bans.";
    Allows = Current Guard "gateway_allowlisted_sources" [] "Allowlisted sources.";
    ListEntries = Current Guard "gateway_list_entries" ["list"] "Sources that a list names.";
    ListLoaded = Current Guard "gateway_list_loaded_timestamp_seconds" ["list"] "When the content of a list was loaded, in seconds since 1970.";
    RulesPaused = Current Guard "gateway_rules_paused" [] "Whether the breaker keeps rules from banning.";
    AuditFailing = Current Guard "gateway_audit_failing" [] "Whether decisions cannot be recorded, so that none are made.";

    CertificateEnd = Current Guard "gateway_certificate_not_after_timestamp_seconds" ["certificate", "file"] "When a certificate expires, in seconds since 1970.";

    Connections = Gauge Proxy "gateway_http_connections" [] "Open connections of clients.";
    Requests = Counter Proxy "gateway_http_requests_total" ["route", "status"] "Requests by route and class of the response: 1xx to 5xx, client_left.";
    RequestDuration = Histogram Proxy "gateway_http_request_duration_seconds" ["route"] "From the head of a request to the end of its response.";
    RequestBytes = Counter Proxy "gateway_http_request_body_bytes_total" ["route"] "Bytes of request bodies.";
    ResponseBytes = Counter Proxy "gateway_http_response_body_bytes_total" ["route"] "Bytes of response bodies.";
    Refusals = Counter Proxy "gateway_http_refusals_total" ["reason"] "Requests that the gateway refused, by the label of the access log.";
    Authentications = Counter Proxy "gateway_authentications_total" ["result"] "Requests that had to prove who they are: accepted, or the label of the refusal.";
    Signals = Counter Proxy "gateway_signals_total" ["signal"] "Observations about sources, which rules add up.";
    TlsHandshakes = Counter Proxy "gateway_tls_handshakes_total" ["version"] "Handshakes that succeeded, by version of TLS.";
    TlsFailures = Counter Proxy "gateway_tls_handshake_failures_total" ["reason"] "Handshakes that failed: client_gone, no_certificate (nor one for the name), no_client_certificate, bad_handshake, slow.";
    UpstreamRequests = Counter Proxy "gateway_upstream_requests_total" ["upstream", "status"] "Requests to an upstream by class of its response: 1xx to 5xx, error.";
    UpstreamDuration = Histogram Proxy "gateway_upstream_response_duration_seconds" ["upstream"] "From forwarding a request to the head of the response, retries included.";
    UpstreamIdle = Gauge Proxy "gateway_upstream_idle_connections" ["upstream"] "Open connections over HTTP/1.1 that wait for a request.";
    UpstreamPending = Gauge Proxy "gateway_upstream_pending_requests" ["upstream"] "Requests that wait for a connection, where max_pending limits them.";
    UpstreamServer = Current Proxy "gateway_upstream_server_state" ["upstream", "server", "state"] "1 for the state that a server is in: up, slow, ejected, down.";
    UpstreamRetries = Counter Proxy "gateway_upstream_retries_total" ["upstream"] "Tries after the first of a request.";
    UpstreamOverLimit = Counter Proxy "gateway_upstream_over_limit_total" ["upstream"] "Requests over max_requests or max_pending.";
    UpstreamWithoutServer = Counter Proxy "gateway_upstream_without_server_total" ["upstream"] "Requests that found no server to use.";
    AccessLogDropped = Counter Proxy "gateway_access_log_dropped_total" ["reason"] "Lines of the access log that got nowhere, by reason.";

    Memory = Gauge Every "gateway_process_resident_memory_bytes" ["role"] "Resident memory of the processes of a role.";
    SandboxCapabilities = Current Every "gateway_process_capabilities" ["role"] "Capabilities that the process still has.";
    SandboxLandlock = Current Every "gateway_process_landlock_enforced" ["role"] "Whether Landlock restricts the process: 1, or 0 where the kernel has none.";
    SandboxCalls = Current Every "gateway_process_seccomp_allowed_calls" ["role"] "System calls that seccomp lets the process make.";
    Lost = Counter Every "gateway_lost_total" ["what"] "What there was no room or no time for.";
    ObserverSeries = Gauge Observer "gateway_observer_series" [] "Series that the observer knows.";
    ObserverRefused = Counter Observer "gateway_observer_refused_total" [] "Samples and messages that the observer did not take.";
    AdminRequests = Counter Observer "gateway_admin_requests_total" ["code"] "Requests to the admin listener by status.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The rules of <https://prometheus.io/docs/practices/naming/>, as far as a program can judge them.
    #[test]
    fn names_follow_the_rules() {
        let names: BTreeSet<_> = Metric::ALL.iter().map(|metric| metric.row().name).collect();
        assert_eq!(names.len(), Metric::ALL.len());
        for metric in Metric::ALL {
            let Row { name, kind, labels, help, .. } = metric.row();
            assert_eq!(kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert!(kind != Kind::Histogram || name.ends_with("_seconds"), "{name}");
            let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            assert!(name.starts_with("gateway_") && is_name(name), "{name}");
            assert!(labels.iter().all(|label| is_name(label) && *label != "le"), "{name} {labels:?}");
            assert!(help.ends_with('.') && !help.contains(['\n', '\\', '"']), "{name}: {help}");
        }
    }
}
