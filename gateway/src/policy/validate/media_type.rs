//! Media types: whether a body is declared as JSON in UTF-8 (RFC 8259 11, RFC 6839 3.1).

use http::HeaderValue;

use crate::refusal::{Refusal, Reject};

/// Judges a `Content-Type` (RFC 9110 8.3).
///
/// # Errors
/// [`Reject::UnsupportedMediaType`] unless it is `application/json` or ends in `+json`, with no `charset` but UTF-8.
/// Anything not in the plain form `type/subtype; name=value; name="value"` is refused: parsers differ on the rest.
pub fn judge(content_type: Option<&HeaderValue>) -> Result<(), Refusal> {
    let refuse = |why| Err(Refusal::new(Reject::UnsupportedMediaType, why));
    let Some(content_type) = content_type else { return refuse("no Content-Type") };
    let Ok(text) = content_type.to_str() else { return refuse("Content-Type is not ASCII") };
    let (essence, parameters) = text.split_once(';').map_or((text, None), |(essence, rest)| (essence, Some(rest)));
    let Some((kind, subtype)) = essence.trim_matches([' ', '\t']).split_once('/') else {
        return refuse("Content-Type is not type/subtype");
    };
    if !is_token(kind) || !is_token(subtype) {
        return refuse("Content-Type is not type/subtype");
    }
    let suffix = subtype.rsplit_once('+').map_or("", |(_, suffix)| suffix);
    let is_json = kind.eq_ignore_ascii_case("application") && subtype.eq_ignore_ascii_case("json");
    if !is_json && !suffix.eq_ignore_ascii_case("json") {
        return refuse("Content-Type is not JSON");
    }
    for parameter in parameters.into_iter().flat_map(|rest| rest.split(';')) {
        let parameter = parameter.trim_matches([' ', '\t']);
        if parameter.is_empty() {
            continue;
        }
        let Some((name, value)) = parameter.split_once('=') else { return refuse("Content-Type has a bad parameter") };
        let value = value.strip_prefix('"').map_or(Some(value), |value| value.strip_suffix('"'));
        let Some(value) = value.filter(|value| is_token(name) && is_token(value)) else {
            return refuse("Content-Type has a bad parameter");
        };
        if name.eq_ignore_ascii_case("charset") && !value.eq_ignore_ascii_case("utf-8") {
            return refuse("charset is not UTF-8");
        }
    }
    Ok(())
}

/// RFC 9110 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(content_type: &str, accepted: bool) {
        let value = HeaderValue::from_bytes(content_type.as_bytes()).unwrap();
        let refused = judge(Some(&value)).err().map(|refusal| refusal.reject);
        let expect = (!accepted).then_some(Reject::UnsupportedMediaType);
        assert_eq!(refused, expect, "{content_type:?}");
    }

    #[test]
    fn b05_only_json_in_utf_8() {
        for accepted in [
            "application/json",
            "Application/JSON",
            "application/json;charset=utf-8",
            "application/json ; Charset=\"UTF-8\"",
            "application/json;",
            "application/problem+json",
            "application/merge-patch+json; profile=x",
            "model/gltf+json",
        ] {
            check(accepted, true);
        }
        for refused in [
            "",
            "application",
            "application/",
            "/json",
            "text/plain",
            "text/json",
            "application/jsonp",
            "application/x-json",
            "application/json5",
            "application/xml+jsonx",
            "application/json, text/plain",
            "application/json text/plain",
            "application /json",
            "application/json; charset=utf-16",
            "application/json; charset=utf8",
            "application/json; charset=iso-8859-1",
            "application/json; charset=utf-8; charset=utf-16",
            "application/json; charset=",
            "application/json; charset",
            "application/json; charset =utf-16",
            "application/json; charset=\"utf-8",
            "application/json; x=\"a;charset=utf-16\"",
            "application/json; charset='utf-8'",
            "multipart/form-data; boundary=x",
            "application/json\u{a0}",
        ] {
            check(refused, false);
        }
        assert_eq!(judge(None).unwrap_err().reject, Reject::UnsupportedMediaType);
    }
}
