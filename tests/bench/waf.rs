//! Holds the rules of the firewall against corpora: which share of attacks they find, by category, and which share of benign
//! values they refuse; with the default threshold, in one run: the built-in rules, which know no paranoia levels, and beside
//! them the Core Rule Set at each of its levels: that of `--rules=FOLDER`, else Debian's package where it is installed.
//!
//! A folder has `attack/CATEGORY.txt`, `benign/NAME.txt` and perhaps `probe/CATEGORY.txt`, one value a line; or `.json`, a list
//! of strings. `CATEGORY.SOURCE` is a category, too. Probes are values from lists of attacks that say nothing by themselves;
//! they have no target. Each value is sent as a parameter of the query, as a field of a form and as a string in JSON.
//! `cargo xtask bench waf` collects the corpora and runs this. With `--all`, every value is told that was missed, or refused.
//! With `--built-in`, the Core Rule Set is left out, which takes most of the time. With `--compare FILE`, see [`compare`].
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a tool of the tests: whatever fails names its line"
)]
#![allow(clippy::print_stdout, reason = "the table is what it is for")]

use std::{
    collections::BTreeMap,
    env, fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use gateway::{
    os::file::NamedFile,
    policy::validate::waf::{Waf, WafRequest, WafRules},
    settings::waf::{Settings, THRESHOLD, WafMode},
};
use serde_json::{Value, json};

mod compare;

/// What must be found at the default, in percent: fixed before any corpus was looked at.
const TARGETS: [(&str, f64); 2] = [("sql_injection", 95.0), ("xss", 95.0)];
const OTHERS: f64 = 90.0;

/// What may be refused of benign values, in percent.
const FALSE_POSITIVES: f64 = 0.1;

/// The folders of corpora.
const KINDS: [&str; 3] = ["attack", "benign", "probe"];

/// Where Debian's package has the Core Rule Set: its set-up, and its rules.
const CORE_RULES: [&str; 2] = ["/etc/modsecurity/crs/crs-setup.conf", "/usr/share/modsecurity-crs/rules"];

/// The names of the set-up in a folder of the Core Rule Set: an operator's own, and that of a release.
const SETUPS: [&str; 2] = ["crs-setup.conf", "crs-setup.conf.example"];

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
    let told = if arguments.iter().any(|argument| argument == "--all") { usize::MAX } else { TOLD };
    let core = core_rules(arguments.iter().find_map(|argument| argument.strip_prefix("--rules=")));
    if arguments.iter().any(|argument| argument == "--compare") {
        let is_met = compare::run(folder, |level| settings(level, &core), told, is_json);
        return if is_met { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let corpora = KINDS.map(|kind| corpora(&Path::new(folder).join(kind), kind == "probe"));
    let is_built_in = arguments.iter().any(|argument| argument == "--built-in");
    let of_core = if core.files.is_empty() || is_built_in { 0 } else { 4 };
    let mut levels = Vec::new();
    for level in 0..=of_core {
        eprintln!("== {} of {}: {}", level + 1, of_core + 1, label(level));
        let rules = WafRules::new(&settings(level, &core), None).unwrap();
        if level == 1 {
            rules.warnings().iter().for_each(|warning| eprintln!("{warning}"));
        }
        let waf = Waf::new(Arc::new(rules), None, None);
        let mut kinds = KINDS.iter().zip(&corpora).map(|(kind, corpora)| -> Sums {
            corpora.iter().map(|(name, values)| (name.clone(), sum(&waf, values, *kind != "benign"))).collect()
        });
        levels.push((level, std::array::from_fn(|_| kinds.next().unwrap_or_default())));
    }
    let is_met = levels.iter().take(1).all(|(_, [attacks, benign, _])| {
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
            json!({ "rules": label(*level), "attack": shown(attacks), "benign": shown(benign), "probe": shown(probes) })
        });
        println!("{}", json!({ "threshold": THRESHOLD, "levels": rows.collect::<Vec<_>>(), "targets_met": is_met }));
    } else {
        print(&levels, is_met, told);
    }
    if is_met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn target(corpus: &str) -> f64 {
    let category = corpus.split('.').next().unwrap_or_default();
    TARGETS.iter().find(|(name, _)| *name == category).map_or(OTHERS, |(_, target)| *target)
}

/// What became of the corpora of one kind, by name.
type Sums = BTreeMap<String, Sum>;

/// 0: the built-in rules; or a paranoia level of the Core Rule Set beside them; and what became of each of [`KINDS`].
type Level = (u8, [Sums; 3]);

/// What one is called.
fn label(level: u8) -> String {
    if level == 0 { "built-in".to_owned() } else { format!("+ CRS {level}") }
}

fn print(levels: &[Level], is_met: bool, told: usize) {
    println!("refused in percent, with threshold {THRESHOLD}");
    let heads: Vec<String> = levels.iter().map(|(level, _)| format!("{:>8}", label(*level))).collect();
    println!("{:<30} {:>9} {}  target", "corpus", "requests", heads.join(" "));
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
            println!("{name:<30} {sent:>9} {}  {target}", shares.join(" "));
        }
    }
    for (_, [attacks, benign, _]) in levels.iter().take(1) {
        for (name, sum) in attacks.iter().chain(benign) {
            // One line of a terminal for each.
            let length = if told == TOLD { 50 } else { usize::MAX };
            let short = |value: &String| value.chars().take(length).collect::<String>();
            sum.wrong.iter().take(told).for_each(|value| println!("{name}: wrong: {:?}", short(value)));
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
        if path.extension().is_some_and(|extension| extension == "json") {
            return serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
    };
    files.map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), read(&path))).collect()
}

/// The files of the Core Rule Set.
#[derive(Default)]
struct CoreRules {
    /// What the configuration names.
    roots: Vec<PathBuf>,
    /// None: it is not installed.
    files: Vec<NamedFile>,
}

/// The Core Rule Set of `folder`, as a release of it is: `crs-setup.conf` or its example, and `rules/`; else Debian's.
fn core_rules(folder: Option<&str>) -> CoreRules {
    let [setup, rules] = match folder.map(Path::new) {
        Some(folder) => {
            let setup = SETUPS.iter().map(|name| folder.join(name)).find(|setup| setup.is_file());
            let setup = setup.unwrap_or_else(|| panic!("{} has no crs-setup.conf", folder.display()));
            [setup, folder.join("rules")]
        }
        None => CORE_RULES.map(PathBuf::from),
    };
    let entries = match fs::read_dir(&rules) {
        Ok(entries) => entries,
        Err(error) if folder.is_some() => panic!("{}: {error}", rules.display()),
        Err(_) => return CoreRules::default(),
    };
    let paths = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).chain([setup.clone()]);
    let files = paths.map(|path| NamedFile { bytes: fs::read(&path).unwrap().into(), path }).collect();
    CoreRules { roots: vec![setup, rules.join("*.conf")], files }
}

/// The built-in rules, and from `level` 1 on the rules of `core`.
fn settings(level: u8, core: &CoreRules) -> Settings {
    Settings {
        name: "bench".to_owned(),
        mode: WafMode::Enforce,
        has_builtin: true,
        roots: if level == 0 { Vec::new() } else { core.roots.clone() },
        files: if level == 0 { Vec::new() } else { core.files.clone() },
        threshold: THRESHOLD,
        paranoia: level.max(1),
        inspect_body: Some(1 << 20),
        exclude: Vec::new(),
    }
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
            let length = body.len().to_string();
            // As browsers send it: higher levels refuse requests that lack any of these, whatever else they hold.
            let headers: &[(&str, &[u8])] = &[
                ("host", b"api.example"),
                ("user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
                ("accept", b"text/html,application/xhtml+xml,*/*;q=0.8"),
                ("accept-language", b"en-US,en;q=0.5"),
                ("accept-encoding", b"gzip, deflate, br"),
                ("content-type", content_type.as_bytes()),
                ("content-length", length.as_bytes()),
            ];
            let (method, count) = if content_type.is_empty() { ("GET", 5) } else { ("POST", 7) };
            let headers = headers.get(..count).unwrap_or_default();
            let client = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
            let request = WafRequest { method, target, protocol: "HTTP/1.1", headers, body: body.as_bytes(), client };
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
