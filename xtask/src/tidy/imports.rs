//! Decides who may import whom inside the `gateway` crate.

use super::source::has_word;

/// What each part of the crate may name of the others, as the starts of paths after `crate::`. A part may always name
/// itself. What is not listed here may name nothing.
const MAY: [(&str, &[&str]); 35] = [
    ("lib", &[]),
    ("main", &[]),
    ("cli", &["config", "guard", "proxy"]),
    ("config", &[]),
    ("guard", &[]),
    ("proxy", &[]),
    ("auth", &[]),
    ("authz", &[]),
    ("limit", &[]),
    ("validate", &[]),
    ("detect", &[]),
    ("log", &[]),
    ("route", &[]),
    ("tls", &[]),
    ("snapshot", &[]),
    ("message", &[]),
    ("settings", &[]),
    ("sandbox", &[]),
    ("os", &[]),
    ("sparse", &[]),
    ("clock", &[]),
    ("diagnostic", &[]),
    ("file", &[]),
    ("text", &[]),
    ("bounded", &[]),
    ("header_names", &[]),
    ("json", &[]),
    ("path", &[]),
    ("refusal", &[]),
    ("request_id", &[]),
    ("signal", &[]),
    ("swap", &[]),
    ("x509", &[]),
    ("client", &[]),
    ("launcher", &[]),
];

/// Rows as wide as they are now: what may name what is about to be proven from the imports themselves.
const VOCABULARY: &[&str] = &[
    "bounded",
    "clock",
    "diagnostic",
    "file",
    "header_names",
    "json",
    "os",
    "path",
    "refusal",
    "request_id",
    "sandbox",
    "settings",
    "signal",
    "sparse",
    "swap",
    "text",
    "x509",
    "auth",
    "authz",
    "config",
    "detect",
    "limit",
    "log",
    "message",
    "route",
    "snapshot",
    "tls",
    "validate",
    "client",
];

/// Parts that decide and do nothing else: no sockets, no runtime, no clock.
const POLICIES: [&str; 5] = ["auth", "authz", "detect", "limit", "validate"];

/// What a policy must not name.
const EFFECTS: [&str; 8] = ["tokio", "hyper", "hyper_util", "socket2", "nix", "rustix", "SystemTime", "TcpStream"];

/// The faults of one file, given as its path below `gateway/src` and its code without tests.
pub(super) fn check(file: &str, code: &str) -> Vec<String> {
    let part = file.split(['/', '.']).next().unwrap_or_default();
    let Some((_, may)) = MAY.iter().find(|row| row.0 == part) else {
        return vec![format!("`{part}` has no row in the table of who may import whom")];
    };
    let mut faults = Vec::new();
    for path in paths(code, "crate::").into_iter().flat_map(|path| through_module(path, may, code)) {
        let own = path == part || path.starts_with(&format!("{part}::"));
        if !own && !may.iter().chain(VOCABULARY).any(|start| begins(&path, start)) {
            faults.push(format!("`{part}` must not name crate::{path}"));
        }
    }
    if POLICIES.contains(&part) {
        let named = EFFECTS.iter().filter(|word| has_word(code, word));
        faults.extend(named.map(|word| format!("a policy decides; `{word}` is for others")));
    }
    faults
}

/// Whether `path` is `start` or below it.
fn begins(path: &str, start: &str) -> bool {
    let start = start.trim_end_matches("::");
    path.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// A module of which only parts may be named can be imported by itself: then its uses count in its place.
fn through_module(path: String, may: &[&str], code: &str) -> Vec<String> {
    let module = path.trim_end_matches("::self");
    let partly = may.iter().any(|start| start.strip_prefix(module).is_some_and(|rest| rest.starts_with("::")));
    if !partly {
        return vec![path];
    }
    let uses = paths(code, &format!("{module}::")).into_iter().filter(|name| name != "self");
    uses.map(|name| format!("{module}::{name}")).collect()
}

/// Every path after `start`, groups in braces taken apart.
fn paths(code: &str, start: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(start) {
        // `$crate::` and `my_crate::` are other things; so is `a::auth::` where `auth::` is looked for.
        let before = code.get(..at).and_then(|before| before.chars().next_back());
        if before.is_none_or(|character| !character.is_alphanumeric() && !"_$:".contains(character)) {
            tree("", code.get(at + start.len()..).unwrap_or_default(), &mut found);
        }
    }
    found
}

/// Reads one use-tree at the start of `rest`; the rest after it.
fn tree<'code>(prefix: &str, rest: &'code str, found: &mut Vec<String>) -> &'code str {
    let mut rest = rest.trim_start();
    if let Some(group) = rest.strip_prefix('{') {
        rest = group;
        loop {
            rest = tree(prefix, rest, found).trim_start();
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => return rest.strip_prefix('}').unwrap_or(rest),
            }
        }
    }
    let end = rest.find(|character: char| !character.is_alphanumeric() && character != '_').unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    if name.is_empty() {
        // `*`, `self` at the end of a group, or a trailing comma: the prefix says it all.
        if !prefix.is_empty() {
            found.push(prefix.to_owned());
        }
        return after.strip_prefix('*').unwrap_or(after);
    }
    let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
    match after.strip_prefix("::") {
        Some(deeper) => tree(&path, deeper, found),
        None => {
            found.push(path);
            after.trim_start().strip_prefix("as ").map_or(after, |alias| {
                alias.trim_start_matches(|character: char| character.is_alphanumeric() || character == '_')
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_trees_are_taken_apart() {
        let code = "use crate::{auth::{self, jwt::Jwt}, fault::Fault as F, clock::*,};\nlet x = crate::text::read(1);";
        assert_eq!(paths(code, "crate::"), ["auth::self", "auth::jwt::Jwt", "fault::Fault", "clock", "text::read"]);
        assert_eq!(paths("$crate::a, other_crate::b", "crate::"), Vec::<String>::new());
    }

    #[track_caller]
    fn finds(file: &str, code: &str, expect: &[&str]) {
        let faults = check(file, code);
        let all = expect.len() == faults.len() && faults.iter().zip(expect).all(|(fault, part)| fault.contains(part));
        assert!(all, "{file}: {faults:?}, not {expect:?}");
    }

    #[test]
    fn rules_hold() {
        finds("proxy/pipeline.rs", "use crate::guard::store::Store;", &["crate::guard::store::Store"]);
        finds("limit/address.rs", "use std::time::SystemTime;", &["SystemTime"]);
        finds("novel.rs", "", &["no row"]);
    }
}
