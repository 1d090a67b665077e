//! Tells code in a Rust file from comments and the content of strings.

/// The text with comments and the content of strings blanked; lines stay where they are.
pub(super) fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (length, keep) = token(rest, first);
        let (token, after) = rest.split_at(length);
        match keep {
            true => code.push_str(token),
            false => code.extend(token.chars().map(|character| if character == '\n' { '\n' } else { ' ' })),
        }
        rest = after;
    }
    code
}

/// How long the token at the start of `rest` is, in bytes, and whether it is code.
fn token(rest: &str, first: char) -> (usize, bool) {
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), false);
    }
    if rest.starts_with("/*") {
        return (rest.find("*/").map_or(rest.len(), |end| end + 2), false);
    }
    if let Some(raw) = rest.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if let Some(content) = raw.trim_start_matches('#').strip_prefix('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            return (content.find(&end).map_or(rest.len(), |at| 1 + hashes + 1 + at + end.len()), false);
        }
    }
    if first == '"' {
        return (quoted(rest, '"').unwrap_or(rest.len()), false);
    }
    // A lifetime has no closing quote where a character literal has one.
    if first == '\'' && (rest.starts_with("'\\") || rest.chars().nth(2) == Some('\'')) {
        return (quoted(rest, '\'').unwrap_or(1), false);
    }
    // A whole word at once, so that the r of `for` starts no raw string.
    let word = rest.find(|character: char| !character.is_alphanumeric() && character != '_').unwrap_or(rest.len());
    (word.max(first.len_utf8()), true)
}

/// The length of a literal between `quote`s, with escapes.
fn quoted(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return Some(at + quote.len_utf8()),
            _ => {}
        }
    }
    None
}

/// Whether `word` stands in `line` by itself.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    line.split(|character: char| !character.is_alphanumeric() && character != '_').any(|part| part == word)
}

/// Every `#[allow(..)]` and `#[expect(..)]`: its line and its code.
pub(super) fn relaxations(code: &str) -> Vec<(usize, &str)> {
    let starts = ["[allow(", "[expect("].into_iter().flat_map(|start| code.match_indices(start));
    let found = starts.filter(|(at, _)| code.get(..*at).is_some_and(|before| before.ends_with(['#', '!'])));
    let with_line = found.map(|(at, _)| {
        let (before, attribute) = code.split_at(at);
        let end = attribute.find(")]").unwrap_or(attribute.len());
        (before.lines().count(), attribute.split_at(end).0)
    });
    with_line.collect()
}

/// Every function that stands in no other item: its line, and how many lines it has. It ends as rustfmt has it, with a
/// brace at the start of a line.
pub(super) fn functions(code: &str) -> Vec<(usize, usize)> {
    let mut functions = Vec::new();
    let mut begin = None;
    for (number, line) in code.lines().enumerate().map(|(index, line)| (index + 1, line)) {
        let is_inner = line.starts_with([' ', '}', '#']);
        if !is_inner && has_word(line, "fn") {
            begin = (!line.ends_with('}')).then_some(number);
        }
        if line == "}"
            && let Some(begin) = begin.take()
        {
            functions.push((begin, number - begin + 1));
        }
    }
    functions
}

/// The code without what is compiled for tests alone; nothing of a file that is tests altogether.
pub(super) fn without_tests(path: &str, code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    if path.ends_with("tests.rs") || path.contains("/tests/") {
        return kept;
    }
    let mut rest = code;
    while let Some((before, after)) = rest.split_once("#[cfg(test)]") {
        kept.push_str(before);
        rest = after.get(item(after)..).unwrap_or_default();
    }
    kept.push_str(rest);
    kept
}

/// How long the item at the start of `code` is: to its semicolon, or to the end of its braces.
fn item(code: &str) -> usize {
    let mut open = 0_usize;
    for (at, character) in code.char_indices() {
        match character {
            '{' | '(' | '[' => open += 1,
            '}' | ')' | ']' => {
                open = open.saturating_sub(1);
                // `use a::{b};` ends with the sign behind its braces.
                if open == 0 && character == '}' {
                    let has_sign = code.get(at + 1..).is_some_and(|rest| rest.starts_with(';'));
                    return at + 1 + usize::from(has_sign);
                }
            }
            ';' if open == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn keeps(text: &str, expect: &str) {
        let words = code(text).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words, expect, "{text}");
    }

    #[test]
    fn comments_and_strings_are_blank() {
        keeps("a // b\nc /* d\n e */ f", "a c f");
        keeps(r#"a "b \" c" d"#, "a d");
        keeps("for x in r#\"a \" b\"# {}", "for x in {}");
        keeps("&'a str, '\"', '\\'', b", "&'a str, , , b");
        assert_eq!(code("\"a\nb\"\nc").lines().count(), 3);
    }

    #[test]
    fn functions_have_lines() {
        let code =
            "fn a() {}\nstruct G {\n}\nfn b() {\n    if c {\n    }\n}\n#[test]\npub(crate) fn d(\n    e: u8,\n) {\n}\n";
        assert_eq!(functions(code), [(4, 4), (9, 4)]);
    }

    #[test]
    fn tests_are_left_out() {
        let code =
            "a;\n#[cfg(test)]\nmod tests;\nb;\n#[cfg(test)]\nfn c(x: [u8; 2]) { d; }\ne;\n#[cfg(test)] use f::{g};h";
        let kept = without_tests("a.rs", code).split_whitespace().collect::<String>();
        assert_eq!(kept, "a;b;e;h");
        assert_eq!(without_tests("a/tests.rs", code), "");
    }
}
