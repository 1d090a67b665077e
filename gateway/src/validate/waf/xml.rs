//! Takes the text and the attributes out of XML. Nothing is resolved: entities stay as they are, documents of others are
//! never read.

use super::{
    decode,
    parts::{MOST_VALUES, Parts},
};

/// Reads `text` into `parts`.
pub(super) fn read(text: &[u8], parts: &mut Parts) -> Result<(), &'static str> {
    let (mut rest, mut open) = (text, 0_usize);
    let mut is_empty = true;
    while let Some(begin) = memchr::memchr(b'<', rest) {
        let (before, markup) = rest.split_at(begin);
        parts.text.extend(decode::html_entities(before));
        let end = if markup.starts_with(b"<![CDATA[") {
            let end = find(markup, b"]]>").ok_or("XML: CDATA does not end")?;
            parts.text.extend(markup.get(9..end).unwrap_or_default());
            end + 3
        } else if markup.starts_with(b"<!--") {
            find(markup, b"-->").ok_or("XML: a comment does not end")? + 3
        } else if markup.starts_with(b"<?") {
            find(markup, b"?>").ok_or("XML: an instruction does not end")? + 2
        } else if markup.starts_with(b"<!") {
            declaration(markup).ok_or("XML: a declaration does not end")?
        } else if markup.starts_with(b"</") {
            open = open.checked_sub(1).ok_or("XML: an element ends that did not begin")?;
            memchr::memchr(b'>', markup).ok_or("XML: a tag does not end")? + 1
        } else {
            is_empty = false;
            let (length, is_closed) = tag(markup, parts)?;
            open += usize::from(!is_closed);
            length
        };
        rest = markup.get(end..).unwrap_or_default();
    }
    if open > 0 || is_empty || !rest.iter().all(|&byte| decode::is_space(byte)) {
        return Err("XML: an element does not end");
    }
    Ok(())
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, what)
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

/// A start tag: its attributes, its length, and whether it closes itself.
fn tag(markup: &[u8], parts: &mut Parts) -> Result<(usize, bool), &'static str> {
    let (mut at, mut quoted) = (1, None);
    while let Some(&byte) = markup.get(at) {
        match (quoted, byte) {
            (None, b'>') => return Ok((at + 1, markup.get(at - 1) == Some(&b'/'))),
            (None, b'"' | b'\'') => quoted = Some((byte, at + 1)),
            (Some((quote, begin)), _) if byte == quote => {
                if parts.attributes.len() >= MOST_VALUES {
                    parts.is_cut = true;
                    return Err("XML: too many attributes");
                }
                parts.attributes.push(decode::html_entities(markup.get(begin..at).unwrap_or_default()));
                quoted = None;
            }
            _ => {}
        }
        at += 1;
    }
    Err("XML: a tag does not end")
}
