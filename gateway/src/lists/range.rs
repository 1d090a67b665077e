//! Reads what a word names: an address, a prefix, or a range, as the fewest prefixes that cover exactly it. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gateway_common::source::Source;

use super::line::shortened;

/// Gives what a word names: an address, a prefix, or the prefixes of a range.
pub(super) fn sources(word: &str, mut each: impl FnMut(Source)) -> Result<(), String> {
    let error = match word.parse() {
        Ok(source) => {
            each(source);
            return Ok(());
        }
        Err(error) => error,
    };
    if let Some((first, last)) = word.split_once('-') {
        return prefixes(first.trim(), last.trim(), each);
    }
    if let Some((address, mask)) = word.split_once('/')
        && let (Ok(address), Ok(mask)) = (address.parse(), mask.parse())
    {
        return masked(address, mask, each);
    }
    if let Some(address) = padded(word) {
        each(Source::of(address.into(), 128));
        return Ok(());
    }
    Err(format!("{:?}: {error}", shortened(word)))
}

/// Gives the prefixes of `first` to `last`: at most 62 in IPv4, 254 in IPv6.
pub(super) fn prefixes(first: &str, last: &str, mut each: impl FnMut(Source)) -> Result<(), String> {
    let address = |text: &str| {
        let address = text.parse().or_else(|error| padded(text).map(IpAddr::V4).ok_or(error));
        address
            .map(|address| address.to_canonical())
            .map_err(|_error| format!("{:?} is no address, prefix or range", shortened(text)))
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

/// An IPv4 address whose numbers are all written with three digits. With fewer a leading zero would mean eight as the
/// base to some.
pub(super) fn padded(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next().filter(|part| part.len() == 3 && part.bytes().all(|byte| byte.is_ascii_digit()))?;
        *octet = part.parse().ok()?;
    }
    parts.next().is_none().then(|| octets.into())
}

/// Gives the prefix of an address with a mask, of bits that count or, as Cisco writes it, of bits that do not.
pub(super) fn masked(address: Ipv4Addr, mask: Ipv4Addr, mut each: impl FnMut(Source)) -> Result<(), String> {
    let bits = mask.to_bits();
    let (counts, rest) = (bits.leading_ones(), bits.trailing_ones());
    let length = match bits {
        // All or nothing: a mask of the first kind would be everybody.
        0 => 32,
        _ if bits.count_ones() == counts => counts,
        _ if bits.count_ones() == rest => 32 - rest,
        _ => return Err(format!("{mask} is no mask of a prefix")),
    };
    let length = u8::try_from(length).unwrap_or(32);
    match Source::network(address.into(), length) {
        Some(source) if source.address() == IpAddr::V4(address) => each(source),
        _ => return Err(format!("{address} with {mask}: bits are set beyond the mask")),
    }
    Ok(())
}

/// Whether the addresses from `first` to `last` are a prefix of this length.
pub(super) fn is_prefix(first: Ipv4Addr, last: Ipv4Addr, length: u8) -> bool {
    let mask = u32::MAX.checked_shr(length.into()).unwrap_or(0);
    length <= 32 && first.to_bits() & mask == 0 && last.to_bits() == first.to_bits() | mask
}
