//! What the policies of `gateway` must not name: what reads a clock, what touches files, sockets or threads, and what
//! other policies keep to themselves.
//!
//! Names are read from the text, imports included. Tests may name anything.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    modules::{File, module_path},
    source::has_word,
    tokens::{Token, leaves, path, tokens},
};

/// The folder of the parts that decide and do nothing else: no sockets, no runtime, no clock.
const POLICIES: &str = "policy";

/// Words that stand for an effect, wherever they come from.
const WORDS: [&str; 14] = [
    "Instant",
    "SystemTime",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixDatagram",
    "UnixListener",
    "UnixStream",
    "hyper",
    "hyper_util",
    "nix",
    "rustix",
    "socket2",
    "tokio",
];

/// Paths that begin so stand for an effect; those of `gateway` without `crate`.
const PATHS: [&[&str]; 10] = [
    &["jiff", "Timestamp", "now"],
    &["jiff", "Zoned", "now"],
    &["os", "clock", "Now", "read"],
    &["os", "clock", "boot_id"],
    &["os", "clock", "monotonic"],
    &["os", "clock", "thread"],
    &["std", "fs"],
    &["std", "os"],
    &["std", "process"],
    &["std", "thread"],
];

/// The faults of one file.
pub(super) fn check(file: &File, root: &str) -> Vec<String> {
    let module = module_path(&file.path, root);
    if module.first() != Some(&POLICIES) {
        return Vec::new();
    }
    let paths = paths(&file.code, &module);
    let is_effect = |names: &&Vec<String>| {
        PATHS.iter().any(|effect| effect.len() <= names.len() && effect.iter().zip(*names).all(|(a, b)| a == b))
    };
    let words = WORDS.iter().filter(|word| has_word(&file.code, word)).map(|word| (*word).to_owned());
    let effects: BTreeSet<String> = words.chain(paths.iter().filter(is_effect).map(|names| names.join("::"))).collect();
    let effects = effects.iter().map(|effect| format!("{}: a policy decides; `{effect}` is for others", file.path));
    // A type may be followed by what is in it; a module is the other policy's own.
    let is_inner = |names: &&Vec<String>| match names.as_slice() {
        [policies, other, inner, _, ..] => {
            policies == POLICIES
                && Some(&other.as_str()) != module.get(1)
                && inner.starts_with(|first: char| first.is_ascii_lowercase())
        }
        _ => false,
    };
    let inner = paths.iter().filter(is_inner).map(|names| {
        let names = names.join("::");
        format!("{}: names `{names}`; of another policy, only what stands at its top is for others", file.path)
    });
    effects.chain(inner).collect()
}

/// Every path that stands in `code`, read from the crate's root where it leads there. `module`: that of the file.
fn paths(code: &str, module: &[&str]) -> BTreeSet<Vec<String>> {
    let tokens = tokens(code);
    let mut imported: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut found, mut inline) = (BTreeSet::new(), Vec::new());
    let (mut rest, mut before) = (tokens.as_slice(), Token::Sign(' '));
    while let Some((&token, after)) = rest.split_first() {
        match token {
            Token::Word("use") if before != Token::Colons => {
                let (leaves, more) = leaves(after);
                for leaf in leaves {
                    let names = absolute(&leaf.names, module, &BTreeMap::new());
                    if let Some(name) = leaf.name() {
                        imported.insert(name, names.clone());
                    }
                    found.insert(names);
                }
                (rest, before) = (more, Token::Sign(';'));
            }
            Token::Word(first) if !matches!(before, Token::Colons | Token::Sign('.' | '$' | '\'')) => {
                let (names, more) = path(first, after);
                if names.len() > 1 {
                    inline.push(names);
                }
                (rest, before) = (more, Token::Word(first));
            }
            _ => (rest, before) = (after, token),
        }
    }
    found.extend(inline.iter().map(|names| absolute(names, module, &imported)));
    found
}

/// A path that stands in `module`, from the crate's root on, or from another crate's name.
fn absolute(names: &[String], module: &[&str], imported: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let own = |up: usize| module.iter().take(module.len().saturating_sub(up)).map(|name| (*name).to_owned());
    let Some((first, rest)) = names.split_first() else { return Vec::new() };
    match first.as_str() {
        "crate" => rest.to_vec(),
        "self" => own(0).chain(rest.iter().cloned()).collect(),
        "super" => {
            let up = names.iter().take_while(|name| *name == "super").count();
            own(up).chain(names.iter().skip(up).cloned()).collect()
        }
        first => match imported.get(first) {
            Some(known) => known.iter().chain(rest).cloned().collect(),
            None => names.to_vec(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::source;

    #[track_caller]
    fn finds(path: &str, text: &str, expect: &[&str]) {
        let faults = check(&File::new(path, text, &source::code(text)), "gateway/src");
        let all = expect.len() == faults.len() && faults.iter().zip(expect).all(|(fault, part)| fault.contains(part));
        assert!(all, "{text}: {faults:?}, not {expect:?}");
    }

    #[test]
    fn policies_have_no_effects() {
        let path = "gateway/src/policy/limit/connection.rs";
        for (text, expect) in [
            ("use std::time::SystemTime;", "`SystemTime`"),
            ("fn f() { std::time::Instant::now(); }", "`Instant`"),
            ("use crate::os::clock; fn f() { clock::monotonic(); }", "`os::clock::monotonic`"),
            ("use crate::os::clock::monotonic; fn f() { monotonic(); }", "`os::clock::monotonic`"),
            ("use crate::os::clock as time; fn f() { time::thread(); }", "`os::clock::thread`"),
            ("use crate::{os::clock::{Now, SECOND}, json}; fn f() { Now::read(); }", "`os::clock::Now::read`"),
            ("fn f() { crate::os::clock::boot_id(); }", "`os::clock::boot_id`"),
            ("use jiff::Timestamp; fn f() { Timestamp::now(); }", "`jiff::Timestamp::now`"),
            ("use std::{fmt, fs};", "`std::fs`"),
            ("fn f() { std::fs::read(path); }", "`std::fs::read`"),
            ("use std::net::{IpAddr, UdpSocket};", "`UdpSocket`"),
            ("use std::process::Command;", "`std::process::Command`"),
            ("fn f() { std::thread::spawn(g); }", "`std::thread::spawn`"),
            ("use tokio::sync::Notify;", "`tokio`"),
        ] {
            finds(path, text, &[expect]);
            // Others may, and so may tests.
            finds("gateway/src/proxy/worker.rs", text, &[]);
            finds(path, &format!("#[cfg(test)]\nmod tests {{ {text} }}"), &[]);
        }
        let plain = "use std::{net::IpAddr, time::Duration}; use crate::os::{clock::{Now, SECOND}, file::NamedFile};";
        finds(path, plain, &[]);
        finds(path, "fn f(now: Now, thread: u8) { self.thread.monotonic(); timestamp.now(); }", &[]);
    }

    #[test]
    fn policies_share_what_stands_at_their_top() {
        let path = "gateway/src/policy/limit/plan.rs";
        finds(path, "use crate::policy::auth::Identity; fn f() { Identity::of(1); }", &[]);
        finds(path, "use crate::policy::{auth::{Identity, Lookup}, limit::quota::shard::Shard};", &[]);
        finds(path, "use super::quota::Quota; use crate::settings::auth::method::Method;", &[]);
        finds(path, "use crate::policy::auth; fn f() { auth::ensure(); }", &[]);
        let inner = "names `policy::auth::identity::Identity`";
        finds(path, "use crate::policy::auth::identity::Identity;", &[inner]);
        finds(path, "use crate::policy::{auth::identity::{self, Identity}, limit::key::Key};", &[inner]);
        finds(path, "use crate::policy::auth; fn f(x: auth::identity::Identity) {}", &[inner]);
        finds(path, "fn f(x: super::super::auth::identity::Identity) {}", &[inner]);
        finds("gateway/src/policy/auth/basic.rs", "use crate::policy::auth::identity::Identity;", &[]);
        finds("gateway/src/snapshot.rs", "use crate::policy::auth::identity::Identity;", &[]);
    }
}
