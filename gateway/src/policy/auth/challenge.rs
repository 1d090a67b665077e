//! The challenges of refusals (RFC 9110 11.6.1): by which schemes a client may prove who it is, each in a line of its own.

use http::HeaderValue;

use crate::{
    refusal::{BearerError, Refusal},
    settings::auth::{self, Method, Methods},
};

/// The name of what is protected, where the configuration gives none.
const REALM: &str = "gateway";

/// The challenges of one route.
#[derive(Clone, Debug)]
pub struct Challenges {
    /// To who has shown nothing, or what is not good for another reason than that it is a bad token.
    plain: Box<[HeaderValue]>,
    /// To who has shown more than one token, where tokens are accepted.
    invalid_request: Box<[HeaderValue]>,
    /// To who has shown a token that is not valid.
    invalid_token: Box<[HeaderValue]>,
    /// To whose token lacks a scope.
    insufficient_scope: Box<[HeaderValue]>,
}

impl Challenges {
    /// Those of a route that accepts `methods`, and asks tokens for `scopes`.
    #[must_use]
    pub fn new(methods: &Methods, scopes: &[String], settings: &auth::Settings) -> Self {
        let scope = if scopes.is_empty() { String::new() } else { format!(", scope=\"{}\"", scopes.join(" ")) };
        let bearer = |error: &str| format!("Bearer realm=\"{REALM}\"{error}{scope}");
        let accepts_tokens = methods.listed().iter().any(|method| method.is_token());
        let all = |of_tokens: &str| {
            let mut challenges = Vec::new();
            // Some clients know no other than the first.
            if accepts_tokens {
                challenges.push(of_tokens.to_owned());
            }
            challenges.extend(methods.listed().iter().filter_map(|method| match method {
                Method::ApiKey => Some(format!("ApiKey realm=\"{REALM}\"")),
                Method::Basic => {
                    let realm = settings.basic.as_ref().map_or(REALM, |basic| &basic.realm);
                    Some(format!("Basic realm=\"{realm}\", charset=\"UTF-8\""))
                }
                Method::Certificate => Some(format!("Certificate realm=\"{REALM}\"")),
                Method::Introspection | Method::Jwt => None,
            }));
            challenges
        };
        let invalid_request = accepts_tokens.then(|| bearer(", error=\"invalid_request\"")).into_iter().collect();
        Self {
            plain: values(all(&bearer(""))),
            invalid_request: values(invalid_request),
            invalid_token: values(all(&bearer(", error=\"invalid_token\""))),
            insufficient_scope: values(vec![bearer(", error=\"insufficient_scope\"")]),
        }
    }

    /// What a refusal is told with; nothing, where no other credentials would do.
    #[must_use]
    pub fn of(&self, refusal: &Refusal) -> &[HeaderValue] {
        match refusal.bearer_error {
            Some(BearerError::InsufficientScope) => &self.insufficient_scope,
            Some(BearerError::InvalidRequest) => &self.invalid_request,
            Some(BearerError::InvalidToken) => &self.invalid_token,
            None if refusal.reject.is_unauthenticated() => &self.plain,
            None => &[],
        }
    }
}

/// Realms and scopes have no letter that no header may have.
fn values(challenges: Vec<String>) -> Box<[HeaderValue]> {
    challenges.into_iter().filter_map(|challenge| HeaderValue::try_from(challenge).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::{Reject, TokenFault};

    #[track_caller]
    fn check(methods: &[Method], scopes: &[&str], refusal: &Refusal, expect: &[&str]) {
        let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let challenges = Challenges::new(&Methods::Any(methods.to_vec()), &scopes, &auth::Settings::default());
        let found: Vec<_> = challenges.of(refusal).iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(found, expect, "{methods:?} {scopes:?} {refusal:?}");
    }

    #[test]
    fn by_refusal_and_route() {
        const BASIC: &str = "Basic realm=\"gateway\", charset=\"UTF-8\"";
        const INVALID: &str = "Bearer realm=\"gateway\", error=\"invalid_token\"";
        let missing = Refusal::new(Reject::MissingToken, "");
        let expired = Refusal::token(TokenFault::Expired, "").with(BearerError::InvalidToken);
        let scheme = Refusal::token(TokenFault::Unfit, "");
        let password = Refusal::new(Reject::InvalidCredentials, "");
        let scope = Refusal::new(Reject::Forbidden, "").with(BearerError::InsufficientScope);
        let forbidden = Refusal::new(Reject::Forbidden, "");
        let all = [Method::Certificate, Method::Basic, Method::Introspection, Method::Jwt];
        check(&[Method::Jwt], &[], &missing, &["Bearer realm=\"gateway\""]);
        check(&[Method::Jwt], &[], &expired, &[INVALID]);
        check(&[Method::Jwt], &[], &scheme, &["Bearer realm=\"gateway\""]);
        check(&[Method::Jwt], &["a:b", "c"], &missing, &["Bearer realm=\"gateway\", scope=\"a:b c\""]);
        let lacking = ["Bearer realm=\"gateway\", error=\"insufficient_scope\", scope=\"a:b c\""];
        check(&all, &["a:b", "c"], &scope, &lacking);
        check(&all, &[], &missing, &["Bearer realm=\"gateway\"", "Certificate realm=\"gateway\"", BASIC]);
        check(&all, &[], &expired, &[INVALID, "Certificate realm=\"gateway\"", BASIC]);
        check(&all, &[], &password, &["Bearer realm=\"gateway\"", "Certificate realm=\"gateway\"", BASIC]);
        check(&[Method::Basic], &[], &password, &[BASIC]);
        check(&all, &[], &forbidden, &[]);
        let twice = Refusal::new(Reject::BadRequest, "").with(BearerError::InvalidRequest);
        check(&all, &[], &twice, &["Bearer realm=\"gateway\", error=\"invalid_request\""]);
        check(&[Method::Basic], &[], &twice, &[]);
        check(&all, &[], &Refusal::new(Reject::BadRequest, ""), &[]);
    }
}
