//! A sample of requests for each family of the OWASP Core Rule Set, and good ones: whether they are refused at paranoia
//! level 1 is as libmodsecurity has it by the same rules. `cargo xtask bench waf --modsecurity` asks libmodsecurity anew, and
//! compares all of the rules' own tests.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::Arc,
};

use gateway::{
    os::file::NamedFile,
    policy::validate::waf::{Waf, WafRequest, WafRules},
    settings::waf::{Settings, THRESHOLD, WafMode},
};
use serde::Deserialize;
use support::report;

/// Where Debian's package has the rules, and which files are read there. `cargo xtask setup --all` installs it.
const CORE_RULES: [(&str, &str); 2] =
    [("/etc/modsecurity/crs", "crs-setup.conf"), ("/usr/share/modsecurity-crs/rules", "*.conf")];

/// What a browser sends: the rules find fault with requests that lack any of these.
const BROWSER: [(&str, &str); 5] = [
    ("Host", "api.example"),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
    ("Accept-Language", "en-US,en;q=0.5"),
    ("Accept-Encoding", "gzip, deflate, br"),
];

/// Requests with another verdict than libmodsecurity's, and why.
const OTHERWISE: [(&str, &str); 0] = [];

/// A request, and what libmodsecurity says of it.
#[derive(Deserialize)]
struct Sample {
    name: String,
    #[serde(default = "get")]
    method: String,
    target: String,
    #[serde(default = "protocol")]
    protocol: String,
    /// In the place of what a browser sends, or besides; `None`: it is left out.
    #[serde(default)]
    headers: Vec<(String, Option<String>)>,
    #[serde(default)]
    body: String,
    refused: bool,
    /// Those that look for something.
    rules: Vec<u32>,
}

fn get() -> String {
    "GET".to_owned()
}

fn protocol() -> String {
    "HTTP/1.1".to_owned()
}

/// The rules alone, as an operator has them.
fn core_rules() -> Option<Waf> {
    let entries = CORE_RULES.iter().map(|(folder, _)| fs::read_dir(folder)).collect::<Result<Vec<_>, _>>().ok()?;
    let paths = entries.into_iter().flatten().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let files: Vec<_> = paths.map(|path| NamedFile { bytes: fs::read(&path).unwrap().into(), path }).collect();
    let settings = Settings {
        name: "core".to_owned(),
        mode: WafMode::Enforce,
        has_builtin: false,
        roots: CORE_RULES.iter().map(|(folder, name)| Path::new(folder).join(name)).collect(),
        files,
        threshold: THRESHOLD,
        paranoia: 1,
        inspect_body: Some(1 << 20),
        exclude: Vec::new(),
    };
    Some(Waf::new(Arc::new(WafRules::new(&settings, None).unwrap()), None, None))
}

/// Whether it is refused, and by which rules.
fn judge(waf: &Waf, sample: &Sample) -> (bool, Vec<u32>) {
    let is_own = |name: &str| sample.headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
    let length = sample.body.len().to_string();
    let usual = BROWSER.iter().copied().filter(|(name, _)| !is_own(name));
    let own = sample.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_deref()?)));
    let length = (!sample.body.is_empty() && !is_own("Content-Length")).then_some(("Content-Length", length.as_str()));
    let headers: Vec<(&str, &[u8])> =
        usual.chain(own).chain(length).map(|(name, value)| (name, value.as_bytes())).collect();
    let verdict = waf.judge(&WafRequest {
        method: &sample.method,
        target: &sample.target,
        protocol: &sample.protocol,
        headers: &headers,
        body: sample.body.as_bytes(),
        client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    });
    (verdict.is_attack, verdict.findings.iter().filter_map(|finding| finding.rule.parse().ok()).collect())
}

#[test]
fn a_sample_has_the_verdicts_of_libmodsecurity() {
    let Some(waf) = core_rules() else {
        return report::skipped("core_rules", "needs the package modsecurity-crs");
    };
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/core-rules/requests.jsonl");
    let text = fs::read_to_string(file).unwrap();
    let mut wrong = Vec::new();
    for line in text.lines() {
        let sample: Sample = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let (is_refused, rules) = judge(&waf, &sample);
        let is_otherwise = OTHERWISE.iter().any(|(name, _)| *name == sample.name);
        let finds = !sample.refused || sample.rules.iter().any(|rule| rules.contains(rule));
        if (is_refused == sample.refused && finds) == is_otherwise {
            let expect = if sample.refused { "refused" } else { "passed" };
            wrong.push(format!("{}: {expect} by libmodsecurity, {:?}; here by {rules:?}", sample.name, sample.rules));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
