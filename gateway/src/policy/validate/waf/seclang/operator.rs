//! Operators: how a rule judges a value.

use std::{net::IpAddr, path::Path};

use aho_corasick::AhoCorasick;

use super::{
    super::{
        decode,
        grammar::{self, Statement},
    },
    files::RuleFiles,
    macros::Template,
    pattern::{Groups, Pattern, TooManySteps},
};
use crate::text::digits::decimal;

/// An operator with its argument.
#[derive(Debug)]
pub(super) struct RuleOperator {
    pub(super) is_negated: bool,
    pub(super) kind: Kind,
}

/// What it does.
#[derive(Debug)]
pub(super) enum Kind {
    Always,
    BeginsWith(Template),
    ByteRange(Box<[bool; 256]>),
    Contains(Template),
    ContainsWord(Template),
    DetectSqli,
    DetectXss,
    EndsWith(Template),
    Equals(Template),
    IpMatch(Vec<(IpAddr, u8)>),
    Never,
    Number(Ordering, Template),
    Phrases(Box<AhoCorasick>),
    Rx(Pattern),
    /// With values in it: compiled when it is known.
    RxTemplate(Template),
    UrlEncoding,
    Utf8Encoding,
    Within(Template),
}

/// How numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ordering {
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

/// Operators that ask other servers, programs or databases. They never match here.
const NOT_RUN: [&str; 14] = [
    "fuzzyhash",
    "geolookup",
    "gsblookup",
    "inspectfile",
    "rbl",
    "rest",
    "rsub",
    "validatedtd",
    "validatehash",
    "validateschema",
    "verifycc",
    "verifycpf",
    "verifyssn",
    "verifysvnr",
];

/// Reads an operator: `@rx ...`, `!@pm ...`, or a pattern alone.
///
/// # Errors
/// What is wrong with it.
pub(super) fn operator(text: &str, files: &RuleFiles<'_>, folder: &Path) -> Result<RuleOperator, String> {
    let text = text.trim_start();
    let (is_negated, rest) = match text.strip_prefix('!') {
        Some(rest) if rest.starts_with('@') => (true, rest),
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let Some(named) = rest.strip_prefix('@') else { return Ok(RuleOperator { is_negated, kind: rx(rest)? }) };
    let (name, argument) = named.split_once(char::is_whitespace).unwrap_or((named, ""));
    let argument = argument.trim_start();
    let template = || Template::new(argument.trim_end());
    let kind = match &*name.to_ascii_lowercase() {
        "rx" | "rxglobal" => rx(argument)?,
        "pm" => phrases(argument.split_whitespace().map(str::to_owned).collect())?,
        "pmf" | "pmfromfile" => match lines(argument, files, folder)? {
            // A file that lost its words.
            none if none.is_empty() => Kind::Never,
            words => phrases(words)?,
        },
        "streq" => Kind::Equals(template()),
        "contains" | "strmatch" => Kind::Contains(template()),
        "containsword" => Kind::ContainsWord(template()),
        "beginswith" => Kind::BeginsWith(template()),
        "endswith" => Kind::EndsWith(template()),
        "within" => Kind::Within(template()),
        "eq" => Kind::Number(Ordering::Equal, template()),
        "ge" => Kind::Number(Ordering::GreaterOrEqual, template()),
        "gt" => Kind::Number(Ordering::Greater, template()),
        "le" => Kind::Number(Ordering::LessOrEqual, template()),
        "lt" => Kind::Number(Ordering::Less, template()),
        "ipmatch" => Kind::IpMatch(networks(&argument.split(',').map(str::trim).collect::<Vec<_>>())?),
        "ipmatchf" | "ipmatchfromfile" => {
            let lines = lines(argument, files, folder)?;
            let networks = networks(&lines.iter().map(String::as_str).collect::<Vec<_>>())?;
            if lines.is_empty() { Kind::Never } else { Kind::IpMatch(networks) }
        }
        "detectsqli" => Kind::DetectSqli,
        "detectxss" => Kind::DetectXss,
        "validatebyterange" => Kind::ByteRange(byte_range(argument)?),
        "validateurlencoding" => Kind::UrlEncoding,
        "validateutf8encoding" => Kind::Utf8Encoding,
        "unconditionalmatch" => Kind::Always,
        "nomatch" => Kind::Never,
        other if NOT_RUN.contains(&other) => return Err(format!("the operator @{name} is not supported")),
        _ => return Err(format!("nobody knows the operator @{name}")),
    };
    Ok(RuleOperator { is_negated, kind })
}

fn rx(text: &str) -> Result<Kind, String> {
    let template = Template::new(text);
    match template.plain() {
        Some(_) => Pattern::new(text, false).map(Kind::Rx),
        None => Ok(Kind::RxTemplate(template)),
    }
}

fn phrases(phrases: Vec<String>) -> Result<Kind, String> {
    let mut builder = AhoCorasick::builder();
    let built = builder.ascii_case_insensitive(true).build(phrases.iter().filter(|phrase| !phrase.is_empty()));
    built.map(|automaton| Kind::Phrases(Box::new(automaton))).map_err(|error| error.to_string())
}

/// The lines of files, but for comments.
fn lines(names: &str, files: &RuleFiles<'_>, folder: &Path) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for name in names.split_whitespace() {
        let text = files.text(&folder.join(name)).ok_or_else(|| format!("the file {name} is not there"))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        found.extend(lines.map(str::to_owned));
    }
    Ok(found)
}

fn networks(texts: &[&str]) -> Result<Vec<(IpAddr, u8)>, String> {
    let network = |text: &str| {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.trim().parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(most), |bits| decimal(bits.trim()))?;
        (bits <= most).then_some((address, bits))
    };
    let texts = texts.iter().filter(|text| !text.is_empty());
    texts.map(|text| network(text).ok_or_else(|| format!("{text} is no network"))).collect()
}

fn byte_range(text: &str) -> Result<Box<[bool; 256]>, String> {
    let mut allowed = Box::new([false; 256]);
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let byte = |text: &str| decimal::<u8>(text.trim()).ok_or_else(|| format!("{part} is no range of bytes"));
        let (first, last) = (byte(first)?, byte(last)?);
        for byte in first..=last {
            if let Some(allowed) = allowed.get_mut(usize::from(byte)) {
                *allowed = true;
            }
        }
    }
    Ok(allowed)
}

/// What it costs to judge a value, in bytes.
pub(super) fn cost(kind: &Kind, value: &[u8]) -> usize {
    let length = value.len();
    match kind {
        Kind::DetectSqli => Statement::of(value).cost(),
        Kind::Rx(pattern) => pattern.cost(length),
        // It is compiled first.
        Kind::RxTemplate(_) => length.saturating_add(64 * 1024),
        _ => length,
    }
}

/// Whether the value matches, and what is captured. `None`: nobody knows, as it takes too many steps. `expand` gives the text of a template.
pub(super) fn judge(
    kind: &Kind,
    value: &[u8],
    captures: bool,
    expand: impl Fn(&Template) -> Vec<u8>,
) -> (Option<bool>, Groups) {
    let plain = |is_match| (Some(is_match), Groups::new());
    let whole =
        |is_match: bool| (Some(is_match), if is_match && captures { vec![Some(value.to_vec())] } else { Vec::new() });
    let matched = |pattern: &Pattern| match captures {
        true => match pattern.captures(value) {
            Ok(Some(groups)) => (Some(true), groups),
            Ok(None) => plain(false),
            Err(TooManySteps) => (None, Groups::new()),
        },
        false => (pattern.is_match(value).ok(), Groups::new()),
    };
    let contains = |text: &[u8], part: &[u8]| memchr::memmem::find(text, part).is_some();
    match kind {
        Kind::Always => plain(true),
        Kind::Never => plain(false),
        Kind::Rx(pattern) => matched(pattern),
        Kind::RxTemplate(template) => {
            let text = expand(template);
            Pattern::new(&String::from_utf8_lossy(&text), false).map_or(plain(false), |pattern| matched(&pattern))
        }
        Kind::Phrases(automaton) => match automaton.find(value) {
            Some(found) => (Some(true), vec![value.get(found.range()).map(<[u8]>::to_vec)]),
            None => plain(false),
        },
        Kind::BeginsWith(template) => plain(value.starts_with(&expand(template))),
        Kind::EndsWith(template) => plain(value.ends_with(&expand(template))),
        Kind::Contains(template) => plain(contains(value, &expand(template))),
        Kind::ContainsWord(template) => plain(contains_word(value, &expand(template))),
        Kind::Equals(template) => plain(value == expand(template)),
        Kind::Within(template) => plain(value.is_empty() || contains(&expand(template), value)),
        Kind::Number(ordering, template) => {
            let (value, other) = (number(value), number(&expand(template)));
            plain(match ordering {
                Ordering::Equal => value == other,
                Ordering::Greater => value > other,
                Ordering::GreaterOrEqual => value >= other,
                Ordering::Less => value < other,
                Ordering::LessOrEqual => value <= other,
            })
        }
        Kind::IpMatch(networks) => {
            let address = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
            plain(address.is_some_and(|address| networks.iter().any(|network| is_within(address, *network))))
        }
        Kind::DetectSqli => whole(Statement::of(value).attack().is_some()),
        Kind::DetectXss => whole(grammar::is_xss(value)),
        Kind::ByteRange(allowed) => {
            plain(value.iter().any(|&byte| !allowed.get(usize::from(byte)).copied().unwrap_or(false)))
        }
        Kind::UrlEncoding => plain(has_bad_escape(value)),
        Kind::Utf8Encoding => plain(std::str::from_utf8(value).is_err()),
    }
}

/// The number that a text begins with, as `atoi` reads it.
pub(super) fn number(text: &[u8]) -> i64 {
    let text = text.trim_ascii_start();
    let (is_negative, digits) = match text.first() {
        Some(b'-') => (true, text.get(1..).unwrap_or_default()),
        Some(b'+') => (false, text.get(1..).unwrap_or_default()),
        _ => (false, text),
    };
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    let value = digits.fold(0_i64, |value, digit| value.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    if is_negative { value.saturating_neg() } else { value }
}

fn contains_word(text: &[u8], word: &[u8]) -> bool {
    let is_letter = |at: Option<usize>| {
        at.and_then(|at| text.get(at)).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    };
    memchr::memmem::find_iter(text, word).any(|at| !is_letter(at.checked_sub(1)) && !is_letter(Some(at + word.len())))
}

/// Whether a `%` is not followed by two hexadecimal digits.
pub(super) fn has_bad_escape(value: &[u8]) -> bool {
    memchr::memchr_iter(b'%', value).any(|at| {
        let digit = |offset: usize| value.get(at + offset).is_some_and(|&byte| decode::hex(byte).is_some());
        !(digit(1) && digit(2))
    })
}

fn is_within(address: IpAddr, (network, bits): (IpAddr, u8)) -> bool {
    let shift = |most: u32| most.saturating_sub(u32::from(bits));
    match (address.to_canonical(), network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            (u32::from(address) ^ u32::from(network)).checked_shr(shift(32)).unwrap_or(0) == 0
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            (u128::from(address) ^ u128::from(network)).checked_shr(shift(128)).unwrap_or(0) == 0
        }
        _ => false,
    }
}
