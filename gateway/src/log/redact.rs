//! What is never written: values of parameters that hold secrets, what patterns match, and principals where only their
//! hashes are wanted.

use std::borrow::Cow;

use aws_lc_rs::{hmac, rand};
use data_encoding::HEXLOWER;
use memchr::memmem::Finder;
use regex::{Regex, RegexBuilder};

use crate::{
    diagnostic::Diagnostic,
    settings::access_log::{JWT, PATTERN_SIZE, Redact, SECRET_ENDINGS, compact_parameter},
    text::digits,
};

/// What stands in the place of a secret.
const REDACTED: &str = "REDACTED";

/// How many bytes of a principal's hash are written.
const HASH: usize = 16;

/// Takes secrets out of texts.
pub(super) struct Redactor {
    /// Without `_`, as `shown`.
    parameters: Box<[String]>,
    shown: Box<[String]>,
    patterns: Box<[RedactPattern]>,
}

struct RedactPattern {
    /// What every match has in it: to look for it takes less time.
    literal: Option<Literal>,
    regex: Regex,
}

/// A text that is looked for.
struct Literal {
    /// Its byte that paths have least often.
    rarest: u8,
    finder: Finder<'static>,
}

impl Literal {
    /// Whether `text` has it. Most have not even the one byte, and that is found out many bytes at a time.
    fn is_in(&self, text: &str) -> bool {
        text.bytes().fold(false, |any, byte| any | (byte == self.rarest)) && self.finder.find(text.as_bytes()).is_some()
    }
}

impl Redactor {
    pub(super) fn new(settings: &Redact) -> Result<Self, Diagnostic> {
        let compile = |pattern: &String| {
            let built = RegexBuilder::new(pattern).size_limit(PATTERN_SIZE).build();
            let literal = (pattern == JWT).then(|| Literal { rarest: b'J', finder: Finder::new(b"eyJ") });
            let built = built.map(|regex| RedactPattern { literal, regex });
            built.map_err(|error| Diagnostic::new("access_log.redact.patterns", error.to_string()))
        };
        let patterns = settings.patterns.iter().map(compile).collect::<Result<_, _>>()?;
        let compact = |names: &[String]| names.iter().map(|name| compact_parameter(name)).collect();
        Ok(Self { parameters: compact(&settings.parameters), shown: compact(&settings.shown), patterns })
    }

    /// A text without what patterns match.
    pub(super) fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for RedactPattern { literal, regex } in &self.patterns {
            if literal.as_ref().is_some_and(|literal| !literal.is_in(&text)) {
                continue;
            }
            if let Cow::Owned(without) = regex.replace_all(&text, REDACTED) {
                text = Cow::Owned(without);
            }
        }
        text
    }

    /// A path without the values of secret parameters, such as `/a;jsessionid=1`, and without what patterns match.
    pub(super) fn path<'a>(&self, path: &'a str) -> Cow<'a, str> {
        // Most have none.
        if memchr::memchr3(b';', b'@', b'%', path.as_bytes()).is_none() {
            return self.text(path);
        }
        match without_userinfo(Cow::Borrowed(path)) {
            Cow::Borrowed(path) => self.pairs(path, ['/', ';'], Inside::Read),
            Cow::Owned(path) => Cow::Owned(self.pairs(&path, ['/', ';'], Inside::Read).into_owned()),
        }
    }

    /// A query without the values of secret parameters, and without what patterns match.
    pub(super) fn query<'a>(&self, query: &'a str) -> Cow<'a, str> {
        self.pairs(query, ['&', ';'], Inside::Read)
    }

    fn pairs<'a>(&self, pairs: &'a str, separators: [char; 2], inside: Inside) -> Cow<'a, str> {
        let is_read = inside == Inside::Read
            && memchr::memchr2(b'@', b'%', pairs.as_bytes()).is_some()
            && pairs.split(separators).any(may_hold_url);
        if !is_read && !pairs.split(separators).any(|pair| self.secret_at(pair).is_some()) {
            return self.text(pairs);
        }
        let mut without = String::with_capacity(pairs.len());
        for pair in pairs.split_inclusive(separators) {
            let (value, end) = match pair.strip_suffix(separators) {
                Some(value) => (value, pair.get(value.len()..).unwrap_or_default()),
                None => (pair, ""),
            };
            match self.secret_at(value).and_then(|at| value.get(..at)) {
                Some(before) => without.extend([before, REDACTED]),
                None if is_read => without.push_str(&self.inside(value)),
                None => without.push_str(value),
            }
            without.push_str(end);
        }
        Cow::Owned(self.text(&without).into_owned())
    }

    /// A pair whose value may be a URL or a query, as it is or percent-encoded, without the secrets in it. Encoded more than
    /// once, it is not read.
    fn inside<'a>(&self, pair: &'a str) -> Cow<'a, str> {
        let at = pair.find('=').map_or(0, |at| at + 1);
        let (name, value) = pair.split_at_checked(at).unwrap_or(("", pair));
        let value = without_userinfo(Cow::Borrowed(value));
        let plain = String::from_utf8_lossy(&percent_decoded(&value)).into_owned();
        let bare = without_userinfo(Cow::Borrowed(plain.as_str()));
        let without = self.pairs(&bare, ['&', ';'], Inside::Left);
        match (*without != *plain, value) {
            (true, _) => Cow::Owned(format!("{name}{}", percent_encoded(&without))),
            (false, Cow::Owned(value)) => Cow::Owned(format!("{name}{value}")),
            (false, Cow::Borrowed(_)) => Cow::Borrowed(pair),
        }
    }

    /// The value of a header. One that is a URL has a query, and a fragment that may have one as well.
    pub(super) fn header<'a>(&self, value: Cow<'a, str>) -> Cow<'a, str> {
        let value = without_userinfo(value);
        let Some((before, query)) = value.split_once(['?', '#']) else {
            return match self.path(&value) {
                Cow::Borrowed(_) => value,
                Cow::Owned(without) => Cow::Owned(without),
            };
        };
        let mark = value.get(before.len()..=before.len()).unwrap_or_default();
        let parts: Vec<Cow<'_, str>> = query.split('#').map(|part| self.query(part)).collect();
        Cow::Owned([&self.path(before), mark, &parts.join("#")].concat())
    }

    /// Where the secret value of a pair begins. The name is what is behind the last `?` or `#`: a fragment, and a value that
    /// is a URL, may have a query of their own.
    fn secret_at(&self, pair: &str) -> Option<usize> {
        let mut from = 0;
        loop {
            let (name, value) = pair.get(from..)?.split_once('=')?;
            let start = from + name.len() + 1;
            // `token`, `user[password]`, `TOKEN`, `%74oken`, `api-key`, `accessToken`, `X-Amz-Signature`.
            let name = decoded(name);
            let name = name.rsplit(['?', '#']).next().unwrap_or_default();
            if !value.is_empty() && name.split(['[', ']', '.']).any(|part| self.is_secret_name(part)) {
                return Some(start);
            }
            from = start + value.find(['?', '#'])? + 1;
        }
    }

    fn is_secret_name(&self, name: &str) -> bool {
        let is_listed = |names: &[String]| names.iter().any(|listed| listed == name);
        let is_secret = is_listed(&self.parameters) || SECRET_ENDINGS.iter().any(|ending| name.ends_with(ending));
        is_secret && !is_listed(&self.shown)
    }
}

/// Whether values of pairs are read as well, as they may be URLs with secrets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Left,
    Read,
}

/// Whether a pair can have a URL or a query for its value. Most have no letter of what that takes.
fn may_hold_url(pair: &str) -> bool {
    let has_pair = |value: &str| value.contains('=') && value.contains('%');
    pair.contains("%3")
        || pair.contains("%40")
        || (pair.contains('@') && pair.contains("://"))
        || pair.split_once('=').is_some_and(|(_, value)| has_pair(value))
}

/// A value without the user and the password of the URLs in it: `https://user:password@host/`.
fn without_userinfo(value: Cow<'_, str>) -> Cow<'_, str> {
    if !value.contains('@') || !value.contains("://") {
        return value;
    }
    let mut without = String::with_capacity(value.len());
    let mut rest = &*value;
    while let Some((before, behind)) = rest.split_once("://") {
        without.extend([before, "://"]);
        let end = behind.find(['/', '?', '#', ' ', '"', '>']).unwrap_or(behind.len());
        let host = behind.get(..end).and_then(|authority| authority.rfind('@')).and_then(|at| behind.get(at..));
        if host.is_some() {
            without.push_str(REDACTED);
        }
        rest = host.unwrap_or(behind);
    }
    without.push_str(rest);
    if without == *value { value } else { Cow::Owned(without) }
}

/// A name as whoever reads the query takes it: decoded, and without what makes no difference.
fn decoded(name: &str) -> String {
    compact_parameter(&String::from_utf8_lossy(&percent_decoded(name)))
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let escape = match behind {
            [high, low, after @ ..] if first == b'%' => digits::escaped(*high, *low).map(|byte| (byte, after)),
            _ => None,
        };
        let (byte, after) = escape.unwrap_or((first, behind));
        bytes.push(byte);
        rest = after;
    }
    bytes
}

/// The text percent-encoded, so that it is one value of a query. `+` stays, as it may stand for a blank.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+') {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            for nibble in [byte >> 4, byte & 15] {
                encoded.push(char::from_digit(nibble.into(), 16).unwrap_or('0').to_ascii_uppercase());
            }
        }
    }
    encoded
}

/// Hashes principals by a key.
pub(super) struct Hash {
    key: hmac::Key,
    /// Nobody has given the key.
    pub(super) is_random: bool,
}

impl Hash {
    pub(super) fn new(key: &[u8]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), is_random: false }
    }

    pub(super) fn random() -> Result<Self, Diagnostic> {
        let mut key = [0; 32];
        rand::fill(&mut key)
            .map_err(|_unspecified| Diagnostic::new("access_log.principal", "the machine has no randomness"))?;
        Ok(Self { is_random: true, ..Self::new(&key) })
    }

    /// How a principal is written.
    pub(super) fn of(&self, principal: &str) -> String {
        let tag = hmac::sign(&self.key, principal.as_bytes());
        HEXLOWER.encode(tag.as_ref().get(..HASH).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::access_log;

    fn redactor(patterns: &[&str]) -> Redactor {
        let mut settings = access_log::Settings::default().redact;
        settings.patterns.extend(patterns.iter().map(|&pattern| pattern.to_owned()));
        Redactor::new(&settings).unwrap()
    }

    #[test]
    fn escapes_are_two_digits() {
        for (text, expect) in
            [("%41%6a", &b"Aj"[..]), ("%+f%-1% 1%4", b"%+f%-1% 1%4"), ("%%41%f\u{e9}", b"%A%f\xc3\xa9"), ("%", b"%")]
        {
            assert_eq!(percent_decoded(text), expect, "{text:?}");
        }
        assert_eq!(percent_encoded("a b/\u{e9}%+"), "a%20b%2F%C3%A9%25+");
    }

    #[test]
    fn secrets_are_taken_out_of_queries() {
        let redactor = redactor(&["[0-9]{16}"]);
        for (query, expect) in [
            ("", ""),
            ("a=1&b=2", "a=1&b=2"),
            ("token=abc", "token=REDACTED"),
            ("a=1&token=abc&b=2", "a=1&token=REDACTED&b=2"),
            ("a=1;token=abc;b=2", "a=1;token=REDACTED;b=2"),
            ("TOKEN=abc", "TOKEN=REDACTED"),
            ("%74oken=abc", "%74oken=REDACTED"),
            ("%74%6F%6b%65%6E=abc", "%74%6F%6b%65%6E=REDACTED"),
            ("to%6ken=abc", "to%6ken=abc"),
            ("+token=abc", "+token=REDACTED"),
            ("%20token%20=abc", "%20token%20=REDACTED"),
            ("token=a=b=c", "token=REDACTED"),
            ("token=", "token="),
            ("token", "token"),
            ("tokens=abc", "tokens=abc"),
            ("api-key=abc&Api_Key=def&apikey=g", "api-key=REDACTED&Api_Key=REDACTED&apikey=REDACTED"),
            ("user[password]=abc&user.password=d", "user[password]=REDACTED&user.password=REDACTED"),
            ("user%5Bpassword%5D=abc", "user%5Bpassword%5D=REDACTED"),
            ("code=abc&state=xyz", "code=REDACTED&state=xyz"),
            ("card=4111111111111111", "card=REDACTED"),
            ("x=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl&y=1", "x=REDACTED&y=1"),
            ("&&token=a&&", "&&token=REDACTED&&"),
            ("=token&a", "=token&a"),
            ("accessToken=a&refreshToken=b", "accessToken=REDACTED&refreshToken=REDACTED"),
            (
                "clientSecret=a&csrf_token=b&reset_token=c",
                "clientSecret=REDACTED&csrf_token=REDACTED&reset_token=REDACTED",
            ),
            ("X-Amz-Signature=a&X-Amz-Date=b", "X-Amz-Signature=REDACTED&X-Amz-Date=b"),
            ("X-Amz-Security-Token=a&X-Goog-Signature=b", "X-Amz-Security-Token=REDACTED&X-Goog-Signature=REDACTED"),
            ("x=eyJhbGciOiJub25lIn0.&y=1", "x=REDACTED&y=1"),
            ("x=eyJhbGciOiJub25lIn0..c2lnbmF0dXJl&y=1", "x=REDACTED&y=1"),
            ("x=eyJhbGciOiJkaXIifQ..aXZpdml2.Y2lwaGVydGV4dA.dGFn&y=1", "x=REDACTED&y=1"),
        ] {
            assert_eq!(redactor.query(query), expect, "{query:?}");
        }
    }

    #[test]
    fn secrets_are_taken_out_of_urls_in_values() {
        let redactor = redactor(&[]);
        for (query, expect) in [
            ("r=https%3A%2F%2Fh%2F%3Ftoken%3DS", "r=https%3A%2F%2Fh%2F%3Ftoken%3DREDACTED"),
            ("r=https%3a%2f%2fh%2f%3ftoken%3dS", "r=https%3A%2F%2Fh%2F%3Ftoken%3DREDACTED"),
            (
                "r=https%3A%2F%2Fh%2F%3Fa%3D1%26token%3DS%26b%3D2&c=3",
                "r=https%3A%2F%2Fh%2F%3Fa%3D1%26token%3DREDACTED%26b%3D2&c=3",
            ),
            ("r=https%3A%2F%2Fh%2F%23code%3DS", "r=https%3A%2F%2Fh%2F%23code%3DREDACTED"),
            ("r=https://h/?token=S", "r=https://h/?token=REDACTED"),
            ("r=https://u:S@h/", "r=https://REDACTED@h/"),
            ("a=1&r=https://u:S@h/&b=x@y", "a=1&r=https://REDACTED@h/&b=x@y"),
            ("r=https%3A%2F%2Fu%3AS%40h%2F", "r=https%3A%2F%2FREDACTED%40h%2F"),
            ("r=https://u:S%40h/", "r=https%3A%2F%2FREDACTED%40h%2F"),
            ("r=https://u:S@h/%3Ftoken%3DT", "r=https%3A%2F%2FREDACTED%40h%2F%3Ftoken%3DREDACTED"),
            ("state=token%3DS", "state=token%3DREDACTED"),
            ("r=%26token=S", "r=%26token%3DREDACTED"),
            ("https%3A%2F%2Fh%2F%3Ftoken%3DS", "https%3A%2F%2Fh%2F%3Ftoken%3DREDACTED"),
            // Nothing secret: as it came.
            ("r=https%3a%2f%2fh%2f%3fq%3d1", "r=https%3a%2f%2fh%2f%3fq%3d1"),
            ("mail=a@b.example", "mail=a@b.example"),
            ("r=https://h/@u", "r=https://h/@u"),
            ("t=12%3A30&x=%E4%3D1&y=%3", "t=12%3A30&x=%E4%3D1&y=%3"),
            // Encoded twice.
            ("r=https%253A%252F%252Fh%253Ftoken%253DS", "r=https%253A%252F%252Fh%253Ftoken%253DS"),
        ] {
            assert_eq!(redactor.query(query), expect, "{query:?}");
            let (url, without) = (format!("https://a.example/?{query}"), format!("https://a.example/?{expect}"));
            assert_eq!(redactor.header(url.as_str().into()), without, "{url:?}");
        }
    }

    #[test]
    fn configured_names_match_however_they_are_spelled() {
        for (name, query, expect) in [
            ("x-secret", "x-secret=abc&X_Secret=d", "x-secret=REDACTED&X_Secret=REDACTED"),
            ("card number", "card%20number=1&card+number=2", "card%20number=REDACTED&card+number=REDACTED"),
            ("IBAN", "a[iban]=1&iban=2", "a[iban]=REDACTED&iban=REDACTED"),
        ] {
            let mut settings = access_log::Settings::default().redact;
            settings.parameters.push(access_log::parameter_name(name));
            assert_eq!(Redactor::new(&settings).unwrap().query(query), expect, "{name:?}");
        }
    }

    #[test]
    fn secrets_are_taken_out_of_paths() {
        let redactor = redactor(&[]);
        for (path, expect) in [
            ("/items/7", "/items/7"),
            ("/items;v=1/7", "/items;v=1/7"),
            ("/items;jsessionid=abc/7", "/items;jsessionid=REDACTED/7"),
            ("/items;v=1;JSESSIONID=abc", "/items;v=1;JSESSIONID=REDACTED"),
            ("/a;%74oken=abc/b;token=", "/a;%74oken=REDACTED/b;token="),
            ("/token=abc", "/token=abc"),
            ("/go/https%3A%2F%2Fh%2F%3Ftoken%3DS/x", "/go/https%3A%2F%2Fh%2F%3Ftoken%3DREDACTED/x"),
            ("/go/https://u:S@h/x", "/go/https://REDACTED@h/x"),
            ("/@u/x%3Ay%40z", "/@u/x%3Ay%40z"),
        ] {
            assert_eq!(redactor.path(path), expect, "{path:?}");
        }
    }

    #[test]
    fn shown_parameters_are_written() {
        let mut settings = access_log::Settings::default().redact;
        settings.shown = vec!["page_token".to_owned(), "session_id".to_owned()];
        let redactor = Redactor::new(&settings).unwrap();
        let shown = "pageToken=a&page-token=b&sessionid=c";
        assert_eq!(redactor.query(shown), shown);
        assert_eq!(redactor.query("page_token=a&token=b"), "page_token=a&token=REDACTED");
    }

    #[test]
    fn secrets_are_taken_out_of_headers() {
        let redactor = redactor(&["(?i)bearer [^ ]+"]);
        for (value, expect) in [
            ("curl/8.0", "curl/8.0"),
            ("https://a.example/x", "https://a.example/x"),
            ("https://a.example/x?token=1&b=2", "https://a.example/x?token=REDACTED&b=2"),
            ("https://a.example/x?a=1#access_token=1&b=2", "https://a.example/x?a=1#access_token=REDACTED&b=2"),
            ("https://a.example/x#access_token=1", "https://a.example/x#access_token=REDACTED"),
            ("https://a.example/#/in?access_token=1&b=2", "https://a.example/#/in?access_token=REDACTED&b=2"),
            ("https://a.example/?a=1#/in?token=1?2", "https://a.example/?a=1#/in?token=REDACTED"),
            ("https://a.example/#/in=x?token=1", "https://a.example/#/in=x?token=REDACTED"),
            ("https://a.example/?next=/x?token=1&b=2", "https://a.example/?next=/x?token=REDACTED&b=2"),
            ("https://u:p@a.example/x?b=2", "https://REDACTED@a.example/x?b=2"),
            (
                "<https://u:p@a.example>, <https://v@b.example/>",
                "<https://REDACTED@a.example>, <https://REDACTED@b.example/>",
            ),
            ("https://a.example/@u?by=me@b.example", "https://a.example/@u?by=me@b.example"),
            ("https://a.example/x;jsessionid=1/y", "https://a.example/x;jsessionid=REDACTED/y"),
            ("https://a.example/x;jsessionid=1?b=2", "https://a.example/x;jsessionid=REDACTED?b=2"),
            ("Bearer abc", "REDACTED"),
            ("/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln/x?a=1", "/REDACTED/x?a=1"),
        ] {
            assert_eq!(redactor.header(value.into()), expect, "{value:?}");
        }
    }

    #[test]
    fn the_same_principal_has_the_same_hash_by_the_same_key() {
        let (one, other) = (Hash::new(b"0123456789abcdef"), Hash::new(b"fedcba9876543210"));
        assert_eq!(one.of("alice"), one.of("alice"));
        assert_ne!(one.of("alice"), one.of("bob"));
        assert_ne!(one.of("alice"), other.of("alice"));
        assert_eq!(one.of("alice").len(), 2 * HASH);
    }
}
