//! `gateway token inspect`: header and claims in plain words, and what the gateway says of each.

use clap::Args;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value, json};

use crate::{
    cli::{
        context::Context,
        exit::Exit,
        explained::{ExplainedBy, explained},
        read_token::read_token,
        table::{clean, clean_lines, seconds},
    },
    config::{Config, Disk},
    json,
    os::clock::{self, Now},
    policy::auth::{AuthOutcome, ensure_crypto, jwt::Jwt, revocation},
    settings::jwt::{self, Issuer},
    snapshot::explain::{ExplainQuestion, ExplainedToken, Explanation, LONGEST_TOKEN, SecretToken},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Says what is in a token and what the gateway makes of it: its issuer, its
audience, its times, its key, and which roles and permissions it gives. The
running gateway is asked, which has fetched keys and can ask servers about
tokens; where none runs, or with --offline, the configuration file says as much
as it can. The signature is not printed.

Ends with 0 if the token is valid, 1 if it is not, 2 on wrong usage or with a
configuration that is not valid, and 5 if it cannot be told here.

The token is read from a file or from standard input, as every user of the host
can see arguments.

Examples:
  gateway token inspect token.jwt
  pbpaste | gateway token inspect --json | jq .roles")]
pub(in crate::cli) struct Inspect {
    /// The file with the token; - for standard input
    #[arg(default_value = "-", hide_default_value = true)]
    file: String,
    /// Go by the configuration file, and ask nobody
    #[arg(long)]
    offline: bool,
}

/// What is said of one part of a token.
struct Check {
    name: &'static str,
    /// `None`: it cannot be told.
    is_fine: Option<bool>,
    told: String,
}

/// A token, taken apart.
#[derive(Default)]
struct Contents {
    header: Option<Map<String, Value>>,
    claims: Option<Map<String, Value>>,
}

/// What is said of a token.
struct Judged {
    checks: Vec<Check>,
    token: ExplainedToken,
    by: &'static str,
    by_text: String,
}

impl Inspect {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        let token = match read_token(&self.file) {
            Ok(token) => token,
            Err((reason, exit)) => return context.out.fail(&reason, exit),
        };
        let contents = Contents::of(&token);
        let judged = match Config::load(context.config(), &Disk) {
            // Without a configuration the token can still be read.
            Err(errors) if !errors.readable() && context.config.is_none() => None,
            Err(errors) => return context.out.fail(&errors.to_string(), Exit::Usage),
            Ok(config) if says_nothing(&config) => None,
            Ok(config) => match self.judge(context, &token, &contents, &config) {
                Ok(judged) => Some(judged),
                Err(exit) => return exit,
            },
        };
        let exit = match judged.as_ref().and_then(|judged| judged.token.valid) {
            Some(true) => Exit::Done,
            Some(false) => Exit::Refused,
            None => Exit::Unknown,
        };
        if context.out.json {
            return context.out.value(&value(&contents, judged.as_ref()), exit);
        }
        context.out.text(&render(&contents, judged.as_ref()), exit)
    }

    fn judge(&self, context: &Context, token: &[u8], contents: &Contents, config: &Config) -> Result<Judged, Exit> {
        let told = match std::str::from_utf8(token) {
            Ok(text) if text.len() <= LONGEST_TOKEN && text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                explained(context, &ExplainQuestion::Token(SecretToken(text.to_owned())), self.offline)?
            }
            _ => {
                let why = "it is no token: too long, or with letters that no token has".to_owned();
                let refused = ExplainedToken { valid: Some(false), detail: Some(why), ..ExplainedToken::default() };
                let explanation = Explanation::Token(Box::new(refused));
                ExplainedBy { explanation, by: "file", by_text: "its form".to_owned() }
            }
        };
        let Explanation::Token(found) = told.explanation else {
            return Err(context.out.fail("the gateway answered something else", Exit::Unreachable));
        };
        ensure_crypto().map_err(|error| context.out.fail(&error.to_string(), Exit::Usage))?;
        let (now, asks) = (Now::read(), !config.proxy.auth.introspection.is_empty());
        let mut checks = vec![form(token, contents, asks)];
        if let (Some(claims), Some(settings)) = (&contents.claims, &config.proxy.auth.jwt) {
            let named = claims.get("iss").and_then(Value::as_str);
            let issuer = settings.issuers.iter().find(|issuer| named == Some(&issuer.issuer));
            checks.push(issued_by(named, issuer, settings));
            if let Some(issuer) = issuer {
                checks.push(meant_for(claims, issuer));
            }
            checks.extend(times(contents, now));
            checks.push(signed_by(token, contents, settings, &found, now));
        }
        Ok(Judged { checks, token: *found, by: told.by, by_text: told.by_text })
    }
}

/// Whether a configuration says of no token that it is valid.
const fn says_nothing(config: &Config) -> bool {
    config.proxy.auth.jwt.is_none() && config.proxy.auth.introspection.is_empty()
}

impl Contents {
    fn of(token: &[u8]) -> Self {
        let mut parts = token.split(|byte| *byte == b'.');
        let mut object = || {
            let text = BASE64URL_NOPAD.decode(parts.next()?).ok()?;
            if let Ok(Value::Object(object)) = json::parse(&text) { Some(object) } else { None }
        };
        Self { header: object(), claims: object() }
    }

    fn seconds(&self, claim: &str) -> Option<u64> {
        let value = self.claims.as_ref()?.get(claim)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a fraction is left out")]
        let whole = |seconds: f64| seconds as u64;
        value.as_u64().or_else(|| value.as_f64().map(whole))
    }
}

fn form(token: &[u8], contents: &Contents, asks: bool) -> Check {
    let parts = token.split(|byte| *byte == b'.').count();
    let is_jwt = parts == 3 && contents.header.is_some() && contents.claims.is_some();
    let is_fine = is_jwt || parts == 1 && asks;
    let told = match (parts, is_fine) {
        (1, true) => "one part: an opaque token, whose server is asked".to_owned(),
        (_, true) => format!("a signed JWT of {} bytes", token.len()),
        (3, false) => "three parts, of which header or claims are no JSON object in base64url".to_owned(),
        (5, _) => "five parts: an encrypted token (JWE), which is not accepted".to_owned(),
        (1, _) => "one part: an opaque token, or no token at all".to_owned(),
        (parts, _) => format!("{parts} parts, and a JWT has three"),
    };
    Check { name: "form", is_fine: Some(is_fine), told }
}

fn issued_by(named: Option<&str>, issuer: Option<&Issuer>, settings: &jwt::Settings) -> Check {
    let known = || settings.issuers.iter().map(|issuer| issuer.issuer.as_str()).collect::<Vec<_>>().join(", ");
    let told = match (named, issuer) {
        (Some(named), Some(issuer)) => format!("{named} is [{}]", issuer.key),
        (Some(named), None) => format!("{named} is no configured issuer; configured: {}", known()),
        (None, _) => format!("it names no issuer (iss); configured: {}", known()),
    };
    Check { name: "issuer", is_fine: Some(issuer.is_some()), told }
}

fn meant_for(claims: &Map<String, Value>, issuer: &Issuer) -> Check {
    let Some(audiences) = &issuer.rules.audiences else {
        return Check { name: "audience", is_fine: Some(true), told: "may be anybody".to_owned() };
    };
    let ours = audiences.join(" or ");
    let found = issuer.rules.audience_claim.find(claims);
    let is_ours = |value: &Value| audiences.iter().any(|audience| value == audience);
    let is_fine = match found {
        Some(Value::Array(all)) => all.iter().any(is_ours),
        Some(one) => is_ours(one),
        None => false,
    };
    let found = found.map_or_else(|| format!("no {}", issuer.rules.audience_claim), Value::to_string);
    let told = if is_fine { format!("{found} has {ours}") } else { format!("{found}, and not {ours}") };
    Check { name: "audience", is_fine: Some(is_fine), told }
}

fn times(contents: &Contents, now: Now) -> Vec<Check> {
    let clock = now.unix_seconds();
    let mut checks = Vec::new();
    for (name, claim, is_end) in [("issued", "iat", false), ("not before", "nbf", false), ("expires", "exp", true)] {
        let Some(at) = contents.seconds(claim) else {
            if is_end {
                checks.push(Check {
                    name,
                    is_fine: Some(false),
                    told: "never (no exp), which is not accepted".to_owned(),
                });
            }
            continue;
        };
        let away =
            if at > clock { format!("in {}", seconds(at - clock)) } else { format!("{} ago", seconds(clock - at)) };
        let told = format!("{} ({away})", clock::rfc3339(at.saturating_mul(1_000)));
        checks.push(Check { name, is_fine: Some(if is_end { at > clock } else { at <= clock }), told });
    }
    checks
}

/// Whether the signature is its key's. If the gateway does not say so, it is found out by judging the token at a time at
/// which it would be good.
fn signed_by(token: &[u8], contents: &Contents, settings: &jwt::Settings, found: &ExplainedToken, now: Now) -> Check {
    let of = |member: &str| contents.header.as_ref().and_then(|header| header.get(member)).map(Value::to_string);
    let (algorithm, key) = (of("alg").unwrap_or_else(|| "no alg".to_owned()), of("kid"));
    let key = key.map_or_else(|| "without a kid".to_owned(), |kid| format!("kid {kid}"));
    let names_it = |detail: &str| ["signature", "alg", "kid", "no such key"].iter().any(|part| detail.contains(part));
    let (is_fine, told) = match (found.valid, found.detail.as_deref()) {
        (Some(true), _) => (Some(true), "good".to_owned()),
        (Some(false), Some(detail)) if names_it(detail) => (Some(false), detail.to_owned()),
        _ => match judged_in_time(token, contents, settings, now) {
            Ok(()) => (Some(true), "good".to_owned()),
            Err(detail) if names_it(&detail) => (Some(false), detail),
            Err(detail) => (None, format!("not checked, because of something else: {detail}")),
        },
    };
    Check { name: "signature", is_fine, told: format!("{told}: {algorithm}, {key}") }
}

/// What files of keys say of a token at a time at which it would be good.
fn judged_in_time(token: &[u8], contents: &Contents, settings: &jwt::Settings, now: Now) -> Result<(), String> {
    let told = |faults: Vec<crate::diagnostic::Diagnostic>| {
        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let jwt = Jwt::new(&jwt::Settings { cache: 0, ..settings.clone() }).map_err(told)?;
    let begin = ["iat", "nbf"].into_iter().filter_map(|claim| contents.seconds(claim)).max().unwrap_or(0);
    let end = contents.seconds("exp").unwrap_or(u64::MAX).saturating_sub(1);
    let at = now.unix_seconds().min(end).max(begin);
    let now = Now { unix_millis: at.saturating_mul(1_000), ..now };
    match jwt.authenticate(token, &[], &revocation::Revocations::default(), now) {
        AuthOutcome::Decided(Ok(_)) => Ok(()),
        AuthOutcome::Decided(Err(refusal)) => Err(refusal.detail.into_owned()),
        AuthOutcome::Needs(_) => Err("its issuer's keys are fetched, and were not asked for".to_owned()),
    }
}

fn render(contents: &Contents, judged: Option<&Judged>) -> String {
    let mut lines = Vec::new();
    match judged {
        None => {
            let none = "no [jwt], [issuer.NAME] or [introspection.NAME] says what is valid: the token is only shown";
            lines.push(none.to_owned());
        }
        Some(Judged { token, by_text, .. }) => {
            let detail = token.detail.as_deref().unwrap_or_default();
            lines.push(match token.valid {
                Some(true) => "valid".to_owned(),
                Some(false) => format!("not valid: {}", clean(detail)),
                None => format!("cannot be told: {}", clean(detail)),
            });
            lines.push(format!("  {:<12}{}", "by", clean(by_text)));
            if token.valid == Some(false) {
                lines.push(format!("  {:<12}{}", "signal", token.signal.as_deref().unwrap_or("none")));
            }
        }
    }
    if let Some(judged) = judged {
        for Check { name, is_fine, told } in &judged.checks {
            let verdict = match is_fine {
                Some(true) => "ok",
                Some(false) => "NO",
                None => "?",
            };
            lines.push(format!("  {name:<12}{verdict:<4}{}", clean(told)));
        }
        if let ExplainedToken { valid: Some(true), principal: Some(principal), .. } = &judged.token {
            let list = |words: &[String]| if words.is_empty() { "none".to_owned() } else { words.join(", ") };
            let ExplainedToken { roles, permissions, scopes, .. } = &judged.token;
            for (name, told) in [
                ("principal", principal.clone()),
                ("roles", list(roles)),
                ("permissions", list(permissions)),
                ("scopes", list(scopes)),
            ] {
                lines.push(format!("  {name:<12}{}", clean(&told)));
            }
        }
    }
    for (name, part) in [("header", &contents.header), ("claims", &contents.claims)] {
        let shown = part.as_ref().and_then(|part| serde_json::to_string_pretty(part).ok());
        lines.push(format!("{name} {}", clean_lines(shown.as_deref().unwrap_or("cannot be read"))));
    }
    lines.join("\n")
}

fn value(contents: &Contents, judged: Option<&Judged>) -> Value {
    let checks = judged.iter().flat_map(|judged| &judged.checks);
    let checks = checks.map(|Check { name, is_fine, told }| json!({ "check": name, "ok": is_fine, "told": told }));
    let token = judged.map(|judged| &judged.token);
    let good = token.filter(|token| token.valid == Some(true));
    json!({
        "valid": token.and_then(|token| token.valid),
        "by": judged.map(|judged| judged.by),
        "detail": token.and_then(|token| token.detail.as_ref()),
        "signal": token.and_then(|token| token.signal.as_ref()),
        "checks": checks.collect::<Vec<_>>(),
        "principal": good.and_then(|token| token.principal.as_ref()),
        "roles": good.map(|token| &token.roles),
        "permissions": good.map(|token| &token.permissions),
        "scopes": good.map(|token| &token.scopes),
        "header": contents.header,
        "claims": contents.claims,
    })
}
