//! How parameters are written: the styles of OpenAPI, which are those of RFC 6570.

use std::collections::HashSet;

use http::HeaderMap;

use super::{
    decode::{ParameterError, decode},
    definition::{Coding, Parameter, Style, deep_member, is_deep},
    pairs::{Pair, grouped},
};
use crate::policy::validate::schema::set::Shape;

/// What was read of a parameter, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy::validate) enum Texts {
    /// A text that is JSON.
    Json(String),
    /// The elements of an array.
    List(Vec<Self>),
    /// The members of an object, each name once.
    Members(Vec<(String, Self)>),
    /// A text.
    One(String),
}

impl Texts {
    /// Whether there is no value.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Json(text) | Self::One(text) => text.is_empty(),
            Self::List(list) => list.is_empty() || matches!(list.as_slice(), [one] if one.is_empty()),
            Self::Members(members) => members.is_empty(),
        }
    }
}

/// What a value is read as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Array,
    Object,
    One,
}

/// What a text is read as that may have parts, `count` of them.
fn kind(shape: &Shape, count: usize) -> Kind {
    let takes_one = shape.takes_texts() || shape.takes_numbers() || shape.takes_booleans();
    if shape.takes_arrays() && (count != 1 || !takes_one) {
        Kind::Array
    } else if shape.takes_objects() && (count != 1 || !takes_one) {
        Kind::Object
    } else {
        Kind::One
    }
}

/// Reads a parameter of the path from its segment.
pub(super) fn of_path(parameter: &Parameter, text: &str) -> Result<Texts, ParameterError> {
    let Coding::Styled { style, explode } = parameter.coding else { return Ok(Texts::Json(decode(text, false)?)) };
    let style_is = ParameterError::new("style", "must be written in the style of the parameter");
    let (text, separator) = match style {
        Style::Label => (text.strip_prefix('.').ok_or(style_is)?, if explode { '.' } else { ',' }),
        Style::Matrix => {
            let text = text.strip_prefix(';').ok_or(style_is.clone())?;
            if explode {
                return exploded_matrix(parameter, text);
            }
            let (name, text) = text.split_once('=').unwrap_or((text, ""));
            if name != &*parameter.name {
                return Err(style_is);
            }
            (text, ',')
        }
        _ => (text, ','),
    };
    separated(&parameter.shape, text, separator, explode, false)
}

fn exploded_matrix(parameter: &Parameter, text: &str) -> Result<Texts, ParameterError> {
    let mut pairs = Vec::new();
    for part in text.split(';') {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        pairs.push((decode(name, false)?, decode(value, false)?));
    }
    let is_own = pairs.iter().all(|(name, _)| **name == *parameter.name);
    match kind(&parameter.shape, pairs.len()) {
        Kind::Object => members(pairs.into_iter().map(|(name, value)| (name, Texts::One(value))).collect()),
        Kind::Array if is_own => Ok(Texts::List(pairs.into_iter().map(|(_, value)| Texts::One(value)).collect())),
        Kind::One if is_own && pairs.len() == 1 => {
            Ok(Texts::One(pairs.into_iter().map(|(_, value)| value).next().unwrap_or_default()))
        }
        _ => Err(ParameterError::new("style", "must be written in the style of the parameter")),
    }
}

/// Reads a parameter in headers: of several lines, one list.
pub(in crate::policy::validate) fn of_header(
    parameter: &Parameter,
    headers: &HeaderMap,
) -> Result<Option<Texts>, ParameterError> {
    let Some(name) = parameter.header() else { return Ok(None) };
    let mut lines = Vec::new();
    for line in headers.get_all(name) {
        lines.push(line.to_str().map_err(|_other| ParameterError::new("encoding", "must be ASCII"))?);
    }
    if lines.is_empty() {
        return Ok(None);
    }
    let text = lines.join(",");
    match parameter.coding {
        Coding::Json => Ok(Some(Texts::Json(text))),
        Coding::Styled { explode, .. } => match kind(&parameter.shape, 2) {
            Kind::One if lines.len() > 1 => Err(ParameterError::new("once", "must be there once")),
            Kind::One => Ok(Some(Texts::One(text))),
            _ => {
                let parts: Vec<&str> = text.split(',').map(|part| part.trim_matches([' ', '\t'])).collect();
                parts_of(&parameter.shape, &parts, explode, &|part| Ok(part.to_owned())).map(Some)
            }
        },
    }
}

/// Reads a parameter from pairs: of the query, a form or cookies. `is_own`: names that are other parameters.
pub(in crate::policy::validate) fn of_pairs(
    parameter: &Parameter,
    pairs: &[Pair<'_>],
    is_own: &dyn Fn(&str) -> bool,
) -> Result<Option<Texts>, ParameterError> {
    let shape = &parameter.shape;
    let once = ParameterError::new("once", "must be there once");
    let (style, explode) = match parameter.coding {
        Coding::Styled { style, explode } => (style, explode),
        Coding::Json => {
            let mut found = pairs.iter().filter(|pair| *pair.name == *parameter.name);
            let Some(pair) = found.next() else { return Ok(None) };
            let text = decode(pair.text, pair.is_form)?;
            return if found.next().is_some() { Err(once) } else { Ok(Some(Texts::Json(text))) };
        }
    };
    if style == Style::DeepObject {
        return deep_object(parameter, pairs);
    }
    if parameter.is_spread() {
        let own: Vec<Pair<'_>> =
            pairs.iter().filter(|pair| !is_own(&pair.name) && shape.member(&pair.name).is_some()).cloned().collect();
        return if own.is_empty() { Ok(None) } else { object_of_pairs(&own, shape).map(Some) };
    }
    let found: Vec<&Pair<'_>> = pairs.iter().filter(|pair| *pair.name == *parameter.name).collect();
    let Some(first) = found.first() else { return Ok(None) };
    if explode && style == Style::Form {
        return match kind(shape, found.len()) {
            Kind::Array => {
                let texts = found.iter().map(|pair| Ok(Texts::One(decode(pair.text, pair.is_form)?)));
                Ok(Some(Texts::List(texts.collect::<Result<_, ParameterError>>()?)))
            }
            _ if found.len() > 1 => Err(once),
            _ => Ok(Some(Texts::One(decode(first.text, first.is_form)?))),
        };
    }
    if found.len() > 1 {
        return Err(once);
    }
    let text = match style {
        // The separator comes encoded, or as `+`.
        Style::SpaceDelimited => first.text.replace("%20", "+"),
        Style::PipeDelimited => first.text.replace("%7C", "|").replace("%7c", "|"),
        _ => first.text.to_owned(),
    };
    let separator = match style {
        Style::SpaceDelimited => '+',
        Style::PipeDelimited => '|',
        _ => ',',
    };
    separated(shape, &text, separator, false, first.is_form).map(Some)
}

/// Reads an object whose members are pairs, each by its own shape.
pub(in crate::policy::validate) fn object_of_pairs(pairs: &[Pair<'_>], shape: &Shape) -> Result<Texts, ParameterError> {
    let mut read = Vec::new();
    for (name, group) in grouped(pairs) {
        let texts = group.iter().map(|pair| Ok(Texts::One(decode(pair.text, pair.is_form)?)));
        let mut texts = texts.collect::<Result<Vec<_>, ParameterError>>()?;
        let is_list = shape.member(name).is_some_and(|member| kind(member, texts.len()) == Kind::Array);
        let value = match texts.pop() {
            Some(one) if texts.is_empty() && !is_list => one,
            Some(last) if is_list => {
                texts.push(last);
                Texts::List(texts)
            }
            _ => return Err(ParameterError::new("once", "must have each member once")),
        };
        read.push((name.to_owned(), value));
    }
    Ok(Texts::Members(read))
}

fn deep_object(parameter: &Parameter, pairs: &[Pair<'_>]) -> Result<Option<Texts>, ParameterError> {
    let own: Vec<Pair<'_>> = pairs
        .iter()
        .filter_map(|pair| {
            let name = deep_member(&parameter.name, &pair.name)?;
            Some(Pair { name: name.to_owned().into(), text: pair.text, is_form: pair.is_form })
        })
        .collect();
    // Written in another style, it is not read as absent, nor as what it is not.
    if pairs.iter().filter(|pair| is_deep(&parameter.name, &pair.name)).count() > own.len() {
        return Err(ParameterError::new("style", "must be written as name[member]=value"));
    }
    if own.is_empty() {
        return Ok(None);
    }
    object_of_pairs(&own, &parameter.shape).map(Some)
}

/// Reads a text whose parts have a separator between them.
fn separated(
    shape: &Shape,
    text: &str,
    separator: char,
    explode: bool,
    is_form: bool,
) -> Result<Texts, ParameterError> {
    let count = text.split(separator).count();
    if kind(shape, count) == Kind::One {
        return Ok(Texts::One(decode(text, is_form)?));
    }
    let parts: Vec<&str> = if text.is_empty() { Vec::new() } else { text.split(separator).collect() };
    parts_of(shape, &parts, explode, &|part| decode(part, is_form))
}

fn parts_of(
    shape: &Shape,
    parts: &[&str],
    explode: bool,
    decode: &dyn Fn(&str) -> Result<String, ParameterError>,
) -> Result<Texts, ParameterError> {
    if kind(shape, 2) == Kind::Array {
        let texts = parts.iter().map(|part| Ok(Texts::One(decode(part)?)));
        return Ok(Texts::List(texts.collect::<Result<_, ParameterError>>()?));
    }
    let wrong = ParameterError::new("style", "must be pairs of a name and a value");
    let mut read = Vec::new();
    if explode {
        for part in parts {
            let (name, value) = part.split_once('=').ok_or(wrong.clone())?;
            read.push((decode(name)?, Texts::One(decode(value)?)));
        }
    } else {
        for pair in parts.chunks(2) {
            let [name, value] = pair else { return Err(wrong) };
            read.push((decode(name)?, Texts::One(decode(value)?)));
        }
    }
    members(read)
}

fn members(read: Vec<(String, Texts)>) -> Result<Texts, ParameterError> {
    let mut names = HashSet::new();
    if !read.iter().all(|(name, _)| names.insert(name.as_str())) {
        return Err(ParameterError::new("once", "must have each member once"));
    }
    Ok(Texts::Members(read))
}
