//! What a page of Markdown links to, which anchors its headings have, and which commands of `cargo xtask` it shows.

use std::collections::{BTreeMap, BTreeSet};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// What is checked of a page.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// From the root of the repository on.
    pub(super) path: String,
    pub(super) links: Vec<Link>,
    /// Of the headings, as mdBook and GitHub make them.
    pub(super) anchors: BTreeSet<String>,
    /// With their lines.
    pub(super) commands: Vec<(usize, String)>,
    /// Files and folders of the repository that are named as code, with their lines.
    pub(super) paths: Vec<(usize, String)>,
    /// How many lines it has.
    pub(super) length: usize,
}

/// How a text begins that is named as code and is a path in the repository.
const PLACES: [&str; 9] =
    [".ci/", "docs/", "examples/", "gateway-common/", "gateway-ebpf/", "gateway/", "packaging/", "tests/", "xtask/"];

/// Where a link or an image leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) line: usize,
    pub(super) to: String,
}

impl Page {
    pub(super) fn read(path: &str, text: &str) -> Self {
        let mut page = Self { path: path.to_owned(), length: text.lines().count(), ..Self::default() };
        let line = |at: usize| text.get(..at).unwrap_or_default().matches('\n').count() + 1;
        let mut heading: Option<String> = None;
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut is_code = false;
        for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push(Link { line: line(range.start), to: dest_url.into_string() });
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    let anchor = anchor(&heading.take().unwrap_or_default());
                    let times = seen.entry(anchor.clone()).or_default();
                    let anchor = if *times == 0 { anchor } else { format!("{anchor}-{times}") };
                    *times += 1;
                    page.anchors.insert(anchor);
                }
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(_))) => is_code = true,
                Event::End(TagEnd::CodeBlock) => is_code = false,
                Event::Text(block) if is_code => page.shown(&block, line(range.start)),
                Event::Text(words) => heading.iter_mut().for_each(|heading| heading.push_str(&words)),
                Event::Code(words) => {
                    page.shown(&words, line(range.start));
                    if is_path(&words) {
                        page.paths.push((line(range.start), words.to_string()));
                    }
                    heading.iter_mut().for_each(|heading| heading.push_str(&words));
                }
                Event::Html(html) | Event::InlineHtml(html) => {
                    page.links.extend(attributes(&html).map(|to| Link { line: line(range.start), to: to.to_owned() }));
                }
                _ => {}
            }
        }
        page
    }

    /// Notes the commands in a piece of code that begins at `line`.
    fn shown(&mut self, code: &str, line: usize) {
        for (number, text) in (line..).zip(code.lines()) {
            let command = text.trim_start().trim_start_matches("$ ");
            // `cargo xtask` alone is a name.
            if command.starts_with("cargo xtask ") {
                self.commands.push((number, command.to_owned()));
            }
        }
    }
}

/// Whether a piece of code is a path that has to exist: no pattern and no command.
fn is_path(code: &str) -> bool {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-/".contains(letter);
    PLACES.iter().any(|place| code.starts_with(place)) && code.chars().all(is_plain)
}

/// What a heading is called behind `#`.
fn anchor(heading: &str) -> String {
    let letters = heading.trim().chars().filter_map(|letter| match letter {
        letter if letter.is_alphanumeric() || "_-".contains(letter) => Some(letter.to_lowercase().to_string()),
        letter if letter.is_whitespace() => Some("-".to_owned()),
        _ => None,
    });
    letters.collect()
}

/// The values of `src` and `href` in a piece of HTML.
fn attributes(html: &str) -> impl Iterator<Item = &str> {
    ["src=\"", "href=\"", "srcset=\""].into_iter().flat_map(|name| html.split(name).skip(1)).filter_map(|rest| {
        let (value, _) = rest.split_once('"')?;
        Some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read() {
        let text = "# Fail open, or `closed`?\n\n## A_b\n\n## A_b\n\nSee [x](a.md#b), \
            `cargo xtask tidy`, `xtask/src/` and `tests/**/a.rs`.\n\n<img src=\"c.svg\">\n\n```sh\nls\n$ cargo xtask test # all\n```\n";
        let page = Page::read("docs/a.md", text);
        let links: Vec<(usize, &str)> = page.links.iter().map(|link| (link.line, link.to.as_str())).collect();
        assert_eq!(links, [(7, "a.md#b"), (9, "c.svg")]);
        assert!(page.anchors.iter().eq(["a_b", "a_b-1", "fail-open-or-closed"]), "{:?}", page.anchors);
        assert_eq!(page.paths, [(7, "xtask/src/".to_owned())]);
        let commands: Vec<(usize, &str)> = page.commands.iter().map(|(line, text)| (*line, text.as_str())).collect();
        assert_eq!(commands, [(7, "cargo xtask tidy"), (13, "cargo xtask test # all")]);
    }
}
