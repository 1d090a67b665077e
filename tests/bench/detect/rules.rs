//! The default rules beside generated traffic: who is banned, after how much, and who should not have been.

use std::collections::BTreeMap;

use gateway::{config::Config, os::clock::SECOND};
use serde_json::{Value, json};

use super::{
    attacks::{self, Strength},
    incidents::{self, Incident},
    table::{Progress, delays, median, percent},
    traffic::{self, Outcome, Plan},
};

/// Minutes. An hour of the week is known once there were two of it.
const LEARNING: u64 = 14 * 1_440;

/// How much is generated.
pub(super) struct Amount {
    /// Days of good traffic, and of traffic with attacks.
    pub(super) good_days: u64,
    pub(super) attack_days: u64,
    pub(super) per_second: f64,
    /// Attacks of each rule and strength.
    pub(super) attacks: u32,
}

impl Amount {
    pub(super) const fn new(is_quick: bool) -> Self {
        if is_quick {
            Self { good_days: 18, attack_days: 2, per_second: 2.0, attacks: 4 }
        } else {
            Self { good_days: 28, attack_days: 7, per_second: 10.0, attacks: 20 }
        }
    }
}

/// Both runs.
pub(super) struct Figures {
    good: Outcome,
    attacked: Outcome,
}

pub(super) fn measure(config: &Config, amount: &Amount) -> Figures {
    let progress = Progress::new("good traffic, minutes");
    let incidents = incidents::plan(amount.good_days, 3);
    let plan = Plan { days: amount.good_days, per_second: amount.per_second, seed: 1, incidents, attacks: Vec::new() };
    let good = traffic::run(config, &plan, &mut |now, all| progress.tell(now, all));
    progress.done();
    let progress = Progress::new("attacks, minutes");
    let attacks = attacks::plan(&config.proxy.detect, amount.attack_days, amount.attacks, 5);
    let plan = Plan { days: amount.attack_days, seed: 2, incidents: Vec::new(), attacks, ..plan };
    let attacked = traffic::run(config, &plan, &mut |now, all| progress.tell(now, all));
    progress.done();
    Figures { good, attacked }
}

/// How attacks of one rule and strength fared.
struct Row {
    rule: String,
    strength: Strength,
    came: usize,
    /// Requests and seconds until the ban, of those that were caught.
    requests: Vec<f64>,
    seconds: Vec<f64>,
    /// Those that another rule caught.
    by_other: usize,
}

impl Row {
    fn all(outcome: &Outcome) -> Vec<Self> {
        let mut rows: BTreeMap<(&str, Strength), Self> = BTreeMap::new();
        for attacker in outcome.attackers.iter().filter(|attacker| attacker.came()) {
            let (rule, strength) = (attacker.rule.as_str(), attacker.strength);
            let row = rows.entry((rule, strength)).or_insert_with(|| Self {
                rule: rule.to_owned(),
                strength,
                came: 0,
                requests: Vec::new(),
                seconds: Vec::new(),
                by_other: 0,
            });
            row.came += 1;
            if let Some((by, requests, after)) = &attacker.caught {
                row.requests.push(f64::from(*requests));
                row.seconds.push(*after as f64 / SECOND as f64);
                row.by_other += usize::from(by != rule);
            }
        }
        rows.into_values().collect()
    }

    fn text(&self) -> String {
        let Self { rule, strength, came, requests, seconds, by_other } = self;
        let (caught, strength) = (requests.len(), strength.name());
        format!(
            "{rule:21}{strength:8}{came:5}{caught:7}{by_other:6}{:>7}{:>10}{:>15}",
            percent(caught, *came),
            delays(requests, 0),
            delays(seconds, 1)
        )
    }

    fn value(&self) -> Value {
        let caught = self.requests.len();
        json!({
            "rule": self.rule, "strength": self.strength.name(), "sources": self.came, "banned": caught,
            "by_another_rule": self.by_other, "recall": caught as f64 / self.came.max(1) as f64,
            "requests": { "p50": median(&self.requests), "max": most(&self.requests) },
            "seconds": { "p50": median(&self.seconds), "max": most(&self.seconds) },
        })
    }
}

/// What should be none.
fn aim(what: &str, measured: f64) {
    println!("{} {what}: {measured:.2} (at most 0)", if measured > 0.0 { "MISSED" } else { "met   " });
}

fn most(values: &[f64]) -> Option<f64> {
    values.iter().copied().reduce(f64::max)
}

/// What became of one incident.
struct Fate<'a> {
    incident: &'a Incident,
    /// Minutes until something was told of it.
    told: Option<u64>,
    said: usize,
}

impl Figures {
    fn fates(&self) -> Vec<Fate<'_>> {
        let fate = |incident| {
            let told: Vec<_> = self.good.told.iter().filter(|told| Incident::explains(incident, told.minute)).collect();
            let first = told.first().map(|told| told.minute + 1 - incident.from);
            Fate { incident, told: first, said: told.len() }
        };
        self.good.incidents.iter().map(fate).collect()
    }

    /// What was told while nothing had happened: in the first two weeks, in which little is known, and later; and how many
    /// weeks later there were.
    fn false_alarms(&self) -> (usize, usize, f64) {
        let explained = |minute| self.good.incidents.iter().any(|incident| incident.explains(minute));
        let unexplained = self.good.told.iter().filter(|told| !explained(told.minute));
        let (early, late): (Vec<_>, Vec<_>) = unexplained.partition(|told| told.minute < LEARNING);
        (early.len(), late.len(), self.good.minutes.saturating_sub(LEARNING) as f64 / 10_080.0)
    }

    /// Bans of good clients while a crowd was there, or a deployment failed.
    fn bans_in_incidents(&self) -> usize {
        let enforced = self.good.asked.values().filter(|asked| !asked.shadow);
        enforced.map(|asked| asked.in_incident.difference(&asked.taken_back).count()).sum()
    }

    pub(super) fn print(&self) {
        println!("\nGenerated attacks. Requests and seconds until the ban: p50, most.");
        println!(
            "{:21}{:8}{:>5}{:>7}{:>6}{:>7}{:>10}{:>15}",
            "rule", "attack", "came", "banned", "other", "recall", "requests", "seconds"
        );
        Row::all(&self.attacked).iter().for_each(|row| println!("{}", row.text()));
        println!("\nWhom each rule asked to ban, by address. Good: in both runs. Shared: an attacker among");
        println!("sixty good clients. Taken back: found to be our own fault.");
        println!(
            "{:22}{:9}{:>10}{:>6}{:>8}{:>8}{:>11}",
            "rule", "mode", "attackers", "good", "shared", "taken", "precision"
        );
        for (rule, asked) in &self.attacked.asked {
            let in_good = self.good.asked.get(rule);
            let good = asked.good.len() + in_good.map_or(0, |asked| asked.good.len());
            let taken = asked.taken_back.len() + in_good.map_or(0, |asked| asked.taken_back.len());
            let (mode, attackers) = (if asked.shadow { "shadow" } else { "enforce" }, asked.attackers.len());
            println!(
                "{rule:22}{mode:9}{attackers:10}{good:6}{:8}{taken:8}{:>11}",
                asked.shared.len(),
                percent(attackers, attackers + good - taken)
            );
        }
        for (rule, asked) in self.good.asked.iter().filter(|(rule, _)| !self.attacked.asked.contains_key(*rule)) {
            let (mode, good) = (if asked.shadow { "shadow" } else { "enforce" }, asked.good.len());
            println!("{rule:22}{mode:9}{:10}{good:6}{:8}{:8}{:>11}", 0, 0, asked.taken_back.len(), "0 %");
        }
        let good = &self.good;
        println!("\ngood requests: {}; dropped by bans: {}", good.good_requests, good.dropped);
        aim("false bans per million good requests", good.false_bans_per_million());
        let in_incidents = u32::try_from(self.bans_in_incidents()).unwrap_or(u32::MAX);
        aim("bans of good clients in crowds and failed deployments", f64::from(in_incidents));
        self.print_incidents();
    }

    fn print_incidents(&self) {
        println!("\nWhat happened to everybody, and what was told of it.");
        println!("{:30}{:>6}{:>9}{:>12}{:>12}", "incident", "", "told", "minutes", "sentences");
        let mut groups: BTreeMap<String, Vec<Fate<'_>>> = BTreeMap::new();
        for fate in self.fates() {
            groups.entry(fate.incident.name()).or_default().push(fate);
        }
        for (name, fates) in groups {
            let minutes: Vec<f64> = fates.iter().filter_map(|fate| Some(fate.told? as f64)).collect();
            let said: usize = fates.iter().map(|fate| fate.said).sum();
            println!("{name:30}{:6}{:9}{:>12}{said:12}", fates.len(), minutes.len(), delays(&minutes, 0));
        }
        let (early, late, weeks) = self.false_alarms();
        let all = self.good.told.iter().filter(|told| told.minute >= LEARNING).count();
        println!("false alarms in the first two weeks: {early}");
        println!("later: {late} in {weeks:.1} weeks, {:.2} a week", late as f64 / weeks.max(1e-9));
        println!("precision of what is told later: {}", percent(all - late, all));
    }

    pub(super) fn value(&self) -> Value {
        let rules = self.attacked.asked.iter().map(|(rule, asked)| {
            let good = self.good.asked.get(rule);
            json!({
                "rule": rule, "mode": if asked.shadow { "shadow" } else { "enforce" },
                "attackers": asked.attackers.len(), "shared": asked.shared.len(),
                "good_beside_attacks": asked.good.len(),
                "good": good.map_or(0, |asked| asked.good.len()),
                "taken_back": good.map_or(0, |asked| asked.taken_back.len()),
            })
        });
        let good_alone = self.good.asked.iter().map(|(rule, asked)| {
            json!({
                "rule": rule, "mode": if asked.shadow { "shadow" } else { "enforce" }, "good": asked.good.len(),
                "in_incident": asked.in_incident.len(), "taken_back": asked.taken_back.len(),
            })
        });
        let incidents = self.fates().into_iter().map(|fate| {
            let Fate { incident, told, said } = fate;
            json!({
                "incident": incident.name(), "crowd": incident.is_crowd(), "from_minute": incident.from,
                "minutes": incident.minutes, "told_after_minutes": told, "sentences": said,
            })
        });
        let (early, late, weeks) = self.false_alarms();
        let explained = |minute| self.good.incidents.iter().any(|incident| incident.explains(minute));
        let unexplained = self.good.told.iter().filter(|told| !explained(told.minute));
        json!({
            "attacks": Row::all(&self.attacked).iter().map(Row::value).collect::<Vec<_>>(),
            "rules": rules.collect::<Vec<_>>(),
            "good_traffic": good_alone.collect::<Vec<_>>(),
            "good_requests": self.good.good_requests,
            "good_requests_dropped": self.good.dropped,
            "false_bans": self.good.false_bans(),
            "false_bans_per_million": self.good.false_bans_per_million(),
            "bans_in_incidents": self.bans_in_incidents(),
            "incidents": incidents.collect::<Vec<_>>(),
            "false_alarms": { "first_two_weeks": early, "later": late, "weeks_later": weeks },
            "false_alarm_sentences": unexplained.take(50).map(|told| &told.sentence).collect::<Vec<_>>(),
        })
    }
}
