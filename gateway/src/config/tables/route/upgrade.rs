//! Reads what the connections of a route may become: `route.upgrade`, `origins`, `websocket_token` and
//! `outlives_token`.

use toml::de::DeValue;

use crate::{
    config::{
        table::Table,
        tables::upstream::NamedUpstream,
        value::{self, address::origin},
    },
    diagnostic::Diagnostic,
    settings::{
        auth::Methods,
        authz::Requirement,
        cors::Origins,
        route::{TokenSource, Upgrade},
        upstream::Protocol,
    },
};

/// `upstream`: where the route leads, if that is known.
pub(super) fn read(
    table: &Table<'_>,
    upstream: Option<&NamedUpstream>,
    require: &Requirement,
    authenticate: &Methods,
    has_jwt: bool,
) -> Option<Upgrade> {
    if let Some(NamedUpstream { settings, .. }) = upstream.filter(|it| it.settings.protocol == Protocol::Http2)
        && table.has("upgrade")
    {
        let wrong = Diagnostic::bare(format!("needs HTTP/1.1, but the upstream {:?} uses HTTP/2", settings.name));
        table.report("upgrade", wrong.hint("write `protocol = \"auto\"` or \"http1\" in the upstream"));
    }
    for key in ["origins", "outlives_token", "websocket_token"] {
        if table.has(key) && !table.has("upgrade") {
            let wrong = Diagnostic::bare("has no effect without `upgrade`");
            table.report(key, wrong.hint("write `upgrade = [\"websocket\"]` beside it, or leave it out"));
        }
    }
    let protocols: Vec<String> = table.list("upgrade", protocol).into_iter().map(|(_, protocol)| protocol).collect();
    let origins = Origins::new(table.list("origins", origin).into_iter().map(|(_, origin)| origin).collect());
    let outlives_token = table.or("outlives_token", false, value::boolean());
    let tokens: Vec<TokenSource> =
        table.list("websocket_token", token_source).into_iter().map(|(_, source)| source).collect();
    let wrong = |what: &str, hint: &str| table.report("websocket_token", Diagnostic::bare(what).hint(hint));
    let is_cookie = |source: &&TokenSource| matches!(source, TokenSource::Cookie(_));
    let accepts_tokens = authenticate.listed().iter().any(|method| method.is_token());
    let cookies = tokens.iter().filter(is_cookie).count();
    if tokens.is_empty() || protocols.is_empty() {
    } else if !protocols.iter().any(|protocol| protocol == "websocket") {
        wrong("has no effect without WebSockets", "write `upgrade = [\"websocket\"]`, or leave it out");
    } else if matches!(require, Requirement::Public | Requirement::Certificate) || has_jwt && !accepts_tokens {
        wrong(
            "has no effect on a route that requires no token",
            "leave it out, or write require = [\"authenticated\"]",
        );
    } else if !has_jwt {
        wrong("has no effect without [jwt]", "add a [jwt] table, or leave it out");
    } else if cookies > 1 || tokens.len() - cookies > 1 {
        wrong("names the same kind of place twice", "write \"protocol\", one \"cookie:NAME\", or both");
    } else if cookies > 0 && origins.is_empty() {
        let hint = "write `origins = [\"https://app.example.com\"]` beside it";
        wrong("takes a cookie from pages of any origin", hint);
    }
    (!protocols.is_empty()).then_some(Upgrade { protocols, origins, outlives_token, tokens })
}

/// Where a token may be: `protocol`, or `cookie:` and the cookie's name (RFC 6265 4.1.1).
fn token_source(value: &DeValue<'_>) -> Result<TokenSource, Diagnostic> {
    let text = value::text(value)?;
    if text == "protocol" {
        return Ok(TokenSource::Protocol);
    }
    let wrong = || Diagnostic::bare(format!("{text:?} is not a place for a token"));
    if matches!(text, "query" | "header") || text.starts_with("query:") {
        let why = if text == "header" { "`Authorization` always counts" } else { "what is in a URL ends up in logs" };
        return Err(wrong().hint(format!("{why}: write \"protocol\" or \"cookie:NAME\"")));
    }
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let name = text.strip_prefix("cookie:").filter(|name| !name.is_empty() && name.bytes().all(is_of_name));
    name.map(|name| TokenSource::Cookie(name.to_owned()))
        .ok_or_else(|| wrong().hint("write \"protocol\", or \"cookie:\" and its name: \"cookie:__Host-session\""))
}

/// A protocol of HTTP/1.1 connections (RFC 9110 7.8).
fn protocol(value: &DeValue<'_>) -> Result<String, Diagnostic> {
    let text = value::text(value)?;
    let name = text.to_ascii_lowercase();
    let kind = name.split('/').next().unwrap_or_default();
    if matches!(kind, "h2c" | "h2" | "http" | "tls") {
        let wrong = Diagnostic::bare(format!("{text:?} would carry requests that the gateway cannot check"));
        return Err(wrong.hint("leave it out: HTTP/2 is chosen by TLS"));
    }
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'/' | b'_' | b'+');
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(Diagnostic::bare(format!("{text:?} is not a protocol")).hint("write \"websocket\""));
    }
    Ok(name)
}
