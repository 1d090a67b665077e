//! Shows `[validate]` and `[api.NAME]` in force.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::tls::file;
use crate::{
    config::value::show_size,
    refusal::violation::RequestPart,
    settings::{
        proxy,
        route::Route,
        validate::{Api, Details, FieldRule, Formats, ParameterRule},
    },
};

pub(super) fn validate(proxy: &proxy::Settings) -> Value {
    json!({
        "formats": match proxy.formats {
            Formats::Annotate => "annotate",
            Formats::Strict => "strict",
        },
        "details": match proxy.details {
            Details::All => "all",
            Details::None => "none",
            Details::Places => "places",
        },
        "files": (!proxy.schema_files.is_empty()).then(|| proxy.schema_files.iter().map(file).collect::<Vec<_>>()),
    })
}

pub(super) fn api(api: &Api) -> (String, Value) {
    let word = |allows: bool| if allows { "allow" } else { "refuse" };
    let shown = json!({
        "openapi": file(&api.document),
        "base_path": api.base_path,
        "security": (!api.security.is_empty())
            .then(|| api.security.iter().map(|(name, method)| (name, method.name())).collect::<BTreeMap<_, _>>()),
        "unknown_query": word(!api.refuses_unknown.query),
        "unknown_headers": word(!api.refuses_unknown.headers),
        "unknown_cookies": word(!api.refuses_unknown.cookies),
        "read_only": word(api.allows_read_only),
        "unvalidated": (!api.unvalidated.is_empty()).then_some(&api.unvalidated),
        "report_only": api.report_only,
        "responses": if api.reports_responses { "report" } else { "off" },
    });
    (api.name.clone(), shown)
}

/// The rules of a route for the parameters of one part.
pub(super) fn parameters(route: &Route, part: RequestPart) -> Option<BTreeMap<&str, Value>> {
    let of_part = route.parameters.iter().filter(|rule| rule.part == part);
    let shown: BTreeMap<&str, Value> = of_part.map(|rule| (rule.name.as_str(), parameter(rule))).collect();
    (!shown.is_empty()).then_some(shown)
}

/// The rules of a route for the fields of forms.
pub(super) fn form(route: &Route) -> Option<BTreeMap<&str, Value>> {
    let shown = |rule: &FieldRule| {
        let as_parameter = ParameterRule {
            part: RequestPart::Body,
            name: rule.name.clone(),
            required: rule.required,
            schema: rule.schema.clone(),
        };
        let mut shown = parameter(&as_parameter);
        if let (Some(shown), Some(file)) = (shown.as_object_mut(), &rule.file) {
            shown.insert("type".to_owned(), "file".into());
            shown.insert("content_types".to_owned(), json!(file.content_types));
            shown.insert("max_size".to_owned(), json!(file.max_size.map(show_size)));
            shown.insert("file_name".to_owned(), json!(file.file_name));
        }
        shown
    };
    route.form.as_ref().map(|form| form.fields.iter().map(|rule| (rule.name.as_str(), shown(rule))).collect())
}

fn parameter(rule: &ParameterRule) -> Value {
    let items = rule.schema.get("items");
    let one = items.unwrap_or(&rule.schema);
    json!({
        "type": one.get("type"),
        "format": one.get("format"),
        "minimum": one.get("minimum"),
        "maximum": one.get("maximum"),
        "min_length": one.get("minLength"),
        "max_length": one.get("maxLength"),
        "pattern": one.get("pattern"),
        "enum": one.get("enum"),
        "required": rule.required,
        "repeated": items.is_some(),
        "max_items": rule.schema.get("maxItems"),
    })
}
