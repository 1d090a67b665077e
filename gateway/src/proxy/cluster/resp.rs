//! The protocol of Redis and Valkey (RESP2): writes commands and reads replies. The server is hostile as far as anybody
//! knows: a reply is bounded in bytes, in elements and in depth.

use std::fmt;

use crate::text::digits::decimal;

/// The largest reply, in bytes.
pub(super) const MOST_BYTES: usize = 4 * 1024 * 1024;

/// The most elements of one reply, over all depths.
const MOST_ELEMENTS: usize = 65_536;

/// How deep arrays may lie in arrays.
const DEEPEST: usize = 6;

/// The longest line: a number, a status, an error.
const LONGEST_LINE: usize = 4_096;

/// One reply, or a part of one.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Value {
    Array(Vec<Self>),
    Bytes(Vec<u8>),
    Error(String),
    Integer(i64),
    Nil,
}

/// It is no reply, or one that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// Adds one command.
pub(super) fn write<W: AsRef<[u8]>>(out: &mut Vec<u8>, words: &[W]) {
    let head = |mark: u8, count: usize, out: &mut Vec<u8>| {
        out.push(mark);
        out.extend_from_slice(count.to_string().as_bytes());
        out.extend_from_slice(b"\r\n");
    };
    head(b'*', words.len(), out);
    for word in words.iter().map(AsRef::as_ref) {
        head(b'$', word.len(), out);
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// Reads the first reply of `input`: the reply, and how many bytes it has. `None`: not all of it is there yet.
///
/// # Errors
/// It is no reply, or too large.
pub(super) fn read(input: &[u8]) -> Result<Option<(Value, usize)>, Malformed> {
    let mut reader = Reader { input, at: 0, elements: 0 };
    let value = reader.value(0)?;
    if value.is_none() && input.len() >= MOST_BYTES {
        return Err(Malformed("the reply is too large"));
    }
    Ok(value.map(|value| (value, reader.at)))
}

struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    elements: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Option<Value>, Malformed> {
        self.elements += 1;
        if self.elements > MOST_ELEMENTS {
            return Err(Malformed("the reply has too many elements"));
        }
        let Some(line) = self.line()? else { return Ok(None) };
        let Some((mark, rest)) = line.split_first() else { return Err(Malformed("the reply has an empty line")) };
        match mark {
            b'+' => Ok(Some(Value::Bytes(rest.to_vec()))),
            b'-' => Ok(Some(Value::Error(String::from_utf8_lossy(rest).into_owned()))),
            b':' => Ok(Some(Value::Integer(number(rest)?))),
            b'$' => match length(rest)? {
                None => Ok(Some(Value::Nil)),
                Some(length) if length > MOST_BYTES => Err(Malformed("the reply is too large")),
                Some(length) => Ok(self.bytes(length)?.map(|bytes| Value::Bytes(bytes.to_vec()))),
            },
            b'*' => match length(rest)? {
                None => Ok(Some(Value::Nil)),
                Some(length) if length > MOST_ELEMENTS => Err(Malformed("the reply has too many elements")),
                Some(_) if depth >= DEEPEST => Err(Malformed("the reply is nested too deep")),
                Some(length) => {
                    let mut values = Vec::new();
                    for _ in 0..length {
                        match self.value(depth + 1)? {
                            Some(value) => values.push(value),
                            None => return Ok(None),
                        }
                    }
                    Ok(Some(Value::Array(values)))
                }
            },
            _ => Err(Malformed("it is no reply of Redis")),
        }
    }

    fn line(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        match memchr::memchr(b'\n', rest) {
            Some(end) => {
                self.at += end + 1;
                let line = rest.get(..end).and_then(|line| line.strip_suffix(b"\r"));
                line.map(Some).ok_or(Malformed("a line of the reply does not end as lines do"))
            }
            None if rest.len() > LONGEST_LINE => Err(Malformed("a line of the reply is too long")),
            None => Ok(None),
        }
    }

    fn bytes(&mut self, length: usize) -> Result<Option<&'a [u8]>, Malformed> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let Some((bytes, end)) = rest.get(..length + 2).and_then(|bytes| bytes.split_at_checked(length)) else {
            return Ok(None);
        };
        self.at += length + 2;
        if end == b"\r\n" { Ok(Some(bytes)) } else { Err(Malformed("a string of the reply is longer than it says")) }
    }
}

/// How long something is. `None`: `-1`, by which there is nothing.
fn length(text: &[u8]) -> Result<Option<usize>, Malformed> {
    let read = match std::str::from_utf8(text).unwrap_or_default() {
        "-1" => Some(None),
        digits => decimal(digits).map(Some),
    };
    read.ok_or(Malformed("the reply has a length that is none"))
}

/// An integer, which may have a sign of either kind.
fn number(text: &[u8]) -> Result<i64, Malformed> {
    let text = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    text.ok_or(Malformed("the reply has a number that is none"))
}

impl Value {
    pub(super) const fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    pub(super) fn array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }

    /// The error, if it is one.
    pub(super) fn error(&self) -> Option<&str> {
        match self {
            Self::Error(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Array(values) => out.debug_list().entries(values).finish(),
            // May be secret.
            Self::Bytes(bytes) => write!(out, "{} bytes", bytes.len()),
            Self::Error(error) => write!(out, "{error:?}"),
            Self::Integer(number) => write!(out, "{number}"),
            Self::Nil => out.write_str("nil"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Value {
        Value::Bytes(text.as_bytes().to_vec())
    }

    #[track_caller]
    fn check(input: &[u8], expect: Result<Option<(Value, usize)>, ()>) {
        assert_eq!(read(input).map_err(drop), expect, "{:?}", String::from_utf8_lossy(input));
    }

    #[test]
    fn replies() {
        let one = |value: Value, length: usize| Ok(Some((value, length)));
        check(b"+OK\r\n", one(bytes("OK"), 5));
        check(b"-ERR no\r\n:1\r\n", one(Value::Error("ERR no".to_owned()), 9));
        check(b":-7\r\n", one(Value::Integer(-7), 5));
        check(b"$3\r\na\r\n\r\n", one(bytes("a\r\n"), 9));
        check(b"$-1\r\n", one(Value::Nil, 5));
        check(b"*-1\r\n", one(Value::Nil, 5));
        check(b"*0\r\n", one(Value::Array(Vec::new()), 4));
        let nested = Value::Array(vec![Value::Integer(1), Value::Array(vec![bytes("b"), Value::Nil])]);
        check(b"*2\r\n:1\r\n*2\r\n$1\r\nb\r\n$-1\r\n", one(nested, 24));
        for whole in [&b"+OK\r\n"[..], b"$3\r\nabc\r\n", b"*2\r\n:1\r\n:2\r\n"] {
            for end in 0..whole.len() {
                check(&whole[..end], Ok(None));
            }
        }
    }

    #[test]
    fn hostile_replies() {
        for input in [
            &b"HTTP/1.1 200 OK\r\n"[..],
            b"\r\n",
            b"+OK\n",
            b":\r\n",
            b":1x\r\n",
            b"$+1\r\na\r\n",
            b"*+1\r\n:1\r\n",
            b"$-2\r\n",
            b"$99999999999\r\n",
            b"*99999999999\r\n",
            b"*65537\r\n",
            b"$1\r\nabc\r\n",
            b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
            b"%1\r\n+a\r\n+b\r\n",
        ] {
            check(input, Err(()));
        }
        check(&vec![b'+'; LONGEST_LINE + 2], Err(()));
        let many =
            [b"*2\r\n*65000\r\n".to_vec(), b":1\r\n".repeat(65_000), b"*65000\r\n".to_vec(), b":1\r\n".repeat(65_000)];
        check(&many.concat(), Err(()));
    }

    #[test]
    fn commands() {
        let mut out = Vec::new();
        write(&mut out, &[&b"GET"[..], b"a\r\nb"]);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n");
    }
}
