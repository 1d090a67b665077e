//! Reads `route.form`: what forms and multipart bodies must be.

use serde_json::{Map, Value};

use super::{
    media_type::media_type,
    parameters::{repeated, simple_schema},
};
use crate::{
    config::{
        reader::Keys,
        table::{Table, values},
        tables::proxy::LARGEST_BODY,
        value::{self, form::described},
    },
    diagnostic::Diagnostic,
    settings::validate::{FieldRule, FileRule, FormSettings},
};

/// How many fields a form may have where the route does not say.
const MAX_FIELDS: usize = 100;

/// The keys of `[route.form.NAME]`.
const KEYS: Keys = &[
    ("type", "What it is: `string`, `integer`, `number`, `boolean` or `file`."),
    ("format", "The format of a string, such as `uuid` or `date-time`."),
    ("minimum", "The least number."),
    ("maximum", "The largest number."),
    ("min_length", "The fewest characters."),
    ("max_length", "The most characters."),
    ("pattern", "A regular expression that it matches. It is matched in linear time."),
    ("enum", "The only values."),
    ("required", "`true`: it must be there."),
    ("repeated", "`true`: it may be there more than once."),
    ("max_items", "How many times it may be there."),
    ("content_types", "The media types of a file, as `image/png` or `image/*`. Empty: any."),
    ("max_size", "The largest file."),
    ("file_name", "A regular expression that the name of a file matches. It is matched in linear time."),
];

/// What only text has, and what only files have.
const OF_TEXT: [&str; 7] = ["format", "minimum", "maximum", "min_length", "max_length", "pattern", "enum"];
const OF_FILES: [&str; 3] = ["content_types", "file_name", "max_size"];

pub(super) fn read(table: &Table<'_>) -> Option<FormSettings> {
    let fields: Vec<FieldRule> =
        table.named_tables("form", KEYS).into_iter().map(|(name, field)| rule(name, field)).collect();
    let words = [("refuse", true), ("allow", false)];
    let refuses_unknown = table.or("unknown_fields", true, value::choice(&words));
    let max_fields = table.or("max_fields", MAX_FIELDS, value::count(1..=1_000));
    if table.has("form") {
        return Some(FormSettings { fields, refuses_unknown, max_fields });
    }
    for key in ["unknown_fields", "max_fields"].into_iter().filter(|key| table.has(key)) {
        let wrong = Diagnostic::bare("has no effect without `form`");
        table.report(key, wrong.hint("leave it out, or name fields: `form.title = { max_length = 80 }`"));
    }
    None
}

fn rule(name: String, table: Table<'_>) -> FieldRule {
    let words = ["string", "integer", "number", "boolean", "file"].map(|word| (word, word));
    let said = table.or("type", "string", value::choice(&words));
    let is_file = said == "file";
    let one = simple_schema(&table, if is_file { "string" } else { said });
    for key in OF_TEXT.into_iter().filter(|key| is_file && table.has(key)) {
        let wrong = Diagnostic::bare("is not for a file, whose content is not read");
        table.report(key, wrong.hint("leave it out"));
    }
    for key in OF_FILES.into_iter().filter(|key| !is_file && table.has(key)) {
        table.report(key, Diagnostic::bare("is for a file").hint("write `type = \"file\"`, or leave it out"));
    }
    let one = if is_file { Map::from_iter([("type".to_owned(), Value::from("string"))]) } else { one };
    let schema = repeated(&table, one);
    let content_types = values(table.list("content_types", described("media type", media_type)));
    let max_size = table.optional("max_size", value::size_in(0..=LARGEST_BODY));
    let file_name = table.optional("file_name", described("regular expression", value::line));
    let required = table.or("required", false, value::boolean());
    table.finish();
    let file = is_file.then_some(FileRule { content_types, max_size, file_name });
    FieldRule { name, required, schema, file }
}
