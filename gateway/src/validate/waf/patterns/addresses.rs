//! Patterns of URLs that lead inside.

use super::pattern::{Pattern, Scope, pattern};

/// URLs that lead inside.
pub(super) const ADDRESSES: &[Pattern] = &[
    pattern(
        "ssrf",
        "ssrf",
        Scope::VALUE,
        r"^\s*(?:url:)?(?:https?|ftp|wss?):/{2,}(?:[^/?#@]{0,100}@)?(?:localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|127\.\d{1,5}(?:\.\d{1,5})?|0(?:\.0\.0\.0)?|10\.\d{1,3}\.\d{1,3}\.\d{1,3}|192\.168\.\d{1,3}\.\d{1,3}|172\.(?:1[6-9]|2\d|3[01])\.\d{1,3}\.\d{1,3}|169\.254\.\d{1,3}\.\d{1,3}|100\.100\.100\.200|\[[0:]*(?:1|ffff:[0-9a-f.:]+)?\]|\[f[cde][0-9a-f]{2}:[^\]]*\])\.?(?:[:/?#]|$)",
    ),
    pattern(
        "ssrf",
        "ssrf",
        Scope::VALUE,
        r"^\s*(?:url:)?https?:/{2,}(?:[^/?#@]{0,100}@)?(?:0x[0-9a-f]{1,8}(?:\.0x[0-9a-f]{1,2}){0,3}|0[0-7]{1,3}(?:\.[0-7]{1,4}){1,3}|\d{8,10}|metadata(?:\.google\.internal)?|instance-data|[^/?#:]{1,100}\.(?:internal|local|localhost|localdomain|nip\.io|sslip\.io|xip\.io|lvh\.me|localtest\.me|vcap\.me|burpcollaborator\.net|oastify\.com|interact\.sh))(?:[:/?#]|$)",
    ),
    pattern(
        "ssrf",
        "ssrf",
        Scope::VALUE,
        r"^\s*(?:url:)?(?:gopher|dict|ldaps?|jar:\w+|netdoc|file|tftp|sftp|smb|rmi|iiop|local_file)\s*:/{1,3}",
    ),
    pattern(
        "ssrf",
        "ssrf",
        Scope::VALUE,
        r"169\.254\.169\.254|/latest/(?:meta-data|user-data|dynamic/instance-identity)|/computeMetadata/v1",
    ),
];
