//! The keys of counters: what requests have in common, as one number.
//!
//! *Invariant:* a key is made without allocation, and a part of a request is hashed once, however many limits that are asked
//! together look at it. Hashes are made with a secret: nobody can choose two clients that share a counter. What a request lacks is
//! replaced by its address, so that nobody is without a counter. With the same secret, every process makes the same keys.
//! This machine's own secret makes all of them, so that counts do not depend on whether there is a cluster. What is shared
//! with other machines has a second key, by the cluster's secret.

use std::{fmt, fmt::Write as _, hash::Hasher as _, net::IpAddr};

use aws_lc_rs::hmac;
use gateway_common::source::Source;
use http::{HeaderMap, HeaderName};
use serde_json::Value;
use siphasher::sip::SipHasher13;

use crate::{
    collections::mix::mix,
    identity::claim::ClaimPath,
    net::geo::{Country, Geo},
    policy::auth::Identity,
    settings::{
        limit::{KeyPart, KeySeed, Sharing},
        route::Route,
    },
    web::path::pattern::PatternParameter,
};

/// The longest text of a key, in bytes.
pub const LONGEST_KEY: usize = 200;

/// How principals of API keys begin.
const API_KEY: &str = "key:";

/// What is known of a request when limits are asked.
#[derive(Clone, Copy, Debug)]
pub struct LimitFacts<'a> {
    /// Who, as bans and limits count it.
    pub source: Source,
    /// The whole address.
    pub address: IpAddr,
    /// The fingerprint of the client's hello.
    pub ja4: Option<&'a str>,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The host and the canonical path; `None`: not known yet.
    pub target: Option<(&'a str, &'a str)>,
    /// Its position in the configuration; `None`: not known yet, or there is none.
    pub route: Option<usize>,
    /// Who, as proved; `None`: not asked yet, or nobody.
    pub identity: Option<&'a Identity>,
    /// The plan that it has.
    pub plan: Option<&'a str>,
}

/// A part of a key, and what tells its hashes from those of other parts: a principal is no tenant of the same name.
#[derive(Debug)]
pub(super) struct CompiledPart {
    pub(super) key: KeyPart,
    tag: u64,
    look: PartSource,
}

/// Where a part of a key is looked up.
#[derive(Debug)]
enum PartSource {
    Address(Option<u8>),
    ApiKey,
    Asn(Geo),
    /// Its place among the claims that identities keep.
    Claim(Option<usize>),
    Country(Geo),
    Header(HeaderName),
    Host,
    Ja4,
    /// Of each route, in the order of the configuration.
    PathParameter(Box<[Option<PatternParameter>]>),
    Plan,
    Principal,
    Roles,
    /// The names of routes, in the order of the configuration.
    Route(Box<[Box<str>]>),
}

/// What a part is for one request.
enum PartValue<'a> {
    Country(Country),
    Number(u64),
    /// A claim that is no text, as an operator writes it.
    Written(String),
    Source(Source),
    Text(&'a [u8]),
}

/// How many parts are remembered of a request. What is beyond is hashed for every limit.
const REMEMBERED: usize = 8;

/// The parts of one request that were hashed so far.
#[derive(Debug, Default)]
pub(super) struct Hashed {
    known: u8,
    hashes: [u64; REMEMBERED],
}

/// The key of a request in a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// As this machine makes it. The keys of a shared quota are made by the cluster's secret: the store is told again of
    /// all that its table has.
    pub(super) own: u64,
    /// As all machines of the cluster make it, where the limit is shared; otherwise the same as `own`.
    pub(super) common: u64,
}

impl Key {
    /// That of a limit that is not shared.
    pub(super) const fn of(own: u64) -> Self {
        Self { own, common: own }
    }
}

/// Makes keys.
#[derive(Clone)]
pub(super) struct Hasher {
    /// Nothing is hashed by it yet.
    seeded: SipHasher13,
}

/// The secret stays one.
impl fmt::Debug for Hasher {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Hasher")
    }
}

/// How a route is called in keys: by its name, or by its host and path.
#[must_use]
pub fn route_name(route: &Route) -> Box<str> {
    match &route.name {
        Some(name) => name.as_str().into(),
        None => [route.host.as_deref().unwrap_or_default(), &route.path].concat().into(),
    }
}

impl CompiledPart {
    pub(super) fn new(key: &KeyPart, routes: &[Route], kept: &[ClaimPath]) -> Self {
        // No secret: what is found is hashed by one, together with the tag.
        let tag = Hasher { seeded: SipHasher13::new() }.bytes(&[key.to_string().as_bytes()]);
        Self { key: key.clone(), tag, look: PartSource::new(key, routes, kept) }
    }

    /// How it is told to an operator. The values of headers may be secrets: they are told by their hashes. `false`: the
    /// request has nothing of it.
    fn tell(&self, facts: &LimitFacts<'_>, hasher: &Hasher, out: &mut String) -> bool {
        match (&self.look, self.look.find(facts, hasher)) {
            (_, None) => return false,
            (_, Some(PartValue::Source(source))) => write!(out, "{source}").unwrap_or_default(),
            (PartSource::Roles, Some(_)) => {
                let mut roles: Vec<&str> = facts.identity.into_iter().flat_map(Identity::roles).collect();
                roles.sort_unstable();
                out.push_str(&roles.join(","));
            }
            (_, Some(PartValue::Written(text))) => out.push_str(&text),
            (PartSource::Header(_), Some(PartValue::Text(value))) => {
                write!(out, "#{:08x}", hasher.bytes(&[value]) >> 32).unwrap_or_default()
            }
            (PartSource::Asn(_), Some(PartValue::Number(asn))) => write!(out, "AS{asn}").unwrap_or_default(),
            (_, Some(PartValue::Country(country))) => out.push_str(country.as_str()),
            (_, Some(PartValue::Number(number))) => write!(out, "#{number:016x}").unwrap_or_default(),
            (_, Some(PartValue::Text(text))) => out.push_str(&String::from_utf8_lossy(text)),
        }
        true
    }
}

impl PartSource {
    fn new(part: &KeyPart, routes: &[Route], kept: &[ClaimPath]) -> Self {
        match part {
            KeyPart::Address(length) => Self::Address(*length),
            KeyPart::ApiKey => Self::ApiKey,
            KeyPart::Asn(geo) => Self::Asn(geo.clone()),
            KeyPart::Country(geo) => Self::Country(geo.clone()),
            KeyPart::Claim(path) => Self::Claim(kept.iter().position(|kept| kept == path)),
            KeyPart::Header(name) => Self::Header(name.clone()),
            KeyPart::Host => Self::Host,
            KeyPart::Ja4 => Self::Ja4,
            KeyPart::PathParameter(name) => {
                Self::PathParameter(routes.iter().map(|route| PatternParameter::named(name, &route.path)).collect())
            }
            KeyPart::Plan => Self::Plan,
            KeyPart::Principal => Self::Principal,
            KeyPart::Roles => Self::Roles,
            KeyPart::Route => Self::Route(routes.iter().map(route_name).collect()),
        }
    }

    /// What the request has of it; `None`: nothing, or several where one is needed.
    fn find<'a>(&'a self, facts: &LimitFacts<'a>, hasher: &Hasher) -> Option<PartValue<'a>> {
        let text = |text: &'a str| Some(PartValue::Text(text.as_bytes()));
        match self {
            Self::Address(None) => Some(PartValue::Source(facts.source)),
            Self::Address(Some(length)) => Some(PartValue::Source(Source::of(facts.address, *length))),
            Self::Asn(geo) => Some(PartValue::Number(geo.asn(facts.address)?.into())),
            Self::Country(geo) => Some(PartValue::Country(geo.country(facts.address)?)),
            Self::ApiKey => text(facts.identity?.principal().strip_prefix(API_KEY)?),
            Self::Claim(place) => match facts.identity?.claim((*place)?)? {
                Value::Null => None,
                Value::String(value) => text(value),
                // Rare, and bounded by the length of a token.
                other => Some(PartValue::Written(other.to_string())),
            },
            Self::Header(name) => {
                let mut values = facts.headers.get_all(name).iter();
                let value = values.next().filter(|value| !value.is_empty())?;
                values.next().is_none().then_some(PartValue::Text(value.as_bytes()))
            }
            Self::Host => text(facts.target?.0),
            Self::Ja4 => text(facts.ja4?),
            Self::PathParameter(parameters) => text(parameters.get(facts.route?)?.as_ref()?.of(facts.target?.1)?),
            Self::Plan => text(facts.plan?),
            Self::Principal => text(facts.identity?.principal()),
            // In any order they are the same roles.
            Self::Roles => {
                let each = facts.identity?.roles().map(|role| mix(hasher.bytes(&[role.as_bytes()])));
                each.reduce(u64::wrapping_add).map(PartValue::Number)
            }
            Self::Route(names) => text(names.get(facts.route?)?),
        }
    }
}

impl Hasher {
    /// Hashes by the cluster's secret.
    pub(super) fn keyed(sharing: &Sharing) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &sharing.secret.bytes);
        let tag = hmac::sign(&key, b"gateway cluster: keys of limits");
        let mut key = [0; 16];
        key.iter_mut().zip(tag.as_ref()).for_each(|(byte, tag)| *byte = *tag);
        Self { seeded: SipHasher13::new_with_key(&key) }
    }

    /// `seed`: `None` is a random one.
    pub(super) fn new(seed: Option<KeySeed>) -> Self {
        let KeySeed(key) = seed.unwrap_or_else(|| {
            use std::hash::{BuildHasher as _, RandomState};
            let random = [0_u8, 1].map(|half| RandomState::new().hash_one(half).to_ne_bytes());
            let mut key = [0; 16];
            key.iter_mut().zip(random.as_flattened()).for_each(|(byte, random)| *byte = *random);
            KeySeed(key)
        });
        Self { seeded: SipHasher13::new_with_key(&key) }
    }

    /// A number that nobody can guess.
    pub(super) fn seed(&self) -> u64 {
        self.bytes(&[b"seed"])
    }

    fn bytes(&self, pieces: &[&[u8]]) -> u64 {
        let mut hasher = self.seeded;
        pieces.iter().for_each(|piece| hasher.write(piece));
        hasher.finish()
    }

    fn found(&self, tag: u64, found: &PartValue<'_>) -> u64 {
        let mut hasher = self.seeded;
        hasher.write_u64(tag);
        match found {
            PartValue::Country(country) => hasher.write(country.as_str().as_bytes()),
            PartValue::Number(value) => hasher.write_u64(*value),
            PartValue::Source(source) => {
                match source.address() {
                    IpAddr::V4(address) => hasher.write_u32(address.to_bits()),
                    IpAddr::V6(address) => hasher.write_u128(address.to_bits()),
                }
                hasher.write_u8(source.length());
            }
            PartValue::Written(text) => hasher.write(text.as_bytes()),
            PartValue::Text(text) => hasher.write(text),
        }
        hasher.finish()
    }

    /// What stands in for a part that a request lacks: its address, as nobody else's part is.
    fn instead(&self, tag: u64, source: Source) -> u64 {
        !self.found(tag, &PartValue::Source(source))
    }

    /// The hash of part `number` of all parts.
    fn part(&self, part: &CompiledPart, number: usize, facts: &LimitFacts<'_>, hashed: &mut Hashed) -> u64 {
        let bit = u32::try_from(number).ok().and_then(|number| 1_u8.checked_shl(number)).unwrap_or(0);
        if hashed.known & bit != 0
            && let Some(hash) = hashed.hashes.get(number)
        {
            return *hash;
        }
        let hash = match part.look.find(facts, self) {
            Some(found) => self.found(part.tag, &found),
            None => self.instead(part.tag, facts.source),
        };
        if let Some(place) = hashed.hashes.get_mut(number) {
            *place = hash;
            hashed.known |= bit;
        }
        hash
    }

    /// The key that a request has in a counter by these parts, each an index into `parts`.
    pub(super) fn key(&self, by: &[usize], parts: &[CompiledPart], facts: &LimitFacts<'_>, hashed: &mut Hashed) -> u64 {
        by.iter().fold(0, |key, number| {
            let hash = parts.get(*number).map_or(0, |part| self.part(part, *number, facts, hashed));
            join(key, hash)
        })
    }

    /// The same for an operator, as `gateway limit show` takes it: `principal=ada route=/items`. What stands in for a
    /// part that a request lacks is its address.
    pub(super) fn tell(&self, by: &[usize], parts: &[CompiledPart], facts: &LimitFacts<'_>) -> String {
        let (mut out, mut instead) = (String::new(), false);
        for part in by.iter().filter_map(|number| parts.get(*number)) {
            let before = out.len();
            if !out.is_empty() {
                out.push(' ');
            }
            write!(out, "{}=", part.key).unwrap_or_default();
            if !part.tell(facts, self, &mut out) {
                out.truncate(before);
                instead = true;
            }
        }
        if instead && !out.starts_with("address=") {
            let space = if out.is_empty() { "" } else { " " };
            out = format!("address={}{space}{out}", facts.source);
        }
        out
    }
}

/// The key of what was before and one more part.
const fn join(key: u64, hash: u64) -> u64 {
    if key == 0 { hash } else { mix(key ^ hash.rotate_left(31)) }
}

/// A key in one line that is not too long.
pub(super) fn shown(text: &str) -> String {
    let text: String = text.chars().filter(|letter| !letter.is_control()).collect();
    text.get(..text.floor_char_boundary(LONGEST_KEY)).unwrap_or_default().to_owned()
}

/// A key that an operator writes: its parts by their names, as in `principal=ada`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written<'a> {
    pub(super) parts: &'a [(String, String)],
    /// By how many bits of an IPv6 address clients are told apart.
    pub(super) ipv6_prefix: u8,
}

impl Written<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        self.parts.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The address among its parts.
    fn address(&self) -> Option<IpAddr> {
        let (_, value) = self.parts.iter().find(|(name, _)| name == "address" || name.starts_with("address/"))?;
        Some(value.parse::<Source>().ok()?.address())
    }

    /// The key in a counter by these parts; `None`: a part is missing, and there is no address to stand in for it, or
    /// it has a part that the counter does not look at.
    pub(super) fn key(&self, by: &[usize], parts: &[CompiledPart], hasher: &Hasher) -> Option<u64> {
        let by = || by.iter().filter_map(|number| parts.get(*number));
        let is_used = |name: &str| name == "address" || by().any(|part| part.key.to_string() == name);
        if !self.parts.iter().all(|(name, _)| is_used(name)) {
            return None;
        }
        let source = || Some(Source::of(self.address()?, self.ipv6_prefix));
        let mut is_address_used = self.value("address").is_none();
        let key = by().try_fold(0, |key, part| {
            let value = self.value(&part.key.to_string());
            let hash = match (&part.key, value) {
                (KeyPart::Address(length), _) => {
                    is_address_used = true;
                    let source = Source::of(self.address()?, length.unwrap_or(self.ipv6_prefix));
                    hasher.found(part.tag, &PartValue::Source(source))
                }
                (_, None) => {
                    is_address_used = true;
                    hasher.instead(part.tag, source()?)
                }
                (KeyPart::Roles, Some(roles)) => {
                    let each = roles.split(',').map(|role| mix(hasher.bytes(&[role.as_bytes()])));
                    hasher.found(part.tag, &PartValue::Number(each.fold(0, u64::wrapping_add)))
                }
                (_, Some(value)) => hasher.found(part.tag, &PartValue::Text(value.as_bytes())),
            };
            Some(join(key, hash))
        })?;
        is_address_used.then_some(key)
    }
}
