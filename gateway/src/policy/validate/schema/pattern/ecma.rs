//! Writes patterns of ECMA-262 as the engines here read them, in the plain mode of old documents (Annex B): `-` beside a
//! class is a hyphen, `{` that counts nothing is a brace.

use std::fmt::Write as _;

use crate::text::digits;

/// What `.` does not match, and `\s` does (ECMA-262 12.2, 12.3).
const ANY: &str = r"[^\n\r\x{2028}\x{2029}]";
const SPACES: &str = r"\t-\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}";

/// Classes of Java, which many documents have though ECMA-262 has not: of ASCII alone but for the last ones.
const JAVA: [(&str, &str); 14] = [
    ("Alnum", "A-Za-z0-9"),
    ("Alpha", "A-Za-z"),
    ("Blank", r" \t"),
    ("Cntrl", r"\x00-\x1f\x7f"),
    ("Digit", "0-9"),
    ("Graph", r"\x21-\x7e"),
    ("Lower", "a-z"),
    ("Print", r"\x20-\x7e"),
    ("Punct", r"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e"),
    ("Space", r"\t-\r "),
    ("Upper", "A-Z"),
    ("XDigit", "0-9A-Fa-f"),
    ("LD", r"\p{L}\p{Nd}"),
    ("all", r"\x{0}-\x{10ffff}"),
];

const NO_PATTERN: &str = "it is no regular expression";

/// A pattern as other engines read it.
pub(super) struct Translated {
    pub(super) text: String,
    /// Whether it looks around or back.
    pub(super) looks_around: bool,
}

/// Writes a pattern for other engines.
///
/// # Errors
/// It is none.
pub(super) fn translate(pattern: &str) -> Result<Translated, &'static str> {
    let mut writer = Writer { rest: pattern, text: String::with_capacity(pattern.len() + 16), looks_around: false };
    // Whether what stands before may be repeated.
    let mut repeatable = false;
    while let Some(character) = writer.take() {
        let was_repeatable = std::mem::replace(&mut repeatable, true);
        match character {
            '\\' => {
                let unit = writer.escape(false)?;
                writer.text.push_str(&unit.text);
            }
            '[' => writer.class()?,
            '(' => {
                writer.group()?;
                repeatable = false;
            }
            '.' => writer.text.push_str(ANY),
            '*' | '+' | '?' if was_repeatable => {
                writer.text.push(character);
                writer.lazy();
                repeatable = false;
            }
            '*' | '+' | '?' => return Err(NO_PATTERN),
            '{' => match counted(writer.rest) {
                Some(length) if was_repeatable => {
                    writer.text.push('{');
                    let (count, rest) = writer.rest.split_at_checked(length).ok_or(NO_PATTERN)?;
                    writer.text.push_str(count);
                    writer.rest = rest;
                    writer.lazy();
                    repeatable = false;
                }
                Some(_) => return Err(NO_PATTERN),
                None => writer.text.push_str(r"\{"),
            },
            '}' | ']' => writer.text.extend(['\\', character]),
            '|' | '^' => {
                writer.text.push(character);
                repeatable = false;
            }
            '$' => {
                writer.text.push_str(r"\z");
                repeatable = false;
            }
            ')' => writer.text.push(')'),
            other => writer.text.push_str(&literal(other)),
        }
    }
    Ok(Translated { text: writer.text, looks_around: writer.looks_around })
}

/// How long the rest of `{2}`, `{2,}` or `{2,3}` is.
fn counted(rest: &str) -> Option<usize> {
    let (inner, _) = rest.split_once('}')?;
    let (least, most) = inner.split_once(',').unwrap_or((inner, ""));
    let is_number = |text: &str| text.len() <= 6 && text.bytes().all(|byte| byte.is_ascii_digit());
    (!least.is_empty() && is_number(least) && is_number(most)).then_some(inner.len() + 1)
}

/// A character that stands for itself.
fn literal(character: char) -> String {
    match character {
        '\\' | '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$' | '#' | '&' | '-' | '~' => {
            format!("\\{character}")
        }
        other => other.to_string(),
    }
}

struct Writer<'a> {
    rest: &'a str,
    text: String,
    looks_around: bool,
}

/// What stands for one character of a class, or for several.
struct Unit {
    text: String,
    is_class: bool,
}

impl Writer<'_> {
    fn take(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let first = characters.next()?;
        self.rest = characters.as_str();
        Some(first)
    }

    fn take_if(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// A question mark behind a repetition.
    fn lazy(&mut self) {
        if self.take_if("?") {
            self.text.push('?');
        }
    }

    /// What stands behind the `(` of a group.
    fn group(&mut self) -> Result<(), &'static str> {
        self.text.push('(');
        for (text, looks_around) in
            [("?=", true), ("?!", true), ("?<=", true), ("?<!", true), ("?:", false), ("?i)", false), ("?<", false)]
        {
            if self.take_if(text) {
                self.looks_around |= looks_around;
                self.text.push_str(text);
                return Ok(());
            }
        }
        if self.rest.starts_with(['?', '*']) { Err(NO_PATTERN) } else { Ok(()) }
    }

    /// What stands behind a backslash.
    fn escape(&mut self, in_class: bool) -> Result<Unit, &'static str> {
        let letter = self.take().ok_or(NO_PATTERN)?;
        let one = |text: String| Ok(Unit { text, is_class: false });
        let class = |text: String| Ok(Unit { text, is_class: true });
        match letter {
            'd' => class("[0-9]".to_owned()),
            'D' => class("[^0-9]".to_owned()),
            'w' => class("[A-Za-z0-9_]".to_owned()),
            'W' => class("[^A-Za-z0-9_]".to_owned()),
            's' => class(format!("[{SPACES}]")),
            'S' => class(format!("[^{SPACES}]")),
            'p' | 'P' if self.rest.starts_with('{') => {
                let (name, rest) = self.rest.split_once('}').ok_or(NO_PATTERN)?;
                self.rest = rest;
                let not = if letter == 'P' { "^" } else { "" };
                match JAVA.iter().find(|(known, _)| name.strip_prefix('{') == Some(known)) {
                    Some((_, ranges)) => class(format!("[{not}{ranges}]")),
                    None => class(format!("\\{letter}{name}}}")),
                }
            }
            // Of Ruby, Java and others: ends of the text.
            'A' | 'z' if !in_class => one(format!("\\{letter}")),
            'Z' if !in_class => one("\\z".to_owned()),
            'b' if in_class => one("\\x08".to_owned()),
            'b' | 'B' if !in_class => one(format!("\\{letter}")),
            'n' | 'r' | 't' | 'f' | 'v' => one(format!("\\{letter}")),
            '0' => one("\\x00".to_owned()),
            '1'..='9' if !in_class => {
                self.looks_around = true;
                let length = self.rest.bytes().take(1).take_while(u8::is_ascii_digit).count();
                let (more, rest) = self.rest.split_at_checked(length).unwrap_or(("", self.rest));
                self.rest = rest;
                // Digits behind it are characters.
                one(format!("(?:\\{letter}{more})"))
            }
            'k' if !in_class && self.rest.starts_with('<') => {
                self.looks_around = true;
                let (name, rest) = self.rest.split_once('>').ok_or(NO_PATTERN)?;
                self.rest = rest;
                one(format!("\\k{name}>"))
            }
            'x' => match self.hexadecimal(2) {
                Some(code) => one(format!("\\x{{{code:x}}}")),
                None => one("x".to_owned()),
            },
            'u' if in_class => match self.unicode(true)? {
                Some(character) => one(format!("\\x{{{:x}}}", u32::from(character))),
                None => Ok(Unit { text: String::new(), is_class: false }),
            },
            'u' => {
                let halves = "it has half of a character (a surrogate), of which no text is made";
                one(format!("\\x{{{:x}}}", u32::from(self.unicode(false)?.ok_or(halves)?)))
            }
            'c' => match self.take().filter(char::is_ascii_alphabetic) {
                Some(letter) => one(format!("\\x{{{:x}}}", u32::from(letter) % 32)),
                None => Err(NO_PATTERN),
            },
            other if other.is_ascii_alphanumeric() => Err(NO_PATTERN),
            other => one(literal(other)),
        }
    }

    /// `\uD83D\uDE00` is one character. `None`: half of one, which no text has.
    fn unicode(&mut self, in_class: bool) -> Result<Option<char>, &'static str> {
        if self.take_if("{") {
            let (code, rest) = self.rest.split_once('}').ok_or(NO_PATTERN)?;
            self.rest = rest;
            let code: u32 = digits::hexadecimal(code).ok_or(NO_PATTERN)?;
            return char::from_u32(code).ok_or(NO_PATTERN).map(Some);
        }
        let first = self.hexadecimal(4).ok_or(NO_PATTERN)?;
        if let Some(character) = char::from_u32(first) {
            return Ok(Some(character));
        }
        let before = self.rest;
        let second = self.take_if("\\u").then(|| self.hexadecimal(4)).flatten();
        match second.filter(|code| first < 0xdc00 && (0xdc00..0xe000).contains(code)) {
            Some(second) => Ok(char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))),
            None if in_class => {
                self.rest = before;
                Ok(None)
            }
            None => Ok(None),
        }
    }

    fn hexadecimal(&mut self, digits: usize) -> Option<u32> {
        let (text, rest) = self.rest.split_at_checked(digits)?;
        let number = digits::hexadecimal(text)?;
        self.rest = rest;
        Some(number)
    }

    /// What stands behind the `[` of a class.
    fn class(&mut self) -> Result<(), &'static str> {
        let is_negated = self.take_if("^");
        let mut inner = String::new();
        loop {
            if self.take_if("]") {
                break;
            }
            let first = self.member()?;
            let ranges = self.rest.starts_with('-') && !self.rest.starts_with("-]");
            if !ranges {
                inner.push_str(&first.text);
                continue;
            }
            self.take_if("-");
            let last = self.member()?;
            // Of a range from or to half of a character, what texts can have is left.
            match (first.text.is_empty(), last.text.is_empty()) {
                (false, false) => {}
                (true, true) => continue,
                (true, false) if last.is_class => {}
                (false, true) if first.is_class => {}
                (true, false) => {
                    inner.push_str("\\x{e000}-");
                    inner.push_str(&last.text);
                    continue;
                }
                (false, true) => {
                    inner.push_str(&first.text);
                    inner.push_str("-\\x{d7ff}");
                    continue;
                }
            }
            inner.push_str(&first.text);
            // Beside a class, a hyphen is one.
            inner.push_str(if first.is_class || last.is_class { "\\-" } else { "-" });
            inner.push_str(&last.text);
        }
        match (inner.as_str(), is_negated) {
            ("", true) => self.text.push_str(r"[\x{0}-\x{10ffff}]"),
            ("", false) => self.text.push_str(r"[^\x{0}-\x{10ffff}]"),
            (inner, negated) => write!(self.text, "[{}{inner}]", if negated { "^" } else { "" }).unwrap_or_default(),
        }
        Ok(())
    }

    /// A character of a class, or a class in it.
    fn member(&mut self) -> Result<Unit, &'static str> {
        match self.take().ok_or(NO_PATTERN)? {
            '\\' => self.escape(true),
            other => Ok(Unit { text: literal(other), is_class: false }),
        }
    }
}
