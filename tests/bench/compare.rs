//! Compares what the Core Rule Set says here with what libmodsecurity says by the same rules: request by request, at each
//! paranoia level. `cargo xtask bench waf --modsecurity` makes the file that is read here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use gateway::{
    policy::validate::waf::{Waf, WafRequest, WafRules},
    settings::waf::Settings,
};
use serde_json::{Value, json};

/// The requests of the regression tests of the rules; and where these are not at hand, those of the gateway's own tests.
const TESTS: [&str; 2] = ["tests", "sample"];

/// Which share of the tests must have the verdict of libmodsecurity, at level 1, in percent.
const TARGET: f64 = 95.0;

/// Rules that look for something. Others prepare, or add up.
const LOOKING: std::ops::Range<u32> = 911_000..949_000;

/// Verdicts of one group of requests at one level.
#[derive(Clone, Copy, Default)]
struct Tally {
    sent: usize,
    /// Both refuse it, or neither does.
    same: usize,
    /// The same rules match, too.
    same_rules: usize,
}

impl Tally {
    fn shares(self) -> [f64; 2] {
        let as_float = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        [self.same, self.same_rules].map(|count| 100.0 * as_float(count) / as_float(self.sent.max(1)))
    }
}

/// Compares all requests of `file`; whether the target is met. `settings` makes the rules of one level.
pub(super) fn run(file: &str, settings: impl Fn(u8) -> Settings, told: usize, is_json: bool) -> bool {
    let lines = fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut groups: BTreeMap<&str, [Tally; 4]> = BTreeMap::new();
    let mut misses = Vec::new();
    for level in 1..=4_u8 {
        eprintln!("== {} requests, level {level}", lines.len());
        let settings = Settings { has_builtin: false, ..settings(level) };
        assert!(!settings.files.is_empty(), "the Core Rule Set is missing: install modsecurity-crs");
        let waf = Waf::new(Arc::new(WafRules::new(&settings, None).unwrap()), None, None);
        for line in &lines {
            let theirs = &line["levels"][usize::from(level) - 1];
            let (is_refused, rules) = judge(&waf, line);
            let expected = theirs["rules"].as_array().unwrap().iter().filter_map(Value::as_u64);
            let expected = looking(expected.filter_map(|rule| u32::try_from(rule).ok()));
            let group = line["group"].as_str().unwrap();
            let tally = &mut groups.entry(group).or_default()[usize::from(level) - 1];
            let is_same = theirs["refused"].as_bool() == Some(is_refused);
            tally.sent += 1;
            tally.same += usize::from(is_same);
            tally.same_rules += usize::from(is_same && rules == expected);
            if !is_same {
                let verdict = if is_refused { "refused here alone" } else { "refused by libmodsecurity alone" };
                let differs: Vec<&u32> = rules.symmetric_difference(&expected).collect();
                let name = line["name"].as_str().filter(|name| !name.is_empty());
                let name = name.unwrap_or_else(|| line["target"].as_str().unwrap());
                misses.push(format!("{group}, level {level}: {verdict}, rules {differs:?}: {name:?}"));
            }
        }
    }
    let is_met =
        TESTS.iter().find_map(|group| groups.get(group)).is_some_and(|[first, ..]| first.shares()[0] >= TARGET);
    if is_json {
        let groups: BTreeMap<&str, Value> = groups
            .iter()
            .map(|(group, levels)| {
                let rows =
                    levels.map(|it| json!({ "requests": it.sent, "same": it.same, "same_rules": it.same_rules }));
                (*group, json!(rows))
            })
            .collect();
        println!("{}", json!({ "groups": groups, "misses": misses, "target_met": is_met }));
    } else {
        print(&groups, &misses, told, is_met);
    }
    is_met
}

fn print(groups: &BTreeMap<&str, [Tally; 4]>, misses: &[String], told: usize, is_met: bool) {
    println!("the verdict of libmodsecurity, and by the same rules, in percent, at paranoia level 1 to 4");
    for (group, levels) in groups {
        let shares = levels.map(|level| {
            let [same, same_rules] = level.shares();
            format!("{same:>7.2} {same_rules:>6.2}")
        });
        println!("{group:<30} {:>6} {}", levels[0].sent, shares.join("  "));
    }
    misses.iter().take(told).for_each(|miss| println!("{miss}"));
    println!(
        "{} other verdicts; target of the tests at level 1: {}",
        misses.len(),
        if is_met { "met" } else { "missed" }
    );
}

/// Whether a request is refused, and the rules that match.
fn judge(waf: &Waf, line: &Value) -> (bool, BTreeSet<u32>) {
    let text = |name: &str| line[name].as_str().unwrap();
    let headers = line["headers"].as_array().unwrap().iter();
    let headers: Vec<(&str, &[u8])> =
        headers.map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap().as_bytes())).collect();
    let digits = text("body").as_bytes().chunks(2);
    let body: Vec<u8> = digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect();
    let request = WafRequest {
        method: text("method"),
        target: text("target"),
        protocol: text("protocol"),
        headers: &headers,
        body: &body,
        client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    };
    let verdict = waf.judge(&request);
    (verdict.is_attack, looking(verdict.findings.iter().filter_map(|finding| finding.rule.parse().ok())))
}

fn looking(rules: impl Iterator<Item = u32>) -> BTreeSet<u32> {
    rules.filter(|rule| LOOKING.contains(rule)).collect()
}
