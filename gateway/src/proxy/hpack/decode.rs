//! The decoder of header blocks (RFC 7541 3, 6).

use std::{collections::VecDeque, ops::RangeInclusive};

use bytes::Bytes;

use super::{FieldName, TABLE, TableField, huffman, table};

/// A block that cannot be decoded. Later blocks cannot be decoded either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct Undecodable;

/// How long a literal is in its block, in bytes, to be worth keeping: a token or a cookie is, and little memory is bound by
/// what is sent once.
const REPEATED: RangeInclusive<usize> = 64..=2_048;

/// A literal that clients leave out of the dynamic table, and send with each request: what it was in its block, and is.
#[derive(Debug)]
struct Repeated {
    coded: Box<[u8]>,
    field: TableField,
}

/// The decoder of one connection, with its dynamic table.
#[derive(Debug)]
pub(in crate::proxy) struct Decoder {
    /// The newest first.
    table: VecDeque<TableField>,
    size: usize,
    most: usize,
    /// The last two, the newest first. To decode a token again takes half a microsecond.
    repeated: [Option<Repeated>; 2],
}

impl Decoder {
    pub(in crate::proxy) const fn new() -> Self {
        Self { table: VecDeque::new(), size: 0, most: TABLE, repeated: [None, None] }
    }

    /// Hands each field of a whole block to `each`.
    ///
    /// # Errors
    /// [`Undecodable`]: the connection cannot go on (RFC 9113 4.3).
    pub(in crate::proxy) fn decode(
        &mut self,
        block: &[u8],
        mut each: impl FnMut(&TableField),
    ) -> Result<(), Undecodable> {
        let mut rest = block;
        let mut has_begun = false;
        while let Some(&first) = rest.first() {
            match first {
                0x80.. => each(self.field(integer(&mut rest, 7)?)?),
                0x40.. => {
                    let field = self.literal(&mut rest, 6)?;
                    each(&field);
                    self.keep(field);
                }
                // RFC 7541 4.2: the size changes before any field does.
                0x20.. if has_begun => return Err(Undecodable),
                0x20.. => {
                    self.most = integer(&mut rest, 5)?;
                    if self.most > TABLE {
                        return Err(Undecodable);
                    }
                    self.shrink(self.most);
                    continue;
                }
                _ => {
                    if let Some(again) = self.again(rest) {
                        each(&again.field);
                        rest = rest.get(again.coded.len()..).ok_or(Undecodable)?;
                    } else {
                        let begin = rest;
                        let field = self.literal(&mut rest, 4)?;
                        each(&field);
                        self.remember(begin, rest.len(), field);
                    }
                }
            }
            has_begun = true;
        }
        Ok(())
    }

    /// The field at `index` (RFC 7541 2.3.3).
    fn field(&self, index: usize) -> Result<&TableField, Undecodable> {
        let index = index.checked_sub(1).ok_or(Undecodable)?;
        let fixed = table::fields();
        match index.checked_sub(fixed.len()) {
            Some(own) => self.table.get(own),
            None => fixed.get(index),
        }
        .ok_or(Undecodable)
    }

    /// A literal field: its value is spelt out, and its name too if it has no index.
    fn literal(&self, rest: &mut &[u8], bits: u8) -> Result<TableField, Undecodable> {
        let name = match integer(rest, bits)? {
            0 => FieldName::of(&string(rest)?),
            index => self.field(index)?.name.clone(),
        };
        Ok(TableField::new(name, string(rest)?))
    }

    /// The literal that `rest` begins with, if it is one of the last. No literal begins another.
    fn again(&self, rest: &[u8]) -> Option<&Repeated> {
        self.repeated.iter().flatten().find(|last| rest.starts_with(&last.coded))
    }

    /// Keeps the literal at the beginning of `block`, of which all but `left` bytes are its.
    fn remember(&mut self, block: &[u8], left: usize, field: TableField) {
        let Some(coded) = block.get(..block.len() - left).filter(|coded| REPEATED.contains(&coded.len())) else {
            return;
        };
        // A name of the dynamic table is another when its index comes again.
        if integer(&mut &*coded, 4).is_ok_and(|index| index <= table::fields().len()) {
            self.repeated.swap(0, 1);
            self.repeated[0] = Some(Repeated { coded: coded.into(), field });
        }
    }

    fn keep(&mut self, field: TableField) {
        self.shrink(self.most.saturating_sub(field.size));
        // One that is larger than the table leaves it empty (RFC 7541 4.4).
        if field.size <= self.most {
            self.size += field.size;
            self.table.push_front(field);
        }
    }

    /// Evicts the oldest entries until the rest takes at most `most` bytes.
    fn shrink(&mut self, most: usize) {
        while self.size > most
            && let Some(oldest) = self.table.pop_back()
        {
            self.size -= oldest.size;
        }
    }
}

/// An integer whose first byte has `bits` bits of it (RFC 7541 5.1).
fn integer(rest: &mut &[u8], bits: u8) -> Result<usize, Undecodable> {
    let (&first, mut tail) = rest.split_first().ok_or(Undecodable)?;
    let mask = (1_usize << bits) - 1;
    let mut value = usize::from(first) & mask;
    if value == mask {
        // No valid length or index takes more bytes.
        for shift in [0, 7, 14, 21] {
            let (&byte, behind) = tail.split_first().ok_or(Undecodable)?;
            tail = behind;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                *rest = tail;
                return Ok(value);
            }
        }
        return Err(Undecodable);
    }
    *rest = tail;
    Ok(value)
}

/// A string, plain or Huffman-coded (RFC 7541 5.2).
fn string(rest: &mut &[u8]) -> Result<Bytes, Undecodable> {
    let is_coded = rest.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer(rest, 7)?;
    let (text, tail) = rest.split_at_checked(length).ok_or(Undecodable)?;
    *rest = tail;
    if !is_coded {
        return Ok(Bytes::copy_from_slice(text));
    }
    huffman::decode(text).map(Bytes::from).ok_or(Undecodable)
}

#[cfg(test)]
impl Decoder {
    /// What the literals that are kept for when they come again take, in bytes.
    pub(in crate::proxy) fn repeated(&self) -> usize {
        self.repeated.iter().flatten().map(|last| last.coded.len() + last.field.size).sum()
    }
}

#[cfg(any(test, fuzzing))]
impl Decoder {
    /// What the table takes, as it is counted and as it is.
    pub(in crate::proxy) fn sizes(&self) -> (usize, usize) {
        (self.size, self.table.iter().map(|field| field.size).sum())
    }
}
