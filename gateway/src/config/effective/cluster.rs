//! Shows `[cluster]`.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde_json::{Value, json};

use super::tls::{client, file};
use crate::{
    config::value::show_duration,
    settings::cluster::{self, StoreMode},
};

pub(super) fn cluster(settings: &cluster::Settings) -> Value {
    let store = &settings.store;
    let nodes = settings.nodes.iter().map(|node| (&node.name, format!("ed25519:{}", BASE64.encode(&node.key))));
    json!({
        "node": settings.node,
        "key_file": settings.key_file,
        "secret_file": file(&settings.secret),
        "nodes": nodes.collect::<BTreeMap<_, _>>(),
        "bans": settings.bans,
        "revocations": settings.revocations,
        "api_keys": settings.api_keys,
        "ticket_keys": settings.ticket_keys,
        "revocation_stale": settings.revocation_stale.name(),
        "revocation_stale_after": show_duration(settings.revocation_stale_after),
        "store": {
            "servers": store.servers,
            "mode": store.mode.name(),
            "primary": match &store.mode {
                StoreMode::Sentinel(primary) => Some(primary),
                StoreMode::Cluster | StoreMode::Standalone => None,
            },
            "user": store.user,
            "password_file": store.password.as_ref().map(file),
            "sentinel_password_file": store.sentinel_password.as_ref().map(file),
            "tls": store.tls.as_ref().map(client),
            "prefix": store.prefix,
            "timeout": show_duration(store.timeout),
        },
    })
}
