//! What rules ask of a request's head. It is looked at once, as long as the head is there.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{
    policy::detect::{CrawlerStanding, Detector},
    signal::Signal,
};

static SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[derive(Clone, Copy, Debug, Default)]
pub(in crate::proxy::request) struct Looked {
    /// What its `User-Agent` is told from others by.
    pub(in crate::proxy::request) agent: Option<u32>,
    /// It bears a token or a cookie. An upstream may not take them because they have expired.
    pub(in crate::proxy::request) bears_session: bool,
    /// A browser sends it for a page of another site, whose paths its user has not chosen. Only where a rule counts paths.
    pub(in crate::proxy::request) is_cross_site: bool,
    /// What is known of it as the crawler that it says it is; `None`: it does not say so.
    pub(in crate::proxy::request) crawler: Option<CrawlerStanding>,
}

impl Looked {
    pub(in crate::proxy::request) fn of(detector: &Detector, headers: &HeaderMap) -> Self {
        let agent = headers.get(header::USER_AGENT).and_then(|agent| detector.agent(agent.as_bytes()));
        let bears_session = detector.counts(Signal::UpstreamUnauthorized) && bears_session(headers);
        let is_cross_site = Signal::BY_LINK.iter().any(|signal| detector.counts(*signal))
            && headers.get(&SEC_FETCH_SITE).is_some_and(|site| site == "cross-site");
        // Who it comes from is not known yet.
        Self { agent, bears_session, is_cross_site, crawler: None }
    }
}

/// Whether a request bears a session that may have expired: a token or a cookie. A name and a password do not expire.
fn bears_session(headers: &HeaderMap) -> bool {
    let is_basic = |value: &HeaderValue| value.as_bytes().get(..6).is_some_and(|it| it.eq_ignore_ascii_case(b"basic "));
    headers.contains_key(header::COOKIE) || headers.get(header::AUTHORIZATION).is_some_and(|value| !is_basic(value))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::settings::detect::{self, Defaults, Rule};

    #[test]
    fn what_a_page_of_another_site_sends() {
        for (counts, site, expect) in [
            (Signal::Injection, Some("cross-site"), true),
            (Signal::ScanPath, Some("cross-site"), true),
            (Signal::UnknownRoute, Some("cross-site"), true),
            (Signal::UpstreamNotFound, Some("cross-site"), true),
            (Signal::WrongPassword, Some("cross-site"), false),
            (Signal::ScanPath, Some("same-site"), false),
            (Signal::ScanPath, Some("same-origin"), false),
            (Signal::ScanPath, Some("none"), false),
            (Signal::ScanPath, Some(""), false),
            (Signal::ScanPath, None, false),
        ] {
            let detector = Detector::new(&detect::Settings {
                capacity: 1,
                unusual_after: Duration::ZERO,
                defaults: Defaults::Off,
                profiles: 0,
                contributors: 0,
                rules: vec![Rule { signals: vec![counts], ..Rule::default() }],
                clamps: Vec::new(),
            });
            let headers = site.map(|site| ("sec-fetch-site".parse().unwrap(), HeaderValue::from_static(site)));
            let looked = Looked::of(&detector, &headers.into_iter().collect());
            assert_eq!(looked.is_cross_site, expect, "{counts:?} {site:?}");
        }
    }
}
