//! What claims prove: who somebody is, with which roles and scopes, and until when.
//!
//! The claims are those of a token, or what an introspection server says of one. Whether they can be believed is not
//! judged here.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value};

use super::{Identity, binding, identity::is_subject, invalid::Invalid, revocation::Revocable, role_paths};
use crate::{
    identity::claim::{self, ClaimPath},
    refusal::TokenFault,
    settings::{
        auth::Method,
        claims::{ClaimRules, RoleMapping, RoleSource},
    },
};

/// The longest `sub`, in bytes (OpenID Connect Core 2 allows 255 characters of ASCII).
const MAX_SUBJECT: usize = 255;

/// Times beyond this are no times: what a double can count one by one (RFC 8259 6).
const MAX_TIME: u64 = 1 << 53;

/// When claims without an `exp` expire.
const NEVER: u64 = u64::MAX;

/// The subject is missing, or no name that can stand for one client.
pub(super) const NO_SUBJECT: Invalid =
    Invalid::unfit("its sub is no string of 1 to 255 bytes that names one principal");

/// When a token may be used, in seconds since the Unix epoch; the leeway is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    /// From when on.
    pub(super) from: u64,
    /// Until before when.
    pub(super) until: u64,
}

impl Validity {
    /// # Errors
    /// Why it may not be used now, for the log.
    pub(super) const fn check(&self, now: u64) -> Result<(), Invalid> {
        if now >= self.until {
            return Err(Invalid::new(TokenFault::Expired, "it has expired"));
        }
        if now < self.from { Err(Invalid::new(TokenFault::NotYetValid, "it is not valid yet")) } else { Ok(()) }
    }
}

/// What claims prove.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) identity: Identity,
    pub(super) validity: Validity,
    /// Which of the paths of roles there are: see [`role_paths::present`].
    pub(super) role_paths: u64,
}

/// Reads what `claims` prove by `method` and these rules. `kept` are the claims that are kept of them; `now` is in seconds since the
/// Unix epoch. The identity's own expiry is not set: its times are judged apart.
///
/// # Errors
/// Which check failed, for the log: never a part of the claims.
pub(super) fn read(
    method: Method,
    claims: &Map<String, Value>,
    rules: &ClaimRules,
    kept: &[ClaimPath],
    now: u64,
) -> Result<Read, Invalid> {
    let validity = read_times(claims, rules)?;
    validity.check(now)?;
    check_audience(claims, rules)?;
    if !rules.claims.iter().all(|condition| condition.holds(condition.path.find(claims))) {
        return Err(Invalid::unfit("a claim is not what its issuer's `claims` ask for"));
    }
    let bound_to = binding::read(claims.get("cnf")).map_err(Invalid::unfit)?;
    if bound_to.is_none() && rules.certificate_bound {
        return Err(Invalid::unfit("it is bound to no certificate, and its issuer's tokens have to be"));
    }
    let principal = principal(claims, rules)?;
    let scopes = read_scopes(claims, &rules.scope_claim)?;
    let identity = Identity {
        method,
        principal,
        roles: read_roles(claims, rules, &scopes)?,
        scopes,
        claims: kept.iter().map(|path| path.find(claims).cloned()).collect(),
        bound_to,
        plan: None,
        expires: 0,
        rests_on: vec![Arc::new(revocable(claims, rules))],
    };
    Ok(Read { identity, validity, role_paths: role_paths::present(claims, rules) })
}

/// What revocations may be about.
fn revocable(claims: &Map<String, Value>, rules: &ClaimRules) -> Revocable {
    let text = |claim: Option<&Value>| claim.and_then(Value::as_str).map(Into::into);
    Revocable {
        issuer: text(claims.get("iss")).unwrap_or_default(),
        id: text(claims.get("jti")),
        subject: text(rules.subject_claim.find(claims)).unwrap_or_default(),
        // One that is no time was refused.
        issued: moment(claims, "iat").unwrap_or_default(),
        ..Revocable::default()
    }
}

fn read_times(claims: &Map<String, Value>, rules: &ClaimRules) -> Result<Validity, Invalid> {
    let expires = match moment(claims, "exp").map_err(Invalid::unfit)? {
        Some(expires) => expires,
        None if rules.needs_expiry => return Err(Invalid::unfit("it has no exp")),
        None => NEVER,
    };
    let not_before = moment(claims, "nbf").map_err(Invalid::unfit)?.unwrap_or(0);
    let issued = moment(claims, "iat").map_err(Invalid::unfit)?;
    if issued.is_some_and(|issued| issued > expires) {
        return Err(Invalid::unfit("it expires before it was issued"));
    }
    if let Some(longest) = rules.max_lifetime {
        let issued = issued.ok_or(Invalid::unfit("it has no iat, which `max_lifetime` needs"))?;
        if Duration::from_secs(expires.saturating_sub(issued)) > longest {
            return Err(Invalid::unfit("it lives longer than `max_lifetime`"));
        }
    }
    let leeway = rules.leeway.as_secs();
    let from = not_before.max(issued.unwrap_or(0)).saturating_sub(leeway);
    Ok(Validity { from, until: expires.saturating_add(leeway) })
}

/// A moment in seconds since the Unix epoch, which may have a fraction (RFC 7519 2, NumericDate): a token is good from the
/// next whole second on, and until the last one.
///
/// # Errors
/// For the log: it is no moment.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "what is cast is in range, and has no fraction any more"
)]
pub fn moment(claims: &Map<String, Value>, claim: &str) -> Result<Option<u64>, &'static str> {
    let Some(value) = claims.get(claim) else { return Ok(None) };
    let round: fn(f64) -> f64 = if claim == "nbf" { f64::ceil } else { f64::floor };
    let whole = value.as_u64().or_else(|| {
        let seconds = value.as_f64().filter(|seconds| (0.0..MAX_TIME as f64).contains(seconds))?;
        Some(round(seconds) as u64)
    });
    match whole {
        Some(seconds) if seconds < MAX_TIME => Ok(Some(seconds)),
        _ => Err("its exp, nbf or iat is no moment in seconds"),
    }
}

fn check_audience(claims: &Map<String, Value>, rules: &ClaimRules) -> Result<(), Invalid> {
    let wrong = Invalid::new(TokenFault::WrongAudience, "its aud holds no `audience` of its issuer");
    if is_for_us(claims, rules) { Ok(()) } else { Err(wrong) }
}

/// Whether claims name an audience that these rules accept.
#[must_use]
pub fn is_for_us(claims: &Map<String, Value>, rules: &ClaimRules) -> bool {
    let Some(audiences) = &rules.audiences else { return true };
    let is_ours = |audience: &Value| audiences.iter().any(|ours| audience == ours);
    match rules.audience_claim.find(claims) {
        Some(audience @ Value::String(_)) => is_ours(audience),
        Some(Value::Array(audiences)) => audiences.iter().all(Value::is_string) && audiences.iter().any(is_ours),
        _ => false,
    }
}

/// Who the token is of. Principals of different issuers are never the same, whatever their subjects are.
fn principal(claims: &Map<String, Value>, rules: &ClaimRules) -> Result<Box<str>, Invalid> {
    let subject = rules.subject_claim.find(claims).and_then(Value::as_str).unwrap_or_default();
    if subject.len() > MAX_SUBJECT || !is_subject(subject) {
        return Err(NO_SUBJECT);
    }
    Ok(match &rules.name {
        Some(name) => format!("{name}:{subject}").into(),
        None => subject.into(),
    })
}

/// The roles that are named and count, and those that groups, scopes and the subject give.
fn read_roles(claims: &Map<String, Value>, rules: &ClaimRules, scopes: &[Box<str>]) -> Result<Vec<Box<str>>, Invalid> {
    let mut roles = Vec::new();
    for claim in rules.roles_claims.iter().filter_map(|path| path.find(claims)) {
        roles.extend(claim::words(claim).ok_or(Invalid::unfit("its roles are neither strings nor one string"))?);
    }
    let given: Vec<Box<str>> = if rules.role_map.is_empty() {
        Vec::new()
    } else {
        let subject = rules.subject_claim.find(claims).and_then(Value::as_str);
        let gives = |mapping: &&RoleMapping| match &mapping.from {
            RoleSource::Group(name) => roles.iter().any(|role| **role == **name),
            RoleSource::Scope(name) => scopes.iter().any(|scope| **scope == **name),
            RoleSource::Subject(name) => subject == Some(name),
        };
        let given = rules.role_map.iter().filter(gives).flat_map(|mapping| &mapping.roles);
        given.map(|role| role.as_str().into()).collect()
    };
    if let Some(allowed) = &rules.roles {
        roles.retain(|role| allowed.iter().any(|allowed| **allowed == **role));
    }
    for role in given {
        if !roles.contains(&role) {
            roles.push(role);
        }
    }
    Ok(roles)
}

fn read_scopes(claims: &Map<String, Value>, path: &ClaimPath) -> Result<Vec<Box<str>>, Invalid> {
    let Some(claim) = path.find(claims) else { return Ok(Vec::new()) };
    claim::words(claim).ok_or(Invalid::unfit("its scopes are neither strings nor one string"))
}

#[cfg(test)]
pub(in crate::policy::auth) mod tests {
    use super::*;

    /// Rules that ask for little.
    pub(in crate::policy::auth) fn rules() -> ClaimRules {
        ClaimRules {
            name: None,
            audiences: Some(vec!["api".to_owned()]),
            audience_claim: ClaimPath::of(&["aud"]),
            needs_expiry: true,
            leeway: Duration::from_secs(30),
            max_lifetime: None,
            subject_claim: ClaimPath::of(&["sub"]),
            roles_claims: vec![ClaimPath::of(&["roles"])],
            roles: None,
            role_map: Vec::new(),
            scope_claim: ClaimPath::of(&["scope"]),
            claims: Vec::new(),
            certificate_bound: false,
        }
    }

    #[test]
    fn what_gives_roles() {
        let mapping = |from: &str, roles: &[&str]| RoleMapping {
            from: RoleSource::parse(from).unwrap(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        };
        let role_map = vec![
            mapping("group:/staff/admins", &["admin", "reader"]),
            mapping("scope:items.write", &["editor"]),
            mapping("subject:build", &["deployer"]),
        ];
        let mapped = ClaimRules { role_map, ..rules() };
        let only = |roles: &[&str]| Some(roles.iter().map(|role| (*role).to_owned()).collect());
        for (rules, claims, expect) in [
            (&mapped, serde_json::json!({}), &[][..]),
            (&mapped, serde_json::json!({"roles": ["reader"]}), &["reader"]),
            (&mapped, serde_json::json!({"roles": ["/staff/admins"]}), &["/staff/admins", "admin", "reader"]),
            (
                &mapped,
                serde_json::json!({"roles": ["/staff/admins/x", "/STAFF/ADMINS"]}),
                &["/staff/admins/x", "/STAFF/ADMINS"],
            ),
            (&mapped, serde_json::json!({"scope": "items.read items.write"}), &["editor"]),
            (&mapped, serde_json::json!({"scope": "group:/staff/admins"}), &[]),
            (&mapped, serde_json::json!({"sub": "build"}), &["deployer"]),
            (&mapped, serde_json::json!({"roles": "build subject:build"}), &["build", "subject:build"]),
            // Of what tokens name nothing counts by itself, and what it gives does.
            (
                &ClaimRules { roles: only(&[]), ..mapped.clone() },
                serde_json::json!({"roles": ["/staff/admins", "admin", "editor"]}),
                &["admin", "reader"],
            ),
            (
                &ClaimRules { roles: only(&["x"]), ..mapped.clone() },
                serde_json::json!({"roles": ["x", "admin"]}),
                &["x"],
            ),
        ] {
            let claims = claims.as_object().unwrap();
            let scopes = read_scopes(claims, &rules.scope_claim).unwrap();
            let roles = read_roles(claims, rules, &scopes).unwrap();
            assert_eq!(roles.iter().map(|role| &**role).collect::<Vec<_>>(), expect, "{claims:?}");
        }
        for wrong in ["admins", "group:", "groups:a", "Group:a", ""] {
            assert_eq!(RoleSource::parse(wrong), None, "{wrong}");
        }
    }
}
