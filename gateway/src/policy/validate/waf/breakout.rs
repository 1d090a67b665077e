//! Conditions of SQL behind a quote that need not be the first of a value: what stands before it may be long, and have
//! quotes that end nothing.
//!
//! *Invariant:* each quote is looked at once, and no further than [`LONGEST`] bytes behind it.

use std::sync::OnceLock;

use regex::bytes::{Regex, RegexBuilder};

/// How far behind a quote is looked, in bytes.
const LONGEST: usize = 256;

/// The longest text in quotes that belongs to prose or to code.
pub(super) const LONGEST_TEXT: usize = 128;

/// What is compared, perhaps within brackets, denied or cast: a text, a name or a call.
macro_rules! operand {
    () => {
        r#"(?:[\s(!~]|\bnot\b)*(?:'[^']*'|"[^"]*"|@{0,2}[\w.`$]+(?:\((?:[^()]|\([^()]*\))*\))?)(?:\s*\)*\s*::\s*\w+)*[\s)]*"#
    };
}

/// Comparisons that look the same behind a quote and behind a number: among them the operators of JSON.
macro_rules! comparison {
    () => {
        r#"->>?\s*['"$\d]|\#>>?\s*['"]|@>\s*\S|<@\s*\S|@[?@]\s*['"]|\?[|&]?\s*(?:['"]|array\b)|(?:not\s+)?(?:r?like|ilike|glob|regexp|sounds\s+like|similar\s+to)\s*(?:binary\s*)?['"(@]|(?:not\s+)?in\s*\(\s*(?:['"\d@]|select\b)|member\s+of\s*\(|is\s+(?:not\s+)?(?:null|true|false|unknown)\b|(?:not\s+)?between\s+['"\d(@]|(?:[=<>]|!=|<>|<=|>=)\s*(?:['"@(]|0x[0-9a-f])"#
    };
}

/// A call that has a text, a list or a query for an argument, and one of JSON.
macro_rules! call {
    () => {
        r#"(?:[\s(!~]|\bnot\b)*(?:\w{2,}\(\s*[^()]*?(?:['",*]|\bselect\b)|(?:is)?json\w*\(\s*[^\s)])"#
    };
}

/// What follows a quote that ends a string.
const BEHIND_QUOTE: &str = concat!(
    r"^[\s)]*(?:(?:(?:or|and|xor|having|where)\b|\|\||&&)(?:",
    operand!(),
    "(?:",
    comparison!(),
    r"|(?:[=<>]|!=|<>|<=|>=)\s*(?:-?\d|[\w.]+\s*(?:\(|--|\#|;|/\*|\)|$)))|",
    call!(),
    r"|(?:[\s(!~]|\bnot\b)*(?:exists\s*\(|\(\s*select\b|case\s+(?:\w+\s+)?when\b))",
    r"|(?:\|\||[+,*/%^&|<>=-]|\b(?:r?like|regexp|in|is|div|mod)\b)\s*\(+\s*select\b",
    r"|\|\|\s*[\w.]+\(\s*[^\s)])",
);

/// A value that begins with a number.
const BEHIND_NUMBER: &str = concat!(
    r"^[\s(]*-?\d[\d.]*[\s)]*(?:(?:or|and|xor)\b|\|\||&&)(?:",
    operand!(),
    "(?:",
    comparison!(),
    r"|(?:[=<>]|!=|<>|<=|>=)\s*-?\d+[\s)]*(?:--|\#|;|/\*|$))|(?:[\s(!~]|\bnot\b)*json\w*\(\s*[^\s)])",
);

fn compiled() -> &'static Result<[Regex; 2], String> {
    static COMPILED: OnceLock<Result<[Regex; 2], String>> = OnceLock::new();
    COMPILED.get_or_init(|| Ok([compile(BEHIND_QUOTE)?, compile(BEHIND_NUMBER)?]))
}

fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).unicode(false).case_insensitive(true).build().map_err(|error| error.to_string())
}

/// Compiles the patterns, which is done once per process.
///
/// # Errors
/// A pattern is wrong.
pub(super) fn prepare() -> Result<(), String> {
    compiled().as_ref().map(drop).map_err(Clone::clone)
}

/// Whether a value leaves the string or the number that it stands for, and goes on with a condition.
pub(super) fn has_condition(value: &[u8]) -> bool {
    let Ok([_, behind_number]) = compiled() else { return false };
    let begins = value.iter().find(|byte| !matches!(byte, b' ' | b'(' | b'-'));
    begins.is_some_and(u8::is_ascii_digit) && behind_number.is_match(value.get(..LONGEST).unwrap_or(value))
        || leaves_text(value)
}

/// Whether a quote ends a string in a value or in a part of it, and a condition follows.
pub(super) fn leaves_text(value: &[u8]) -> bool {
    let Ok([behind_quote, _]) = compiled() else { return false };
    [b'\'', b'"'].into_iter().any(|quote| leaves(value, quote, behind_quote))
}

/// Whether one of these quotes ends a string, and a condition follows. What ends a text that prose or code has in quotes ends
/// no string of a statement: it would have ended before.
fn leaves(value: &[u8], quote: u8, condition: &Regex) -> bool {
    let mut at = 0;
    while let Some(found) = memchr::memchr(quote, value.get(at..).unwrap_or_default()).map(|found| at + found) {
        let (before, rest) = (value.get(..found).unwrap_or_default(), value.get(found + 1..).unwrap_or_default());
        // Two are one that does not end a string.
        if rest.first() == Some(&quote) && before.last() != Some(&b'\\') {
            at = found + 2;
            continue;
        }
        if condition.is_match(rest.get(..LONGEST).unwrap_or(rest)) {
            return true;
        }
        at = found + 1 + text(before, rest, quote).map_or(0, |length| length + 1);
    }
    false
}

/// The length of the text that a quote begins, if it begins one: `'left'`, `f"..."`, not `it's`.
fn text(before: &[u8], rest: &[u8], quote: u8) -> Option<usize> {
    let is_word = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let prefix = before.iter().rev().take_while(|byte| is_word(Some(byte))).take(2).count();
    if prefix > 1 || before.last() == Some(&b'\\') || rest.first().is_none_or(u8::is_ascii_whitespace) {
        return None;
    }
    let near = rest.get(..LONGEST_TEXT).unwrap_or(rest);
    memchr::memchr_iter(quote, near).find(|&end| {
        let is_apart = end > 0 && near.get(end - 1).is_some_and(|last| !last.is_ascii_whitespace());
        is_apart && !is_word(rest.get(end + 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(has: bool, values: &[&str]) {
        for value in values {
            assert_eq!(has_condition(value.as_bytes()), has, "{value:?}");
        }
    }

    #[test]
    fn a_condition_is_found_behind_any_quote_that_ends_a_string() {
        assert_eq!(prepare(), Ok(()));
        check(
            true,
            &[
                "it's long' or pw is null -- and more",
                "it''s long' or name like '%a' -- and more",
                "it\\'s long' or id in (1,2) -- and more",
                "'quoted' words' or id between 1 and 5 -- and more",
                "say \"x' or role <> 'x\" and more",
                "don't') or ('a'='a and more",
                "don't' or not exists (select 1 from users) -- and more",
                "don't' || (select pw from users limit 1) || 'and more",
                "don't' and case when (1=1) then 1 else 0 end=1 -- and more",
                "don't' rlike (select 1) -- and more",
                "don't' having 1=1 -- and more",
                "say \"hi\" there\" or role = \"admin\" -- and more",
                "it's' or glob('*',pw)--",
                "it's' or ascii(substring(pw,1,1))>64 -- and more",
                "1 and pw>0x61",
                "1 or role in('admin')",
                "1 or id!=1",
            ],
        );
        let decoys = "it's ".repeat(20_000);
        check(true, &[&format!("{decoys}' or pw is null -- {decoys}")]);
    }

    #[test]
    fn operators_and_functions_of_json_are_known() {
        check(
            true,
            &[
                "' or data->>'role'='admin",
                "' or data->'role' is not null --",
                "\" or data->>'$.role' = \"admin",
                "x' and data @> '{\"role\":\"admin\"}",
                "' or '{\"a\":2}'->'$.a' = 2 --",
                "' or '{\"a\":1}'::jsonb <@ '{\"a\":1}'::jsonb --",
                "' or '{\"a\":1}'::jsonb ? 'a' --",
                "' or '{\"a\":1}'::jsonb ?| array['a'] --",
                "' or '{\"a\":1}'::jsonb #>> '{a}' = '1' --",
                "' or '{\"a\":1}'::jsonb @@ '$.a == 1' --",
                "' or (data->>'id')::int > 0 --",
                "' or json_type('[]')='array",
                "' or isjson('{}')=1--",
                "' or not json_valid('x')#",
                "' or jsonb_path_exists(data,'$.a') --",
                "' or 1 member of('[1]') -- ",
                "1 OR '{\"a\":1}'->>'a'='1'",
                "1 or data->\"$.a\" = 1",
                "1 or json_valid('{}')",
                "7) or ('{\"a\":1}'::jsonb @> '{}'::jsonb",
            ],
        );
    }

    #[test]
    fn prose_and_code_with_quotes_have_none() {
        check(
            false,
            &[
                "Either 'left' or 'right' is fine",
                "rename 'foo' -> 'bar' and 'baz' -> 'qux'",
                "use '{}' or '[]' as the default",
                "if (a === 'x' && b === 'y') { return c; }",
                "if x == f'a' and y == 'b':",
                "status = \"open\" AND priority = 5",
                "name eq 'O''Brien' and age gt 5",
                "the dogs' or cat(s), and the 90s' or the 80s'",
                "I can't; you won't, and we don't like 'it' or (maybe) do",
                "2 or more = 20% off",
                "5 and a->b",
                "1 or 2 in (the box)",
                "10 and 20",
                "It's 5' or 6' tall, and 'x' = 'y'",
                "",
            ],
        );
    }
}
