//! Headers of a client that never reach an upstream, by their names: those that the gateway writes itself, and those
//! that an upstream would take for the word of a proxy in front of it.
//!
//! Everything else passes (T01). Programs that turn names into variables read `X_User` and `X.User` as `X-User`, so a
//! name with another character than letters, digits and hyphens does not pass (T02). What a route lets pass after all is
//! `route.pass_headers`; what is the gateway's own never is. *Invariant:* `docs/requests.md` lists the same names.

/// The gateway's own: what it writes, or reads of trusted proxies alone, and what frames or routes a message.
const OWN: [&str; 17] = [
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-authenticated-principal",
    "x-forwarded",
    "x-request-id",
];
const OWN_BEGINNINGS: [&str; 2] = ["x-client-certificate-", "x-forwarded-"];

/// What other proxies tell upstreams, in order: who the client is, how it came, what it asked for. `proxy` becomes
/// `HTTP_PROXY` in CGI.
const OTHERS: [&str; 51] = [
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "client-cert",
    "client-cert-chain",
    "client-ip",
    "fastly-client-ip",
    "front-end-https",
    "proxy",
    "remote-user",
    "true-client-ip",
    "x-anonymous-consumer",
    "x-client-cert",
    "x-client-cert-chain",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-consumer",
    "x-consumer-custom-id",
    "x-consumer-groups",
    "x-consumer-id",
    "x-consumer-username",
    "x-credential-identifier",
    "x-group",
    "x-groups",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-forwarded-for",
    "x-original-host",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-group",
    "x-remote-groups",
    "x-remote-ip",
    "x-remote-user",
    "x-rewrite-url",
    "x-role",
    "x-roles",
    "x-scheme",
    "x-url-scheme",
    "x-user",
    "x-user-email",
    "x-user-groups",
    "x-user-id",
    "x-user-name",
    "x-user-role",
    "x-user-roles",
    "x-username",
];
const OTHER_BEGINNINGS: [&str; 7] = [
    "ssl-client-",
    "x-auth-request-",
    "x-authenticated-",
    "x-envoy-",
    "x-remote-extra-",
    "x-ssl-client-",
    "x-tls-client-",
];

/// What a name is to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It has characters that some programs do not tell from a hyphen.
    Alias,
    /// A client's own.
    Message,
    /// What another proxy would say.
    Other,
    /// What the gateway itself says.
    Own,
}

/// What `name`, in lower case, is.
#[must_use]
pub fn kind(name: &str) -> Kind {
    let begins = |beginnings: &[&str]| beginnings.iter().any(|beginning| name.starts_with(beginning));
    if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        Kind::Alias
    } else if OWN.binary_search(&name).is_ok() || begins(&OWN_BEGINNINGS) {
        Kind::Own
    } else if OTHERS.binary_search(&name).is_ok() || begins(&OTHER_BEGINNINGS) {
        Kind::Other
    } else {
        Kind::Message
    }
}

/// The name that programs may read `name` as.
#[must_use]
pub fn folded(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_in_order_and_written_down() {
        assert!(OWN.is_sorted() && OTHERS.is_sorted());
        let page = include_str!("../../docs/requests.md");
        for name in OWN.into_iter().chain(OTHERS) {
            assert!(page.contains(&format!("`{name}`")), "docs/requests.md lacks {name}");
        }
        for beginning in OWN_BEGINNINGS.into_iter().chain(OTHER_BEGINNINGS) {
            assert!(page.contains(&format!("`{beginning}*`")), "docs/requests.md lacks {beginning}*");
        }
    }

    #[test]
    fn t01_t02_kinds() {
        for (name, expect) in [
            ("x-auth-token", Kind::Message),
            ("x-user-agent", Kind::Message),
            ("x-client-version", Kind::Message),
            ("x-client-id", Kind::Message),
            ("x-role-hint", Kind::Message),
            ("x-group-by", Kind::Message),
            ("x-original-title", Kind::Message),
            ("x-tls-version", Kind::Message),
            ("x-userland", Kind::Message),
            ("traceparent", Kind::Message),
            ("proxy", Kind::Other),
            ("x-user", Kind::Other),
            ("x-role", Kind::Other),
            ("x-consumer", Kind::Other),
            ("x-consumer-username", Kind::Other),
            ("x-authenticated-userid", Kind::Other),
            ("x-real-ip", Kind::Other),
            ("x-envoy-original-path", Kind::Other),
            ("x-forwarded-for", Kind::Own),
            ("x-forwarded-client-cert", Kind::Own),
            ("x-client-certificate-serial", Kind::Own),
            ("x-authenticated-principal", Kind::Own),
            ("x_forwarded_for", Kind::Alias),
            ("x_tenant", Kind::Alias),
            ("x.user", Kind::Alias),
            ("x~user", Kind::Alias),
        ] {
            assert_eq!(kind(name), expect, "{name}");
        }
        for alias in ["x_user", "X.User", "x!user", "x|user", "x-user"] {
            assert_eq!(folded(alias), "x-user");
        }
    }
}
