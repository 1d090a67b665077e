//! Shows `[jwt]` and `[issuer.NAME]` in force.

use serde_json::{Map, Value, json};

use crate::{
    claim::{ClaimCondition, ClaimPath},
    config::value::show_duration,
    settings::jwt::{Issuer, KeySource, Settings},
};

/// `[jwt]`.
pub(super) fn table(jwt: &Settings) -> Value {
    let mut table = jwt.issuers.iter().find(|issuer| issuer.name.is_none()).map_or_else(|| json!({}), issuer);
    if let Some(table) = table.as_object_mut() {
        table.insert("cache".to_owned(), json!(jwt.cache));
    }
    table
}

/// Every `[issuer.NAME]`.
pub(super) fn tables(jwt: &Settings) -> Value {
    let named = jwt.issuers.iter().filter_map(|one| Some((one.name.clone()?, issuer(one))));
    let named: Map<String, Value> = named.collect();
    if named.is_empty() { Value::Null } else { Value::Object(named) }
}

fn issuer(issuer: &Issuer) -> Value {
    let (jwks, secret) = match &issuer.keys {
        KeySource::Jwks(set) => (Some(set.path.display().to_string()), None),
        KeySource::Secret(secret) => (None, Some(secret.path.display().to_string())),
    };
    json!({
        "issuer": issuer.issuer,
        "audience": issuer.audiences,
        "jwks": jwks,
        "secret": secret,
        "leeway": show_duration(issuer.leeway),
        "max_lifetime": issuer.max_lifetime.map(show_duration),
        "type": issuer.typ,
        "audience_claim": issuer.audience_claim.to_string(),
        "subject_claim": issuer.subject_claim.to_string(),
        "roles_claim": issuer.roles_claims.iter().map(ClaimPath::to_string).collect::<Vec<_>>(),
        "roles": issuer.roles,
        "scope_claim": issuer.scope_claim.to_string(),
        "claims": claims(&issuer.claims),
    })
}

/// A table of claims; nothing where it is empty.
pub(super) fn claims(conditions: &[ClaimCondition]) -> Value {
    let claim = |condition: &ClaimCondition| (condition.path.to_string(), json!(condition.any_of));
    let claims: Map<String, Value> = conditions.iter().map(claim).collect();
    if claims.is_empty() { Value::Null } else { Value::Object(claims) }
}
