//! Shows `[jwt]`, `[issuer.NAME]` and `[api_keys]` in force.

use serde_json::{Map, Value, json};

use super::tls::{file, outbound};
use crate::{
    config::value::show_duration,
    identity::claim::{ClaimCondition, ClaimPath},
    settings::{
        api_keys,
        claims::ClaimRules,
        internal_token::Settings as InternalToken,
        jwt::{self, Issuer, KeyFetch, KeySource},
    },
};

/// `[api_keys]`.
pub(super) fn api_keys(keys: &api_keys::Settings) -> Value {
    let pepper = keys.pepper.as_ref().map(|file| file.path.display().to_string());
    json!({ "header": keys.header.as_str(), "prefix": keys.prefix, "pepper_file": pepper })
}

/// `[jwt]`.
pub(super) fn table(jwt: &jwt::Settings) -> Value {
    let mut table = jwt.issuers.iter().find(|issuer| issuer.rules.name.is_none()).map_or_else(|| json!({}), issuer);
    if let Some(table) = table.as_object_mut() {
        table.insert("cache".to_owned(), json!(jwt.cache));
    }
    table
}

/// Every `[issuer.NAME]`.
pub(super) fn tables(jwt: &jwt::Settings) -> Value {
    let named = jwt.issuers.iter().filter_map(|one| Some((one.rules.name.clone()?, issuer(one))));
    let named: Map<String, Value> = named.collect();
    if named.is_empty() { Value::Null } else { Value::Object(named) }
}

fn issuer(issuer: &Issuer) -> Value {
    let (mut jwks, mut secret, mut url, mut discovery) = (None, None, None, None);
    match &issuer.keys {
        KeySource::Discovery(_) => discovery = Some(true),
        KeySource::Jwks(set) => jwks = Some(set.path.display().to_string()),
        KeySource::Secret(file) => secret = Some(file.path.display().to_string()),
        KeySource::Url(fetch) => url = Some(fetch.url.to_string()),
    }
    let mut table = json!({
        "issuer": issuer.issuer,
        "jwks": jwks,
        "jwks_url": url,
        "discovery": discovery,
        "fetch": issuer.keys.fetch().map(fetch),
        "secret": secret,
        "type": issuer.typ,
    });
    add_rules(&mut table, &issuer.rules);
    table
}

/// What of claims counts.
pub(super) fn add_rules(table: &mut Value, rules: &ClaimRules) {
    let Some(table) = table.as_object_mut() else { return };
    let shown = [
        ("audience", json!(rules.audiences)),
        ("leeway", json!(show_duration(rules.leeway))),
        ("max_lifetime", json!(rules.max_lifetime.map(show_duration))),
        ("audience_claim", json!(rules.audience_claim.to_string())),
        ("subject_claim", json!(rules.subject_claim.to_string())),
        ("roles_claim", json!(rules.roles_claims.iter().map(ClaimPath::to_string).collect::<Vec<_>>())),
        ("roles", json!(rules.roles)),
        ("role_map", role_map(rules)),
        ("scope_claim", json!(rules.scope_claim.to_string())),
        ("claims", claims(&rules.claims)),
        ("certificate_bound", json!(rules.certificate_bound)),
    ];
    table.extend(shown.map(|(key, value)| (key.to_owned(), value)));
}

/// `[internal_token]`.
pub(super) fn internal(token: &InternalToken) -> Value {
    json!({
        "issuer": token.issuer,
        "audience": token.audience,
        "private_key": file(&token.private_key),
        "former_keys": token.former_keys.iter().map(file).collect::<Vec<_>>(),
        "lifetime": show_duration(token.lifetime),
        "header": token.header.as_str(),
        "claims": token.claims.iter().map(ClaimPath::to_string).collect::<Vec<_>>(),
        "jwks_path": token.jwks_path,
        "cache": token.cache,
    })
}

fn fetch(fetch: &KeyFetch) -> Value {
    let KeyFetch { server, wait, refresh, cooldown, stale_for, .. } = fetch;
    let mut shown = outbound(server);
    if let Some(table) = shown.as_object_mut() {
        for (name, time) in [("wait", wait), ("refresh", refresh), ("cooldown", cooldown), ("stale_for", stale_for)] {
            table.insert(name.to_owned(), show_duration(*time).into());
        }
    }
    shown
}

/// What gives roles besides being named as one; nothing where there is none.
fn role_map(rules: &ClaimRules) -> Value {
    let shown: Map<String, Value> =
        rules.role_map.iter().map(|mapping| (mapping.from.text(), json!(mapping.roles))).collect();
    if shown.is_empty() { Value::Null } else { Value::Object(shown) }
}

/// A table of claims; nothing where it is empty.
pub(super) fn claims(conditions: &[ClaimCondition]) -> Value {
    let claim = |condition: &ClaimCondition| (condition.path.to_string(), json!(condition.any_of));
    let claims: Map<String, Value> = conditions.iter().map(claim).collect();
    if claims.is_empty() { Value::Null } else { Value::Object(claims) }
}
