//! What a document asks clients to prove, and how the gateway lets them: `security` and its schemes.

use std::collections::BTreeMap;

use http::HeaderName;
use serde_json::Value;

use super::document::{At, DocumentFault, Documents};
use crate::{
    policy::validate::parameter::Parameters,
    settings::{
        auth::{Method, Methods},
        authz::Requirement,
    },
};

/// What a permission is asked for by.
const PERMISSIONS: &str = "x-gateway-permissions";

/// The schemes of a document, by name.
pub(super) type Known = BTreeMap<String, Scheme>;

/// The schemes of a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schemes(Known);

/// How a credential is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    ApiKey {
        part: String,
        name: String,
    },
    Http(String),
    MutualTls,
    /// OAuth 2 and OpenID Connect.
    Token,
    Other(String),
}

/// Schemes with scopes, all of which are asked for.
type Alternative = Vec<(String, Vec<String>)>;

/// What an operation asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityRule {
    /// Any of these. `None`: the document says nothing.
    alternatives: Option<Vec<Alternative>>,
    /// `x-gateway-permissions`.
    permissions: Vec<String>,
    /// Where it stands.
    pub place: String,
}

/// What a rule comes to, by the settings of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Who is let through.
    pub requirement: Requirement,
    /// How they may prove it.
    pub methods: Methods,
    /// What their tokens must be good for.
    pub scopes: Vec<String>,
}

/// What the gateway has for schemes.
#[derive(Clone, Copy, Debug)]
pub struct Gateway<'a> {
    /// The methods that are configured.
    pub methods: &'a [Method],
    /// The header of its API keys.
    pub key_header: Option<&'a str>,
    /// What the configuration says of schemes, by name.
    pub mapped: &'a [(String, Method)],
}

/// Reads the schemes of a document.
pub(super) fn schemes(documents: &Documents, root: &At<'_>) -> Result<Schemes, DocumentFault> {
    let mut known = Known::new();
    let declared = root.get("components").and_then(|components| components.get("securitySchemes"));
    for (name, at) in declared.into_iter().flat_map(|schemes| schemes.members()) {
        let at = documents.resolve(at)?;
        let text = |key: &str| at.text(key).unwrap_or_default().to_owned();
        let scheme = match at.text("type") {
            Some("apiKey") => Scheme::ApiKey { part: text("in"), name: text("name") },
            Some("http") => Scheme::Http(text("scheme").to_ascii_lowercase()),
            Some("mutualTLS") => Scheme::MutualTls,
            Some("oauth2" | "openIdConnect") => Scheme::Token,
            other => Scheme::Other(other.unwrap_or_default().to_owned()),
        };
        known.insert(name.to_owned(), scheme);
    }
    Ok(Schemes(known))
}

/// Reads what an operation asks for: its own, or that of the document.
pub(super) fn rule(
    documents: &Documents,
    root: &At<'_>,
    operation: &At<'_>,
    schemes: &Schemes,
) -> Result<SecurityRule, DocumentFault> {
    let said = operation.get("security").or_else(|| root.get("security"));
    let permissions = match operation.get(PERMISSIONS) {
        None => Vec::new(),
        Some(at) => strings(at.value).ok_or_else(|| documents.fault(&at, "permissions are an array of strings"))?,
    };
    let Some(at) = said else {
        let place = documents.fault(operation, "").place;
        return Ok(SecurityRule { alternatives: None, permissions, place });
    };
    let mut alternatives = Vec::new();
    for alternative in at.elements() {
        if !alternative.value.is_object() {
            return Err(documents.fault(&alternative, "a security requirement is an object"));
        }
        let mut all = Vec::new();
        for (name, scopes) in alternative.members() {
            if !schemes.0.contains_key(name) {
                return Err(documents.fault(&alternative, format!("there is no security scheme {name:?}")));
            }
            let words = strings(scopes.value);
            let words = words.ok_or_else(|| documents.fault(&scopes, "scopes are an array of strings"))?;
            all.push((name.to_owned(), words));
        }
        alternatives.push(all);
    }
    // Without a credential, nobody has a permission.
    let is_open = alternatives.is_empty() || alternatives.iter().any(Vec::is_empty);
    if let Some(wanted) = operation.get(PERMISSIONS).filter(|_| is_open && !permissions.is_empty()) {
        let message = "permissions need a security scheme, and its `security` asks for none: name one, or remove them";
        return Err(documents.fault(&wanted, message));
    }
    Ok(SecurityRule { alternatives: Some(alternatives), permissions, place: documents.fault(&at, "").place })
}

/// The strings of an array of strings.
pub(super) fn strings(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|word| word.as_str().map(str::to_owned)).collect()
}

impl Schemes {
    /// By name.
    pub(super) const fn known(&self) -> &Known {
        &self.0
    }

    /// Lets the credentials of a rule stand where they belong: they are declared, though not as parameters.
    pub(super) fn note_credentials(&self, rule: &SecurityRule, parameters: &mut Parameters) {
        for scheme in rule.alternatives.iter().flatten().flatten().filter_map(|(name, _)| self.0.get(name)) {
            let Scheme::ApiKey { part, name } = scheme else { continue };
            match (part.as_str(), name.parse::<HeaderName>()) {
                ("query", _) => parameters.also_known.push(name.as_str().into()),
                ("cookie", _) => parameters.known_cookies.iter_mut().for_each(|known| known.push(name.as_str().into())),
                (_, Ok(name)) => parameters.known_headers.iter_mut().for_each(|known| known.push(name.clone())),
                (_, Err(_)) => {}
            }
        }
    }

    /// The methods by which the gateway lets clients prove what a scheme asks for.
    fn methods(&self, name: &str, gateway: &Gateway<'_>) -> Result<Vec<Method>, String> {
        let has = |method: Method| gateway.methods.contains(&method);
        if let Some((_, method)) = gateway.mapped.iter().find(|(mapped, _)| mapped == name) {
            return Ok(vec![*method]);
        }
        let (wanted, what): (Vec<Method>, &str) = match self.0.get(name) {
            Some(Scheme::Http(scheme)) if scheme == "bearer" => (vec![Method::Jwt, Method::Introspection], "[jwt]"),
            Some(Scheme::Token) => (vec![Method::Jwt, Method::Introspection], "[jwt]"),
            Some(Scheme::Http(scheme)) if scheme == "basic" => (vec![Method::Basic], "[basic]"),
            Some(Scheme::MutualTls) => (vec![Method::Certificate], "[client_certificates.NAME]"),
            Some(Scheme::ApiKey { part, name }) => {
                let is_ours = part == "header" && gateway.key_header.is_some_and(|it| it.eq_ignore_ascii_case(name));
                (if is_ours { vec![Method::ApiKey] } else { Vec::new() }, "[api_keys] with its header")
            }
            _ => (Vec::new(), "a method for it"),
        };
        let methods: Vec<Method> = wanted.into_iter().filter(|method| has(*method)).collect();
        if methods.is_empty() {
            return Err(format!(
                "nothing proves the security scheme {name:?}: configure {what}, or name a method in `security`"
            ));
        }
        Ok(methods)
    }
}

impl SecurityRule {
    /// Whether the document says nothing of who may have it.
    #[must_use]
    pub const fn is_undeclared(&self) -> bool {
        self.alternatives.is_none()
    }

    /// Whether everybody may have it.
    #[must_use]
    pub fn is_public(&self) -> bool {
        let empty = |alternatives: &Vec<Alternative>| alternatives.is_empty() || alternatives.iter().any(Vec::is_empty);
        self.alternatives.as_ref().is_some_and(empty) && self.permissions.is_empty()
    }

    /// Whether both ask for the same, wherever they stand.
    pub(super) fn asks_like(&self, other: &Self) -> bool {
        (&self.alternatives, &self.permissions) == (&other.alternatives, &other.permissions)
    }

    /// What it asks for less than `old` does, as what follows the name of an operation.
    pub(super) fn loss(&self, old: &Self) -> Option<&'static str> {
        if old.is_public() {
            return None;
        }
        if self.is_public() {
            return Some("is public now");
        }
        let has_all = |wanted: &[String], had: &[String]| wanted.iter().all(|word| had.contains(word));
        if !has_all(&old.permissions, &self.permissions) {
            return Some("asks for fewer permissions");
        }
        let (new, old) = match (&self.alternatives, &old.alternatives) {
            (Some(new), Some(old)) => (new, old),
            (None, Some(_)) => return Some("has no `security` any more: nobody would have access"),
            (Some(_), None) => return Some("was open to nobody"),
            (None, None) => return None,
        };
        // Each way in is at least as narrow as one that there was.
        let is_known = |way: &Alternative| {
            let narrows = |old: &Alternative| {
                let has = |(name, scopes): &(String, Vec<String>)| {
                    way.iter().any(|(other, others)| other == name && has_all(scopes, others))
                };
                old.iter().all(has)
            };
            old.iter().any(narrows)
        };
        if new.iter().all(is_known) { None } else { Some("asks for other or fewer schemes or scopes") }
    }

    /// What it comes to.
    ///
    /// # Errors
    /// What of it the gateway cannot enforce.
    pub fn demand(&self, schemes: &Schemes, gateway: &Gateway<'_>) -> Result<Demand, String> {
        let all = || Methods::Any(gateway.methods.to_vec());
        let demand = |requirement, methods, scopes| Ok(Demand { requirement, methods, scopes });
        let Some(alternatives) = &self.alternatives else {
            return demand(Requirement::Nobody, all(), Vec::new());
        };
        if self.is_public() {
            return demand(Requirement::Public, all(), Vec::new());
        }
        let requirement = match self.permissions.as_slice() {
            [] => Requirement::Authenticated,
            words => Requirement::Permissions(words.to_vec()),
        };
        let scopes = |all: &[(String, Vec<String>)]| {
            let mut scopes: Vec<String> = all.iter().flat_map(|(_, scopes)| scopes.clone()).collect();
            scopes.sort_unstable();
            scopes.dedup();
            scopes
        };
        if let [all] = alternatives.as_slice()
            && all.len() > 1
        {
            let mut methods = Vec::new();
            for (name, _) in all {
                methods.extend(schemes.methods(name, gateway)?.into_iter().next());
            }
            // Who has scopes comes first: its method says who the client is.
            methods.sort_by_key(|method| !method.is_token());
            methods.dedup();
            if methods.iter().filter(|method| method.reads_authorization()).count() > 1 {
                return Err("asks for two credentials in one Authorization".to_owned());
            }
            return demand(requirement, Methods::All(methods), scopes(all));
        }
        let (mut methods, mut wanted): (Vec<Method>, Option<Vec<String>>) = (Vec::new(), None);
        for alternative in alternatives {
            let [(name, _)] = alternative.as_slice() else {
                return Err("offers several schemes at once beside others: name one way, or each alone".to_owned());
            };
            let scopes = scopes(alternative);
            if wanted.as_ref().is_some_and(|wanted| *wanted != scopes) {
                return Err("asks for other scopes by one scheme than by another".to_owned());
            }
            wanted = Some(scopes);
            for method in schemes.methods(name, gateway)? {
                if !methods.contains(&method) {
                    methods.push(method);
                }
            }
        }
        let scopes = wanted.unwrap_or_default();
        if !scopes.is_empty() && !methods.iter().all(|method| method.is_token()) {
            return Err("asks for scopes of what has none".to_owned());
        }
        demand(requirement, Methods::Any(methods), scopes)
    }
}
