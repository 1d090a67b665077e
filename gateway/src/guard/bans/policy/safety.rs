//! Whether banning a source is safe. Pure: what the host looks like comes in as data.

use std::{net::IpAddr, sync::LazyLock};

use gateway_common::source::Source;

use super::super::refused::Refused;

/// Addresses without which the host or its clients are cut off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProtectedAddresses {
    /// Which address, and what it is.
    pub(crate) protected: Vec<(IpAddr, Protection)>,
}

/// Why an address must not be banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    /// The way to everywhere else.
    Gateway,
    /// Vouches for tokens.
    IdentityProvider,
    /// Somebody is logged in from there: perhaps whoever asks.
    Operator,
    /// Of this host.
    Own,
    /// Answers names, which upstreams are reached by.
    Resolver,
    /// Behind the proxy.
    Upstream,
}

/// What stands against a ban for as long as nobody insists.
pub(crate) const OPERATOR: &str = "operator_session";

/// What stands against a ban of whoever a list with `use = "never_ban"` names. An operator may insist.
pub(crate) const NEVER_BAN: &str = "never_ban";

/// How wide and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// The shortest IPv4 prefix.
    pub(crate) widest_ipv4: u8,
    /// The shortest IPv6 prefix.
    pub(crate) widest_ipv6: u8,
}

impl Protection {
    const fn code(self) -> &'static str {
        match self {
            Self::Gateway => "default_gateway",
            Self::IdentityProvider => "identity_provider",
            Self::Operator => OPERATOR,
            Self::Own => "own_address",
            Self::Resolver => "resolver",
            Self::Upstream => "upstream",
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "the default gateway",
            Self::IdentityProvider => "an identity provider",
            Self::Operator => "where somebody is logged in from by SSH",
            Self::Own => "an address of this host",
            Self::Resolver => "a name server of this host",
            Self::Upstream => "a server behind the proxy",
        }
    }
}

/// Whether `source` may be banned.
///
/// A protected address that is allowlisted by itself does not stand against banning a network around it: the allowance
/// keeps it reachable.
pub(crate) fn judge(
    source: Source,
    bounds: Bounds,
    protected: &ProtectedAddresses,
    allowed: impl Fn(Source) -> Option<(Source, String)>,
) -> Result<(), Refused> {
    if let Some((allow, actor)) = allowed(source) {
        let how = if actor == "config" { "remove it from guard.allow first" } else { "`gateway allow del` it first" };
        return Err(Refused::new("allowlisted", format!("{source} is allowlisted by {allow} ({actor}): {how}")));
    }
    let widest = if source.address().is_ipv4() { bounds.widest_ipv4 } else { bounds.widest_ipv6 };
    if source.length() < widest {
        return Err(Refused::new(
            "too_wide",
            format!("{source} is wider than /{widest}, the widest that may be blocked"),
        ));
    }
    if let Some(what) = special(source) {
        return Err(Refused::new("special_address", format!("{source} is or holds {what}, which never is a client")));
    }
    // Last what an operator may insist on: nothing else stands against it then.
    let (insistable, absolute): (Vec<_>, Vec<_>) =
        protected.protected.iter().copied().partition(|(_, role)| *role == Protection::Operator);
    for (address, role) in absolute.into_iter().chain(insistable) {
        let own = Source::of(address, 128);
        if source.contains(address) && allowed(own).is_none() {
            let (code, what) = (role.code(), role.name());
            let holds = if source == own { "is" } else { "holds" };
            let address = if source == own { String::new() } else { format!("{address}, ") };
            let advice = match role {
                Protection::Operator => ": with --force it is blocked all the same",
                _ if source == own => "",
                _ => ": `gateway allow add` that address first if the rest is to be blocked",
            };
            return Err(Refused::new(code, format!("{source} {holds} {address}{what}{advice}")));
        }
    }
    Ok(())
}

/// What of `source` can never be a client's address, or must not be taken for one.
pub(crate) fn special(source: Source) -> Option<&'static str> {
    const SPECIAL: [(&str, &str); 9] = [
        ("0.0.0.0/8", "the unspecified address"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local addresses"),
        ("224.0.0.0/4", "multicast addresses"),
        ("240.0.0.0/4", "reserved and broadcast addresses"),
        ("::/128", "the unspecified address"),
        ("::1/128", "loopback"),
        ("fe80::/10", "link-local addresses"),
        ("ff00::/8", "multicast addresses"),
    ];
    // Parsed once: a list has a million sources to ask about.
    static NETWORKS: LazyLock<Vec<(Source, &str)>> = LazyLock::new(|| {
        SPECIAL.into_iter().filter_map(|(network, what)| Some((network.parse().ok()?, what))).collect()
    });
    let hit = |(network, _): &&(Source, &str)| network.covers(&source) || source.covers(network);
    NETWORKS.iter().find(hit).map(|(_, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        text.parse().unwrap()
    }

    #[track_caller]
    fn check(text: &str, expect: Option<&str>) {
        let protected = ProtectedAddresses {
            protected: vec![
                ("203.0.113.1".parse().unwrap(), Protection::Gateway),
                ("203.0.113.2".parse().unwrap(), Protection::Own),
                ("2001:db8:5::2".parse().unwrap(), Protection::Own),
                ("9.9.9.9".parse().unwrap(), Protection::Resolver),
                ("198.51.100.7".parse().unwrap(), Protection::Upstream),
                ("100.64.3.4".parse().unwrap(), Protection::Own),
                ("192.0.2.50".parse().unwrap(), Protection::Operator),
                ("203.0.113.9".parse().unwrap(), Protection::Operator),
                ("192.0.2.60".parse().unwrap(), Protection::IdentityProvider),
                ("10.9.9.9".parse().unwrap(), Protection::Operator),
            ],
        };
        let allows = [source("10.0.0.0/8"), source("2001:db8:a::/48"), source("100.64.3.4")];
        let allowed =
            |asked: Source| allows.iter().find(|allow| allow.covers(&asked)).map(|allow| (*allow, "config".to_owned()));
        let bounds = Bounds { widest_ipv4: 16, widest_ipv6: 32 };
        let answer = judge(source(text), bounds, &protected, allowed);
        assert_eq!(answer.as_ref().err().map(|refused| refused.code), expect, "{text}: {answer:?}");
    }

    #[test]
    fn x07_x10_what_may_be_banned() {
        check("192.0.2.7", None);
        check("192.0.2.0/28", None);
        check("192.0.2.50", Some("operator_session"));
        check("192.0.2.48/29", Some("operator_session"));
        check("192.0.2.60", Some("identity_provider"));
        check("192.0.2.0/24", Some("identity_provider"));
        check("203.0.113.0/24", Some("default_gateway"));
        check("10.9.9.9", Some("allowlisted"));
        check("10.1.2.3", Some("allowlisted"));
        check("10.0.0.0/8", Some("allowlisted"));
        check("::ffff:10.1.2.3", Some("allowlisted"));
        check("2001:db8:a:1::/64", Some("allowlisted"));
        check("0.0.0.0/0", Some("too_wide"));
        check("192.0.0.0/15", Some("too_wide"));
        check("::/0", Some("too_wide"));
        check("2001::/16", Some("too_wide"));
        check("127.0.0.1", Some("special_address"));
        check("::1", Some("special_address"));
        check("::/64", Some("special_address"));
        check("0.0.0.0", Some("special_address"));
        check("169.254.1.1", Some("special_address"));
        check("255.255.255.255", Some("special_address"));
        check("224.0.0.1", Some("special_address"));
        check("fe80::1", Some("special_address"));
        check("ff02::/32", Some("special_address"));
        check("203.0.113.1", Some("default_gateway"));
        check("203.0.113.2", Some("own_address"));
        check("203.0.113.2/31", Some("own_address"));
        check("2001:db8:5::/64", Some("own_address"));
        check("9.9.9.9", Some("resolver"));
        check("198.51.100.0/24", Some("upstream"));
        check("100.64.3.0/24", None);
        check("100.64.3.4", Some("allowlisted"));
    }
}
