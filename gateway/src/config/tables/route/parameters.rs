//! Reads `route.query`, `route.header`, `route.cookie` and `route.path_parameter`: what the parameters of requests must be;
//! `unknown_query` and its like: what they may have besides; and `content_types`.

use serde_json::{Map, Number, Value};
use toml::de::DeValue;

use super::media_type::media_type;
use crate::{
    config::{
        reader::{Keys, Reader},
        table::{Table, values},
        value::{self, form::described, kind},
    },
    diagnostic::Diagnostic,
    refusal::violation::RequestPart,
    settings::validate::{ParameterRule, RefusesUnknown},
};

/// The keys of `[route.query.NAME]` and its like.
const KEYS: Keys = &[
    ("type", "What it is: `string`, `integer`, `number` or `boolean`."),
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
];

/// The tables, each with its part of a request.
const TABLES: [(&str, RequestPart); 4] = [
    ("query", RequestPart::Query),
    ("header", RequestPart::Header),
    ("cookie", RequestPart::Cookie),
    ("path_parameter", RequestPart::Path),
];

pub(super) fn read(table: &Table<'_>, path: Option<&str>) -> (Vec<ParameterRule>, RefusesUnknown) {
    let mut rules = Vec::new();
    for (name, part) in TABLES {
        for (parameter, rule) in table.named_tables(name, KEYS) {
            if part == RequestPart::Path && !path.is_some_and(|path| path.contains(&format!("{{{parameter}}}"))) {
                let wrong = Diagnostic::bare(format!("{parameter:?} is no parameter of `path`"));
                table.report(name, wrong.hint("write it as in `path`: \"/items/{id}\" has `id`"));
            }
            // Nothing would ever be read of it.
            let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            let is_token = !parameter.is_empty() && parameter.bytes().all(is_letter);
            if matches!(part, RequestPart::Cookie | RequestPart::Header) && !is_token {
                let wrong = Diagnostic::bare(format!("{parameter:?} is no name of a {name}"));
                table.report(name, wrong.hint("write its name alone, as in \"x-version\""));
            }
            rules.push(self::rule(parameter, part, rule));
        }
    }
    let words = [("refuse", true), ("allow", false)];
    let refuses = |key| table.or(key, false, value::choice(&words));
    let refuses_unknown = RefusesUnknown {
        cookies: refuses("unknown_cookies"),
        headers: refuses("unknown_headers"),
        query: refuses("unknown_query"),
    };
    (rules, refuses_unknown)
}

/// The media types that bodies may have. Settings that read bodies know some of their own.
pub(super) fn content_types(table: &Table<'_>, reader: &Reader<'_>) -> Vec<String> {
    let types = table.list("content_types", described("media type", media_type));
    for key in ["api", "form"].into_iter().filter(|key| !types.is_empty() && table.has(key)) {
        let wrong = Diagnostic::bare(format!("cannot be beside `{key}`, which says what bodies are"));
        table.report("content_types", wrong.hint("leave one of them out"));
    }
    let is_json = |text: &str| text.ends_with("/json") || text.ends_with("+json");
    for (key, text) in types.iter().filter(|(_, text)| table.has("schema") && !is_json(text)) {
        let wrong = Diagnostic::bare(format!("{text:?} is refused by `schema`, which reads JSON"));
        reader.report(wrong.hint("leave it out").at(key.as_str()));
    }
    values(types)
}

fn rule(name: String, part: RequestPart, table: Table<'_>) -> ParameterRule {
    let words = ["string", "integer", "number", "boolean"].map(|word| (word, word));
    let said = table.or("type", "string", value::choice(&words));
    let one = simple_schema(&table, said);
    let required = table.or("required", part == RequestPart::Path, value::boolean());
    if table.has("repeated") && matches!(part, RequestPart::Path | RequestPart::Cookie) {
        table.report("repeated", Diagnostic::bare("is for parameters of the query and headers").hint("leave it out"));
    }
    let schema = repeated(&table, one);
    table.finish();
    ParameterRule { part, name, required, schema }
}

/// What one value must be.
pub(super) fn simple_schema(table: &Table<'_>, said: &str) -> Map<String, Value> {
    let mut schema = Map::from_iter([("type".to_owned(), Value::from(said))]);
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            schema.insert(key.to_owned(), value);
        }
    };
    put("format", table.optional("format", described("format", value::line)).map(Value::from));
    put("minimum", table.optional("minimum", described("number", number)));
    put("maximum", table.optional("maximum", described("number", number)));
    let length = || value::count(0..=65_536);
    put("minLength", table.optional("min_length", length()).map(Value::from));
    put("maxLength", table.optional("max_length", length()).map(Value::from));
    put("pattern", table.optional("pattern", described("regular expression", value::line)).map(Value::from));
    for (least, most) in [("minimum", "maximum"), ("minLength", "maxLength")] {
        let of = |key: &str| schema.get(key).and_then(Value::as_f64);
        if of(least).zip(of(most)).is_some_and(|(least, most)| least > most) {
            let (key, other) = if least == "minimum" { ("maximum", "minimum") } else { ("max_length", "min_length") };
            table.report(key, Diagnostic::bare(format!("is less than `{other}`: nothing fits")).hint("exchange them"));
        }
    }
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            schema.insert(key.to_owned(), value);
        }
    };
    let only = values(table.list("enum", described("string, number or boolean", simple)));
    put("enum", (!only.is_empty()).then(|| Value::from(only)));
    schema
}

/// The schema of a value that may be there several times, where the table says so.
pub(super) fn repeated(table: &Table<'_>, schema: Map<String, Value>) -> Value {
    let is_repeated = table.or("repeated", false, value::boolean());
    let max_items = table.optional("max_items", value::count(1..=1_000));
    if max_items.is_some() && !is_repeated {
        let wrong = Diagnostic::bare("has no effect: it may be there once");
        table.report("max_items", wrong.hint("write `repeated = true`, or leave it out"));
    }
    if !is_repeated {
        return Value::Object(schema);
    }
    let mut list = Map::from_iter([("type".to_owned(), "array".into()), ("items".to_owned(), Value::Object(schema))]);
    if let Some(most) = max_items {
        list.insert("maxItems".to_owned(), most.into());
    }
    Value::Object(list)
}

fn number(value: &DeValue<'_>) -> Result<Value, Diagnostic> {
    let wrong = || Diagnostic::bare(format!("expected a number, found {}", kind(value))).hint("write 1 or 0.5");
    match value {
        DeValue::Integer(integer) => {
            let number = i64::from_str_radix(integer.as_str(), integer.radix()).map_err(|_too_large| wrong())?;
            Ok(number.into())
        }
        DeValue::Float(float) => {
            let number = float.as_str().replace('_', "").parse().ok().and_then(Number::from_f64);
            number.map(Value::Number).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

fn simple(value: &DeValue<'_>) -> Result<Value, Diagnostic> {
    match value {
        DeValue::String(text) => Ok(Value::from(&**text)),
        DeValue::Boolean(value) => Ok((*value).into()),
        value => number(value),
    }
}
