//! Shows `[access_log]` as it is in force.

use serde_json::{Value, json};

use super::tls;
use crate::{
    config::value::{show_duration, show_size},
    settings::access_log::{
        self, JWT, LineFormat, LogFile, Output, PARAMETERS, Principal, Syslog, SyslogTransport, TemplatePart,
    },
};

pub(super) fn access_log(settings: &access_log::Settings) -> Value {
    let names = |names: &[http::HeaderName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (fields, template) = match &settings.format {
        LineFormat::Json(fields) => (Some(fields.iter().map(|field| field.name()).collect::<Vec<_>>()), None),
        LineFormat::Template(pieces) => (None, Some(pieces.iter().map(piece).collect::<String>())),
        LineFormat::Combined | LineFormat::Ecs => (None, None),
    };
    let (principal, key) = match &settings.principal {
        Principal::Hashed(key) => ("hashed", key.as_ref().map(tls::file)),
        Principal::Plain => ("plain", None),
    };
    let keep = &settings.keep;
    json!({
        "format": settings.format.name(),
        "fields": fields,
        "template": template,
        "request_headers": names(&settings.request_headers),
        "response_headers": names(&settings.response_headers),
        "principal": principal,
        "principal_key": key,
        "only_refused": keep.only_refused,
        "statuses": (!keep.statuses.is_empty())
            .then(|| keep.statuses.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "slower_than": keep.slower_than.map(show_duration),
        "routes": (!keep.routes.is_empty()).then_some(&keep.routes),
        "sample": keep.sample.map(|share| f64::from(share) / 1_000_000.0),
        "redact": redact(settings),
        "output": settings.outputs.iter().map(output).collect::<Vec<_>>(),
    })
}

/// What is beyond the defaults.
fn redact(settings: &access_log::Settings) -> Value {
    let redact = &settings.redact;
    let further: Vec<&String> = redact.parameters.iter().filter(|name| !PARAMETERS.contains(&name.as_str())).collect();
    let patterns: Vec<&String> = redact.patterns.iter().filter(|pattern| *pattern != JWT).collect();
    json!({ "parameters": further, "show_parameters": redact.shown, "patterns": patterns })
}

fn piece(piece: &TemplatePart) -> String {
    match piece {
        TemplatePart::Text(text) => text.replace('$', "$$"),
        TemplatePart::Field(field) => format!("${{{}}}", field.name()),
        TemplatePart::RequestHeader(name) => format!("${{request.{name}}}"),
        TemplatePart::ResponseHeader(name) => format!("${{response.{name}}}"),
    }
}

fn output(output: &Output) -> Value {
    match output {
        Output::File(LogFile { path, rotate: None }) => json!({ "type": "file", "path": path, "rotate": false }),
        Output::File(LogFile { path, rotate: Some(rotate) }) => json!({
            "type": "file",
            "path": path,
            "rotate": true,
            "rotate_size": show_size(rotate.size),
            "rotate_every": rotate.every.map(show_duration),
            "keep_files": rotate.keep_files,
            "keep_for": rotate.keep_for.map(show_duration),
            "compress": rotate.compress,
        }),
        Output::Journald(path) => json!({ "type": "journald", "path": path }),
        Output::Stdout => json!({ "type": "stdout" }),
        Output::Syslog(syslog) => {
            let facility = Syslog::FACILITIES.iter().find(|(_, number)| *number == syslog.facility);
            let (path, address, tls) = match &syslog.transport {
                SyslogTransport::Unix(path) => (Some(path), None, None),
                SyslogTransport::Tcp(address) | SyslogTransport::Udp(address) => (None, Some(address), None),
                SyslogTransport::Tls(address, tls) => (None, Some(address), Some(tls::client(tls))),
            };
            json!({
                "type": "syslog",
                "transport": syslog.transport.name(),
                "path": path,
                "address": address,
                "tls": tls,
                "facility": facility.map(|(name, _)| name),
                "app_name": syslog.app_name,
                "hostname": syslog.hostname,
            })
        }
    }
}
