//! The contracts of APIs, compiled, and what their operations ask clients to prove.

use std::{fmt, sync::Arc};

use http::HeaderName;
use serde::{Deserialize, Serialize};

use super::known_names::known_names;
use crate::{
    diagnostic::Diagnostic,
    policy::validate::openapi::{Contract, DocumentFault, DocumentReading, Gateway, NamedLimit, SecurityRule},
    settings::{auth::Accepted, proxy, route::Route, validate::Api},
};

/// How many of the warnings of a document are told.
const MOST_WARNINGS: usize = 20;

/// The most losses of one API that are told, and their longest text, in bytes.
const MOST_LOSSES: usize = 10;
const LONGEST_LOSS: usize = 200;

/// What another version of a document takes away of what protects an API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContractLoss {
    /// The name of the API.
    pub api: String,
    /// What, a sentence each. Bounded.
    pub what: Vec<String>,
}

impl ContractLoss {
    fn new(api: &str, mut what: Vec<String>) -> Self {
        let more = what.len().saturating_sub(MOST_LOSSES);
        what.truncate(MOST_LOSSES);
        for text in &mut what {
            text.truncate(text.floor_char_boundary(LONGEST_LOSS));
        }
        what.extend((more > 0).then(|| format!("and {more} more")));
        Self { api: api.to_owned(), what }
    }
}

impl fmt::Display for ContractLoss {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the document of api.{}: {}", self.api, self.what.join("; "))
    }
}

/// The contracts, in the order of the configuration. `None`: one is no contract, which is reported.
pub(super) type Contracts = Vec<Option<Arc<Contract>>>;

/// Whether two configurations read schemas and documents alike.
pub(super) fn reads_alike(one: &proxy::Settings, other: &proxy::Settings) -> bool {
    one.formats == other.formats && one.schema_files == other.schema_files
}

/// Compiles them. What has not changed is shared with a configuration before, its settings and contracts.
pub(super) fn compile(
    settings: &proxy::Settings,
    before: Option<(&proxy::Settings, &Contracts)>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Contracts {
    let before = before.filter(|(before, _)| reads_alike(before, settings));
    let contract = |api: &Api| {
        let known = before.and_then(|(before, contracts)| {
            let index = before.apis.iter().position(|known| known == api)?;
            let is_same = known_headers(before, api) == known_headers(settings, api);
            contracts.get(index)?.clone().filter(|_| is_same)
        });
        if known.is_some() {
            return known;
        }
        match Contract::new(&api.document, &settings.schema_files, settings.formats, &reading(settings, api)) {
            Ok(contract) => Some(Arc::new(contract)),
            Err(fault) => {
                diagnostics.push(told(api, &fault));
                None
            }
        }
    };
    settings.apis.iter().map(contract).collect()
}

/// How the document of an API is read.
fn reading<'a>(settings: &proxy::Settings, api: &'a Api) -> DocumentReading<'a> {
    DocumentReading {
        base_path: api.base_path.as_deref(),
        allows_unknown_query: !api.refuses_unknown.query,
        known_headers: known_headers(settings, api),
        refuses_unknown_cookies: api.refuses_unknown.cookies,
        allows_read_only: api.allows_read_only,
        unvalidated: &api.unvalidated,
        responses: api.reports_responses,
    }
}

/// Headers that requests of an API may have though its document does not declare them. `None`: any.
fn known_headers(settings: &proxy::Settings, api: &Api) -> Option<Vec<HeaderName>> {
    let is_of = |route: &&Route| route.api.and_then(|it| settings.apis.get(it)).is_some_and(|it| it.name == api.name);
    api.refuses_unknown.headers.then(|| {
        let routes = settings.routes.iter().filter(is_of);
        routes.flat_map(|route| known_names(route, settings).0).collect()
    })
}

/// What a new configuration takes away of what the documents of one before protect.
///
/// Compiles the documents before that are other ones now.
pub(super) fn losses(old: &proxy::Settings, new: &proxy::Settings, contracts: &Contracts) -> Vec<ContractLoss> {
    let mut losses = Vec::new();
    for (index, (api, contract)) in new.apis.iter().zip(contracts).enumerate() {
        let before = old.apis.iter().find(|before| before.name == api.name);
        let Some((before, contract)) = before.zip(contract.as_ref()) else { continue };
        if before == api && reads_alike(old, new) {
            continue;
        }
        let is_followed = new.routes.iter().any(|route| route.api == Some(index) && route.follows_document);
        let mut what = match Contract::new(&before.document, &old.schema_files, old.formats, &reading(old, before)) {
            Ok(before) => before.outline().losses(&contract.outline(), is_followed),
            Err(fault) => vec![format!("cannot be compared with the one before: {}: {}", fault.place, fault.message)],
        };
        if is_beginning(&api.document.bytes, &before.document.bytes) {
            what.insert(0, "is the beginning of the one before, and ends there".to_owned());
        }
        if !what.is_empty() {
            losses.push(ContractLoss::new(&api.name, what));
        }
    }
    losses
}

/// Whether a file was cut off.
fn is_beginning(new: &[u8], old: &[u8]) -> bool {
    let (new, old) = (new.trim_ascii_end(), old.trim_ascii_end());
    new.len() < old.len() && old.starts_with(new)
}

/// The route once for each thing that its API asks clients to prove, with where that stands.
pub(super) fn variants(
    route: &Route,
    api: &Api,
    contract: &Contract,
    settings: &proxy::Settings,
) -> Result<Vec<(Route, String)>, Diagnostic> {
    if !route.follows_document {
        return Ok(Vec::new());
    }
    let methods = settings.methods();
    let key_header = settings.auth.api_keys.as_ref().map(|keys| keys.header.as_str());
    let gateway = Gateway { methods: &methods, key_header, mapped: &api.security };
    let variant = |rule: &SecurityRule| {
        let demand = rule.demand(contract.schemes(), &gateway);
        let demand = demand.map_err(|message| Diagnostic::new("require", format!("{}: {message}", rule.place)))?;
        let accepted = Accepted { methods: demand.methods, ..route.accepted.clone() };
        let variant = Route { require: demand.requirement, accepted, scopes: demand.scopes, ..route.clone() };
        Ok((variant, rule.place.clone()))
    };
    contract.rules().iter().map(variant).collect()
}

/// For each operation of a contract, the limits that it names.
pub(super) type NamedLimits = Arc<[Box<[usize]>]>;

/// Finds the limits that operations name. `None`: none does.
pub(super) fn named_limits(
    contract: &Contract,
    settings: &proxy::Settings,
) -> Result<Option<NamedLimits>, Vec<Diagnostic>> {
    if contract.limits().all(<[_]>::is_empty) {
        return Ok(None);
    }
    let all = &settings.limits.limits;
    let mut faults = Vec::new();
    let mut of_operations = Vec::new();
    for named in contract.limits() {
        let mut indices = Vec::new();
        for limit in named {
            let NamedLimit { name, place } = limit;
            let fault = |message: String| Diagnostic::new("api", format!("{place}: {message}"));
            match all.iter().position(|known| *known.name == **name) {
                Some(index) if all.get(index).is_some_and(|known| known.routes.is_some()) => indices.push(index),
                Some(_) => {
                    let wrong = fault(format!("the limit {name:?} counts every request already"));
                    faults.push(wrong.hint("give it `routes = []`, so that it counts what names it alone"));
                }
                None => {
                    let wrong = fault(format!("there is no [limit.{name}] and no [quota.{name}]"));
                    faults.push(wrong.hint("add it, or name one that there is"));
                }
            }
        }
        of_operations.push(indices.into());
    }
    if faults.is_empty() { Ok(Some(of_operations.into())) } else { Err(faults) }
}

/// Limits that nothing can ever count by.
fn unnamed(settings: &proxy::Settings, contracts: &Contracts) -> Vec<Diagnostic> {
    let is_named = |name: &str| {
        let mut named = contracts.iter().flatten().flat_map(|contract| contract.limits()).flatten();
        named.any(|limit| *limit.name == *name)
    };
    let none = settings.limits.limits.iter().filter(|limit| limit.routes.as_ref().is_some_and(Vec::is_empty));
    let unnamed = none.filter(|limit| !is_named(&limit.name)).map(|limit| {
        let warning =
            Diagnostic::new(format!("{}.{}.routes", limit.table(), limit.name), "is empty: it counts nothing");
        warning.hint("name routes, or name the limit in `x-gateway-limits` of an operation")
    });
    unnamed.collect()
}

/// What of the documents is not checked, though it looks as if it were.
pub(super) fn warnings(settings: &proxy::Settings, contracts: &Contracts) -> Vec<Diagnostic> {
    let mut warnings = unnamed(settings, contracts);
    for (index, (api, contract)) in settings.apis.iter().zip(contracts).enumerate() {
        let Some(contract) = contract else { continue };
        let of_document = contract.warnings();
        warnings.extend(of_document.iter().take(MOST_WARNINGS).map(|warning| told(api, warning)));
        if of_document.len() > MOST_WARNINGS {
            let rest = format!("{} more warnings", of_document.len() - MOST_WARNINGS);
            warnings.push(Diagnostic::new(key(api), rest).hint("see them all with `gateway api lint`"));
        }
        if let Some(operation) = contract.matrix_operation() {
            let routes = settings.routes.iter().enumerate();
            let refusing = routes.filter(|(_, it)| it.api == Some(index) && !it.allow_in_path.parameters);
            warnings.extend(refusing.map(|(route, _)| {
                let message = format!(
                    "refuses \";\" in paths, which {operation:?} of api.{} needs: it has a parameter of the style \
                     \"matrix\"",
                    api.name
                );
                let warning = Diagnostic::new(format!("route[{route}].allow_in_path"), message);
                warning.hint("write allow_in_path = [\"parameters\"], or choose the style \"simple\"")
            }));
        }
        let is_followed = settings.routes.iter().any(|route| route.api == Some(index) && route.follows_document);
        let undeclared = contract.rules().iter().find(|rule| is_followed && rule.is_undeclared());
        if let Some(rule) = undeclared {
            let message = format!("{}: no `security`: nobody has access", rule.place);
            warnings.push(Diagnostic::new(key(api), message).hint("write `security: []` for what is public"));
        }
    }
    warnings
}

fn told(api: &Api, fault: &DocumentFault) -> Diagnostic {
    Diagnostic::new(key(api), format!("{}: {}", fault.place, fault.message))
}

fn key(api: &Api) -> String {
    format!("api.{}.openapi", api.name)
}

#[cfg(test)]
mod tests {
    use std::{io, path::Path};

    use super::*;
    use crate::config::{Config, Files};

    /// A configuration, and the document that it names.
    struct Text(String, &'static str);

    impl Files for Text {
        fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
            let is_document = path.extension().is_some_and(|extension| extension == "yaml");
            Ok(if is_document { self.1.as_bytes().into() } else { self.0.as_bytes().into() })
        }

        fn mode(&self, _path: &Path) -> Option<u32> {
            None
        }
    }

    #[test]
    fn a_route_that_refuses_what_its_document_needs() {
        crate::policy::auth::ensure_crypto().unwrap();
        let document = "openapi: 3.1.0\ninfo: {title: a, version: '1'}\npaths: {'/a{id}': {get: {security: [], parameters: [\
                        {name: id, in: path, required: true, style: matrix, schema: {type: integer}}]}}}\n";
        for (allowed, expect) in [("", &["route[0].allow_in_path"][..]), ("\"parameters\"", &[])] {
            let text = format!(
                "upstream.items.servers = [\"127.0.0.1:9000\"]\nlistener = [{{ address = \"127.0.0.1:8080\" }}]\n\
                 [api.shop]\nopenapi = \"shop.yaml\"\n[[route]]\npath = \"/{{*rest}}\"\nrequire = [\"public\"]\n\
                 upstream = \"items\"\napi = \"shop\"\nallow_in_path = [{allowed}]\n"
            );
            let config = Config::load(Path::new("/gateway.toml"), &Text(text, document));
            let settings = config.unwrap_or_else(|faults| panic!("{faults}")).proxy;
            let contracts = compile(&settings, None, &mut Vec::new());
            let found: Vec<String> = warnings(&settings, &contracts).into_iter().map(|warning| warning.key).collect();
            assert_eq!(found, expect, "{allowed}");
        }
    }

    #[test]
    fn a_file_that_was_cut_off() {
        for (new, old, expect) in [
            ("a: 1\n", "a: 1\nb: 2\n", true),
            ("a: 1", "a: 12\n", true),
            ("a: 1\nb: 2", "a: 1\nb: 2\n", false),
            ("a: 1\nb: 2\nc: 3\n", "a: 1\nb: 2\n", false),
            ("b: 2\n", "a: 1\nb: 2\n", false),
        ] {
            assert_eq!(is_beginning(new.as_bytes(), old.as_bytes()), expect, "{new:?} {old:?}");
        }
        let loss = ContractLoss::new("shop", vec!["x".repeat(500); 30]);
        assert_eq!((loss.what.len(), loss.what[0].len(), &*loss.what[10]), (11, 200, "and 20 more"));
    }
}
