//! Text that the grammar of SQL takes for a statement, and that no database would: words in quotes, alternatives, groups, and
//! code of other languages.
//!
//! *Invariant:* what is prose here ends no string of a statement, and has no operand that is true by itself. What is code here
//! is a syntax error, whether it stands for a number or in a string.

/// Whether a value that reads as these tokens of SQL is prose.
pub(super) fn is_prose(fingerprint: &str, value: &[u8]) -> bool {
    if fingerprint.contains('U') {
        selects_nothing(value)
    } else {
        is_phrases(value) || is_code(value) || is_text(value)
    }
}

/// Whether `union select` is followed by plain words alone: without a table, a number or a call, it selects nothing.
fn selects_nothing(value: &[u8]) -> bool {
    const OPERANDS: [&[u8]; 9] = [b"false", b"from", b"into", b"null", b"table", b"true", b"user", b"values", b"with"];
    let is_plain = |byte: &u8| byte.is_ascii_alphabetic() || matches!(byte, b' ' | b'.' | b'!' | b'?');
    value.iter().all(is_plain) && !words(value).any(|word| is_one_of(word, &OPERANDS))
}

/// Words that make a condition of what stands around them.
const CONDITIONS: [&[u8]; 19] = [
    b"all", b"any", b"between", b"binary", b"case", b"exists", b"false", b"glob", b"having", b"like", b"null",
    b"regexp", b"rlike", b"select", b"true", b"union", b"user", b"where", b"xor",
];

/// Words that continue a statement behind a string: operators, and clauses.
const BEHIND_STRINGS: [&[u8]; 21] = [
    b"between", b"collate", b"div", b"escape", b"glob", b"ilike", b"in", b"into", b"is", b"isnull", b"like", b"match",
    b"member", b"mod", b"notnull", b"regexp", b"rlike", b"similar", b"sounds", b"where", b"xor",
];

/// Words between operands.
const CONNECTIVES: [&[u8]; 3] = [b"and", b"not", b"or"];

/// Whether a value is words, some of them in quotes, or alternatives in brackets: `'yes' or 'no'`, `fish and (chips or peas)`.
fn is_phrases(value: &[u8]) -> bool {
    if words(value).any(|word| is_one_of(word, &CONDITIONS)) {
        return false;
    }
    // What begins with a quote may stand for a number: then each operand has to be in quotes.
    let needs_quotes = value.iter().find(|byte| !matches!(byte, b' ' | b'(')).is_some_and(|byte| is_quote(*byte));
    let (mut at, mut last): (usize, &[u8]) = (0, b"");
    while let Some(&byte) = value.get(at) {
        let rest = value.get(at..).unwrap_or_default();
        let length = match byte {
            b'\'' | b'"' => {
                let is_free = at == 0 || value.get(at - 1).is_some_and(|before| matches!(before, b' ' | b'(' | b'\n'));
                let is_denied = last.eq_ignore_ascii_case(b"not");
                let Some(length) = quoted(rest).filter(|_| is_free && !is_denied) else { return false };
                last = b"";
                length
            }
            // A bracket directly behind a word is a call.
            b'(' if at > 0 && value.get(at - 1).is_some_and(u8::is_ascii_alphabetic) => return false,
            b'(' if !last.is_empty() && !is_one_of(last, &CONNECTIVES) => return false,
            b'(' | b')' | b' ' | b'\n' | b'\r' | b'.' | b',' | b'!' | b'?' => 1,
            _ if byte.is_ascii_alphabetic() || byte >= 0x80 => {
                let length = word(rest);
                if needs_quotes && is_one_of(last, &CONNECTIVES) {
                    return false;
                }
                last = rest.get(..length).unwrap_or_default();
                length
            }
            _ => return false,
        };
        at += length;
    }
    true
}

/// Words that may stand beside a name in SQL.
const BESIDE_NAMES: [&[u8]; 20] = [
    b"as", b"asc", b"collate", b"cross", b"desc", b"escape", b"for", b"from", b"group", b"inner", b"into", b"join",
    b"left", b"limit", b"natural", b"on", b"order", b"right", b"set", b"where",
];

/// Words that may stand before an operand.
const BEFORE_OPERANDS: [&[u8]; 9] =
    [b"all", b"any", b"binary", b"cast", b"date", b"distinct", b"interval", b"null", b"some"];

/// Whether a value is text with apostrophes: it begins with two words, which is an error where it stands for a number; and
/// each quote in it shortens a word (`it's`), which is one where it stands in a string, or has plain words in it.
fn is_text(value: &[u8]) -> bool {
    let value = value.trim_ascii_start();
    let first = value.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'.').count();
    let rest = value.get(first..).unwrap_or_default();
    let second = if rest.first() == Some(&b' ') { rest.trim_ascii_start() } else { &[] };
    let length = second.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let (first, second) = (value.get(..first).unwrap_or_default(), second.get(..length).unwrap_or_default());
    let known = |word: &[u8], lists: &[&[&[u8]]]| lists.iter().any(|list| is_one_of(word, list));
    if first.is_empty()
        || second.is_empty()
        || known(first, &[&KEYWORDS, &CONDITIONS, &BEFORE_OPERANDS, &BESIDE_NAMES])
        || known(second, &[&KEYWORDS, &CONDITIONS, &BESIDE_NAMES])
    {
        return false;
    }
    let mut at = 0;
    while let Some(found) = value.get(at..).and_then(|rest| memchr::memchr2(b'\'', b'"', rest)).map(|found| at + found)
    {
        let rest = value.get(found..).unwrap_or_default();
        let begins = value.get(..found).unwrap_or_default();
        let begins = begins.iter().rposition(|byte| !byte.is_ascii_alphabetic()).map_or(0, |last| last + 1);
        let shortened = value.get(begins..).filter(|_| begins < found).map_or(0, word);
        at = if begins + shortened > found {
            begins + shortened
        } else {
            let is_free = value.get(found.wrapping_sub(1)).is_some_and(|before| matches!(before, b' ' | b'(' | b'\n'));
            let Some(length) = quoted(rest).filter(|_| is_free) else { return false };
            found + length
        };
    }
    !words(value).any(|word| word.eq_ignore_ascii_case(b"from") || is_one_of(word, &QUERIES))
}

/// Words that begin a statement of other languages, and no operand of SQL.
const STATEMENTS: [&[u8]; 16] = [
    b"assert",
    b"const",
    b"def",
    b"elif",
    b"else",
    b"for",
    b"foreach",
    b"function",
    b"if",
    b"let",
    b"return",
    b"switch",
    b"throw",
    b"unless",
    b"var",
    b"while",
];

/// Words that make SQL of what stands around them.
const KEYWORDS: [&[u8]; 20] = [
    b"and",
    b"between",
    b"case",
    b"delay",
    b"div",
    b"exists",
    b"having",
    b"in",
    b"is",
    b"like",
    b"mod",
    b"not",
    b"or",
    b"procedure",
    b"regexp",
    b"rlike",
    b"select",
    b"sleep",
    b"union",
    b"xor",
];

/// The same, where they are code as well: `if x == 'a' or y == 'b':`.
const QUERIES: [&[u8]; 8] = [b"case", b"delay", b"having", b"procedure", b"regexp", b"select", b"sleep", b"union"];

/// Whether a value is code: its first statement begins as none of SQL does, or compares by `===`, and each text in it is words
/// that a statement would stumble over, if the value stood in a string.
fn is_code(value: &[u8]) -> bool {
    let value = value.trim_ascii();
    if !value.first().is_some_and(u8::is_ascii_alphabetic) {
        return false;
    }
    let (mut at, mut first, mut is_first) = (0, Vec::new(), true);
    while let Some(&byte) = value.get(at) {
        let rest = value.get(at..).unwrap_or_default();
        let length = match byte {
            b'\'' | b'"' => {
                let is_free = at.checked_sub(1).and_then(|before| value.get(before));
                let is_free = is_free.is_some_and(|before| !before.is_ascii_alphanumeric() && *before != b'_');
                let Some(length) = text_of_code(rest).filter(|_| is_free) else { return false };
                first.push(b' ');
                length
            }
            b'\\' | b'`' | b'#' => return false,
            _ if rest.starts_with(b"--") || rest.starts_with(b"/*") => return false,
            _ => {
                is_first &= byte != b';';
                first.extend(is_first.then_some(byte));
                1
            }
        };
        at += length;
    }
    let begins = begins_statement(&first) && !first.contains(&b',');
    let compares = memchr::memmem::find(&first, b"===").is_some() || memchr::memmem::find(&first, b"!==").is_some();
    (begins || compares) && !words(value).any(|word| is_one_of(word, &QUERIES))
}

/// Whether a word that begins a statement stands before a name, a number or a bracket: before an operator it may be a column.
fn begins_statement(code: &[u8]) -> bool {
    let length = code.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let rest = code.get(length..).unwrap_or_default().trim_ascii_start();
    let is_operand =
        rest.first().is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'(' | b'!' | b'_'));
    let is_connected = words(rest).next().is_some_and(|word| is_one_of(word, &KEYWORDS));
    is_operand && !is_connected && code.get(..length).is_some_and(|word| is_one_of(word, &STATEMENTS))
}

/// The length of a text of code with its quotes: nothing, or words of which none is one of SQL.
fn text_of_code(text: &[u8]) -> Option<usize> {
    let (&quote, inner) = text.split_first()?;
    let end = memchr::memchr(quote, inner)?;
    let inner = inner.get(..end)?;
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'.' | b'_' | b'-' | b'/' | b':');
    let begins = inner.first().is_none_or(u8::is_ascii_alphabetic) && inner.last() != Some(&b' ');
    let ends = text.get(end + 2).is_none_or(|next| !next.is_ascii_alphanumeric() && !is_quote(*next));
    let is_sql = continues(inner) || words(inner).any(|word| is_one_of(word, &KEYWORDS));
    let has_comment = memchr::memmem::find(inner, b"--").is_some();
    (begins && ends && !is_sql && !has_comment && inner.iter().all(is_plain)).then_some(end + 2)
}

const fn is_quote(byte: u8) -> bool {
    matches!(byte, b'\'' | b'"')
}

/// The length of a word, with what is shortened at its end: `don't`.
fn word(text: &[u8]) -> usize {
    const SHORTENED: [&[u8]; 7] = [b"d", b"ll", b"m", b"re", b"s", b"t", b"ve"];
    let letters = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_alphabetic() || **byte >= 0x80).count();
    let length = letters(text);
    let behind = text.get(length + 1..).unwrap_or_default();
    let short = letters(behind);
    let is_shortened = text.get(length) == Some(&b'\'')
        && is_one_of(behind.get(..short).unwrap_or_default(), &SHORTENED)
        && behind.get(short).is_none_or(|next| !is_quote(*next));
    if is_shortened { length + 1 + short } else { length }
}

/// The length of words in quotes, with the quotes: no word between them connects operands.
fn quoted(text: &[u8]) -> Option<usize> {
    let (&quote, inner) = text.split_first()?;
    let end = memchr::memchr(quote, inner)?;
    let inner = inner.get(..end)?;
    let is_plain =
        |byte: &u8| byte.is_ascii_alphabetic() || *byte >= 0x80 || matches!(byte, b' ' | b'.' | b',' | b'!' | b'?');
    let is_text = inner.first().is_some_and(u8::is_ascii_alphabetic) && inner.last() != Some(&b' ');
    let ends = text.get(end + 2).is_none_or(|next| !next.is_ascii_alphanumeric() && !is_quote(*next));
    let connects = continues(inner) || words(inner).any(|word| is_one_of(word, &CONNECTIVES));
    (is_text && ends && !connects && inner.iter().all(is_plain)).then_some(end + 2)
}

/// Whether what stands between two quotes continues a statement, if the first of them ends a string.
fn continues(inner: &[u8]) -> bool {
    words(inner).next().is_some_and(|first| is_one_of(first, &BEHIND_STRINGS))
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_').filter(|word| !word.is_empty())
}

fn is_one_of(word: &[u8], known: &[&[u8]]) -> bool {
    known.iter().any(|known| word.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_quotes_and_alternatives_are_prose() {
        for (fingerprint, value, expect) in [
            ("s&s", "'yes' or 'no'", true),
            // What a quote ends is a string, and an operator follows it.
            ("sns", "foo bar 'xor' 1", false),
            ("sns", "foo bar 'div' 1", false),
            ("sns", "foo bar 'like'%", false),
            ("sns", "foo bar 'collate nocase like'%", false),
            ("n", "if (x === 'glob'*", false),
            ("s&s", "\"red shoes\" or \"blue shoes\"", true),
            ("s&s", "Either 'left' or 'right' is fine", true),
            ("s&s", "I don't know whether 'a' or 'b' is right, do you?", true),
            ("n&(n&", "foo AND (bar OR baz) NOT qux", true),
            ("n&(s&", "title and (\"one thing\" or \"another\")", true),
            ("nUEn", "union select committee", true),
            ("nUEn", "The union select committee met.", true),
            ("s&s", "' or 'a", false),
            ("s&s", "'or'", false),
            ("s&s", "'or 'x' or'", false),
            ("s&s", "'a or b'", false),
            ("s&n", "'x' or password", false),
            ("s&s", "x' or 'y' or 'z", false),
            ("s&s", "dogs' or 'cats'", false),
            ("s&1", "'yes' or '1'", false),
            ("s&s", "'a' like 'b'", false),
            ("nos&s", "not 'a' or 'b'", false),
            ("s&s", "binary 'a' or b", false),
            ("sos", "'a' = 'a'", false),
            ("n&f(n", "x or sleep(y)", false),
            ("n&f(n", "x or sleep (y)", false),
            ("n&n", "x or true", false),
            ("nUEn", "x union select null", false),
            ("nUEn", "union select password from users", false),
            ("1UEn", "1 union select pw", false),
            ("nUEnc", "x union select pw--", false),
            ("sn(nc", "This was hard (or so), isn't it?\n\t\t-- Ada", true),
            ("nsnc", "Never explain it. It's easier to show, I'd say.\n-- Ada", true),
            ("nsnc", "He said \"yes please\" when we're done;\n-- Ada", true),
            ("nsnc", "never mind' or 1=1 -- Ada", false),
            ("nsnc", "don't' or 1=1 -- Ada", false),
            ("nsnc", "it isn't' -- Ada", false),
            ("nsnc", "name desc, pw -- it's", false),
            ("nsnc", "one pw from users -- it's", false),
            ("nsnc", "a \"or 1=1\" b -- it's", false),
            ("f(n=s", "if (a === 'x' && b === 'y')", true),
            ("f(n=s", "if (a === 'x' && b === 'y') { return c; }", true),
            ("no(s&", "if x == 'a' or y == \"b-c\":", true),
            ("no(s&", "return kind !== '' || name", true),
            ("no(s&", "let label = kind === 'none' ? 'left' : 'right';", true),
            ("f(1&n", "if (1=1 and sleep(5))", false),
            ("f(1,n", "if(1=1,pw,'x')", false),
            ("1&1c", "1 or 1=1 -- ===", false),
            ("n&1", "if or 1=1", false),
            ("n=1&1", "let = 1 or 1=1", false),
            ("s&1&s", "a === ' or 1=1 or '", false),
            ("s&s", "a === 'x' or 'y'='y", false),
            ("s&s", "a === 'x or' || 'y'", false),
            ("s&1", "a === 'x'='x' or 1=1 #", false),
            ("1&1", "1 === 1 or 1=1", false),
            ("n&n", "x === 1 union select pw", false),
        ] {
            assert_eq!(is_prose(fingerprint, value.as_bytes()), expect, "{value:?}");
        }
    }
}
