//! Who may import whom: no circle among the files of any crate, and no import upwards among the floors of `gateway`.
//!
//! What a file imports is read from its text: see [`modules`](super::modules).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    circles::{Graph, circles, longest},
    modules::{Arrows, File, arrows},
    policies, type_names,
};

/// The crates: where their sources are, and their names.
const CRATES: [(&str, &str); 11] = [
    ("gateway/src", "gateway"),
    ("gateway-common/src", "gateway_common"),
    ("gateway-ebpf/src", "gateway_ebpf"),
    ("xtask/src", "xtask"),
    ("tests/support", "support"),
    ("tests/e2e", "e2e"),
    ("tests/kernel", "kernel"),
    ("tests/bench", "bench"),
    ("tests/hostile", "hostile"),
    ("tests/machine", "machine"),
    ("tests/soak", "soak"),
];

/// The floors of `gateway`, from the lowest up. A module imports from floors below its own, and from its own floor as
/// long as there is no circle; modules of a floor that is `apart` share only what is below them. A folder that only
/// groups modules, such as `policy`, stands here by what is in it.
const FLOORS: [Floor; 10] = [
    Floor {
        name: "vocabulary",
        apart: false,
        modules: &[
            "collections/bounded",
            "collections/mix",
            "collections/swap",
            "diagnostic",
            "identity/claim",
            "identity/expression",
            "identity/permission",
            "json",
            "metric",
            "net/geo",
            "net/reach",
            "net/source_set",
            "os",
            "os/alternating_files",
            "os/clock",
            "os/file",
            "os/launch",
            "os/program_log",
            "os/program_log/sparse",
            "os/resident",
            "os/sandbox",
            "os/seqpacket",
            "os/syslog",
            "refusal",
            "refusal/violation",
            "signal",
            "text",
            "text/counted",
            "text/digits",
            "text/terminal",
            "text/wildcard",
            "web/header_names",
            "web/header_values",
            "web/path",
            "web/request_id",
            "web/trace_context",
            "web/url",
            "x509",
        ],
    },
    Floor { name: "settings", apart: false, modules: &["settings"] },
    Floor { name: "lists of sources", apart: false, modules: &["lists"] },
    Floor { name: "configuration", apart: false, modules: &["config"] },
    Floor {
        name: "policies and what is compiled",
        apart: false,
        modules: &[
            "anchor",
            "client",
            "log",
            "outbound",
            "policy/admission",
            "policy/auth",
            "policy/authz",
            "policy/detect",
            "policy/limit",
            "policy/validate",
            "route",
            "tls",
        ],
    },
    Floor { name: "snapshot", apart: false, modules: &["snapshot"] },
    Floor { name: "messages", apart: false, modules: &["message"] },
    Floor { name: "processes", apart: true, modules: &["compiler", "guard", "launcher", "observer", "proxy"] },
    Floor { name: "commands", apart: false, modules: &["cli"] },
    Floor { name: "main", apart: false, modules: &["main"] },
];

struct Floor {
    name: &'static str,
    apart: bool,
    modules: &'static [&'static str],
}

/// What was found out about the imports.
#[derive(Default)]
pub(super) struct Imports {
    pub(super) faults: Vec<String>,
    /// Of files, or of modules.
    circles: usize,
    /// The longest chain of modules of `gateway`, each importing from the next.
    chain: Vec<String>,
    files: usize,
}

impl Imports {
    /// One line for people.
    pub(super) fn summary(&self) -> String {
        let Self { circles, chain, files, .. } = self;
        format!("{files} files, {circles} circles; the longest chain of modules: {}", chain.join(" > "))
    }
}

/// Checks every crate of the tree, given all files of it.
pub(super) fn check(files: Vec<File>) -> Imports {
    let mut imports = Imports { files: files.len(), ..Imports::default() };
    let mut crates: BTreeMap<&str, Vec<File>> = BTreeMap::new();
    for file in files {
        let part = CRATES.iter().find(|(root, _)| is_below(&file.path, root));
        if let Some((root, _)) = part {
            crates.entry(root).or_default().push(file);
        }
    }
    for (root, name) in CRATES {
        let files = crates.remove(root).unwrap_or_default();
        let arrows = arrows(&files, root, name);
        imports.check_circles(&files, &arrows);
        imports.faults.extend(type_names::check(&files, root, name));
        if name == "gateway" {
            imports.check_floors(&files, &arrows, root);
            imports.faults.extend(files.iter().flat_map(|file| policies::check(file, root)));
        }
    }
    imports
}

/// The module of a file as [`FLOORS`] have it: the innermost one that stands there. `None`: the file is the crate's root,
/// or declares the modules of a group and nothing else.
fn listed<'path>(path: &'path str, root: &str) -> Option<&'path str> {
    let below = path.strip_prefix(root)?.trim_start_matches('/').trim_end_matches(".rs");
    if below == "lib" {
        return None;
    }
    let modules = || FLOORS.iter().flat_map(|floor| floor.modules);
    let innermost = modules().filter(|module| is_below(path, &format!("{root}/{module}"))).max_by_key(|at| at.len());
    if let Some(module) = innermost {
        return below.get(..module.len());
    }
    // Of no floor: named as it would stand there.
    let mut parts = below.match_indices('/').map(|(at, _)| at).chain([below.len()]);
    let top = below.get(..parts.next()?)?;
    let is_group = modules().any(|module| module.strip_prefix(top).is_some_and(|rest| rest.starts_with('/')));
    if is_group { below.get(..parts.next()?) } else { Some(top) }
}

/// The folder or file at the top that a module of [`FLOORS`] is in.
fn top(module: &str) -> &str {
    module.split_once('/').map_or(module, |(top, _)| top)
}

/// Whether a file is in a folder, or is the file that the folder belongs to.
fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with(['/', '.']))
}

impl Imports {
    fn check_circles(&mut self, files: &[File], arrows: &Arrows) {
        let path = |at: usize| files.get(at).map_or("", |file| file.path.as_str());
        let mut graph: Graph<usize> = (0..files.len()).map(|at| (at, BTreeSet::new())).collect();
        for (from, to) in arrows.keys() {
            graph.entry(*from).or_default().insert(*to);
        }
        for circle in circles(&graph) {
            self.circles += 1;
            let mut fault = format!("{} files import each other in a circle:", circle.len());
            let inside = arrows.iter().filter(|((from, to), _)| circle.contains(from) && circle.contains(to));
            for ((from, to), names) in inside {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                fault.push_str(&format!("\n    {} -> {}: {}", path(*from), path(*to), names.join(", ")));
            }
            self.faults.push(fault);
        }
    }

    fn check_floors(&mut self, files: &[File], arrows: &Arrows, root: &str) {
        let module = |at: usize| {
            let path = files.get(at).map_or("", |file| file.path.as_str());
            listed(path, root).unwrap_or("lib")
        };
        let floor = |module: &str| FLOORS.iter().position(|floor| floor.modules.contains(&module));
        let mut graph: Graph<&str> = Graph::new();
        // The same by what stands at the top: groups form no circle either.
        let mut tops: Graph<&str> = Graph::new();
        for at in 0..files.len() {
            let name = module(at);
            if name != "lib" && floor(name).is_none() && graph.insert(name, BTreeSet::new()).is_none() {
                self.faults.push(format!("{root}/{name}: stands on no floor; see FLOORS in xtask/src/tidy/imports.rs"));
            }
            graph.entry(name).or_default();
        }
        for ((from, to), names) in arrows {
            let (upper, lower) = (module(*from), module(*to));
            if upper == lower {
                continue;
            }
            graph.entry(upper).or_default().insert(lower);
            tops.entry(top(lower)).or_default();
            if top(upper) != top(lower) {
                tops.entry(top(upper)).or_default().insert(top(lower));
            }
            let (Some(above), Some(below)) = (floor(upper), floor(lower)) else { continue };
            let is_apart = above == below && FLOORS.get(above).is_some_and(|floor| floor.apart);
            if above < below || is_apart {
                let of = |at: usize| FLOORS.get(at).map_or("", |floor| floor.name);
                let path = |at: usize| files.get(at).map_or("", |file| file.path.as_str());
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                self.faults.push(format!(
                    "{}: is of the floor \"{}\" and must not name {} of {}, of the floor \"{}\"",
                    path(*from),
                    of(above),
                    names.join(", "),
                    path(*to),
                    of(below)
                ));
            }
        }
        for circle in circles(&graph).into_iter().chain(circles(&tops)) {
            let names: Vec<&str> = circle.into_iter().collect();
            self.circles += 1;
            self.faults.push(format!("the modules {} import each other in a circle", names.join(", ")));
        }
        self.chain = longest(&graph).into_iter().map(str::to_owned).collect();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{places::root, tidy::source};

    #[track_caller]
    fn finds(texts: &[(&str, &str)], expect: &[&str]) {
        let file = |(path, text): &(&str, &str)| File::new(path, text, &source::code(text));
        let faults = check(texts.iter().map(file).collect()).faults;
        let all = expect.len() == faults.len() && faults.iter().zip(expect).all(|(fault, part)| fault.contains(part));
        assert!(all, "{faults:?}, not {expect:?}");
    }

    #[test]
    fn floors_hold() {
        let lib = ("gateway/src/lib.rs", "mod cli; mod guard; mod policy; mod proxy; mod text; mod web;");
        let policy = ("gateway/src/policy.rs", "pub mod auth; pub mod limit;");
        let guard = ("gateway/src/guard.rs", "pub struct Guard;");
        let limit = ("gateway/src/policy/limit.rs", "pub struct Limit;");
        let cli = ("gateway/src/cli.rs", "use crate::{guard::Guard, policy::limit::Limit};");
        finds(&[lib, guard, policy, limit, cli], &[]);
        finds(
            &[lib, guard, ("gateway/src/text.rs", "use crate::guard::Guard;")],
            &["\"vocabulary\" and must not name Guard"],
        );
        finds(&[lib, guard, ("gateway/src/proxy.rs", "use crate::guard::Guard;")], &["must not name Guard"]);
        finds(&[lib, policy, limit, ("gateway/src/policy/auth.rs", "use crate::policy::limit::Limit;")], &[]);
        finds(&[lib, ("gateway/src/novel.rs", "")], &["src/novel: stands on no floor"]);
        finds(&[lib, policy, ("gateway/src/policy/novel/a.rs", "")], &["src/policy/novel: stands on no floor"]);
        finds(&[lib, ("gateway/src/policy/limit/address.rs", "use std::time::SystemTime;")], &["SystemTime"]);
    }

    #[test]
    fn groups_form_no_circle() {
        let lib = ("gateway/src/lib.rs", "mod text; mod web;");
        let groups =
            [lib, ("gateway/src/web.rs", "pub mod path; pub mod url;"), ("gateway/src/text.rs", "pub mod digits;")];
        let path = ("gateway/src/web/path.rs", "use crate::text::digits::number; pub fn path() {}");
        let url = ("gateway/src/web/url.rs", "pub fn url() {}");
        let digits = ("gateway/src/text/digits.rs", "use crate::web::url::url; pub fn number() {}");
        finds(&[&groups[..], &[path, url, digits]].concat(), &["the modules text, web import each other"]);
    }

    /// What is looked at is what there is: a crate that is not listed here would be looked at by nobody.
    #[test]
    fn crates_and_modules_are_there() {
        let tests = fs::read_dir(root().join("tests")).unwrap().map(|entry| entry.unwrap().path());
        let of_tests = tests.filter(|path| path.join("main.rs").exists());
        for path in of_tests {
            let path = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            assert!(CRATES.iter().any(|(root, _)| *root == path), "{path} is not in CRATES");
        }
        for (path, _) in CRATES {
            assert!(root().join(path).is_dir(), "{path} is in CRATES, and is gone");
        }
        let source = root().join("gateway/src");
        for module in FLOORS.iter().flat_map(|floor| floor.modules) {
            assert!(source.join(format!("{module}.rs")).exists(), "{module} is in FLOORS, and is gone");
        }
    }

    #[test]
    fn circles_are_named() {
        let build = ("xtask/src/build.rs", "use crate::setup::ensure; pub fn cargo() {}");
        let setup = ("xtask/src/setup.rs", "use crate::build::cargo; pub fn ensure() {}");
        let main = ("xtask/src/main.rs", "mod build; mod setup;");
        finds(&[main, build, setup], &["xtask/src/build.rs -> xtask/src/setup.rs: ensure"]);
    }
}
