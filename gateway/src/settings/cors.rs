//! What pages of other origins may do with the API: `[cors.NAME]`, and how a list of origins is matched.

use std::time::Duration;

use http::{HeaderName, Method};

/// One group of rules for pages of other origins (Fetch standard, "CORS protocol").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// The `NAME` of `[cors.NAME]`.
    pub name: String,
    /// Whose pages. `cors.NAME.origins`.
    pub origins: Origins,
    /// What a preflight is told; empty: the method that it asks for. `cors.NAME.methods`.
    pub methods: Vec<Method>,
    /// Which headers a page may set. `cors.NAME.headers`.
    pub headers: HeaderNames,
    /// Which headers of an answer a page may read. `cors.NAME.expose`.
    pub expose: HeaderNames,
    /// Whether browsers send cookies along, and pages may read the answers then. `cors.NAME.credentials`.
    pub credentials: bool,
    /// How long a browser remembers a preflight. `cors.NAME.max_age`.
    pub max_age: Duration,
    /// Whether pages of other origins are answered 403. `cors.NAME.refuse_others`.
    pub refuse_others: bool,
}

/// Header names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderNames {
    /// Every name: `"*"`.
    Any,
    /// These.
    These(Vec<HeaderName>),
}

/// Origins as browsers write them (RFC 6454 6.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// As the configuration has them, in lower case: `https://app.example.com`, `https://*.example.com`, `null`, `*`.
    texts: Vec<String>,
    /// Those of them that are no wildcards.
    exact: Vec<String>,
    /// What stands before and behind the one label of each wildcard.
    wildcards: Vec<(String, String)>,
    any: bool,
}

impl Origins {
    /// Origins and wildcards that have been checked.
    #[must_use]
    pub fn new(texts: Vec<String>) -> Self {
        let wildcard = |text: &String| {
            let (before, behind) = text.split_once("://*.")?;
            Some((format!("{before}://"), format!(".{behind}")))
        };
        let wildcards = texts.iter().filter_map(wildcard).collect();
        let exact = texts.iter().filter(|text| !text.contains('*')).cloned().collect();
        let any = texts.iter().any(|text| text == "*");
        Self { texts, exact, wildcards, any }
    }

    /// As the configuration has them.
    #[must_use]
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Whether every origin is among them.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        self.any
    }

    /// Whether `origin` is among them. A wildcard stands for exactly one label, and never for `null`.
    #[must_use]
    pub fn contains(&self, origin: &[u8]) -> bool {
        self.any
            || self.exact.iter().any(|text| origin.eq_ignore_ascii_case(text.as_bytes()))
            || self.wildcards.iter().any(|(before, behind)| {
                let Some((start, rest)) = origin.split_at_checked(before.len()) else { return false };
                let Some(label) = rest.len().checked_sub(behind.len()) else { return false };
                let Some((label, end)) = rest.split_at_checked(label) else { return false };
                let is_of_label = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
                start.eq_ignore_ascii_case(before.as_bytes())
                    && end.eq_ignore_ascii_case(behind.as_bytes())
                    && !label.is_empty()
                    && label.iter().all(is_of_label)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_origins_are_meant() {
        let origins = Origins::new(
            ["https://app.example.com", "https://*.example.net:8443", "http://[::1]:3000", "capacitor://localhost"]
                .map(str::to_owned)
                .into(),
        );
        for (origin, expect) in [
            ("https://app.example.com", true),
            ("https://APP.example.com", true),
            ("http://app.example.com", false),
            ("https://app.example.com:444", false),
            ("https://app.example.com.evil.example", false),
            ("https://evil.app.example.com", false),
            ("https://a.example.net:8443", true),
            ("https://a-b_c.example.net:8443", true),
            ("https://example.net:8443", false),
            ("https://.example.net:8443", false),
            ("https://a.b.example.net:8443", false),
            ("https://a.example.net", false),
            ("https://a.example.net:84430", false),
            ("https://evil.example/a.example.net:8443", false),
            ("https://evil@a.example.net:8443", false),
            ("https://*.example.net:8443", false),
            ("http://[::1]:3000", true),
            ("capacitor://localhost", true),
            ("null", false),
            ("", false),
            ("*", false),
        ] {
            assert_eq!(origins.contains(origin.as_bytes()), expect, "{origin}");
        }
        let null = Origins::new(vec!["null".to_owned()]);
        assert!(null.contains(b"null") && !null.contains(b"https://a.example"));
        let any = Origins::new(vec!["*".to_owned()]);
        assert!(any.contains(b"null") && any.contains(b"https://a.example"));
    }
}
