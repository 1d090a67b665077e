//! Decides which prefixes a range of addresses is: the fewest that cover exactly it. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gateway_common::source::Source;

/// Gives the prefixes of `first` to `last`: at most 62 in IPv4, 254 in IPv6.
pub(super) fn prefixes(first: &str, last: &str, mut each: impl FnMut(Source)) -> Result<(), String> {
    let address = |text: &str| {
        let address: Result<IpAddr, _> = text.parse();
        address
            .map(|address| address.to_canonical())
            .map_err(|_error| format!("{:?} is no address, prefix or range", super::shortened(text)))
    };
    let (first, last) = (address(first)?, address(last)?);
    let (mut from, to, width) = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => (u128::from(first.to_bits()), u128::from(last.to_bits()), 32_u32),
        (IpAddr::V6(first), IpAddr::V6(last)) => (first.to_bits(), last.to_bits(), 128),
        _ => return Err("a range from one family of addresses into the other".to_owned()),
    };
    if from > to {
        return Err("the range ends before it begins".to_owned());
    }
    loop {
        // As wide as the start is aligned for, and no wider than what is left.
        let span = to - from;
        let fits = match span.checked_add(1) {
            Some(count) => count.ilog2(),
            None => 128,
        };
        let bits = from.trailing_zeros().min(fits).min(width);
        let start = match width {
            32 => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(from).unwrap_or(u32::MAX))),
            _ => IpAddr::V6(Ipv6Addr::from_bits(from)),
        };
        if let Some(source) = Source::network(start, u8::try_from(width - bits).unwrap_or(0)) {
            each(source);
        }
        let next = 1_u128.checked_shl(bits).and_then(|step| from.checked_add(step));
        match next {
            Some(next) if next <= to => from = next,
            _ => return Ok(()),
        }
    }
}
