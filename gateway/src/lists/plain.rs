//! Reads a line of a plain list: addresses, prefixes and ranges, then anything; also the lines of DShield, of the Tor
//! project's exits, of eMule and PeerGuardian, of fail2ban's status, and addresses with a mask.

use std::net::{IpAddr, Ipv4Addr};

use gateway_common::source::Source;

use super::{
    line::{Listed, shortened},
    range::{self, sources},
};
use crate::text::digits::decimal;

/// In eMule's lists what has a higher level than this is not blocked.
const HIGHEST_BLOCKED: u32 = 127;

pub(super) fn line(line: &str, each: &mut dyn FnMut(Listed)) -> Result<(), String> {
    // A file that begins with a mark of its bytes' order, put behind another one.
    let line = line.trim_start_matches('\u{feff}');
    let line = line.split(['#', ';']).next().unwrap_or_default().trim();
    if line.is_empty() {
        return Ok(());
    }
    let mut each = |source| each(Listed { source, seconds: None, reason: None });
    let words: Vec<&str> = line.split(|letter: char| letter.is_ascii_whitespace() || letter == ',').collect();
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    match *words.as_slice() {
        // The Tor project: only the addresses of exits matter.
        ["ExitAddress", address, ..] => return sources(address, each),
        ["ExitNode" | "Published" | "LastStatus", ..] => return Ok(()),
        ["Status", "for", "the", "jail:" | "jail", ..] | ["|-" | "`-" | "|", ..]
            if !line.contains("Banned IP list:") =>
        {
            return Ok(());
        }
        _ => {}
    }
    if let Some((_, banned)) = line.split_once("Banned IP list:") {
        return banned.split_ascii_whitespace().try_for_each(|word| sources(word, &mut each));
    }
    if let [first, dash, last, rest @ ..] = words.as_slice()
        && *dash == "-"
    {
        return peers(first, last, rest, each);
    }
    // Without blanks around the dash: a number in the field behind it is a level, one behind a blank a note.
    if let [range, rest @ ..] = words.as_slice()
        && let [level, ..] = rest
        && let Some((first, last)) = range.split_once('-')
        && line.strip_prefix(*range).is_some_and(|behind| behind.trim_start().starts_with(','))
        && decimal::<u32>(level).is_some()
        && sources(range, |_source| {}).is_ok()
    {
        return peers(first, last, rest, each);
    }
    if let [first, rest @ ..] = words.as_slice()
        && !line.contains(',')
        && is_of_hosts(first, rest)
    {
        return Err("a line of a hosts file names a host, not a client".to_owned());
    }
    // PeerGuardian: a name, a colon, a range. IPv6 has colons and no such range.
    if let Some((name, between)) = line.rsplit_once(':')
        && let Some((first, last)) = between.split_once('-')
        && name.parse::<std::net::Ipv6Addr>().is_err()
        && first.trim().contains('.')
    {
        return range::prefixes(first.trim(), last.trim(), each);
    }
    let [first, rest @ ..] = words.as_slice() else { return Ok(()) };
    if let ([second, ..], Ok(address)) = (rest, first.parse::<Ipv4Addr>())
        && let Ok(second) = second.parse::<Ipv4Addr>()
    {
        // No client has an address that begins with 255 or 0: it is a mask.
        if matches!(second.octets()[0], 255 | 0) {
            return range::masked(address, second, each);
        }
        // DShield: first, last, length of the prefix, then numbers and names.
        if let [_, length, ..] = rest
            && decimal(length).is_some_and(|length| range::is_prefix(address, second, length))
        {
            return range::prefixes(first, &second.to_string(), each);
        }
    }
    let is_source = |word: &&str| sources(word, |_source| {}).is_ok();
    match rest.iter().filter(|word| is_source(word) && word.contains(['.', ':'])).count() {
        // Fewer addresses are meant than the first word says.
        0 if rest.iter().any(|word| is_exception(word)) => Err(format!(
            "{:?}: an exception: use `gateway allow add` for it, and write the rest alone",
            shortened(line)
        )),
        // What follows is somebody's note.
        0 => sources(first, each),
        all if all == rest.len() => words.iter().try_for_each(|word| sources(word, &mut each)),
        _ => Err(format!("{:?}: addresses and other words: write one address a line", shortened(line))),
    }
}

/// Names of hosts files that have no dot.
const OWN_NAMES: [&str; 10] = [
    "broadcasthost",
    "ip6-allhosts",
    "ip6-allnodes",
    "ip6-allrouters",
    "ip6-localhost",
    "ip6-localnet",
    "ip6-loopback",
    "ip6-mcastprefix",
    "local",
    "localhost",
];

/// Whether an address is followed by names of hosts and nothing else. Words without a dot are a note, but behind an
/// address that no client has.
fn is_of_hosts(first: &str, rest: &[&str]) -> bool {
    // `fe80::1%lo0 localhost`
    let Ok(address) = first.split('%').next().unwrap_or_default().parse::<IpAddr>() else { return false };
    let Some(name) = rest.first() else { return false };
    let is_nobody = address.is_unspecified() || address.is_loopback();
    if is_nobody && name.contains(|letter: char| letter.is_alphabetic()) && name.parse::<IpAddr>().is_err() {
        return true;
    }
    let is_own = OWN_NAMES.iter().any(|own| name.eq_ignore_ascii_case(own));
    (is_own || is_full_name(name)) && rest.iter().all(|word| is_host_name(word))
}

/// Whether it is a name as DNS has it, below a top-level domain: `bad.example`.
fn is_full_name(word: &str) -> bool {
    let Some((_, domain)) = word.trim_end_matches('.').rsplit_once('.') else { return false };
    let is_domain = domain.len() >= 2
        && domain.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && domain.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_domain && is_host_name(word)
}

fn is_host_name(word: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || byte >= 0x80)
    };
    word.len() <= 253 && word.strip_suffix('.').unwrap_or(word).split('.').all(is_label)
}

/// Whether a word takes addresses out of what stands before it, as pf and others write it.
fn is_exception(word: &str) -> bool {
    word.strip_prefix(['!', '-', '^', '~']).is_some_and(|excepted| sources(excepted, |_source| {}).is_ok())
}

/// A range with space in it; eMule writes a level and a name behind it.
fn peers(first: &str, last: &str, rest: &[&str], each: impl FnMut(Source)) -> Result<(), String> {
    if let Some(level) = rest.first().and_then(|level| decimal::<u32>(level))
        && level > HIGHEST_BLOCKED
    {
        return Err(format!("its level is {level}: over {HIGHEST_BLOCKED} it is let through"));
    }
    range::prefixes(first, last, each)
}
