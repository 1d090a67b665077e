//! The words of a condition, each with its place in the text.

use std::ops::Range;

use super::tree::ExpressionError;

/// One word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'t> {
    /// `and`, `claim`, `office`.
    Word(&'t str),
    /// `{id}`, without its braces.
    Parameter(&'t str),
    /// A text in quotation marks, single or double ones, without its escapes.
    Text(String),
    /// `3`, `-1`, `2.5`.
    Number(&'t str),
    /// `==`, `(`, `[`, `,`, `.`.
    Sign(&'static str),
    End,
}

/// The longer ones first.
const SIGNS: [&str; 12] = ["==", "!=", "<=", ">=", "<", ">", "(", ")", "[", "]", ",", "."];

/// Where the reading of a text is.
#[derive(Clone, Debug)]
pub(super) struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    pub(super) const fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Takes letters as long as they fit; `None`: there is none.
    fn run(&mut self, fits: impl Fn(char) -> bool) -> Option<&'t str> {
        let rest = self.rest();
        let length = rest.find(|letter| !fits(letter)).unwrap_or(rest.len());
        let taken = rest.get(..length).filter(|taken| !taken.is_empty())?;
        self.at += length;
        Some(taken)
    }

    fn skip_blanks(&mut self) {
        self.run(char::is_whitespace);
    }

    /// Where the next word begins.
    pub(super) fn place(&mut self) -> usize {
        self.skip_blanks();
        self.at
    }

    /// Where the last word ended.
    pub(super) const fn end(&self) -> usize {
        self.at
    }

    /// The next word, which stays.
    pub(super) fn peek(&self) -> Result<Token<'t>, ExpressionError> {
        self.clone().next().map(|(token, _)| token)
    }

    /// The next word and its place.
    pub(super) fn next(&mut self) -> Result<(Token<'t>, Range<usize>), ExpressionError> {
        let begin = self.place();
        let token = self.token(begin)?;
        Ok((token, begin..self.at))
    }

    fn token(&mut self, begin: usize) -> Result<Token<'t>, ExpressionError> {
        let Some(first) = self.rest().chars().next() else { return Ok(Token::End) };
        if first == '{' {
            return self.parameter(begin);
        }
        if first == '"' || first == '\'' {
            return self.quoted(first, begin);
        }
        let is_negative =
            first == '-' && self.rest().get(1..2).is_some_and(|next| next.as_bytes().iter().all(u8::is_ascii_digit));
        if first.is_ascii_digit() || is_negative {
            self.at += usize::from(is_negative);
            self.run(|letter| letter.is_ascii_alphanumeric() || letter == '.');
            return Ok(Token::Number(self.text.get(begin..self.at).unwrap_or_default()));
        }
        if let Some(word) = self.run(is_word) {
            return Ok(Token::Word(word));
        }
        if let Some(sign) = SIGNS.into_iter().find(|sign| self.rest().starts_with(sign)) {
            self.at += sign.len();
            return Ok(Token::Sign(sign));
        }
        let hint = match first {
            '=' => "write `==` to compare",
            '&' => "write `and`",
            '|' => "write `or`",
            '!' => "write `not`, or `!=` to compare",
            _ => "texts stand in quotation marks: 'billing'",
        };
        Err(ExpressionError::new(begin..begin + first.len_utf8(), format!("{first:?} means nothing here"), hint))
    }

    fn parameter(&mut self, begin: usize) -> Result<Token<'t>, ExpressionError> {
        self.at += 1;
        let name = self.run(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == '*');
        match name.filter(|_| self.rest().starts_with('}')) {
            Some(name) => {
                self.at += 1;
                // `{*rest}` is how the path has it.
                Ok(Token::Parameter(name.strip_prefix('*').unwrap_or(name)))
            }
            None => Err(ExpressionError::new(begin..self.at, "a `{` has no name and `}`", "write parameters as {id}")),
        }
    }

    fn quoted(&mut self, mark: char, begin: usize) -> Result<Token<'t>, ExpressionError> {
        let mut text = String::new();
        let mut letters = self.rest().char_indices().skip(1);
        while let Some((offset, letter)) = letters.next() {
            match letter {
                '\\' => text.extend(letters.next().map(|(_, letter)| letter)),
                _ if letter == mark => {
                    self.at += offset + letter.len_utf8();
                    return Ok(Token::Text(text));
                }
                _ => text.push(letter),
            }
        }
        let whole = begin..self.text.len();
        Err(ExpressionError::new(whole, "a quotation mark is not closed", "write the same mark at the end of the text"))
    }

    /// A name of a claim, up to a dot: what follows `claim.`.
    pub(super) fn claim_name(&mut self) -> Option<&'t str> {
        self.run(|letter| is_word(letter) || letter == '-' || letter == ':')
    }

    /// A network or the name of a set: what follows `source in`.
    pub(super) fn network(&mut self) -> Option<(&'t str, Range<usize>)> {
        let begin = self.place();
        let text = self.run(|letter| is_word(letter) || matches!(letter, '-' | ':' | '.' | '/' | '%'))?;
        Some((text, begin..self.at))
    }
}

const fn is_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}
