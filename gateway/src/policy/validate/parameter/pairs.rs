//! Names and values in queries, forms and cookies.

use std::{borrow::Cow, collections::HashMap};

use http::{HeaderMap, header};

use super::decode::{ParameterError, decode};

/// The most pairs of one query, form or set of cookies.
const MOST_PAIRS: usize = 1_000;

/// One name with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy::validate) struct Pair<'a> {
    /// Decoded.
    pub(in crate::policy::validate) name: Cow<'a, str>,
    /// As it came: separators stand out before it is decoded.
    pub(in crate::policy::validate) text: &'a str,
    /// Whether `+` is a space.
    pub(in crate::policy::validate) is_form: bool,
}

/// The pairs of a query, or of a body of the type `application/x-www-form-urlencoded`.
pub(in crate::policy::validate) fn of_query(query: &str) -> Result<Vec<Pair<'_>>, ParameterError> {
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        if pairs.len() == MOST_PAIRS {
            return Err(ParameterError::new("count", "must have at most 1000 parameters"));
        }
        let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
        let name = if name.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
            Cow::Owned(decode(name, true)?)
        } else {
            Cow::Borrowed(name)
        };
        pairs.push(Pair { name, text, is_form: true });
    }
    Ok(pairs)
}

/// The cookies of a request. What has no `=` has no name, and is skipped.
pub(in crate::policy::validate) fn of_cookies(headers: &HeaderMap) -> Result<Vec<Pair<'_>>, ParameterError> {
    let mut pairs = Vec::new();
    for line in headers.get_all(header::COOKIE) {
        let line = line.to_str().map_err(|_other| ParameterError::new("encoding", "must be ASCII"))?;
        for cookie in line.split(';') {
            let Some((name, text)) = cookie.trim_matches(' ').split_once('=') else { continue };
            if pairs.len() == MOST_PAIRS {
                return Err(ParameterError::new("count", "must have at most 1000 cookies"));
            }
            pairs.push(Pair { name: Cow::Borrowed(name.trim_end()), text: text.trim(), is_form: false });
        }
    }
    Ok(pairs)
}

/// Texts by name, each name once, in the order in which they came.
pub(super) fn grouped<'a>(pairs: &'a [Pair<'_>]) -> Vec<(&'a str, Vec<&'a Pair<'a>>)> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut groups: Vec<(&str, Vec<&Pair<'_>>)> = Vec::new();
    for pair in pairs {
        let place = *places.entry(&pair.name).or_insert(groups.len());
        match groups.get_mut(place) {
            Some((_, group)) => group.push(pair),
            None => groups.push((&pair.name, vec![pair])),
        }
    }
    groups
}
