//! Compiles what bodies of one media type must be.

use serde_json::Value;

use super::{
    collector::{DocumentCollector, Version},
    document::{At, DocumentFault},
    files::{self, Occurrence},
    parameters,
};
use crate::{
    policy::validate::{
        body::{Content, field::FormField, media::MediaRange},
        parameter::{Coding, Parameter, Style},
        schema::set::{SchemaSet, Shape},
    },
    refusal::violation::RequestPart,
};

/// How many schemas within one another the fields of a form are looked for in.
const MOST_DEPTH: usize = 8;

/// The media types of a body so far.
#[derive(Default)]
pub(super) struct Contents<'d>(Vec<(MediaRange, Content, At<'d>)>);

impl<'d> Contents<'d> {
    /// The most exact first.
    ///
    /// # Errors
    /// A body could be of two that say different things.
    pub(super) fn sorted(self, collector: &DocumentCollector<'d>) -> Result<Vec<(MediaRange, Content)>, DocumentFault> {
        let keys: Vec<(&MediaRange, &Value)> = self.0.iter().map(|(range, _, at)| (range, at.value)).collect();
        let ranges = ranges(&keys).map_err(|Ambiguous(index)| match self.0.get(index) {
            Some((_, _, at)) => collector.fault(at, AMBIGUOUS),
            None => collector.documents.fault_at(0, "", AMBIGUOUS),
        })?;
        let mut all: Vec<(MediaRange, Content)> =
            ranges.into_iter().zip(self.0).filter_map(|(range, (_, content, _))| Some((range?, content))).collect();
        all.sort_by_key(|(range, _)| range.openness());
        Ok(all)
    }
}

/// What is wrong with keys of `content` that nothing tells apart.
pub(super) const AMBIGUOUS: &str =
    "a body of this type can also be of another key of `content`, which says something else of it";

/// A key, by its place, that a body can be of as well as of another that says something else of it.
pub(super) struct Ambiguous(pub(super) usize);

/// What the keys of a `content` mean, with what each says. `None`: another says the same. Parameters count only where
/// they tell keys apart: clients leave them out.
///
/// # Errors
/// The first key that nothing tells from another.
pub(super) fn ranges(keys: &[(&MediaRange, &Value)]) -> Result<Vec<Option<MediaRange>>, Ambiguous> {
    const SAYS: [&str; 5] = ["encoding", "itemEncoding", "itemSchema", "prefixEncoding", "schema"];
    let is_same = |one: &Value, other: &Value| SAYS.iter().all(|field| one.get(field) == other.get(field));
    let mut found: Vec<Option<MediaRange>> = Vec::new();
    for (index, (range, says)) in keys.iter().enumerate() {
        let plain = &range.without_parameters();
        let of_type = || keys.iter().enumerate().filter(|(_, (other, _))| other.without_parameters() == *plain);
        if of_type().all(|(_, (_, others))| is_same(says, others)) {
            let is_first = of_type().next().is_some_and(|(first, _)| first == index);
            found.push(is_first.then(|| plain.clone()));
            continue;
        }
        let mut before = of_type().filter(|(other, _)| *other < index);
        let is_unclear = |(_, (other, others)): (usize, &(&MediaRange, &Value))| {
            range.overlaps(other) && range.covers(other) == other.covers(range) && !is_same(says, others)
        };
        if before.any(is_unclear) {
            return Err(Ambiguous(index));
        }
        found.push(Some((*range).clone()));
    }
    Ok(found)
}

/// Reads one media type of a request body.
pub(super) fn read<'d>(
    collector: &mut DocumentCollector<'d>,
    text: &str,
    at: &At<'d>,
    contents: &mut Contents<'d>,
) -> Result<(), DocumentFault> {
    collector.fields(at, "media type")?;
    let Some(range) = MediaRange::read_key(text) else {
        return Err(collector.fault(at, format!("{text:?} is no media type")));
    };
    for field in ["itemEncoding", "prefixEncoding"] {
        if let Some(at) = at.get(field) {
            collector.warn(&at, format!("{field:?} is not read: what it says of parts is not checked"));
        }
    }
    let content = of(collector, text, &range, at)?;
    contents.0.push((range, content, at.clone()));
    Ok(())
}

fn of<'d>(
    collector: &mut DocumentCollector<'d>,
    text: &str,
    range: &MediaRange,
    at: &At<'d>,
) -> Result<Content, DocumentFault> {
    let schema = at.get("schema");
    let is_form = range.is("application", "x-www-form-urlencoded");
    let is_multipart = range.is("multipart", "form-data");
    if let Some(items) = at.get("itemSchema") {
        if range.is_json_lines() {
            return Ok(Content::JsonLines(collector.schema(&items)));
        }
        if range.is_json_sequence() {
            return Ok(Content::JsonSequence(collector.schema(&items)));
        }
        let message = format!("\"itemSchema\" of {text:?} is not read: of JSON lines and sequences it is");
        return Err(collector.fault(&items, message));
    }
    if range.is_json() {
        if let Some(schema) = &schema {
            collector.examples(at, schema);
        }
        return Ok(Content::Json(schema.map(|schema| collector.schema(&schema))));
    }
    let Some(schema) = schema else {
        if is_form || is_multipart {
            collector.warn(at, format!("{text:?} has no schema: any body passes"));
        }
        return Ok(Content::Opaque);
    };
    let resolved = collector.documents.resolve(schema.clone())?;
    if is_form || is_multipart {
        let fields = fields(collector, at, &schema, is_multipart)?;
        let files = fields.iter().filter(|field| field.is_file).map(|field| field.parameter.name.clone()).collect();
        let (schema, shape) = (collector.schema_of_parts(&schema, files), Shape::text());
        return Ok(match is_form {
            true => Content::Form { schema, fields, shape, most: usize::MAX },
            false => Content::Multipart { schema, fields, shape, most: usize::MAX },
        });
    }
    let whole = Occurrence { at: schema.clone(), is_alternative: false };
    if let Some(limits) = files::limits(collector, &[whole], false)? {
        return Ok(if limits.lengths.is_any() { Content::Opaque } else { Content::File(limits) });
    }
    if range.is_text() && !range.is_xml() && resolved.text("type") == Some("string") {
        return Ok(Content::Text(collector.schema(&schema)));
    }
    if collector.reading.unvalidated.iter().any(|passes| passes.eq_ignore_ascii_case(text)) {
        return Ok(Content::Opaque);
    }
    collector.warn(at, format!("bodies of the type {text:?} cannot be judged: they are refused with 415"));
    Ok(Content::Unsupported)
}

/// The members of a form or the parts of a multipart body that have a name.
fn fields<'d>(
    collector: &mut DocumentCollector<'d>,
    media: &At<'d>,
    schema: &At<'d>,
    is_multipart: bool,
) -> Result<Vec<FormField>, DocumentFault> {
    let mut found = Vec::new();
    let whole = Occurrence { at: schema.clone(), is_alternative: false };
    named(collector, whole, MOST_DEPTH, &mut found);
    let fields = found.iter().map(|(name, occurrences)| {
        let encoding = media.get("encoding").and_then(|encoding| encoding.get(name));
        field(collector, name, occurrences, encoding, is_multipart)
    });
    fields.collect()
}

/// The schemas of each member that has a name, by the schema of an object and those that it is made of.
fn named<'d>(
    collector: &DocumentCollector<'d>,
    holder: Occurrence<'d>,
    depth: usize,
    found: &mut Vec<(&'d str, Vec<Occurrence<'d>>)>,
) {
    let Some(depth) = depth.checked_sub(1) else { return };
    let Occurrence { at: holder, is_alternative } = holder;
    // What leads nowhere is told when it is compiled.
    let target = holder.text("$ref").and_then(|to| collector.documents.look_up(&holder, to).ok());
    if let Some(at) = target {
        named(collector, Occurrence { at, is_alternative }, depth, found);
        // In OpenAPI 3.0 a reference is all that counts.
        if collector.version == Version::V3_0 {
            return;
        }
    }
    for (name, at) in holder.get("properties").into_iter().flat_map(|properties| properties.members()) {
        let occurrence = Occurrence { at, is_alternative };
        match found.iter_mut().find(|(known, _)| *known == name) {
            Some((_, occurrences)) => occurrences.push(occurrence),
            None => found.push((name, vec![occurrence])),
        }
    }
    for (keyword, is_choice) in [("allOf", false), ("anyOf", true), ("oneOf", true)] {
        for at in holder.get(keyword).into_iter().flat_map(|parts| parts.elements()) {
            named(collector, Occurrence { at, is_alternative: is_alternative || is_choice }, depth, found);
        }
    }
}

fn field<'d>(
    collector: &mut DocumentCollector<'d>,
    name: &str,
    occurrences: &[Occurrence<'d>],
    encoding: Option<At<'d>>,
    is_multipart: bool,
) -> Result<FormField, DocumentFault> {
    let mut holds_objects = false;
    for Occurrence { at, .. } in occurrences {
        let at = collector.documents.resolve(at.clone())?;
        let items = at.get("items").map(|items| collector.documents.resolve(items)).transpose()?;
        let is_object = |at: &At<'_>| at.text("type") == Some("object") || at.value.get("properties").is_some();
        holds_objects |= is_object(&at) || items.as_ref().is_some_and(is_object);
    }
    let mut coding = if holds_objects && (is_multipart || collector.version > Version::V3_0) {
        Coding::Json
    } else {
        Coding::Styled { style: Style::Form, explode: true }
    };
    let (mut types, mut headers) = (Vec::new(), Vec::new());
    if let Some(encoding) = encoding {
        collector.fields(&encoding, "encoding")?;
        for (name, at) in encoding.get("headers").into_iter().flat_map(|headers| headers.members()) {
            if is_multipart {
                headers.extend(parameters::of_part(collector, at, name)?);
            } else {
                collector.warn(&at, "a field of a form has no headers: it is ignored");
            }
        }
        let declared = encoding.text("contentType").unwrap_or_default();
        for text in declared.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            let range = MediaRange::read(text);
            types.push(range.ok_or_else(|| collector.fault(&encoding, format!("{text:?} is no media type")))?);
        }
        if types.iter().any(MediaRange::is_json) {
            coding = Coding::Json;
        }
        let explode = encoding.value.get("explode").and_then(Value::as_bool);
        if encoding.text("style").is_some() || explode.is_some() {
            let style = match encoding.text("style") {
                None | Some("form") => Style::Form,
                Some("spaceDelimited") => Style::SpaceDelimited,
                Some("pipeDelimited") => Style::PipeDelimited,
                Some("deepObject") => Style::DeepObject,
                Some(other) => return Err(collector.fault(&encoding, format!("there is no style {other:?} in a form"))),
            };
            coding = Coding::Styled { style, explode: explode.unwrap_or(style == Style::Form) };
        }
    }
    let files = if is_multipart { files::limits(collector, occurrences, true)? } else { None };
    let parameter = Parameter {
        name: name.into(),
        part: RequestPart::Body,
        coding,
        is_required: false,
        may_be_empty: false,
        schema: None,
        shape: Shape::text(),
    };
    Ok(FormField { parameter, types, headers, is_file: files.is_some(), files: files.unwrap_or_default() })
}

/// Tells each field, and each header of a part, what its schema is about.
pub(super) fn set_fields(fields: &mut [FormField], shape: &Shape, schemas: &SchemaSet) {
    for field in fields {
        for header in &mut field.headers {
            header.shape = header.schema.map_or_else(Shape::text, |schema| schemas.shape(schema));
        }
        if let Some(shape) = shape.member(&field.parameter.name) {
            field.parameter.shape = shape.clone();
        }
    }
}
