//! Reads `[introspection.NAME]`: servers that are asked about tokens which say nothing by themselves.

use std::time::Duration;

use toml::de::DeValue;

use super::{
    certificate::warn_of_mode,
    issuer::{self, TAKEN},
    outbound,
    roles::no_such,
};
use crate::{
    config::{
        reader::{Keys, Reader},
        table::Table,
        value::{self, form::described, word::simple_name},
    },
    diagnostic::Diagnostic,
    os::file::NamedFile,
    settings::{
        authz,
        claims::ClaimRules,
        introspection::{ClientAuth, Endpoint, IntrospectionBreaker, IntrospectionServer, Proof},
        jwt,
    },
    web::url::Url,
};

/// What only this table has.
const OWN: [(&str, &str); 20] = [
    ("endpoint", "The URL where tokens are asked about (RFC 7662). Without it: the one in the metadata of `issuer`."),
    (
        "issuer",
        "Who makes the tokens. Its metadata names `endpoint`; an answer's `iss`, if there is one, must be this.",
    ),
    ("client_id", "As whom the gateway is known to the server."),
    ("client_auth", "How the gateway proves it."),
    ("client_secret", "The file with the secret of the client, in one line."),
    ("client_key", "The file with the private key that signs assertions (RFC 7523), in PEM: RSA, EC or Ed25519."),
    ("client_key_id", "The `kid` in the header of assertions. Without it: none."),
    ("assertion_audience", "The `aud` of assertions. Without it: `issuer`, or else `endpoint`."),
    ("audience", "What an answer's `aud` must be or contain, one string or several of which one will do."),
    ("any_audience", "`true` in place of `audience`: tokens that were made for others are accepted, too."),
    (
        "token_prefix",
        "How the server's tokens begin. A token is shown to the server with the longest fitting one alone.",
    ),
    ("accept_jwts", "`true`: the server is asked about JWTs, too, but for those of `[jwt]` and `[issuer.NAME]`."),
    ("signed", "`true`: answers must be JWTs (RFC 9701) by the keys of the `[issuer.NAME]` with the same `issuer`."),
    ("cache", "The number of tokens that are remembered, of good ones and of others."),
    (
        "cache_for",
        "How long a token counts as good before it is asked about again: how late a revocation may take effect.",
    ),
    ("cache_inactive_for", "How long a token counts as not good."),
    ("max_concurrent", "The number of questions to the server at once. Over it the answer is 503."),
    ("inactive_per_source", "The number of tokens that are not good that a source may try per minute. Over it: 429."),
    ("fetch", "How the server is asked."),
    ("breaker", "When the server is not asked for a while. Meanwhile only tokens that are remembered are accepted."),
];

/// The keys of `[introspection.NAME]`.
pub(super) const KEYS: Keys = &all_keys();

const fn all_keys() -> [(&'static str, &'static str); OWN.len() + issuer::RULES.len()] {
    let mut keys = [OWN[0]; OWN.len() + issuer::RULES.len()];
    let (own, of_claims) = keys.split_at_mut(OWN.len());
    own.copy_from_slice(&OWN);
    of_claims.copy_from_slice(&issuer::RULES);
    keys
}

/// The keys of `[introspection.NAME.breaker]`.
const BREAKER: Keys = &[
    ("failures", "After so many failures in a row the server is not asked."),
    ("open_for", "For how long. Then one question finds out whether it is well again."),
];

const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Basic,
    Certificate,
    Post,
    PrivateKey,
}

/// The names of RFC 8414 and OpenID Connect.
const KINDS: [(&str, Kind); 4] = [
    ("client_secret_basic", Kind::Basic),
    ("client_secret_post", Kind::Post),
    ("private_key_jwt", Kind::PrivateKey),
    ("tls_client_auth", Kind::Certificate),
];

pub(super) fn read(
    tables: Vec<(String, Table<'_>)>,
    jwt: Option<&jwt::Settings>,
    reader: &Reader<'_>,
) -> Vec<IntrospectionServer> {
    let issuers = jwt.map_or(&[][..], |jwt| &jwt.issuers);
    let mut servers: Vec<IntrospectionServer> = Vec::new();
    for (name, table) in tables {
        let Some(server) = one(&table, name, reader) else {
            table.finish();
            continue;
        };
        judge_name(&server, issuers, reader);
        if let Some(earlier) = servers.iter().find(|earlier| earlier.token_prefix == server.token_prefix) {
            let own = if server.token_prefix.is_empty() { "is missing" } else { "is the same" };
            let wrong =
                Diagnostic::bare(format!("{own} here and in {}: a token is shown to one server alone", earlier.key));
            table.report("token_prefix", wrong.hint("write how the tokens of each server begin"));
        }
        let verifies = issuers.iter().any(|issuer| Some(&issuer.issuer) == server.issuer.as_ref());
        if server.signed && !verifies {
            let wrong = Diagnostic::bare("needs the issuer's keys, and no [issuer.NAME] has the same `issuer`");
            table.report("signed", wrong.hint("add an [issuer.NAME] with `issuer` as here, and its keys"));
        }
        table.finish();
        servers.push(server);
    }
    servers
}

fn judge_name(server: &IntrospectionServer, issuers: &[jwt::Issuer], reader: &Reader<'_>) {
    let IntrospectionServer { key, name, issuer, .. } = server;
    if let Err(wrong) = simple_name(name) {
        reader.report(wrong.at(key));
    }
    if TAKEN.iter().any(|taken| taken.eq_ignore_ascii_case(name)) {
        let wrong = Diagnostic::new(key, format!("{name:?} is how principals begin that no token names"));
        reader.report(wrong.hint("choose another name"));
    }
    let namesake = issuers.iter().find(|issuer| issuer.rules.name.as_ref() == Some(name));
    if namesake.is_some_and(|namesake| Some(&namesake.issuer) != issuer.as_ref()) {
        let wrong = Diagnostic::new(key, format!("principals of [issuer.{name}] begin so, and that is another issuer"));
        reader.report(wrong.hint("choose another name, or write the same `issuer` in both"));
    }
}

/// Where the metadata of an issuer begins.
fn metadata(table: &Table<'_>, issuer: &str) -> Option<Url> {
    let url = Url::parse(issuer).and_then(|url| if issuer.contains('?') { Err("has a query") } else { Ok(url) });
    let wrong = |what| Diagnostic::bare(format!("{issuer:?} {what}, so that it has no metadata"));
    url.map_err(|what| table.report("issuer", wrong(what).hint("write the issuer's URL, or name `endpoint`"))).ok()
}

/// `None`: it is not said where to ask, which was reported.
fn one(table: &Table<'_>, name: String, reader: &Reader<'_>) -> Option<IntrospectionServer> {
    let issuer = table.optional("issuer", value::line);
    let endpoint = table.optional("endpoint", described("URL", outbound::url));
    let (key, url) = match (table.has("endpoint"), &issuer) {
        (true, _) => ("endpoint", endpoint.clone()),
        (false, Some(issuer)) => ("issuer", metadata(table, issuer)),
        (false, None) => {
            let wrong = Diagnostic::bare("is missing, and no `issuer` says where to ask");
            let hint = "write, for example, `endpoint = \"https://issuer.example/introspect\"`";
            table.report("endpoint", wrong.hint(hint));
            ("endpoint", None)
        }
    };
    let fetch = table.table("fetch", outbound::KEYS);
    let outbound = outbound::read(&fetch, url.as_ref(), reader);
    fetch.finish();
    if let Some(Err(wrong)) = url.as_ref().map(|url| outbound::judge(url, &outbound, "fetch.")) {
        table.report(key, wrong);
    }
    let client = client(table, issuer.as_deref(), endpoint.as_ref(), outbound.tls.certificate.is_some(), reader);
    let audiences = audiences(table);
    let rules = ClaimRules { name: Some(name.clone()), audiences, needs_expiry: false, ..issuer::rules(table, reader) };
    let token_prefix = table.optional("token_prefix", described("string", token_prefix)).unwrap_or_default();
    let accepts_jwts = table.or("accept_jwts", false, value::boolean());
    let signed = table.or("signed", false, value::boolean());
    let cache = table.or("cache", 10_000, value::count(1..=10_000_000));
    let cache_for = table.or("cache_for", 30 * SECOND, value::duration_in(Duration::ZERO..=3_600 * SECOND));
    let short = value::duration_in(Duration::ZERO..=600 * SECOND);
    let cache_inactive_for = table.or("cache_inactive_for", 10 * SECOND, short);
    let max_concurrent = table.or("max_concurrent", 32, value::count(1..=1_000));
    let inactive_per_source = table.or("inactive_per_source", 30, value::integer(1..=1_000_000));
    let inner = table.table("breaker", BREAKER);
    let breaker = breaker(&inner);
    inner.finish();
    Some(IntrospectionServer {
        key: table.own_key().to_owned(),
        name,
        issuer,
        endpoint: endpoint.map(Endpoint::At).or(url.map(Endpoint::Discovered))?,
        outbound,
        client,
        token_prefix,
        accepts_jwts,
        signed,
        cache,
        cache_for,
        cache_inactive_for,
        max_concurrent,
        inactive_per_source,
        breaker,
        rules,
    })
}

fn breaker(table: &Table<'_>) -> IntrospectionBreaker {
    IntrospectionBreaker {
        failures: table.or("failures", 5, value::integer(1..=1_000)),
        open_for: table.or("open_for", 10 * SECOND, value::duration_in(SECOND..=600 * SECOND)),
    }
}

/// For whom tokens have to be; `None`: for anybody, where that is said.
fn audiences(table: &Table<'_>) -> Option<Vec<String>> {
    let any = table.or("any_audience", false, value::boolean());
    let audiences = table.optional("audience", issuer::audiences());
    if any && table.has("audience") {
        let wrong = Diagnostic::bare("has no effect beside `any_audience`");
        table.report("audience", wrong.hint("leave one of them out"));
    }
    if !any && !table.has("audience") {
        let wrong = Diagnostic::bare("is missing: tokens that were made for others would be accepted");
        table.report(
            "audience",
            wrong.hint("write `audience = \"api\"`, or `any_audience = true` if answers have no `aud`"),
        );
    }
    if any { None } else { Some(audiences.unwrap_or_default()) }
}

/// As whom the gateway asks. A key that the chosen way does not use is a fault: it would seem to be in use.
fn client(
    table: &Table<'_>,
    issuer: Option<&str>,
    endpoint: Option<&Url>,
    has_certificate: bool,
    reader: &Reader<'_>,
) -> ClientAuth {
    let id = table.required("client_id", "\"gateway\"", value::line).unwrap_or_default();
    let kind = table.or("client_auth", Kind::Basic, value::choice(&KINDS));
    let secret = table.file("client_secret");
    let key = table.file("client_key");
    let key_id = table.optional("client_key_id", value::line);
    let audience = table.optional("assertion_audience", value::line);
    let (uses, example) = match kind {
        Kind::Basic | Kind::Post => (&["client_secret"][..], "client_secret = \"introspection.secret\""),
        Kind::PrivateKey => (&["client_key", "client_key_id", "assertion_audience"][..], "client_key = \"client.key\""),
        Kind::Certificate => (&["fetch"][..], "fetch = { certificate = \"client.crt\", private_key = \"client.key\" }"),
    };
    let name = KINDS.iter().find(|(_, known)| *known == kind).map_or("", |(name, _)| *name);
    for other in ["client_secret", "client_key", "client_key_id", "assertion_audience"] {
        if table.has(other) && !uses.contains(&other) {
            let wrong = Diagnostic::bare(format!("has no effect with client_auth = {name:?}"));
            table.report(other, wrong.hint("leave it out, or choose the `client_auth` that uses it"));
        }
    }
    let needed = uses.first().copied().unwrap_or_default();
    let is_there = if kind == Kind::Certificate { has_certificate } else { table.has(needed) };
    if !is_there {
        let what = if kind == Kind::Certificate { "has no certificate" } else { "is missing" };
        let wrong = Diagnostic::bare(format!("{what}, and client_auth = {name:?} needs it"));
        table.report(needed, wrong.hint(format!("write, for example, `{example}`")));
    }
    for (key, file) in [("client_secret", &secret), ("client_key", &key)] {
        if let Some(file) = file {
            warn_of_mode(file, table.key(key), reader);
        }
    }
    let none = || NamedFile { path: std::path::PathBuf::new(), bytes: std::sync::Arc::default() };
    let proof = match kind {
        Kind::Basic => Proof::SecretInHeader(secret.unwrap_or_else(none)),
        Kind::Post => Proof::SecretInBody(secret.unwrap_or_else(none)),
        Kind::Certificate => Proof::Certificate,
        Kind::PrivateKey => {
            let usual = issuer.map(ToOwned::to_owned).or_else(|| endpoint.map(Url::to_string));
            let audience = audience.or(usual).unwrap_or_default();
            Proof::PrivateKey { key: key.unwrap_or_else(none), id: key_id, audience }
        }
    };
    ClientAuth { id, proof }
}

fn token_prefix(value: &DeValue<'_>) -> Result<String, Diagnostic> {
    let text = value::line(value)?;
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
    if text.bytes().all(fine) {
        return Ok(text);
    }
    Err(Diagnostic::bare(format!("{text:?} is not how a token can begin")).hint("letters, digits and \"-._~+/\""))
}

/// Reports roles that are not there, and warns where a server can name the roles of others' clients.
pub(super) fn judge_roles(
    servers: &[IntrospectionServer],
    issuers: usize,
    roles: &authz::Settings,
    reader: &Reader<'_>,
) {
    for server in servers {
        let named = &server.rules.roles;
        for (index, role) in named.iter().flatten().enumerate().filter(|(_, role)| !roles.contains_key(*role)) {
            reader.report(no_such(role, roles).at(format!("{}.roles[{index}]", server.key)));
        }
        for mapping in &server.rules.role_map {
            for role in mapping.roles.iter().filter(|role| !roles.contains_key(*role)) {
                reader.report(no_such(role, roles).at(format!("{}.role_map.{:?}", server.key, mapping.from.text())));
            }
        }
        if named.is_none() && servers.len() + issuers > 1 {
            let warning =
                Diagnostic::new(&server.key, "its tokens may name every role, those meant for other issuers too");
            reader.warn(warning.hint("list those of its clients: roles = [\"reader\"]"));
        }
    }
}
