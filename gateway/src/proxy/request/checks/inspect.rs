//! Holds a request against the rules of its route that look for attacks, where it has any.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Version, header, request::Parts};

use std::{net::IpAddr, sync::Arc};

use crate::{
    policy::validate::{
        graphql,
        waf::{self, Waf, WafRequest, WafVerdict},
    },
    proxy::{
        generation::Generation,
        request::{exchange::Exchange, grpc},
    },
    refusal::{Refusal, Reject},
    snapshot::CompiledRoute,
};

/// What is judged at once, where it arrived, in bytes of head and body, and of one value: about a millisecond.
const QUICK: usize = 4 * 1024;
const QUICK_VALUE: usize = 512;

/// What is to be done with the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy::request) enum Inspection {
    /// It passes as it comes.
    Head,
    /// It is read as a whole, up to one size, and inspected if it is not larger than another one.
    Whole { largest: u64, inspected: u64 },
}

impl Inspection {
    /// What of a body is inspected that was read as a whole.
    pub(in crate::proxy::request) fn part_of(self, body: &Bytes) -> Bytes {
        let most = match self {
            Self::Head => 0,
            Self::Whole { inspected, .. } => inspected,
        };
        let is_larger = u64::try_from(body.len()).map_or(true, |length| length > most);
        if is_larger { Bytes::new() } else { body.clone() }
    }

    /// How much of a body is read ahead, where a larger one passes as it comes.
    pub(in crate::proxy::request) fn ahead(self) -> Option<u64> {
        match self {
            Self::Whole { largest, inspected } if inspected < largest => Some(inspected),
            Self::Head | Self::Whole { .. } => None,
        }
    }
}

/// Whether the body is inspected, of this `length` where it is known.
///
/// # Errors
/// The body is larger than what is inspected, or in another charset, and what cannot be inspected must not pass.
pub(in crate::proxy::request) fn plan(
    route: &CompiledRoute,
    head: &Parts,
    length: Option<u64>,
) -> Result<Inspection, Refusal> {
    let Some((waf, largest)) = route.waf.as_ref().and_then(|waf| Some((waf, waf.inspect_body()?))) else {
        return Ok(Inspection::Head);
    };
    if length == Some(0) {
        // Whatever the headers say of it, there is nothing to read.
        return Ok(Inspection::Head);
    }
    let is_larger = length.is_some_and(|length| length > largest);
    match waf.enforces() {
        true if is_larger => Err(Refusal::new(Reject::BodyTooLarge, "Content-Length over waf.inspect_body")),
        true if !head.headers.get_all(header::CONTENT_TYPE).iter().all(|it| waf::has_known_charset(it.as_bytes())) => {
            Err(Refusal::new(Reject::UnsupportedMediaType, "charset is none of UTF-8, US-ASCII, ISO-8859-1"))
        }
        true => Ok(Inspection::Whole { largest: largest.min(route.max_body), inspected: largest }),
        // A report delays nobody: the messages of a call may wait for answers to those before.
        false if is_larger || grpc::is(head) => Ok(Inspection::Head),
        // A report refuses nothing: a body without a length may turn out to be larger.
        false => Ok(Inspection::Whole { largest: route.max_body, inspected: largest }),
    }
}

/// Judges the request, where its route asks for that. `inspected`: its body as far as it is inspected; `body`: as far as it
/// was read.
///
/// # Errors
/// It carries an attack, and that is enforced; or its queries are over a limit.
pub(in crate::proxy::request) async fn judge(
    generation: &Generation,
    route: &CompiledRoute,
    head: &Parts,
    (inspected, body): (&Bytes, &Bytes),
    exchange: &mut Exchange,
) -> Result<(), Refusal> {
    // Boxed, as most requests do without it.
    if route.waf.is_some() {
        Box::pin(attacks(generation, route, head, inspected, exchange)).await?;
    }
    if route.graphql.is_some() {
        Box::pin(graphql(generation, route, head, body)).await?;
    }
    Ok(())
}

/// Holds a request against the rules of its route.
async fn attacks(
    generation: &Generation,
    route: &CompiledRoute,
    head: &Parts,
    body: &Bytes,
    exchange: &mut Exchange,
) -> Result<(), Refusal> {
    let Some(waf) = &route.waf else { return Ok(()) };
    let request = OwnedRequest::of(head, body.clone(), exchange)?;
    let verdict = if request.is_quick() {
        request.judge(waf)
    } else {
        let rules = Arc::clone(waf);
        match generation.validators().run(move || request.judge(&rules)).await {
            // A report delays nobody and refuses nobody.
            Err(busy) if !waf.enforces() => {
                waf.skip();
                let detail = format!("waf {}: not inspected: {}", waf.name(), busy.detail);
                exchange.outcome.would_deny.get_or_insert(("waf", detail.into()));
                return Ok(());
            }
            judged => judged?,
        }
    };
    if !verdict.is_attack {
        return Ok(());
    }
    let detail = format!("waf {}: {}", waf.name(), verdict.detail());
    if waf.enforces() {
        return Err(Refusal::new(Reject::Injection, detail));
    }
    exchange.outcome.would_deny.get_or_insert(("waf", detail.into()));
    Ok(())
}

/// Holds the queries of GraphQL in a request against the limits of its route.
async fn graphql(generation: &Generation, route: &CompiledRoute, head: &Parts, body: &Bytes) -> Result<(), Refusal> {
    let Some(limits) = route.graphql else { return Ok(()) };
    let content_type = head.headers.get(header::CONTENT_TYPE).cloned();
    let query = head.uri.query().map(str::to_owned);
    let is_quick = query.as_ref().map_or(0, String::len) + body.len() <= QUICK;
    let body = body.clone();
    let judge = move || graphql::judge(&limits, query.as_deref(), content_type.as_ref(), &body);
    if is_quick { judge() } else { generation.validators().run(judge).await? }
}

/// A request that can go to another thread.
struct OwnedRequest {
    method: Method,
    target: String,
    version: Version,
    host: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    client: IpAddr,
}

impl OwnedRequest {
    fn of(head: &Parts, body: Bytes, exchange: &Exchange) -> Result<Self, Refusal> {
        let target = exchange.target()?;
        // As the client sent it: rules judge what is encoded twice, too.
        let sent = exchange.request.line.as_ref().and_then(|(_, _, sent)| sent.as_ref());
        Ok(Self {
            method: head.method.clone(),
            target: sent.unwrap_or_else(|| target.origin()).as_str().to_owned(),
            version: head.version,
            host: target.authority().to_owned(),
            headers: head.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            body,
            client: exchange.client.address.ip(),
        })
    }

    /// Whether it is judged where it arrived: it is small, and so is every value. Reading SQL may take time by the square
    /// of a value's length.
    fn is_quick(&self) -> bool {
        let headers = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        let sizes = || [self.target.len(), self.body.len()].into_iter().chain(headers.clone());
        sizes().sum::<usize>() <= QUICK && sizes().all(|size| size <= QUICK_VALUE)
    }

    fn judge(&self, waf: &Waf) -> WafVerdict {
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        // Over HTTP/2 the host is no header.
        let host =
            (!self.headers.iter().any(|(name, _)| name == header::HOST)).then_some(("host", self.host.as_bytes()));
        let headers: Vec<_> = host.into_iter().chain(headers).collect();
        waf.inspect(&WafRequest {
            method: self.method.as_str(),
            target: &self.target,
            protocol: match self.version {
                Version::HTTP_10 => "HTTP/1.0",
                Version::HTTP_2 => "HTTP/2.0",
                _ => "HTTP/1.1",
            },
            headers: &headers,
            body: &self.body,
            client: self.client,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_is_not_judged_where_it_arrived() {
        let request = |target: usize, body: usize, values: usize| OwnedRequest {
            method: Method::GET,
            target: "a".repeat(target),
            version: Version::HTTP_11,
            host: String::new(),
            headers: vec![(header::ACCEPT, HeaderValue::from_static("abcd")); values],
            body: Bytes::from(vec![b'a'; body]),
            client: IpAddr::from([192, 0, 2, 1]),
        };
        for (target, body, values, is_quick) in [
            (QUICK_VALUE, QUICK_VALUE, 10, true),
            (QUICK_VALUE + 1, 0, 0, false),
            (0, QUICK_VALUE + 1, 0, false),
            (1, 1, QUICK / 10 + 1, false),
        ] {
            assert_eq!(request(target, body, values).is_quick(), is_quick, "{target} {body} {values}");
        }
    }
}
