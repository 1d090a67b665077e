//! Shows the configuration in force: in the form of the file, with every default written out.

use std::collections::BTreeMap;

use gateway_common::source::Source;
use serde_json::{Map, Value, json};

pub(super) use self::sensitive::Sensitive;
pub(crate) use self::sensitive::sensitive;
use self::tls::file;
use super::value::{show_duration, show_size};
use crate::settings::{
    admin::{Listen, Settings as Admin},
    alert::Settings as Alerts,
    anomalies::Settings as Anomalies,
    audit::{self, AnchorTarget},
    basic::Settings as Basic,
    cors::{Cors, HeaderNames},
    guard::{AttachMode, Ladder, PacketScope, Settings as Guard, SourceLimit},
    identity_headers::IdentityHeader,
    listener::Listener,
    operators::{Member, Operator},
    otlp::Settings as Otlp,
    proxy::{ClientHeader, Settings as Proxy},
    revocation,
    timeouts::Timeouts,
    tls::{Certificate, CertificateMapping, ClientCertificates},
    traces::Settings as Traces,
    upstream::{Balance, HashBy, HostHeader, InterimResponses, Protocol, ProxyProtocol, Upstream, UpstreamServer},
};

mod access_log;
mod alerts;
mod cluster;
mod crawlers;
mod crowdsec;
mod detect;
mod feeds;
mod introspection;
mod limits;
mod otlp;
mod priority;
mod route;
mod sensitive;
mod tls;
mod tokens;
mod validate;
mod waf;

pub(super) fn describe(
    guard: &Guard,
    admin: Option<&Admin>,
    (traces, otlp, (alerts, anomalies)): (Option<&Traces>, &Otlp, (&Alerts, Option<&Anomalies>)),
    proxy: &Proxy,
    sensitive: Sensitive,
) -> Value {
    let mut root = json!({
        "guard": guard_table(guard),
        "operator": (!guard.operators.is_empty()).then(|| guard.operators.iter().map(operator).collect::<Vec<_>>()),
        "audit": audit(&guard.audit, sensitive),
        "proxy": proxy_table(proxy),
        "admin": admin.map(admin_table),
        "access_log": access_log::access_log(&proxy.access_log),
        "traces": traces.map(otlp::traces),
        "otlp_metrics": otlp.metrics.as_ref().map(otlp::metrics),
        "otlp_logs": otlp.logs.as_ref().map(otlp::logs),
        "timeouts": timeouts(&proxy.timeouts),
        "listener": proxy.listeners.iter().map(|it| listener(it, proxy)).collect::<Vec<_>>(),
        "certificate": proxy.certificates.iter().map(certificate).collect::<Vec<_>>(),
        "client_certificates": proxy.client_certificates.iter().map(client_certificates).collect::<BTreeMap<_, _>>(),
        "upstream": proxy.upstreams.iter().map(|it| (it.name.clone(), upstream(it))).collect::<BTreeMap<_, _>>(),
        "cors": (!proxy.cors.is_empty()).then(|| proxy.cors.iter().map(cors).collect::<BTreeMap<_, _>>()),
        "roles": proxy.roles,
        "geo": proxy.geo.is_configured().then(|| json!({ "database": proxy.geo.files().map(file).collect::<Vec<_>>() })),
        "sources": (!proxy.sources.is_empty()).then(|| {
            let texts = |networks: &Vec<Source>| networks.iter().map(ToString::to_string).collect::<Vec<_>>();
            proxy.sources.iter().map(|(name, networks)| (name, texts(networks))).collect::<BTreeMap<_, _>>()
        }),
        "route": proxy.routes.iter().map(|it| route::route(it, proxy, sensitive)).collect::<Vec<_>>(),
        "feed": guard.feeds.iter().map(|it| feeds::feed(it, sensitive)).collect::<Vec<_>>(),
        "crowdsec": guard.crowdsec.as_ref().map(|it| crowdsec::crowdsec(it, sensitive)),
        "validate": validate::validate(proxy),
        "detect": detect::detect(&proxy.detect),
        "rule": proxy.detect.rules.iter().map(detect::rule).collect::<Vec<_>>(),
        "api_keys": proxy.auth.api_keys.as_ref().map(tokens::api_keys),
        "revocation": (guard.revocation != revocation::Settings::default()).then(|| {
            json!({ "file": guard.revocation.file, "unavailable": guard.revocation.unavailable.name() })
        }),
        "basic": proxy.auth.basic.as_ref().map(basic),
        "identity_headers": (!proxy.identity_headers.is_empty()).then(|| {
            let pair = |header: &IdentityHeader| (header.name.to_string(), header.text());
            proxy.identity_headers.iter().map(pair).collect::<BTreeMap<_, _>>()
        }),
        "internal_token": proxy.internal_token.as_ref().map(tokens::internal),
        "jwt": proxy.auth.jwt.as_ref().map(tokens::table),
        "issuer": proxy.auth.jwt.as_ref().map(tokens::tables),
        "introspection": introspection::tables(&proxy.auth.introspection),
        "cluster": proxy.cluster.as_ref().map(cluster::cluster),
        "limit": limits::limits(&proxy.limits, "limit"),
        "quota": limits::limits(&proxy.limits, "quota"),
        "bandwidth": Some(limits::bandwidths(&proxy.bandwidth)).filter(|all| !all.is_empty()),
        "connection_limit": Some(limits::connection_limits(&proxy.connection_limits)).filter(|all| !all.is_empty()),
        "priority": (!proxy.priority.classes.is_empty()).then(|| priority::classes(&proxy.priority)),
        "overload": priority::overload(&proxy.priority),
        "plan": (!proxy.limits.plans.is_empty()).then(|| limits::plans(&proxy.limits)),
    });
    // One more line is more than the macro takes.
    if let (Some(root), false) = (root.as_object_mut(), proxy.wafs.is_empty()) {
        root.insert("waf".to_owned(), proxy.wafs.iter().map(waf::waf).collect());
    }
    if let (Some(root), false) = (root.as_object_mut(), proxy.apis.is_empty()) {
        root.insert("api".to_owned(), proxy.apis.iter().map(validate::api).collect());
    }
    crawlers::add(&mut root, &proxy.crawlers);
    alerts::add(&mut root, alerts, anomalies, sensitive);
    without_nulls(&mut root);
    root
}

fn proxy_table(proxy: &Proxy) -> Value {
    json!({
        "user": proxy.user,
        "workers": proxy.workers,
        "pin_workers": proxy.pin_workers,
        "drain": show_duration(proxy.drain),
        "stop_delay": show_duration(proxy.stop_delay),
        "max_connections": proxy.max_connections,
        "max_connections_per_source": proxy.max_connections_per_source,
        "max_memory": show_size(proxy.max_memory),
        "trusted_proxies": proxy.trust.proxies.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "client_header": (!proxy.trust.proxies.is_empty()).then_some(match proxy.trust.header {
            Some(ClientHeader::XForwardedFor) => "x-forwarded-for",
            Some(ClientHeader::Forwarded) => "forwarded",
            None => "none",
        }),
        "max_body": show_size(proxy.max_body),
        "max_header_bytes": show_size(u64::try_from(proxy.head.bytes).unwrap_or(u64::MAX)),
        "max_headers": proxy.head.headers,
        "max_target": show_size(u64::try_from(proxy.head.target).unwrap_or(u64::MAX)),
    })
}

fn timeouts(timeouts: &Timeouts) -> Value {
    json!({
        "handshake": show_duration(timeouts.handshake),
        "headers": show_duration(timeouts.headers),
        "idle": show_duration(timeouts.idle),
        "body": show_duration(timeouts.body),
        "least_rate": show_size(timeouts.least_rate),
        "connect": show_duration(timeouts.connect),
        "response": show_duration(timeouts.response),
        "tunnel_idle": show_duration(timeouts.tunnel_idle),
        "tunnel": show_duration(timeouts.tunnel),
    })
}

fn basic(basic: &Basic) -> Value {
    json!({
        "users": file(&basic.users),
        "realm": basic.realm,
        "roles": basic.roles,
        "default_roles": basic.default_roles,
        "cache": basic.cache,
        "remember": show_duration(basic.remember),
        "max_waiting": basic.max_waiting,
        "max_waiting_per_source": basic.max_waiting_per_source,
        "forward": basic.forward,
    })
}

fn operator(operator: &Operator) -> Value {
    let (key, name) = match &operator.who {
        Member::Group(name) => ("group", name),
        Member::User(name) => ("user", name),
    };
    json!({ key: name, "roles": operator.roles.iter().map(|role| role.name()).collect::<Vec<_>>() })
}

fn anchor(anchor: &audit::Anchor, sensitive: Sensitive) -> Value {
    let (kind, ca) = (anchor.target.kind(), anchor.ca.as_ref().map(|ca| &ca.path));
    let target = match &anchor.target {
        AnchorTarget::Timestamp(_) | AnchorTarget::Webhook(_) => sensitive.show(anchor.target.text()),
        AnchorTarget::File(_) | AnchorTarget::Syslog(_) => anchor.target.text().into(),
    };
    json!({ "name": anchor.name, kind: target, "ca": ca, "every": show_duration(anchor.every) })
}

fn audit(audit: &audit::Settings, sensitive: Sensitive) -> Value {
    json!({
        "max_size": show_size(audit.max_size),
        "checkpoint": show_duration(audit.checkpoint),
        "keep_files": audit.keep.files,
        "keep_size": audit.keep.bytes.map(show_size),
        "keep_for": audit.keep.age.map(show_duration),
        "compress": audit.compress,
        "anchor": (!audit.anchors.is_empty()).then(|| audit.anchors.iter().map(|it| anchor(it, sensitive)).collect::<Vec<_>>()),
    })
}

fn admin_table(admin: &Admin) -> Value {
    let (address, socket) = match &admin.listen {
        Listen::Tcp(address) => (Some(address.to_string()), None),
        Listen::Unix(path) => (None, Some(path)),
    };
    json!({
        "address": address,
        "socket": socket,
        "user": admin.user,
        "hosts": admin.hosts,
        "certificate": admin.certificate.as_ref().map(|pair| file(&pair.certificate)),
        "private_key": admin.certificate.as_ref().map(|pair| file(&pair.private_key)),
        "client_ca": admin.client_ca.as_ref().map(file),
        "token_file": admin.token.as_ref().map(file),
        "dashboard": admin.dashboard,
    })
}

fn guard_table(guard: &Guard) -> Value {
    json!({
        "interfaces": guard.interfaces,
        "mode": match guard.mode {
            AttachMode::Auto => "auto",
            AttachMode::Generic => "generic",
            AttachMode::Native => "native",
        },
        "scope": match guard.scope {
            PacketScope::Host => "host",
            PacketScope::Listeners => "listeners",
        },
        "state_dir": guard.state_dir,
        "control_socket": guard.control_socket,
        "control_group": guard.control_group,
        "control_mode": guard.control_mode.name(),
        "pin_dir": guard.pin_dir,
        "allow": guard.allow.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "ipv6_prefix": guard.ipv6_prefix,
        "widest_ipv4": guard.widest_ipv4,
        "widest_ipv6": guard.widest_ipv6,
        "max_bans": guard.max_bans,
        "max_rules": guard.max_rules,
        "max_sources": guard.max_sources,
        "max_bans_per_minute": guard.max_bans_per_minute,
        "compile_memory": show_size(guard.compile.memory),
        "compile_time": show_duration(guard.compile.time),
        "pass_malformed": guard.pass_malformed,
        "trace": match guard.trace {
            None => "off",
            Some(trace) if trace.drops_only => "drops",
            Some(_) => "all",
        },
        "trace_source": guard.trace.and_then(|trace| trace.source).map(|source| source.to_string()),
        "packet_limit": guard.packet_limit.map(|limit| source_limit("packets", limit)),
        "byte_limit": guard.byte_limit.map(|limit| source_limit("bytes", limit)),
        "syn_limit": guard.syn_limit.map(|limit| source_limit("syns", limit)),
        "total_limit": guard.total_limit.map(|limit| json!({
            "packets": limit.per_second,
            "burst": limit.burst,
            "fast_lane": f64::from(limit.fast_lane) / 1e6,
            "fast_lane_connections": limit.fast_lane_connections,
            "shadow": limit.shadow,
        })),
        "syn_cookies": guard.syn_cookies.map(|limit| json!({ "per_second": limit.per_second, "burst": limit.burst })),
        "default_ban": show_duration(guard.default_ban),
        "unban_grace": show_duration(guard.safety.unban_grace),
        "probation": show_duration(guard.safety.probation),
        "ladder": ladder(&guard.safety.ladder),
        "shield_clients": guard.safety.shield_clients,
        "shared_principals": guard.safety.shared_principals,
        "good_for": show_duration(guard.safety.good_for),
        "remember_good": show_duration(guard.safety.remember_good),
        "established": show_duration(guard.safety.established),
        "breaker": {
            "share": guard.safety.breaker.share,
            "at_least": guard.safety.breaker.at_least,
            "pause": show_duration(guard.safety.breaker.pause),
        },
    })
}

fn source_limit(unit: &str, limit: SourceLimit) -> Value {
    json!({ unit: limit.per_second, "burst": limit.burst, "shadow": limit.shadow })
}

fn ladder(ladder: &Ladder) -> Value {
    json!({
        "factors": ladder.factors,
        "decay": show_duration(ladder.decay),
        "longest": show_duration(ladder.longest),
        "widen_at": ladder.widen_at,
        "widen_to": ladder.widen_to,
    })
}

fn listener(listener: &Listener, proxy: &Proxy) -> Value {
    let tls = listener.tls.as_ref();
    let default = tls.and_then(|tls| tls.default.as_ref());
    let trusts = &proxy.client_certificates;
    let trust = tls.and_then(|tls| trusts.get(tls.client_certificates?));
    json!({
        "address": listener.address.to_string(),
        "proxy_protocol": listener.proxy_protocol,
        "access_log": listener.access_log,
        "health": listener.health,
        "redirect": listener.redirect,
        "tls": tls.map(|_| true),
        "certificate": default.map(|pair| file(&pair.certificate)),
        "private_key": default.map(|pair| file(&pair.private_key)),
        "ocsp": default.and_then(|pair| pair.ocsp.as_ref()).map(file),
        "protocols": tls.map(|tls| tls.protocols.iter().map(|protocol| protocol.name()).collect::<Vec<_>>()),
        "min_tls": tls.map(|tls| if tls.only_tls13 { "1.3" } else { "1.2" }),
        "client_certificates": trust.map(|trust| &trust.name),
        "ja4": tls.map(|tls| tls.ja4),
        "hsts": tls.and_then(|tls| tls.hsts.as_ref()).or(listener.hsts.as_ref()).map(|hsts| json!({
            "max_age": show_duration(hsts.max_age),
            "include_subdomains": hsts.include_subdomains,
            "hosts": hsts.hosts,
        })),
    })
}

fn upstream(upstream: &Upstream) -> Value {
    let server = |server: &UpstreamServer| json!({ "address": server.address, "weight": server.weight });
    let (balance, hash_by) = match &upstream.balance {
        Balance::RoundRobin => ("round_robin", None),
        Balance::LeastRequests => ("least_requests", None),
        Balance::Hash(HashBy::Source) => ("hash", Some("source".to_owned())),
        Balance::Hash(HashBy::Path) => ("hash", Some("path".to_owned())),
        Balance::Hash(HashBy::Header(name)) => ("hash", Some(format!("header:{name}"))),
    };
    json!({
        "servers": upstream.servers.iter().map(server).collect::<Vec<_>>(),
        "host_header": match &upstream.host_header {
            HostHeader::Client => "client",
            HostHeader::Literal(host) => host.to_str().unwrap_or_default(),
            HostHeader::Server => "server",
        },
        "balance": balance,
        "hash_by": hash_by,
        "health": upstream.health.as_ref().map(|check| json!({
            "path": check.path,
            "host": check.host,
            "expect": check.expect,
            "interval": show_duration(check.interval),
            "timeout": show_duration(check.timeout),
            "healthy": check.healthy,
            "unhealthy": check.unhealthy,
        })),
        "ejection": upstream.ejection.as_ref().map(|ejection| json!({
            "failures": ejection.failures,
            "clients": ejection.clients,
            "statuses": ejection.statuses,
            "time": show_duration(ejection.time),
            "longest": show_duration(ejection.longest),
            "share": ejection.share,
        })),
        "slow_start": show_duration(upstream.slow_start),
        "when_down": if upstream.try_when_down { "try" } else { "refuse" },
        "resolve": show_duration(upstream.resolve),
        "retry": {
            "tries": upstream.retry.tries,
            "budget": upstream.retry.budget,
            "reserve": upstream.retry.reserve,
            "timeout": upstream.retry.timeout.map(show_duration),
            "statuses": upstream.retry.statuses,
        },
        "max_requests": (upstream.max_requests != u32::MAX).then_some(upstream.max_requests),
        "max_pending": (upstream.max_pending != u32::MAX).then_some(upstream.max_pending),
        "concurrency": upstream.concurrency.map(|it| json!({
            "min": it.min,
            "max": it.max,
            "queue": it.queue,
            "wait": show_duration(it.wait),
        })),
        "proxy_protocol": upstream.proxy_protocol.map(|version| match version {
            ProxyProtocol::V1 => "v1",
            ProxyProtocol::V2 => "v2",
        }),
        "max_idle": upstream.max_idle,
        "idle": show_duration(upstream.idle),
        "protocol": match upstream.protocol {
            Protocol::Auto => "auto",
            Protocol::Http1 => "http1",
            Protocol::Http2 => "http2",
        },
        "http2": (upstream.protocol != Protocol::Http1).then(|| json!({
            "connections": upstream.http2.connections,
            "streams": upstream.http2.streams,
            "ping": upstream.http2.ping.map(show_duration),
            "ping_timeout": show_duration(upstream.http2.ping_timeout),
        })),
        "interim_responses": match upstream.interim_responses {
            InterimResponses::Drop => "drop",
            InterimResponses::Forward => "forward",
            InterimResponses::Http2 => "http2",
        },
        "tls": upstream.tls.as_ref().map(tls::client),
    })
}

fn certificate(pair: &Certificate) -> Value {
    json!({
        "certificate": file(&pair.certificate),
        "private_key": file(&pair.private_key),
        "ocsp": pair.ocsp.as_ref().map(file),
    })
}

fn client_certificates(trust: &ClientCertificates) -> (String, Value) {
    let members = json!({
        "ca": file(&trust.ca),
        "crl": trust.crl.as_ref().map(file),
        "required": trust.required,
        "hosts": trust.hosts,
        "roles": trust.roles,
        "principal": (!trust.principal.is_empty())
            .then(|| trust.principal.iter().map(|kind| kind.name()).collect::<Vec<_>>()),
        "trust_domain": trust.trust_domain,
        "map": (!trust.map.is_empty()).then(|| trust.map.iter().map(mapping).collect::<Vec<_>>()),
        "only_mapped": trust.only_mapped,
    });
    (trust.name.clone(), members)
}

fn mapping(mapping: &CertificateMapping) -> Value {
    json!({ mapping.kind.name(): mapping.pattern, "roles": mapping.roles, "name": mapping.name })
}

fn cors(group: &Cors) -> (String, Value) {
    let names = |names: &HeaderNames| match names {
        HeaderNames::Any => vec!["*".to_owned()],
        HeaderNames::These(names) => names.iter().map(ToString::to_string).collect(),
    };
    let members = json!({
        "origins": group.origins.texts(),
        "methods": group.methods.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "headers": names(&group.headers),
        "expose": names(&group.expose),
        "credentials": group.credentials,
        "max_age": show_duration(group.max_age),
        "refuse_others": group.refuse_others,
    });
    (group.name.clone(), members)
}

/// TOML knows no null: what is not set is left out.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Array(elements) => elements.iter_mut().for_each(without_nulls),
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            Map::values_mut(members).for_each(without_nulls);
        }
        _ => {}
    }
}
