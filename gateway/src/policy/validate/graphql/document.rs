//! Reads a document of GraphQL as far as it has to be measured: operations, fragments, fields, and numbers of arguments.

use std::collections::HashMap;

/// The deepest nesting that is read, of selections and of values.
const DEEPEST: usize = 256;

/// The most tokens.
const MOST_TOKENS: usize = 50_000;

/// A document.
#[derive(Debug, Default)]
pub(super) struct GraphqlDocument<'a> {
    /// All selection sets.
    pub(super) sets: Vec<Set<'a>>,
    /// The sets of operations, with the defaults of their variables.
    pub(super) operations: Vec<(usize, HashMap<&'a str, Fallback>)>,
    /// How many of the operations have no name.
    anonymous: usize,
    /// The sets of fragments, by name.
    pub(super) fragments: HashMap<&'a str, usize>,
}

/// What a variable counts that a request does not give.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fallback {
    /// It is this number.
    pub(super) number: Option<u64>,
    /// It is an object that has counts: the largest.
    pub(super) within: u64,
}

/// What is selected at one place.
pub(super) type Set<'a> = Vec<Selection<'a>>;

#[derive(Debug)]
pub(super) enum Selection<'a> {
    Field { name: &'a str, is_aliased: bool, counts: Vec<Count<'a>>, set: Option<usize> },
    Inline(usize),
    Spread(&'a str),
}

/// How many elements a field asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count<'a> {
    Number(u64),
    /// A number between quotes, which some servers take as one.
    Quoted,
    Variable(&'a str),
    /// Where a variable is an object, the counts in it.
    Within(&'a str),
}

/// Whether an argument, or a member of an object, says how many elements a list has.
pub(super) fn is_count(name: &str) -> bool {
    COUNTS.contains(&name)
}

/// Arguments that say how many elements a list has.
const COUNTS: [&str; 8] = ["first", "last", "limit", "size", "count", "perPage", "pageSize", "take"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Name(&'a str),
    Number(&'a str),
    Mark(u8),
    Spread,
    /// With its quotes.
    Text(&'a str),
}

impl<'a> GraphqlDocument<'a> {
    /// Reads a document.
    pub(super) fn read(text: &'a str) -> Result<Self, &'static str> {
        let mut reader = Reader { tokens: tokens(text)?, at: 0, document: Self::default() };
        while reader.peek().is_some() {
            reader.definition()?;
        }
        if reader.document.operations.is_empty() {
            return Err("the document has no operation");
        }
        if reader.document.anonymous > 1 {
            return Err("two operations have no name");
        }
        Ok(reader.document)
    }
}

fn tokens(text: &str) -> Result<Vec<Token<'_>>, &'static str> {
    let bytes = text.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(&byte) = bytes.get(at) {
        let run = |at: usize, fits: fn(u8) -> bool| {
            bytes.get(at..).unwrap_or_default().iter().take_while(|byte| fits(**byte)).count()
        };
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' | b',' => {
                at += 1;
                continue;
            }
            0xef if bytes.get(at..at + 3) == Some(b"\xef\xbb\xbf") => {
                at += 3;
                continue;
            }
            b'#' => {
                at += run(at, |byte| !matches!(byte, b'\n' | b'\r'));
                continue;
            }
            b'.' if bytes.get(at..at + 3) == Some(b"...") => {
                found.push(Token::Spread);
                at += 3;
            }
            b'"' => {
                let end = string(bytes, at)?;
                found.push(Token::Text(text.get(at..end).unwrap_or_default()));
                at = end;
            }
            b'-' | b'0'..=b'9' => {
                let length = 1 + run(at + 1, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-'));
                found.push(Token::Number(text.get(at..at + length).unwrap_or_default()));
                at += length;
            }
            b'_' | b'a'..=b'z' | b'A'..=b'Z' => {
                let length = run(at, |byte| byte.is_ascii_alphanumeric() || byte == b'_');
                found.push(Token::Name(text.get(at..at + length).unwrap_or_default()));
                at += length;
            }
            b'!' | b'$' | b'&' | b'(' | b')' | b':' | b'=' | b'@' | b'[' | b']' | b'{' | b'|' | b'}' => {
                found.push(Token::Mark(byte));
                at += 1;
            }
            _ => return Err("the document has a character that none has"),
        }
        if found.len() > MOST_TOKENS {
            return Err("the document is too long");
        }
    }
    Ok(found)
}

/// Where the text that begins at `at` ends.
fn string(bytes: &[u8], at: usize) -> Result<usize, &'static str> {
    const OPEN: &str = "a string does not end";
    if bytes.get(at..at + 3) == Some(b"\"\"\"") {
        let mut at = at + 3;
        loop {
            let end = memchr::memmem::find(bytes.get(at..).ok_or(OPEN)?, b"\"\"\"").ok_or(OPEN)?;
            at += end + 3;
            if bytes.get(at.saturating_sub(4)) != Some(&b'\\') {
                return Ok(at);
            }
        }
    }
    let mut at = at + 1;
    loop {
        match bytes.get(at).ok_or(OPEN)? {
            b'"' => return Ok(at + 1),
            b'\\' => at += 2,
            b'\n' | b'\r' => return Err(OPEN),
            _ => at += 1,
        }
    }
}

/// A number, rounded up. One that is too large counts as the largest, one below zero as none.
pub(super) fn number(text: &str) -> u64 {
    if let Ok(number) = text.parse() {
        return number;
    }
    match text.parse::<f64>() {
        // Without an exponent, however large it is.
        Ok(number) if number > 0.0 => format!("{:.0}", number.ceil()).parse().unwrap_or(u64::MAX),
        _ => 0,
    }
}

/// The number that a text begins with, as servers may read it that take texts for numbers.
pub(super) fn leading(text: &str) -> u64 {
    let text = text.trim_start_matches(['"', ' ', '\t', '\r', '\n', '+']);
    let end = text.find(|it: char| !it.is_ascii_digit() && !matches!(it, '.' | 'e' | 'E')).unwrap_or(text.len());
    let number = text.get(..end).unwrap_or_default();
    let digits = number.bytes().take_while(u8::is_ascii_digit).count();
    self::number(number).max(self::number(number.get(..digits).unwrap_or_default()))
}

/// Whether a text begins as numbers do.
pub(super) fn is_numeric(text: &str) -> bool {
    text.trim_start().starts_with(|first: char| first.is_ascii_digit() || matches!(first, '+' | '-' | '.'))
}

struct Reader<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    document: GraphqlDocument<'a>,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).copied()
    }

    fn take(&mut self) -> Result<Token<'a>, &'static str> {
        let token = self.peek().ok_or("the document ends early")?;
        self.at += 1;
        Ok(token)
    }

    fn takes(&mut self, mark: u8) -> bool {
        let is_there = self.peek() == Some(Token::Mark(mark));
        self.at += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, mark: u8) -> Result<(), &'static str> {
        if self.takes(mark) { Ok(()) } else { Err("the document breaks the grammar") }
    }

    fn name(&mut self) -> Result<&'a str, &'static str> {
        match self.take()? {
            Token::Name(name) => Ok(name),
            _ => Err("a name is missing"),
        }
    }

    fn definition(&mut self) -> Result<(), &'static str> {
        if self.peek() == Some(Token::Mark(b'{')) {
            let set = self.set(0)?;
            self.document.operations.push((set, HashMap::new()));
            self.document.anonymous += 1;
            return Ok(());
        }
        match self.name()? {
            "query" | "mutation" | "subscription" => {
                match self.peek() {
                    Some(Token::Name(_)) => self.at += 1,
                    _ => self.document.anonymous += 1,
                }
                let defaults = self.variables()?;
                self.directives()?;
                let set = self.set(0)?;
                self.document.operations.push((set, defaults));
            }
            "fragment" => {
                let name = self.name()?;
                if name == "on" || self.name()? != "on" {
                    return Err("a fragment has no type");
                }
                self.name()?;
                self.directives()?;
                let set = self.set(0)?;
                if self.document.fragments.insert(name, set).is_some() {
                    return Err("two fragments have one name");
                }
            }
            _ => return Err("the document defines something else than operations and fragments"),
        }
        Ok(())
    }

    /// Variables of an operation: the numbers that they are by default.
    fn variables(&mut self) -> Result<HashMap<&'a str, Fallback>, &'static str> {
        let mut defaults = HashMap::new();
        if !self.takes(b'(') {
            return Ok(defaults);
        }
        while !self.takes(b')') {
            self.expect(b'$')?;
            let name = self.name()?;
            self.expect(b':')?;
            let mut depth = 0_usize;
            while self.takes(b'[') {
                depth += 1;
            }
            self.name()?;
            self.takes(b'!');
            for _ in 0..depth {
                self.expect(b']')?;
                self.takes(b'!');
            }
            if self.takes(b'=') {
                let mut counts = Vec::new();
                let number = match self.value(0, &mut counts)? {
                    Some(Count::Number(number)) => Some(number),
                    Some(Count::Quoted) => Some(u64::MAX),
                    Some(Count::Variable(_) | Count::Within(_)) | None => None,
                };
                let numbers = counts.iter().map(|count| if let Count::Number(number) = count { *number } else { 0 });
                defaults.insert(name, Fallback { number, within: numbers.max().unwrap_or_default() });
            }
            self.directives()?;
        }
        Ok(defaults)
    }

    fn directives(&mut self) -> Result<(), &'static str> {
        while self.takes(b'@') {
            self.name()?;
            self.arguments()?;
        }
        Ok(())
    }

    /// Arguments of a field or a directive: how many elements they ask for.
    fn arguments(&mut self) -> Result<Vec<Count<'a>>, &'static str> {
        let mut counts = Vec::new();
        if !self.takes(b'(') {
            return Ok(counts);
        }
        while !self.takes(b')') {
            let name = self.name()?;
            self.expect(b':')?;
            match self.value(0, &mut counts)? {
                Some(Count::Variable(variable)) if !is_count(name) => counts.push(Count::Within(variable)),
                value => counts.extend(value.filter(|_| is_count(name))),
            }
        }
        Ok(counts)
    }

    /// A value: what it counts, if it is a number or a variable. Counts in objects are added to `within`.
    fn value(&mut self, depth: usize, within: &mut Vec<Count<'a>>) -> Result<Option<Count<'a>>, &'static str> {
        if depth > DEEPEST {
            return Err("a value is nested too deep");
        }
        Ok(match self.take()? {
            Token::Mark(b'$') => Some(Count::Variable(self.name()?)),
            Token::Number(text) => Some(Count::Number(number(text))),
            Token::Text(text) => is_numeric(text.trim_start_matches('"')).then_some(Count::Quoted),
            Token::Name(_) => None,
            Token::Mark(b'[') => {
                while !self.takes(b']') {
                    if let Some(Count::Variable(variable)) = self.value(depth + 1, within)? {
                        within.push(Count::Within(variable));
                    }
                }
                None
            }
            Token::Mark(b'{') => {
                while !self.takes(b'}') {
                    let name = self.name()?;
                    self.expect(b':')?;
                    let text = match self.peek() {
                        Some(Token::Text(text)) => text,
                        _ => "",
                    };
                    match self.value(depth + 1, within)? {
                        // A size may be a text here that is none of a list.
                        Some(Count::Quoted) if is_count(name) => within.push(Count::Number(leading(text))),
                        Some(Count::Variable(variable)) if !is_count(name) => within.push(Count::Within(variable)),
                        value => within.extend(value.filter(|_| is_count(name))),
                    }
                }
                None
            }
            Token::Mark(_) | Token::Spread => return Err("a value is missing"),
        })
    }

    /// A selection set; its number.
    fn set(&mut self, depth: usize) -> Result<usize, &'static str> {
        if depth > DEEPEST {
            return Err("the document is nested too deep");
        }
        self.expect(b'{')?;
        let mut set = Vec::new();
        while !self.takes(b'}') {
            set.push(self.selection(depth)?);
        }
        if set.is_empty() {
            return Err("a selection is empty");
        }
        self.document.sets.push(set);
        Ok(self.document.sets.len() - 1)
    }

    fn selection(&mut self, depth: usize) -> Result<Selection<'a>, &'static str> {
        if self.peek() == Some(Token::Spread) {
            self.at += 1;
            match self.peek() {
                Some(Token::Name("on")) => {
                    self.at += 1;
                    self.name()?;
                }
                Some(Token::Name(name)) => {
                    self.at += 1;
                    self.directives()?;
                    return Ok(Selection::Spread(name));
                }
                _ => {}
            }
            self.directives()?;
            return self.set(depth + 1).map(Selection::Inline);
        }
        let first = self.name()?;
        let is_aliased = self.takes(b':');
        let name = if is_aliased { self.name()? } else { first };
        let counts = self.arguments()?;
        self.directives()?;
        let has_set = self.peek() == Some(Token::Mark(b'{'));
        let set = has_set.then(|| self.set(depth + 1)).transpose()?;
        Ok(Selection::Field { name, is_aliased, counts, set })
    }
}
