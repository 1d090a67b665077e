//! `gateway token inspect`: header and claims in plain words, and what the gateway says of each.

use std::time::Duration;

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
    policy::auth::{AuthOutcome, ensure_crypto, is_for_us, jwt::Jwt, moment, revocation},
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
            checks.extend(times(claims, issuer.map_or(Duration::ZERO, |issuer| issuer.rules.leeway), now));
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
        moment(self.claims.as_ref()?, claim).ok().flatten()
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
    let is_fine = is_for_us(claims, &issuer.rules);
    let is_readable = match found {
        Some(Value::Array(all)) => all.iter().all(Value::is_string),
        Some(one) => one.is_string(),
        None => true,
    };
    let found = found.map_or_else(|| format!("no {}", issuer.rules.audience_claim), Value::to_string);
    let told = match (is_fine, is_readable) {
        (true, _) => format!("{found} has {ours}"),
        (false, true) => format!("{found}, and not {ours}"),
        (false, false) => format!("{found} is neither a string nor an array of strings"),
    };
    Check { name: "audience", is_fine: Some(is_fine), told }
}

/// When a token is good. `leeway`: how far its issuer's clock may be off.
fn times(claims: &Map<String, Value>, leeway: Duration, now: Now) -> Vec<Check> {
    let (clock, leeway) = (now.unix_seconds(), leeway.as_secs());
    let mut checks = Vec::new();
    for (name, claim, is_end) in [("issued", "iat", false), ("not before", "nbf", false), ("expires", "exp", true)] {
        let mut check = |is_fine: bool, told: String| checks.push(Check { name, is_fine: Some(is_fine), told });
        let at = match moment(claims, claim) {
            Ok(Some(at)) => at,
            Ok(None) if is_end => {
                check(false, "never (no exp), which is not accepted".to_owned());
                continue;
            }
            Ok(None) => continue,
            Err(_no_moment) => {
                check(false, format!("{} is no moment in seconds", claims.get(claim).unwrap_or(&Value::Null)));
                continue;
            }
        };
        let away =
            if at > clock { format!("in {}", seconds(at - clock)) } else { format!("{} ago", seconds(clock - at)) };
        let is_in_time = if is_end { clock < at } else { at <= clock };
        let is_fine = if is_end { clock < at.saturating_add(leeway) } else { at <= clock.saturating_add(leeway) };
        let within =
            if is_fine && !is_in_time { format!(", within the leeway of {}", seconds(leeway)) } else { String::new() };
        check(is_fine, format!("{} ({away}{within})", clock::rfc3339(at.saturating_mul(1_000))));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of times agrees with the gateway, which allows for the leeway.
    #[test]
    fn times_with_a_leeway() {
        let now = Now { monotonic: 0, unix_millis: 1_000_000 };
        for (claims, failing, says) in [
            (json!({"exp": 1_001}), "", "(in 1s)"),
            (json!({"exp": 1_000}), "", "(0s ago, within the leeway of 30s)"),
            (json!({"exp": 971}), "", "(29s ago, within the leeway of 30s)"),
            (json!({"exp": 970}), "expires", "(30s ago)"),
            (json!({"nbf": 1_000, "exp": 1_001}), "", "(0s ago)"),
            (json!({"nbf": 1_030, "exp": 2_000}), "", "(in 30s, within the leeway of 30s)"),
            (json!({"nbf": 1_031, "exp": 2_000}), "not before", "(in 31s)"),
            // The next whole second, as for the gateway.
            (json!({"nbf": 1_030.5, "exp": 2_000}), "not before", "(in 31s)"),
            (json!({"iat": 1_031, "exp": 2_000}), "issued", "(in 31s)"),
            (json!({"exp": "soon"}), "expires", "\"soon\" is no moment in seconds"),
            (json!({}), "expires", "never (no exp)"),
        ] {
            let checks = times(claims.as_object().unwrap(), Duration::from_secs(30), now);
            let failed: Vec<&str> =
                checks.iter().filter(|check| check.is_fine == Some(false)).map(|check| check.name).collect();
            assert_eq!(failed.join(", "), failing, "{claims}");
            let told: Vec<&str> = checks.iter().map(|check| check.told.as_str()).collect();
            assert!(told.iter().any(|told| told.contains(says)), "{claims}: {told:?}");
        }
    }
}
