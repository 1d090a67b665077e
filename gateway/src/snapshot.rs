//! The compiled configuration that requests are served by: certificates, keys, routes and schemas, ready for use.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use http::HeaderName;

use crate::{
    auth::jwt::Jwt,
    authz::{self, Access},
    client::Trusted,
    clock::Now,
    detect::Detector,
    diagnostic::Diagnostic,
    file::NamedFile,
    limit::AddressLimit,
    log::access::AccessLog,
    path::{PathRules, pattern::Pattern},
    route::{Routes, cors},
    settings::{
        edits::Edits,
        proxy::Settings,
        route::{Action, Rewrite, Route, Upgrade},
        timeouts::Timeouts,
        validate::Formats,
    },
    swap::Swap,
    tls,
    validate::schema::Schema,
};

pub(crate) mod preflight;

/// One compiled configuration. Shared by all workers, never changed. What is counted and remembered of clients is shared
/// with the configurations before it.
pub struct Snapshot {
    /// What it was made from.
    pub settings: Arc<Settings>,
    /// Which route serves a request.
    pub routes: Routes,
    /// What each route asks for, in the order of the configuration.
    pub served: Box<[CompiledRoute]>,
    /// What pages of other origins may do, in the order of the configuration.
    pub cors: Box<[cors::Group]>,
    /// What they may do where no route is found: an index into [`Self::cors`].
    pub default_cors: Option<usize>,
    /// How the listeners speak TLS. Files that change are put in its place.
    pub tls: Arc<Swap<tls::Tls>>,
    /// What listeners without TLS tell browsers whom a trusted proxy serves by HTTPS.
    pub hsts: Box<[Option<tls::Hsts>]>,
    /// By which keys TLS sessions are resumed.
    pub tickets: Arc<tls::Tickets>,
    /// Which hosts ask for client certificates.
    pub demands: tls::Demands,
    /// Whose tokens are good; `None`: nobody's.
    pub jwt: Option<Arc<Jwt>>,
    /// How many requests a source may make; `None`: any number.
    pub address_limit: Option<Arc<AddressLimit>>,
    /// Whose word about clients is taken.
    pub trusted: Trusted,
    /// When signals become bans.
    pub detector: Detector,
    /// What the access log says of requests.
    pub access_log: AccessLog,
}

/// One route, compiled.
pub struct CompiledRoute {
    /// The template as the configuration has it.
    pub template: Box<str>,
    /// Who may have it.
    pub access: Access,
    /// What its bodies must match.
    pub schema: Option<Arc<Schema>>,
    /// The largest body, in bytes.
    pub max_body: u64,
    /// Who answers.
    pub action: Action,
    /// The path that the upstream is asked for; `None`: the client's.
    pub rewrite: Option<Pattern>,
    /// What is changed of requests.
    pub request_headers: Option<Edits>,
    /// What is changed of answers.
    pub response_headers: Option<Edits>,
    /// What its paths may hold.
    pub allow_in_path: PathRules,
    /// Names that pass although others like them do not.
    pub pass_headers: Box<[HeaderName]>,
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
    pub fn new(settings: Settings) -> Result<Self, Vec<Diagnostic>> {
        Self::compile(settings, None)
    }

    /// Compiles another configuration, to be served after this one. What has not changed is shared: compiled schemas,
    /// verified tokens, counts of clients. Nothing of this one changes until [`Self::put_in_force`].
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn succeeded_by(&self, settings: Settings) -> Result<Self, Vec<Diagnostic>> {
        Self::compile(settings, Some(self))
    }

    fn compile(settings: Settings, before: Option<&Self>) -> Result<Self, Vec<Diagnostic>> {
        let mut diagnostics = Vec::new();
        let routes = collect(Routes::new(&settings.routes), &mut diagnostics);
        let policy = authz::Policy::new(&settings.roles);
        let mut schemas = Schemas::of(before, settings.formats);
        let mut served = Vec::new();
        for (index, route) in settings.routes.iter().enumerate() {
            match CompiledRoute::new(route, &policy, &settings, &mut schemas) {
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
        let made = tickets.and_then(|tickets| Ok((tls::Tls::new(&settings, &tickets, now)?, tickets)));
        let tls = collect(made, &mut diagnostics);
        let access_log = collect(AccessLog::new(&settings.access_log), &mut diagnostics);
        let jwt = settings.jwt.as_ref().map(|jwt| match before.and_then(|before| before.jwt.as_ref()) {
            Some(before) => before.succeeded_by(jwt),
            None => Jwt::new(jwt).map(Arc::new),
        });
        let jwt = collect(jwt.transpose(), &mut diagnostics).flatten();
        let (Some(routes), Some((tls, tickets)), Some(access_log)) = (routes, tls, access_log) else {
            return Err(diagnostics);
        };
        if !diagnostics.is_empty() {
            return Err(diagnostics);
        }
        let address_limit = settings.address_limit.as_ref();
        Ok(Self {
            routes,
            served: served.into(),
            cors: settings.cors.iter().map(cors::Group::new).collect(),
            default_cors: settings.cors.iter().position(|group| group.name == "default"),
            tls: Arc::new(Swap::new(tls)),
            tickets,
            demands: tls::Demands::new(&settings),
            hsts: settings.listeners.iter().map(|listener| tls::Hsts::new(listener.hsts.as_ref()?)).collect(),
            jwt,
            address_limit: address_limit.map(|limit| match before.and_then(|before| before.address_limit.as_ref()) {
                Some(before) => before.succeeded_by(limit),
                None => Arc::new(AddressLimit::new(limit)),
            }),
            trusted: Trusted::new(&settings.trust, settings.ipv6_prefix),
            detector: match before {
                Some(before) => before.detector.succeeded_by(&settings.detect),
                None => Detector::new(&settings.detect),
            },
            access_log,
            settings: Arc::new(settings),
        })
    }

    /// Goes on with what `before` has counted of clients. To be called once, at the moment from which this one serves.
    pub fn put_in_force(&self, before: &Self, now: Now) {
        if let (Some(limit), Some(settings)) = (&self.address_limit, &self.settings.address_limit)
            && let Some(before) = &before.address_limit
        {
            limit.put_in_force(settings, before, now.monotonic);
        }
        self.detector.put_in_force(&before.detector, now.monotonic);
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
        let (tls, others) = self.tls.load().with(files, &self.tickets, Now::read()).map_err(told)?;
        self.tls.store(tls);
        Ok(others)
    }

    /// What works now and soon will not: certificates that have ended or are about to. And what is not checked, though
    /// it looks as if it were: formats in schemas.
    #[must_use]
    pub fn warnings(&self, now: Now) -> Vec<Diagnostic> {
        let mut warnings = tls::outdated(&self.settings, now);
        for (index, route) in self.served.iter().enumerate() {
            for format in route.schema.iter().flat_map(|schema| schema.unknown_formats()) {
                let warning =
                    Diagnostic::new(format!("route[{index}].schema"), format!("nobody checks the format {format:?}"));
                warnings.push(
                    warning.hint("spell it out by `pattern`; validate.formats = \"strict\" refuses such schemas"),
                );
            }
        }
        warnings
    }
}

impl CompiledRoute {
    fn new(
        route: &Route,
        policy: &authz::Policy,
        settings: &Settings,
        schemas: &mut Schemas,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut diagnostics = Vec::new();
        let kept = settings.jwt.as_ref().map_or(&[][..], |jwt| &jwt.kept);
        let access = policy.compile(&route.require).map(|access| access.of_tokens(&route.scopes, &route.claims, kept));
        let access = access.map_err(|diagnostic| diagnostics.push(diagnostic)).ok();
        let schema = route.schema.as_ref().map(|file| schemas.compile(file, settings.formats)).transpose();
        let schema = schema.map_err(|diagnostic| diagnostics.push(diagnostic)).ok().flatten();
        let identified = settings.jwt.is_some() || !settings.client_certificates.is_empty();
        if access.as_ref().is_some_and(Access::needs_identity) && !identified {
            diagnostics.push(
                Diagnostic::new("require", "asks for an identity, and nothing gives one").hint("configure [jwt]"),
            );
        }
        if route.action.upstream().is_some_and(|upstream| settings.upstreams.get(upstream).is_none()) {
            diagnostics.push(Diagnostic::new("upstream", "does not exist"));
        }
        let Some(access) = access.filter(|_| diagnostics.is_empty()) else { return Err(diagnostics) };
        let max_body = route.max_body.unwrap_or(settings.max_body);
        Ok(Self {
            template: route.path.as_str().into(),
            access,
            schema,
            max_body,
            action: route.action.clone(),
            rewrite: route.rewrite.as_ref().map(|rewrite| match rewrite {
                Rewrite::Strip(pattern) | Rewrite::Template(pattern) => pattern.clone(),
            }),
            request_headers: route.request_headers.clone(),
            response_headers: route.response_headers.clone(),
            allow_in_path: route.allow_in_path,
            pass_headers: route.pass_headers.as_slice().into(),
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
    fn of(before: Option<&Snapshot>, formats: Formats) -> Self {
        let mut known = HashMap::new();
        if let Some(before) = before.filter(|before| before.settings.formats == formats) {
            for (route, compiled) in before.settings.routes.iter().zip(&before.served) {
                if let (Some(file), Some(schema)) = (&route.schema, &compiled.schema) {
                    known.insert(file.path.clone(), (Arc::clone(&file.bytes), Arc::clone(schema)));
                }
            }
        }
        Self(known)
    }

    fn compile(&mut self, file: &NamedFile, formats: Formats) -> Result<Arc<Schema>, Diagnostic> {
        if let Some((bytes, schema)) = self.0.get(&file.path)
            && *bytes == file.bytes
        {
            return Ok(Arc::clone(schema));
        }
        let schema = Arc::new(Schema::new(file, formats)?);
        self.0.insert(file.path.clone(), (Arc::clone(&file.bytes), Arc::clone(&schema)));
        Ok(schema)
    }
}

/// The value, or its diagnostics among the others.
fn collect<T>(made: Result<T, Vec<Diagnostic>>, diagnostics: &mut Vec<Diagnostic>) -> Option<T> {
    made.map_err(|found| diagnostics.extend(found)).ok()
}
