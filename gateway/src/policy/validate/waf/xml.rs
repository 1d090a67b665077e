//! Takes text, attributes, comments and instructions out of XML. Nothing is resolved: entities stay as they are, documents
//! of others are never read.
//!
//! *Invariant:* what is not well-formed is an error, and its rest is text: two parsers may read it differently.

use std::collections::HashSet;

use super::{
    charset, decode,
    parts::{MOST_VALUES, Parts},
};

/// The deepest XML.
const DEEPEST: usize = 256;

/// Reads `text` into `parts`.
pub(super) fn read(text: &[u8], parts: &mut Parts) -> Result<(), &'static str> {
    parts.is_foreign |= charset::is_foreign_xml(text);
    let mut reader = Xml { rest: charset::unmarked(text), open: Vec::new(), has_root: false, parts };
    let read = reader.document();
    if read.is_err() {
        let rest = reader.rest;
        reader.parts.text.extend(decode::html_entities(rest));
    }
    // After an error all the same: what was read until then is inspected.
    let ended = reader.end_text();
    read.and(ended)
}

struct Xml<'a, 'p> {
    /// What is not read yet.
    rest: &'a [u8],
    /// The names of the elements that have begun and not ended.
    open: Vec<&'a [u8]>,
    has_root: bool,
    parts: &'p mut Parts,
}

impl<'a> Xml<'a, '_> {
    fn document(&mut self) -> Result<(), &'static str> {
        while let Some(begin) = memchr::memchr(b'<', self.rest) {
            let (before, markup) = self.rest.split_at(begin);
            if self.open.is_empty() && !before.iter().all(|&byte| decode::is_space(byte)) {
                return Err("XML: text outside of the first element");
            }
            self.parts.text.extend(decode::html_entities(before));
            self.rest = markup;
            let length = self.markup(markup)?;
            self.rest = markup.get(length..).unwrap_or_default();
        }
        if !self.open.is_empty() || !self.has_root {
            return Err("XML: an element does not end");
        }
        if !self.rest.iter().all(|&byte| decode::is_space(byte)) {
            return Err("XML: text outside of the first element");
        }
        Ok(())
    }

    /// What begins with `<`, and how long it is.
    fn markup(&mut self, markup: &'a [u8]) -> Result<usize, &'static str> {
        if markup.starts_with(b"<![CDATA[") {
            let end = find(markup, b"]]>").ok_or("XML: CDATA does not end")?;
            if self.open.is_empty() {
                return Err("XML: text outside of the first element");
            }
            self.parts.text.extend(markup.get(9..end).unwrap_or_default());
            return Ok(end + 3);
        }
        if markup.starts_with(b"<!--") {
            let end = markup.get(4..).and_then(|text| find(text, b"--")).ok_or("XML: a comment does not end")? + 4;
            // Some take `<!-->` for a whole comment.
            if markup.get(end + 2) != Some(&b'>') || matches!(markup.get(4), Some(b'>')) {
                return Err("XML: a comment has two hyphens or begins with >");
            }
            return self.aside(markup, end + 3);
        }
        if markup.starts_with(b"<?") {
            let end = find(markup, b"?>").ok_or("XML: an instruction does not end")? + 2;
            if markup.get(5).is_some_and(|&byte| decode::is_space(byte)) && markup.starts_with(b"<?xml") {
                self.parts.is_foreign |= !has_known_encoding(markup.get(..end).unwrap_or_default());
                return Ok(end);
            }
            return self.aside(markup, end);
        }
        if markup.starts_with(b"<!DOCTYPE") && !self.has_root {
            let end = declaration(markup).ok_or("XML: a declaration does not end")?;
            return self.aside(markup, end);
        }
        self.end_text()?;
        if markup.starts_with(b"</") {
            let name = name(markup, 2);
            if self.open.pop().ok_or("XML: an element ends that did not begin")?
                != markup.get(2..name).unwrap_or_default()
            {
                return Err("XML: an element ends by another name");
            }
            let end = name + spaces(markup, name);
            return if markup.get(end) == Some(&b'>') { Ok(end + 1) } else { Err("XML: a bad tag") };
        }
        if self.open.is_empty() && self.has_root {
            return Err("XML: a second document");
        }
        let (length, is_closed) = self.tag(markup)?;
        self.has_root = true;
        if !is_closed {
            self.open.push(markup.get(1..name(markup, 1)).unwrap_or_default());
        }
        if self.open.len() > DEEPEST {
            self.parts.is_cut = true;
            return Err("XML: too deep");
        }
        Ok(length)
    }

    /// A start tag: its attributes, its length, and whether it closes itself.
    fn tag(&mut self, markup: &'a [u8]) -> Result<(usize, bool), &'static str> {
        const BAD: &str = "XML: a bad tag";
        let mut at = name(markup, 1);
        if at == 1 {
            return Err(BAD);
        }
        let mut names = HashSet::new();
        loop {
            let space = spaces(markup, at);
            at += space;
            match markup.get(at).ok_or("XML: a tag does not end")? {
                b'>' => return Ok((at + 1, false)),
                b'/' if markup.get(at + 1) == Some(&b'>') => return Ok((at + 2, true)),
                _ if space == 0 => return Err(BAD),
                _ => {}
            }
            let end = name(markup, at);
            let equals = end + spaces(markup, end);
            let begin = equals + 1 + spaces(markup, equals + 1);
            if end == at || markup.get(equals) != Some(&b'=') {
                return Err(BAD);
            }
            let quote = *markup.get(begin).filter(|byte| matches!(byte, b'"' | b'\'')).ok_or(BAD)?;
            let value = markup.get(begin + 1..).unwrap_or_default();
            let length = memchr::memchr2(quote, b'<', value).ok_or("XML: an attribute does not end")?;
            if value.get(length) != Some(&quote) {
                return Err(BAD);
            }
            // One parser takes the first, another the last.
            if !names.insert(markup.get(at..end)) {
                return Err("XML: an attribute is there twice");
            }
            if self.parts.attributes.len() >= MOST_VALUES {
                self.parts.is_cut = true;
                return Err("XML: too many attributes");
            }
            self.parts.attributes.push(decode::html_entities(value.get(..length).unwrap_or_default()));
            at = begin + 1 + length + 1;
        }
    }

    /// What is neither text nor an attribute.
    fn aside(&mut self, markup: &[u8], length: usize) -> Result<usize, &'static str> {
        if self.parts.asides.len() >= MOST_VALUES {
            self.parts.is_cut = true;
            return Err("XML: too many comments");
        }
        self.parts.asides.push(markup.get(..length).unwrap_or_default().to_vec());
        Ok(length)
    }

    /// The text of one element ends here.
    fn end_text(&mut self) -> Result<(), &'static str> {
        let begin = self.parts.text_ends.last().copied().unwrap_or_default();
        if self.parts.text.get(begin..).unwrap_or_default().iter().all(|&byte| decode::is_space(byte)) {
            return Ok(());
        }
        if self.parts.text_ends.len() >= MOST_VALUES {
            self.parts.is_cut = true;
            return Err("XML: too many texts");
        }
        self.parts.text_ends.push(self.parts.text.len());
        Ok(())
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, what)
}

/// Where the name ends that begins at `at`.
fn name(text: &[u8], at: usize) -> usize {
    let is_first = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b':' | 0x80..);
    let is_more = |byte: u8| is_first(byte) || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    if !text.get(at).is_some_and(|&byte| is_first(byte)) {
        return at;
    }
    at + text.iter().skip(at).take_while(|byte| is_more(**byte)).count()
}

/// How many spaces there are from `at` on.
fn spaces(text: &[u8], at: usize) -> usize {
    text.iter().skip(at).take_while(|byte| decode::is_space(**byte)).count()
}

/// Whether `<?xml ...?>` names no encoding, or one that is inspected as it is read.
fn has_known_encoding(declaration: &[u8]) -> bool {
    const WORD: &[u8] = b"encoding";
    memchr::memmem::find_iter(declaration, WORD).all(|at| {
        let rest = declaration.get(at + WORD.len()..).unwrap_or_default().trim_ascii_start();
        let value = rest.strip_prefix(b"=").unwrap_or_default().trim_ascii_start();
        let label = value.split_first().and_then(|(quote, rest)| rest.get(..memchr::memchr(*quote, rest)?));
        label.is_some_and(charset::is_known)
    })
}

/// The length of `<!DOCTYPE ...>` with what is between its brackets.
fn declaration(markup: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in markup.iter().enumerate() {
        match byte {
            b'[' => depth += 1,
            b']' => depth = depth.saturating_sub(1),
            b'>' if depth == 0 => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text and attributes of a document, how many comments and instructions it has, and whether it is well-formed.
    #[track_caller]
    fn check(document: &str, texts: &[&str], attributes: &[&str], asides: usize, is_good: bool) {
        let mut parts = Parts::default();
        let read = read(document.as_bytes(), &mut parts);
        assert_eq!(read.is_ok(), is_good, "{document:?}: {read:?}");
        let found: Vec<_> = parts.texts().map(|text| String::from_utf8_lossy(text).trim().to_owned()).collect();
        assert_eq!(found, texts, "{document:?}");
        let found: Vec<_> = parts.attributes.iter().map(|value| String::from_utf8_lossy(value)).collect();
        assert_eq!(
            (found, parts.asides.len()),
            (attributes.iter().map(|&it| it.into()).collect(), asides),
            "{document:?}"
        );
    }

    #[test]
    fn well_formed_documents_are_taken_apart() {
        check("<a/>", &[], &[], 0, true);
        check(
            "\u{feff}<?xml version='1.0' encoding=\"UTF-8\"?>\n<!-- c --><s:a xmlns:s = 'u' b=\"1 > 0\"\n>x &lt; <b/>y</s:a>\n<!-- -->",
            &["x <", "y"],
            &["u", "1 > 0"],
            2,
            true,
        );
        check("<a>b<![CDATA[<c>]]>d<!-- e -->f</a>", &["b<c>df"], &[], 1, true);
        check("<a><b>1</b> <c>2</c ></a>", &["1", "2"], &[], 0, true);
        check("<!DOCTYPE a [<!ENTITY x '>'>]><a>&x;</a>", &["&x;"], &[], 1, true);
        check("<élan-1.x/>", &[], &[], 0, true);
    }

    #[test]
    fn of_what_is_not_well_formed_the_rest_is_text() {
        for (document, texts, attributes) in [
            ("${jndi:ldap://x}", &["${jndi:ldap://x}"][..], &[][..]),
            ("{\"a\":\"<b>\"}", &["{\"a\":\"<b>\"}"], &[]),
            ("<a/>x", &["x"], &[]),
            ("<a/><b>x</b>", &["<b>x</b>"], &[]),
            ("<a>x", &["x"], &[]),
            ("<a>x</a></b>y", &["x", "</b>y"], &[]),
            ("<a>x</b>y", &["x", "</b>y"], &[]),
            ("<a><b>x</a>y</b>", &["x", "</a>y</b>"], &[]),
            ("<a>x</ab>y", &["x", "</ab>y"], &[]),
            ("<a>x</>y", &["x", "</>y"], &[]),
            ("<a b=\"1\" b='2'/>", &["<a b=\"1\" b='2'/>"], &["1"]),
            ("<a><![CDATA[x", &["<![CDATA[x"], &[]),
            ("<![CDATA[x]]><a/>", &["<![CDATA[x]]><a/>"], &[]),
            ("<a b=c>d</a>", &["<a b=c>d</a>"], &[]),
            ("<a b='1'c='2'/>", &["<a b='1'c='2'/>"], &["1"]),
            ("<a b='<'/>", &["<a b='<'/>"], &[]),
            ("<a b>c</a>", &["<a b>c</a>"], &[]),
            ("<a' or 1=1>b</a>", &["<a' or 1=1>b</a>"], &[]),
            ("< a>b</a>", &["< a>b</a>"], &[]),
            ("<a><!--> x <!-- --></a>", &["<!--> x <!-- --></a>"], &[]),
            ("<a><!-- x", &["<!-- x"], &[]),
            ("<?a", &["<?a"], &[]),
            ("<a/><!DOCTYPE b>", &["<!DOCTYPE b>"], &[]),
            ("<!ELEMENT a><a/>", &["<!ELEMENT a><a/>"], &[]),
            ("<a", &["<a"], &[]),
            (" ", &[], &[]),
        ] {
            check(document, texts, attributes, 0, false);
        }
    }

    #[test]
    fn other_encodings_and_limits_are_told() {
        let texts = |count: usize| format!("<a>{}</a>", "<b>x</b>".repeat(count));
        let deep = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        for (document, is_foreign, is_cut) in [
            ("<?xml version='1.0'?><a/>".to_owned(), false, false),
            ("<?xml version='1.0' encoding='iso-8859-1'?><a/>".to_owned(), false, false),
            ("<?xml version='1.0' encoding='UTF-7'?><a/>".to_owned(), true, false),
            ("<?xml version='1.0'\tencoding = \"ibm037\" ?><a/>".to_owned(), true, false),
            ("<?xml version='1.0' encoding=utf-8?><a/>".to_owned(), true, false),
            (texts(MOST_VALUES), false, false),
            (texts(MOST_VALUES + 1), false, true),
            (deep(DEEPEST), false, false),
            (deep(DEEPEST + 1), false, true),
        ] {
            let mut parts = Parts::default();
            let _read = read(document.as_bytes(), &mut parts);
            assert_eq!((parts.is_foreign, parts.is_cut), (is_foreign, is_cut), "{:?}", document.get(..60));
        }
    }
}
