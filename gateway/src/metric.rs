//! Every metric there is, one row each: its name, what it is, who measures it, its labels, and a sentence.
//!
//! *Invariant:* no label is a client's word. Labels come from the configuration and from closed lists.

use serde::{Deserialize, Serialize};

/// What a metric is, and how the numbers of several processes come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
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
pub enum MetricRole {
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
pub struct MetricRow {
    /// Its name, as it is read.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// Who measures it.
    pub role: MetricRole,
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
            pub const fn row(self) -> MetricRow {
                match self {
                    $(Self::$metric => MetricRow {
                        name: $name,
                        kind: MetricKind::$kind,
                        role: MetricRole::$role,
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
    ProcessUp = Current Guard "gateway_process_up" ["role"] "Whether the process runs: launcher, guard, proxy, observer.";
    ProcessRestarts = Counter Guard "gateway_process_restarts_total" ["role"] "How often a process died and was started again.";
    ProxyStandstills = Counter Guard "gateway_proxy_standstills_total" [] "How often a proxy, or one of its workers, came to a standstill and the proxy was replaced. These are among the restarts.";
    WorkersStalled = Gauge Proxy "gateway_proxy_workers_stalled" [] "Workers of proxies that have not run for 3 seconds or longer, so that their connections wait.";
    WorkerStalls = Counter Proxy "gateway_proxy_worker_stalls_total" [] "How often a worker of a proxy began not to run for 3 seconds or longer.";
    GuardStarted = Current Guard "gateway_guard_start_timestamp_seconds" [] "When the guard started, in seconds since 1970.";
    Reloads = Counter Guard "gateway_config_reloads_total" ["result"] "Reloads of the configuration, by result: ok or refused.";
    FileChanges = Counter Guard "gateway_file_changes_total" ["result"] "Changed files that the configuration names, by result: ok (in force) or refused.";
    FilesRefused = Current Guard "gateway_files_refused" [] "Whether files have changed and cannot be used, so that those before stay in force.";
    ReloadSuccessful = Current Guard "gateway_config_last_reload_successful" [] "Whether the last reload was put in force.";
    ConfigSince = Current Guard "gateway_config_in_force_timestamp_seconds" [] "When the configuration came into force, in seconds since 1970.";
    Warnings = Current Guard "gateway_warnings" [] "Warnings that `gateway status` shows.";

    Interfaces = Current Guard "gateway_xdp_interfaces_attached" [] "Interfaces where XDP is attached.";
    InterfacesWanted = Current Guard "gateway_xdp_interfaces_configured" [] "Interfaces of `guard.interfaces`.";
    Packets = Counter Guard "gateway_packets_total" ["verdict"] "Packets by verdict of the kernel program.";
    PacketBytes = Counter Guard "gateway_packet_bytes_total" ["verdict"] "Bytes of packets by verdict.";

    Repairs = Counter Guard "gateway_kernel_repairs_total" [] "Entries and attachments that the kernel had lost or changed, and that the guard put right.";

    Blocks = Current Guard "gateway_blocks" [] "Blocks in force. Those of lists are not among them.";
    Bans = Current Guard "gateway_bans" ["origin", "rule", "mode"] "Blocks in force by origin (rule, operator, token, guard, cluster), rule and mode (enforce, shadow).";
    BansBegun = Counter Guard "gateway_bans_started_total" ["origin", "rule", "mode"] "Blocks that began since the guard started.";
    BlocksMax = Current Guard "gateway_blocks_max" [] "The most blocks there can be: guard.max_bans.";
    Allows = Current Guard "gateway_allowlisted_sources" [] "Allowlisted sources.";
    ListEntries = Current Guard "gateway_list_entries" ["list"] "Sources that a list names.";
    ListLoaded = Current Guard "gateway_list_loaded_timestamp_seconds" ["list"] "When the content of a list was loaded, or its server last confirmed it, in seconds since 1970.";
    ListFetches = Counter Guard "gateway_list_fetches_total" ["list", "result"] "Fetches of lists by URL: changed, unchanged, failed (the server has no list), refused (it is none that may be taken).";
    CrowdsecUp = Current Guard "gateway_crowdsec_up" [] "Whether CrowdSec's Local API answered last.";
    CrowdsecAnswered = Current Guard "gateway_crowdsec_answered_timestamp_seconds" [] "When CrowdSec's Local API last answered, in seconds since 1970; 0: never.";
    CrowdsecDecisions = Current Guard "gateway_crowdsec_decisions" [] "Decisions of CrowdSec that are known.";
    CrowdsecPulls = Counter Guard "gateway_crowdsec_pulls_total" ["result"] "How often CrowdSec was asked for decisions: ok or failed.";
    CrowdsecSkipped = Counter Guard "gateway_crowdsec_skipped_total" ["reason"] "Decisions of CrowdSec that are not put in force: own (this gateway told them), other (no bans of addresses), simulated.";
    CrowdsecTold = Counter Guard "gateway_crowdsec_told_total" ["result"] "Bans that CrowdSec was told of: ok, lifted (that they were), or dropped (there was no room, or it does not take them). failed: tries, which are repeated.";
    CrowdsecWaiting = Current Guard "gateway_crowdsec_waiting" [] "Bans that CrowdSec is still to be told of.";
    ListRefused = Current Guard "gateway_list_refused" ["list"] "Whether what was fetched last of a list is not taken, so that the list before stays in force.";
    ListStale = Current Guard "gateway_list_stale" ["list", "origin"] "Whether a list was not confirmed by its server, or its file not written, for longer than stale_after.";
    Clamps = Current Guard "gateway_clamps" ["mode"] "Sources whose kernel budgets are divided as they went on over a limit, by mode: enforce or shadow.";
    PlanBudgets = Current Guard "gateway_plan_budgets" ["plan"] "Sources with the kernel budget of a plan.";
    ShadowDenied = Counter Guard "gateway_shadow_denied_requests_total" ["requirement"] "Requests that a requirement of a route in shadow would have denied: route.NAME.allow_if.";
    ShadowPrincipals = Current Guard "gateway_shadow_denied_principals" ["requirement"] "Principals that a requirement of a route in shadow would have denied something; at most 4,096 are told apart.";
    AnomalyActions = Counter Guard "gateway_anomaly_actions_total" ["action", "result"] "What was to be done about sources that anomalies come from, by action (limit, clamp, ban) and result: done, goes_on (it was done before), refused.";
    Slowed = Current Guard "gateway_anomaly_limited_sources" [] "Sources whose requests are limited because of an anomaly.";
    GoodClientsFail = Current Guard "gateway_good_clients_failing" ["signal", "route"] "Good clients that fail together, so that it is no fault of theirs, by signal and route; `(any)`: on whatever route.";
    RulesPaused = Current Guard "gateway_rules_paused" [] "Whether the breaker keeps rules from banning.";
    AuditRecords = Current Guard "gateway_audit_records" [] "The number of the last record of the audit chain.";
    AuditSigned = Current Guard "gateway_audit_signed_timestamp_seconds" [] "When the audit chain was signed last, in seconds since 1970.";
    AuditBytes = Current Guard "gateway_audit_bytes" [] "Bytes of the audit chain on the disk.";
    AnchorSent = Current Guard "gateway_audit_anchor_sent_timestamp_seconds" ["anchor"] "When an anchor last got a checkpoint of the audit chain, in seconds since 1970; 0 since the guard started.";
    AnchorFailing = Current Guard "gateway_audit_anchor_failing" ["anchor"] "Whether an anchor of the audit chain cannot be reached.";
    DiskAvailable = Current Guard "gateway_disk_available_bytes" ["folder"] "Bytes that are left where the state and rotated logs are.";
    DiskSize = Current Guard "gateway_disk_size_bytes" ["folder"] "Bytes that there are where the state and rotated logs are.";
    AuditFailing = Current Guard "gateway_audit_failing" [] "Whether decisions cannot be recorded, so that nobody is banned.";

    CertificateEnd = Current Guard "gateway_certificate_not_after_timestamp_seconds" ["certificate", "file"] "When a certificate expires, in seconds since 1970.";

    Connections = Gauge Proxy "gateway_http_connections" [] "Open connections of clients.";
    Requests = Counter Proxy "gateway_http_requests_total" ["route", "status"] "Requests by route and class of the response: 1xx to 5xx, client_left.";
    RequestsLimited = Counter Proxy "gateway_http_limited_total" ["route"] "Requests that were answered 429, mostly by limits: they are no failures of clients. (limited): refused before a route was looked for.";
    RequestDuration = Histogram Proxy "gateway_http_request_duration_seconds" ["route"] "From the head of a request to the end of its response.";
    RequestBytes = Counter Proxy "gateway_http_request_body_bytes_total" ["route"] "Bytes of request bodies.";
    ResponseBytes = Counter Proxy "gateway_http_response_body_bytes_total" ["route"] "Bytes of response bodies.";
    DistinctClients = Counter Proxy "gateway_distinct_clients_total" ["of", "what"] "How many different sources or principals there were in each minute, summed over minutes, by route; `all`: on any route. An estimate, and only with `[anomalies]`.";
    Refusals = Counter Proxy "gateway_http_refusals_total" ["reason"] "Requests that the gateway refused, by the label of the access log.";
    RequestViolations = Counter Proxy "gateway_request_violations_total" ["api", "rule"] "What requests broke of the document of an API that only reports, by rule, or by the label of the refusal that it would have been.";
    ResponseViolations = Counter Proxy "gateway_response_violations_total" ["api", "operation"] "Responses that broke the document of their API.";
    ResponsesNotJudged = Counter Proxy "gateway_responses_not_judged_total" ["api"] "Bodies of responses that were not held against the document of their API.";
    DeprecatedCalls = Counter Proxy "gateway_deprecated_calls_total" ["api", "operation"] "Requests for operations that an API's document calls deprecated.";
    Authentications = Counter Proxy "gateway_authentications_total" ["result"] "Requests that had to prove who they are: accepted, or the label of the refusal.";
    TokenVerifications = Counter Proxy "gateway_token_verifications_total" [] "Signatures of tokens that were verified, or tried to be. A token that is remembered is not verified again.";
    TokensUnchecked = Counter Proxy "gateway_tokens_unchecked_total" [] "Requests with a token that were served although it was not known which tokens are revoked, as `revocation.unavailable` allows.";
    KeyFetches = Counter Proxy "gateway_key_fetches_total" ["issuer", "result"] "Fetches of an issuer's keys by result: ok, or why it failed.";
    KeysConfirmed = Current Proxy "gateway_keys_confirmed_timestamp_seconds" ["issuer"] "When an issuer last confirmed its keys, in seconds since 1970.";
    Keys = Current Proxy "gateway_keys" ["issuer"] "Keys of an issuer that were fetched.";
    KeysStale = Current Proxy "gateway_keys_stale" ["issuer"] "Whether an issuer has not confirmed its keys for an hour, or half of fetch.stale_for if that is shorter, and for at least twice fetch.refresh.";
    KeysUsable = Current Proxy "gateway_keys_usable" ["issuer"] "Whether tokens are verified by the fetched keys: 1, or 0 where they are missing or too old.";
    UnknownKeys = Counter Proxy "gateway_unknown_keys_total" ["issuer"] "Tokens by keys that were not among those that were fetched.";
    Introspections = Counter Proxy "gateway_introspections_total" ["server", "result"] "Answers about opaque tokens: active, inactive, failed, credentials (the gateway's own are refused). Requests without a question: paused (the server failed before), over_limit (its source tried too many tokens).";
    IntrospectionPaused = Current Proxy "gateway_introspection_paused" ["server"] "Whether an introspection server is not asked, as it failed before.";
    LookupsWaiting = Gauge Proxy "gateway_lookups_waiting" [] "Requests that wait for something to be looked up.";
    LookupsUnanswered = Counter Proxy "gateway_lookups_unanswered_total" [] "Requests that got no answer in time, or no place to wait.";
    CrawlerRequests = Counter Proxy "gateway_crawler_requests_total" ["crawler", "result"] "Requests whose User-Agent says that they are of a crawler: verified, false, or unknown (not looked up yet, or not to be known).";
    CrawlerLookups = Counter Proxy "gateway_crawler_lookups_total" ["result"] "Addresses that name servers were asked about: verified, false, failed (no answer), busy (not asked: too many at once).";
    FastLane = Gauge Proxy "gateway_fast_lane_connections" [] "Connections that the kernel serves before unknown clients while its packet budget of all sources is spent.";
    FastLaneOver = Counter Proxy "gateway_fast_lane_over_limit_total" [] "Times that a connection was not marked for the fast lane, as its principal has enough marked ones. Each is tried again once a second, or when one of those has left.";
    LimitRequests = Counter Proxy "gateway_limit_requests_total" ["limit", "result"] "Requests that a limit counted: admitted, refused, or shadow (it would have refused them).";
    LimitKeys = Gauge Proxy "gateway_limit_keys" ["limit"] "Counters that a limit keeps.";
    LimitCapacity = Gauge Proxy "gateway_limit_capacity" ["limit"] "Counters that a limit has room for.";
    LimitDelayed = Counter Proxy "gateway_limit_delayed_total" ["limit"] "Requests that waited for their turn.";
    LimitEvictions = Counter Proxy "gateway_limit_evictions_total" ["limit"] "Counters that were full again and made room for others.";
    LimitShared = Counter Proxy "gateway_limit_shared_total" ["limit"] "Requests that shared a counter, as there was no room for one of their own.";
    ClusterStoreUp = Current Proxy "gateway_cluster_store_up" [] "Whether the store between the machines of a cluster answers.";
    ClusterCalls = Counter Proxy "gateway_cluster_calls_total" ["result"] "Calls to the store by result: answered, failed.";
    ClusterLettersLost = Counter Proxy "gateway_cluster_letters_lost_total" [] "Letters between guards that the proxy threw away, as they were too long or the store did not take them. The next whole makes up for them.";
    ClusterAlone = Counter Proxy "gateway_cluster_alone_total" [] "Requests that shared limits and quotas judged by this machine's share alone, as the store did not answer.";
    ClusterDisbelieved = Counter Proxy "gateway_cluster_disbelieved_total" [] "Answers of the store that would have given back what was used up of a quota, without an operator's word. They change nothing. Somebody may be writing to the store.";
    ClusterMalformed = Counter Proxy "gateway_cluster_malformed_total" [] "Answers of the store that answered nothing that was asked: no reply of Redis, or another form than the script's. A store that goes on so is asked less and less.";
    BandwidthBytes = Counter Proxy "gateway_bandwidth_bytes_total" ["bandwidth", "direction"] "Bytes of bodies that a bandwidth counted, by direction: upload or download.";
    BandwidthWaits = Counter Proxy "gateway_bandwidth_waits_total" ["bandwidth", "direction"] "Pieces of bodies that the next piece had to wait for.";
    QuotaWarnings = Counter Proxy "gateway_quota_warnings_total" ["quota"] "Keys that have used up as much of a quota as warn_at says.";
    QuotaReset = Current Proxy "gateway_quota_reset_timestamp_seconds" ["quota"] "When the quota begins anew.";
    QuotaStoreUp = Gauge Guard "gateway_quota_store_up" [] "Whether what was used up of quotas can be written. If not, it is counted in memory alone.";
    QuotaStoreFailures = Counter Guard "gateway_quota_store_failures_total" [] "How often what was used up of quotas could not be written.";
    QuotaDropped = Counter Guard "gateway_quota_dropped_total" [] "Counts of keys that the guard had no room for: they do not survive a restart.";
    Signals = Counter Proxy "gateway_signals_total" ["signal"] "Observations about sources, which rules add up.";
    TlsHandshakes = Counter Proxy "gateway_tls_handshakes_total" ["version"] "Handshakes that succeeded, by version of TLS.";
    TlsFailures = Counter Proxy "gateway_tls_handshake_failures_total" ["reason"] "Handshakes that failed: client_gone, no_certificate (nor one for the name), no_client_certificate, bad_handshake, slow.";
    UpstreamRequests = Counter Proxy "gateway_upstream_requests_total" ["upstream", "status"] "Requests to an upstream by class of its response: 1xx to 5xx, error.";
    UpstreamDuration = Histogram Proxy "gateway_upstream_response_duration_seconds" ["upstream"] "From forwarding a request to the head of the response, retries included.";
    UpstreamIdle = Gauge Proxy "gateway_upstream_idle_connections" ["upstream"] "Open connections over HTTP/1.1 that wait for a request.";
    UpstreamBusy = Gauge Proxy "gateway_upstream_busy_connections" ["upstream"] "Connections that carry requests: over HTTP/1.1 one each, over HTTP/2 many.";
    UpstreamPending = Gauge Proxy "gateway_upstream_pending_requests" ["upstream"] "Requests that wait for a connection, where max_pending limits them.";
    UpstreamServer = Current Proxy "gateway_upstream_server_state" ["upstream", "server", "state"] "1 for the state that a server is in: up, slow, failing, ejected, down.";
    UpstreamRetries = Counter Proxy "gateway_upstream_retries_total" ["upstream"] "Tries after the first of a request.";
    UpstreamOverLimit = Counter Proxy "gateway_upstream_over_limit_total" ["upstream"] "Requests over max_requests, max_pending or concurrency.";
    UpstreamConcurrency = Gauge Proxy "gateway_upstream_concurrency_limit" ["upstream"] "Requests that may wait for a response of an upstream at once, as concurrency has found it.";
    UpstreamConcurrent = Gauge Proxy "gateway_upstream_concurrency_requests" ["upstream", "state"] "Requests of an upstream with concurrency: in_flight (they wait for its response) or waiting (for their turn).";
    UpstreamLatency = Current Proxy "gateway_upstream_concurrency_base_seconds" ["upstream"] "How long an upstream with concurrency takes to respond without a queue; 0: not known.";
    PriorityRequests = Counter Proxy "gateway_priority_requests_total" ["class", "result"] "Requests by class: served, or why they were refused: cpu, memory, upstream.";
    PriorityClosed = Counter Proxy "gateway_priority_closed_connections_total" ["class"] "Idle connections on which no client proved who it is, closed because proxy.max_connections was nearly reached.";
    WafRequests = Counter Proxy "gateway_waf_requests_total" ["waf", "result"] "Requests that rules looked at: passed, refused, reported (it would have been refused), or not_inspected (mode is report, and too many waited).";
    WafMatches = Counter Proxy "gateway_waf_matches_total" ["waf", "rule"] "Parameters that a rule has matched.";
    UpstreamWithoutServer = Counter Proxy "gateway_upstream_without_server_total" ["upstream"] "Requests that found no server to use.";
    AccessLogWaiting = Gauge Proxy "gateway_access_log_waiting_bytes" [] "Bytes of the access log that wait for its outputs, each of which has room for 8 MiB.";
    AccessLogDropped = Counter Proxy "gateway_access_log_dropped_total" ["reason"] "Lines of the access log that got nowhere, by reason.";

    Memory = Gauge Every "gateway_process_resident_memory_bytes" ["role"] "Resident memory of the processes of a role.";
    SandboxCapabilities = Current Every "gateway_process_capabilities" ["role"] "Capabilities that the process still has.";
    SandboxLandlock = Current Every "gateway_process_landlock_enforced" ["role"] "Whether Landlock restricts the process: 1, or 0 where the kernel has none.";
    SandboxCalls = Current Every "gateway_process_seccomp_allowed_calls" ["role"] "System calls that seccomp lets the process make.";
    Lost = Counter Every "gateway_lost_total" ["what"] "What there was no room or no time for.";
    ObserverSeries = Gauge Observer "gateway_observer_series" [] "Series that the observer knows.";
    ObserverRefused = Counter Observer "gateway_observer_refused_total" [] "Samples and messages that the observer did not take.";
    Anomalies = Gauge Observer "gateway_anomalies" ["of", "measure"] "1 for what is not usual, by what it is of: all, a route, or upstream:NAME.";
    UsualRatio = Gauge Observer "gateway_usual_ratio" ["of", "measure"] "The number of the last minute divided by what is usual at this hour, where that is known.";
    Silence = Gauge Observer "gateway_process_silence_seconds" ["role"] "How long the observer has heard nothing from the guard, or from any proxy that serves.";
    Alerts = Gauge Observer "gateway_alerts" ["severity", "state"] "Alerts by severity and state: pending (their time is not over), firing, silenced.";
    AlertNotifications = Counter Observer "gateway_alert_notifications_total" ["receiver", "result"] "Notifications by result: sent, heartbeat, failed (it is tried again), refused (the receiver does not want it; it is tried again later), dropped (there was no room).";
    AlertWaiting = Gauge Observer "gateway_alert_groups_waiting" ["receiver"] "Groups of alerts with something to be sent that is due.";
    AlertReceiverFailing = Gauge Observer "gateway_alert_receiver_failing" ["receiver"] "Whether the last notification to a receiver failed.";
    AlertStateSaved = Gauge Observer "gateway_alert_state_saved" [] "Whether alerts, silences and what waits to be sent are on the disk.";
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
            let MetricRow { name, kind, labels, help, .. } = metric.row();
            assert_eq!(kind == MetricKind::Counter, name.ends_with("_total"), "{name}");
            assert!(kind != MetricKind::Histogram || name.ends_with("_seconds"), "{name}");
            let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            assert!(name.starts_with("gateway_") && is_name(name), "{name}");
            assert!(labels.iter().all(|label| is_name(label) && *label != "le"), "{name} {labels:?}");
            assert!(help.ends_with('.') && !help.contains(['\n', '\\', '"']), "{name}: {help}");
        }
    }
}
