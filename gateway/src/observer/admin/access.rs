//! Who may ask the admin listener: by the host that a request names, and by its token.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::{HeaderMap, Request, header, uri::Authority};

use crate::web::header_values;

/// Whether a request names a host of ours: an address, `localhost` or one of `hosts`. A page in somebody's browser can
/// make its own name stand for a loopback address; it cannot make the browser name another host (DNS rebinding).
pub(super) fn is_ours<B>(request: &Request<B>, hosts: &[String]) -> bool {
    let mut named = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (named.next(), named.next()) else { return false };
    let Ok(authority) = Authority::try_from(host.as_bytes()) else { return false };
    let host = authority.host();
    let is_address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>().is_ok();
    is_address || host.eq_ignore_ascii_case("localhost") || hosts.iter().any(|own| own.eq_ignore_ascii_case(host))
}

/// Whether a request has the token.
pub(super) fn has_token(headers: &HeaderMap, token: &[u8]) -> bool {
    bearer(headers).is_some_and(|sent| verify_slices_are_equal(sent, token).is_ok())
}

/// What a request shows as its token (RFC 6750 2.1).
pub(super) fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut sent = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(sent), None) = (sent.next(), sent.next()) else { return None };
    header_values::credentials(sent.as_bytes(), b"Bearer")
}
