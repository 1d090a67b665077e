//! Reads `[api_keys]`: how API keys are written, and where they stand in a request.

use http::{HeaderName, header};
use toml::de::DeValue;

use crate::{
    config::{
        reader::{Keys, Reader},
        table::Table,
        value::{self, form::described, word},
    },
    diagnostic::Diagnostic,
    settings::{access_log, api_keys},
    web::header_names,
};

/// The keys of `[api_keys]`.
pub(super) const KEYS: Keys = &[
    ("header", "The header whose value is the key. The upstream does not see it."),
    (
        "prefix",
        "How keys begin, so that scanners for secrets find one that leaked. Another prefix makes all keys invalid.",
    ),
    (
        "pepper_file",
        "The file with at least 16 random bytes that keys are hashed with. Without it: `api_keys.pepper` in `guard.state_dir`, \
         which the guard makes. Another pepper makes all keys invalid.",
    ),
];

pub(super) fn read(table: Table<'_>) -> Option<api_keys::Settings> {
    let name = described("name of a header", header).written(|name: &HeaderName| format!("\"{name}\""));
    let settings = api_keys::Settings {
        header: table.or("header", HeaderName::from_static("x-api-key"), name),
        prefix: table.or("prefix", "gwk".to_owned(), described("string", prefix).written(|text| format!("{text:?}"))),
        pepper: table.file("pepper_file"),
    };
    let is_present = table.is_present();
    table.finish();
    is_present.then_some(settings)
}

/// No key is in the access log, wherever a client has put it.
pub(super) fn keep_out_of_log(keys: Option<&api_keys::Settings>, log: &mut access_log::Settings, reader: &Reader<'_>) {
    let Some(keys) = keys else { return };
    log.redact.patterns.push(keys.pattern());
    if log.request_headers.contains(&keys.header) {
        let wrong = Diagnostic::new(
            "access_log.request_headers",
            format!("{} holds API keys, and is never logged", keys.header),
        );
        reader.report(wrong.hint("leave it out; `principal` says who the client is"));
    }
}

fn header(value: &DeValue<'_>) -> Result<HeaderName, Diagnostic> {
    let name = word::header(value)?;
    let is_others = matches!(name, header::AUTHORIZATION | header::COOKIE | header::CONTENT_TYPE)
        || header_names::kind(name.as_str()) != header_names::HeaderKind::Message;
    if is_others {
        let wrong = Diagnostic::bare(format!("{name} is a header of its own meaning"));
        return Err(wrong.hint("write \"x-api-key\", or a name of your own"));
    }
    Ok(name)
}

fn prefix(value: &DeValue<'_>) -> Result<String, Diagnostic> {
    let text = value::text(value)?;
    let is_fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if (2..=12).contains(&text.len()) && text.bytes().all(is_fine) {
        return Ok(text.to_owned());
    }
    Err(Diagnostic::bare(format!("{text:?} is no prefix of keys"))
        .hint("write 2 to 12 small letters and digits: \"acme\""))
}
