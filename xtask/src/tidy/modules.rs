//! Which file of a crate names what of which other file: read from the text, as the compiler would resolve it.
//!
//! - A path (`use` or inline, by `crate::`, `super::`, `self::` or the name of a module in scope) is followed module by
//!   module to the file that defines what it names. A re-export is followed to what it re-exports.
//! - Only what is named counts: a parent that declares `mod child` or re-exports a child's item without using it does not
//!   depend on the child, and to import a module is nothing until something of it is named.
//! - `use super::*` brings everything that the parent has in scope; each name of it that the file uses counts, wherever
//!   that name is defined.
//! - Tests (`#[cfg(test)]`, `tests.rs`, `tests/`) are left out.
//!
//! What this cannot see: a method that is called on a value, where the type is not named.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    source,
    tokens::{Token, leaves, path, tokens},
};

/// One file, and the module that it is.
pub(super) struct File {
    /// Below the top of the tree.
    pub(super) path: String,
    /// Without comments, the content of strings and tests.
    pub(super) code: String,
    /// Paths in strings that a derive macro reads: `#[serde(with = "crate::text")]`.
    quoted: Vec<String>,
}

/// Who names what: from one file to another, both as positions in the list of files.
pub(super) type Arrows = BTreeMap<(usize, usize), BTreeSet<String>>;

/// A name that a file imports from another one, by no other name; both files as positions in the list.
#[derive(Debug)]
pub(super) struct Import {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) name: String,
}

/// What a name in a module stands for.
#[derive(Clone, Debug)]
enum Meaning {
    /// Something that is defined in this file.
    Item,
    /// Something that is imported: its path, to be read in this module.
    Path(Vec<String>),
}

/// One module of a crate.
#[derive(Default)]
struct Module {
    parent: Option<usize>,
    /// A function or a constant may have the name of a module.
    children: HashMap<String, usize>,
    names: HashMap<String, Meaning>,
    /// The paths of `use path::*`.
    globs: Vec<Vec<String>>,
}

/// What a path leads to.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Module(usize),
    /// Something in this module, by this name.
    Item(usize, String),
}

impl File {
    /// Reads a file for what it names.
    pub(super) fn new(path: &str, text: &str, code: &str) -> Self {
        let quoted = text.lines().filter(|line| line.trim_start().starts_with("#["));
        let quoted = quoted.flat_map(|line| line.split("= \"crate::").skip(1));
        let quoted = quoted.filter_map(|rest| Some(format!("crate::{}", rest.split_once('"')?.0))).collect();
        Self { path: path.to_owned(), code: source::without_tests(path, code), quoted }
    }
}

/// The arrows between the files of one crate. `root`: the folder of its sources; `name`: how binaries name its library.
pub(super) fn arrows(files: &[File], root: &str, name: &str) -> Arrows {
    let tokens: Vec<Vec<Token<'_>>> = files.iter().map(|file| tokens(&file.code)).collect();
    let krate = Crate::new(files, &tokens, root, name);
    let mut arrows = Arrows::new();
    for (at, (file, tokens)) in files.iter().zip(&tokens).enumerate() {
        let mut note = |found: Option<Found>| {
            if let Some(Found::Item(to, name)) = found
                && to != at
            {
                arrows.entry((at, to)).or_default().insert(name);
            }
        };
        for path in &file.quoted {
            let names: Vec<String> = path.split("::").map(str::to_owned).collect();
            note(match krate.find(at, &names, 0) {
                Some(Found::Module(to)) => Some(Found::Item(to, path.clone())),
                found => found,
            });
        }
        krate.named(at, tokens, &mut note);
    }
    arrows
}

/// What the files of one crate import from each other by its own name, re-exports too.
pub(super) fn imports(files: &[File], root: &str, name: &str) -> Vec<Import> {
    let tokens: Vec<Vec<Token<'_>>> = files.iter().map(|file| tokens(&file.code)).collect();
    let krate = Crate::new(files, &tokens, root, name);
    let mut imports = Vec::new();
    for from in 0..files.len() {
        let Some(module) = krate.modules.get(from) else { continue };
        for (name, meaning) in &module.names {
            if let Meaning::Path(path) = meaning
                && path.last() == Some(name)
                && let Some(Found::Item(to, item)) = krate.find(from, path, 0)
                && to != from
            {
                imports.push(Import { from, to, name: item });
            }
        }
    }
    imports.sort_by(|a, b| (a.from, &a.name).cmp(&(b.from, &b.name)));
    imports
}

/// The names that lead to a file: `a/b.rs` is `[a, b]`, the crate's root is `[]`.
pub(super) fn module_path<'path>(path: &'path str, root: &str) -> Vec<&'path str> {
    let below = path.strip_prefix(root).unwrap_or(path).trim_start_matches('/').trim_end_matches(".rs");
    if matches!(below, "lib" | "main") { Vec::new() } else { below.split('/').collect() }
}

struct Crate<'name> {
    modules: Vec<Module>,
    name: &'name str,
}

impl<'name> Crate<'name> {
    /// Reads what each file defines and imports. `tokens`: those of each file.
    fn new(files: &[File], tokens: &[Vec<Token<'_>>], root: &str, name: &'name str) -> Self {
        let mut krate = Self { modules: Vec::new(), name };
        let paths: Vec<Vec<&str>> = files.iter().map(|file| module_path(&file.path, root)).collect();
        for path in &paths {
            // `src/bin` and the like have parents that are no files: then the root stands for them.
            let parent = path.split_last().map(|(_, above)| above);
            let parent = parent.and_then(|above| paths.iter().position(|other| other == above));
            krate.modules.push(Module { parent, ..Module::default() });
        }
        for (at, tokens) in tokens.iter().enumerate() {
            let children = paths.iter().enumerate().filter_map(|(child, path)| {
                let (last, above) = path.split_last()?;
                (above == paths.get(at)?.as_slice() && child != at).then_some((*last, child))
            });
            let children: HashMap<&str, usize> = children.collect();
            if let Some(module) = krate.modules.get_mut(at) {
                declare(tokens, &children, module);
            }
        }
        krate
    }

    fn root(&self) -> usize {
        // The library, where there are a library and a binary: `lib.rs` comes before `main.rs`.
        self.modules.iter().position(|module| module.parent.is_none()).unwrap_or_default()
    }

    /// Follows a path that stands in module `at`. `None`: it leads out of the crate.
    fn find(&self, at: usize, names: &[String], depth: usize) -> Option<Found> {
        // Two modules can re-export each other's names in a circle.
        if depth > 16 {
            return None;
        }
        let (first, mut rest) = names.split_first()?;
        let mut module = match first.as_str() {
            "crate" => self.top(at),
            "self" => at,
            "super" => self.modules.get(at)?.parent?,
            first if first == self.name && !self.modules.get(at)?.names.contains_key(first) => self.root(),
            first => match self.segment(at, first, rest.is_empty(), depth)? {
                Found::Module(module) => module,
                found @ Found::Item(..) => return Some(found),
            },
        };
        while let Some((name, more)) = rest.split_first() {
            rest = more;
            module = match name.as_str() {
                "super" => self.modules.get(module)?.parent?,
                "self" => module,
                name => match self.segment(module, name, rest.is_empty(), depth) {
                    Some(Found::Module(module)) => module,
                    Some(found) => return Some(found),
                    // Made by a macro, or an inline module's: the file is what there is.
                    None => return Some(Found::Item(module, name.to_owned())),
                },
            };
        }
        Some(Found::Module(module))
    }

    /// The root of the crate that the module is of: a binary beside a library has its own.
    fn top(&self, at: usize) -> usize {
        let mut top = at;
        while let Some(parent) = self.modules.get(top).and_then(|module| module.parent) {
            top = parent;
        }
        top
    }

    /// What one name of a path stands for: a module, unless it is the last one and there is something of the same name.
    fn segment(&self, module: usize, name: &str, is_last: bool, depth: usize) -> Option<Found> {
        let child = self.modules.get(module)?.children.get(name).map(|child| Found::Module(*child));
        if is_last {
            self.meaning(module, name, depth).or(child)
        } else {
            child.or_else(|| self.meaning(module, name, depth))
        }
    }

    /// What `name` stands for in a module, where it is no child of it.
    fn meaning(&self, module: usize, name: &str, depth: usize) -> Option<Found> {
        let scope = self.modules.get(module)?;
        match scope.names.get(name) {
            Some(Meaning::Item) => Some(Found::Item(module, name.to_owned())),
            Some(Meaning::Path(path)) if path.first().is_some_and(|first| first == name) && path.len() == 1 => None,
            Some(Meaning::Path(path)) => self.find(module, path, depth + 1),
            None => self.by_glob(module, name, depth),
        }
    }

    fn by_glob(&self, module: usize, name: &str, depth: usize) -> Option<Found> {
        let globs = &self.modules.get(module)?.globs;
        globs.iter().find_map(|path| match self.find(module, path, depth + 1)? {
            Found::Module(from) if from != module && depth < 16 => self.segment(from, name, true, depth + 1),
            _ => None,
        })
    }

    /// Tells `note` of everything that the file names of others.
    fn named(&self, at: usize, tokens: &[Token<'_>], note: &mut impl FnMut(Option<Found>)) {
        let mut rest = tokens;
        // Inline modules: how many braces were open where each began.
        let mut inline: Vec<usize> = Vec::new();
        let mut braces = 0;
        let mut public = false;
        let mut before = Token::Sign(' ');
        while let Some((&token, after)) = rest.split_first() {
            match token {
                Token::Word("use") if before != Token::Colons => {
                    let (leaves, more) = leaves(after);
                    for leaf in leaves.iter().filter(|leaf| !public && !leaf.is_glob) {
                        let names = without_inline(&leaf.names, inline.len());
                        note(self.find(at, &names, 0));
                    }
                    (rest, public, before) = (more, false, Token::Sign(';'));
                    continue;
                }
                Token::Word("mod") if matches!(after, [Token::Word(_), Token::Sign('{'), ..]) => inline.push(braces),
                Token::Sign('{') => braces += 1,
                Token::Sign('}') => {
                    braces = braces.saturating_sub(1);
                    if inline.last() == Some(&braces) {
                        inline.pop();
                    }
                }
                Token::Word(first) if !matches!(before, Token::Colons | Token::Sign('.' | '$' | '\'')) => {
                    let (names, more) = path(first, after);
                    if let [name] = names.as_slice() {
                        if self.counts(at, name, before, more, tokens) {
                            note(self.meaning(at, name, 0));
                        }
                    } else {
                        let names = without_inline(&names, inline.len());
                        note(self.find(at, &names, 0));
                    }
                    public = first == "pub" || (public && matches!(first, "crate" | "super" | "in" | "self"));
                    (rest, before) = (more, Token::Word(first));
                    continue;
                }
                _ => {}
            }
            if !matches!(token, Token::Sign('(' | ')') | Token::Colons) {
                public = false;
            }
            (rest, before) = (after, token);
        }
    }

    /// Whether a word by itself names something of another file: not where it is defined here, nor where it can be a
    /// variable or a field of the same name.
    fn counts(&self, at: usize, name: &str, before: Token<'_>, after: &[Token<'_>], tokens: &[Token<'_>]) -> bool {
        let Some(module) = self.modules.get(at) else { return false };
        match module.names.get(name) {
            Some(Meaning::Item) => return false,
            Some(Meaning::Path(_)) => {}
            None if module.globs.is_empty() || module.children.contains_key(name) => return false,
            None => {}
        }
        if name.starts_with(|first: char| first.is_ascii_uppercase()) {
            return true;
        }
        let is_defined = matches!(before, Token::Word("fn" | "let" | "mut" | "ref" | "mod"));
        let is_called = matches!(after.first(), Some(Token::Sign('(' | '!')));
        let is_bound = || {
            tokens.windows(2).any(|pair| match pair {
                [Token::Word("let" | "mut" | "ref"), Token::Word(bound)] => *bound == name,
                [Token::Word(bound), Token::Sign(':')] => *bound == name,
                [Token::Sign('|'), Token::Word(bound)] => *bound == name,
                _ => false,
            })
        };
        !is_defined && (is_called || !is_bound())
    }
}

/// A path that stands in an inline module: there, the first `super` is the file itself.
fn without_inline(names: &[String], depth: usize) -> Vec<String> {
    let supers = names.iter().take_while(|name| *name == "super").count();
    match supers.min(depth) {
        0 => names.to_vec(),
        inner => ["self".to_owned()].into_iter().chain(names.iter().skip(inner).cloned()).collect(),
    }
}

/// Enters what a file defines and imports.
fn declare(tokens: &[Token<'_>], children: &HashMap<&str, usize>, module: &mut Module) {
    let mut rest = tokens;
    let mut braces = 0;
    while let Some((&token, after)) = rest.split_first() {
        rest = after;
        match token {
            Token::Sign('{') => braces += 1,
            Token::Sign('}') => braces -= 1,
            Token::Word("use") => {
                let (leaves, more) = leaves(after);
                for leaf in leaves {
                    if leaf.is_glob {
                        module.globs.push(leaf.names);
                    } else if let Some(name) = leaf.name() {
                        module.names.entry(name).or_insert(Meaning::Path(leaf.names));
                    }
                }
                rest = more;
            }
            Token::Word("mod") if braces == 0 => {
                if let Some(Token::Word(name)) = after.first() {
                    match children.get(name) {
                        Some(child) => drop(module.children.insert((*name).to_owned(), *child)),
                        None => drop(module.names.insert((*name).to_owned(), Meaning::Item)),
                    }
                }
            }
            Token::Word("struct" | "enum" | "union" | "trait" | "type" | "const" | "static" | "fn") if braces == 0 => {
                let name = after.iter().find(|token| !matches!(token, Token::Word("mut")));
                if let Some(Token::Word(name)) = name
                    && !matches!(*name, "fn" | "unsafe" | "async" | "extern")
                {
                    module.names.insert((*name).to_owned(), Meaning::Item);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The arrows of a crate of these files, as `from -> to: names`.
    #[track_caller]
    fn check(texts: &[(&str, &str)], expect: &[&str]) {
        let files: Vec<File> = texts.iter().map(|(path, text)| File::new(path, text, &source::code(text))).collect();
        let file = |at: usize| files.get(at).map_or("", |file| file.path.trim_end_matches(".rs"));
        let found: Vec<String> = arrows(&files, "", "own")
            .iter()
            .map(|((from, to), names)| {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                format!("{} -> {}: {}", file(*from), file(*to), names.join(" "))
            })
            .collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn paths_lead_to_the_file_that_defines() {
        let a = "use crate::b::{self, c::C, D as E};\nfn f(x: b::F) -> crate::b::c::G { super::b::h() }";
        let b = "pub mod c;\npub struct D; pub struct F; pub fn h() {}";
        let c = "pub struct C; pub struct G;";
        check(
            &[("lib.rs", "mod a; mod b;"), ("a.rs", a), ("b.rs", b), ("b/c.rs", c)],
            &["a -> b: D F h", "a -> b/c: C G"],
        );
    }

    #[test]
    fn re_exports_lead_on_and_are_no_use() {
        let b = "mod c; mod d;\npub use c::C;\npub(crate) use d::D;\nfn f(d: D) {}";
        check(
            &[
                ("lib.rs", "mod a; mod b;"),
                ("a.rs", "use super::b::C;"),
                ("b.rs", b),
                ("b/c.rs", "pub struct C;"),
                ("b/d.rs", "pub struct D;"),
            ],
            &["a -> b/c: C", "b -> b/d: D"],
        );
    }

    #[test]
    fn a_glob_is_what_is_named_of_it() {
        let b = "use crate::a::A;\nmod c;\nstruct B; fn help() {} fn state() {}";
        let c = "use super::*;\nfn f(a: A, state: u8) -> B { help() + state }";
        check(
            &[("lib.rs", "mod a; mod b;"), ("a.rs", "pub struct A;"), ("b.rs", b), ("b/c.rs", c)],
            &["b -> a: A", "b/c -> a: A", "b/c -> b: B help"],
        );
    }

    #[test]
    fn a_function_may_be_called_as_a_module() {
        let a = "mod b;\nfn b() { b::c() }";
        check(
            &[("lib.rs", "mod a;"), ("a.rs", a), ("a/b.rs", "pub fn c() { super::b::d() } fn d() {}")],
            &["a -> a/b: c"],
        );
    }

    #[test]
    fn tests_and_modules_alone_are_nothing() {
        let a = "use crate::b;\n#[cfg(test)]\nmod tests { use crate::b::B; }\n#[cfg(test)]\nuse crate::b::B;";
        check(&[("lib.rs", "mod a; mod b;"), ("a.rs", a), ("b.rs", "pub struct B;")], &[]);
    }

    #[test]
    fn inline_modules_strings_and_the_binary() {
        let a = "pub mod inner { use super::super::b::B; use super::own; }\nfn own() {}\n\
                 #[serde(with = \"crate::b\")] struct S;";
        check(
            &[("lib.rs", "mod a; mod b;"), ("a.rs", a), ("b.rs", "pub struct B;"), ("main.rs", "use own::a::S;")],
            &["a -> b: B crate::b", "main -> a: S"],
        );
    }
}
