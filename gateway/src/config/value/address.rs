//! Values that name a host: host names, wildcards, servers with their port, origins of web pages.

use toml::de::DeValue;

use crate::diagnostic::Diagnostic;

/// A host name, an IPv4 address, or an IPv6 address in brackets; in lower case.
///
/// # Errors
/// Anything else: ports, wildcards, letters beyond ASCII.
pub fn host(text: &str) -> Result<String, Diagnostic> {
    let wrong = |message: &str| Diagnostic::bare(format!("{text:?} is not a host name: {message}"));
    if let Some(address) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        let address: std::net::Ipv6Addr =
            address.parse().map_err(|_no_address| wrong("there is no IPv6 address in the brackets"))?;
        return Ok(format!("[{address}]"));
    }
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return Err(wrong("it is a bare IPv6 address").hint(format!("put it in brackets: \"[{text}]\"")));
    }
    if text.contains("://") || text.contains('/') {
        return Err(wrong("it is a URL").hint("write the name alone, as in \"api.example.com\""));
    }
    if let Some((name, _)) = text.split_once(':') {
        return Err(wrong("it has a port").hint(format!("a host is matched on every port: write {name:?}")));
    }
    if text.contains('*') {
        return Err(wrong("it has a wildcard").hint("a wildcard is the whole first label: \"*.example.com\""));
    }
    if !text.is_ascii() {
        return Err(wrong("it has letters beyond ASCII").hint("write its ASCII form, which starts with \"xn--\""));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() > 253 || !text.split('.').all(label) {
        return Err(
            wrong("a name is labels of letters, digits and hyphens with dots between").hint("no dot at the end")
        );
    }
    Ok(text.to_ascii_lowercase())
}

/// What [`host`] takes, or `*.` and a name: every host with one label before it.
///
/// # Errors
/// Anything else, and wildcards of addresses: a name that ends in a number is read as one.
pub fn host_or_wildcard(text: &str) -> Result<String, Diagnostic> {
    let Some(behind) = text.strip_prefix("*.") else { return host(text) };
    let name = host(behind)?;
    let is_address = |label: &str| label.ends_with(']') || label.bytes().all(|byte| byte.is_ascii_digit());
    if name.rsplit('.').next().is_some_and(is_address) {
        return Err(
            Diagnostic::bare(format!("{text:?} has a wildcard before an address")).hint("write the address alone")
        );
    }
    Ok(format!("*.{name}"))
}

/// `host:port`.
///
/// # Errors
/// Anything else.
pub fn server(text: &str) -> Result<String, Diagnostic> {
    const HINT: &str = "write host and port: \"127.0.0.1:9000\", \"[::1]:9000\" or \"items.internal:9000\"";
    if text.contains("://") {
        return Err(
            Diagnostic::bare(format!("{text:?} is a URL; for TLS, write `tls = true` in the upstream")).hint(HINT)
        );
    }
    let Some((name, port)) = text.rsplit_once(':') else {
        return Err(Diagnostic::bare(format!("{text:?} has no port")).hint(HINT));
    };
    if !port.bytes().all(|digit| digit.is_ascii_digit()) || port.parse::<u16>().is_ok_and(|port| port == 0) {
        return Err(Diagnostic::bare(format!("{text:?} has no port from 1 to 65535")).hint(HINT));
    }
    let port: u16 = port
        .parse()
        .map_err(|_no_port| Diagnostic::bare(format!("{text:?} has no port from 1 to 65535")).hint(HINT))?;
    Ok(format!("{}:{port}", host(name).map_err(|wrong| Diagnostic { hint: Some(HINT.to_owned()), ..wrong })?))
}

/// What a browser sends as `Origin` (RFC 6454 6.2), or a wildcard for one label of it; in lower case.
pub(in crate::config) fn origin(value: &DeValue<'_>) -> Result<String, Diagnostic> {
    const HINT: &str = "write scheme and host, and the port if it is not the usual one: \"https://app.example.com\", \
                        \"https://*.example.com\"";
    let text = super::text(value)?;
    let wrong = |why: &str| Diagnostic::bare(format!("{text:?} is not an origin{why}"));
    let Some((scheme, authority)) = text.split_once("://") else { return Err(wrong("").hint(HINT)) };
    let is_of_scheme = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) || !scheme.bytes().all(is_of_scheme) {
        return Err(wrong("").hint(HINT));
    }
    if authority.contains(['/', '?', '#', '@']) {
        return Err(wrong(": it has a path or more").hint(HINT));
    }
    let bracket = authority.rfind(']').map_or(0, |end| end + 1);
    let colon = authority.get(bracket..).and_then(|behind| behind.find(':')).map(|colon| bracket + colon);
    let (host, port) = authority.split_at(colon.unwrap_or(authority.len()));
    let scheme = scheme.to_ascii_lowercase();
    let host = host_or_wildcard(host).map_err(|wrong_host| wrong(&format!(": {}", wrong_host.message)).hint(HINT))?;
    if host.strip_prefix("*.").is_some_and(|parent| !parent.contains('.') && parent != "localhost") {
        let hint = "name a domain of yours behind the wildcard: \"https://*.example.com\"";
        return Err(wrong(": the wildcard covers every site of a top-level domain").hint(hint));
    }
    if let Some(digits) = port.strip_prefix(':') {
        let number = digits.parse().ok().filter(|number: &u16| *number > 0 && digits == number.to_string());
        let usual = match scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        match number {
            None => return Err(wrong(": it has no port from 1 to 65535").hint(HINT)),
            Some(number) if Some(number) == usual => {
                let hint = format!("browsers leave the usual port out: write \"{scheme}://{host}\"");
                return Err(wrong(": no browser sends it").hint(hint));
            }
            Some(_) => {}
        }
    }
    Ok(format!("{scheme}://{host}{port}"))
}
