//! Reads `[issuer.NAME]`, and the same keys in `[jwt]`: whose tokens are accepted, and what of them is believed.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use toml::de::DeValue;

use super::{outbound, roles::no_such};
use crate::{
    config::{
        reader::{Keys, Reader},
        table::{Table, values},
        value::{
            self,
            form::{Form, described},
            kind,
            word::simple_name,
        },
    },
    diagnostic::Diagnostic,
    identity::claim::{ClaimCondition, ClaimPath},
    os::file::NamedFile,
    settings::{
        authz,
        claims::{ClaimRules, RoleMapping, RoleSource},
        jwt::{Issuer, KeyFetch, KeySource},
    },
    web::url::Url,
};

/// The keys of `[issuer.NAME]`.
pub(super) const KEYS: Keys = &[
    ("issuer", "What a token's `iss` must be, byte for byte. Each issuer has another."),
    ("audience", "What a token's `aud` must be or contain, one string or several of which one will do."),
    ("jwks", "The file with the public keys (JWKS), for RS, PS, ES and EdDSA. Every issuer has one of these four."),
    ("jwks_url", "Where the public keys are fetched."),
    ("discovery", "Whether the issuer's metadata says where its public keys are: `/.well-known/openid-configuration`."),
    ("secret", "The file with the secret that is shared with the issuer, for HS256 (32 bytes), HS384 and HS512."),
    ("fetch", "How keys are fetched, for `jwks_url` and `discovery`."),
    RULES[0],
    RULES[1],
    RULES[2],
    (
        "type",
        "What the token header's `typ` must be. Without it: any but those of tokens for something else, as `logout+jwt`.",
    ),
    RULES[3],
    RULES[4],
    RULES[5],
    RULES[6],
    RULES[7],
    RULES[8],
    RULES[9],
    RULES[10],
];

/// The keys that say what of claims counts, wherever they come from.
pub(super) const RULES: [(&str, &str); 11] = [
    ("provider", "Which product it is: the defaults of the keys for claims, below."),
    ("leeway", "How far the issuer's clock may be off."),
    ("max_lifetime", "The longest lifetime of a token. Without it: any."),
    ("audience_claim", "The claim that is the audience."),
    ("subject_claim", "The claim that names the client."),
    ("roles_claim", "The claims that name the client's roles, by path: `realm_access.roles`. One string or several."),
    ("roles", "Of the roles that its tokens name, only these count. Without it: all."),
    ("role_map", "What else gives roles: `{ \"group:admins\" = \"admin\", \"scope:items.write\" = [\"editor\"] }`."),
    ("scope_claim", "The claim that names what the token may be used for, by path."),
    ("certificate_bound", "`true`: every token must be bound to the client's certificate (RFC 8705)."),
    ("claims", "What tokens must say, by path: `{ email_verified = true, tenant = [\"a\", \"b\"] }`."),
];

/// The keys of `[issuer.NAME.fetch]`.
const FETCH: Keys = &outbound::with::<4, 10>(&[
    ("wait", "How long a request waits for keys at most. Then it is answered 503."),
    ("refresh", "The longest time between two fetches. The server's `Cache-Control` can make it shorter."),
    ("cooldown", "The shortest time between two fetches, whatever tokens come."),
    (
        "stale_for",
        "How long the last good keys are used when the issuer cannot be reached. Then tokens are answered 503.",
    ),
]);

/// What stands for the keys of a table of claims, which are the operator's own.
pub(super) const CLAIMS: Keys = &[("CLAIM", "What the claim must be: a value, or several of which one will do.")];

/// What stands for the keys of a map of roles, which are the operator's own.
const ROLE_MAP: Keys =
    &[("FROM", "The roles that `FROM` gives: `group:NAME` (a name in `roles_claim`), `scope:NAME` or `subject:NAME`.")];

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// Where a product's tokens say what.
#[derive(Clone, Copy, PartialEq)]
struct Provider {
    audience: &'static str,
    roles: &'static [&'static str],
    scope: &'static str,
    /// What tells its access tokens from others that it signs.
    claim: Option<(&'static str, &'static str)>,
}

const PLAIN: Provider = Provider { audience: "aud", roles: &["roles"], scope: "scope", claim: None };

const PROVIDERS: [(&str, Provider); 5] = [
    ("keycloak", Provider { roles: &["realm_access", "roles"], claim: Some(("typ", "Bearer")), ..PLAIN }),
    ("auth0", Provider { roles: &["permissions"], ..PLAIN }),
    ("entra", Provider { scope: "scp", ..PLAIN }),
    ("okta", Provider { roles: &["groups"], scope: "scp", ..PLAIN }),
    (
        "cognito",
        Provider { audience: "client_id", roles: &["cognito:groups"], claim: Some(("token_use", "access")), ..PLAIN },
    ),
];

/// Names that stand for other kinds of principals.
pub(super) const TAKEN: [&str; 3] = ["basic", "cert", "key"];

pub(super) fn read(tables: Vec<(String, Table<'_>)>, reader: &Reader<'_>) -> Vec<Issuer> {
    let mut issuers = Vec::new();
    for (name, table) in tables {
        if let Err(wrong) = simple_name(&name) {
            reader.report(wrong.at(table.own_key()));
        }
        if TAKEN.iter().any(|taken| taken.eq_ignore_ascii_case(&name)) {
            let wrong = Diagnostic::bare(format!("{name:?} is how principals begin that no token names"));
            reader.report(wrong.hint("choose another name").at(table.own_key()));
        }
        issuers.push(one(&table, Some(name), reader));
        table.finish();
    }
    issuers
}

/// Reports roles that are not there, and warns where one issuer can name the roles of another's clients.
pub(super) fn judge_roles(issuers: &[Issuer], roles: &authz::Settings, reader: &Reader<'_>) {
    for issuer in issuers {
        let named = &issuer.rules.roles;
        for (index, role) in named.iter().flatten().enumerate().filter(|(_, role)| !roles.contains_key(*role)) {
            reader.report(no_such(role, roles).at(format!("{}.roles[{index}]", issuer.key)));
        }
        for mapping in &issuer.rules.role_map {
            for role in mapping.roles.iter().filter(|role| !roles.contains_key(*role)) {
                reader.report(no_such(role, roles).at(format!("{}.role_map.{:?}", issuer.key, mapping.from.text())));
            }
        }
        if named.is_none() && issuers.len() > 1 {
            let warning =
                Diagnostic::new(&issuer.key, "its tokens may name every role, those meant for other issuers too");
            reader.warn(warning.hint("list those of its clients: roles = [\"reader\"]"));
        }
    }
}

/// Reports issuers whose tokens have to be bound to certificates that nobody is asked for.
pub(super) fn judge_binding(issuers: &[Issuer], has_certificates: bool, reader: &Reader<'_>) {
    for issuer in issuers.iter().filter(|issuer| issuer.rules.certificate_bound && !has_certificates) {
        let key = format!("{}.certificate_bound", issuer.key);
        let wrong = Diagnostic::new(key, "cannot be met: there is no [client_certificates.NAME]");
        reader.report(wrong.hint("add one with `ca` and `hosts`, so that clients are asked for certificates"));
    }
}

/// Reports issuers that no token could tell apart.
pub(super) fn tell_apart(issuers: &[Issuer], reader: &Reader<'_>) {
    for (index, issuer) in issuers.iter().enumerate() {
        if let Some(earlier) = issuers.iter().take(index).find(|earlier| earlier.issuer == issuer.issuer) {
            let wrong = Diagnostic::new(format!("{}.issuer", issuer.key), format!("is that of {}, too", earlier.key));
            reader.report(wrong.hint("put both into one table: `audience` may list several"));
        }
    }
}

/// The issuer that a table describes; `name`: `NAME` of `[issuer.NAME]`.
pub(super) fn one(table: &Table<'_>, name: Option<String>, reader: &Reader<'_>) -> Issuer {
    let issuer = table.required("issuer", "\"https://issuer.example\"", value::line);
    let audiences = table.required("audience", "\"api\"", audiences());
    let keys = keys(table, issuer.as_deref(), reader);
    let typ = table.optional("type", value::line);
    let rules = ClaimRules { name, audiences: Some(audiences.unwrap_or_default()), ..rules(table, reader) };
    // Only a configuration with a fault lacks the others, and it is refused in the end.
    Issuer { key: table.own_key().to_owned(), issuer: issuer.unwrap_or_default(), keys, typ, rules }
}

/// What gives roles besides being named as one.
fn role_map(table: Table<'_>, reader: &Reader<'_>) -> Vec<RoleMapping> {
    let mut read = Vec::new();
    for (key, name, roles) in table.named_values(described("name of a role, or array of them", strings)) {
        let from = RoleSource::parse(&name).ok_or_else(|| {
            let wrong = Diagnostic::bare(format!("{name:?} is nothing that gives roles"));
            wrong.hint("write \"group:NAME\" for a name in `roles_claim`, \"scope:NAME\" or \"subject:NAME\"")
        });
        match from.and_then(|from| Ok(RoleMapping { from, roles: roles? })) {
            Ok(mapping) => read.push(mapping),
            Err(wrong) => reader.report(wrong.at(key)),
        }
    }
    read
}

/// For whom tokens are: one string or several.
pub(super) fn audiences() -> impl Form<Vec<String>> {
    described("string, or array of strings", strings)
}

/// What of claims counts, but for the name and the audiences.
pub(super) fn rules(table: &Table<'_>, reader: &Reader<'_>) -> ClaimRules {
    let provider = table.optional("provider", value::choice(&PROVIDERS)).unwrap_or(PLAIN);
    let leeway = table.or("leeway", 30 * SECOND, value::duration_in(Duration::ZERO..=600 * SECOND));
    let max_lifetime = table.optional("max_lifetime", value::duration_in(SECOND..=365 * DAY));
    let path = |key, default| {
        let form = described("path of a claim", |value| claim_path(&value::line(value)?));
        table.or(key, ClaimPath::of(&[default]), form.written(quoted))
    };
    let audience_claim = path("audience_claim", provider.audience);
    let subject_claim = path("subject_claim", "sub");
    let paths = |value: &DeValue<'_>| strings(value)?.iter().map(|text| claim_path(text)).collect::<Result<_, _>>();
    let paths = described("path of a claim, or array of them", paths);
    let paths = paths.written(|paths: &Vec<ClaimPath>| paths.iter().map(quoted).collect());
    let roles_claims = table.or("roles_claim", vec![ClaimPath::of(provider.roles)], paths);
    let roles = table.has("roles").then_some(table.list("roles", described("name of a role", value::line)));
    let role_map = role_map(table.table("role_map", ROLE_MAP), reader);
    let scope_claim = path("scope_claim", provider.scope);
    let certificate_bound = table.or("certificate_bound", false, value::boolean());
    let mut claims = conditions(table.table("claims", CLAIMS), reader);
    if let Some((claim, value)) = provider.claim {
        let path = ClaimPath::of(&[claim]);
        if !claims.iter().any(|claim| claim.path == path) {
            claims.push(ClaimCondition { path, any_of: [Value::from(value)].into() });
        }
    }
    ClaimRules {
        name: None,
        audiences: None,
        audience_claim,
        needs_expiry: true,
        leeway,
        max_lifetime,
        subject_claim,
        roles_claims,
        roles: roles.map(values),
        role_map,
        scope_claim,
        claims,
        certificate_bound,
    }
}

/// What its tokens are verified by: one of four.
fn keys(table: &Table<'_>, issuer: Option<&str>, reader: &Reader<'_>) -> KeySource {
    let (secret, url) = (table.file("secret"), table.optional("jwks_url", described("URL", outbound::url)));
    let discovery = table.or("discovery", false, value::boolean());
    let is_fetched = table.has("jwks_url") || discovery;
    if table.has("secret") && (table.has("jwks") || is_fetched) {
        let other = ["jwks", "jwks_url"].into_iter().find(|key| table.has(key)).unwrap_or("discovery");
        let wrong =
            Diagnostic::bare(format!("cannot be beside `{other}`: whoever knows a public key could sign by it"));
        table.report("secret", wrong.hint("give each its own issuer"));
    }
    let others = [("jwks", table.has("jwks")), ("jwks_url", table.has("jwks_url")), ("discovery", discovery)];
    let others: Vec<&str> = others.iter().filter(|(_, has)| *has).map(|(key, _)| *key).collect();
    if let [first, second, ..] = others.as_slice() {
        let wrong = Diagnostic::bare(format!("is beside `{first}`, and keys come from one place"));
        table.report(second, wrong.hint(format!("leave `{first}` or `{second}` out")));
    }
    let place = if discovery { discovered(table, issuer) } else { url };
    let fetch = fetch(table, is_fetched, place, reader).map(Box::new);
    match (secret, fetch) {
        (Some(file), _) => {
            table.file("jwks");
            KeySource::Secret(file)
        }
        (None, Some(fetch)) if is_fetched => {
            table.file("jwks");
            if discovery { KeySource::Discovery(fetch) } else { KeySource::Url(fetch) }
        }
        // What is wrong with the URL was reported.
        (None, None) if is_fetched => KeySource::Jwks(NamedFile { path: "".into(), bytes: Arc::default() }),
        (None, _) => KeySource::Jwks(table.required_file("jwks", "\"jwks.json\"")),
    }
}

/// Where the metadata of the issuer begins.
fn discovered(table: &Table<'_>, issuer: Option<&str>) -> Option<Url> {
    let issuer = issuer?;
    let wrong = |what: &str| {
        let wrong = Diagnostic::bare(format!("{issuer:?} {what}, so that it has no metadata"));
        table.report("issuer", wrong.hint("write the issuer's URL, or name its keys by `jwks_url` or `jwks`"));
    };
    if issuer.contains('?') {
        wrong("has a query");
        return None;
    }
    Url::parse(issuer).map_err(wrong).ok()
}

/// How keys are fetched from `url`.
fn fetch(table: &Table<'_>, is_fetched: bool, url: Option<Url>, reader: &Reader<'_>) -> Option<KeyFetch> {
    let inner = table.table("fetch", FETCH);
    if inner.is_present() && !is_fetched && !reader.is_reference() {
        let wrong = Diagnostic::bare("has no effect: no keys are fetched");
        table.report("fetch", wrong.hint("write `jwks_url = \"https://...\"` or `discovery = true`"));
    }
    // Nothing is read of the system for an issuer whose keys are in a file.
    if !is_fetched && !inner.is_present() && !reader.is_reference() {
        return None;
    }
    let server = outbound::read(&inner, url.as_ref(), reader);
    let minute = 60 * SECOND;
    let wait = inner.or("wait", 2 * SECOND, value::duration_in(Duration::ZERO..=30 * SECOND));
    let refresh = inner.or("refresh", 15 * minute, value::duration_in(minute..=DAY));
    let cooldown = inner.or("cooldown", 10 * SECOND, value::duration_in(SECOND..=10 * minute));
    let stale_for = inner.or("stale_for", DAY, value::duration_in(minute..=30 * DAY));
    if let Some(url) = &url
        && let Err(wrong) = outbound::judge(url, &server, "fetch.")
    {
        table.report(if table.has("jwks_url") { "jwks_url" } else { "issuer" }, wrong);
    }
    if stale_for < refresh {
        let wrong = Diagnostic::bare("is shorter than `refresh`: keys would end between two fetches");
        inner.report("stale_for", wrong.hint("write at least several times `refresh`"));
    }
    inner.finish();
    url.map(|url| KeyFetch { url, server, wait, refresh, cooldown, stale_for })
}

fn quoted(path: &ClaimPath) -> String {
    format!("{:?}", path.to_string())
}

pub(super) fn claim_path(text: &str) -> Result<ClaimPath, Diagnostic> {
    let wrong = || {
        Diagnostic::bare(format!("{text:?} is no path of a claim"))
            .hint(r"write names with dots between, as in `realm_access.roles`; `\\.` is a dot within a name")
    };
    ClaimPath::parse(text).ok_or_else(wrong)
}

/// One string, or several.
pub(super) fn strings(value: &DeValue<'_>) -> Result<Vec<String>, Diagnostic> {
    match value {
        DeValue::Array(elements) if elements.is_empty() => {
            Err(Diagnostic::bare("is empty").hint("write at least one string between the brackets"))
        }
        DeValue::Array(elements) => elements.iter().map(|element| value::line(element.get_ref())).collect(),
        _ => Ok(vec![value::line(value)?]),
    }
}

/// What claims have to be, in a table of them.
pub(super) fn conditions(table: Table<'_>, reader: &Reader<'_>) -> Vec<ClaimCondition> {
    let form = described("string, number or boolean, or array of them", wanted);
    let mut conditions = Vec::new();
    for (key, name, any_of) in table.named_values(form) {
        let condition = any_of.and_then(|any_of| Ok(ClaimCondition { path: claim_path(&name)?, any_of }));
        match condition {
            Ok(condition) => conditions.push(condition),
            Err(wrong) => reader.report(wrong.at(key)),
        }
    }
    conditions
}

fn wanted(value: &DeValue<'_>) -> Result<Box<[Value]>, Diagnostic> {
    match value {
        DeValue::Array(elements) => elements.iter().map(|element| scalar(element.get_ref())).collect(),
        one => Ok([scalar(one)?].into()),
    }
}

fn scalar(value: &DeValue<'_>) -> Result<Value, Diagnostic> {
    let wrong = || Diagnostic::bare(format!("expected a string, an integer or a boolean, found {}", kind(value)));
    match value {
        DeValue::String(text) => Ok(Value::from(text.as_ref())),
        DeValue::Boolean(truth) => Ok(Value::from(*truth)),
        DeValue::Integer(_) => value::integer(i64::MIN..=i64::MAX).read(value).map(Value::from),
        _ => Err(wrong()),
    }
}
