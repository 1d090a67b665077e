//! Shows `[introspection.NAME]` in force.

use serde_json::{Map, Value, json};

use super::{tls::outbound, tokens::add_rules};
use crate::{
    config::value::show_duration,
    os::file::NamedFile,
    settings::introspection::{Endpoint, IntrospectionServer, Proof},
};

/// Every `[introspection.NAME]`.
pub(super) fn tables(servers: &[IntrospectionServer]) -> Value {
    let tables: Map<String, Value> = servers.iter().map(|one| (one.name.clone(), server(one))).collect();
    if tables.is_empty() { Value::Null } else { Value::Object(tables) }
}

fn server(server: &IntrospectionServer) -> Value {
    let endpoint = match &server.endpoint {
        Endpoint::At(url) => Some(url.to_string()),
        Endpoint::Discovered(_) => None,
    };
    let mut table = json!({
        "issuer": server.issuer,
        "endpoint": endpoint,
        "client_id": server.client.id,
        "token_prefix": (!server.token_prefix.is_empty()).then_some(&server.token_prefix),
        "accept_jwts": server.accepts_jwts,
        "signed": server.signed,
        "any_audience": server.rules.audiences.is_none(),
        "cache": server.cache,
        "cache_for": show_duration(server.cache_for),
        "cache_inactive_for": show_duration(server.cache_inactive_for),
        "max_concurrent": server.max_concurrent,
        "inactive_per_source": server.inactive_per_source,
        "fetch": outbound(&server.outbound),
        "breaker": {
            "failures": server.breaker.failures,
            "open_for": show_duration(server.breaker.open_for),
        },
    });
    add_proof(&mut table, &server.client.proof);
    add_rules(&mut table, &server.rules);
    table
}

fn add_proof(table: &mut Value, proof: &Proof) {
    let path = |file: &NamedFile| file.path.display().to_string();
    let shown = match proof {
        Proof::Certificate => json!({ "client_auth": "tls_client_auth" }),
        Proof::SecretInHeader(file) => json!({ "client_auth": "client_secret_basic", "client_secret": path(file) }),
        Proof::SecretInBody(file) => json!({ "client_auth": "client_secret_post", "client_secret": path(file) }),
        Proof::PrivateKey { key, id, audience } => json!({
            "client_auth": "private_key_jwt",
            "client_key": path(key),
            "client_key_id": id,
            "assertion_audience": audience,
        }),
    };
    extend(table, shown);
}

fn extend(table: &mut Value, more: Value) {
    if let (Some(table), Value::Object(more)) = (table.as_object_mut(), more) {
        table.extend(more);
    }
}
