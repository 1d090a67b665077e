//! Compiles a configuration: first all parts that may be wrong, so that every fault is told at once, then the others.

use std::sync::Arc;

use super::{
    CompiledRoute, Schemas, Snapshot,
    contracts::{self, Contracts},
    wafs,
};
use crate::{
    client::Trusted,
    collections::swap::Swap,
    diagnostic::Diagnostic,
    log::access::AccessLog,
    os::clock::Now,
    outbound,
    policy::{
        admission::Classes,
        auth::{Authenticators, IdentityHeaders, InternalTokens},
        authz,
        detect::{Crawlers, Detector},
        limit::{KernelPlans, Limits, bandwidth::Bandwidth, connection::ConnectionLimits},
        validate::waf::WafRules,
    },
    route::{Routes, cors},
    settings::{cluster::LEAST_SECRET, proxy},
    tls,
};

/// The parts of a configuration that may be wrong, compiled.
struct Parts {
    routes: Routes,
    served: Vec<CompiledRoute>,
    contracts: Contracts,
    wafs: Vec<Arc<WafRules>>,
    tls: tls::Tls,
    tickets: Arc<tls::Tickets>,
    access_log: AccessLog,
    authenticators: Authenticators,
    internal_tokens: Option<Arc<InternalTokens>>,
}

impl Snapshot {
    pub(super) fn compile(settings: proxy::Settings, before: Option<&Self>) -> Result<Self, Vec<Diagnostic>> {
        let Parts { routes, served, contracts, wafs, tls, tickets, access_log, authenticators, internal_tokens } =
            Parts::compile(&settings, before)?;
        let (kept, known) = (&settings.auth.kept, before.and_then(|before| before.limits.as_ref()));
        let limits = Limits::new(&settings.limits, &settings.routes, kept, settings.ipv6_prefix, known);
        let kernel_plans = KernelPlans::new(&settings.limits, kept);
        let is_asked =
            settings.priority.overload.is_some() || settings.upstreams.iter().any(|it| it.concurrency.is_some());
        let classes = is_asked.then(|| {
            let known = before.and_then(|before| before.classes.as_ref());
            Classes::new(&settings.priority, &settings.limits.plans, &settings.routes, kept, known)
        });
        Ok(Self {
            contracts,
            kernel_plans,
            routes,
            wafs: wafs.into(),
            in_shadow: served.iter().filter_map(|route| route.access.shadow().cloned()).collect(),
            served: served.into(),
            cors: settings.cors.iter().map(cors::CorsPolicy::new).collect(),
            default_cors: settings.cors.iter().position(|group| group.name == "default"),
            tls: Arc::new(Swap::new(tls)),
            tickets,
            demands: tls::Demands::new(&settings),
            hsts: settings.listeners.iter().map(|listener| tls::HstsHosts::new(listener.hsts.as_ref()?)).collect(),
            authenticators,
            identity_headers: IdentityHeaders::new(&settings.identity_headers, &settings.auth.kept),
            internal_tokens,
            own_headers: settings.own_headers().into(),
            limits,
            bandwidth: Bandwidth::new(
                &settings.bandwidth,
                &settings.routes,
                kept,
                settings.ipv6_prefix,
                before.map(|before| &before.bandwidth),
            ),
            connection_limits: ConnectionLimits::new(
                &settings.connection_limits,
                settings.ipv6_prefix,
                before.map(|before| &before.connection_limits),
            ),
            classes,
            trusted: Trusted::new(&settings.trust, settings.ipv6_prefix),
            detector: match before {
                Some(before) => before.detector.succeeded_by(&settings.detect),
                None => Detector::new(&settings.detect),
            },
            crawlers: Crawlers::new(&settings.crawlers, before.map(|before| &before.crawlers)),
            access_log,
            settings: Arc::new(settings),
        })
    }
}

impl Parts {
    /// # Errors
    /// Every fault of all parts.
    fn compile(settings: &proxy::Settings, before: Option<&Snapshot>) -> Result<Self, Vec<Diagnostic>> {
        let mut diagnostics = Vec::new();
        let routes = collect(Routes::new(&settings.routes), &mut diagnostics);
        let policy = authz::Policy::new(&settings.roles);
        let mut schemas = Schemas::of(before, settings);
        let known = before.map(|before| (&*before.settings, &before.contracts));
        let contracts = contracts::compile(settings, known, &mut diagnostics);
        let wafs = wafs::compile(settings, before.map_or(&[][..], |before| &*before.wafs), &mut diagnostics);
        let mut served = Vec::new();
        for (index, route) in settings.routes.iter().enumerate() {
            match CompiledRoute::with_contract(route, &policy, settings, (&mut schemas, &wafs), &contracts) {
                Ok(route) => served.push(route),
                Err(found) => {
                    diagnostics.extend(found.into_iter().map(|diagnostic| diagnostic.under(&format!("route[{index}]"))))
                }
            }
        }
        let now = Now::read();
        let tickets = match before {
            Some(before) => Some(Arc::clone(&before.tickets)),
            None => tls::Chain::new(now).and_then(tls::Tickets::new).map(Arc::new),
        };
        let tickets = tickets.ok_or_else(|| vec![Diagnostic::new("", "the machine has no randomness")]);
        let made = tickets.and_then(|tickets| Ok((tls::Tls::new(settings, &tickets, now)?, tickets)));
        let tls = collect(made, &mut diagnostics);
        let access_log = collect(AccessLog::new(&settings.access_log), &mut diagnostics);
        let authenticators = match before {
            Some(before) => before.authenticators.succeeded_by(&settings.auth),
            None => Authenticators::new(&settings.auth),
        };
        let authenticators = collect(authenticators, &mut diagnostics);
        let internal_tokens = settings.internal_token.as_ref().map(|token| {
            let before = before.and_then(|before| before.internal_tokens.as_ref());
            match before.filter(|before| before.is_made_from(token, &settings.auth.kept)) {
                Some(before) => Ok(Arc::clone(before)),
                None => InternalTokens::new(token, &settings.auth.kept).map(Arc::new),
            }
        });
        let internal_tokens = collect(internal_tokens.transpose(), &mut diagnostics).flatten();
        diagnostics.extend(outbound(settings));
        let (Some(routes), Some((tls, tickets)), Some(access_log), Some(authenticators)) =
            (routes, tls, access_log, authenticators)
        else {
            return Err(diagnostics);
        };
        if !diagnostics.is_empty() {
            return Err(diagnostics);
        }
        Ok(Self { routes, served, contracts, wafs, tls, tickets, access_log, authenticators, internal_tokens })
    }
}

/// What is wrong with how servers are asked: they are made anew where that is done.
fn outbound(settings: &proxy::Settings) -> Vec<Diagnostic> {
    let issuers = settings.auth.jwt.iter().flat_map(|jwt| &jwt.issuers);
    let issuers = issuers.filter_map(|issuer| Some((&issuer.key, &issuer.keys.fetch()?.server)));
    let asked = settings.auth.introspection.iter().map(|server| (&server.key, &server.outbound));
    let wrong = issuers.chain(asked).filter_map(|(key, server)| {
        let wrong = outbound::Server::new(server).err()?;
        Some(wrong.into_iter().map(move |one| one.under(&format!("{key}.fetch"))))
    });
    let mut wrong: Vec<Diagnostic> = wrong.flatten().collect();
    if settings.cluster.as_ref().is_some_and(|cluster| cluster.secret.bytes.len() < LEAST_SECRET) {
        let short = Diagnostic::new("cluster.secret_file", format!("has fewer than {LEAST_SECRET} bytes"));
        wrong.push(short.hint("make one with `gateway cluster secret new`"));
    }
    wrong
}

/// The value, or its diagnostics among the others.
fn collect<T>(made: Result<T, Vec<Diagnostic>>, diagnostics: &mut Vec<Diagnostic>) -> Option<T> {
    made.map_err(|found| diagnostics.extend(found)).ok()
}
