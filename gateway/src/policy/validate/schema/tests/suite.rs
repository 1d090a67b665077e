//! The test suite of JSON Schema itself, for every draft from 4 to 2020-12: github.com/json-schema-org/JSON-Schema-Test-Suite
//! at 44401e0c (MIT), each draft's files in one, the optional ones too.

use std::{fs, path::PathBuf};

use referencing::{Draft, Registry};
use serde_json::{Map, Value};

use super::*;

/// What is not as the suite has it, and why.
const OTHERWISE: [(&str, &str); 5] = [
    ("draft4/optional/bignum.json: integer:", "a number over 64 bits is a float, which draft 4 holds for no integer"),
    ("draft2020-12/format.json:", "formats that are known are always checked"),
    ("draft2019-09/vocabulary.json:", "there is no `$schema` but the drafts'"),
    ("draft2020-12/vocabulary.json:", "there is no `$schema` but the drafts'"),
    ("draft2020-12/optional/format-assertion.json:", "there is no `$schema` but the drafts'"),
];

const DRAFTS: [(&str, Draft); 5] = [
    ("draft4", Draft::Draft4),
    ("draft6", Draft::Draft6),
    ("draft7", Draft::Draft7),
    ("draft2019-09", Draft::Draft201909),
    ("draft2020-12", Draft::Draft202012),
];

fn read(name: &str) -> Map<String, Value> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/policy/validate/schema/tests/suite");
    serde_json::from_slice(&fs::read(folder.join(name).with_extension("json")).unwrap()).unwrap()
}

/// What the suite's schemas refer to.
fn remotes(folder: &str, draft: Draft) -> Registry<'static> {
    let mut registry = Registry::new();
    for (name, remote) in read("remotes") {
        let other = name.split_once('/').filter(|(first, _)| *first == "v1" || first.starts_with("draft"));
        let draft = match other {
            None => draft,
            Some((first, _)) if first == folder => draft,
            Some((first, _)) => match DRAFTS.iter().find(|(known, _)| *known == first) {
                Some((_, other)) => *other,
                None => continue,
            },
        };
        registry = registry.add(format!("http://localhost:1234/{name}"), draft.create_resource(remote)).unwrap();
    }
    registry.draft(draft).prepare().unwrap()
}

#[test]
fn every_draft_is_as_its_suite_has_it() {
    let mut otherwise = Vec::new();
    let mut count = 0;
    for (folder, draft) in DRAFTS {
        let registry = remotes(folder, draft);
        for (file, groups) in read(folder) {
            for group in groups.as_array().unwrap() {
                let title = format!("{folder}/{file}: {}", group["description"]).replace('"', "");
                let schema = &group["schema"];
                let detected = draft.detect(schema);
                if detected == Draft::Unknown {
                    otherwise.push(format!("{title}: $schema"));
                    continue;
                }
                let compiled = compile(schema, BASE, plain(detected), &WrittenNumbers::default(), &registry);
                let graph = compiled.unwrap_or_else(|failure| panic!("{title}: {failure:?}")).graph;
                for test in group["tests"].as_array().unwrap() {
                    count += 1;
                    let body = JsonDocument::parse(test["data"].to_string().as_bytes()).unwrap();
                    let verdict = judge(&graph, NodeId(0), &body, QUICK);
                    assert!(!matches!(verdict, Err(JudgeError::OutOfWork(_))), "{title}");
                    if verdict.is_ok() != test["valid"].as_bool().unwrap() {
                        otherwise.push(format!("{title}: {}: {verdict:?}", test["description"]));
                    }
                }
            }
        }
    }
    assert!(count > 8_000, "{count}");
    let excused = |fault: &String| OTHERWISE.iter().any(|(start, _)| fault.starts_with(start));
    let faults: Vec<_> = otherwise.iter().filter(|fault| !excused(fault)).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    for (start, why) in OTHERWISE {
        assert!(otherwise.iter().any(|fault| fault.starts_with(start)), "no more: {start} {why}");
    }
}
