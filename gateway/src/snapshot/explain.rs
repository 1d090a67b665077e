//! Explains what becomes of a request, or of a token: for `gateway can` and `gateway token inspect`. The proxy that serves
//! explains it by what is in force, and the command by its configuration file where none runs.
//!
//! *Invariant:* nobody is served by this, and nothing is counted or held against anybody. What is not known is neither
//! allowed nor denied. A token is in no answer.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use gateway_common::source::Source;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::answer::RequirementResult;
pub use self::answer::{Explained, ExplainedStep, ExplainedToken, Explanation, Verdict};

use super::{CompiledRoute, Snapshot};
use crate::{
    identity::claim::ClaimPath,
    os::clock::Now,
    policy::{
        auth::{AuthOutcome, Identity, Lookup, LookupAnswer, NO_CERTIFICATE, Presented, identity::Supposed},
        authz::{self, RequestFacts},
    },
    refusal::{Refusal, Reject},
    route::target::Target,
    settings::{
        auth::{Accepted, Method as Proof, Methods},
        authz::RequirementPart,
    },
};

mod answer;

#[cfg(test)]
mod tests;

/// The longest token that is explained, in bytes.
pub const LONGEST_TOKEN: usize = 16 * 1_024;

/// Where the request would come in, which counts only for those that name no host.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 443);

/// A token: nothing prints it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretToken(pub String);

impl std::fmt::Debug for SecretToken {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Secret({} bytes)", self.0.len())
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExplainQuestion {
    /// Whether somebody may make a request.
    Request(Box<Asked>),
    /// Whom a token proves.
    Token(SecretToken),
}

/// A request that nobody sends, and who would send it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// Path and query, or `*`.
    pub target: String,
    /// The host, with its port if it has one.
    pub authority: String,
    /// Its other headers.
    pub headers: Vec<(String, String)>,
    /// Who asks; `None`: nobody, or whoever the token is of.
    pub principal: Option<String>,
    /// The client's token.
    pub token: Option<SecretToken>,
    /// Roles of the principal, where there is no token.
    pub roles: Vec<String>,
    /// Likewise scopes.
    pub scopes: Vec<String>,
    /// Likewise claims: paths, and values in JSON.
    pub claims: Vec<(String, String)>,
    /// The client's address.
    pub from: Option<IpAddr>,
}

/// How far an explanation has come.
#[derive(Debug)]
pub enum Explaining {
    /// This is it.
    Done(Explanation),
    /// This has to be known first.
    Needs(Lookup),
}

/// Who asks.
enum Who {
    Nobody,
    Proved(std::sync::Arc<Identity>),
    Supposed(Supposed),
    /// It cannot be told.
    Unknown,
}

/// What is said of how somebody proves who it is, or what has to be known first.
enum Proving {
    Done(Who, ExplainedStep),
    Needs(Lookup),
}

/// Explains, given what was looked up until now. `unknown`: why nothing more can be.
#[must_use]
pub fn explain(
    snapshot: &Snapshot,
    question: &ExplainQuestion,
    answers: &[LookupAnswer],
    unknown: Option<&str>,
    now: Now,
) -> Explaining {
    let explainer = Explainer { snapshot, answers, unknown, now };
    let explained = match question {
        ExplainQuestion::Request(asked) => explainer.request(asked),
        ExplainQuestion::Token(token) => explainer.token(token),
    };
    explained.unwrap_or_else(|wrong| Explaining::Done(Explanation::Refused(answer::cut(&wrong, answer::LONGEST))))
}

struct Explainer<'a> {
    snapshot: &'a Snapshot,
    answers: &'a [LookupAnswer],
    unknown: Option<&'a str>,
    now: Now,
}

impl Explainer<'_> {
    fn request(&self, asked: &Asked) -> Result<Explaining, String> {
        let snapshot = self.snapshot;
        let head = head(asked)?;
        let found = Target::read(&head, NOWHERE, snapshot.settings.head.target).and_then(|target| {
            let index = snapshot.routes.find(&target, &head.method, &head.headers).map_err(|miss| miss.refusal)?;
            Ok((target, index))
        });
        let (target, index) = match found {
            Ok(found) => found,
            Err(refusal) => return Ok(done(Explained::refused(&refusal))),
        };
        let Some(route) = snapshot.served.get(index) else {
            return Ok(done(Explained::refused(&Refusal::new(Reject::NotFound, "no such route"))));
        };
        let route = match route.of_operation(&head.method, &target, &head.headers) {
            Ok(route) => route,
            Err(refusal) => return Ok(done(Explained::refused(&refusal))),
        };
        let facts =
            RequestFacts { path: target.path(), is_odd: target.is_odd(), method: &head.method, address: asked.from };
        let (who, authenticated) = if route.access.needs_identity() {
            match self.prove(asked, index, route, target.host())? {
                Proving::Done(who, step) => (who, Some(step)),
                Proving::Needs(lookup) => return Ok(Explaining::Needs(lookup)),
            }
        } else {
            (Who::Nobody, None)
        };
        let identity = match &who {
            Who::Proved(identity) => Some(&**identity),
            Who::Supposed(supposed) => Some(supposed.identity()),
            Who::Nobody | Who::Unknown => None,
        };
        let mut steps: Vec<ExplainedStep> =
            route.access.explain(identity, &facts).iter().map(|step| step_of(step, &who, asked)).collect();
        let place = steps.iter().take_while(|step| step.step == RequirementPart::Sources.name()).count();
        authenticated.into_iter().for_each(|step| steps.insert(place, step));
        let principal = identity.map(|identity| identity.principal().to_owned());
        let template = route.template.to_string();
        Ok(done(Explained::of(Some((u32::try_from(index).unwrap_or(u32::MAX), template)), principal, steps)))
    }

    /// Who asks, and what is said of how that is proved.
    fn prove(&self, asked: &Asked, index: usize, route: &CompiledRoute, host: &str) -> Result<Proving, String> {
        let settings = self.snapshot.settings.routes.get(index);
        let shadow = settings.is_some_and(|route| route.shadow.contains(&RequirementPart::Require));
        let methods: Vec<&str> = route.accepted.methods.listed().iter().map(|method| method.name()).collect();
        let methods = methods.join(", ");
        let step =
            |asks: String, verdict: RequirementResult<'_>| ExplainedStep::new("authenticate", &asks, verdict, shadow);
        let Some(token) = &asked.token else {
            let Some(principal) = &asked.principal else {
                let missing = Refusal::new(Reject::MissingToken, "nobody asks, and the route needs an identity");
                return Ok(Proving::Done(Who::Nobody, step(methods, RequirementResult::Denied(&missing))));
            };
            let accepted = &route.accepted.methods;
            let method = method_of(principal, accepted);
            let supposed = Who::Supposed(self.suppose(asked, principal, method)?);
            if accepted.may_name_by(method) {
                return Ok(Proving::Done(
                    supposed,
                    step(format!("{principal} is taken for proved"), RequirementResult::Met),
                ));
            }
            let method = method.name();
            let why = match accepted {
                Methods::Any(_) => format!("{method} proves {principal}, and the route accepts {methods}"),
                Methods::All(_) => {
                    format!("{method} proves {principal}, and the first of {methods} says who the client is")
                }
            };
            let refusal = Refusal::new(Reject::MissingToken, why);
            return Ok(Proving::Done(supposed, step(methods, RequirementResult::Denied(&refusal))));
        };
        let besides = beside_token(&route.accepted);
        let accepted = besides.as_ref().map_or(&route.accepted, |(shown, _)| shown);
        let identity = match self.identify(token, asked.from, host, accepted)? {
            IdentityOutcome::Needs(lookup) => return Ok(Proving::Needs(lookup)),
            IdentityOutcome::Unknown(why) => {
                return Ok(Proving::Done(Who::Unknown, step(methods, RequirementResult::Unknown(&why))));
            }
            IdentityOutcome::Decided(Err(refusal)) => {
                return Ok(Proving::Done(Who::Nobody, step(methods, RequirementResult::Denied(&refusal))));
            }
            IdentityOutcome::Decided(Ok(identity)) => identity,
        };
        let names_client = route.accepted.methods.may_prove_by_token();
        let is_other = |principal: &&String| names_client && *principal != identity.principal();
        if let Some(principal) = asked.principal.as_ref().filter(is_other) {
            return Err(format!("the token is of {:?}, not of {principal:?}", identity.principal()));
        }
        let told = format!("{} proves {}", identity.method().name(), identity.principal());
        let who = if names_client { Who::Proved(identity) } else { Who::Unknown };
        let Some((_, others)) = besides else { return Ok(Proving::Done(who, step(told, RequirementResult::Met))) };
        let why = format!("{told}; the route also asks for {others}, which cannot be shown here");
        Ok(Proving::Done(who, step(methods, RequirementResult::Unknown(&why))))
    }

    fn token(&self, token: &SecretToken) -> Result<Explaining, String> {
        let settings = &self.snapshot.settings.auth;
        let methods =
            [(Proof::Jwt, settings.jwt.is_some()), (Proof::Introspection, !settings.introspection.is_empty())];
        let methods: Vec<Proof> = methods.into_iter().filter(|(_, is_there)| *is_there).map(|(it, _)| it).collect();
        if methods.is_empty() {
            return Err("no [jwt], [issuer.NAME] or [introspection.NAME] says what is valid".to_owned());
        }
        let accepted = Accepted { methods: Methods::Any(methods), bound_tokens: false };
        let roles = &self.snapshot.settings.roles;
        Ok(Explaining::Done(Explanation::Token(Box::new(match self.identify(token, None, "", &accepted)? {
            IdentityOutcome::Needs(lookup) => return Ok(Explaining::Needs(lookup)),
            IdentityOutcome::Unknown(why) => ExplainedToken::unknown(&why),
            IdentityOutcome::Decided(Err(refusal)) => ExplainedToken::refused(&refusal),
            IdentityOutcome::Decided(Ok(identity)) => ExplainedToken::good(&identity, roles),
        }))))
    }

    fn identify(
        &self,
        token: &SecretToken,
        from: Option<IpAddr>,
        host: &str,
        accepted: &Accepted,
    ) -> Result<IdentityOutcome, String> {
        if token.0.len() > LONGEST_TOKEN {
            return Err(format!("the token is over {LONGEST_TOKEN} bytes"));
        }
        let bearer = HeaderValue::from_str(&format!("Bearer {}", token.0));
        let mut bearer = bearer.map_err(|_no_value| "the token fits no header".to_owned())?;
        bearer.set_sensitive(true);
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, bearer)]);
        // Nobody's: what a server is asked for this is not counted against a client.
        let source = Source::of(IpAddr::V4(Ipv4Addr::UNSPECIFIED), self.snapshot.settings.ipv6_prefix);
        let (client, answers) = (from, self.answers);
        let presented =
            Presented { headers: &headers, carried: None, certificate: None, source, client, host, answers };
        Ok(match self.snapshot.authenticators.identify(&presented, accepted, self.now) {
            AuthOutcome::Needs(lookup) => match self.unknown {
                Some(why) => IdentityOutcome::Unknown(why.to_owned()),
                None => IdentityOutcome::Needs(lookup),
            },
            // It may well be good.
            AuthOutcome::Decided(Err(refusal))
                if refusal.reject == Reject::Unavailable || refusal.detail == NO_CERTIFICATE =>
            {
                IdentityOutcome::Unknown(refusal.detail.into_owned())
            }
            AuthOutcome::Decided(decided) => IdentityOutcome::Decided(decided),
        })
    }

    /// The identity that is described.
    fn suppose(&self, asked: &Asked, principal: &str, method: Proof) -> Result<Supposed, String> {
        let read = |(path, value): &(String, String)| {
            let path = ClaimPath::parse(path).ok_or_else(|| format!("{path:?} is no path of a claim"))?;
            let value =
                serde_json::from_str::<Value>(value).map_err(|_error| format!("the claim {path} is no JSON"))?;
            Ok::<_, String>((path, value))
        };
        let said: Vec<(ClaimPath, Value)> = asked.claims.iter().map(read).collect::<Result<_, _>>()?;
        let kept = self.snapshot.settings.auth.kept.iter();
        let claims = kept.map(|path| said.iter().find(|(said, _)| said == path).map(|(_, value)| value.clone()));
        Ok(Supposed::new(method, principal, &asked.roles, &asked.scopes, claims.collect()))
    }
}

enum IdentityOutcome {
    Decided(Result<std::sync::Arc<Identity>, Refusal>),
    Needs(Lookup),
    Unknown(String),
}

fn done(explained: Explained) -> Explaining {
    Explaining::Done(Explanation::Request(Box::new(explained)))
}

/// What a requirement of the route says, where it may not be known who asks, or from where.
fn step_of(step: &authz::explain::RequirementExplanation, who: &Who, asked: &Asked) -> ExplainedStep {
    let judged = match &step.verdict {
        Err(_) if asked.from.is_none() && step.asks_source => {
            RequirementResult::Unknown("where the client is was not said: add --from")
        }
        _ if matches!(who, Who::Unknown) && step.key != RequirementPart::Sources.name() => {
            RequirementResult::Unknown("it is not known who asks")
        }
        Ok(()) => RequirementResult::Met,
        Err(refusal) => RequirementResult::Denied(refusal),
    };
    ExplainedStep::new(&step.key, &step.asks, judged, step.in_shadow)
}

/// Where a route asks for a token and for more at once: what the token alone can prove of it, and the names of the others.
/// These are in no question, and may well be good.
fn beside_token(accepted: &Accepted) -> Option<(Accepted, String)> {
    let Methods::All(methods) = &accepted.methods else { return None };
    let (tokens, others): (Vec<Proof>, Vec<Proof>) = methods.iter().partition(|method| method.is_token());
    if tokens.is_empty() || others.is_empty() {
        return None;
    }
    let others: Vec<&str> = others.into_iter().map(Proof::name).collect();
    Some((Accepted { methods: Methods::All(tokens), ..*accepted }, others.join(", ")))
}

/// How a principal is proved, by how it begins; of tokens, as the route lets them say who the client is.
fn method_of(principal: &str, accepted: &Methods) -> Proof {
    let kinds = [("key:", Proof::ApiKey), ("basic:", Proof::Basic), ("cert:", Proof::Certificate)];
    let kind = kinds.into_iter().find(|(kind, _)| principal.starts_with(kind)).map(|(_, method)| method);
    let tokens = [Proof::Jwt, Proof::Introspection];
    kind.unwrap_or_else(|| tokens.into_iter().find(|method| accepted.may_name_by(*method)).unwrap_or(Proof::Jwt))
}

/// The head of the request, as it would be received.
fn head(asked: &Asked) -> Result<Parts, String> {
    let method = Method::from_bytes(asked.method.as_bytes()).map_err(|_no_token| "no such method".to_owned())?;
    let request = http::Request::builder().method(method).uri(asked.target.as_str());
    let mut request = request.header(header::HOST, asked.authority.as_str());
    for (name, value) in &asked.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_no_name| format!("{name:?} is no header"))?;
        request = request.header(name, value.as_str());
    }
    let request = request.body(()).map_err(|error| format!("it is no request: {error}"))?;
    Ok(request.into_parts().0)
}
