//! One line of the access log as a person reads it: JSON of the gateway or of the Elastic Common Schema.

use serde_json::{Map, Value};

use crate::cli::table::{clean, prose};

/// What is known of one line.
pub(super) struct Entry(Map<String, Value>);

/// How wide a line is for people.
const WIDTH: usize = 80;

/// How much of method and path is seen at least.
const LEAST: usize = 12;

impl Entry {
    /// Reads a line; `None`: it is no JSON object.
    pub(super) fn read(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok().map(Self)
    }

    /// What a member says, by either of its names.
    pub(super) fn text(&self, names: [&str; 2]) -> Option<&str> {
        names.iter().find_map(|name| self.0.get(*name)?.as_str())
    }

    pub(super) fn number(&self, names: [&str; 2]) -> Option<u64> {
        names.iter().find_map(|name| self.0.get(*name)?.as_u64())
    }

    pub(super) fn status(&self) -> Option<u16> {
        self.number(["status", "http.response.status_code"]).and_then(|status| u16::try_from(status).ok())
    }

    /// When it began, milliseconds since the Unix epoch.
    pub(super) fn time(&self) -> Option<u64> {
        let moment: jiff::Timestamp = self.text(["time", "@timestamp"])?.parse().ok()?;
        u64::try_from(moment.as_millisecond()).ok()
    }

    fn micros(&self) -> Option<u64> {
        let nanos = || Some(self.0.get("event.duration")?.as_u64()? / 1_000);
        self.number(["duration_us", "duration_us"]).or_else(nanos)
    }

    /// `16:00:00.123 200    15ms GET /items/7 203.0.113.7 alice`, and below it why it was refused.
    pub(super) fn render(&self, colour: bool) -> String {
        let time = self.text(["time", "@timestamp"]).unwrap_or("-");
        let time = clean(time.split_once('T').map_or(time, |(_, time)| time).trim_end_matches('Z'));
        let status = self.status().unwrap_or(0);
        let took = self.micros().map(duration).unwrap_or_default();
        let path = self.text(["path", "url.path"]).or_else(|| self.text(["uri", "uri"])).unwrap_or("-");
        let method = self.text(["method", "http.request.method"]).unwrap_or("-");
        let client = self.text(["client", "source.ip"]).unwrap_or("-");
        let principal = self.text(["principal", "user.name"]).or_else(|| self.text(["user.hash", "user.hash"]));
        let head = format!("{time} {} {took:>6} ", paint(status, colour));
        // As wide as it looks: colours take no place.
        let used = time.chars().count() + 1 + 3 + 1 + 6 + 1;
        let tail = [Some(client), principal].into_iter().flatten().collect::<Vec<_>>().join(" ");
        let (request, tail) = (clean(&format!("{method} {path}")), clean(&tail));
        let room = WIDTH.saturating_sub(used + 1 + tail.chars().count());
        // Who asked is not cut for what was asked, and has a line for itself where both do not fit.
        let mut line = match room >= LEAST {
            true => format!("{head}{} {tail}", shorten(&request, room)),
            false => {
                format!("{head}{}\n{}", shorten(&request, WIDTH.saturating_sub(used)), prose(&format!("    {tail}")))
            }
        };
        let why = [
            self.text(["reject", "gateway.reject"]),
            self.text(["detail", "event.reason"]),
            self.text(["rule", "rule.name"]).map(|_rule| "asked for a ban"),
        ];
        let why: Vec<&str> = why.into_iter().flatten().collect();
        if !why.is_empty() {
            line.push_str(&format!("\n    {}", shorten(&clean(&why.join(": ")), WIDTH - 4)));
        }
        line
    }
}

/// A status, by colour where that is wanted.
fn paint(status: u16, colour: bool) -> String {
    let code = match status {
        200..=299 => "32",
        300..=399 => "36",
        400..=499 => "33",
        _ => "31",
    };
    if colour { format!("\u{1b}[{code}m{status:03}\u{1b}[0m") } else { format!("{status:03}") }
}

fn duration(micros: u64) -> String {
    match micros {
        0..=9_999 => format!("{micros}us"),
        10_000..=9_999_999 => format!("{}ms", micros / 1_000),
        _ => format!("{}s", micros / 1_000_000),
    }
}

/// As much of a text as there is room for.
fn shorten(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let kept: String = text.chars().take(room.saturating_sub(3)).collect();
    format!("{kept}...")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_people() {
        let long = "/x".repeat(100);
        let long = format!(
            r#"{{"time":"2025-11-24T16:00:00.123Z","client":"2001:db8::7","method":"GET","path":"{long}","status":503,"principal":"alice","reject":"unavailable","detail":"no server is up","duration_us":12345678}}"#
        );
        for (line, expect) in [
            (
                r#"{"time":"2025-11-24T16:00:00.123Z","client":"203.0.113.7","method":"GET","path":"/items/7","status":200,"duration_us":15}"#,
                "16:00:00.123 200   15us GET /items/7 203.0.113.7",
            ),
            (
                r#"{"time":"\u001b[2J","client":"203.0.113.7\u009b31m","method":"GET\u202e","path":"/","status":200,"duration_us":15}"#,
                "\\u{1b}[2J 200   15us GET\\u{202e} / 203.0.113.7\\u{9b}31m",
            ),
            (
                r#"{"@timestamp":"2025-11-24T16:00:00.123Z","source.ip":"203.0.113.7","http.request.method":"GET","url.path":"/a\u001b[31m","http.response.status_code":403,"event.duration":15000000,"gateway.reject":"forbidden"}"#,
                "16:00:00.123 403   15ms GET /a\\u{1b}[31m 203.0.113.7\n    forbidden",
            ),
            (
                &long,
                "16:00:00.123 503    12s GET /x/x/x/x/x/x/x/x/x/x/x/x/x/x/x/... 2001:db8::7 alice\n    unavailable: no server is up",
            ),
            // Whoever asked has lines of their own rather than be cut.
            (
                r#"{"time":"2025-11-24T16:00:00.123Z","client":"2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff","method":"GET","path":"/items/7","status":200,"duration_us":15,"principal":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#,
                "16:00:00.123 200   15us GET /items/7\n    2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff\n    aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            ),
            (r#"{"time":"2025-11-24T16:00:00.123Z","status":0}"#, "16:00:00.123 000        - - -"),
        ] {
            let shown = Entry::read(line).unwrap().render(false);
            assert_eq!(shown, expect);
            assert!(shown.lines().all(|line| line.chars().count() <= WIDTH), "{shown}");
        }
        assert!(Entry::read("203.0.113.7 - - [x]").is_none());
        assert!(Entry::read("{\"status\":200}").unwrap().render(true).contains("\u{1b}[32m200\u{1b}[0m"));
    }
}
