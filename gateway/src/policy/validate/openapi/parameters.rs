//! Compiles the parameters of operations.

use super::{
    collector::DocumentCollector,
    document::{At, DocumentFault},
};
use crate::{
    policy::validate::{
        body::media::MediaRange,
        parameter::{Coding, Parameter, Parameters, Style},
        schema::set::{SchemaId, Shape},
    },
    refusal::violation::RequestPart,
};

/// Headers that OpenAPI describes elsewhere: parameters of these names say nothing.
const DESCRIBED_ELSEWHERE: [&str; 3] = ["accept", "authorization", "content-type"];

/// Reads the parameters of an operation, and those of its path that it does not replace.
pub(super) fn read<'d>(
    collector: &mut DocumentCollector<'d>,
    item: &At<'d>,
    operation: &At<'d>,
) -> Result<Parameters, DocumentFault> {
    let mut found: Vec<(Parameter, At<'d>)> = Vec::new();
    let mut parameters = Parameters {
        refuses_unknown: !collector.reading.allows_unknown_query,
        known_headers: collector.reading.known_headers.clone(),
        known_cookies: collector.reading.refuses_unknown_cookies.then(Vec::new),
        ..Parameters::default()
    };
    for holder in [item, operation] {
        let of_holder = found.len();
        let Some(list) = holder.get("parameters") else { continue };
        for at in list.elements() {
            let at = collector.documents.resolve(at)?;
            collector.fields(&at, "parameter")?;
            if at.text("in") == Some("querystring") {
                let (coding, schema) = content(collector, &at)?;
                parameters.query = Some((coding, schema, Shape::text()));
                parameters.requires_query = at.is_true("required");
                continue;
            }
            let Some(parameter) = parameter(collector, &at)? else { continue };
            let same = |(other, _): &(Parameter, At<'d>)| {
                let is_header =
                    parameter.part == RequestPart::Header && other.name.eq_ignore_ascii_case(&parameter.name);
                other.part == parameter.part && (is_header || other.name == parameter.name)
            };
            match found.iter().position(same) {
                Some(place) if place >= of_holder => {
                    return Err(collector.fault(&at, format!("the parameter {:?} is there twice", parameter.name)));
                }
                Some(place) => {
                    found.remove(place);
                    found.push((parameter, at));
                }
                None => found.push((parameter, at)),
            }
        }
    }
    parameters.all = found.into_iter().map(|(parameter, _)| parameter).collect();
    Ok(parameters)
}

/// Reads one parameter. `None`: it says nothing.
fn parameter<'d>(collector: &mut DocumentCollector<'d>, at: &At<'d>) -> Result<Option<Parameter>, DocumentFault> {
    let Some(name) = at.text("name").filter(|name| !name.is_empty()) else {
        return Err(collector.fault(at, "a parameter has no name"));
    };
    let part = match at.text("in") {
        Some("cookie") => RequestPart::Cookie,
        Some("header") => RequestPart::Header,
        Some("path") => RequestPart::Path,
        Some("query") => RequestPart::Query,
        Some("body" | "formData") => {
            return Err(collector.fault(at, "parameters of Swagger 2 for bodies are not read: write \"requestBody\""));
        }
        _ => return Err(collector.fault(at, "\"in\" is none of path, query, querystring, header and cookie")),
    };
    if part == RequestPart::Header && DESCRIBED_ELSEWHERE.contains(&name.to_ascii_lowercase().as_str()) {
        return Ok(None);
    }
    named(collector, at, name, part).map(Some)
}

/// Reads a header of a part of a multipart body, which has its name as its key. `None`: it is described elsewhere.
pub(super) fn of_part<'d>(
    collector: &mut DocumentCollector<'d>,
    at: At<'d>,
    name: &str,
) -> Result<Option<Parameter>, DocumentFault> {
    if name.eq_ignore_ascii_case("content-type") {
        return Ok(None);
    }
    let at = collector.documents.resolve(at)?;
    collector.fields(&at, "header")?;
    named(collector, &at, name, RequestPart::Header).map(Some)
}

fn named<'d>(
    collector: &mut DocumentCollector<'d>,
    at: &At<'d>,
    name: &str,
    part: RequestPart,
) -> Result<Parameter, DocumentFault> {
    let (coding, schema) = match (at.get("schema"), at.get("content")) {
        (Some(_), Some(_)) => return Err(collector.fault(at, "a parameter has \"schema\" or \"content\", not both")),
        (None, Some(_)) => {
            let (coding, schema) = content(collector, at)?;
            (coding, Some(schema))
        }
        (schema, None) => {
            if schema.is_none() {
                collector.warn(at, "a parameter has neither \"schema\" nor \"content\": any value passes");
            }
            if let Some(schema) = &schema {
                collector.examples(at, schema);
            }
            (styled(collector, at, part)?, schema.map(|schema| collector.schema(&schema)))
        }
    };
    let may_be_empty = at.is_true("allowEmptyValue");
    if may_be_empty && part != RequestPart::Query {
        collector.warn(at, "\"allowEmptyValue\" has no effect outside of the query");
    }
    let parameter = Parameter {
        name: name.into(),
        part,
        coding,
        is_required: part == RequestPart::Path || at.is_true("required"),
        may_be_empty: may_be_empty && part == RequestPart::Query,
        schema,
        shape: Shape::text(),
    };
    if part == RequestPart::Header && parameter.header().is_none() {
        return Err(collector.fault(at, format!("{name:?} is no name of a header")));
    }
    Ok(parameter)
}

fn styled(collector: &DocumentCollector<'_>, at: &At<'_>, part: RequestPart) -> Result<Coding, DocumentFault> {
    let default = if matches!(part, RequestPart::Query | RequestPart::Cookie) { Style::Form } else { Style::Simple };
    let style = match (at.text("style"), part) {
        (None, _) => default,
        (Some("form"), RequestPart::Query | RequestPart::Cookie) | (Some("cookie"), RequestPart::Cookie) => Style::Form,
        (Some("simple"), RequestPart::Path | RequestPart::Header) => Style::Simple,
        (Some("label"), RequestPart::Path) => Style::Label,
        (Some("matrix"), RequestPart::Path) => Style::Matrix,
        (Some("spaceDelimited"), RequestPart::Query) => Style::SpaceDelimited,
        (Some("pipeDelimited"), RequestPart::Query) => Style::PipeDelimited,
        (Some("deepObject"), RequestPart::Query) => Style::DeepObject,
        (Some(other), part) => {
            return Err(collector.fault(at, format!("there is no style {other:?} in a {}", part.name())));
        }
    };
    let explode = match at.value.get("explode") {
        None => style == Style::Form,
        Some(value) => value.as_bool().ok_or_else(|| collector.fault(at, "\"explode\" is true or false"))?,
    };
    // Exploded, these are what a form is.
    let delimited = matches!(style, Style::SpaceDelimited | Style::PipeDelimited);
    Ok(Coding::Styled { style: if delimited && explode { Style::Form } else { style }, explode })
}

/// The one media type of `content`.
fn content<'d>(collector: &mut DocumentCollector<'d>, at: &At<'d>) -> Result<(Coding, SchemaId), DocumentFault> {
    let wrong = "\"content\" of a parameter has one media type, with a schema";
    let Some(content) = at.get("content") else { return Err(collector.fault(at, wrong)) };
    let mut media = content.members();
    let (Some((range, media)), None) = (media.next(), media.next()) else {
        return Err(collector.fault(&content, wrong));
    };
    let media = collector.documents.resolve(media)?;
    let Some(schema) = media.get("schema") else { return Err(collector.fault(&media, wrong)) };
    let styled = |style| Coding::Styled { style, explode: false };
    let coding = match MediaRange::read(range) {
        Some(range) if range.is_json() => Coding::Json,
        Some(range) if range.is("text", "plain") => styled(Style::Simple),
        Some(range) if range.is("application", "x-www-form-urlencoded") && at.text("in") == Some("querystring") => {
            styled(Style::Form)
        }
        _ => return Err(collector.fault(&media, format!("parameters of the type {range:?} are not read"))),
    };
    Ok((coding, collector.schema(&schema)))
}
