//! What packages have: labelled series, labelled lines of access logs, and the lists that scanners ask for.
//!
//! `cargo xtask bench detect` fetches them. Nothing of them is in this repository.

use std::{fs, path::Path};

use gateway::{
    config::Config,
    observer::{BaselineNumber, BaselineTrial},
    os::clock::SECOND,
    policy::detect::is_sought_by_scanners,
    settings::anomalies::Settings,
};
use serde_json::{Value, json};

use super::{
    good::START,
    request::Judge,
    table::{delays, median, percent},
    traffic::MONDAY,
};

/// A series of a package: its file, and the columns of the number and of its label. Each number is of one hour.
const SERIES: [(&str, &str, usize, usize); 2] = [
    ("sktime: Yahoo S5", "series/sktime/datasets/data/yahoo/yahoo.csv", 0, 1),
    ("streamad: uniDS", "series/streamad/util/data/uniDS.csv", 1, 2),
];

/// Hours. An hour of the week is known once there were two of it.
const LEARNING: usize = 336;

/// The lists of a scanner, in the order in which it asks.
const LISTS: [(&str, &str); 8] = [
    ("dirb: common", "logs/usr/share/dirb/wordlists/common.txt"),
    ("dirb: small", "logs/usr/share/dirb/wordlists/small.txt"),
    ("dirb: big", "logs/usr/share/dirb/wordlists/big.txt"),
    ("dirb: cgis", "logs/usr/share/dirb/wordlists/vulns/cgis.txt"),
    ("dirb: tomcat", "logs/usr/share/dirb/wordlists/vulns/tomcat.txt"),
    ("dirb: weblogic", "logs/usr/share/dirb/wordlists/vulns/weblogic.txt"),
    ("dirsearch: dicc", "logs/usr/lib/python3/dist-packages/dirsearch/db/dicc.txt"),
    ("wfuzz: common", "logs/usr/share/wfuzz/wordlist/general/common.txt"),
];

/// How fast a list is asked for: seconds between two requests.
const PACES: [f64; 4] = [0.05, 2.0, 10.0, 60.0];

/// Files of fail2ban whose lines are of access logs, each with what its label says.
const LOGS: [(&str, &str); 3] =
    [("nginx-botsearch", "scan_path"), ("nginx-bad-request", "bad_request"), ("apache-badbots", "a bot, by its name")];

const OF_FAIL2BAN: &str = "logs/usr/lib/python3/dist-packages/fail2ban/tests/files/logs";

/// What is known of one series.
struct Labelled {
    name: &'static str,
    samples: usize,
    /// Labelled stretches.
    events: usize,
    /// Minutes until each that was told.
    told: Vec<f64>,
    alarms: usize,
    right: usize,
    /// Of the wrong ones, those after the first two weeks, and how many weeks those are.
    late: usize,
    weeks: f64,
}

/// One list at each pace: the rule that banned, and at which request.
struct Scanned {
    name: &'static str,
    paths: usize,
    sought: usize,
    at: Vec<Option<(String, usize)>>,
}

/// Labelled lines of a log.
struct Lines {
    name: &'static str,
    label: &'static str,
    lines: usize,
    found: usize,
}

pub(super) struct Figures {
    series: Vec<Labelled>,
    lists: Vec<Scanned>,
    logs: Vec<Lines>,
}

pub(super) fn measure(config: &Config, anomalies: &Settings, folder: &Path) -> Figures {
    eprintln!("series, lists and logs of packages ...");
    let text = |file: &str| {
        let bytes = fs::read(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Figures {
        series: SERIES
            .iter()
            .map(|(name, file, value, label)| labelled(name, &text(file), (*value, *label), anomalies))
            .collect(),
        lists: LISTS.iter().map(|(name, file)| scanned(name, &text(file), config)).collect(),
        logs: LOGS.iter().map(|(name, label)| lines(name, label, &text(&format!("{OF_FAIL2BAN}/{name}")))).collect(),
    }
}

/// The numbers become requests a minute, each for an hour; what is below none is made none by adding the same to all.
fn labelled(name: &'static str, text: &str, columns: (usize, usize), settings: &Settings) -> Labelled {
    let column = |line: &str, at: usize| line.split(',').nth(at).and_then(|text| text.trim().parse::<f64>().ok());
    let rows: Vec<(f64, bool)> =
        text.lines().filter_map(|line| Some((column(line, columns.0)?, column(line, columns.1)? > 0.0))).collect();
    assert!(rows.len() > 500, "{name} has {} rows", rows.len());
    let least = rows.iter().map(|(value, _)| *value).fold(0.0, f64::min);
    let mut trial = BaselineTrial::new(settings);
    let (mut told, mut right, mut alarms, mut events, mut late) = (Vec::new(), 0, 0, 0, 0);
    let (mut since, mut is_told) = (None, false);
    for (hour, (value, is_event)) in rows.iter().enumerate() {
        if *is_event && since.is_none() {
            (since, is_told) = (Some(hour), false);
            events += 1;
        } else if !is_event {
            since = None;
        }
        for minute in 0..60 {
            let minute = u64::try_from(hour).unwrap_or(0) * 60 + minute;
            let number = BaselineNumber { route: None, measure: "requests", value: value - least };
            let new = trial.minute(&[number], MONDAY + (minute + 1) * 60_000).len();
            alarms += new;
            late += if since.is_none() && hour >= LEARNING { new } else { 0 };
            if let Some(since) = since.filter(|_| new > 0) {
                right += new;
                if !is_told {
                    told.push((minute + 1) as f64 - since as f64 * 60.0);
                    is_told = true;
                }
            }
        }
    }
    let weeks = rows.len().saturating_sub(LEARNING) as f64 / 168.0;
    Labelled { name, samples: rows.len(), events, told, alarms, right, late, weeks }
}

fn scanned(name: &'static str, text: &str, config: &Config) -> Scanned {
    let words = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let paths: Vec<String> =
        words.map(|word| format!("/{}", word.trim_start_matches('/').replace("%EXT%", "php"))).collect();
    assert!(paths.len() > 50, "{name} has {} paths", paths.len());
    let at = |pace: &f64| {
        let mut judge = Judge::new(&config.proxy.detect);
        let gap = super::dice::whole(pace * SECOND as f64);
        let mut now = START;
        paths.iter().enumerate().find_map(|(number, path)| {
            now += gap;
            let asks = judge.unknown(0xcb00_7107, path, now);
            let ask = asks.into_iter().find(|ask| !ask.shadow)?;
            Some((ask.rule, number + 1))
        })
    };
    let sought = paths.iter().filter(|path| is_sought_by_scanners(path)).count();
    Scanned { name, paths: paths.len(), sought, at: PACES.iter().map(at).collect() }
}

/// Of the lines that are labelled as attacks and of an access log, those that cause a signal that a default rule counts.
fn lines(name: &'static str, label: &'static str, text: &str) -> Lines {
    let mut result = Lines { name, label, lines: 0, found: 0 };
    let mut is_attack = false;
    for line in text.lines() {
        if let Some(mark) = line.strip_prefix("# failJSON:") {
            is_attack = mark.replace(' ', "").contains("\"match\":true");
            continue;
        }
        // The combined format: the request in the first quotes, the status behind them.
        let Some((_, rest)) = line.split_once("] \"").filter(|_| is_attack) else { continue };
        let Some((request, rest)) = rest.split_once("\" ") else { continue };
        let path = request.split(' ').nth(1).unwrap_or_default();
        let path = path.split('?').next().unwrap_or_default();
        let status: u16 = rest.split(' ').next().and_then(|status| status.parse().ok()).unwrap_or(0);
        result.lines += 1;
        // As the proxy names them: what breaks HTTP, and what is not there and sought.
        let is_found = status == 400 || status == 404 && is_sought_by_scanners(path);
        result.found += usize::from(is_found);
    }
    assert!(result.lines > 0, "{name} has no labelled line of an access log");
    result
}

impl Figures {
    pub(super) fn print(&self) {
        println!("\nBaselines beside labelled series of packages. Each number is of one hour.");
        println!(
            "{:20}{:>8}{:>7}{:>6}{:>8}{:>8}{:>11}{:>12}",
            "series", "samples", "events", "told", "recall", "alarms", "precision", "minutes"
        );
        for Labelled { name, samples, events, told, alarms, right, late, weeks } in &self.series {
            let (recall, precision) = (percent(told.len(), *events), percent(*right, *alarms));
            println!(
                "{name:20}{samples:8}{events:7}{:6}{recall:>8}{alarms:8}{precision:>11}{:>12}",
                told.len(),
                delays(told, 0)
            );
            println!("{:20}after two weeks {:.2} false alarms a week", "", *late as f64 / weeks);
        }
        println!("\nLists of scanners, one source: banned at which request. v: vulnerability-scan.");
        println!(
            "{:18}{:>7}{:>8}{:>11}{:>11}{:>11}{:>11}",
            "list", "paths", "sought", "20/s", "30/min", "6/min", "1/min"
        );
        for Scanned { name, paths, sought, at } in &self.lists {
            let cell = |at: &Option<(String, usize)>| {
                at.as_ref().map_or("-".to_owned(), |(rule, at)| format!("{} {at}", rule.get(..1).unwrap_or_default()))
            };
            let cells: Vec<String> = at.iter().map(|at| format!("{:>11}", cell(at))).collect();
            println!("{name:18}{paths:7}{:>8}{}", percent(*sought, *paths), cells.concat());
        }
        println!("\nLines of access logs that fail2ban labels as attacks: those with a signal.");
        println!("{:20}{:22}{:>8}{:>8}", "log", "label", "lines", "signal");
        for Lines { name, label, lines, found } in &self.logs {
            println!("{name:20}{label:22}{lines:8}{found:8}");
        }
    }

    pub(super) fn value(&self) -> Value {
        let series = self.series.iter().map(|one| {
            json!({
                "series": one.name, "samples": one.samples, "events": one.events, "told": one.told.len(),
                "alarms": one.alarms, "right": one.right, "minutes_p50": median(&one.told),
                "false_after_two_weeks": one.late, "weeks_after": one.weeks,
            })
        });
        let lists = self.lists.iter().map(|one| {
            let at = one.at.iter().zip(PACES).map(|(at, pace)| {
                let (rule, at) = at.as_ref().map(|(rule, at)| (rule, at)).unzip();
                json!({ "seconds_between": pace, "rule": rule, "banned_at_request": at })
            });
            json!({ "list": one.name, "paths": one.paths, "sought": one.sought, "paces": at.collect::<Vec<_>>() })
        });
        let logs = self
            .logs
            .iter()
            .map(|one| json!({ "log": one.name, "label": one.label, "lines": one.lines, "with_signal": one.found }));
        json!({
            "series": series.collect::<Vec<_>>(), "lists": lists.collect::<Vec<_>>(), "logs": logs.collect::<Vec<_>>(),
        })
    }
}
