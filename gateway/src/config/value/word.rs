//! Values that are one word: names, permissions, methods, headers.

use http::{HeaderName, Method};
use toml::de::DeValue;

use super::closest;

use crate::diagnostic::Diagnostic;

/// A name that reads the same in logs, metrics and on the command line.
pub(in crate::config) fn simple_name(name: &str) -> Result<(), Diagnostic> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !name.is_empty() && name.len() <= 64 && name.bytes().all(fine) {
        return Ok(());
    }
    Err(Diagnostic::bare(format!("{name:?} is not a name")).hint("write 1 to 64 letters, digits, \"-\" or \"_\""))
}

/// A permission: one word.
pub(in crate::config) fn permission(value: &DeValue<'_>) -> Result<String, Diagnostic> {
    let word = super::line(value)?;
    if word.contains(char::is_whitespace) {
        return Err(Diagnostic::bare(format!("{word:?} has spaces")).hint("write one word, as in \"items:read\""));
    }
    Ok(word)
}

/// Methods of extensions: of the IANA HTTP Method Registry (WebDAV and others), QUERY, and what caches and UPnP use.
const EXTENSIONS: [&str; 36] = [
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "LABEL",
    "LINK",
    "LOCK",
    "M-SEARCH",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "NOTIFY",
    "ORDERPATCH",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "SOURCE",
    "SUBSCRIBE",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UNSUBSCRIBE",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

/// What an operator should know of a method that nobody has registered: it may be a slip, and no client asks by it then.
pub(in crate::config) fn unregistered(key: &str, method: &Method) -> Option<Diagnostic> {
    let text = method.as_str();
    let known = || KNOWN.into_iter().chain(EXTENSIONS);
    if known().any(|known| known == text) {
        return None;
    }
    let warning = Diagnostic::new(key, format!("{text} is not a registered method: few clients send it"));
    let near = known().map(|known| (strsim::osa_distance(text, known), known));
    // One letter too many, too few or wrong, or two that changed places.
    Some(match near.filter(|(distance, _)| *distance == 1).min() {
        Some((_, near)) => warning.hint(format!("did you mean {near:?}?")),
        None => warning.hint("leave it so if your clients do send it"),
    })
}

/// The methods that most clients send.
const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// A method that routes may take.
pub(in crate::config) fn method(value: &DeValue<'_>) -> Result<Method, Diagnostic> {
    let text = super::text(value)?;
    if matches!(text, "CONNECT" | "TRACE") {
        let hint = "tunnels and echoes are never forwarded: leave it out";
        return Err(Diagnostic::bare(format!("{text} is not supported")).hint(hint));
    }
    if KNOWN.contains(&text) || EXTENSIONS.contains(&text) {
        return Method::from_bytes(text.as_bytes()).map_err(|_no_token| Diagnostic::bare("is not a method"));
    }
    // Methods of extensions (RFC 9110 16.1) are in capitals, too; what is close to a known one is a slip.
    let capitals = text.to_ascii_uppercase();
    let wrong = || Diagnostic::bare(format!("{text:?} is not a method"));
    if let Some(known) = closest(&capitals, KNOWN).filter(|_| text.len() > 2) {
        return Err(wrong().hint(format!("did you mean {known:?}?")));
    }
    if text != capitals || !text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
        return Err(wrong().hint(format!("methods are written in capitals: {}, ...", KNOWN.join(", "))));
    }
    Method::from_bytes(text.as_bytes()).map_err(|_no_token| wrong().hint(format!("write one of {}", KNOWN.join(", "))))
}

/// The name of a header.
pub(in crate::config) fn header(value: &DeValue<'_>) -> Result<HeaderName, Diagnostic> {
    let text = super::line(value)?;
    let wrong =
        || Diagnostic::bare(format!("{text:?} is not a header name")).hint("write its name alone, as in \"x-version\"");
    HeaderName::from_bytes(text.as_bytes()).map_err(|_no_name| wrong())
}
