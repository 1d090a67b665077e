//! Holds the built-in rules of the firewall against corpora: which share of attacks they find, by category, and which share of
//! benign values they refuse; with the default threshold, at the default and at each paranoia level, in one run.
//!
//! A folder has `attack/CATEGORY.txt`, `benign/NAME.txt` and perhaps `probe/CATEGORY.txt`, one value a line. Probes are values
//! from lists of attacks that say nothing by themselves; they have no target. Each value is sent as a parameter of the query,
//! as a field of a form and as a string in JSON. `cargo xtask bench waf` collects the corpora and runs this.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a tool of the tests: whatever fails names its line")]
#![allow(clippy::print_stdout, reason = "the table is what it is for")]

use std::{
    collections::BTreeMap,
    env, fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::ExitCode,
    sync::Arc,
};

use gateway::{
    settings::waf::{Mode, Settings, THRESHOLD},
    validate::waf::{Request, Rules, Waf},
};
use serde_json::{Value, json};

/// What must be found at the default, in percent: fixed before any corpus was looked at.
const TARGETS: [(&str, f64); 2] = [("sql_injection", 95.0), ("xss", 95.0)];
const OTHERS: f64 = 90.0;

/// What may be refused of benign values, in percent.
const FALSE_POSITIVES: f64 = 0.1;

/// The folders of corpora.
const KINDS: [&str; 3] = ["attack", "benign", "probe"];

/// The default paranoia level.
const DEFAULT: u8 = 1;

/// How many values of a corpus are told that were missed, or refused.
const TOLD: usize = 10;

/// Requests of one corpus.
#[derive(Default)]
struct Sum {
    sent: usize,
    refused: usize,
    /// Attacks that passed, or benign values that did not.
    wrong: Vec<String>,
}

impl Sum {
    fn share(&self) -> f64 {
        let as_float = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        100.0 * as_float(self.refused) / as_float(self.sent.max(1))
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let is_json = arguments.iter().any(|argument| argument == "--json");
    let folder = arguments.iter().find(|argument| !argument.starts_with("--"));
    let folder = folder.unwrap_or_else(|| panic!("name a folder of corpora"));
    let corpora = KINDS.map(|kind| corpora(&Path::new(folder).join(kind), kind == "probe"));
    let mut levels = Vec::new();
    for level in 1..=4 {
        eprintln!("== paranoia {level} of 4");
        let waf = waf(level);
        let mut kinds = KINDS.iter().zip(&corpora).map(|(kind, corpora)| -> Sums {
            corpora.iter().map(|(name, values)| (name.clone(), sum(&waf, values, *kind != "benign"))).collect()
        });
        levels.push((level, std::array::from_fn(|_| kinds.next().unwrap_or_default())));
    }
    let is_met = levels.iter().filter(|(level, _)| *level == DEFAULT).all(|(_, [attacks, benign, _])| {
        attacks.iter().all(|(name, sum)| sum.share() >= target(name))
            && benign.values().all(|sum| sum.share() < FALSE_POSITIVES)
    });
    if is_json {
        let shown = |sums: &Sums| -> Value {
            sums.iter()
                .map(|(name, sum)| (name.clone(), json!({ "requests": sum.sent, "refused": sum.refused })))
                .collect()
        };
        let rows = levels.iter().map(|(level, [attacks, benign, probes])| {
            json!({ "paranoia": level, "attack": shown(attacks), "benign": shown(benign), "probe": shown(probes) })
        });
        println!("{}", json!({ "threshold": THRESHOLD, "levels": rows.collect::<Vec<_>>(), "targets_met": is_met }));
    } else {
        print(&levels, is_met);
    }
    if is_met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn target(category: &str) -> f64 {
    TARGETS.iter().find(|(name, _)| *name == category).map_or(OTHERS, |(_, target)| *target)
}

/// What became of the corpora of one kind, by name.
type Sums = BTreeMap<String, Sum>;

/// A paranoia level, and what became of each of [`KINDS`].
type Level = (u8, [Sums; 3]);

fn print(levels: &[Level], is_met: bool) {
    println!("refused at paranoia 1 to 4, in percent, with threshold {THRESHOLD}");
    println!("{:<18} {:>9} {:>8} {:>8} {:>8} {:>8}  target", "corpus", "requests", 1, 2, 3, 4);
    for (index, kind) in KINDS.into_iter().enumerate() {
        let of = |level: &Level| -> Vec<(String, usize, f64)> {
            let sums = level.1.get(index).into_iter().flatten();
            sums.map(|(name, sum)| (name.clone(), sum.sent, sum.share())).collect()
        };
        let rows: Vec<Vec<(String, usize, f64)>> = levels.iter().map(of).collect();
        for (row, (name, sent, _)) in rows.first().into_iter().flatten().enumerate() {
            let shares: Vec<String> =
                rows.iter().filter_map(|level| level.get(row)).map(|(.., share)| format!("{share:>8.3}")).collect();
            let target = match kind {
                "attack" => format!(">= {}", target(name)),
                "benign" => format!("< {FALSE_POSITIVES}"),
                other => other.to_owned(),
            };
            println!("{name:<18} {sent:>9} {}  {target}", shares.join(" "));
        }
    }
    for (_, [attacks, benign, _]) in levels.iter().filter(|(level, _)| *level == DEFAULT) {
        for (name, sum) in attacks.iter().chain(benign) {
            // One line of a terminal for each.
            let short = |value: &String| value.chars().take(50).collect::<String>();
            sum.wrong.iter().take(TOLD).for_each(|value| println!("{name}: wrong: {:?}", short(value)));
        }
    }
    println!("targets at the default: {}", if is_met { "met" } else { "missed" });
}

/// Every corpus of a folder, by name.
fn corpora(folder: &Path, may_lack: bool) -> BTreeMap<String, Vec<String>> {
    if may_lack && !folder.exists() {
        return BTreeMap::new();
    }
    let files = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let files = files.map(|entry| entry.unwrap().path());
    let read = |path: &Path| {
        let text = fs::read(path).unwrap();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
    };
    files.map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), read(&path))).collect()
}

fn waf(paranoia: u8) -> Waf {
    let settings = Settings {
        name: "bench".to_owned(),
        mode: Mode::Enforce,
        has_builtin: true,
        roots: Vec::new(),
        files: Vec::new(),
        threshold: THRESHOLD,
        paranoia,
        inspect_body: Some(1 << 20),
        exclude: Vec::new(),
    };
    Waf::new(Arc::new(Rules::new(&settings, None).unwrap()), None, None)
}

fn sum(waf: &Waf, values: &[String], is_attack: bool) -> Sum {
    let mut sum = Sum::default();
    for value in values {
        let encoded: String = value.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let json = json!({ "text": value }).to_string();
        let target = format!("/items?text={encoded}");
        let form = format!("text={encoded}");
        let cases = [
            (target.as_str(), "", ""),
            ("/items", "application/x-www-form-urlencoded", form.as_str()),
            ("/items", "application/json", json.as_str()),
        ];
        let mut refused = 0;
        for (target, content_type, body) in cases {
            let headers: &[(&str, &[u8])] =
                &[("host", b"api.example"), ("user-agent", b"Mozilla/5.0"), ("content-type", content_type.as_bytes())];
            let headers = headers.get(..if content_type.is_empty() { 2 } else { 3 }).unwrap_or_default();
            let (method, client) = ("POST", IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
            let request = Request { method, target, protocol: "HTTP/1.1", headers, body: body.as_bytes(), client };
            refused += usize::from(waf.judge(&request).is_attack);
        }
        sum.sent += cases.len();
        sum.refused += refused;
        if is_attack && refused < cases.len() || !is_attack && refused > 0 {
            sum.wrong.push(value.clone());
        }
    }
    sum
}
