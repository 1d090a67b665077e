//! Tells upstreams who the client is: headers by template, made of an identity.
//!
//! *Invariant:* a value is made of visible ASCII and single spaces within. Whatever else a name or a claim holds is
//! percent-encoded, and so are the percent sign and, in lists, the comma: no two identities are told in the same way.

use http::HeaderName;
use serde_json::Value;

use super::Identity;
use crate::{
    identity::claim::ClaimPath,
    settings::identity_headers::{self, HeaderPart as Template, IdentityHeader},
};

/// The headers, ready to be filled in.
#[derive(Clone, Debug, Default)]
pub struct IdentityHeaders(Box<[(HeaderName, Box<[CompiledPart]>)]>);

/// A part of a value.
#[derive(Clone, Debug)]
enum CompiledPart {
    /// The claim at this place among those that are kept.
    Claim(usize),
    Method,
    Principal,
    Roles,
    Scopes,
    Text(Box<str>),
}

impl IdentityHeaders {
    /// `kept` are the claims that identities keep.
    #[must_use]
    pub fn new(settings: &identity_headers::Settings, kept: &[ClaimPath]) -> Self {
        let piece = |piece: &Template| match piece {
            Template::Claim(path) => {
                CompiledPart::Claim(kept.iter().position(|kept| kept == path).unwrap_or(usize::MAX))
            }
            Template::Method => CompiledPart::Method,
            Template::Principal => CompiledPart::Principal,
            Template::Roles => CompiledPart::Roles,
            Template::Scopes => CompiledPart::Scopes,
            Template::Text(text) => CompiledPart::Text(text.as_str().into()),
        };
        let header = |header: &IdentityHeader| (header.name.clone(), header.value.iter().map(piece).collect());
        Self(settings.iter().map(header).collect())
    }

    /// Calls `add` for each header that has a value: one of whose fields there is none is left out.
    pub fn tell(&self, identity: &Identity, mut add: impl FnMut(&HeaderName, &[u8])) {
        let mut value = Vec::new();
        for (name, pieces) in &self.0 {
            value.clear();
            if pieces.iter().all(|piece| fill(piece, identity, &mut value)) {
                add(name, &value);
            }
        }
    }
}

/// Writes one part; `false`: there is nothing to write.
fn fill(piece: &CompiledPart, identity: &Identity, out: &mut Vec<u8>) -> bool {
    let before = out.len();
    match piece {
        CompiledPart::Claim(place) => match identity.claim(*place) {
            Some(Value::Array(values)) => list(values.iter().filter_map(scalar), out),
            Some(value) => scalar(value).into_iter().for_each(|text| encode(&text, false, out)),
            None => {}
        },
        CompiledPart::Method => out.extend_from_slice(identity.method().name().as_bytes()),
        CompiledPart::Principal => encode(identity.principal(), false, out),
        CompiledPart::Roles => list(identity.roles(), out),
        CompiledPart::Scopes => list(identity.scopes(), out),
        CompiledPart::Text(text) => out.extend_from_slice(text.as_bytes()),
    }
    out.len() > before
}

/// A claim that is one value. Objects, and what is nothing, are not told.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(_) | Value::Null | Value::Object(_) => None,
    }
}

fn list(values: impl Iterator<Item = impl AsRef<str>>, out: &mut Vec<u8>) {
    for (index, value) in values.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        encode(value.as_ref(), true, out);
    }
}

fn encode(text: &str, in_list: bool, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let (bytes, trimmed) = (text.as_bytes(), text.trim_matches(' '));
    // Blanks at the ends would be lost on the way.
    let blanks = text.len() - text.trim_start_matches(' ').len();
    let inner = blanks..blanks + trimmed.len();
    for (at, byte) in bytes.iter().enumerate() {
        let passes = match byte {
            b' ' => inner.contains(&at),
            b'%' => false,
            b',' => !in_list,
            _ => byte.is_ascii_graphic(),
        };
        if passes {
            out.push(*byte);
        } else {
            let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
            out.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The header's value for an identity that keeps one claim.
    fn told(value: Vec<Template>, principal: &str, roles: &[&str], claim: Option<Value>) -> Option<String> {
        let kept = [ClaimPath::of(&["c"])];
        let headers =
            IdentityHeaders::new(&vec![IdentityHeader { name: HeaderName::from_static("x-a"), value }], &kept);
        let identity = Identity::of_token(principal, roles, &["s t", "u"], vec![claim]);
        let mut found = None;
        headers.tell(&identity, |_, value| found = Some(String::from_utf8(value.to_vec()).unwrap()));
        found
    }

    #[test]
    fn t08_values_that_no_header_may_hold() {
        let principal = |text: &str| told(vec![Template::Principal], text, &[], None).unwrap();
        for (name, expect) in [
            ("ada", "ada"),
            ("Ada Lovelace", "Ada Lovelace"),
            (" ada ", "%20ada%20"),
            ("a\r\nX-Role: admin", "a%0D%0AX-Role: admin"),
            ("j\u{fc}rgen", "j%C3%BCrgen"),
            ("100%", "100%25"),
            ("a,b", "a,b"),
            ("a\0b\tc\u{7f}", "a%00b%09c%7F"),
            ("  ", "%20%20"),
        ] {
            assert_eq!(principal(name), expect, "{name:?}");
        }
    }

    #[test]
    fn lists_and_claims() {
        let roles = |roles: &[&str]| told(vec![Template::Roles], "a", roles, None);
        assert_eq!(roles(&["reader", "a,b", "c d"]).as_deref(), Some("reader,a%2Cb,c d"));
        assert_eq!(roles(&[]), None);
        let all = vec![
            Template::Text("user=".to_owned()),
            Template::Principal,
            Template::Text(" by ".to_owned()),
            Template::Method,
            Template::Text("; ".to_owned()),
            Template::Scopes,
        ];
        assert_eq!(told(all, "ada", &[], None).as_deref(), Some("user=ada by jwt; s t,u"));
        let claim = |claim: Value| told(vec![Template::Claim(ClaimPath::of(&["c"]))], "a", &[], Some(claim));
        for (value, expect) in [
            (json!("x"), Some("x")),
            (json!(7), Some("7")),
            (json!(1.5), Some("1.5")),
            (json!(true), Some("true")),
            (json!(["a", 1, "b,c"]), Some("a,1,b%2Cc")),
            (json!(""), None),
            (json!([]), None),
            (json!(null), None),
            (json!({"a": 1}), None),
        ] {
            assert_eq!(claim(value.clone()).as_deref(), expect, "{value}");
        }
        assert_eq!(told(vec![Template::Claim(ClaimPath::of(&["c"]))], "a", &[], None), None);
        assert_eq!(told(vec![Template::Claim(ClaimPath::of(&["d"]))], "a", &[], Some(json!(1))), None);
    }
}
