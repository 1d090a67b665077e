//! Tries out what a configuration has to fetch and whom it has to ask, for `gateway check --online`: by the same code as the
//! proxy does, from this host.

use std::{net::IpAddr, net::Ipv4Addr, time::Duration};

use gateway_common::source::Source;
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use tokio::time::{Instant, timeout_at};

use super::{Lookups, Requester, news::News};
use crate::{
    os::clock::Now,
    policy::auth::{
        AuthOutcome, Authenticators, Lookup, LookupAnswer, Presented,
        jwt::keys::{JwtKeys, told},
    },
    settings::{
        auth::{self, Accepted, Method, Methods},
        introspection::{Endpoint, IntrospectionServer},
    },
    signal::Signal,
    web::request_id::RequestId,
};

/// What nobody's token is.
const MADE_UP: &str = "gateway-check-online";

/// What came of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// The table: `issuer.NAME`, `introspection.NAME`.
    pub key: String,
    /// What was asked for, and where.
    pub what: String,
    /// What it said, or why that is of no use and what can be done.
    pub result: Result<String, (String, &'static str)>,
}

/// Fetches the keys of every issuer whose keys are fetched, and asks every introspection server about a token that nobody
/// made. All at once.
///
/// # Errors
/// The settings cannot be used, or this host gives no thread.
pub fn probe(settings: &auth::Settings) -> Result<Vec<Probed>, String> {
    let faults = |faults: Vec<crate::diagnostic::Diagnostic>| {
        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let authenticators = Authenticators::new(settings).map_err(faults)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    Ok(runtime.block_on(async {
        let lookups = Lookups::default();
        lookups.serve(&authenticators).await;
        let mut probed = fetched(&lookups, &authenticators, settings).await;
        for server in &settings.introspection {
            probed.push(asked(&lookups, &authenticators, server).await);
        }
        probed
    }))
}

/// What came of the first fetch of each issuer's keys.
async fn fetched(lookups: &Lookups, authenticators: &Authenticators, settings: &auth::Settings) -> Vec<Probed> {
    let issuers = settings.jwt.iter().flat_map(|jwt| &jwt.issuers);
    let longest = issuers.filter_map(|issuer| issuer.keys.fetch()).map(|fetch| fetch.server.timeout).max();
    // Metadata may be in two places, and says where the keys are.
    let until = Instant::now() + longest.unwrap_or_default() * 3 + Duration::from_secs(1);
    let mut waiting: Vec<_> = authenticators.key_sets().cloned().collect();
    let (mut probed, mut news) = (Vec::new(), lookups.take_news());
    while let (Some(news), false) = (news.as_mut(), waiting.is_empty()) {
        let Ok(Some(one)) = timeout_at(until, news.recv()).await else { break };
        waiting.retain(|set| set.key() != one.set.key());
        probed.push(of_keys(&one));
    }
    let late = |set: &std::sync::Arc<crate::policy::auth::jwt::KeySet>| Probed {
        key: set.key().to_owned(),
        what: format!("keys of {}", set.source()),
        result: Err(("no answer in time".to_owned(), way_out("timeout"))),
    };
    probed.extend(waiting.iter().map(late));
    probed.sort_by(|one, other| one.key.cmp(&other.key));
    probed
}

fn of_keys(news: &News) -> Probed {
    let keys = news.set.load();
    let keys = keys.as_ref().as_ref();
    let count = keys.map_or(0, JwtKeys::len);
    let skipped = keys.and_then(|keys| told(keys.skipped())).map(|told| format!("; {told}")).unwrap_or_default();
    let result = match &news.failing {
        None => Ok(format!("{count} keys that tokens can be verified by{skipped}")),
        Some((_, why)) => Err((why.clone(), way_out(news.result))),
    };
    Probed { key: news.set.key().to_owned(), what: format!("keys of {}", news.set.source()), result }
}

/// What can be done about a fetch that failed so: a label of metrics.
fn way_out(result: &str) -> &'static str {
    match result {
        "address" => "if the server is in your own network, set `fetch.allow_private = true`",
        "connection" => "see whether the server runs, and whether a firewall lets this host through",
        "content" => "open the URL with curl: it has to be a key set, or metadata that names the same `issuer`",
        "redirect" => "write the URL that it redirects to",
        "resolve" => "see whether the host name is right, and whether this host resolves it",
        "status" => "open the URL with curl: is it the right one?",
        "timeout" => "see whether a firewall drops the packets of this host, or raise `fetch.timeout`",
        "tls" => "name the authority of the server's certificate by `fetch.ca`, or its name by `fetch.server_name`",
        "too_large" => "see whether it is the right URL: a key set is smaller",
        _ => "try again",
    }
}

/// What a server says of a token that nobody made.
async fn asked(lookups: &Lookups, authenticators: &Authenticators, server: &IntrospectionServer) -> Probed {
    let what = match &server.endpoint {
        Endpoint::At(url) => format!("introspection at {url}"),
        Endpoint::Discovered(issuer) => format!("introspection, discovered at {issuer}"),
    };
    let said = ask(lookups, authenticators, server).await;
    let hint = if said.as_ref().is_err_and(|why| why.contains("own credentials")) {
        "see whether `client_id`, `client_auth` and the secret or key are those of the server's client"
    } else {
        "see whether the URL is right, the server runs, and `fetch` fits it"
    };
    Probed { key: server.key.clone(), what, result: said.map_err(|why| (why, hint)) }
}

async fn ask(
    lookups: &Lookups,
    authenticators: &Authenticators,
    server: &IntrospectionServer,
) -> Result<String, String> {
    let value = HeaderValue::try_from(format!("Bearer {}{MADE_UP}", server.token_prefix));
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value.map_err(|error| error.to_string())?)]);
    let accepted = Accepted { methods: Methods::Any(vec![Method::Introspection]), bound_tokens: false };
    let address = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let source = Source::of(address, 64);
    let presented =
        Presented { headers: &headers, carried: None, certificate: None, source, client: None, host: "", answers: &[] };
    let question = match authenticators.identify(&presented, &accepted, Now::read()) {
        AuthOutcome::Needs(Lookup::Introspection(question)) => question,
        AuthOutcome::Needs(_) => return Err("something else has to be known first".to_owned()),
        AuthOutcome::Decided(Ok(_)) => return Err("it is not asked".to_owned()),
        AuthOutcome::Decided(Err(refusal)) => return Err(refusal.detail.into_owned()),
    };
    // Metadata may be in two places.
    let timeout = question.timeout() * 3;
    let asker = Requester { source, address, relay: None, id: RequestId(0), ja4: None, is_trusted: true };
    match lookups.find(Lookup::Introspection(question), asker, timeout).await? {
        LookupAnswer::Introspection(Err(refusal)) if refusal.signal == Some(Signal::InactiveToken) => {
            Ok("it accepts the gateway as its client; a made-up token is not active".to_owned())
        }
        LookupAnswer::Introspection(Err(refusal)) => Err(refusal.detail.into_owned()),
        LookupAnswer::Introspection(Ok(_)) => Err("it calls a token active that nobody made".to_owned()),
        LookupAnswer::Keys(_) | LookupAnswer::Password(_) => Err("it was not asked".to_owned()),
    }
}
