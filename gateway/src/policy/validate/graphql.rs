//! GraphQL: how deep, how large and how dear the queries of a request are, before an upstream runs them.
//!
//! *Invariant:* no document costs more than its length: nesting, tokens and results are limited, fragments are measured once,
//! and numbers saturate.

use std::borrow::Cow;

use http::HeaderValue;
use serde_json::{Map, Value};

use self::{document::GraphqlDocument, measure::Measure};
use crate::{
    json,
    policy::validate::media_type,
    refusal::{Refusal, Reject},
    settings::graphql::GraphqlLimits,
};

mod document;
mod measure;

/// The members of a request that decide what it costs, in upper case.
const MEMBERS: [&str; 3] = ["EXTENSIONS", "QUERY", "VARIABLES"];

/// The longest of them, in bytes, however it is written.
const LONGEST: usize = 16;

/// Judges the queries of a request. `query` is the query of its target.
///
/// # Errors
/// What is over a limit, or cannot be read. The detail holds no value.
pub fn judge(
    limits: &GraphqlLimits,
    query: Option<&str>,
    content_type: Option<&HeaderValue>,
    body: &[u8],
) -> Result<(), Refusal> {
    let target = GraphqlTarget::read(query.unwrap_or_default())?;
    if body.is_empty() {
        return target.judge(limits);
    }
    // Which of the two the upstream takes, nobody knows.
    if target.query.is_some() || target.variables.is_some() || target.extensions.is_some() {
        return Err(malformed("query, variables or extensions in the target beside a body"));
    }
    let is_graphql = content_type.and_then(|value| value.to_str().ok()).is_some_and(|text| {
        text.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/graphql")
    });
    if is_graphql {
        let text = std::str::from_utf8(body).map_err(|_error| malformed("the body is no UTF-8"))?;
        return one(limits, text, &Value::Null);
    }
    media_type::judge(content_type)?;
    match json::parse(body).map_err(|error| malformed(&error.to_string()))? {
        Value::Object(request) => entry(limits, &request),
        Value::Array(batch) => {
            if batch.is_empty() {
                return Err(malformed("no query"));
            }
            let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
            if count > limits.max_batch {
                return Err(over("a batch of queries", u64::from(count), u64::from(limits.max_batch)));
            }
            batch.iter().try_for_each(|request| match request {
                Value::Object(request) => entry(limits, request),
                _ => Err(malformed("a batch holds something else than requests")),
            })
        }
        _ => Err(malformed("the body is no request")),
    }
}

/// What the target of a request asks for.
#[derive(Default)]
struct GraphqlTarget<'a> {
    query: Option<Cow<'a, str>>,
    variables: Option<Cow<'a, str>>,
    extensions: Option<Cow<'a, str>>,
}

impl<'a> GraphqlTarget<'a> {
    /// Reads the query of a target: each of its parameters at most once.
    fn read(query: &'a str) -> Result<Self, Refusal> {
        let mut target = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let place = match &*name {
                "query" => &mut target.query,
                "variables" => &mut target.variables,
                "extensions" => &mut target.extensions,
                name if is_close(name) => return Err(malformed(LOWER_CASE)),
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(malformed("query, variables or extensions twice in the target"));
            }
        }
        Ok(target)
    }

    /// A persisted query has no text here, either.
    fn judge(&self, limits: &GraphqlLimits) -> Result<(), Refusal> {
        let object = |text: &Option<Cow<'_, str>>, why| match text {
            None => Ok(Value::Null),
            Some(text) => json::parse(text.as_bytes()).map_err(|_error| malformed(why)),
        };
        let variables = object(&self.variables, "variables are no JSON")?;
        let extensions = object(&self.extensions, "extensions are no JSON")?;
        match &self.query {
            Some(text) => one(limits, text, &variables),
            None if extensions.is_object() => Ok(()),
            None => Err(malformed("no query")),
        }
    }
}

const LOWER_CASE: &str = "query, variables and extensions are in lower case";

/// Whether a name is one of [`MEMBERS`] in another case. Some upstreams read members (Go) and parameters of targets
/// (ASP.NET) whatever their case.
fn is_close(name: &str) -> bool {
    let is_other = || name.bytes().any(|byte| !byte.is_ascii_lowercase());
    name.len() <= LONGEST && is_other() && MEMBERS.iter().any(|known| name.to_uppercase() == *known)
}

/// One request of a body. A persisted query has no text, and is what the upstream keeps.
fn entry(limits: &GraphqlLimits, request: &Map<String, Value>) -> Result<(), Refusal> {
    if request.keys().any(|key| is_close(key)) {
        return Err(malformed(LOWER_CASE));
    }
    match request.get("query") {
        Some(Value::String(text)) => one(limits, text, request.get("variables").unwrap_or(&Value::Null)),
        None | Some(Value::Null) if request.contains_key("extensions") => Ok(()),
        _ => Err(malformed("a request has no query")),
    }
}

fn one(limits: &GraphqlLimits, text: &str, variables: &Value) -> Result<(), Refusal> {
    if !variables.is_object() && !variables.is_null() {
        return Err(malformed("variables are no object"));
    }
    let document = GraphqlDocument::read(text).map_err(malformed)?;
    let found = Measure::of(&document, variables).map_err(malformed)?;
    for (what, found, most) in [
        ("depth", found.depth, limits.max_depth),
        ("aliases", found.aliases, limits.max_aliases),
        ("cost", found.cost, limits.max_cost),
    ] {
        if found > u64::from(most) {
            return Err(over(what, found, u64::from(most)));
        }
    }
    if found.introspects && !limits.introspection {
        return Err(Refusal::new(Reject::Forbidden, "graphql: introspection is off"));
    }
    Ok(())
}

fn malformed(why: &str) -> Refusal {
    Refusal::new(Reject::BadRequest, format!("graphql: {why}"))
}

fn over(what: &str, found: u64, most: u64) -> Refusal {
    Refusal::new(Reject::BodyTooComplex, format!("graphql: {what} {found}, at most {most}"))
}

#[cfg(test)]
mod tests;
