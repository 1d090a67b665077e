//! Headers of a client that never reach an upstream, by their names: those that the gateway writes itself, and those
//! that an upstream would take for the word of a proxy in front of it.
//!
//! Everything else passes (T01). Programs that turn names into variables read `X_User` and `X.User` as `X-User`, so a
//! name with another character than letters, digits and hyphens does not pass (T02). What a route lets pass after all is
//! `route.pass_headers`; what is the gateway's own never is. *Invariant:* `docs/requests.md` lists the same names.

/// The gateway's own: what it writes, or reads of trusted proxies alone, and what frames or routes a message.
const OWN: [&str; 18] = [
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
    "x-client-certificate",
    "x-forwarded",
    "x-request-id",
];
const OWN_BEGINNINGS: [&str; 2] = ["x-client-certificate-", "x-forwarded-"];

/// What other proxies tell upstreams, in order: who the client is, how it came, what it asked for. They are aliases of what
/// the gateway tells: an upstream that was made for such a proxy believes these names. A name is here only if a known
/// program or platform writes it, or frameworks believe it by themselves; `docs/requests.md` says which. `proxy` becomes
/// `HTTP_PROXY` in CGI.
const OTHERS: [&str; 94] = [
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-pseudo-ipv4",
    "client-cert",
    "client-cert-chain",
    "client-ip",
    "cloudfront-viewer-address",
    "do-connecting-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "forwarded-for",
    "front-end-https",
    "incap-client-ip",
    "iv-creds",
    "iv-groups",
    "iv-user",
    "iv-user-l",
    "proxy",
    "proxy-client-ip",
    "sec-org",
    "sec-proxy",
    "sec-roles",
    "sec-username",
    "sm-universalid",
    "sm-user",
    "sm-userdn",
    "teleport-jwt-assertion",
    "true-client-ip",
    "x-anonymous-consumer",
    "x-apigateway-api-userinfo",
    "x-arr-clientcert",
    "x-auth-audience",
    "x-auth-email",
    "x-auth-expiresin",
    "x-auth-groups",
    "x-auth-roles",
    "x-auth-subject",
    "x-auth-user",
    "x-auth-userid",
    "x-auth-username",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-client-cert",
    "x-client-cert-chain",
    "x-client-dn",
    "x-client-ip",
    "x-client-verify",
    "x-cluster-client-ip",
    "x-consumer",
    "x-consumer-custom-id",
    "x-consumer-groups",
    "x-consumer-id",
    "x-consumer-username",
    "x-credential-identifier",
    "x-email",
    "x-endpoint-api-userinfo",
    "x-groups",
    "x-http-method",
    "x-http-method-override",
    "x-id-token",
    "x-jwt-assertion",
    "x-method-override",
    "x-ms-client-principal",
    "x-original-forwarded-for",
    "x-original-host",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-originating-ip",
    "x-preferred-username",
    "x-proxyuser-ip",
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
    "x-sucuri-clientip",
    "x-token-subject",
    "x-url-scheme",
    "x-user",
    "x-user-email",
    "x-user-groups",
    "x-user-id",
    "x-user-name",
    "x-user-role",
    "x-user-roles",
    "x-userinfo",
    "x-username",
    "x-vercel-forwarded-for",
];
const OTHER_BEGINNINGS: [&str; 26] = [
    "cf-access-",
    "oam-",
    "oidc-",
    "remote-",
    "shib-",
    "ssl-client-",
    "tailscale-",
    "wl-proxy-",
    "x-amzn-mtls-",
    "x-amzn-oidc-",
    "x-appengine-",
    "x-auth-request-",
    "x-authenticated-",
    "x-authentik-",
    "x-envoy-",
    "x-goog-authenticated-user-",
    "x-goog-iap-",
    "x-ms-client-principal-",
    "x-ms-token-",
    "x-pomerium-",
    "x-remote-extra-",
    "x-ssl-client-",
    "x-tls-client-",
    "x-token-user-",
    "x-vouch-",
    "x-webauth-",
];

/// What a name is to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderKind {
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
pub fn kind(name: &str) -> HeaderKind {
    // In order, and none begins with another: the last one that is not behind the name is the only one that it can have.
    let begins = |beginnings: &[&str]| {
        let behind = beginnings.partition_point(|beginning| *beginning <= name);
        behind.checked_sub(1).and_then(|last| beginnings.get(last)).is_some_and(|last| name.starts_with(last))
    };
    if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        HeaderKind::Alias
    } else if OWN.binary_search(&name).is_ok() || begins(&OWN_BEGINNINGS) {
        HeaderKind::Own
    } else if OTHERS.binary_search(&name).is_ok() || begins(&OTHER_BEGINNINGS) {
        HeaderKind::Other
    } else {
        HeaderKind::Message
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
        for beginnings in [&OWN_BEGINNINGS[..], &OTHER_BEGINNINGS] {
            assert!(beginnings.windows(2).all(|two| two[0] < two[1] && !two[1].starts_with(two[0])), "{beginnings:?}");
        }
        let page = include_str!("../../../docs/requests.md");
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
            ("x-auth-token", HeaderKind::Message),
            ("x-user-agent", HeaderKind::Message),
            ("x-client-version", HeaderKind::Message),
            ("x-client-id", HeaderKind::Message),
            ("x-role-hint", HeaderKind::Message),
            ("x-group-by", HeaderKind::Message),
            ("x-group", HeaderKind::Message),
            ("x-host", HeaderKind::Message),
            ("forwarded-for", HeaderKind::Other),
            ("cf-pseudo-ipv4", HeaderKind::Other),
            ("x-original-title", HeaderKind::Message),
            ("x-tls-version", HeaderKind::Message),
            ("x-userland", HeaderKind::Message),
            ("traceparent", HeaderKind::Message),
            ("proxy", HeaderKind::Other),
            ("x-user", HeaderKind::Other),
            ("x-role", HeaderKind::Other),
            ("x-consumer", HeaderKind::Other),
            ("x-consumer-username", HeaderKind::Other),
            ("x-authenticated-userid", HeaderKind::Other),
            ("x-real-ip", HeaderKind::Other),
            ("x-envoy-original-path", HeaderKind::Other),
            ("x-auth-username", HeaderKind::Other),
            ("x-webauth-user", HeaderKind::Other),
            ("x-forwarded-user", HeaderKind::Own),
            ("x-auth-request-email", HeaderKind::Other),
            ("remote-user", HeaderKind::Other),
            ("remote-groups", HeaderKind::Other),
            ("cf-access-authenticated-user-email", HeaderKind::Other),
            ("tailscale-user-login", HeaderKind::Other),
            ("x-amzn-oidc-data", HeaderKind::Other),
            ("x-ms-client-principal", HeaderKind::Other),
            ("x-ms-client-principal-name", HeaderKind::Other),
            ("x-goog-authenticated-user-email", HeaderKind::Other),
            ("x-pomerium-claim-email", HeaderKind::Other),
            ("x-authentik-username", HeaderKind::Other),
            ("iv-user", HeaderKind::Other),
            ("oidc-claim-sub", HeaderKind::Other),
            ("wl-proxy-client-cert", HeaderKind::Other),
            ("x-ms-version", HeaderKind::Message),
            ("x-amzn-trace-id", HeaderKind::Message),
            ("x-goog-api-key", HeaderKind::Message),
            ("sec-fetch-mode", HeaderKind::Message),
            ("cf-ray", HeaderKind::Message),
            ("remote", HeaderKind::Message),
            ("a", HeaderKind::Message),
            ("zzz", HeaderKind::Message),
            ("x-forwarded-for", HeaderKind::Own),
            ("x-forwarded-client-cert", HeaderKind::Own),
            ("x-client-certificate", HeaderKind::Own),
            ("x-client-certificate-serial", HeaderKind::Own),
            ("x-client-dn", HeaderKind::Other),
            ("x-client-verify", HeaderKind::Other),
            ("x-jwt-assertion", HeaderKind::Other),
            ("x-token-subject", HeaderKind::Other),
            ("x-token-user-name", HeaderKind::Other),
            ("x-token-user", HeaderKind::Message),
            ("x-client-verified", HeaderKind::Message),
            ("x-authenticated-principal", HeaderKind::Own),
            ("x_forwarded_for", HeaderKind::Alias),
            ("x_tenant", HeaderKind::Alias),
            ("x.user", HeaderKind::Alias),
            ("x~user", HeaderKind::Alias),
        ] {
            assert_eq!(kind(name), expect, "{name}");
        }
        for alias in ["x_user", "X.User", "x!user", "x|user", "x-user"] {
            assert_eq!(folded(alias), "x-user");
        }
    }
}
