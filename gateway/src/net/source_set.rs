//! A set of networks: whether an address belongs to one of them, by binary search.

use std::net::IpAddr;

use gateway_common::source::Source;

/// Networks of both families, merged. An IPv4-mapped IPv6 address is the IPv4 address, in the set and in questions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceSet {
    /// First and last address of each range, sorted, without overlaps.
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl SourceSet {
    /// The set of these networks.
    #[must_use]
    pub fn new(networks: &[Source]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network.address() {
                IpAddr::V4(address) => {
                    let rest = u32::MAX.checked_shr(network.length().into()).unwrap_or(0);
                    v4.push((address.to_bits(), address.to_bits() | rest));
                }
                IpAddr::V6(address) => {
                    let rest = u128::MAX.checked_shr(network.length().into()).unwrap_or(0);
                    v6.push((address.to_bits(), address.to_bits() | rest));
                }
            }
        }
        Self { v4: merge(v4), v6: merge(v6) }
    }

    /// Whether `address` is in one of the networks.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => is_within(&self.v4, address.to_bits()),
            IpAddr::V6(address) => is_within(&self.v6, address.to_bits()),
        }
    }
}

/// Sorted, each range once, overlapping ones as one.
fn merge<T: Copy + Ord>(mut ranges: Vec<(T, T)>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut().filter(|before| first <= before.1) {
            Some(before) => before.1 = before.1.max(last),
            None => merged.push((first, last)),
        }
    }
    merged.into()
}

fn is_within<T: Copy + Ord>(ranges: &[(T, T)], address: T) -> bool {
    let behind = ranges.partition_point(|(first, _)| *first <= address);
    behind.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, last)| address <= *last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let networks =
            ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7", "2001:db8::/32", "2001:db8:1::/48", "::ffff:198.51.100.0/120"];
        let set = SourceSet::new(&networks.map(|text| text.parse().unwrap()));
        for (address, expect) in [
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("10.1.2.3", true),
            ("9.255.255.255", false),
            ("11.0.0.0", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:10.9.9.9", true),
            ("::ffff:11.0.0.1", false),
            ("198.51.100.9", true),
            ("198.51.101.9", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
            ("::a00:1", false),
        ] {
            assert_eq!(set.contains(address.parse().unwrap()), expect, "{address}");
        }
        let all = SourceSet::new(&["0.0.0.0/0", "::/0"].map(|text| text.parse().unwrap()));
        assert!(all.contains("1.2.3.4".parse().unwrap()) && all.contains("ffff::1".parse().unwrap()));
        let v6 = SourceSet::new(&["::/0".parse().unwrap()]);
        assert!(!v6.contains("::ffff:1.2.3.4".parse().unwrap()), "a mapped address is IPv4");
        assert!(!SourceSet::default().contains("1.2.3.4".parse().unwrap()));
    }
}
