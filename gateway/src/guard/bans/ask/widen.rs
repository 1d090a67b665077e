//! Bans an IPv6 network where its clients are banned one by one, and counts the earlier bans of whoever comes back.

use crate::guard::bans::*;

/// How many earlier bans are looked at.
const MOST: usize = 64;

impl Guard {
    /// How many earlier bans of `source` still count. None where they cannot be read: that keeps nobody from being
    /// banned.
    pub(in crate::guard::bans) fn earlier(&self, source: Source, now: Now) -> usize {
        let offences = self.journal.recall(|store| store.offences(source, MOST)).unwrap_or_default();
        self.settings.safety.ladder.earlier(&offences, now.unix_millis)
    }

    /// The network to ban instead of one more of its clients; `None`: the client. What is not safe is not widened to.
    pub(in crate::guard::bans) fn widened(
        &self,
        ask: &BanRequest,
        source: Source,
        shadow: bool,
        now: Now,
    ) -> Option<Source> {
        let (prefix, ladder) = (self.settings.ipv6_prefix, &self.settings.safety.ladder);
        let widens = !shadow && ladder.widen_at > 0 && ladder.widen_to < prefix;
        if !widens || ask.address.is_ipv4() || source.length() != prefix {
            return None;
        }
        let network = Source::network(source.address(), ladder.widen_to)?;
        let banned = |client: &Source| self.find(*client).is_some_and(|record| record.rule.is_some() && !record.shadow);
        let others = clients(network, prefix).filter(banned).count();
        let enough = others + 1 >= usize::try_from(ladder.widen_at).unwrap_or(usize::MAX);
        let safe = || {
            self.judge(network).and_then(|()| self.policy.pardons.judge(network, now.monotonic))?;
            self.judge_shared(network, now).and_then(|()| self.judge_good(network, now))?;
            self.judge_news(network, false).and_then(|()| self.judge_room(network))
        };
        (enough && safe().is_ok()).then_some(network)
    }
}

/// The client prefixes of an IPv6 network; the configuration bounds how many they are.
fn clients(network: Source, prefix: u8) -> impl Iterator<Item = Source> {
    let first = match network.address() {
        std::net::IpAddr::V6(address) => address.to_bits(),
        std::net::IpAddr::V4(_) => 0,
    };
    let count = 1_u128 << prefix.saturating_sub(network.length()).min(12);
    (0..count).filter_map(move |number| {
        let bits = first | number.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
        Source::network(std::net::Ipv6Addr::from_bits(bits).into(), prefix)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_a_network() {
        let all: Vec<String> = clients("2001:db8:0:fe::/63".parse().unwrap(), 64).map(|it| it.to_string()).collect();
        assert_eq!(all, ["2001:db8:0:fe::/64", "2001:db8:0:ff::/64"]);
        assert_eq!(clients("2001:db8::/56".parse().unwrap(), 64).count(), 256);
    }
}
