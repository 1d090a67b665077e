//! Patterns of URLs that lead inside.

use super::pattern::{BuiltinPattern, PatternScope, pattern};

/// Where a URL begins.
macro_rules! scheme {
    () => {
        r"(?:https?|ftp|wss?|jdbc:[\w:]{1,24}):"
    };
}

/// What stands before an address. Parsers differ in how many slashes they need, and in which `@` counts.
macro_rules! url {
    () => {
        concat!(scheme!(), r"[/\\\s]*(?:[^/\s]*@)?")
    };
}

/// What stands before a name: `HTTP: metadata` is prose.
macro_rules! url_of_name {
    () => {
        concat!(scheme!(), r"[/\\]+\s*(?:[^/\s]*@)?")
    };
}

/// Hosts that are this machine, a private network or a metadata service, by address.
macro_rules! address {
    () => {
        r"(?:localhost6?|ip6-(?:localhost|loopback)|127(?:\.\d{1,8}){1,3}|0+(?:\.0+){0,3}|10\.\d{1,3}\.\d{1,3}\.\d{1,3}|192\.168\.\d{1,3}\.\d{1,3}|172\.(?:1[6-9]|2\d|3[01])\.\d{1,3}\.\d{1,3}|169\.254(?:\.\d{1,5}){1,2}|169\.\d{7,8}|100\.100\.100\.200|192\.0\.0\.192|\[[0:]*(?:1|(?:ffff:)?(?:[0-9a-f]{1,4}:[0-9a-f]{1,4}|\d+\.\d+\.\d+\.\d+))?\]|\[f[cde][0-9a-f]{2}:[^\]]*\])\.?"
    };
}

/// The same, by numbers that few people write, and by names: a name without a dot and with a port is one of a network inside.
macro_rules! name {
    () => {
        r"(?:0x[0-9a-f]{1,8}(?:\.(?:0x[0-9a-f]{1,8}|\d{1,8})){0,3}|0[0-7]{1,3}(?:\.[0-7]{1,4}){1,3}|0[0-7]{8,11}|\d{8,10}|metadata(?:\.google\.internal)?|instance-data|rancher-metadata|kubernetes(?:\.default)?|[^/?#:\s]+\.(?:internal|local|localhost|localdomain|svc|consul)|(?:[^/?#:\s]+\.)?(?:nip\.io|sslip\.io|xip\.io|lvh\.me|localtest\.me|vcap\.me|burpcollaborator\.net|oastify\.com|oast\.(?:fun|live|me|online|pro|site)|interact\.sh)|[a-z][\w-]{0,40}:\d{2,5})"
    };
}

/// Where a host ends.
macro_rules! end {
    () => {
        r"(?:[:/?#\\\s'\x22<>,;|)\]%]|$)"
    };
}

/// What may stand before the only URL of a value, or before the first of several.
macro_rules! begin {
    () => {
        r"^[\s\[({'\x22<]*(?:(?:url[:(=]|view-source:|feed:|blob:)\s*)?['\x22]?"
    };
}

/// A URL, and somewhere behind it what may begin another one: in a list, in its query, behind a line end.
macro_rules! behind_another {
    () => {
        concat!(begin!(), r"[a-z][a-z0-9+.-]{1,20}:/{2}.*[^a-z0-9+.-]")
    };
}

/// URLs that lead inside.
pub(super) const ADDRESSES: &[BuiltinPattern] = &[
    pattern("ssrf", "ssrf", PatternScope::VALUE, concat!(begin!(), url!(), address!(), end!())),
    pattern("ssrf", "ssrf", PatternScope::VALUE, concat!(begin!(), url_of_name!(), name!(), end!())),
    pattern("ssrf", "ssrf", PatternScope::VALUE, concat!(behind_another!(), url!(), address!(), end!())),
    pattern("ssrf", "ssrf", PatternScope::VALUE, concat!(behind_another!(), url_of_name!(), name!(), end!())),
    // Resources that a page or a program loads from a text.
    pattern(
        "ssrf",
        "ssrf",
        PatternScope::VALUE,
        concat!(r"(?:\bsrc\s*=\s*['\x22]?|\burl\(\s*['\x22]?|!\[[^\]]*\]\(\s*)", url!(), address!(), end!()),
    ),
    pattern(
        "ssrf",
        "ssrf",
        PatternScope::VALUE,
        concat!(
            r"^\s*[/\\]{2,}(?:[^/\s]*@)?(?:localhost|127(?:\.\d{1,8}){1,3}|169\.254\.169\.254|\[[0:]*1?\])",
            end!()
        ),
    ),
    pattern(
        "ssrf",
        "ssrf",
        PatternScope::VALUE,
        concat!(
            begin!(),
            r"(?:gopher|dict|ldaps?|jar:\w+|netdoc|file|tftp|sftp|smb|rmi|iiop|local[_-]file|ssh2\.\w+)\s*:/{1,3}"
        ),
    ),
    pattern(
        "ssrf",
        "ssrf",
        PatternScope::VALUE,
        concat!(behind_another!(), r"(?:gopher|dict|ldaps?|jar:\w+|netdoc|file|tftp|smb|rmi|iiop):/{2}"),
    ),
    // Nobody writes the scheme like this, but to pass a comparison that minds case. `jdbc:` runs scripts.
    pattern(
        "ssrf",
        "ssrf",
        PatternScope::VALUE,
        r"^[\s'\x22(]*(?:url[:(]\s*)?(?:(?-i:d(?:A[Tt][Aa]|aT[Aa]|atA)|D(?:ATa|AtA|Ata|aT[Aa]|atA))\s*:|data:/{2}|jdbc:.*(?:\bRUNSCRIPT\b|\bautoDeserialize\b|\bsocketFactory\b|;\s*INIT\s*=))",
    ),
    pattern(
        "ssrf",
        "ssrf",
        PatternScope::VALUE,
        r"169\.254\.169\.254|/latest/(?:meta-data|user-data|dynamic/instance-identity)|/computeMetadata/v1",
    ),
];
