//! Decides what the connections of a route may become: `route.upgrade`, `route.origins` and `route.outlives_token`.

use toml::de::DeValue;

use super::{
    cors::origin,
    route::NamedUpstream,
    table::Table,
    value::{self, Wrong},
};
use crate::proxy::settings::{Upgrade, cors::Origins, upstream::Protocol};

/// `upstream`: where the route leads, if that is known.
pub(super) fn upgrade(table: &mut Table<'_>, upstream: Option<&NamedUpstream>) -> Option<Upgrade> {
    if let Some(NamedUpstream { settings, .. }) = upstream.filter(|it| it.settings.protocol == Protocol::Http2)
        && table.has("upgrade")
    {
        let wrong = Wrong::new(format!("is for HTTP/1.1, and {:?} is spoken to by HTTP/2", settings.name));
        table.report("upgrade", wrong.hint("write `protocol = \"auto\"` or \"http1\" in the upstream"));
    }
    for key in ["origins", "outlives_token"] {
        if table.has(key) && !table.has("upgrade") {
            let wrong = Wrong::new("says nothing without `upgrade`");
            table.report(key, wrong.hint("write `upgrade = [\"websocket\"]` beside it, or leave it out"));
        }
    }
    let protocols: Vec<String> = table.list("upgrade", protocol).into_iter().map(|(_, protocol)| protocol).collect();
    let origins = Origins::new(table.list("origins", origin).into_iter().map(|(_, origin)| origin).collect());
    let outlives_token = table.or("outlives_token", false, value::boolean);
    (!protocols.is_empty()).then_some(Upgrade { protocols, origins, outlives_token })
}

/// A protocol of HTTP/1.1 connections (RFC 9110 7.8).
fn protocol(value: &DeValue<'_>) -> Result<String, Wrong> {
    let text = value::text(value)?;
    let name = text.to_ascii_lowercase();
    let kind = name.split('/').next().unwrap_or_default();
    if matches!(kind, "h2c" | "h2" | "http" | "tls") {
        let wrong = Wrong::new(format!("{text:?} would carry requests that nothing has checked"));
        return Err(wrong.hint("leave it out: HTTP/2 is chosen by TLS"));
    }
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'/' | b'_' | b'+');
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(Wrong::new(format!("{text:?} is no protocol")).hint("write \"websocket\""));
    }
    Ok(name)
}
