//! Holds one JSON text in a few flat tables, so that the memory it takes is in proportion to the text.
//!
//! *Invariant:* what is read is what [`json::parse`](super::parse) reads, by the same rules and limits.

use std::cmp::Ordering;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use super::{
    JsonError, MAX_DEPTH, MAX_VALUES,
    decimal::{self, Decimal, Valued, compare_numbers},
    number_text::{NumberText, numbers},
};

#[cfg(test)]
mod tests;

/// Says that an [`Id`] means the name of a member, not its value.
const NAME: u32 = 1 << 31;

/// One JSON text, read.
#[derive(Debug, Default)]
pub struct JsonDocument {
    /// Every string and every name of a member, one behind the other. Then the digits of what is `written`.
    text: String,
    /// Every value, each behind the one that holds it.
    values: Vec<Stored>,
    /// The elements of each array, in order, and the members of each object, by name.
    children: Vec<Id>,
    /// Numbers that a float does not keep: `1.0000000000000000000001`. In order.
    written: Vec<WrittenNumber>,
}

/// A number as it is written.
#[derive(Debug)]
struct WrittenNumber {
    id: Id,
    is_negative: bool,
    digits: Span,
    point: i64,
    /// Whether it has neither a point nor an exponent.
    is_integer: bool,
}

/// Which value of a [`JsonDocument`], or which name of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u32);

/// A value, as it is looked at.
#[derive(Clone, Copy, Debug)]
pub enum JsonView<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(&'a Number),
    /// A string, or the name of a member.
    Text(&'a str),
    /// The elements, in order.
    Array(&'a [Id]),
    /// The members, by name.
    Object(&'a [Id]),
}

#[derive(Debug)]
struct Stored {
    parent: Id,
    /// Of a member of an object.
    name: Span,
    value: StoredValue,
}

#[derive(Debug)]
enum StoredValue {
    Null,
    Bool(bool),
    Number(Number),
    Text(Span),
    Array(Span),
    Object(Span),
}

/// A part of a table.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn of<T>(self, table: &[T]) -> &[T] {
        table.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

impl Id {
    /// The value of the whole text.
    pub const ROOT: Self = Self(0);

    /// The name of the member whose value this is.
    #[must_use]
    pub const fn name(self) -> Self {
        Self(self.0 | NAME)
    }
}

impl JsonDocument {
    /// Reads one JSON text.
    ///
    /// # Errors
    /// Anything but exactly one value within the limits and without duplicate members.
    pub fn parse(bytes: &[u8]) -> Result<Self, JsonError> {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let mut building = Building::default();
        DocumentReader { building: &mut building, depth: 0, parent: Id::ROOT, name: Span::default() }
            .deserialize(&mut deserializer)?;
        deserializer.end()?;
        if building.has_tiny || building.has_float && decimal::may_be_long(bytes) {
            building.keep_written(bytes)?;
        }
        Ok(building.document)
    }

    /// How many values it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether nothing was read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Looks at a value, or at the name of a member.
    #[must_use]
    pub fn view(&self, id: Id) -> JsonView<'_> {
        if id.0 & NAME != 0 {
            return JsonView::Text(self.name(id));
        }
        match self.stored(id).map(|stored| &stored.value) {
            None | Some(StoredValue::Null) => JsonView::Null,
            Some(StoredValue::Bool(value)) => JsonView::Bool(*value),
            Some(StoredValue::Number(number)) => JsonView::Number(number),
            Some(StoredValue::Text(span)) => JsonView::Text(self.text(*span)),
            Some(StoredValue::Array(span)) => JsonView::Array(span.of(&self.children)),
            Some(StoredValue::Object(span)) => JsonView::Object(span.of(&self.children)),
        }
    }

    /// Whether a value is a whole number, as it was written: `1.0` and `1e3` are, too (JSON Schema 2020-12, 6.1.1).
    #[must_use]
    pub fn is_whole(&self, id: Id) -> bool {
        let Some((number, written)) = self.number(id) else { return false };
        let is_round = || number.as_f64().is_some_and(|value| value.fract() == 0.0);
        !number.is_f64() || written.map_or_else(is_round, |decimal| decimal.is_whole())
    }

    /// Whether a value is a number without a point and an exponent.
    #[must_use]
    pub fn is_integer(&self, id: Id) -> bool {
        let is_kept = self.number(id).is_some_and(|(number, _)| !number.is_f64());
        is_kept || self.written(id).is_some_and(|written| written.is_integer)
    }

    /// A number, exactly.
    #[must_use]
    pub fn number(&self, id: Id) -> Option<Valued<'_>> {
        let Some(StoredValue::Number(number)) = self.stored(id).map(|stored| &stored.value) else { return None };
        let written = self.written(id).map(|written| Decimal {
            is_negative: written.is_negative,
            digits: self.text(written.digits).as_bytes(),
            point: written.point,
        });
        Some((number, written))
    }

    fn written(&self, id: Id) -> Option<&WrittenNumber> {
        let place = self.written.binary_search_by_key(&id, |written| written.id).ok()?;
        self.written.get(place)
    }

    /// The name of a member.
    #[must_use]
    pub fn name(&self, id: Id) -> &str {
        self.stored(id).map_or("", |stored| self.text(stored.name))
    }

    /// The member of that name among the members of one object.
    #[must_use]
    pub fn member(&self, members: &[Id], name: &str) -> Option<Id> {
        let place = members.binary_search_by(|member| self.name(*member).cmp(name)).ok()?;
        members.get(place).copied()
    }

    /// Where a value is: a JSON pointer (RFC 6901), cut once it is over `most` bytes.
    #[must_use]
    pub fn place(&self, id: Id, most: usize) -> String {
        let mut steps = Vec::new();
        let mut at = Id(id.0 & !NAME);
        while at != Id::ROOT {
            steps.push(at);
            at = self.stored(at).map_or(Id::ROOT, |stored| stored.parent);
        }
        let mut place = String::new();
        for step in steps.into_iter().rev() {
            place.push('/');
            let parent = self.stored(step).map_or(Id::ROOT, |stored| stored.parent);
            match self.view(parent) {
                JsonView::Array(elements) => {
                    let index = elements.iter().position(|element| *element == step).unwrap_or_default();
                    place.push_str(&index.to_string());
                }
                _ => place.push_str(&self.name(step).replace('~', "~0").replace('/', "~1")),
            }
            if place.len() > most {
                place.truncate(place.floor_char_boundary(most));
                break;
            }
        }
        place
    }

    fn stored(&self, id: Id) -> Option<&Stored> {
        self.values.get((id.0 & !NAME) as usize)
    }

    fn text(&self, span: Span) -> &str {
        self.text.get(span.start as usize..span.end as usize).unwrap_or_default()
    }
}

/// Puts values of two documents into an order in which those that JSON Schema holds equal are equal: numbers by what
/// they are worth, objects whatever the order of their members. Takes as long as the smaller one is, and adds that to
/// `work`: one for a value, and for 64 bytes of text.
#[must_use]
pub fn compare(left: (&JsonDocument, Id), right: (&JsonDocument, Id), work: &mut u64) -> Ordering {
    *work += 1;
    match (left.0.view(left.1), right.0.view(right.1)) {
        (JsonView::Bool(one), JsonView::Bool(other)) => one.cmp(&other),
        (JsonView::Number(_), JsonView::Number(_)) => {
            let (Some(one), Some(other)) = (left.0.number(left.1), right.0.number(right.1)) else {
                return Ordering::Equal;
            };
            let digits = |it: Valued<'_>| it.1.map_or(0, |decimal| decimal.len());
            *work += digits(one).min(digits(other)) as u64 / 64;
            compare_numbers(one, other)
        }
        (JsonView::Text(one), JsonView::Text(other)) => compare_texts(one, other, work),
        (JsonView::Array(one), JsonView::Array(other)) => {
            for (one, other) in one.iter().zip(other) {
                let order = compare((left.0, *one), (right.0, *other), work);
                if order.is_ne() {
                    return order;
                }
            }
            one.len().cmp(&other.len())
        }
        (JsonView::Object(one), JsonView::Object(other)) => {
            for (one, other) in one.iter().zip(other) {
                let names = compare_texts(left.0.name(*one), right.0.name(*other), work);
                let order = names.then_with(|| compare((left.0, *one), (right.0, *other), work));
                if order.is_ne() {
                    return order;
                }
            }
            one.len().cmp(&other.len())
        }
        (one, other) => rank(one).cmp(&rank(other)),
    }
}

fn compare_texts(left: &str, right: &str, work: &mut u64) -> Ordering {
    *work += left.len().min(right.len()) as u64 / 64;
    left.cmp(right)
}

const fn rank(view: JsonView<'_>) -> u8 {
    match view {
        JsonView::Null => 0,
        JsonView::Bool(_) => 1,
        JsonView::Number(_) => 2,
        JsonView::Text(_) => 3,
        JsonView::Array(_) => 4,
        JsonView::Object(_) => 5,
    }
}

/// What is read so far.
#[derive(Default)]
struct Building {
    document: JsonDocument,
    /// The children read so far of everything that is not at its end.
    open: Vec<Id>,
    /// Whether a number was read that is a float.
    has_float: bool,
    /// Whether one was that may have lost digits however short it is.
    has_tiny: bool,
}

impl Building {
    fn add_text<E: serde::de::Error>(&mut self, text: &str) -> Result<Span, E> {
        let start = index(self.document.text.len())?;
        self.document.text.push_str(text);
        Ok(Span { start, end: index(self.document.text.len())? })
    }

    /// Moves the children that were read since there were `before` to their table.
    fn close<E: serde::de::Error>(&mut self, before: usize) -> Result<Span, E> {
        let start = index(self.document.children.len())?;
        self.document.children.extend(self.open.drain(before..));
        Ok(Span { start, end: index(self.document.children.len())? })
    }

    /// Keeps the numbers that floats do not keep. The text has its numbers in the order of the values.
    fn keep_written(&mut self, bytes: &[u8]) -> Result<(), JsonError> {
        let JsonDocument { text, values, written, .. } = &mut self.document;
        let stored = (0..).zip(&*values).filter_map(|(at, stored)| match &stored.value {
            StoredValue::Number(number) => Some((Id(at), number)),
            _ => None,
        });
        for ((id, number), bytes) in stored.zip(numbers(bytes)) {
            let Some(value) = number.as_f64().filter(|_| number.is_f64()) else { continue };
            let number = NumberText::of(bytes);
            let (leading, digits, point) = number.significant();
            if decimal::keeps(value, digits) && !number.is_integer {
                continue;
            }
            let start = index::<serde_json::Error>(text.len())?;
            text.extend(number.digits().skip(leading).take(digits).map(char::from));
            let digits = Span { start, end: index::<serde_json::Error>(text.len())? };
            let NumberText { is_negative, is_integer, .. } = number;
            written.push(WrittenNumber { id, is_negative, digits, point, is_integer });
        }
        Ok(())
    }
}

fn index<E: serde::de::Error>(length: usize) -> Result<u32, E> {
    u32::try_from(length).map_err(|_too_large| E::custom("too large"))
}

/// Reads one value at some depth.
struct DocumentReader<'a> {
    building: &'a mut Building,
    depth: usize,
    parent: Id,
    name: Span,
}

impl DocumentReader<'_> {
    fn put<E: serde::de::Error>(&mut self, value: StoredValue) -> Result<Id, E> {
        let values = &mut self.building.document.values;
        if values.len() >= MAX_VALUES {
            return Err(E::custom("too many values"));
        }
        let id = Id(index(values.len())?);
        values.push(Stored { parent: self.parent, name: self.name, value });
        Ok(id)
    }

    fn open<E: serde::de::Error>(&mut self) -> Result<(Id, usize), E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom("nested too deeply"));
        }
        Ok((self.put(StoredValue::Null)?, self.building.open.len()))
    }

    fn below(&mut self, parent: Id, name: Span) -> DocumentReader<'_> {
        DocumentReader { building: self.building, depth: self.depth + 1, parent, name }
    }

    fn set(&mut self, id: Id, value: StoredValue) -> Id {
        if let Some(stored) = self.building.document.values.get_mut(id.0 as usize) {
            stored.value = value;
        }
        id
    }
}

impl<'de> DeserializeSeed<'de> for DocumentReader<'_> {
    type Value = Id;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Id, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for DocumentReader<'_> {
    type Value = Id;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(mut self) -> Result<Id, E> {
        self.put(StoredValue::Null)
    }

    fn visit_bool<E: serde::de::Error>(mut self, value: bool) -> Result<Id, E> {
        self.put(StoredValue::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(mut self, value: i64) -> Result<Id, E> {
        self.put(StoredValue::Number(value.into()))
    }

    fn visit_u64<E: serde::de::Error>(mut self, value: u64) -> Result<Id, E> {
        self.put(StoredValue::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(mut self, value: f64) -> Result<Id, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("number out of range"))?;
        self.building.has_float = true;
        self.building.has_tiny |= decimal::is_tiny(value);
        self.put(StoredValue::Number(number))
    }

    fn visit_str<E: serde::de::Error>(mut self, value: &str) -> Result<Id, E> {
        let span = self.building.add_text(value)?;
        self.put(StoredValue::Text(span))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<Id, A::Error> {
        let (array, before) = self.open()?;
        while let Some(element) = elements.next_element_seed(self.below(array, Span::default()))? {
            self.building.open.push(element);
        }
        let span = self.building.close(before)?;
        Ok(self.set(array, StoredValue::Array(span)))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Id, A::Error> {
        let (object, before) = self.open()?;
        while let Some(name) = members.next_key_seed(NameReader(self.building))? {
            let member = members.next_value_seed(self.below(object, name))?;
            self.building.open.push(member);
        }
        let Building { document, open, .. } = &mut *self.building;
        let members = open.get_mut(before..).unwrap_or_default();
        members.sort_unstable_by(|one, other| document.name(*one).cmp(document.name(*other)));
        if members.windows(2).any(|pair| matches!(pair, [one, other] if document.name(*one) == document.name(*other))) {
            return Err(A::Error::custom("duplicate member"));
        }
        let span = self.building.close(before)?;
        Ok(self.set(object, StoredValue::Object(span)))
    }
}

/// Reads the name of a member.
struct NameReader<'a>(&'a mut Building);

impl<'de> DeserializeSeed<'de> for NameReader<'_> {
    type Value = Span;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Span, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameReader<'_> {
    type Value = Span;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Span, E> {
        self.0.add_text(name)
    }
}
