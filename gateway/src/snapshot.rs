//! The compiled configuration that requests are served by: certificates, keys, routes and schemas, ready for use.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use http::{HeaderMap, HeaderName, Method};

use crate::{
    client::Trusted,
    collections::swap::Swap,
    diagnostic::Diagnostic,
    log::access::AccessLog,
    os::{clock::Now, file::NamedFile},
    policy::{
        admission::Classes,
        auth::{Authenticators, Challenges, IdentityHeaders, InternalTokens},
        authz::{self, Access, ShadowParts, shadow::ShadowDenials},
        detect::{Crawlers, Detector},
        limit::{KernelPlans, Limits, bandwidth::Bandwidth, connection::ConnectionLimits},
        validate::{
            form_rules::FormRules,
            openapi::{self, Contract, NoOperation},
            route_rules::{RouteExpectations, RouteRules},
            schema::Schema,
            waf::{Waf, WafRules, WafSum},
        },
    },
    refusal::{Refusal, Reject},
    route::{Routes, cors, target::Target},
    settings::{
        auth::Accepted,
        edits::Edits,
        graphql, proxy,
        route::{Action, Rewrite, Route, Upgrade},
        timeouts::Timeouts,
        validate::ContentEncoding,
    },
    tls,
    web::path::{PathRules, pattern::PathPattern},
};

mod apis;
mod compile;
mod contracts;
pub mod explain;
mod known_names;
pub(crate) mod preflight;
mod trailers;
mod wafs;

pub use contracts::ContractLoss;
use contracts::Contracts;
use known_names::known_names;

/// One compiled configuration. Shared by all workers, never changed. What is counted and remembered of clients is shared
/// with the configurations before it.
pub struct Snapshot {
    /// What it was made from.
    pub settings: Arc<proxy::Settings>,
    /// Which route serves a request.
    pub routes: Routes,
    /// What each route asks for, in the order of the configuration.
    pub served: Box<[CompiledRoute]>,
    /// What pages of other origins may do, in the order of the configuration.
    pub cors: Box<[cors::CorsPolicy]>,
    /// What they may do where no route is found: an index into [`Self::cors`].
    pub default_cors: Option<usize>,
    /// How the listeners speak TLS. Files that change are put in its place.
    pub tls: Arc<Swap<tls::Tls>>,
    /// What listeners without TLS tell browsers whom a trusted proxy serves by HTTPS.
    pub hsts: Box<[Option<tls::HstsHosts>]>,
    /// By which keys TLS sessions are resumed.
    pub tickets: Arc<tls::Tickets>,
    /// Which hosts ask for client certificates.
    pub demands: tls::Demands,
    /// How clients prove who they are.
    pub authenticators: Authenticators,
    /// What upstreams are told of who a client is.
    pub identity_headers: IdentityHeaders,
    /// Makes tokens for upstreams; `None`: they get none.
    pub internal_tokens: Option<Arc<InternalTokens>>,
    /// The names of headers that only the gateway sets, by its configuration.
    pub own_headers: Arc<[HeaderName]>,
    /// How many requests whoever they count may make; `None`: any number.
    pub limits: Option<Limits>,
    /// Whose plans give their source a budget in the kernel; `None`: nobody's.
    pub kernel_plans: Option<KernelPlans>,
    /// How many bytes of bodies pass in a second.
    pub bandwidth: Bandwidth,
    /// How many connections and handshakes a source may make.
    pub connection_limits: ConnectionLimits,
    /// Who is served first when something runs short; `None`: nothing asks.
    pub classes: Option<Classes>,
    /// Whose word about clients is taken.
    pub trusted: Trusted,
    /// When signals become bans.
    pub detector: Detector,
    /// Who is a crawler.
    pub crawlers: Crawlers,
    /// What the access log says of requests.
    pub access_log: AccessLog,
    /// What requests of APIs are held against, in the order of the configuration.
    contracts: Contracts,
    /// The rules that look for attacks, in the order of the configuration.
    wafs: Box<[Arc<WafRules>]>,
    /// Requirements of routes that only count; of most configurations none.
    in_shadow: Box<[Arc<ShadowParts>]>,
}

/// One route, compiled.
pub struct CompiledRoute {
    /// The template as the configuration has it.
    pub template: Box<str>,
    /// How its clients may prove who they are.
    pub accepted: Accepted,
    /// What clients are told that have not proved it.
    pub challenges: Challenges,
    /// Who may have it.
    pub access: Access,
    /// What its bodies must match.
    pub schema: Option<Arc<Schema>>,
    /// What its forms must be.
    pub form: Option<Arc<FormRules>>,
    /// What the parameters of its requests must be.
    pub parameters: Option<Box<RouteRules>>,
    /// What its requests are held against.
    pub contract: Option<Arc<Contract>>,
    /// The limits that its operations name: indices into the configured ones. `None`: none is named.
    pub named_limits: Option<contracts::NamedLimits>,
    /// Whether what breaks the contract passes, and is logged.
    pub is_report_only: bool,
    /// The route once for each of the contract's [`rules`](Contract::rules), where these say who is let through.
    pub variants: Box<[Self]>,
    /// What queries of GraphQL may ask for; `None`: nothing is looked at.
    pub graphql: Option<graphql::GraphqlLimits>,
    /// The rules that look for attacks; `None`: none do.
    pub waf: Option<Arc<Waf>>,
    /// What becomes of bodies with a `Content-Encoding`.
    pub content_encoding: Option<ContentEncoding>,
    /// The largest body, in bytes.
    pub max_body: u64,
    /// Who answers.
    pub action: Action,
    /// The path that the upstream is asked for; `None`: the client's.
    pub rewrite: Option<PathPattern>,
    /// What is changed of requests.
    pub request_headers: Option<Edits>,
    /// What is changed of answers.
    pub response_headers: Option<Edits>,
    /// What its paths may hold.
    pub allow_in_path: PathRules,
    /// Names that pass although others like them do not.
    pub pass_headers: Box<[HeaderName]>,
    /// Trailers of requests that no upstream gets; `None`: it gets none.
    pub withheld_trailers: Option<Arc<[HeaderName]>>,
    /// Its deadlines.
    pub timeouts: Timeouts,
    /// What its connections may become; `None`: nothing.
    pub upgrade: Option<Upgrade>,
    /// What pages of other origins may do: an index into [`Snapshot::cors`].
    pub cors: Option<usize>,
    /// Whether requests that were served are in the access log.
    pub access_log: bool,
}

impl Snapshot {
    /// Compiles certificates, key sets, schemas and routes.
    ///
    /// # Errors
    /// Every fault found, each naming its key: `route[2].schema`, `listener[0].private_key`, `jwt.jwks`.
    pub fn new(settings: proxy::Settings) -> Result<Self, Vec<Diagnostic>> {
        Self::compile(settings, None)
    }

    /// Compiles another configuration, to be served after this one. What has not changed is shared: compiled schemas,
    /// verified tokens, counts of clients. Nothing of this one changes until [`Self::put_in_force`].
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn succeeded_by(&self, settings: proxy::Settings) -> Result<Self, Vec<Diagnostic>> {
        Self::compile(settings, Some(self))
    }

    /// Goes on with what `before` has counted of clients. To be called once, at the moment from which this one serves.
    pub fn put_in_force(&self, before: &Self, now: Now) {
        if let (Some(limits), Some(before)) = (&self.limits, &before.limits) {
            limits.put_in_force(&self.settings.limits, before, now.monotonic);
        }
        self.bandwidth.put_in_force(&self.settings.bandwidth, &before.bandwidth, now.monotonic);
        self.connection_limits.put_in_force(&self.settings.connection_limits, &before.connection_limits, now.monotonic);
        self.detector.put_in_force(&before.detector, now.monotonic);
        for parts in &self.in_shadow {
            before.in_shadow.iter().for_each(|old| parts.go_on(old));
        }
    }

    /// Enforces what an operator has promoted: a limit, a quota, or a requirement of a route that is in shadow.
    pub fn enforce(&self, what: &str) {
        self.limits.iter().for_each(|limits| limits.promote(what));
        self.connection_limits.promote(what);
        self.in_shadow.iter().for_each(|parts| parts.enforce(what));
    }

    /// What requirements in shadow would have denied since the last call.
    pub fn would_deny(&self) -> impl Iterator<Item = ShadowDenials> {
        self.in_shadow.iter().flat_map(|parts| parts.take())
    }

    /// What rules have found in requests since the process began.
    pub fn waf_sums(&self) -> impl Iterator<Item = WafSum> {
        self.wafs.iter().map(|rules| rules.sum())
    }

    /// Goes on with files that have changed; whether any of them says whose client certificates are good.
    ///
    /// # Errors
    /// They cannot be used; those before stay in force.
    pub(crate) fn renew(&self, files: Vec<(PathBuf, Vec<u8>)>) -> anyhow::Result<bool> {
        let told = |diagnostics: Vec<Diagnostic>| {
            let diagnostics: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("{}", diagnostics.join("; "))
        };
        let keys = files.clone();
        let (tls, others) = self.tls.load().with(files, &self.tickets, Now::read()).map_err(told)?;
        self.authenticators.renew(&keys).map_err(told)?;
        self.tls.store(tls);
        Ok(others)
    }

    /// What works now and soon will not: certificates that have ended or are about to. And what is not checked, though
    /// it looks as if it were: formats in schemas, rules of the firewall.
    #[must_use]
    pub fn warnings(&self, now: Now) -> Vec<Diagnostic> {
        let mut warnings = tls::outdated(&self.settings, now);
        warnings.extend(self.authenticators.warnings());
        for rules in &self.wafs {
            let key = format!("waf.{}.rules", rules.name());
            warnings.extend(rules.warnings().iter().map(|warning| Diagnostic::new(&key, warning)));
        }
        for (index, route) in self.served.iter().enumerate() {
            for format in route.schema.iter().flat_map(|schema| schema.unknown_formats()) {
                let warning =
                    Diagnostic::new(format!("route[{index}].schema"), format!("nobody checks the format {format:?}"));
                warnings.push(
                    warning.hint("spell it out by `pattern`; validate.formats = \"strict\" refuses such schemas"),
                );
            }
        }
        // Nothing may refer to them yet.
        let faults = openapi::file_faults(&self.settings.schema_files, self.settings.formats);
        let told = |(index, fault)| Diagnostic::new(format!("validate.files[{index}]"), fault);
        warnings.extend(faults.into_iter().map(told));
        warnings.extend(contracts::warnings(&self.settings, &self.contracts));
        warnings
    }
}

impl CompiledRoute {
    /// Compiles a route, and once more for each thing that its API asks clients to prove.
    fn with_contract(
        route: &Route,
        policy: &authz::Policy,
        settings: &proxy::Settings,
        (schemas, wafs): (&mut Schemas, &[Arc<WafRules>]),
        contracts: &Contracts,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut compiled = Self::new(route, policy, settings, (schemas, wafs))?;
        let api = route.api.and_then(|index| settings.apis.get(index).zip(contracts.get(index)?.as_ref()));
        // Where there is none, a document that is no contract is reported.
        let Some((api, contract)) = api else { return Ok(compiled) };
        let named_limits = contracts::named_limits(contract, settings)?;
        let held = |compiled: &mut Self| {
            compiled.named_limits.clone_from(&named_limits);
            compiled.contract = Some(Arc::clone(contract));
            compiled.is_report_only = api.report_only;
            let (rules, api) = (compiled.parameters.as_deref(), Some((api, &**contract)));
            compiled.withheld_trailers = trailers::withheld(route, rules, api, settings);
        };
        held(&mut compiled);
        let mut variants = Vec::new();
        for (variant, place) in contracts::variants(route, api, contract, settings).map_err(|wrong| vec![wrong])? {
            let variant = Self::new(&variant, policy, settings, (schemas, wafs));
            let mut variant = variant.map_err(|found| {
                let wrong = |found: Diagnostic| Diagnostic { message: format!("{place}: {}", found.message), ..found };
                found.into_iter().map(wrong).collect::<Vec<_>>()
            })?;
            held(&mut variant);
            variants.push(variant);
        }
        compiled.variants = variants.into();
        Ok(compiled)
    }

    /// Whether its requests may need the threads that judge bodies.
    #[must_use]
    pub fn judges_bodies(&self) -> bool {
        let judges = self.schema.is_some()
            || self.form.is_some()
            || self.contract.is_some()
            || self.waf.is_some()
            || self.graphql.is_some();
        judges || self.content_encoding == Some(ContentEncoding::Decode)
    }

    /// The route as it is for the operation that a request asks for.
    pub(crate) fn of_operation(&self, method: &Method, target: &Target, headers: &HeaderMap) -> Result<&Self, Refusal> {
        let Some(contract) = &self.contract else { return Ok(self) };
        let query = target.origin().query().unwrap_or_default();
        match contract.find(method, target.path(), query, headers) {
            Ok(_) if self.variants.is_empty() => Ok(self),
            Ok(found) => self.variants.get(contract.rule(found.operation)).ok_or(NoOperation::NotFound),
            Err(_) if self.is_report_only => Ok(self),
            Err(miss) => Err(miss),
        }
        .map_err(|miss| match miss {
            NoOperation::NotFound => Refusal::new(Reject::NotFound, "no path of the API"),
            NoOperation::Method(_) => Refusal::new(Reject::MethodNotAllowed, "no method of the API's path"),
            NoOperation::Unclear(refusal) => refusal,
        })
    }

    fn new(
        route: &Route,
        policy: &authz::Policy,
        settings: &proxy::Settings,
        (schemas, wafs): (&mut Schemas, &[Arc<WafRules>]),
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut diagnostics = Vec::new();
        let kept = &settings.auth.kept;
        let access = policy.access(route, kept).map_err(|diagnostic| diagnostics.push(diagnostic)).ok();
        let schema = route.schema.as_ref().map(|file| schemas.compile(file, settings)).transpose();
        let schema = schema.map_err(|diagnostic| diagnostics.push(diagnostic)).ok().flatten();
        let known = known_names(route, settings);
        let expected = RouteExpectations {
            path: &route.path,
            parameters: &route.parameters,
            refuses: route.refuses_unknown,
            known: (&known.0, &known.1),
            content_types: &route.content_types,
        };
        let parameters = RouteRules::new(expected, settings.formats);
        let parameters = parameters.map_err(|found| diagnostics.extend(found)).ok().flatten().map(Box::new);
        let form = route.form.as_ref().map(|form| FormRules::new(form, settings.formats)).transpose();
        let form = form.map_err(|found| diagnostics.extend(found)).ok().flatten().map(Arc::new);
        if access.as_ref().is_some_and(Access::needs_identity) && route.accepted.methods.listed().is_empty() {
            diagnostics.push(
                Diagnostic::new("require", "asks for an identity, and nothing gives one").hint("configure [jwt]"),
            );
        }
        if route.action.upstream().is_some_and(|upstream| settings.upstreams.get(upstream).is_none()) {
            diagnostics.push(Diagnostic::new("upstream", "does not exist"));
        }
        let Some(access) = access.filter(|_| diagnostics.is_empty()) else { return Err(diagnostics) };
        let max_body = route.max_body.unwrap_or(settings.max_body);
        let withheld_trailers = trailers::withheld(route, parameters.as_deref(), None, settings);
        Ok(Self {
            template: route.path.as_str().into(),
            accepted: route.accepted.clone(),
            challenges: Challenges::new(&route.accepted.methods, &route.scopes, &settings.auth),
            access,
            schema,
            form,
            parameters,
            contract: None,
            named_limits: None,
            is_report_only: false,
            variants: Box::default(),
            graphql: route.graphql,
            waf: route.waf.and_then(|of| {
                let rules = Arc::clone(wafs.get(of.index)?);
                Some(Arc::new(Waf::new(rules, route.name.as_deref(), of.threshold)))
            }),
            content_encoding: route.content_encoding,
            max_body,
            action: route.action.clone(),
            rewrite: route.rewrite.as_ref().map(|rewrite| match rewrite {
                Rewrite::Strip(pattern) | Rewrite::Template(pattern) => pattern.clone(),
            }),
            request_headers: route.request_headers.clone(),
            response_headers: route.response_headers.clone(),
            allow_in_path: route.allow_in_path,
            pass_headers: route.pass_headers.as_slice().into(),
            withheld_trailers,
            timeouts: route.timeouts.as_deref().copied().unwrap_or(settings.timeouts),
            cors: route.cors,
            access_log: route.access_log,
            upgrade: route.upgrade.clone(),
        })
    }
}

/// Compiled schemas by their files: each is compiled once, and not again where the configuration before has it.
#[derive(Default)]
struct Schemas(HashMap<PathBuf, (Arc<[u8]>, Arc<Schema>)>);

impl Schemas {
    fn of(before: Option<&Snapshot>, settings: &proxy::Settings) -> Self {
        let mut known = HashMap::new();
        if let Some(before) = before.filter(|before| contracts::reads_alike(&before.settings, settings)) {
            for (route, compiled) in before.settings.routes.iter().zip(&before.served) {
                if let (Some(file), Some(schema)) = (&route.schema, &compiled.schema) {
                    known.insert(file.path.clone(), (Arc::clone(&file.bytes), Arc::clone(schema)));
                }
            }
        }
        Self(known)
    }

    fn compile(&mut self, file: &NamedFile, settings: &proxy::Settings) -> Result<Arc<Schema>, Diagnostic> {
        if let Some((bytes, schema)) = self.0.get(&file.path)
            && *bytes == file.bytes
        {
            return Ok(Arc::clone(schema));
        }
        let schema = Arc::new(Schema::beside(file, &settings.schema_files, settings.formats)?);
        self.0.insert(file.path.clone(), (Arc::clone(&file.bytes), Arc::clone(&schema)));
        Ok(schema)
    }
}
