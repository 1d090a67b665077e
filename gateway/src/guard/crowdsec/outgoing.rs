//! Bans of this gateway that CrowdSec is to be told of.
//!
//! *Invariant:* nobody waits for CrowdSec: at most [`WAITING`] bans wait, the oldest are dropped and counted. Only bans that
//! this gateway decided on are told: no list, no decision of CrowdSec, no ban of another machine.

use std::collections::VecDeque;

use serde::Deserialize;

use crate::message::fetch::{MAX_TOLD, ToldBan};

/// How many bans wait.
const WAITING: usize = 2_000;

/// How long a ban without an end is for CrowdSec: ten years.
const LONGEST: u64 = 3_650 * 86_400;

/// A line that tells of a decision, as far as it matters.
#[derive(Deserialize)]
struct Line {
    event: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    actor: String,
    #[serde(default)]
    mode: String,
    #[serde(default)]
    expires: Option<String>,
}

/// Bans that wait.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    waiting: VecDeque<ToldBan>,
    /// How many of the first are being told.
    telling: usize,
    pub(crate) sent: u64,
    pub(crate) failed: u64,
    pub(crate) dropped: u64,
}

impl Outgoing {
    /// A decision was made: `line` tells of it. `now`: milliseconds since 1970.
    pub(crate) fn hear(&mut self, line: &str, now: u64) {
        let Some(ban) = read(line, now) else { return };
        if self.waiting.len() >= WAITING {
            self.dropped += 1;
            // What is on its way stays.
            if self.telling > 0 {
                return;
            }
            self.waiting.pop_front();
        }
        self.waiting.push_back(ban);
    }

    /// So many decisions were not heard.
    pub(crate) fn lose(&mut self, many: u64) {
        self.dropped += many;
    }

    /// What is to be told now; empty: nothing.
    pub(crate) fn begin(&mut self, now: u64) -> Vec<ToldBan> {
        if self.telling > 0 {
            return Vec::new();
        }
        self.waiting.retain(|ban| ban.began.saturating_add(ban.seconds.saturating_mul(1_000)) > now);
        let bans: Vec<ToldBan> = self.waiting.iter().take(MAX_TOLD).cloned().collect();
        self.telling = bans.len();
        bans
    }

    /// It was told, or is told again.
    pub(crate) fn end(&mut self, is_told: bool) {
        let many = std::mem::take(&mut self.telling).min(self.waiting.len());
        if is_told {
            self.sent += u64::try_from(many).unwrap_or(0);
            self.waiting.drain(..many);
        } else {
            self.failed += 1;
        }
    }

    /// CrowdSec does not want it.
    pub(crate) fn refuse(&mut self) {
        let many = std::mem::take(&mut self.telling).min(self.waiting.len());
        self.dropped += u64::try_from(many).unwrap_or(0);
        self.waiting.drain(..many);
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

/// The ban that a line tells of, if it is one that CrowdSec is told of.
fn read(line: &str, now: u64) -> Option<ToldBan> {
    // Most lines tell of something else.
    if !line.contains("\"ban\"") {
        return None;
    }
    let line: Line = serde_json::from_str(line).ok()?;
    let (who, name) = line.actor.split_once(':')?;
    if line.event != "ban" || line.mode != "enforce" || !matches!(who, "rule" | "operator" | "token") {
        return None;
    }
    let seconds = match &line.expires {
        Some(expires) => {
            let expires = expires.parse::<jiff::Timestamp>().ok()?.as_millisecond();
            u64::try_from(expires).ok()?.checked_sub(now)?.div_ceil(1_000).min(LONGEST)
        }
        None => LONGEST,
    };
    let scenario = if who == "rule" { format!("gateway/{name}") } else { "gateway/operator".to_owned() };
    let reason = line.reason.chars().filter(|letter| !letter.is_control()).take(200).collect();
    (seconds > 0).then_some(ToldBan { source: line.source, scenario, reason, began: now, seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn line(source: &str, actor: &str, more: &str) -> String {
        format!(
            "{{\"event\":\"ban\",\"ban\":7,\"source\":\"{source}\",\"reason\":\"10 bad tokens\",\"actor\":\"{actor}\",\
             \"mode\":\"enforce\",\"expires\":\"2023-11-14T22:23:20.000Z\"{more}}}"
        )
    }

    #[test]
    fn only_own_bans_are_told() {
        for (line, expect) in [
            (line("192.0.2.1", "rule:bad-tokens", ""), Some(("gateway/bad-tokens", 600))),
            (line("192.0.2.1", "operator:0", ""), Some(("gateway/operator", 600))),
            (line("192.0.2.1", "token:ada", ""), Some(("gateway/operator", 600))),
            (line("192.0.2.1", "cluster:edge-2", ""), None),
            (line("192.0.2.1", "guard", ""), None),
            (line("192.0.2.1", "feed:crowdsec", ""), None),
            (line("192.0.2.1", "rule:a", "").replace("enforce", "shadow"), None),
            (line("192.0.2.1", "rule:a", "").replace("\"event\":\"ban\"", "\"event\":\"unban\""), None),
            (line("192.0.2.1", "rule:a", "").replace("2023", "2022"), None),
            (
                line("192.0.2.1", "rule:a", "").replace(",\"expires\":\"2023-11-14T22:23:20.000Z\"", ""),
                Some(("gateway/a", LONGEST)),
            ),
            ("{\"event\":\"expiry\",\"ban\":7}".to_owned(), None),
            ("\"ban\"".to_owned(), None),
        ] {
            let told = read(&line, NOW);
            assert_eq!(told.as_ref().map(|ban| (ban.scenario.as_str(), ban.seconds)), expect, "{line}");
        }
    }

    #[test]
    fn nobody_waits_for_crowdsec() {
        let mut outgoing = Outgoing::default();
        for number in 0..WAITING + 5 {
            outgoing.hear(&line(&format!("10.0.{}.{}", number / 250, number % 250), "rule:a", ""), NOW);
        }
        assert_eq!((outgoing.len(), outgoing.dropped), (WAITING, 5));
        let first = outgoing.begin(NOW);
        assert_eq!((first.len(), first[0].source.as_str()), (MAX_TOLD, "10.0.0.5"), "the oldest are dropped");
        assert!(outgoing.begin(NOW).is_empty(), "one at a time");
        outgoing.hear(&line("10.9.9.9", "rule:a", ""), NOW);
        outgoing.end(false);
        assert_eq!(outgoing.begin(NOW), first, "again");
        outgoing.end(true);
        assert_eq!((outgoing.sent, outgoing.failed, outgoing.dropped), (MAX_TOLD as u64, 1, 6));
        outgoing.begin(NOW);
        outgoing.refuse();
        assert_eq!(outgoing.len(), WAITING - 2 * MAX_TOLD);
        assert!(outgoing.begin(NOW + 600_000).is_empty() && outgoing.len() == 0, "they have ended");
    }
}
