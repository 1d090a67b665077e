//! The request that a command asks about: a method, a URL and headers, as a client would send them.

use std::{fmt, net::SocketAddr};

use clap::Args;
use http::{HeaderName, HeaderValue, Method, request::Parts};

use crate::{
    refusal::{Refusal, Reject},
    snapshot::explain::Asked,
};

/// Where the request would come in, which counts only for those that name no host.
pub(super) const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 443);

/// A request that nobody sends.
#[derive(Debug, Args)]
pub(super) struct AskedRequest {
    /// The method, in capitals
    #[arg(value_parser = method)]
    pub(super) method: Method,
    /// The URL with scheme and host: https://api.example.com/items/7
    #[arg(value_parser = url)]
    url: RequestUrl,
    /// A header of the request, "name: value"; can be repeated
    #[arg(long, value_name = "HEADER", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Clone, Debug)]
struct RequestUrl {
    text: String,
    authority: HeaderValue,
    origin: http::Uri,
    /// It has neither path nor query.
    is_bare: bool,
}

impl AskedRequest {
    /// Path and query, as they would be sent (RFC 9112 3.2.4).
    fn origin(&self) -> http::Uri {
        let is_whole = self.method == Method::OPTIONS && self.url.is_bare;
        if is_whole { http::Uri::from_static("*") } else { self.url.origin.clone() }
    }

    /// Its head, as it would be received.
    pub(super) fn head(&self) -> Result<Parts, Refusal> {
        let request = http::Request::builder().method(self.method.clone()).uri(self.origin());
        let mut request = request.header(http::header::HOST, self.url.authority.clone());
        for (name, value) in &self.header {
            request = request.header(name, value.clone());
        }
        let request = request.body(()).map_err(|_no_request| Refusal::new(Reject::BadRequest, "no request"))?;
        Ok(request.into_parts().0)
    }
}

impl From<&AskedRequest> for Asked {
    fn from(request: &AskedRequest) -> Self {
        // Neither has anything but visible letters: the arguments were judged so.
        let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
        Self {
            method: request.method.to_string(),
            target: request.origin().to_string(),
            authority: text(&request.url.authority),
            headers: request.header.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            ..Self::default()
        }
    }
}

impl fmt::Display for AskedRequest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.method, self.url.text)
    }
}

fn method(text: &str) -> Result<Method, String> {
    let method = Method::from_bytes(text.as_bytes()).map_err(|_no_token| format!("{text:?} is no method"))?;
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(format!("methods are in capitals: did you mean {}?", text.to_ascii_uppercase()));
    }
    Ok(method)
}

fn url(text: &str) -> Result<RequestUrl, String> {
    const HINT: &str = "write scheme, host and path, as in https://api.example.com/items/7";
    let Some(("http" | "https", rest)) = text.split_once("://") else { return Err(HINT.to_owned()) };
    if text.contains('#') {
        return Err("a fragment never leaves the browser: leave it out".to_owned());
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).ok_or(HINT)?;
    let origin = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    if authority.is_empty() {
        return Err(HINT.to_owned());
    }
    let authority = HeaderValue::from_str(authority).map_err(|_no_header| HINT.to_owned())?;
    let origin = origin.parse().map_err(|error| format!("{origin:?} cannot be sent: {error}"))?;
    Ok(RequestUrl { text: text.to_owned(), authority, origin, is_bare: path.is_empty() })
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write a name and a value, as in \"x-api-version: 2\"")?;
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_no_name| format!("{name:?} is no header"))?;
    if name == http::header::HOST {
        return Err("the host is the URL's".to_owned());
    }
    let value = HeaderValue::from_str(value.trim()).map_err(|_no_value| format!("{value:?} fits no header"))?;
    Ok((name, value))
}
