//! Reads `[issuer.NAME]`, and the same keys in `[jwt]`: whose tokens are accepted, and what of them is believed.

use std::time::Duration;

use serde_json::Value;
use toml::de::DeValue;

use crate::{
    claim::{ClaimCondition, ClaimPath},
    config::{
        reader::{Keys, Reader},
        table::{Table, values},
        value::{
            self, closest,
            form::{Form as _, described},
            kind,
            word::simple_name,
        },
    },
    diagnostic::Diagnostic,
    settings::{
        authz,
        jwt::{Issuer, KeySource},
    },
};

/// The keys of `[issuer.NAME]`.
pub(super) const KEYS: Keys = &[
    ("issuer", "What a token's `iss` must be, byte for byte. Each issuer has another."),
    ("audience", "What a token's `aud` must be or contain, one string or several of which one will do."),
    ("jwks", "The file with the public keys (JWKS), for RS, PS, ES and EdDSA. Every issuer has this or `secret`."),
    ("secret", "The file with the secret that is shared with the issuer, for HS256 (32 bytes), HS384 and HS512."),
    ("provider", "Which product it is: the defaults of the keys for claims, below."),
    ("leeway", "How far the issuer's clock may be off."),
    ("max_lifetime", "The longest lifetime of a token. Without it: any."),
    ("type", "What the token header's `typ` must be. Without it: any."),
    ("audience_claim", "The claim that is the audience."),
    ("subject_claim", "The claim that names the client."),
    ("roles_claim", "The claims that name the client's roles, by path: `realm_access.roles`. One string or several."),
    ("roles", "Of the roles that its tokens name, only these count. Without it: all."),
    ("scope_claim", "The claim that names what the token may be used for, by path."),
    ("claims", "What tokens must say, by path: `{ email_verified = true, tenant = [\"a\", \"b\"] }`."),
];

/// What stands for the keys of a table of claims, which are the operator's own.
pub(super) const CLAIMS: Keys = &[("CLAIM", "What the claim must be: a value, or several of which one will do.")];

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
const TAKEN: [&str; 2] = ["cert", "key"];

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
        for (index, role) in issuer.roles.iter().flatten().enumerate().filter(|(_, role)| !roles.contains_key(*role)) {
            let wrong = Diagnostic::new(format!("{}.roles[{index}]", issuer.key), format!("there is no role {role:?}"));
            reader.report(match closest(role, roles.keys().map(String::as_str)) {
                Some(near) => wrong.hint(format!("did you mean {near:?}?")),
                None => wrong.hint("add it to [roles], with what it may do"),
            });
        }
        if issuer.roles.is_none() && issuers.len() > 1 {
            let warning =
                Diagnostic::new(&issuer.key, "its tokens may name every role, those meant for other issuers too");
            reader.warn(warning.hint("list those of its clients: roles = [\"reader\"]"));
        }
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
    let audiences = table.required("audience", "\"api\"", described("string, or array of strings", strings));
    let keys = keys(table);
    let provider = table.optional("provider", value::choice(&PROVIDERS)).unwrap_or(PLAIN);
    let leeway = table.or("leeway", 30 * SECOND, value::duration_in(Duration::ZERO..=600 * SECOND));
    let max_lifetime = table.optional("max_lifetime", value::duration_in(SECOND..=365 * DAY));
    let typ = table.optional("type", value::line);
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
    let scope_claim = path("scope_claim", provider.scope);
    let mut claims = conditions(table.table("claims", CLAIMS), reader);
    if let Some((claim, value)) = provider.claim {
        let path = ClaimPath::of(&[claim]);
        if !claims.iter().any(|claim| claim.path == path) {
            claims.push(ClaimCondition { path, any_of: [Value::from(value)].into() });
        }
    }
    // Only a configuration with a fault lacks the others, and it is refused in the end.
    Issuer {
        key: table.own_key().to_owned(),
        name,
        issuer: issuer.unwrap_or_default(),
        audiences: audiences.unwrap_or_default(),
        audience_claim,
        keys,
        leeway,
        max_lifetime,
        typ,
        subject_claim,
        roles_claims,
        roles: roles.map(values),
        scope_claim,
        claims,
    }
}

fn keys(table: &Table<'_>) -> KeySource {
    let secret = table.file("secret");
    if table.has("secret") && table.has("jwks") {
        let wrong = Diagnostic::bare("cannot be beside `jwks`: whoever knows a public key could sign by it");
        table.report("secret", wrong.hint("give each its own issuer"));
    }
    match secret {
        Some(file) => {
            table.file("jwks");
            KeySource::Secret(file)
        }
        None => KeySource::Jwks(table.required_file("jwks", "\"jwks.json\"")),
    }
}

fn quoted(path: &ClaimPath) -> String {
    format!("{:?}", path.to_string())
}

fn claim_path(text: &str) -> Result<ClaimPath, Diagnostic> {
    let wrong = || {
        Diagnostic::bare(format!("{text:?} is no path of a claim"))
            .hint(r"write names with dots between, as in `realm_access.roles`; `\\.` is a dot within a name")
    };
    ClaimPath::parse(text).ok_or_else(wrong)
}

/// One string, or several.
fn strings(value: &DeValue<'_>) -> Result<Vec<String>, Diagnostic> {
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
