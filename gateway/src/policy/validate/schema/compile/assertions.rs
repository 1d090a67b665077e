//! Keywords that say something of a value itself.

use std::sync::Arc;

use jsonschema::{Draft, EmailOptions, Validator};
use serde_json::{Map, Value, json};

use super::{
    super::{
        graph::{Constants, KeywordCheck, Measure, Types},
        keyword::Keyword,
    },
    Checks, CompileError, Subschema, malformed,
};
use crate::{
    json::{
        decimal::Divisor,
        document::{self, JsonDocument, JsonView},
    },
    settings::validate::Formats,
};

/// What a mailbox is besides. It has no control characters of ASCII: RFC 6531 allows the others. It does not begin with
/// white space, and ends neither with that nor with `>`: the library takes what stands before `<` for a name, and passes
/// over white space around it.
const MAILBOX: &str = "^[^\\u0000-\\u0020\\u007f\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]\
    [^\\u0000-\\u001f\\u007f]*\
    [^\\u0000-\\u0020\\u007f\\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000>]$";

impl<'r> Subschema<'_, 'r> {
    pub(super) fn assertions(
        &mut self,
        schema: &'r Map<String, Value>,
        checks: &mut Checks,
    ) -> Result<(), CompileError> {
        self.types(schema, checks)?;
        // A file stands in the body by its size: that and how many there are can be judged here.
        if self.inherited.is_file {
            return self.counts(schema, checks);
        }
        self.constants(schema, checks)?;
        self.numbers(schema, checks)?;
        self.counts(schema, checks)?;
        self.required(schema, checks)?;
        self.texts(schema, checks)?;
        if let Some(unique) = self.at(schema, Keyword::UniqueItems)
            && unique.as_bool().ok_or_else(malformed)?
        {
            checks.push((Keyword::UniqueItems, KeywordCheck::Unique));
        }
        Ok(())
    }

    fn types(&mut self, schema: &'r Map<String, Value>, checks: &mut Checks) -> Result<(), CompileError> {
        let Some(value) = self.at(schema, Keyword::Type) else { return Ok(()) };
        let names = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        let mut types = Types::default();
        for name in names {
            types.0 |= match name.as_str().ok_or_else(malformed)? {
                "null" => Types::NULL,
                "boolean" => Types::BOOLEAN,
                "number" => Types::NUMBER,
                "string" => Types::STRING,
                "array" => Types::ARRAY,
                "object" => Types::OBJECT,
                "integer" if self.draft == Draft::Draft4 => Types::WRITTEN_INTEGER,
                "integer" => Types::INTEGER,
                other => return Err(CompileError::new(format_args!("there is no type {other:?}"))),
            }
            .0;
        }
        if self.is_nullable(schema) {
            types.0 |= Types::NULL.0;
        }
        checks.push((Keyword::Type, KeywordCheck::Types(types)));
        Ok(())
    }

    fn constants(&mut self, schema: &'r Map<String, Value>, checks: &mut Checks) -> Result<(), CompileError> {
        if self.draft > Draft::Draft4
            && let Some(value) = self.at(schema, Keyword::Const)
        {
            checks.push((Keyword::Const, KeywordCheck::Among(self.among(std::slice::from_ref(value))?)));
        }
        if let Some(values) = self.at(schema, Keyword::Enum) {
            let values = values.as_array().ok_or_else(malformed)?;
            checks.push((Keyword::Enum, KeywordCheck::Among(self.among(values)?)));
        }
        Ok(())
    }

    fn among(&self, values: &[Value]) -> Result<Constants, CompileError> {
        let texts: Vec<String> = values.iter().map(|value| self.compiler.written.json(value)).collect();
        let text = format!("[{}]", texts.join(","));
        let document = JsonDocument::parse(text.as_bytes()).map_err(CompileError::new)?;
        let JsonView::Array(elements) = document.view(document::Id::ROOT) else { return Err(malformed()) };
        let mut sorted = elements.to_vec();
        sorted.sort_unstable_by(|one, other| document::compare((&document, *one), (&document, *other), &mut 0));
        let is_short = values.len() <= 8 && text.len() <= 200;
        let shown = if is_short { texts.join(", ") } else { String::new() };
        Ok(Constants { document, sorted, shown: shown.into() })
    }

    fn numbers(&mut self, schema: &'r Map<String, Value>, checks: &mut Checks) -> Result<(), CompileError> {
        use Keyword::{ExclusiveMaximum, ExclusiveMinimum, Maximum, Minimum};
        for (keyword, exclusive, is_upper) in [(Minimum, ExclusiveMinimum, false), (Maximum, ExclusiveMaximum, true)] {
            let written = self.compiler.written;
            let number = |value: &Value| written.exact(value).ok_or_else(malformed);
            let is_exclusive = self.has_flags() && schema.get(exclusive.as_str()) == Some(&Value::Bool(true));
            if let Some(limit) = self.at(schema, keyword) {
                checks.push((keyword, KeywordCheck::Bound { limit: number(limit)?, is_upper, is_exclusive }));
            }
            if self.draft > Draft::Draft4
                && let Some(limit) = self.at(schema, exclusive)
                && !(self.has_flags() && limit.is_boolean())
            {
                checks.push((exclusive, KeywordCheck::Bound { limit: number(limit)?, is_upper, is_exclusive: true }));
            }
        }
        if let Some(value) = self.at(schema, Keyword::MultipleOf) {
            let divisor = value.as_number().and_then(Divisor::new).ok_or_else(malformed)?;
            if !self.compiler.written.keeps(value) {
                let message = "too many digits to divide by: write at most 15, or a whole number of at most 64 bits";
                return Err(CompileError::new(message));
            }
            checks.push((Keyword::MultipleOf, KeywordCheck::MultipleOf(divisor, value.to_string().into())));
        }
        Ok(())
    }

    fn counts(&mut self, schema: &'r Map<String, Value>, checks: &mut Checks) -> Result<(), CompileError> {
        let of_text = if self.inherited.is_file { Measure::FileBytes } else { Measure::Characters };
        for (least, most, measure) in [
            (Keyword::MinLength, Keyword::MaxLength, of_text),
            (Keyword::MinItems, Keyword::MaxItems, Measure::Elements),
            (Keyword::MinProperties, Keyword::MaxProperties, Measure::Members),
        ] {
            if let Some(count) = self.count(schema, least)? {
                checks.push((least, KeywordCheck::AtLeast(measure, count)));
            }
            if let Some(count) = self.count(schema, most)? {
                checks.push((most, KeywordCheck::AtMost(measure, count)));
            }
        }
        Ok(())
    }

    fn count(&mut self, schema: &'r Map<String, Value>, keyword: Keyword) -> Result<Option<u64>, CompileError> {
        self.at(schema, keyword).map(|value| count(value).ok_or_else(malformed)).transpose()
    }

    fn required(&mut self, schema: &'r Map<String, Value>, checks: &mut Checks) -> Result<(), CompileError> {
        if let Some(required) = self.at(schema, Keyword::Required)
            // Draft 3, of which much is still about, has it as a word beside others.
            && !(self.draft == Draft::Draft4 && required.is_boolean())
        {
            let names = self.without_read_only(names(required)?);
            checks.push((Keyword::Required, KeywordCheck::Required(names)));
        }
        if self.draft >= Draft::Draft201909
            && let Some(dependent) = self.at(schema, Keyword::DependentRequired)
        {
            let dependent = dependent.as_object().ok_or_else(malformed)?;
            let all = dependent
                .iter()
                .map(|(name, required)| Ok((name.as_str().into(), self.without_read_only(names(required)?))))
                .collect::<Result<_, CompileError>>()?;
            checks.push((Keyword::DependentRequired, KeywordCheck::Requires(all)));
        }
        Ok(())
    }

    fn texts(&mut self, schema: &'r Map<String, Value>, checks: &mut Checks) -> Result<(), CompileError> {
        if let Some(pattern) = self.at(schema, Keyword::Pattern) {
            let text = pattern.as_str().ok_or_else(malformed)?;
            let pattern = self.pattern(text)?;
            checks.push((Keyword::Pattern, KeywordCheck::Pattern(pattern, text.into())));
        }
        if let Some(format) = self.at(schema, Keyword::Format) {
            let format = format.as_str().ok_or_else(malformed)?;
            if !self.openapi_format(format, checks)?
                && let Some(check) = self.format(format)?
            {
                checks.push((Keyword::Format, check));
            }
        }
        if self.compiler.dialect.openapi.is_none() && matches!(self.draft, Draft::Draft6 | Draft::Draft7) {
            let encoding = self.at(schema, Keyword::ContentEncoding).cloned();
            let media_type = self.at(schema, Keyword::ContentMediaType).cloned();
            let (keyword, content) = match (encoding, media_type) {
                (None, None) => return Ok(()),
                (Some(encoding), None) => (Keyword::ContentEncoding, json!({"contentEncoding": encoding})),
                (None, Some(media_type)) => (Keyword::ContentMediaType, json!({"contentMediaType": media_type})),
                (Some(encoding), Some(media_type)) => {
                    let both = json!({"contentEncoding": encoding, "contentMediaType": media_type});
                    (Keyword::ContentMediaType, both)
                }
            };
            let check = self.library(&content)?;
            checks.push((keyword, KeywordCheck::Text(check, "encoded as the schema says".into())));
        }
        Ok(())
    }

    /// A format is checked in every draft if one knows it. `None`: nobody does.
    fn format(&mut self, format: &str) -> Result<Option<KeywordCheck>, CompileError> {
        if format == "regex" {
            return Ok(Some(KeywordCheck::Regex));
        }
        let options = jsonschema::options();
        let drafts = [self.draft, Draft::Draft202012];
        let Some(draft) = drafts.into_iter().find(|draft| options.is_known_format(*draft, format)) else {
            if self.compiler.dialect.formats == Formats::Strict {
                let message = format!("nobody checks the format {format:?}, and validate.formats is \"strict\"");
                return Err(CompileError::new(message));
            }
            self.compiler.unknown_formats.push(format.to_owned());
            return Ok(None);
        };
        let schema = match format {
            "email" | "idn-email" => json!({"format": format, "pattern": MAILBOX}),
            format => json!({"format": format}),
        };
        let check = self.library_of(draft, &schema)?;
        Ok(Some(KeywordCheck::Text(check, format!("of the format {format}").into())))
    }

    fn library(&mut self, schema: &Value) -> Result<Arc<Validator>, CompileError> {
        self.library_of(self.draft, schema)
    }

    /// Has the library compile a schema of one keyword.
    pub(super) fn library_of(&mut self, draft: Draft, schema: &Value) -> Result<Arc<Validator>, CompileError> {
        let name = format!("{draft:?} {schema}");
        if let Some(known) = self.compiler.checks.get(&name) {
            return Ok(Arc::clone(known));
        }
        // A mailbox (RFC 5321) is an address alone, and not `Ann <ann@example.com>`.
        let email = EmailOptions::default().without_display_text();
        let options = jsonschema::options().with_draft(draft).should_validate_formats(true).with_email_options(email);
        let built = Arc::new(options.offline().build(schema).map_err(CompileError::new)?);
        self.compiler.checks.insert(name, Arc::clone(&built));
        Ok(built)
    }
}

/// A count, which may be written as `2.0`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is checked to be whole and not negative"
)]
pub(super) fn count(value: &Value) -> Option<u64> {
    let float = |value: f64| (value >= 0.0 && value.fract() == 0.0).then_some(value as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(float))
}

pub(super) fn names(value: &Value) -> Result<Vec<Box<str>>, CompileError> {
    let names = value.as_array().ok_or_else(malformed)?;
    names.iter().map(|name| Ok(name.as_str().ok_or_else(malformed)?.into())).collect()
}
