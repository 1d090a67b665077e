//! Which lines of the access log somebody wants to see.

use gateway_common::source::Source;

use super::entry::Entry;
use crate::settings::access_log::Statuses;

/// What a line must have. All of it has to hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    /// Milliseconds since the Unix epoch.
    pub(super) since: Option<u64>,
    pub(super) statuses: Vec<Statuses>,
    pub(super) route: Option<String>,
    pub(super) source: Option<Source>,
    pub(super) principal: Option<String>,
    pub(super) refused: bool,
    pub(super) text: Option<String>,
}

impl Filter {
    /// Whether a line is to be shown. `entry`: what it says, if that can be read.
    pub(super) fn passes(&self, line: &str, entry: Option<&Entry>) -> bool {
        if self.text.as_ref().is_some_and(|text| !line.contains(text.as_str())) {
            return false;
        }
        let Some(entry) = entry else {
            // Nothing but the text can be looked at.
            return self.since.is_none()
                && self.statuses.is_empty()
                && self.route.is_none()
                && self.source.is_none()
                && self.principal.is_none()
                && !self.refused;
        };
        let is = |wanted: &Option<String>, names| wanted.as_deref().is_none_or(|it| entry.text(names) == Some(it));
        let has_status = || entry.status().is_some_and(|status| self.statuses.iter().any(|it| it.has(status)));
        let client = || entry.text(["client", "source.ip"]).and_then(|client| client.parse::<Source>().ok());
        self.since.is_none_or(|since| entry.time().is_some_and(|time| time >= since))
            && (self.statuses.is_empty() || has_status())
            && is(&self.route, ["route", "gateway.route"])
            && self.source.is_none_or(|wanted| client().is_some_and(|client| wanted.covers(&client)))
            && (is(&self.principal, ["principal", "user.name"]) || is(&self.principal, ["user.hash", "user.hash"]))
            && (!self.refused || entry.text(["reject", "gateway.reject"]).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_pass_when_all_holds() {
        let line = r#"{"time":"2025-11-24T16:00:00.123Z","client":"203.0.113.7","status":404,"route":"/a","principal":"alice"}"#;
        let all = Filter::default;
        for (filter, expect) in [
            (all(), true),
            (Filter { since: Some(1_764_000_000_123), ..all() }, true),
            (Filter { since: Some(1_764_000_000_124), ..all() }, false),
            (Filter { statuses: vec![Statuses::parse("4xx").unwrap()], ..all() }, true),
            (Filter { statuses: vec![Statuses::parse("403").unwrap()], ..all() }, false),
            (Filter { route: Some("/a".to_owned()), ..all() }, true),
            (Filter { route: Some("/b".to_owned()), ..all() }, false),
            (Filter { source: Some("203.0.113.0/24".parse().unwrap()), ..all() }, true),
            (Filter { source: Some("203.0.113.8".parse().unwrap()), ..all() }, false),
            (Filter { principal: Some("alice".to_owned()), ..all() }, true),
            (Filter { principal: Some("bob".to_owned()), ..all() }, false),
            (Filter { refused: true, ..all() }, false),
            (Filter { text: Some("alice".to_owned()), ..all() }, true),
            (Filter { text: Some("bob".to_owned()), ..all() }, false),
        ] {
            assert_eq!(filter.passes(line, Entry::read(line).as_ref()), expect, "{filter:?}");
        }
        assert!(all().passes("203.0.113.7 - -", None));
        assert!(!Filter { refused: true, ..all() }.passes("203.0.113.7 - -", None));
    }
}
