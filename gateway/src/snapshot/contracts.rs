//! The contracts of APIs, compiled, and what their operations ask clients to prove.

use std::sync::Arc;

use crate::{
    diagnostic::Diagnostic,
    settings::{auth::Accepted, proxy::Settings, route::Route, validate::Api},
    validate::openapi::{Contract, DocumentFault, Gateway, Reading, SecurityRule},
};

/// How many of the warnings of a document are told.
const MOST_WARNINGS: usize = 20;

/// The contracts, in the order of the configuration. `None`: one is no contract, which is reported.
pub(super) type Contracts = Vec<Option<Arc<Contract>>>;

/// Whether two configurations read schemas and documents alike.
pub(super) fn reads_alike(one: &Settings, other: &Settings) -> bool {
    one.formats == other.formats && one.schema_files == other.schema_files
}

/// Compiles them. What has not changed is shared with a configuration before, its settings and contracts.
pub(super) fn compile(
    settings: &Settings,
    before: Option<(&Settings, &Contracts)>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Contracts {
    let before = before.filter(|(before, _)| reads_alike(before, settings));
    let contract = |api: &Api| {
        let known = before.and_then(|(before, contracts)| {
            let index = before.apis.iter().position(|known| known == api)?;
            contracts.get(index)?.clone()
        });
        if known.is_some() {
            return known;
        }
        let reading = Reading {
            base_path: api.base_path.as_deref(),
            allows_unknown_query: api.allows_unknown_query,
            allows_read_only: api.allows_read_only,
            unvalidated: &api.unvalidated,
        };
        match Contract::new(&api.document, &settings.schema_files, settings.formats, &reading) {
            Ok(contract) => Some(Arc::new(contract)),
            Err(fault) => {
                diagnostics.push(told(api, &fault));
                None
            }
        }
    };
    settings.apis.iter().map(contract).collect()
}

/// The route once for each thing that its API asks clients to prove, with where that stands.
pub(super) fn variants(
    route: &Route,
    api: &Api,
    contract: &Contract,
    settings: &Settings,
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

/// What of the documents is not checked, though it looks as if it were.
pub(super) fn warnings(settings: &Settings, contracts: &Contracts) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    for (index, (api, contract)) in settings.apis.iter().zip(contracts).enumerate() {
        let Some(contract) = contract else { continue };
        let of_document = contract.warnings();
        warnings.extend(of_document.iter().take(MOST_WARNINGS).map(|warning| told(api, warning)));
        if of_document.len() > MOST_WARNINGS {
            let rest = format!("{} more warnings", of_document.len() - MOST_WARNINGS);
            warnings.push(Diagnostic::new(key(api), rest).hint("see them all with `gateway api lint`"));
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
