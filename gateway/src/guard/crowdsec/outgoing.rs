//! Bans of this gateway that CrowdSec is to be told of, and that they were lifted. All of it in the order in which it
//! happened: who is banned again after that stays banned there.
//!
//! *Invariant:* nobody waits for CrowdSec: at most [`WAITING`] changes wait, the oldest are dropped and counted. Only bans
//! that this gateway decided on are told: no list, no decision of CrowdSec, no ban of another machine. Whatever is lifted,
//! only decisions of this machine end there: that of a ban that was never told changes nothing.

use std::collections::VecDeque;

use serde::Deserialize;

use crate::message::observer::fetch::{Fetch, MAX_LIFTED, MAX_TOLD, ToldBan};

/// How many changes wait.
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

/// What CrowdSec is to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Banned(ToldBan),
    /// Whose ban was lifted; `None`: all bans.
    Lifted(Option<String>),
}

impl Change {
    /// Whether it is over by itself, so that nobody needs to hear of it.
    fn is_over(&self, now: u64) -> bool {
        match self {
            Self::Banned(ban) => ban.began.saturating_add(ban.seconds.saturating_mul(1_000)) <= now,
            Self::Lifted(_) => false,
        }
    }

    /// Whether it is about `source`.
    fn is_of(&self, source: Option<&String>) -> bool {
        let own = match self {
            Self::Banned(ban) => Some(&ban.source),
            Self::Lifted(lifted) => lifted.as_ref(),
        };
        source.is_none() || own == source
    }
}

/// Changes that wait.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    waiting: VecDeque<Change>,
    /// How many of the first are being told.
    telling: usize,
    pub(crate) sent: u64,
    pub(crate) lifted: u64,
    pub(crate) failed: u64,
    pub(crate) dropped: u64,
}

impl Outgoing {
    /// A decision was made: `line` tells of it. `now`: milliseconds since 1970.
    pub(crate) fn hear(&mut self, line: &str, now: u64) {
        let Some(change) = read(line, now) else { return };
        if let Change::Lifted(source) = &change {
            // Of what waits behind what is being told, nothing is left to tell.
            let telling = self.telling.min(self.waiting.len());
            let later = self.waiting.split_off(telling);
            self.waiting.extend(later.into_iter().filter(|earlier| !earlier.is_of(source.as_ref())));
        }
        if self.waiting.len() >= WAITING {
            self.dropped += 1;
            // What is on its way stays.
            if self.telling > 0 {
                return;
            }
            self.waiting.pop_front();
        }
        self.waiting.push_back(change);
    }

    /// So many decisions were not heard.
    pub(crate) fn lose(&mut self, many: u64) {
        self.dropped += many;
    }

    /// What is to be told now, all of one kind; `None`: nothing.
    pub(crate) fn begin(&mut self, now: u64) -> Option<Fetch> {
        if self.telling > 0 {
            return None;
        }
        self.waiting.retain(|change| !change.is_over(now));
        let is_ban = matches!(self.waiting.front()?, Change::Banned(_));
        let fetch = if is_ban {
            let ban = |change: &Change| if let Change::Banned(ban) = change { Some(ban.clone()) } else { None };
            let bans: Vec<ToldBan> = self.waiting.iter().map_while(ban).take(MAX_TOLD).collect();
            self.telling = bans.len();
            Fetch::Alerts(bans)
        } else {
            let lifted =
                |change: &Change| if let Change::Lifted(source) = change { Some(source.clone()) } else { None };
            let lifted: Vec<Option<String>> = self.waiting.iter().map_while(lifted).take(MAX_LIFTED).collect();
            self.telling = lifted.len();
            Fetch::Lifted(lifted)
        };
        Some(fetch)
    }

    /// It was told, or is told again.
    pub(crate) fn end(&mut self, is_told: bool) {
        if !is_told {
            self.telling = 0;
            self.failed += 1;
            return;
        }
        for change in self.take_told() {
            match change {
                Change::Banned(_) => self.sent += 1,
                Change::Lifted(_) => self.lifted += 1,
            }
        }
    }

    /// CrowdSec does not want it.
    pub(crate) fn refuse(&mut self) {
        self.dropped += u64::try_from(self.take_told().len()).unwrap_or(0);
    }

    /// What was being told.
    fn take_told(&mut self) -> VecDeque<Change> {
        let many = std::mem::take(&mut self.telling).min(self.waiting.len());
        let later = self.waiting.split_off(many);
        std::mem::replace(&mut self.waiting, later)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

/// The change that a line tells of, if it is one that CrowdSec is told of.
fn read(line: &str, now: u64) -> Option<Change> {
    // Most lines tell of something else.
    if !line.contains("\"ban\"") && !line.contains("\"flush\"") {
        return None;
    }
    let line: Line = serde_json::from_str(line).ok()?;
    match line.event.as_str() {
        "unban" => return Some(Change::Lifted(Some(line.source))),
        "flush" => return Some(Change::Lifted(None)),
        "ban" => {}
        _ => return None,
    }
    let (who, name) = line.actor.split_once(':')?;
    if !matches!(who, "rule" | "operator" | "token") {
        return None;
    }
    if line.mode != "enforce" {
        // An operator may have put it in the place of one that is enforced.
        return (who != "rule").then_some(Change::Lifted(Some(line.source)));
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
    let ban = ToldBan { source: line.source, scenario, reason, began: now, seconds };
    (seconds > 0).then_some(Change::Banned(ban))
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
            (line("192.0.2.1", "rule:a", "").replace("2023", "2022"), None),
            (
                line("192.0.2.1", "rule:a", "").replace(",\"expires\":\"2023-11-14T22:23:20.000Z\"", ""),
                Some(("gateway/a", LONGEST)),
            ),
            ("{\"event\":\"expiry\",\"ban\":7}".to_owned(), None),
            ("\"ban\"".to_owned(), None),
        ] {
            let told = match read(&line, NOW) {
                Some(Change::Banned(ban)) => Some((ban.scenario, ban.seconds)),
                Some(lifted) => panic!("{line}: {lifted:?}"),
                None => None,
            };
            assert_eq!(told, expect.map(|(scenario, seconds)| (scenario.to_owned(), seconds)), "{line}");
        }
    }

    fn unban(source: &str) -> String {
        format!("{{\"event\":\"unban\",\"ban\":7,\"source\":\"{source}\",\"how\":\"removed by operator:0\"}}")
    }

    #[test]
    fn what_is_lifted() {
        let shadow = |actor: &str| line("192.0.2.1", actor, "").replace("enforce", "shadow");
        let one = Some(Change::Lifted(Some("192.0.2.1".to_owned())));
        for (line, expect) in [
            (unban("192.0.2.1"), one.clone()),
            ("{\"event\":\"flush\",\"actor\":\"operator:0\",\"blocks\":3}".to_owned(), Some(Change::Lifted(None))),
            (shadow("operator:0"), one.clone()),
            (shadow("token:ada"), one),
            (shadow("rule:a"), None),
            (shadow("cluster:edge-2"), None),
            ("{\"event\":\"flush_refused\",\"what\":\"flush\"}".to_owned(), None),
        ] {
            assert_eq!(read(&line, NOW), expect, "{line}");
        }
    }

    /// What is told at once, of whom.
    fn told(outgoing: &mut Outgoing) -> String {
        match outgoing.begin(NOW) {
            Some(Fetch::Alerts(bans)) => {
                let sources: Vec<_> = bans.into_iter().map(|ban| ban.source).collect();
                format!("banned {}", sources.join(" "))
            }
            Some(Fetch::Lifted(sources)) => {
                let sources: Vec<_> = sources.into_iter().map(|source| source.unwrap_or("all".to_owned())).collect();
                format!("lifted {}", sources.join(" "))
            }
            Some(other) => format!("{other:?}"),
            None => String::new(),
        }
    }

    #[test]
    fn the_order_of_changes_is_kept() {
        let mut outgoing = Outgoing::default();
        let ban = |source: &str| line(source, "rule:a", "");
        outgoing.hear(&ban("192.0.2.1"), NOW);
        outgoing.hear(&ban("192.0.2.2"), NOW);
        assert_eq!(told(&mut outgoing), "banned 192.0.2.1 192.0.2.2");
        // Lifted and made again while that is on its way.
        for line in [unban("192.0.2.1"), ban("192.0.2.3"), unban("192.0.2.3"), ban("192.0.2.1"), unban("192.0.2.2")] {
            outgoing.hear(&line, NOW);
        }
        outgoing.end(true);
        assert_eq!(told(&mut outgoing), "lifted 192.0.2.1 192.0.2.3");
        outgoing.end(false);
        assert_eq!(told(&mut outgoing), "lifted 192.0.2.1 192.0.2.3", "again");
        outgoing.end(true);
        assert_eq!(told(&mut outgoing), "banned 192.0.2.1");
        outgoing.end(true);
        assert_eq!(told(&mut outgoing), "lifted 192.0.2.2");
        outgoing.end(true);
        assert_eq!((outgoing.sent, outgoing.lifted, outgoing.len()), (3, 3, 0));
        // All of them: what waits need not be told.
        for line in [ban("192.0.2.4"), unban("192.0.2.5"), "{\"event\":\"flush\"}".to_owned(), ban("192.0.2.6")] {
            outgoing.hear(&line, NOW);
        }
        assert_eq!(told(&mut outgoing), "lifted all");
        outgoing.refuse();
        assert_eq!((told(&mut outgoing).as_str(), outgoing.dropped), ("banned 192.0.2.6", 1));
        for number in 0..MAX_LIFTED + 1 {
            outgoing.hear(&unban(&format!("192.0.2.{}", 100 + number)), NOW);
        }
        outgoing.end(true);
        assert_eq!(told(&mut outgoing).split(' ').count(), MAX_LIFTED + 1);
    }

    #[test]
    fn nobody_waits_for_crowdsec() {
        let mut outgoing = Outgoing::default();
        for number in 0..WAITING + 5 {
            outgoing.hear(&line(&format!("10.0.{}.{}", number / 250, number % 250), "rule:a", ""), NOW);
        }
        assert_eq!((outgoing.len(), outgoing.dropped), (WAITING, 5));
        let first = outgoing.begin(NOW);
        let Some(Fetch::Alerts(bans)) = &first else { panic!("{first:?}") };
        assert_eq!((bans.len(), bans[0].source.as_str()), (MAX_TOLD, "10.0.0.5"), "the oldest are dropped");
        assert_eq!(outgoing.begin(NOW), None, "one at a time");
        outgoing.hear(&line("10.9.9.9", "rule:a", ""), NOW);
        outgoing.end(false);
        assert_eq!(outgoing.begin(NOW), first, "again");
        outgoing.end(true);
        assert_eq!((outgoing.sent, outgoing.failed, outgoing.dropped), (MAX_TOLD as u64, 1, 6));
        outgoing.begin(NOW);
        outgoing.refuse();
        assert_eq!(outgoing.len(), WAITING - 2 * MAX_TOLD);
        assert!(outgoing.begin(NOW + 600_000).is_none() && outgoing.len() == 0, "they have ended");
    }
}
