//! Reads the template of a line: text, and fields between `${` and `}`.

use http::HeaderName;
use toml::de::DeValue;

use super::words::{field, header};
use crate::{config::value, diagnostic::Diagnostic, settings::access_log::TemplatePart};

/// How long a template may be.
const LONGEST: usize = 4_000;

/// The pieces of a template.
pub(super) fn read(value: &DeValue<'_>) -> Result<Vec<TemplatePart>, Diagnostic> {
    let text = value::text(value)?;
    if text.is_empty() {
        return Err(Diagnostic::bare("is empty").hint("write, for example, \"${time} ${client} ${status}\""));
    }
    if text.chars().any(|letter| letter.is_control() && letter != '\t') {
        return Err(Diagnostic::bare("has control characters").hint("a line ends by itself; tabs alone may be in it"));
    }
    if text.len() > LONGEST {
        let wrong = Diagnostic::bare(format!("has {} bytes", text.len()));
        return Err(wrong.hint(format!("write at most {LONGEST}")));
    }
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('$') {
        push(&mut pieces, before);
        if let Some(behind) = behind.strip_prefix('$') {
            push(&mut pieces, "$");
            rest = behind;
            continue;
        }
        let named = behind.strip_prefix('{').and_then(|behind| behind.split_once('}'));
        let Some((name, behind)) = named else {
            let wrong = Diagnostic::bare("has a `$` that begins no field");
            return Err(wrong.hint("write a field as `${status}`, and a dollar sign as `$$`"));
        };
        pieces.push(piece(name)?);
        rest = behind;
    }
    push(&mut pieces, rest);
    Ok(pieces)
}

fn push(pieces: &mut Vec<TemplatePart>, text: &str) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(TemplatePart::Text(before)) => before.push_str(text),
        _ => pieces.push(TemplatePart::Text(text.to_owned())),
    }
}

fn piece(name: &str) -> Result<TemplatePart, Diagnostic> {
    let of_header = |name: &str| {
        let wrong = || Diagnostic::bare(format!("{name:?} is not a header name"));
        let found = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_no_name| wrong().hint("write its name alone, as in `${request.user-agent}`"))?;
        header(&found).map(|()| found)
    };
    match name.split_once('.') {
        Some(("request", name)) => of_header(name).map(TemplatePart::RequestHeader),
        Some(("response", name)) => of_header(name).map(TemplatePart::ResponseHeader),
        _ => field(name).map(TemplatePart::Field),
    }
}
