//! SQL and HTML by their grammars.
//!
//! *Invariant:* the reader of SQL may take time by the square of the length, so that it sees short windows of the beginning
//! and of the end of a value: their beginnings, their ends, and what stands around their first quotes. What only makes a value
//! longer is shortened before: nobody pads an attack out of the windows.

use libinjectionrs::{detect_sqli, detect_xss};

use super::breakout;

/// What is read as SQL at once, in bytes.
const WINDOW: usize = 512;

/// How much of the beginning and of the end of a value is [`squeeze`]d; and the longest value that is read as HTML.
const LONGEST: usize = 8 * 1024;

/// How much of a word, of a number, of a row of the same marks and of a comment is kept.
const LONGEST_WORD: usize = 64;
const LONGEST_ROW: usize = 16;

/// A value that is read as SQL.
pub(super) struct Statement<'a> {
    value: &'a [u8],
    /// Its beginning, and of a long one its end, without what only makes them longer.
    read: [Vec<u8>; 2],
}

impl<'a> Statement<'a> {
    pub(super) fn of(value: &'a [u8]) -> Self {
        let end = if value.len() > LONGEST { value.get(value.len() - LONGEST..).unwrap_or_default() } else { &[] };
        Self { value, read: [squeeze(value), squeeze(end)] }
    }

    /// The sequence of tokens by which it is an attack.
    pub(super) fn attack(&self) -> Option<String> {
        let [begin, end] = &self.read;
        let [.., last] = starts(end);
        let windows = starts(begin).map(|start| (begin, start)).into_iter().chain([(end, last)]);
        windows.filter_map(|(read, start)| Some((read, start?))).find_map(|(read, start)| {
            let found = detect_sqli(read.get(start..read.len().min(start + WINDOW))?);
            found.is_injection().then(|| found.fingerprint.as_ref().map(ToString::to_string).unwrap_or_default())
        })
    }

    /// Whether a condition follows what ends a string, wherever in the value.
    pub(super) fn has_condition(&self) -> bool {
        let [begin, end] = &self.read;
        let middle = self.value.get(LONGEST..).unwrap_or_default();
        breakout::has_condition(begin) || breakout::leaves_text(middle) || breakout::leaves_text(end)
    }

    /// What [`Self::attack`] and [`Self::has_condition`] may cost, in steps: a word may be read again from each mark in it,
    /// and a text from each quote.
    pub(super) fn cost(&self) -> usize {
        let is_mark = |byte: &&u8| byte.is_ascii_punctuation() && **byte != b'_';
        let of_word = |word: &[u8]| (word.len() + 1) * (1 + word.iter().filter(is_mark).count());
        let of_text = |read: &Vec<u8>| read.split(u8::is_ascii_whitespace).map(of_word).sum::<usize>();
        let steps: usize = self.read.iter().map(|read| of_text(read).min(4 * WINDOW * WINDOW + LONGEST)).sum();
        let begins_text = |pair: &&[u8]| matches!(pair, [b'\'' | b'"', next] if !next.is_ascii_whitespace());
        let texts = self.value.windows(2).filter(begins_text).count() * breakout::LONGEST_TEXT;
        self.value.len() + steps + texts
    }
}

/// Whether a value is an attack on HTML.
pub(super) fn is_xss(value: &[u8]) -> bool {
    detect_xss(value.get(..value.len().min(LONGEST)).unwrap_or_default()).is_injection()
}

/// Where windows begin: with the value, just before the first quote of each kind that the first window may have too little
/// of, and with a word near its end. What stands before a quote is one token.
fn starts(value: &[u8]) -> [Option<usize>; 4] {
    let is_long = value.len() > WINDOW;
    let of = |quote| {
        let at = memchr::memchr(quote, value)?;
        (is_long && at > WINDOW / 4).then(|| at - 1)
    };
    let last = value.len().saturating_sub(WINDOW);
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let word = value.iter().skip(last).position(|byte| !is_word(byte)).map(|at| last + at + 1);
    [Some(0), of(b'\''), of(b'"'), word.filter(|_| is_long)]
}

/// A value without what only makes it longer: one character for many spaces (a line end, where one is among them), and
/// the beginnings of long words, of rows of the same mark and of comments. Quotes stay, as they end strings.
fn squeeze(value: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(value.len().min(LONGEST));
    let is_space = |byte: u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let (mut at, mut run) = (0, 0);
    let mut comments = Comments::of(value);
    while let Some(&byte) = value.get(at) {
        if out.len() >= LONGEST {
            break;
        }
        if let Some(length) = comments.at(at) {
            let kept = length.min(LONGEST_ROW);
            out.extend_from_slice(value.get(at..at + kept - 2).unwrap_or_default());
            out.extend_from_slice(b"*/");
            (at, run) = (at + length, 0);
            continue;
        }
        at += 1;
        match out.last_mut() {
            Some(last) if is_space(byte) && is_space(*last) => {
                if byte == b'\n' {
                    *last = byte;
                }
                continue;
            }
            Some(last) if is_word(byte) && is_word(*last) => run += 1,
            Some(last) if byte == *last && !matches!(byte, b'\'' | b'"' | b'`' | b'\\') => run += 1,
            _ => run = 1,
        }
        if run <= if is_word(byte) { LONGEST_WORD } else { LONGEST_ROW } {
            out.push(byte);
        }
    }
    out
}

/// Where comments end in a value. Each byte is looked at once, however many comments begin.
struct Comments<'a> {
    value: &'a [u8],
    /// Where the next `*/` stands, and the next mark by which a comment may be none; `usize::MAX`: nowhere any more.
    end: usize,
    mark: usize,
}

impl<'a> Comments<'a> {
    const fn of(value: &'a [u8]) -> Self {
        Self { value, end: 0, mark: 0 }
    }

    /// The length of the comment at `at`, which is never less than before. `None`: there is none that ends, or a database
    /// runs it (`/*!`). With a quote or a line end in it, it may begin in a text or behind `--`, and be none: then it stays.
    fn at(&mut self, at: usize) -> Option<usize> {
        let rest = self.value.get(at..).filter(|rest| rest.starts_with(b"/*"))?;
        let body = rest.get(2..).filter(|body| body.first() != Some(&b'!'))?;
        let begins = at + 2;
        let place = |found: Option<usize>| found.map_or(usize::MAX, |found| begins + found);
        if self.end < begins {
            self.end = place(memchr::memmem::find(body, b"*/"));
        }
        if self.mark < begins {
            self.mark = place(body.iter().position(|byte| matches!(byte, b'\'' | b'"' | b'`' | b'\n' | b'\r')));
        }
        (self.end < self.mark).then(|| self.end + 2 - at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attacks_are_found_wherever_a_value_lets_them_begin() {
        let pad = "word ".repeat(1_000);
        let spaces = " ".repeat(5_000);
        for (value, is_attack) in [
            ("1' or '1'='1".to_owned(), true),
            (format!("{pad}' or 1=1--"), true),
            (format!("{pad}\" union select a from b--"), true),
            (format!("1{spaces}or 1=1--"), true),
            (format!("1{}or 1=1--", "\t \n".repeat(1_000)), true),
            (format!("{}1 or 1=1--", "0".repeat(9_000)), true),
            (format!("{}1;delete from users", "0".repeat(600)), true),
            (format!("{}1 union(select(a)from(b))", "0".repeat(600)), true),
            (format!("{}'/**/union/**/select/**/a,b-- ", "x".repeat(9_000)), true),
            (format!("'/*{}*/OR/*{}*/1=1-- ", "A".repeat(260), "B".repeat(260)), true),
            (format!("1/*{0}*/UNION/*{0}*/SELECT a FROM b", "A".repeat(3_000)), true),
            (format!("{}1 union select a from b", "1+".repeat(2_000)), true),
            (format!("{}' or pw like 'a", "word ".repeat(20_000)), true),
            ("/*aaaaaaaaaaaa'||(select pw from users limit 1)||'*/".to_owned(), true),
            ("/*aaaaaaaaaaaa' or name like '%a*/".to_owned(), true),
            ("a b' -- /*AAAAAAAAAAAAAAAA\nand exists(select 1 from users) -- */".to_owned(), true),
            (format!("{} and nothing else", "x ".repeat(2_000)), false),
            (format!("/*{}*/ body {{ color: red }}", "x ".repeat(2_000)), false),
            (pad.clone(), false),
            (format!("it's {pad}"), false),
            (spaces, false),
            (String::new(), false),
        ] {
            assert_eq!(Statement::of(value.as_bytes()).attack().is_some(), is_attack, "{:?}", value.get(..20));
        }
    }

    #[test]
    fn text_costs_little_and_nothing_costs_much() {
        let most = 8 * WINDOW * WINDOW + 2 * LONGEST;
        for (unit, least, largest) in [
            ("word, ", LONGEST, 8 * LONGEST),
            ("$.", most / 2, most),
            ("/*;", LONGEST, most),
            // A text may begin with each of these quotes.
            ("/*'*/", 16 << 20, 32 << 20),
            ("/*'", 32 << 20, 64 << 20),
            ("/*/", LONGEST, most),
            ("' ", LONGEST, 8 * LONGEST),
            (" ", 0, LONGEST),
            ("a", 0, LONGEST),
        ] {
            let value = unit.repeat((1 << 20) / unit.len());
            let statement = Statement::of(value.as_bytes());
            let cost = statement.cost() - value.len();
            assert!((least..=largest).contains(&cost), "{unit:?}: {cost}");
            statement.attack();
        }
    }
}
